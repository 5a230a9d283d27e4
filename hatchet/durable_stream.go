package hatchet

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// DurableTask is the stream on which the durable tasks of a worker ask for operations.
func (s rpc) DurableTask(stream grpc.BidiStreamingServer[wire.DurableRequest, wire.DurableResponse]) error {
	d := &durableStream{s: s.Server, stream: stream}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	return receive(s.Server, stream, func(req *wire.DurableRequest) error { return d.handle(ctx, req) })
}

// A durableStream is a worker's stream of operations.
type durableStream struct {
	s  *Server
	mu sync.Mutex // held while something is sent

	stream grpc.BidiStreamingServer[wire.DurableRequest, wire.DurableResponse]
}

// reply sends a message. If the stream is broken, the SDK asks again on its next one.
func (d *durableStream) reply(r *wire.DurableResponse) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.stream.Send(r); err != nil {
		return
	}
}

func (d *durableStream) handle(ctx context.Context, req *wire.DurableRequest) error {
	switch m := req.Message.(type) {
	case *wire.DurableRequest_RegisterWorker:
		w, err := d.s.worker(ctx, m.RegisterWorker.WorkerId)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.durable = d
		w.mu.Unlock()
		d.reply(&wire.DurableResponse{Message: &wire.DurableResponse_RegisterWorker{RegisterWorker: m.RegisterWorker}})
	case *wire.DurableRequest_WorkerStatus:
		for _, x := range m.WorkerStatus.WaitingEntries {
			if e := d.executionOf(x.DurableTaskExternalId, x.InvocationCount); e != nil {
				e.resend(x.NodeId, d.reply)
			}
		}
	case *wire.DurableRequest_EvictInvocation:
		if e := d.executionOf(m.EvictInvocation.DurableTaskExternalId, m.EvictInvocation.InvocationCount); e != nil {
			e.unloaded(func() {
				d.reply(&wire.DurableResponse{Message: &wire.DurableResponse_EvictionAck{EvictionAck: &wire.DurableEvictAck{
					DurableTaskExternalId: e.info.ID, InvocationCount: m.EvictInvocation.InvocationCount}}})
			})
		}
	case *wire.DurableRequest_CompleteMemo:
		ref := m.CompleteMemo.GetRef()
		d.ask(ctx, ref.GetDurableTaskExternalId(), ref.GetInvocationCount(), req)
	case *wire.DurableRequest_Memo:
		d.ask(ctx, m.Memo.DurableTaskExternalId, m.Memo.InvocationCount, req)
	case *wire.DurableRequest_TriggerRuns:
		d.ask(ctx, m.TriggerRuns.DurableTaskExternalId, m.TriggerRuns.InvocationCount, req)
	case *wire.DurableRequest_WaitFor:
		d.ask(ctx, m.WaitFor.DurableTaskExternalId, m.WaitFor.InvocationCount, req)
	}
	return nil
}

// executionOf returns the execution that an SDK speaks of. If another has followed it, the SDK is told.
func (d *durableStream) executionOf(run string, invocation int32) *execution {
	e := d.s.execution(run, nil)
	if e != nil && int32(e.info.Executions) == invocation && e.durable != nil {
		e.begins()
		return e
	}
	d.reply(&wire.DurableResponse{Message: &wire.DurableResponse_ServerEvict{ServerEvict: &wire.DurableServerEvict{
		DurableTaskExternalId: run, InvocationCount: invocation, Reason: "the run is no longer executed by this invocation"}}})
	return nil
}

// ask hands an operation to the execution.
func (d *durableStream) ask(ctx context.Context, run string, invocation int32, req *wire.DurableRequest) {
	e := d.executionOf(run, invocation)
	if e == nil {
		return
	}
	select {
	case e.durable.ops <- operation{req, d.reply}: // also after the report: the value of a memo may come late
	case <-e.durable.left:
	case <-ctx.Done():
	}
}

// ListenForDurableEvent is a stream of SDKs before v0.80, which newer ones open too: nothing comes on it.
func (s rpc) ListenForDurableEvent(stream grpc.BidiStreamingServer[wire.ListenForDurableEventRequest, wire.DurableEvent]) error {
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
		return stream.Context().Err()
	case <-s.ctx.Done():
		return errEnds
	}
}

// RegisterDurableEvent is of SDKs before v0.80.
func (s rpc) RegisterDurableEvent(context.Context, *wire.RegisterDurableEventRequest) (*wire.RegisterDurableEventResponse, error) {
	return nil, unimplemented("it is of SDKs before v0.80: update the SDK")
}

// completeNode sends the end of a node.
func (e *execution) completeNode(id int64, r *wire.DurableEntryCompleted) {
	e.mu.Lock()
	if e.told == nil {
		e.told = map[int64]*wire.DurableEntryCompleted{}
	}
	e.told[id] = r
	e.mu.Unlock()
	e.w.mu.Lock()
	stream := e.w.durable
	e.w.mu.Unlock()
	if stream != nil {
		stream.reply(&wire.DurableResponse{Message: &wire.DurableResponse_EntryCompleted{EntryCompleted: r}})
	}
}

// resend sends the end of a node again, if it was told.
func (e *execution) resend(id int64, reply func(*wire.DurableResponse)) {
	e.mu.Lock()
	r := e.told[id]
	e.mu.Unlock()
	if r != nil {
		reply(&wire.DurableResponse{Message: &wire.DurableResponse_EntryCompleted{EntryCompleted: r}})
	}
}

// unloaded notes that the SDK has unloaded the run, and calls stored when the database knows.
func (e *execution) unloaded(stored func()) {
	select {
	case e.durable.evicts <- stored:
	default: // it knows already
	}
}

// inFlight is how long the end of a node may take to reach the SDK: one that unloads the run within that may not have seen
// it, and the run goes on.
const inFlight = 2 * time.Second

// unload takes the run out of memory until something that it waits for ends, and does not return then.
func (d *durable) unload(stored func()) error {
	e := d.e
	e.w.s.wg.Go(func() {
		if e.awaitStored(e.w.s.ctx) == nil {
			stored()
		}
	})
	if time.Since(d.lastTold) < inFlight {
		e.finish(outcome{err: stint.Snooze(0)})
		return nil
	}
	var children []string
	waits := 0
	for _, n := range d.nodes {
		if n.told {
			if err := n.leaveWaits(d.ctx); err != nil {
				return err
			}
			continue
		}
		if waits += len(n.waits); n.child != "" {
			children = append(children, n.child)
		}
	}
	if waits+len(children) == 0 {
		e.finish(outcome{err: stint.Snooze(0)})
		return nil
	}
	if err := d.startTimeout(); err != nil {
		return err
	}
	return stint.Suspend(d.ctx, children...)
}

// leaveWaits sees the ends of the waits of a node that ended without them: they do not bring the run back.
func (n *node) leaveWaits(ctx context.Context) error {
	for _, w := range n.waits {
		select {
		case <-w.future.Done():
			if _, err := w.future.Wait(ctx); err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

// restore makes a run that the SDK has unloaded be executed again, and reports whether it does.
func (s *Server) restore(ctx context.Context, run string) (bool, error) {
	info, err := s.run(ctx, run)
	if err != nil || !s.evicted(info) {
		return false, err
	}
	err = s.c.WakeRun(ctx, run)
	if errors.Is(err, stint.ErrNotFound) { // it goes on by itself
		return false, nil
	}
	return err == nil, err
}

// RestoreEvictedTask executes a run again that its worker has unloaded.
func (s rpc) RestoreEvictedTask(ctx context.Context, r *wire.RestoreEvictedTaskRequest) (*wire.RestoreEvictedTaskResponse, error) {
	ok, err := s.restore(ctx, r.TaskRunExternalId)
	return &wire.RestoreEvictedTaskResponse{Requeued: ok}, err
}
