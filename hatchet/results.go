package hatchet

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// SubscribeToWorkflowRuns sends the results of the runs that the caller names, when they have ended.
func (s rpc) SubscribeToWorkflowRuns(stream grpc.BidiStreamingServer[wire.SubscribeToWorkflowRunsRequest, wire.WorkflowRunEvent]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	r := resultStream{s: s.Server, stream: stream, fail: cancel, waits: map[string]bool{}}
	return receive(s.Server, stream, func(req *wire.SubscribeToWorkflowRunsRequest) error {
		started, err := r.begin(req.WorkflowRunId)
		if started {
			wg.Go(func() { r.wait(ctx, req.WorkflowRunId) })
		}
		return err
	})
}

// A resultStream is a stream of results, and the runs that it waits for.
type resultStream struct {
	s      *Server
	stream grpc.BidiStreamingServer[wire.SubscribeToWorkflowRunsRequest, wire.WorkflowRunEvent]
	fail   context.CancelFunc

	mu    sync.Mutex
	waits map[string]bool
	send  sync.Mutex
}

// begin reports whether a wait for the run is to begin: one that goes on will answer too.
func (r *resultStream) begin(run string) (bool, error) {
	if !isUUID(run) {
		return false, invalid("workflow_run_id %.100q is not a UUID", run)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waits) >= r.s.opts.MaxWaits {
		return false, status.Error(codes.ResourceExhausted, "this stream waits for too many runs: raise Options.MaxWaits")
	}
	if r.waits[run] {
		return false, nil
	}
	r.waits[run] = true
	return true, nil
}

// wait sends the result of a run when it has ended.
func (r *resultStream) wait(ctx context.Context, run string) {
	err := r.s.awaitEnd(ctx, run)
	r.mu.Lock()
	delete(r.waits, run)
	r.mu.Unlock()
	if err != nil {
		return // the stream ends, or the database is closed
	}
	e, err := r.s.resultOf(ctx, run)
	if err == nil {
		r.send.Lock()
		defer r.send.Unlock()
		err = r.stream.Send(e)
	}
	if err != nil {
		r.fail()
	}
}

// awaitEnd waits until a run has ended, and its on-failure task. One that does not exist yet may still come.
func (s *Server) awaitEnd(ctx context.Context, run string) error {
	p := pacer{s: s}
	for {
		_, err := stint.RunByID[json.RawMessage](s.c, run).Wait(ctx)
		var failed *stint.TaskError
		if err == nil || errors.Is(err, stint.ErrSkipped) {
			return nil
		}
		if errors.As(err, &failed) {
			return s.awaitOnFailure(ctx, run)
		}
		if !errors.Is(err, stint.ErrNotFound) {
			return err
		}
		if err := p.next(ctx, false); err != nil {
			return err
		}
	}
}

// awaitOnFailure waits until the on-failure task of a run that has failed has ended, if it has one.
func (s *Server) awaitOnFailure(ctx context.Context, run string) error {
	info, err := s.c.GetRun(ctx, run)
	if err != nil {
		return err
	}
	if id := onFailureRun(info); id != "" {
		return s.awaitEnd(ctx, id)
	}
	return nil
}

// resultOf returns the results of the tasks of a run that has ended.
func (s *Server) resultOf(ctx context.Context, run string) (*wire.WorkflowRunEvent, error) {
	info, err := s.c.GetRun(ctx, run)
	if err != nil {
		return nil, err
	}
	e := &wire.WorkflowRunEvent{WorkflowRunId: run, EventTimestamp: timestamppb.New(info.Finished)}
	tasks := s.taskEnds(info)
	for i := range tasks {
		t, id := &tasks[i], tasks[i].id(run)
		result := &wire.TaskResult{TaskRunExternalId: id, TaskName: t.Readable, JobRunId: id}
		switch {
		case t.State == stint.StateCanceled:
			result.Error = proto.String("") // which SDKs in Python and TypeScript take for none: what was canceled has not failed
		case t.Error != "":
			result.Error = proto.String(t.Error)
		default:
			result.Output = proto.String(string(t.Output))
		}
		e.Results = append(e.Results, result)
	}
	s.fit(e)
	return e, nil
}

// fit shortens errors, and then drops all results, until a message is one that may be sent. SDKs ask for what is
// missing by REST.
func (s *Server) fit(e *wire.WorkflowRunEvent) {
	const room = 1 << 10
	if proto.Size(e) <= s.opts.MaxMessage-room {
		return
	}
	for _, r := range e.Results {
		if r.Error != nil && len(*r.Error) > room {
			r.Error = proto.String((*r.Error)[:room])
		}
	}
	if proto.Size(e) > s.opts.MaxMessage-room {
		e.Results = nil
	}
}
