package stint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/store"
)

// Cleaning up. A run that fails for good or is canceled ends after its compensations, and
// one that is canceled while its handler waits after that has seen the cancel and returned.
// What cuts that off, the next execution takes up: it replays what is recorded with a
// context that has not ended, so that the handler comes by the same way to where it was;
// there its context ends.

// cleanup is the part of an execution that concerns this. All but failure and override,
// which are its owner's, and interruptedAt, is guarded by execution.mu.
type cleanup struct {
	interruptedAt atomic.Int64 // Unix time in ms: what was recorded later followed from the end of the context; 0: it runs as usual
	pendingCause  error        // why the context will end; nil: it will not, or it has
	cancelUndo    context.CancelCauseFunc
	undoCause     error         // why cancelUndo was called, or would have been
	abandoned     chan struct{} // closed: abandonHandler is through; nil: it has not begun

	failure  error          // ends the run; it is recorded, since compensations began
	override *store.Outcome // of what the handler's return leads to
}

// An owner is who brings an execution to its end, once its handler is through.
type owner uint8

const (
	ownedByNone owner = iota
	ownedByHandler
	ownedByTimer // the handler ignored the end of its context
)

// becomeOwner makes who asks the owner, if nobody is. It returns false for a handler that was given
// up: after what is done in its place.
func (e *execution) becomeOwner(o owner) bool {
	e.mu.Lock()
	if e.owner == ownedByNone {
		e.owner, e.deadline = o, time.Time{}
		if o == ownedByTimer {
			e.abandoned = make(chan struct{})
		}
		if e.timer != nil {
			e.timer.Stop()
		}
	}
	got := e.owner == o
	e.mu.Unlock()
	if !got && o == ownedByHandler {
		<-e.abandoned
	}
	return got
}

// interruptLater has the execution end its context with that cause once it has replayed what was
// recorded, or after the grace: code that has changed may not come there.
func (e *execution) interruptLater(cause error, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.interruptedAt.CompareAndSwap(0, at.UnixMilli()) {
		return
	}
	e.pendingCause, e.deadline = cause, time.Time{}
	if e.timer != nil {
		e.timer.Stop()
	}
	wait := time.Duration(0)
	if e.run.Journal {
		wait = cancelGrace
	}
	e.timer = time.AfterFunc(wait, e.interruptNow)
}

// failWith has an execution end its run by a failure that an earlier one recorded.
func (e *execution) failWith(end *store.Entry) {
	e.failure = decodeFailure(end.Error).errOf(e)
	e.interruptLater(e.failure, end.At)
}

// interruptNow ends the context of an execution that cleans up.
func (e *execution) interruptNow() {
	if e.interruptedAt.Load() == 0 {
		return
	}
	e.mu.Lock()
	cause := e.pendingCause
	e.pendingCause = nil
	e.mu.Unlock()
	if cause != nil {
		e.interrupt(cause, cancelGrace)
	}
}

// awaitInterrupt ends the context of an execution that cleans up, once all other branches have
// come to where the end of it met them too: they may look at it on their way.
func (sc *scope) awaitInterrupt() {
	e, d := sc.e, sc.e.durable
	if e.interruptedAt.Load() == 0 || sc.replaysOnly || guard.Unwinding() || !e.interruptPending() {
		return
	}
	d.mu.Lock()
	d.live--
	d.atInterrupt++
	d.allParkedLocked()
	d.mu.Unlock()
	select {
	case <-e.ctx.Done():
	case <-d.unwind:
		runtime.Goexit()
	}
	d.mu.Lock()
	d.live++
	d.atInterrupt--
	d.mu.Unlock()
}

// interruptCause is why the context has ended, or is to end.
func (e *execution) interruptCause() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return cmp.Or(e.pendingCause, context.Cause(e.ctx))
}

// interruptPending reports whether the context is still to end.
func (e *execution) interruptPending() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pendingCause != nil
}

// replayedGrace is the delay after which the context of an execution ends whose branches have
// replayed all that is recorded and make no other durable call.
const replayedGrace = 100 * time.Millisecond

// interruptWhenReplayed ends the context of an execution that cleans up after replayedGrace, if all that
// is recorded was replayed.
func (e *execution) interruptWhenReplayed() {
	if e.interruptedAt.Load() == 0 || !e.interruptPending() || !e.durable.fullyReplayed() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pendingCause != nil {
		e.timer.Reset(replayedGrace)
	}
}

// noNewCalls reports whether a branch makes no new call.
func (sc *scope) noNewCalls(ctx context.Context) bool { return sc.replaysOnly || ctx.Err() != nil }

// afterInterrupt reports whether a time is after that from which on all follows from the end of
// the context.
func (e *execution) afterInterrupt(t time.Time) bool {
	cut := e.interruptedAt.Load()
	return cut != 0 && t.UnixMilli() > cut
}

// interruptedBefore reports whether the context had ended before a call.
func (e *execution) interruptedBefore(found *store.Entry, recorded bool) bool {
	return e.interruptedAt.Load() != 0 && (!recorded || e.afterInterrupt(found.At))
}

// refuseNew is why a call is not made that has not been made before: the context is done.
func (sc *scope) refuseNew(ctx context.Context) error {
	if !sc.noNewCalls(ctx) {
		return nil
	}
	return sc.interruptedErr(ctx, &waitSpec{until: time.Now()})
}

// interruptedErr is the cause of a context that is done while a branch waits, and remembers from
// which call on a replay of the run must not find what follows.
func (sc *scope) interruptedErr(ctx context.Context, w *waitSpec) error {
	cause := context.Cause(ctx)
	if cause == nil {
		cause = context.Cause(sc.e.ctx)
	}
	if !errors.Is(cause, ErrCanceled) || sc.replaysOnly {
		return cause
	}
	from := sc.lastSeq
	if w.child != (store.ID{}) || w.futures != nil { // waiting for these is no call
		from++
	}
	d := sc.e.durable
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.interrupted[sc.cursor.Path]; !ok && from > 0 {
		if d.interrupted == nil {
			d.interrupted = map[string]int{}
		}
		d.interrupted[sc.cursor.Path] = from
	}
	return cause
}

// interruptedStepErr is the error of a step whose context is done.
func (sc *scope) interruptedStepErr(ctx context.Context, err error) error {
	if cause := sc.refuseNew(ctx); !errors.Is(err, cause) {
		return errorf("%w: %w", cause, err)
	}
	return err
}

// interruptedCalls are the calls that a cancel has cut short.
func (e *execution) interruptedCalls() (all []store.Address) {
	d := e.durable
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for path, seq := range d.interrupted {
		all = append(all, store.Address{Scope: path, Seq: seq})
	}
	slices.SortFunc(all, func(a, b store.Address) int { return strings.Compare(a.Scope, b.Scope) })
	return all
}

// noteUnseenLocked notes a branch that has failed, until somebody has met its error.
func (d *durableRun) noteUnseenLocked(f *future) {
	if f.err != nil && f.entry.Done {
		if d.unseen == nil {
			d.unseen, d.failedBranches = map[*future]struct{}{}, map[store.Address]struct{}{}
		}
		d.unseen[f], d.failedBranches[f.entry.Address] = struct{}{}, struct{}{}
	}
}

func (d *durableRun) markSeen(f *future) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.unseen, f)
}

// withUnseen adds to what the next attempt is not to find the failures of branches whose error
// nobody has met: nobody has dealt with them.
func (e *execution) withUnseen(forget []store.Address) []store.Address {
	d := e.durable
	if d == nil {
		return forget
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known := map[store.Address]bool{}
	for _, a := range forget {
		known[a] = true
	}
	for f := range d.unseen {
		for _, a := range e.toForget(f.err) {
			if !known[a] {
				known[a] = true
				forget = append(forget, a)
			}
		}
	}
	return forget
}

// branchNumber is the first number of a scope's path.
func branchNumber(path string) int {
	first, _, _ := strings.Cut(path, "/")
	n, _ := strconv.Atoi(first)
	return n
}

// endedBeforeInterrupt reports whether a branch had ended before the execution's context did, or was
// to end.
func (f *future) endedBeforeInterrupt() bool {
	d := f.sc.e.durable
	d.mu.Lock()
	defer d.mu.Unlock()
	return f.done && f.entry.Done && f.sc.e.interruptedAt.Load() != 0 && !f.sc.e.afterInterrupt(f.entry.At)
}

// nextAttempt is what follows a failed attempt: another after a delay, or none. A replay gives a
// new budget.
func (e *execution) nextAttempt(err error) (delay time.Duration, again bool, why error) {
	return e.def.cfg.nextAttempt(e.run.Attempt-e.run.Replayed, err)
}

// runCleanup runs the compensations once the handler is through, if the run ends as failed or
// canceled, and returns the error by which it ends.
func (e *execution) runCleanup(err error) error {
	e.loadMu.Lock()
	d := e.durable
	e.loadMu.Unlock()
	if d != nil {
		d.root.awaitInterrupt()
	}
	e.interruptNow()
	bad, end := e.finalError(err)
	early := bad && e.failsEarly(err)
	if d == nil || e.replay != nil || !bad || early {
		e.becomeOwner(ownedByHandler)
		return err
	}
	if end == nil {
		end = context.Cause(e.ctx)
	}
	e.interruptedAt.CompareAndSwap(0, time.Now().UnixMilli())
	e.cancel(nil) // branches that the handler leaves behind
	d.awaitCompensations()
	if e.becomeOwner(ownedByHandler) {
		e.override = e.runCompensations(end)
	}
	return end
}

// abandonHandler goes on without a handler that ignores the end of its context.
func (e *execution) abandonHandler(cause error) {
	if !e.becomeOwner(ownedByTimer) {
		return
	}
	defer close(e.abandoned)
	e.loadMu.Lock()
	d := e.durable
	e.loadMu.Unlock()
	if bad, err := e.finalError(cause); d != nil && bad {
		d.mu.Lock()
		d.handlerReturned = true // its durable calls fail
		d.mu.Unlock()
		if o := e.runCompensations(err); o != nil {
			e.post(*o, nil)
			return
		}
	}
	e.post(e.outcomeOf(nil, nil, cause))
}

// undoContext is the context of compensations, which a shutdown alone ends.
func (e *execution) undoContext() context.Context {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(e.ctx))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cancelUndo = cancel
	if e.undoCause != nil {
		cancel(e.undoCause)
	}
	return ctx
}

// stopUndo ends the context of compensations. The caller holds mu.
func (e *execution) stopUndo(cause error) {
	e.undoCause = cause
	if e.cancelUndo != nil {
		e.cancelUndo(cause)
	}
}

// An entryError is the error of an entry, which the next attempt of the run is not to find.
type entryError struct {
	e    *execution
	at   store.Address // Seq 0: none
	next store.Address // of the first call after the failure was met; Seq 0: the one after at
	err  error
}

// entries are what the next attempt is not to find.
func (e *entryError) entries() []store.Address {
	return slices.DeleteFunc([]store.Address{e.at, e.next}, func(a store.Address) bool { return a.Seq == 0 })
}

// seenError notes where a scope met a failure of something that had begun before: what followed
// from there is forgotten with it.
func (sc *scope) seenError(at store.Address, err error) error {
	return &entryError{e: sc.e, at: at, next: store.Address(sc.cursor.Peek()), err: err}
}

func (e *entryError) Error() string { return e.err.Error() }

func (e *entryError) Unwrap() error { return e.err }

// errorOf is the error that an entry records, or nil.
func (sc *scope) errorOf(e *store.Entry) error {
	if e.Error == nil {
		return nil
	}
	return &entryError{e: sc.e, at: e.Address, err: decodeFailure(e.Error).errOf(sc.e)}
}

// toForget lists the entries whose errors are in err, each once: a branch that is forgotten
// twice would take with it what came after.
func (e *execution) toForget(err error) []store.Address {
	var all []store.Address
	known := map[store.Address]bool{}
	for _, a := range e.entriesIn(err) {
		if !known[a] {
			known[a] = true
			all = append(all, a)
		}
	}
	return all
}

func (e *execution) entriesIn(err error) (all []store.Address) {
	switch x := err.(type) {
	case *appError:
		for _, one := range x.tree {
			if x, ok := one.(*entryError); ok && x.e == e {
				all = append(all, x.entries()...)
			}
		}
		return all
	case *entryError:
		if x.e == e {
			all = append(all, x.entries()...)
		}
		return append(all, e.entriesIn(x.err)...)
	case interface{ Unwrap() error }:
		return e.entriesIn(x.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range x.Unwrap() {
			all = append(all, e.entriesIn(one)...)
		}
	}
	return all
}

// failsEarly is a divergence if the handler failed for good before it asked for all that
// is recorded; failsEarly reports whether there is one, before compensations begin.
func (d *durableRun) failsEarly(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.root.cursor.End()
	if left == nil {
		left = d.branchDivergence
	} else {
		locateFunc(left, d.e.def.fn)
	}
	if left != nil && d.divergence == nil {
		d.divergence = fmt.Errorf("%w, with the error: %w", left, err)
	}
	return d.divergence != nil
}

// blockedOutcome is the outcome of an execution whose code does not match its journal.
func (d *durableRun) blockedOutcome(verdict, err error) *store.Outcome {
	out := d.e.newOutcome(store.Blocked)
	out.Uncounted, out.Error, out.Forget = true, encodeFailure(verdict), d.e.toForget(err)
	d.e.c.logger().Error("stint: run does not match its journal; it is blocked", "task", d.e.run.Task, "run", d.e.run.ID, "err", verdict)
	return &out
}
