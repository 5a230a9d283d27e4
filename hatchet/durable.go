package hatchet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// A durable run is code at the SDK, which asks for durable operations on a stream. The server numbers them: the nodes of
// the run. Each node is a step with its number, "3 wait 5f2c...", so that an execution that asks for something else is told
// so, and a branch can begin anywhere (see branchAt). After it come the calls of the operation. The result of the step of a
// memo is its value; of a wait and of a child, as which it was told of its end: first, second, ... (see told).
//
// The handler is a loop that waits in no durable call, until the SDK unloads the run: then it leaves memory.

// branchOf is the ID of the branch in every answer: the journal has one.
const branchOf = 1

// An operation is what the SDK asks for.
type operation struct {
	request *wire.DurableRequest
	reply   func(*wire.DurableResponse)
}

// A durable is the durable part of an execution. Its fields are of the handler's goroutine.
type durable struct {
	e      *execution
	ctx    context.Context // of the handler
	ops    chan operation
	evicts chan func()    // the SDK has unloaded the run; called when that is stored
	ended  chan *node     // their ends have come
	left   chan struct{}  // closed when no more operations are carried out
	others sync.WaitGroup // goroutines that wait for ends

	nodes    []*node // by number, from 1
	memos    int     // that the SDK is to complete
	tellings         // in which order ends are told
	lastTold time.Time
	began    time.Time
}

// A node is an operation, or one child of those that an operation starts.
type node struct {
	id    int64
	step  *stint.OpenStep
	waits []*wait                     // of a wait: all must end
	child string                      // the ID of the child's run
	end   *wire.DurableEntryCompleted // of a child, or of a wait that has looked back; nil: see waits
	told  bool                        // in this execution
}

// newDurable reads in which order earlier executions were told of ends.
func (w *worker) newDurable(ctx context.Context, e *execution) (*durable, error) {
	d := &durable{e: e, ctx: ctx, ops: make(chan operation, 16), evicts: make(chan func(), 1), ended: make(chan *node),
		left: make(chan struct{}), began: time.Now()}
	if e.info.Executions == 1 {
		return d, nil
	}
	entries, err := w.s.c.Journal(ctx, e.info.ID)
	if err != nil {
		return nil, err
	}
	if timedOut(entries, e.info.Executions-1) {
		if err := d.askAgain(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: attempt took longer than %v", stint.ErrTimeout, e.task.Timeout)
	}
	return d, d.read(ctx, w.s.c, entries)
}

// serve carries out operations until the execution ends, or the SDK has unloaded the run: then it does not return.
func (d *durable) serve() error {
	defer d.others.Wait()
	defer d.e.end()
	defer close(d.left)
	for {
		var err error
		select {
		case op := <-d.ops:
			err = d.carryOut(op)
		case n := <-d.ended:
			d.come(n.id)
		case stored := <-d.evicts:
			err = d.unload(stored)
		case <-d.e.done:
			d.awaitMemos()
			return d.askAgain()
		case <-d.ctx.Done():
			return nil
		}
		if err == nil {
			err = d.tell()
		}
		if err != nil && d.e.finish(outcome{err: err}) {
			d.e.sendCancel()
		}
	}
}

func (d *durable) ref(id int64) *wire.DurableRef {
	return &wire.DurableRef{DurableTaskExternalId: d.e.info.ID, InvocationCount: int32(d.e.info.Executions), BranchId: branchOf, NodeId: id}
}

// carryOut records an operation and answers it. An error ends the execution.
func (d *durable) carryOut(op operation) error {
	switch m := op.request.Message.(type) {
	case *wire.DurableRequest_WaitFor:
		return d.waitFor(m.WaitFor, op.reply)
	case *wire.DurableRequest_TriggerRuns:
		return d.triggerRuns(m.TriggerRuns, op.reply)
	case *wire.DurableRequest_Memo:
		return d.memo(m.Memo, op.reply)
	case *wire.DurableRequest_CompleteMemo:
		return d.completeMemo(m.CompleteMemo.GetRef().GetNodeId(), m.CompleteMemo.Payload)
	}
	return nil
}

// begin records that a node begins. If the journal has another there, it says so to the SDK, and returns nil.
func (d *durable) begin(kind, content string, reply func(*wire.DurableResponse)) (*node, error) {
	n := &node{id: int64(len(d.nodes) + 1)}
	if err := d.passTimeouts(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(content))
	name := fmt.Sprintf("%d %s %s", n.id, kind, hex.EncodeToString(sum[:8]))
	if e, ok := stint.Peek(d.ctx); ok && (e.Kind != "step" || e.Name != name) {
		d.refuse(n.id, fmt.Sprintf("non-determinism error: node %d was %q and is now %q", n.id, e.Name, name), reply)
		return nil, nil
	}
	var err error
	if n.step, err = stint.StartStep(d.ctx, name); err != nil {
		return nil, err
	}
	d.nodes = append(d.nodes, n)
	return n, nil
}

func (d *durable) refuse(id int64, why string, reply func(*wire.DurableResponse)) {
	reply(&wire.DurableResponse{Message: &wire.DurableResponse_Error{Error: &wire.DurableError{Ref: d.ref(id),
		ErrorType: wire.DurableErrorType_DURABLE_ERROR_NONDETERMINISM, ErrorMessage: why}}})
}

// memo answers with the recorded value of a memo, or asks the SDK for it.
func (d *durable) memo(m *wire.DurableMemo, reply func(*wire.DurableResponse)) error {
	n, err := d.begin(kindMemo, string(m.Key), reply)
	if err != nil || n == nil {
		return err
	}
	ack := &wire.DurableMemoAck{Ref: d.ref(n.id)}
	if stored, ok := n.step.Result(); ok {
		ack.MemoAlreadyExisted = true
		err = json.Unmarshal(stored, &ack.MemoResultPayload)
	} else if d.memos++; m.Payload != nil {
		err = d.completeMemo(n.id, m.Payload)
	}
	if err != nil {
		return err
	}
	reply(&wire.DurableResponse{Message: &wire.DurableResponse_MemoAck{MemoAck: ack}})
	return nil
}

// completeMemo records the value of a memo, once.
func (d *durable) completeMemo(id int64, value []byte) error {
	if id < 1 || id > int64(len(d.nodes)) {
		return nil
	}
	s := d.nodes[id-1].step
	if _, is := s.Result(); is || d.nodes[id-1].isEnd() {
		return nil
	}
	d.memos--
	stored, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return s.Complete(d.ctx, stored)
}

// memoGrace is how long the value of a memo may come after the report that the task has succeeded: it comes on another
// stream.
const memoGrace = time.Second

// awaitMemos takes the values of memos that come after the report that the task has succeeded.
func (d *durable) awaitMemos() {
	if d.e.result.err != nil {
		return
	}
	late := time.NewTimer(memoGrace)
	defer late.Stop()
	for d.memos > 0 {
		select {
		case op := <-d.ops:
			if m := op.request.GetCompleteMemo(); m != nil && d.completeMemo(m.GetRef().GetNodeId(), m.Payload) != nil {
				return
			}
		case <-late.C:
			return
		case <-d.ctx.Done():
			return
		}
	}
}

// triggerRuns starts children, and has their results told when they have ended.
func (d *durable) triggerRuns(m *wire.DurableTriggerRuns, reply func(*wire.DurableResponse)) error {
	runs := make([]stint.JSONRun, len(m.TriggerOpts))
	for i, r := range m.TriggerOpts {
		run, err := d.e.w.s.newRun(r)
		if err != nil {
			return stint.NonRetryable(err)
		}
		runs[i] = run
	}
	first := len(d.nodes)
	for i, r := range m.TriggerOpts {
		n, err := d.begin(fmt.Sprintf("%s %d/%d", kindRun, i+1, len(runs)), fmt.Sprintf("%q %q", r.Name, r.Input), reply)
		if err != nil || n == nil {
			return err
		}
	}
	got, err := d.e.w.s.c.EnqueueJSONMany(d.ctx, runs)
	if err != nil {
		return err
	}
	for i := range got {
		if why, err := d.e.w.s.otherChild(d.e.ended, m.TriggerOpts[i], got[i]); err != nil || why != "" {
			d.refuse(d.nodes[first+i].id, why, reply)
			return err
		}
	}
	ack := &wire.DurableTriggerRunsAck{DurableTaskExternalId: d.e.info.ID, InvocationCount: int32(d.e.info.Executions)}
	for i := range got {
		n := d.nodes[first+i]
		n.child = got[i].ID
		ack.RunEntries = append(ack.RunEntries, &wire.DurableRunEntry{NodeId: n.id, BranchId: branchOf, WorkflowRunExternalId: n.child})
	}
	reply(&wire.DurableResponse{Message: &wire.DurableResponse_TriggerRunsAck{TriggerRunsAck: ack}})
	for _, n := range d.nodes[first:] {
		d.await(n, func(ctx context.Context) (err error) {
			n.end, err = d.e.w.s.childResult(ctx, n.child)
			return err
		})
	}
	return nil
}

// otherChild says why the child that has the index, or key, of a request is not the one that it asks for; "": it is.
func (s *Server) otherChild(ctx context.Context, r *wire.TriggerWorkflowRequest, got stint.Enqueued) (string, error) {
	if !got.Existing || r.ChildIndex == nil {
		return "", nil
	}
	info, err := s.run(ctx, got.ID)
	if err != nil {
		return "", err
	}
	if info.ParentID != parentOf(r) || info.Task == r.Name && (r.ChildKey != nil || sameJSON(info.Input, r.Input)) {
		return "", nil
	}
	return fmt.Sprintf("non-determinism error: child %d of the run is %s %q, and is now %q", r.GetChildIndex(), got.ID, info.Task,
		r.Name), nil
}

// sameJSON reports whether the text is the JSON of a stored input.
func sameJSON(stored json.RawMessage, text string) bool {
	asked, err := object("input", text)
	var a, b bytes.Buffer
	return err == nil && json.Compact(&a, stored) == nil && json.Compact(&b, asked) == nil && bytes.Equal(a.Bytes(), b.Bytes())
}

// waitFor records that a wait begins, and has what ends it told.
func (d *durable) waitFor(m *wire.DurableWaitFor, reply func(*wire.DurableResponse)) error {
	c, err := newConditions(m.WaitForConditions)
	if err != nil {
		return stint.NonRetryable(err)
	}
	n, err := d.begin(kindWait, c.content(), reply)
	if err != nil || n == nil {
		return err
	}
	if n.waits, err = c.start(d.ctx); err != nil {
		return err
	}
	reply(&wire.DurableResponse{Message: &wire.DurableResponse_WaitForAck{WaitForAck: &wire.DurableWaitForAck{Ref: d.ref(n.id)}}})
	if t, ok := toldOf(n.step); ok && t.End != nil {
		n.end = &wire.DurableEntryCompleted{Payload: t.End}
	} else if err := d.e.w.s.lookBack(d.e.ended, n); err != nil {
		return err
	}
	d.await(n, n.awaitWaits)
	return nil
}

// await has a node's end told once wait returns.
func (d *durable) await(n *node, wait func(context.Context) error) {
	ctx := d.e.ended // not the handler's context, with which calls would be durable ones
	d.others.Go(func() {
		if err := wait(ctx); err != nil {
			if ctx.Err() == nil {
				d.e.finish(outcome{err: err})
			}
			return
		}
		select {
		case d.ended <- n:
		case <-ctx.Done():
		}
	})
}

// askAgain asks for what the journal has and the SDK did not ask for: it was told of what does not match, or has changed.
func (d *durable) askAgain() error {
	for {
		e, ok := stint.Peek(d.ctx)
		if !ok {
			return nil
		}
		var err error
		switch e.Kind {
		case "wait":
			if isTimeout(&e) {
				err = d.passTimeouts()
			} else {
				_, err = stint.StartWait(d.ctx, recordedWait(&e))
			}
		case "step":
			_, err = stint.StartStep(d.ctx, e.Name)
		case "child":
			err = d.enqueueAgain(&e)
		default:
			err = fmt.Errorf("%w: entry %s is %s %q", stint.ErrDiverged, e.Address, e.Kind, e.Name)
		}
		if err != nil {
			return err
		}
	}
}

// enqueueAgain makes the call that the journal has of children.
func (d *durable) enqueueAgain(e *stint.JournalEntry) error {
	var ids []string
	if err := json.Unmarshal(e.Output, &ids); err != nil {
		return fmt.Errorf("%w: entry %s: %w", stint.ErrDiverged, e.Address, err)
	}
	runs := make([]stint.JSONRun, len(ids))
	for i, id := range ids {
		info, err := d.e.w.s.c.GetRun(d.e.ended, id)
		if err != nil {
			return fmt.Errorf("%w: entry %s: child %s: %w", stint.ErrDiverged, e.Address, id, err)
		}
		runs[i] = stint.JSONRun{Task: info.Task, Input: info.Input}
	}
	_, err := d.e.w.s.c.EnqueueJSONMany(d.ctx, runs)
	return err
}
