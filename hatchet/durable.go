package hatchet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// A durable run is code at the SDK, which asks for durable operations on a stream. The server numbers them: the nodes of
// the run. Each node is recorded as a step of that name, "3 wait 5f2c...", so that an execution that asks for something else
// is told so, and a branch can begin anywhere (see branch). What makes a wait end follows from when its step was
// recorded, and from the events that the database has: it is the same in each execution.

// branchOf is the ID of the branch in every answer: the journal has one.
const branchOf = 1

// errAbandoned ends the branch of a memo that the SDK did not complete. The next execution begins it again.
var errAbandoned = errors.New("the task has ended before the memo was complete")

// An operation is what the SDK asks for.
type operation struct {
	request *wire.DurableRequest
	reply   func(*wire.DurableResponse)
}

// A durable is the durable part of an execution. Its fields are of the handler's goroutine.
type durable struct {
	e        *execution
	ctx      context.Context
	ops      chan operation
	recorded []stint.JournalEntry // what the journal had when the execution began: steps and branches
	at       int                  // of recorded: what has been asked for again
	nodes    int                  // that this execution has asked for
	memos    []<-chan struct{}    // each closed when the branch of a memo has returned
}

// newDurable reads what the journal of a run has.
func (w *worker) newDurable(ctx context.Context, e *execution) (*durable, error) {
	d := &durable{e: e, ctx: ctx, ops: make(chan operation)}
	if e.info.Executions == 1 {
		return d, nil
	}
	entries, err := w.s.c.Journal(ctx, e.info.ID)
	for i := range entries {
		if !strings.Contains(entries[i].Address, "/") {
			d.recorded = append(d.recorded, entries[i])
		}
	}
	return d, err
}

// serve carries out operations until the execution ends. What the journal has and the SDK did not ask for again is then
// asked for in its place: the SDK was told of what does not match.
func (d *durable) serve() {
	for {
		select {
		case op := <-d.ops:
			if err := d.carryOut(op); err != nil {
				d.e.finish(outcome{err: err})
			}
		case <-d.e.done:
			for d.at < len(d.recorded) && d.ctx.Err() == nil && d.again() == nil {
			}
			for _, returned := range d.memos {
				<-returned
			}
			return
		case <-d.ctx.Done():
			return
		}
	}
}

// again asks for the next of what the journal has.
func (d *durable) again() error {
	r := &d.recorded[d.at]
	d.at++
	if r.Kind == "branch" {
		stint.Go(d.ctx, r.Name, func(context.Context) ([]byte, error) { return nil, errAbandoned })
		return nil
	}
	_, err := stint.Step(d.ctx, r.Name, func(context.Context) (bool, error) { return true, nil })
	return err
}

func (d *durable) ref(id int64) *wire.DurableRef {
	return &wire.DurableRef{DurableTaskExternalId: d.e.info.ID, InvocationCount: int32(d.e.info.Executions), BranchId: branchOf, NodeId: id}
}

// carryOut records an operation and answers it. An error is of the database.
func (d *durable) carryOut(op operation) error {
	switch m := op.request.Message.(type) {
	case *wire.DurableRequest_WaitFor:
		return d.waitFor(m.WaitFor, op.reply)
	case *wire.DurableRequest_TriggerRuns:
		return d.triggerRuns(m.TriggerRuns, op.reply)
	case *wire.DurableRequest_Memo:
		return d.memo(m.Memo, op.reply)
	}
	return nil
}

// begin records the next n nodes as one operation, and returns the number of the first. If the journal has another
// operation there, it says so to the SDK, and returns 0.
func (d *durable) begin(kind string, n int, content string, reply func(*wire.DurableResponse)) (int64, error) {
	first := d.nodes + 1
	sum := sha256.Sum256([]byte(content))
	name := fmt.Sprintf("%d %s %s", first, kind, hex.EncodeToString(sum[:8]))
	if d.at < len(d.recorded) && d.recorded[d.at].Name != name {
		d.refuse(int64(first), fmt.Sprintf("non-determinism error: node %d was %q and is now %q", first, d.recorded[d.at].Name, name),
			reply)
		return 0, nil
	}
	d.nodes += n
	d.at++
	_, err := stint.Step(d.ctx, name, func(context.Context) (bool, error) { return true, nil })
	return int64(first), err
}

func (d *durable) refuse(id int64, why string, reply func(*wire.DurableResponse)) {
	reply(&wire.DurableResponse{Message: &wire.DurableResponse_Error{Error: &wire.DurableError{Ref: d.ref(id),
		ErrorType: wire.DurableErrorType_DURABLE_ERROR_NONDETERMINISM, ErrorMessage: why}}})
}

// branch starts the branch that records a node's value, and returns the value if it is recorded.
func (d *durable) branch(name string, fn func(context.Context) ([]byte, error)) (f *stint.Future[[]byte], value []byte, recorded bool) {
	if d.at < len(d.recorded) && d.recorded[d.at].Name == name {
		r := &d.recorded[d.at]
		recorded = r.Done && r.Error == "" && json.Unmarshal(r.Output, &value) == nil
	}
	d.at++
	return stint.Go(d.ctx, name, fn), value, recorded
}

// memo answers with the recorded value of a memo, or asks the SDK for it.
func (d *durable) memo(m *wire.DurableMemo, reply func(*wire.DurableResponse)) error {
	id, err := d.begin("memo", 1, string(m.Key), reply)
	if err != nil || id == 0 {
		return err
	}
	completed, returned := make(chan []byte, 1), make(chan struct{})
	if m.Payload != nil {
		completed <- m.Payload
	}
	_, value, recorded := d.branch(fmt.Sprintf("%d value", id), func(ctx context.Context) ([]byte, error) {
		defer close(returned)
		return d.memoValue(ctx, completed)
	})
	if !recorded {
		d.e.setMemo(id, completed)
		d.memos = append(d.memos, returned)
	}
	ack := &wire.DurableMemoAck{Ref: d.ref(id), MemoAlreadyExisted: recorded}
	if recorded {
		ack.MemoResultPayload = value
	}
	reply(&wire.DurableResponse{Message: &wire.DurableResponse_MemoAck{MemoAck: ack}})
	return nil
}

// memoGrace is how long the value of a memo may come after the report that the task has succeeded: it comes on another
// stream.
const memoGrace = time.Second

// memoValue returns the value of a memo when the SDK has sent it.
func (d *durable) memoValue(ctx context.Context, completed <-chan []byte) ([]byte, error) {
	select {
	case v := <-completed:
		return v, nil
	case <-d.e.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if d.e.result.err != nil {
		return nil, errAbandoned
	}
	late := time.NewTimer(memoGrace)
	defer late.Stop()
	select {
	case v := <-completed:
		return v, nil
	case <-late.C:
		return nil, errAbandoned
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// triggerRuns starts children, and has their results sent when they have ended.
func (d *durable) triggerRuns(m *wire.DurableTriggerRuns, reply func(*wire.DurableResponse)) error {
	runs, content := make([]stint.JSONRun, len(m.TriggerOpts)), strings.Builder{}
	for i, r := range m.TriggerOpts {
		run, err := d.e.w.s.newRun(r)
		if err != nil {
			return stint.NonRetryable(err)
		}
		runs[i] = run
		fmt.Fprintf(&content, "%q %q\n", r.Name, r.Input)
	}
	id, err := d.begin("runs", len(runs), content.String(), reply)
	if err != nil || id == 0 {
		return err
	}
	f, _, _ := d.branch(fmt.Sprintf("%d children", id), func(ctx context.Context) ([]byte, error) {
		got, err := d.e.w.s.c.EnqueueJSONMany(ctx, runs)
		if err != nil {
			return nil, err
		}
		return json.Marshal(got)
	})
	stored, err := f.Wait(d.ctx)
	if err != nil {
		return err
	}
	var got []stint.Enqueued
	if err := json.Unmarshal(stored, &got); err != nil {
		return err
	}
	for i := range got {
		if why, err := d.e.w.s.otherChild(d.e.ended, m.TriggerOpts[i], got[i]); err != nil || why != "" {
			d.refuse(id+int64(i), why, reply)
			return err
		}
	}
	ack := &wire.DurableTriggerRunsAck{DurableTaskExternalId: d.e.info.ID, InvocationCount: int32(d.e.info.Executions)}
	for i := range got {
		ack.RunEntries = append(ack.RunEntries,
			&wire.DurableRunEntry{NodeId: id + int64(i), BranchId: branchOf, WorkflowRunExternalId: got[i].ID})
	}
	reply(&wire.DurableResponse{Message: &wire.DurableResponse_TriggerRunsAck{TriggerRunsAck: ack}})
	for i := range got {
		d.e.awaitNode(id+int64(i), func(ctx context.Context) (*wire.DurableEntryCompleted, error) {
			return d.e.w.s.childResult(ctx, got[i].ID)
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

// waitFor records that a wait begins, and has what ends it sent.
func (d *durable) waitFor(m *wire.DurableWaitFor, reply func(*wire.DurableResponse)) error {
	c, err := newConditions(m.WaitForConditions)
	if err != nil {
		return stint.NonRetryable(err)
	}
	id, err := d.begin("wait", 1, c.content(), reply)
	if err != nil || id == 0 {
		return err
	}
	since := stint.Now(d.ctx)
	reply(&wire.DurableResponse{Message: &wire.DurableResponse_WaitForAck{WaitForAck: &wire.DurableWaitForAck{Ref: d.ref(id)}}})
	d.e.awaitNode(id, func(ctx context.Context) (*wire.DurableEntryCompleted, error) {
		return d.e.w.s.awaitConditions(ctx, c, since)
	})
	return nil
}
