package hatchet_test

import (
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// A durableClient is the stream on which a worker's durable tasks ask, as SDKs have it: one for all, which is opened again when it
// breaks. Then those who wait for an acknowledgement fail, and those who wait for the end of a node go on.
type durableClient struct {
	w *steadyWorker

	mu     sync.Mutex
	stream grpc.BidiStreamingClient[wire.DurableRequest, wire.DurableResponse] // nil: broken
	ready  chan struct{}                                                       // closed when there is a stream
	acks   map[invocation]chan *wire.DurableResponse
	ends   map[node]chan *wire.DurableEntryCompleted // closed without a value: the server has evicted the invocation
}

type invocation struct {
	run string
	n   int32
}

type node struct {
	invocation
	id int64
}

func (w *steadyWorker) newDurableClient() *durableClient {
	d := &durableClient{w: w, ready: make(chan struct{}), acks: map[invocation]chan *wire.DurableResponse{},
		ends: map[node]chan *wire.DurableEntryCompleted{}}
	w.f.wg.Go(func() { w.f.again("a durable stream", d.read) })
	return d
}

// read reads a stream until it breaks.
func (d *durableClient) read() error {
	stream, err := d.w.k.DurableTask(d.w.f.ctx)
	if err == nil {
		err = stream.Send(&wire.DurableRequest{Message: &wire.DurableRequest_RegisterWorker{
			RegisterWorker: &wire.DurableWorker{WorkerId: d.w.id}}})
	}
	if err == nil {
		err = stream.Send(d.status())
	}
	if err != nil {
		return lost(err)
	}
	d.mu.Lock()
	d.stream = stream
	close(d.ready)
	d.mu.Unlock()
	for {
		r, err := stream.Recv()
		d.mu.Lock()
		if err != nil {
			d.stream, d.ready = nil, make(chan struct{})
			for _, c := range d.acks {
				close(c)
			}
			clear(d.acks)
			d.mu.Unlock()
			return lost(err)
		}
		d.dispatch(r)
		d.mu.Unlock()
	}
}

// status says which nodes are waited for.
func (d *durableClient) status() *wire.DurableRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &wire.DurableWorkerStatus{WorkerId: d.w.id}
	for n := range d.ends {
		s.WaitingEntries = append(s.WaitingEntries, &wire.DurableWaitingEntry{DurableTaskExternalId: n.run, InvocationCount: n.n, BranchId: 1,
			NodeId: n.id})
	}
	return &wire.DurableRequest{Message: &wire.DurableRequest_WorkerStatus{WorkerStatus: s}}
}

// dispatch is called with d.mu held.
func (d *durableClient) dispatch(r *wire.DurableResponse) {
	ack := func(ref *wire.DurableRef) {
		i := invocation{ref.GetDurableTaskExternalId(), ref.GetInvocationCount()}
		if c := d.acks[i]; c != nil {
			c <- r
			delete(d.acks, i)
		}
	}
	switch {
	case r.GetMemoAck() != nil:
		ack(r.GetMemoAck().GetRef())
	case r.GetWaitForAck() != nil:
		n := nodeOf(r.GetWaitForAck().GetRef())
		if d.ends[n] == nil {
			d.ends[n] = make(chan *wire.DurableEntryCompleted, 1)
		}
		ack(r.GetWaitForAck().GetRef())
	case r.GetError() != nil:
		ack(r.GetError().GetRef())
	case r.GetEntryCompleted() != nil:
		n := nodeOf(r.GetEntryCompleted().GetRef())
		if c := d.ends[n]; c != nil {
			select {
			case c <- r.GetEntryCompleted():
			default: // it was sent again
			}
		}
	case r.GetServerEvict() != nil:
		gone := invocation{r.GetServerEvict().GetDurableTaskExternalId(), r.GetServerEvict().GetInvocationCount()}
		for n, c := range d.ends {
			if n.invocation == gone {
				close(c)
				delete(d.ends, n)
			}
		}
		if c := d.acks[gone]; c != nil {
			close(c)
			delete(d.acks, gone)
		}
	}
}

func nodeOf(r *wire.DurableRef) node {
	return node{invocation{r.GetDurableTaskExternalId(), r.GetInvocationCount()}, r.GetNodeId()}
}

// ask sends an operation and returns its acknowledgement, or nil if the stream breaks before.
func (d *durableClient) ask(i invocation, r *wire.DurableRequest) *wire.DurableResponse {
	answer := make(chan *wire.DurableResponse, 1)
	if !d.send(r, func() { d.acks[i] = answer }) {
		return nil
	}
	select {
	case a := <-answer:
		return a
	case <-d.w.f.ctx.Done():
		return nil
	}
}

// send sends a message when there is a stream, after it has called before under the lock.
func (d *durableClient) send(r *wire.DurableRequest, before func()) bool {
	d.mu.Lock()
	for d.stream == nil {
		ready := d.ready
		d.mu.Unlock()
		select {
		case <-ready:
		case <-d.w.f.ctx.Done():
			return false
		}
		d.mu.Lock()
	}
	defer d.mu.Unlock()
	before()
	return d.stream.Send(r) == nil
}

// runDurable executes a durable task: a memo, and a wait for an event. If the stream breaks when it asks, the attempt fails,
// as those of SDKs do.
func (d *durableClient) runDurable(a *wire.AssignedAction, waits func()) {
	i := invocation{a.TaskRunExternalId, a.GetDurableTaskInvocationCount()}
	answer := d.ask(i, &wire.DurableRequest{Message: &wire.DurableRequest_Memo{Memo: &wire.DurableMemo{InvocationCount: i.n,
		DurableTaskExternalId: i.run, Key: []byte("memo")}}})
	memo := answer.GetMemoAck()
	if answer != nil && memo == nil {
		d.w.f.t.Errorf("a memo was answered with %v", answer)
	}
	if memo != nil && !memo.MemoAlreadyExisted {
		d.send(&wire.DurableRequest{Message: &wire.DurableRequest_CompleteMemo{CompleteMemo: &wire.DurableCompleteMemo{Ref: memo.Ref,
			Payload: fmt.Appendf(nil, `"memo of %d"`, i.n)}}}, func() {})
	}
	if memo != nil {
		answer = d.ask(i, &wire.DurableRequest{Message: &wire.DurableRequest_WaitFor{WaitFor: &wire.DurableWaitFor{InvocationCount: i.n,
			DurableTaskExternalId: i.run, WaitForConditions: &wire.DurableConditions{UserEventConditions: []*wire.EventCondition{
				{Base: &wire.BaseCondition{ReadableDataKey: "came", OrGroupId: "1"}, UserEventKey: "go-" + i.run,
					ConsiderEventsSince: timestamppb.New(time.Unix(1, 0))}}}}}}) // it may have been published before
	}
	ack := answer.GetWaitForAck()
	if ack == nil {
		d.w.report(a, wire.StepEventType_STEP_EVENT_FAILED, `"the durable stream has ended"`)
		return
	}
	waits()
	d.mu.Lock()
	end := d.ends[nodeOf(ack.Ref)]
	d.mu.Unlock()
	if end == nil {
		return // evicted
	}
	select {
	case e, ok := <-end:
		d.mu.Lock()
		delete(d.ends, nodeOf(ack.Ref))
		d.mu.Unlock()
		if ok {
			d.w.complete(a, map[string]any{"came": string(e.GetPayload())})
		}
	case <-d.w.f.ctx.Done():
	}
}
