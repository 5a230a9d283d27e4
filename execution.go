package stint

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/failure"
	"github.com/stint-dev/stint/internal/outbox"
	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/internal/report"
	"github.com/stint-dev/stint/internal/slots"
	"github.com/stint-dev/stint/store"
)

// An execution is one attempt of a run on this worker. Its outcome is posted once: when the
// handler returns, or after the grace that follows a timeout, cancel or shutdown that the
// handler ignored. Its slots stay taken until the handler returns.
type execution struct {
	c      *Client
	w      *Worker
	run    store.Claimed
	def    *taskDef
	ctx    context.Context
	cancel context.CancelCauseFunc
	slots  slots.Held

	mu       sync.Mutex
	owner    owner            // who finishes it
	recorded chan error       // of Recorded; nil: not asked for
	left     time.Duration    // what is left of WithTimeout while the attempt waits
	deadline time.Time        // of WithTimeout; zero: none, or the attempt waits
	timer    *time.Timer      // of the timeout, then of the grace
	local    map[*Client]bool // whether another client's database has the run

	cleanup
	replay  *replaySource  // of ReplayJournal; else nil
	reports report.Reports // closed when the outcome is posted

	loadMu      sync.Mutex
	durable     *durableRun // nil before the first durable call; guarded by loadMu
	earlierEnds []time.Time // when earlier attempts ended; nil: not read yet; guarded by loadMu
}

type executionKey struct{}

// executionOf returns the execution whose handler ctx belongs to, or nil.
func executionOf(ctx context.Context) *execution {
	e, _ := ctx.Value(executionKey{}).(*execution)
	return e
}

func newExecution(w *Worker, r *store.Claimed) *execution {
	e := &execution{c: w.c, w: w, run: *r, def: w.taskOf(r)}
	e.reports.Recorder, e.reports.Run = w.recorder, &e.run
	e.ctx, e.cancel = context.WithCancelCause(context.WithValue(context.Background(), executionKey{}, e))
	return e
}

// execute runs the handler and posts the outcome.
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

// failsEarly reports whether the run must be blocked and not fail: its handler's error would
// be final, and was returned before all recorded calls were made.
func (e *execution) failsEarly(err error) bool {
	if err == nil || !e.run.Journal || context.Cause(e.ctx) != nil || errors.Is(err, ErrDiverged) {
		return false
	}
	d, lerr := e.loadDurable(e.ctx)
	if lerr != nil {
		e.c.logger().Error("stint: reading the journal", "run", e.run.ID, "err", lerr)
		return false
	}
	return d.failsEarly(err)
}

// callHandler calls the handler. A panic becomes an error. A handler that ends its goroutine,
// or is unwound, does not return here.
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

// closeJournal ends the journaled part of an execution. It returns the outcome of the run if
// that is not what the handler returned.
func (e *execution) closeJournal(returned bool, panicked any, err error) *store.Outcome {
	e.loadMu.Lock()
	if e.durable == nil && returned && err == nil && e.run.Journal { // the code no longer makes durable calls
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

// finish posts the outcome of a handler that has returned.
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

// outcomeOf returns the outcome of an attempt that returned, and its error.
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
			o.Tests = e.def.node.evaluate(e.run.Tests, e.run.Input, out)
		}
	case errors.Is(cause, ErrShutdown):
		o.To, o.Uncounted, o.Output = store.Queued, true, nil
	case errors.As(err, &s):
		o.To, o.At, o.Uncounted, o.Output = store.Scheduled, e.dueIn(s.d), true, nil
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

// dueIn returns the time d from now; zero, which is in the past, for no wait.
func (e *execution) dueIn(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return clock.Add(e.c.now(), d)
}

// failedOutcome makes o the outcome of a failed attempt: another attempt, or the end.
func (e *execution) failedOutcome(o store.Outcome, err error) (store.Outcome, error) {
	var delay time.Duration
	retry := e.failure == nil
	if retry {
		delay, retry, err = e.nextAttempt(err)
	}
	o.Output, o.Error = nil, encodeFailure(err)
	if o.Forget == nil {
		o.Forget = e.toForget(err)
	}
	o.Forget = e.withUnseen(o.Forget)
	if retry {
		o.To, o.At, o.Forget = store.Scheduled, e.dueIn(delay), e.withCompensations(o.Forget)
		e.c.logger().Info("stint: attempt failed; will retry", "task", e.run.Task, "run", e.run.ID, "attempt", e.run.Attempt, "in",
			delay, "err", e.c.logText(err))
		return o, err
	}
	failed := failure.Decode(o.Error) // as it will be read: what is no UTF-8 is not the same any more
	o.To, o.Failure = store.Failed, failure.Group(e.run.Task, &failed)
	e.c.logger().Warn("stint: run failed", "task", e.run.Task, "run", e.run.ID, "attempt", e.run.Attempt, "err", e.c.logText(err))
	if f := e.def.onFailure; f != nil {
		o.Follow = []store.NewRun{e.failureRun(f, o.Error)}
	}
	return o, err
}

// startClock starts the time of the attempt's timeout. It stands still while all branches wait
// in durable calls or for their slots, so an attempt may use the same time whether it waits in
// memory or leaves it.
func (e *execution) startClock() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.def.cfg.timeout == 0 || !e.deadline.IsZero() || e.ctx.Err() != nil || e.interruptedAt.Load() != 0 || e.owner != ownedByNone {
		return
	}
	e.deadline = clock.Add(time.Now(), e.left)
	e.timer = time.AfterFunc(e.left, e.timedOut)
}

// stopClock stops the time of the attempt's timeout, unless it is over.
func (e *execution) stopClock() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if left := time.Until(e.deadline); !e.deadline.IsZero() && e.ctx.Err() == nil && left > 0 {
		e.timer.Stop()
		e.left, e.deadline = left, time.Time{}
	}
}

// spent returns how much of its timeout the attempt has used, for its next execution.
func (e *execution) spent() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	left := e.left
	if !e.deadline.IsZero() {
		left = time.Until(e.deadline)
	}
	return clock.Sum(e.def.cfg.timeout, -left)
}

// ExtendTimeout gives the attempt d more time before its WithTimeout ends it, also if it waits
// in between and continues in another process. A retry starts with WithTimeout again. After
// the timeout it returns ErrTimeout. Without a timeout, or outside of a run, it does nothing.
func ExtendTimeout(ctx context.Context, d time.Duration) error {
	e := executionOf(ctx)
	if e == nil {
		return nil
	}
	if err := wantPositive("ExtendTimeout", d); err != nil {
		return err
	}
	if err := context.Cause(e.ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.deadline.IsZero() {
		e.left = clock.Sum(e.left, d)
	} else {
		e.deadline = clock.Add(e.deadline, d)
	}
	return nil
}

// timedOut ends the attempt: its context at once, and its record when the handler returns or
// after the grace.
func (e *execution) timedOut() {
	e.mu.Lock()
	left := time.Until(e.deadline)
	if left > 0 && e.ctx.Err() == nil { // extended; if ctx is done, the timer is that of the grace
		e.timer.Reset(left)
	}
	waits := e.deadline.IsZero()
	e.mu.Unlock()
	if left > 0 || waits {
		return
	}
	e.interrupt(ErrTimeout, timeoutGrace)
}

// timeoutGrace is how long a handler may take to return after its timeout before the attempt
// is recorded as failed.
const timeoutGrace = time.Second

// interrupt ends the handler's context, and finishes without the handler if it does not return
// within the grace. The first cause stands. Only a shutdown interrupts compensations.
func (e *execution) interrupt(cause error, grace time.Duration) {
	if errors.Is(cause, ErrCanceled) {
		e.interruptedAt.CompareAndSwap(0, e.c.now().UnixMilli())
	}
	e.cancel(cause)
	e.mu.Lock()
	defer e.mu.Unlock()
	if errors.Is(cause, ErrShutdown) {
		e.stopUndo(cause)
	}
	if e.reports.Closed() || e.owner != ownedByNone || !errors.Is(context.Cause(e.ctx), cause) {
		return
	}
	if e.timer != nil {
		e.timer.Stop()
	}
	e.timer = time.AfterFunc(grace, func() {
		if !errors.Is(cause, ErrShutdown) { // after a shutdown the run is queued again when the worker is gone
			e.abandonHandler(cause)
		}
	})
}

// lose ends the handler's context because the run was given to another execution.
func (e *execution) lose() {
	if !e.reports.Closed() {
		e.interrupt(errLost, stopGrace)
	}
}

// post posts the outcome, unless one was posted before.
func (e *execution) post(o store.Outcome, err error) {
	last, first := e.reports.Close(e.ctx)
	if !first {
		return
	}
	o.Record = last
	if o.To == store.Failed {
		e.c.live.Report(e.run.ID, e.run.Lease, apperror.Original(err))
	}
	e.w.outbox.Append(outcome{Outcome: o, e: e})
}

// An outcome is posted by an execution, and committed by the goroutine that ran it (commitPosted) or by the worker's finishLoop.
type outcome struct {
	store.Outcome
	e        *execution
	refusals int // by the store
}

// newOutbox returns the outbox of a worker. A commit has all its outcomes, unless they carry many log lines.
func newOutbox() *outbox.Outbox[outcome] {
	return outbox.New(func(o *outcome) (size int) {
		for i := range o.Record.Logs {
			size += report.LineSize(&o.Record.Logs[i])
		}
		return size
	}, 4*report.Portion)
}

// commitPosted commits the outcomes in the outbox in the goroutine of who posted one, unless another commits: so a run that ends alone
// is not handed to another goroutine. It tries once: what is not committed, and what is posted meanwhile, is finishLoop's.
func (w *Worker) commitPosted() {
	if !w.outbox.Lead() {
		return // who leads sees to it
	}
	defer w.outbox.Release()
	if !w.alone() {
		runtime.Gosched() // as in finishLoop
	}
	batch := w.outbox.Next()
	if len(batch) == 0 {
		return
	}
	if w.finishOnce(batch) != nil {
		w.outbox.Return(batch)
		return
	}
	w.outbox.Reuse(batch)
}

// finishLoop commits the outcomes in the outbox, many at a time, until ctx is done and none is
// left. It repeats a commit until the store can write it (R2).
func (w *Worker) finishLoop(ctx context.Context) {
	var refused []outcome
	var retry <-chan time.Time
	for {
		if w.outbox.Lead() {
			for batch := w.outbox.Next(); len(batch) > 0; batch = w.outbox.Next() {
				refused = append(refused, w.commitOutcomes(ctx, batch)...)
				w.outbox.Reuse(batch)
			}
			if len(refused) > 0 && retry == nil {
				retry = time.After(retryStore)
			}
			w.outbox.Release()
		}
		select {
		case <-w.outbox.Posted():
			runtime.Gosched() // handlers that are about to end do so first, and their outcomes are of the same commit
		case <-retry:
			for i := range refused {
				w.outbox.Post(refused[i])
			}
			refused, retry = nil, nil
		case <-ctx.Done():
			if w.outbox.Close() {
				return
			}
			<-w.outbox.Posted() // by who leads, at the latest
		}
	}
}

// commitOutcomes commits a batch, and returns the outcomes that the store refuses. One of a batch that is refused may
// be the reason: then each is committed by itself, so that the others do not wait for it.
func (w *Worker) commitOutcomes(ctx context.Context, batch []outcome) (refused []outcome) {
	err := w.tryOutcomes(ctx, batch)
	if err == nil {
		return nil
	}
	for i := range batch {
		o := &batch[i]
		if len(batch) > 1 {
			err = w.tryOutcomes(ctx, batch[i:i+1])
		}
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return nil // drained: Unregister, or the next start, queues them again
		}
		if err != nil && !w.replaceRefused(ctx, o, err) {
			refused = append(refused, *o)
		}
	}
	return refused
}

// tryOutcomes commits outcomes. It repeats that while the store cannot write, until ctx is done.
func (w *Worker) tryOutcomes(ctx context.Context, batch []outcome) error {
	for {
		err := w.finishOnce(batch)
		if err == nil || !w.c.unavailable(err) && !errors.Is(err, store.ErrMoved) {
			return err
		}
		w.c.logger().Error("stint: recording outcomes; will retry", "err", err, "outcomes", len(batch), "in", retryStore)
		if !pause.For(ctx, retryStore) {
			return err
		}
	}
}

// finishOnce commits outcomes, and tells who waits for that.
func (w *Worker) finishOnce(batch []outcome) error {
	outcomes := make([]store.Outcome, len(batch))
	for i := range batch {
		outcomes[i] = batch[i].Outcome
	}
	stale, err := w.c.store.Finish(context.Background(), w.c.now(), outcomes)
	if err != nil {
		return err
	}
	for i, s := range stale {
		batch[i].e.report(s)
		if s {
			w.c.logger().Warn("stint: late outcome refused", "task", batch[i].e.run.Task, "run", batch[i].ID, "attempt",
				batch[i].e.run.Attempt)
		}
	}
	return nil
}
