package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// An execution is one attempt of a run on this worker. What became of it is posted
// once: by the handler's return, or by the grace after a timeout, cancel or shutdown
// that it ignored. Its slot stays taken until the handler returns.
type execution struct {
	c       *Client
	w       *Worker
	run     store.Claimed
	def     *taskDef
	ctx     context.Context
	cancel  context.CancelCauseFunc
	cost    int  // slots
	hasSlot bool // guarded by w.mu

	mu       sync.Mutex
	owner    owner // who brings it to its end
	posted   bool
	left     time.Duration // of the time that WithTimeout gives, while the attempt waits
	deadline time.Time     // of it; zero: none, or the attempt waits
	timer    *time.Timer   // timeout, then grace
	unstored
	streamLimit *chunkSemaphore  // nil before the first
	local       map[*Client]bool // whether another client's database has the run

	cleanup
	replay *replaySource // of ReplayJournal; else nil

	loadMu      sync.Mutex
	durable     *durableRun // nil before the first durable call; guarded by loading
	earlierEnds []time.Time // when attempts before this one ended; nil: not read yet; guarded by loading

	storeMu sync.Mutex // held while what was noted is being stored, so that it keeps its order
}

type executionKey struct{}

// executionOf is the execution whose handler ctx belongs to, or nil.
func executionOf(ctx context.Context) *execution {
	e, _ := ctx.Value(executionKey{}).(*execution)
	return e
}

func newExecution(w *Worker, r *store.Claimed) *execution {
	e := &execution{c: w.c, w: w, run: *r, def: w.c.task(r.Task), hasSlot: true, cost: w.c.slotCost(r.Task)}
	e.ctx, e.cancel = context.WithCancelCause(context.WithValue(context.Background(), executionKey{}, e))
	return e
}

// execute runs the handler and settles what came of it.
func (e *execution) execute() {
	defer e.w.removeExecution(e)
	var out []byte
	var err error
	returned := false
	defer func() { // also when the handler ends its goroutine
		v := recover()
		e.becomeOwner(ownedByHandler)
		if o := e.closeJournal(returned, v, err); o != nil {
			e.finishAs(*o)
			return
		}
		if e.override != nil {
			e.finishAs(*e.override)
			return
		}
		if !returned {
			err = panicError(v)
		}
		e.finish(out, err)
	}()
	e.left = clock.Sum(e.def.cfg.timeout, -e.run.Spent)
	e.startClock()
	out, err = e.callHandler()
	if d := e.durable; err == nil && d != nil {
		err = d.root.awaitBranches(e.ctx)
	}
	err = e.runCleanup(err)
	returned = true
}

// failsEarly reports whether the run is to be blocked and not to fail: its handler's
// error would be final, and came before all was asked for that is recorded.
func (e *execution) failsEarly(err error) bool {
	if err == nil || !e.run.Journal || context.Cause(e.ctx) != nil {
		return false
	}
	d, lerr := e.loadDurable(e.ctx)
	if lerr != nil {
		e.c.logger().Error("stint: reading the journal", "run", e.run.ID, "err", lerr)
		return false
	}
	return d.failsEarly(err)
}

// callHandler calls the handler. A panic is an error; a handler that ends its goroutine, or is
// unwound, does not return here.
func (e *execution) callHandler() (out []byte, err error) {
	returned := false
	ctx, end := e.startTrace()
	defer func() {
		if !returned {
			if v := recover(); v != nil {
				err = panicError(v)
			}
		}
		end(err)
	}()
	out, err = e.def.handler(ctx, e.run.Input)
	err = vet(err)
	returned = true
	return out, err
}

// closeJournal ends the journaled side of an execution; o is what becomes of the run if
// it is not what the handler returned.
func (e *execution) closeJournal(returned bool, panicked any, err error) *store.Outcome {
	e.loadMu.Lock()
	if e.durable == nil && returned && err == nil && e.run.Journal { // code that makes no durable call any more
		e.loadMu.Unlock()
		if _, lerr := e.loadDurable(context.WithoutCancel(e.ctx)); lerr != nil {
			e.c.logger().Error("stint: reading the journal", "run", e.run.ID, "err", lerr)
		}
		e.loadMu.Lock()
	}
	d := e.durable
	e.loadMu.Unlock()
	if d == nil {
		return nil
	}
	return d.finish(returned || panicked != nil, err)
}

// finishAs posts an outcome that is not the handler's.
func (e *execution) finishAs(o store.Outcome) {
	e.mu.Lock()
	if e.timer != nil {
		e.timer.Stop()
	}
	e.mu.Unlock()
	e.post(o, nil)
	e.cancel(nil)
}

// finish settles an execution whose handler is through.
func (e *execution) finish(out []byte, err error) {
	cause := context.Cause(e.ctx)
	e.mu.Lock()
	if e.timer != nil {
		e.timer.Stop()
	}
	e.mu.Unlock()
	o, err := e.outcomeOf(out, err, cause)
	e.post(o, err)
	e.cancel(nil)
}

// outcomeOf says what an attempt that returned leads to, and with which error.
func (e *execution) outcomeOf(out []byte, err error, cause error) (store.Outcome, error) {
	o := e.newOutcome(store.Succeeded)
	o.Output = out
	var s *snooze
	switch {
	case e.failure != nil:
		return e.failedOutcome(o, e.failure)
	case errors.Is(cause, ErrCanceled):
		o.To, o.Output, o.Error = store.Canceled, nil, encodeFailure(ErrCanceled)
		o.Forget = e.withUnseen(append(e.interruptedCalls(), e.toForget(err)...))
	case errors.Is(cause, ErrTimeout):
		o.Forget = e.toForget(err) // timeoutError may leave err out
		return e.failedOutcome(o, timeoutError(e.def.cfg.timeout, err))
	case err == nil:
		if len(e.run.Tests) > 0 {
			o.Tests = e.def.node.evaluate(e.run.Tests, out)
		}
	case errors.Is(cause, ErrShutdown):
		o.To, o.Uncounted, o.Output = store.Queued, true, nil
	case errors.As(err, &s):
		o.To, o.At, o.Uncounted, o.Output = store.Scheduled, dueIn(s.d), true, nil
	default:
		return e.failedOutcome(o, err)
	}
	return o, err
}

func (e *execution) newOutcome(to store.State) store.Outcome {
	return store.Outcome{ID: e.run.ID, Lease: e.run.Lease, Parent: e.run.Parent, Node: e.run.Node, To: to, Queue: e.run.Queue,
		Task: e.run.Task, Started: e.run.Started}
}

func timeoutError(d time.Duration, err error) error {
	if err == nil || errors.Is(err, ErrTimeout) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: attempt took longer than %v", ErrTimeout, d)
	}
	return errorf("%w: attempt took longer than %v: %w", ErrTimeout, d, err)
}

// dueIn is the time d from now; zero, which is past, for no wait.
func dueIn(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return clock.Add(time.Now(), d)
}

// failedOutcome makes o the outcome of a failed attempt: another one, or the end.
func (e *execution) failedOutcome(o store.Outcome, err error) (store.Outcome, error) {
	var delay time.Duration
	again := e.failure == nil
	if again {
		delay, again, err = e.nextAttempt(err)
	}
	o.Output, o.Error = nil, encodeFailure(err)
	if o.Forget == nil {
		o.Forget = e.toForget(err)
	}
	o.Forget = e.withUnseen(o.Forget)
	if again {
		o.To, o.At, o.Forget = store.Scheduled, dueIn(delay), e.withCompensations(o.Forget)
		e.c.logger().Info("stint: attempt failed; will retry", "task", e.run.Task, "run", e.run.ID, "attempt", e.run.Attempt, "in",
			delay, "err", e.c.logText(err))
		return o, err
	}
	o.To = store.Failed
	e.c.logger().Warn("stint: run failed", "task", e.run.Task, "run", e.run.ID, "attempt", e.run.Attempt, "err", e.c.logText(err))
	if f := e.def.onFailure; f != nil {
		o.Follow = []store.NewRun{e.failureRun(f, o.Error)}
	}
	return o, err
}

// failureKind is what sort of failure an error is, in a word.
func failureKind(err error) string { return decodeFailure(encodeFailure(err)).Kind }

func (e *execution) failureRun(f *taskDef, failure []byte) store.NewRun {
	failed := failedRun{e.run.ID.String(), e.run.Task, e.run.Attempt, jsonx.Embed(e.run.Input), failure}
	input, _ := json.Marshal(failed) // all of it is JSON
	rc := runConfig{queue: e.run.Queue, priority: int(e.run.Priority), detached: true}
	r, _ := f.newRun(e.c, &rc, nil, time.Time{}) // only a workflow's graph can be wrong
	r.Input, r.Metadata = input, e.run.Metadata
	return r
}

// post posts the outcome, if none was posted before.
func (e *execution) post(o store.Outcome, err error) {
	e.storeMu.Lock()
	defer e.storeMu.Unlock()
	e.flushExcess()
	e.mu.Lock()
	if e.posted {
		e.mu.Unlock()
		return
	}
	e.posted = true
	e.dropLogs(store.MaxLogs, portion) // nothing, unless a line came just now
	o.Record = e.takeRecord()
	e.mu.Unlock()
	if o.To == store.Failed {
		e.c.reportError(e.run.ID, original(err))
	}
	e.w.post(outcome{o, e})
}

// startClock lets the time of the attempt's timeout pass, from here on. It stands still
// while all branches wait in durable calls or for their slot, so what an attempt may use
// is the same whether it waits in memory or leaves it.
func (e *execution) startClock() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.def.cfg.timeout == 0 || !e.deadline.IsZero() || e.ctx.Err() != nil || e.interruptedAt.Load() != 0 || e.owner != ownedByNone {
		return
	}
	e.deadline = clock.Add(time.Now(), e.left)
	e.timer = time.AfterFunc(e.left, e.timedOut)
}

// stopClock has the time of the attempt's timeout stand still, unless it is over.
func (e *execution) stopClock() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if left := time.Until(e.deadline); !e.deadline.IsZero() && e.ctx.Err() == nil && left > 0 {
		e.timer.Stop()
		e.left, e.deadline = left, time.Time{}
	}
}

// spent is how much of its timeout the attempt has used up, for its next execution.
func (e *execution) spent() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := e.left
	if !e.deadline.IsZero() {
		left = time.Until(e.deadline)
	}
	return clock.Sum(e.def.cfg.timeout, -left)
}

// timedOut ends the attempt: its context at once, and its record when the handler
// returns or does not within the grace.
func (e *execution) timedOut() {
	e.mu.Lock()
	left := time.Until(e.deadline)
	if left > 0 && e.ctx.Err() == nil { // it was extended; else the timer is that of the grace by now
		e.timer.Reset(left)
	}
	waits := e.deadline.IsZero()
	e.mu.Unlock()
	if left > 0 || waits {
		return
	}
	e.interrupt(ErrTimeout, timeoutGrace)
}

// timeoutGrace is how long a handler may take to return after its timeout, before the
// attempt is recorded as failed without it.
const timeoutGrace = time.Second

// interrupt ends the handler's context, and goes on without it if it does not return
// within the grace. The first cause stands. Compensations are interrupted by a shutdown
// alone.
func (e *execution) interrupt(cause error, grace time.Duration) {
	if errors.Is(cause, ErrCanceled) {
		e.interruptedAt.CompareAndSwap(0, time.Now().UnixMilli())
	}
	e.cancel(cause)
	e.mu.Lock()
	defer e.mu.Unlock()
	if errors.Is(cause, ErrShutdown) {
		e.stopUndo(cause)
	}
	if e.posted || e.owner != ownedByNone || !errors.Is(context.Cause(e.ctx), cause) {
		return
	}
	if e.timer != nil {
		e.timer.Stop()
	}
	e.timer = time.AfterFunc(grace, func() {
		if !errors.Is(cause, ErrShutdown) { // else the run is given back when the worker is gone
			e.abandonHandler(cause)
		}
	})
}

// loadDurable is the execution's journal, which the first durable call loads.
func (e *execution) loadDurable(ctx context.Context) (*durableRun, error) {
	e.loadMu.Lock()
	defer e.loadMu.Unlock()
	if e.durable != nil {
		return e.durable, nil
	}
	var entries []store.Entry
	if e.run.Journal {
		var err error
		if entries, err = e.c.store.Load(context.WithoutCancel(ctx), e.run.ID); err != nil {
			return nil, wrapStoreErr("load the journal", err)
		}
	}
	e.durable = newDurableRun(e, entries)
	if end := e.durable.failureEntry; end != nil {
		e.failWith(end)
	}
	return e.durable, nil
}

// An outcome is posted by an execution, and committed by the worker's finisher.
type outcome struct {
	store.Outcome
	e *execution
}

// post hands an outcome to the finisher.
func (w *Worker) post(o outcome) {
	w.mu.Lock()
	w.outbox = append(w.outbox, o)
	w.mu.Unlock()
	signal(w.posted)
}

// finishLoop commits outcomes, all that have gathered at a time, until ctx is done
// and none is left. An outcome that cannot be written is tried until it can (R2).
func (w *Worker) finishLoop(ctx context.Context) {
	for {
		if batch := w.nextOutcomes(); len(batch) > 0 {
			w.commitOutcomes(ctx, batch)
			w.reuseOutbox(batch)
			continue
		}
		select {
		case <-w.posted:
		case <-ctx.Done():
			if w.outboxLen() == 0 {
				return
			}
		}
	}
}

func (w *Worker) outboxLen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.outbox)
}

func (w *Worker) commitOutcomes(ctx context.Context, batch []outcome) {
	outcomes := make([]store.Outcome, len(batch))
	for i := range batch {
		outcomes[i] = batch[i].Outcome
	}
	for {
		stale, err := w.c.store.Finish(context.Background(), time.Now(), outcomes)
		if err == nil {
			for i, s := range stale {
				if s {
					w.c.logger().Warn("stint: late outcome refused", "task", batch[i].e.run.Task, "run", batch[i].ID, "attempt",
						batch[i].e.run.Attempt)
				}
			}
			return
		}
		if errors.Is(err, store.ErrClosed) {
			return // the runs are queued again at the next start
		}
		w.c.logger().Error("stint: recording outcomes; will retry", "err", err, "outcomes", len(batch), "in", retryStore)
		if !pause(ctx, retryStore) {
			return // drained: Unregister, or the next start, queues them again
		}
	}
}

// nextOutcomes takes those that one commit records: all, unless they carry many log lines.
func (w *Worker) nextOutcomes() []outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := 0, 0
	for ; n < len(w.outbox) && size < 4*portion; n++ {
		for i := range w.outbox[n].Record.Logs {
			size += logSize(&w.outbox[n].Record.Logs[i])
		}
	}
	if n == 0 {
		return nil
	}
	batch, rest := w.outbox[:n:n], w.outbox[n:]
	if len(rest) == 0 {
		batch, rest, w.spare = w.outbox, w.spare, nil
	}
	w.outbox = rest
	return batch
}

// reuseOutbox makes the next outbox of a batch that was committed: outcomes are large.
func (w *Worker) reuseOutbox(batch []outcome) {
	clear(batch) // what they refer to may go
	w.mu.Lock()
	defer w.mu.Unlock()
	if cap(batch) <= maxSpare {
		w.spare = batch[:0]
	}
}

// maxSpare is the size of an outbox that is kept: half a MiB.
const maxSpare = 1024
