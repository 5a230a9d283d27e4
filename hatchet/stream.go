package hatchet

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// SubscribeToWorkflowEvents sends what happens in a run: that its tasks begin and end, and the chunks of their streams,
// from the first. The last event is that of the run itself. Or it does so for all runs with some metadata that have not
// ended, and those that begin until the last of them has ended.
func (s rpc) SubscribeToWorkflowEvents(r *wire.SubscribeToWorkflowEventsRequest,
	stream grpc.ServerStreamingServer[wire.WorkflowEvent],
) error {
	if r.WorkflowRunId == nil && r.GetAdditionalMetaKey() == "" {
		return invalid("want workflow_run_id, or additional_meta_key with a value")
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if r.WorkflowRunId != nil {
		if _, err := s.run(ctx, r.GetWorkflowRunId()); err != nil {
			return err
		}
	}
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	out := &eventSender{stream: stream, fail: cancel}
	var err error
	if r.WorkflowRunId != nil {
		e := &eventStream{s: s.Server, ctx: ctx, out: out, run: r.GetWorkflowRunId(), followed: map[string]bool{}}
		defer e.wg.Wait()
		err = e.follow()
	} else {
		m := &metadataStream{s: s.Server, ctx: ctx, out: out, followed: map[string]bool{},
			metadata: map[string]string{r.GetAdditionalMetaKey(): r.GetAdditionalMetaValue()}}
		defer m.wg.Wait()
		err = m.follow(time.Now())
	}
	if s.ctx.Err() != nil {
		return errEnds
	}
	return err
}

// An eventStream follows a run and the runs of its tasks.
type eventStream struct {
	s        *Server
	ctx      context.Context
	out      *eventSender
	run      string
	followed map[string]bool // runs of tasks
	last     func() bool     // called once, when the run has ended: whether the stream ends with it; nil: it does
	wg       sync.WaitGroup
}

// An eventSender sends the events of a stream one by one.
type eventSender struct {
	mu     sync.Mutex
	stream grpc.ServerStreamingServer[wire.WorkflowEvent]
	fail   context.CancelFunc // ends the stream
}

// follow looks at the run when the database has changed, and follows each task that has a run, until the run has ended.
func (e *eventStream) follow() error {
	for p := (pacer{s: e.s}); ; {
		info, err := e.s.run(e.ctx, e.run)
		if err != nil {
			return err
		}
		before := len(e.followed)
		if err := e.followTasks(info); err != nil {
			return err
		}
		if final(info.State) {
			e.wg.Wait()
			if e.ctx.Err() != nil {
				return e.ctx.Err()
			}
			return e.send(&wire.WorkflowEvent{ResourceType: wire.ResourceType_RESOURCE_WORKFLOW_RUN, EventType: eventOfState(info.State),
				ResourceId: e.run, Hangup: e.last == nil || e.last()})
		}
		if !info.Workflow {
			err = e.s.awaitEnd(e.ctx, e.run)
		} else {
			err = p.next(e.ctx, len(e.followed) > before)
		}
		if err != nil {
			return err
		}
	}
}

// followTasks begins to follow the tasks that have a run and are not followed yet.
func (e *eventStream) followTasks(info *stint.RunInfo) error {
	if info.Workflow && !slices.ContainsFunc(info.Tasks, func(t stint.TaskInfo) bool { return t.RunID != "" && !e.followed[t.RunID] }) {
		return nil
	}
	tasks, err := e.s.taskRuns(e.ctx, info)
	for i := range tasks {
		if t := tasks[i]; t.ID != "" && !e.followed[t.ID] {
			e.followed[t.ID] = true
			e.wg.Go(func() { e.followTask(&t) })
		}
	}
	return err
}

// followTask sends what a task's run streams, and how it ends.
func (e *eventStream) followTask(t *taskRun) {
	retries, retry := int32(0), int32(max(0, t.info.Executions-1))
	if t.task != nil {
		retries = int32(t.task.Retries)
	}
	send := func(kind wire.ResourceEventType, payload string, index *int64) bool {
		return e.send(&wire.WorkflowEvent{ResourceType: wire.ResourceType_RESOURCE_TASK_RUN, EventType: kind, ResourceId: t.ID,
			EventPayload: payload, TaskRetries: &retries, RetryCount: &retry, EventIndex: index}) == nil
	}
	if !send(wire.ResourceEventType_RESOURCE_EVENT_STARTED, "", nil) {
		return
	}
	index := int64(0)
	for chunk, err := range stint.RunByID[any](e.s.c, t.ID).Stream(e.ctx) {
		if err != nil || !send(wire.ResourceEventType_RESOURCE_EVENT_STREAM, string(chunk), proto.Int64(index)) {
			e.out.fail()
			return
		}
		index++
	}
	info, err := e.s.run(e.ctx, t.ID)
	if err != nil {
		e.out.fail()
		return
	}
	end := e.s.newTaskRun(info)
	payload := string(end.Output)
	if end.Error != "" {
		payload = end.Error
	}
	send(eventOfState(info.State), payload, nil)
}

func (e *eventStream) send(ev *wire.WorkflowEvent) error {
	ev.WorkflowRunId, ev.EventTimestamp = e.run, timestamppb.New(time.Now())
	e.out.mu.Lock()
	defer e.out.mu.Unlock()
	err := e.out.stream.Send(ev)
	if err != nil {
		e.out.fail()
	}
	return err
}

// A metadataStream follows the runs that have some metadata.
type metadataStream struct {
	s        *Server
	ctx      context.Context
	out      *eventSender
	metadata map[string]string
	followed map[string]bool
	wg       sync.WaitGroup

	mu     sync.Mutex
	active int  // runs that are followed and have not ended
	over   bool // the last of them has ended
	wake   context.CancelFunc
}

// maxFollowed is the highest number of runs that a stream by metadata follows.
const maxFollowed = 1_000

// follow follows the runs that have not ended, and those that are created later, until all of them have ended.
func (m *metadataStream) follow(since time.Time) error {
	f := stint.RunFilter{Metadata: m.metadata, Flat: true, Limit: maxPage, States: []stint.State{stint.StateScheduled, stint.StateQueued,
		stint.StateBlocked, stint.StateRunning, stint.StateWaiting}}
	waiting, cancel := context.WithCancel(m.ctx)
	defer cancel()
	m.wake = cancel
	for p := (pacer{s: m.s}); ; {
		before := len(m.followed)
		over, err := m.followThose(f)
		if over || err != nil {
			return err
		}
		f.States, f.Since = nil, since
		if err := p.next(waiting, len(m.followed) > before); err != nil && (m.ctx.Err() != nil || waiting.Err() == nil) {
			return err
		}
	}
}

// followThose begins to follow runs that are not followed yet, and reports whether all have ended.
func (m *metadataStream) followThose(f stint.RunFilter) (over bool, err error) {
	page, err := m.s.c.ListRuns(m.ctx, f)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range page.Runs {
		id := page.Runs[i].ID
		if m.over || m.followed[id] {
			continue
		}
		if len(m.followed) >= maxFollowed {
			return false, status.Errorf(codes.ResourceExhausted, "more than %d runs have the metadata", maxFollowed)
		}
		m.followed[id] = true
		m.active++
		e := &eventStream{s: m.s, ctx: m.ctx, out: m.out, run: id, followed: map[string]bool{}, last: m.ended}
		m.wg.Go(func() {
			defer e.wg.Wait()
			if e.follow() != nil {
				m.out.fail()
			}
		})
	}
	return m.over, nil
}

// ended notes that a run has ended, and reports whether it was the last.
func (m *metadataStream) ended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.active--
	if m.active == 0 {
		m.over = true
		m.wake()
	}
	return m.over
}

func eventOfState(st stint.State) wire.ResourceEventType {
	switch st {
	case stint.StateFailed:
		return wire.ResourceEventType_RESOURCE_EVENT_FAILED
	case stint.StateCanceled:
		return wire.ResourceEventType_RESOURCE_EVENT_CANCELLED
	}
	return wire.ResourceEventType_RESOURCE_EVENT_COMPLETED
}
