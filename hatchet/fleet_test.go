package hatchet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// A fleet is programs with an SDK that outlive their server: when a stream or connection breaks they open it again, under the
// IDs that they have, and nothing else.
type fleet struct {
	t       testing.TB
	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup
	address string
	token   string
	reports atomic.Int64
	failed  atomic.Bool // the server is, or was, killed
	rough   bool        // calls may fail with Internal, because a message was cut

	mu       sync.Mutex
	began    map[string]int             // by run: how often a worker was told to start it
	reported map[string]map[string]bool // by run: outputs that workers sent
	acked    map[string]string          // by run: the output that was acknowledged before the server was killed
	results  map[string]string          // by run: what a stream of results said
	changed  chan struct{}              // closed when one of these has
}

func newFleet(t testing.TB, address, token string) *fleet {
	f := &fleet{t: t, address: address, token: token, began: map[string]int{}, reported: map[string]map[string]bool{}, acked: map[string]string{},
		results: map[string]string{}, changed: make(chan struct{})}
	f.ctx, f.stop = context.WithCancel(context.Background())
	t.Cleanup(func() { f.stop(); f.wg.Wait() })
	return f
}

// dial returns a connection of which calls wait until the server is there.
func (f *fleet) dial() *sdk {
	f.t.Helper()
	return dialTo(f.t, f.address, f.token, grpc.WithDefaultCallOptions(grpc.WaitForReady(true)), grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}, MinConnectTimeout: time.Second}))
}

// note changes what is known, under the lock.
func (f *fleet) note(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// until waits until what is known satisfies the condition.
func (f *fleet) until(what string, condition func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, watchdog)
	defer cancel()
	for {
		f.mu.Lock()
		done, changed := condition(), f.changed
		n := fmt.Sprintf("%d runs began, %d reports are acknowledged, %d results are known", len(f.began), len(f.acked), len(f.results))
		f.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.t.Fatalf("waiting until %s: %s", what, n)
		}
	}
}

// again calls do until it returns nil, or the fleet is at its end. Errors that end an SDK's worker fail the test.
func (f *fleet) again(what string, do func() error) {
	for f.ctx.Err() == nil {
		err := do()
		if err == nil {
			return
		}
		switch status.Code(err) {
		case codes.Internal:
			if f.rough {
				continue
			}
			fallthrough
		case codes.NotFound, codes.InvalidArgument, codes.Unauthenticated, codes.Unimplemented:
			f.t.Errorf("%s: %v", what, err)
			return
		}
	}
}

// lost returns the error of a stream: that it has ended is one too.
func lost(err error) error {
	if errors.Is(err, io.EOF) {
		return status.Error(codes.Unavailable, "the stream has ended")
	}
	return err
}

// A steadyWorker is a worker of a fleet.
type steadyWorker struct {
	f   *fleet
	k   *sdk
	id  string
	run func(w *steadyWorker, a *wire.AssignedAction)

	durable *durableClient
}

// work registers a worker that calls run, on goroutines of their own, for what it shall start.
func (f *fleet) work(r *wire.RegisterRequest, run func(*steadyWorker, *wire.AssignedAction)) *steadyWorker {
	f.t.Helper()
	k := f.dial()
	w := &steadyWorker{f: f, k: k, run: run}
	f.again("to register", func() error {
		resp, err := k.Register(f.ctx, r)
		w.id = resp.GetWorkerId()
		return err
	})
	w.durable = w.newDurableClient()
	f.wg.Go(func() { f.again("an action stream", w.listen) })
	f.wg.Go(w.beat)
	return w
}

// listen reads an action stream until it breaks.
func (w *steadyWorker) listen() error {
	stream, err := w.k.ListenV2(w.f.ctx, &wire.ListenRequest{WorkerId: w.id})
	if err != nil {
		return err
	}
	for {
		a, err := stream.Recv()
		if err != nil {
			return lost(err)
		}
		if a.ActionType == wire.ActionType_ACTION_START_TASK {
			w.f.note(func() {
				w.f.began[a.TaskRunExternalId]++
				if _, ended := w.f.acked[a.TaskRunExternalId]; ended {
					w.f.t.Errorf("run %s is sent again after its result was acknowledged", a.TaskRunExternalId)
				}
			})
			w.f.wg.Go(func() { w.run(w, a) })
		}
	}
}

// beat sends heartbeats, as often as SDKs do.
func (w *steadyWorker) beat() {
	tick := time.NewTicker(4 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.f.again("a heartbeat", func() error {
				_, err := w.k.Heartbeat(w.f.ctx, &wire.HeartbeatRequest{WorkerId: w.id})
				if status.Code(err) == codes.FailedPrecondition { // the stream is on its way
					err = nil
				}
				return err
			})
		case <-w.f.ctx.Done():
			return
		}
	}
}

// report sends a report until it is acknowledged.
func (w *steadyWorker) report(a *wire.AssignedAction, kind wire.StepEventType, payload string) {
	w.f.again("a report", func() error {
		_, err := w.k.SendStepActionEvent(w.f.ctx, &wire.StepActionEvent{WorkerId: w.id, JobId: a.JobId, TaskId: a.TaskId,
			TaskRunExternalId: a.TaskRunExternalId, ActionId: a.ActionId, EventType: kind, EventPayload: payload, RetryCount: &a.RetryCount})
		return err
	})
}

// complete reports an output that no other report has, and notes whether it was acknowledged by the first server.
func (w *steadyWorker) complete(a *wire.AssignedAction, fields map[string]any) {
	fields["report"] = w.f.reports.Add(1)
	body, err := json.Marshal(fields)
	if err != nil {
		w.f.t.Error(err)
	}
	run, output := a.TaskRunExternalId, string(body)
	w.f.note(func() {
		if w.f.reported[run] == nil {
			w.f.reported[run] = map[string]bool{}
		}
		w.f.reported[run][output] = true
	})
	w.report(a, wire.StepEventType_STEP_EVENT_COMPLETED, output)
	if !w.f.failed.Load() {
		w.f.note(func() { w.f.acked[run] = output })
	}
}

// awaitResults asks for the results of runs until it has all.
func (f *fleet) awaitResults(k *sdk, runs []string) {
	missing := map[string]bool{}
	for _, r := range runs {
		missing[r] = true
	}
	f.again("a stream of results", func() error {
		stream, err := k.SubscribeToWorkflowRuns(f.ctx)
		if err != nil {
			return err
		}
		for r := range missing {
			if err := stream.Send(&wire.SubscribeToWorkflowRunsRequest{WorkflowRunId: r}); err != nil {
				return lost(err)
			}
		}
		for len(missing) > 0 {
			e, err := stream.Recv()
			if err != nil {
				return lost(err)
			}
			delete(missing, e.WorkflowRunId)
			f.note(func() {
				output := e.Results[0].GetOutput()
				if known, ok := f.results[e.WorkflowRunId]; ok && known != output {
					f.t.Errorf("run %s has result %s, and had %s", e.WorkflowRunId, output, known)
				}
				f.results[e.WorkflowRunId] = output
			})
		}
		return stream.CloseSend()
	})
}

// awaitEvents reads what happens in a run until its end.
func (f *fleet) awaitEvents(k *sdk, run string) {
	f.again("a stream of events", func() error {
		stream, err := k.SubscribeToWorkflowEvents(f.ctx, &wire.SubscribeToWorkflowEventsRequest{WorkflowRunId: &run})
		if err != nil {
			return err
		}
		for {
			e, err := stream.Recv()
			if err != nil {
				return lost(err)
			}
			if e.Hangup {
				if e.EventType != wire.ResourceEventType_RESOURCE_EVENT_COMPLETED {
					f.t.Errorf("run %s ended with %v", run, e)
				}
				return nil
			}
		}
	})
}
