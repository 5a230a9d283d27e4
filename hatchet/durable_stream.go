package hatchet

import (
	"context"
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
			e.evict()
			d.reply(&wire.DurableResponse{Message: &wire.DurableResponse_EvictionAck{EvictionAck: &wire.DurableEvictAck{
				DurableTaskExternalId: e.info.ID, InvocationCount: m.EvictInvocation.InvocationCount}}})
		}
	case *wire.DurableRequest_CompleteMemo:
		ref := m.CompleteMemo.GetRef()
		if e := d.executionOf(ref.GetDurableTaskExternalId(), ref.GetInvocationCount()); e != nil {
			e.completeMemo(ref.GetNodeId(), m.CompleteMemo.Payload)
		}
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
	case e.durable.ops <- operation{req, d.reply}:
	case <-e.done:
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

// awaitNode has what wait returns sent as the end of a node, unless the execution ends before.
func (e *execution) awaitNode(id int64, wait func(context.Context) (*wire.DurableEntryCompleted, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.finished {
		return
	}
	e.waits++
	e.w.s.wg.Go(func() {
		r, err := wait(e.ended) // not the handler's context, with which calls would be durable ones
		if err != nil {
			if e.ended.Err() == nil {
				e.finish(outcome{err: err})
			}
			return
		}
		r.Ref = e.durable.ref(id)
		e.completeNode(id, r)
	})
}

// completeNode sends the end of a node. If the SDK has unloaded the run, it is executed again instead.
func (e *execution) completeNode(id int64, r *wire.DurableEntryCompleted) {
	e.mu.Lock()
	e.waits--
	e.lastNode = time.Now()
	if e.nodes == nil {
		e.nodes = map[int64]*wire.DurableEntryCompleted{}
	}
	e.nodes[id] = r
	evicted := e.evicted
	e.mu.Unlock()
	if evicted {
		e.finish(outcome{err: stint.Snooze(0)})
		return
	}
	e.w.mu.Lock()
	stream := e.w.durable
	e.w.mu.Unlock()
	if stream != nil {
		stream.reply(&wire.DurableResponse{Message: &wire.DurableResponse_EntryCompleted{EntryCompleted: r}})
	}
}

// resend sends the end of a node again, if it has ended.
func (e *execution) resend(id int64, reply func(*wire.DurableResponse)) {
	e.mu.Lock()
	r := e.nodes[id]
	e.mu.Unlock()
	if r != nil {
		reply(&wire.DurableResponse{Message: &wire.DurableResponse_EntryCompleted{EntryCompleted: r}})
	}
}

// inFlight is how long the end of a node may take to reach the SDK: one that unloads the run within that may not have seen
// it, and the run goes on.
const inFlight = 2 * time.Second

// evict notes that the SDK has unloaded the run: it takes no slots, and is executed again when something that it waits
// for ends.
func (e *execution) evict() {
	e.mu.Lock()
	e.evicted = true
	ended := e.waits == 0 || time.Since(e.lastNode) < inFlight
	e.mu.Unlock()
	if err := stint.ReleaseSlot(e.ctx); err != nil {
		e.finish(outcome{err: err})
	}
	e.releaseSlots()
	if ended {
		e.finish(outcome{err: stint.Snooze(0)})
	}
}

// restore makes a run that the SDK has unloaded be executed again, and reports whether it does.
func (s *Server) restore(ctx context.Context, run string) (bool, error) {
	info, err := s.run(ctx, run)
	if err != nil {
		return false, err
	}
	return s.evicted(info) && s.execution(run, nil).finish(outcome{err: stint.Snooze(0)}), nil
}

// RestoreEvictedTask executes a run again that its worker has unloaded.
func (s rpc) RestoreEvictedTask(ctx context.Context, r *wire.RestoreEvictedTaskRequest) (*wire.RestoreEvictedTaskResponse, error) {
	ok, err := s.restore(ctx, r.TaskRunExternalId)
	return &wire.RestoreEvictedTaskResponse{Requeued: ok}, err
}

func (e *execution) setMemo(id int64, completed chan []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.memos == nil {
		e.memos = map[int64]chan []byte{}
	}
	e.memos[id] = completed
}

// completeMemo takes the value of a memo from the SDK.
func (e *execution) completeMemo(id int64, value []byte) {
	e.mu.Lock()
	completed := e.memos[id]
	delete(e.memos, id)
	e.mu.Unlock()
	if completed != nil {
		completed <- value // it has room for one
	}
}
