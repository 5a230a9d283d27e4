package hatchet

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// SubscribeToWorkflowEvents sends what happens in a run: that its tasks begin and end, and the chunks of their streams,
// from the first. The last event is that of the run itself.
func (s rpc) SubscribeToWorkflowEvents(r *wire.SubscribeToWorkflowEventsRequest,
	stream grpc.ServerStreamingServer[wire.WorkflowEvent],
) error {
	if r.WorkflowRunId == nil {
		return unimplemented("stint streams one run at a time: set workflow_run_id")
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if _, err := s.run(ctx, r.GetWorkflowRunId()); err != nil {
		return err
	}
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	e := &eventStream{s: s.Server, ctx: ctx, fail: cancel, run: r.GetWorkflowRunId(), stream: stream, followed: map[string]bool{}}
	defer e.wg.Wait()
	err := e.follow()
	if s.ctx.Err() != nil {
		return errEnds
	}
	return err
}

// An eventStream follows a run and the runs of its tasks.
type eventStream struct {
	s        *Server
	ctx      context.Context
	fail     context.CancelFunc
	run      string
	followed map[string]bool // runs of tasks
	wg       sync.WaitGroup

	mu     sync.Mutex
	stream grpc.ServerStreamingServer[wire.WorkflowEvent]
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
				ResourceId: e.run, Hangup: true})
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
			e.fail()
			return
		}
		index++
	}
	info, err := e.s.run(e.ctx, t.ID)
	if err != nil {
		e.fail()
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
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.stream.Send(ev)
	if err != nil {
		e.fail()
	}
	return err
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
