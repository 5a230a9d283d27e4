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

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/failure"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// Cleaning up. A run that fails for good or is canceled ends only after its compensations. One
// that is canceled while its handler waits ends only after the handler has seen the cancel and
// returned. If a crash or shutdown stops that, the next execution continues it: it replays the
// recorded calls with a context that has not ended, so that the handler takes the same way to
// where it was. There its context ends: the execution is interrupted.

// cleanup is the part of an execution that concerns this. failure and override belong to its
// owner, interruptedAt is atomic, the rest is guarded by execution.mu.
type cleanup struct {
	interruptedAt atomic.Int64 // Unix time in ms: what was recorded later followed from the end of the context; 0: not interrupted
	pendingCause  error        // why the context will end; nil: it will not, or it has ended
	cancelUndo    context.CancelCauseFunc
	undoCause     error         // why cancelUndo was called, or will be
	abandoned     chan struct{} // closed when abandonHandler is done; nil: it has not started

	failure  error          // ends the run; recorded, as compensations have started
	override *store.Outcome // replaces the outcome of the handler's return
}

// An owner is who finishes an execution.
type owner uint8

const (
	ownedByNone owner = iota
	ownedByHandler
	ownedByTimer // the handler ignored the end of its context
)

// becomeOwner makes o the owner if there is none, and reports whether it is. For a handler
// that was abandoned it returns false, after abandonHandler is done.
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

// interruptLater ends the execution's context with that cause once the recorded calls are
// replayed, or after the grace: code that has changed may not get there.
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

// failWith ends the execution's run with a failure that an earlier execution recorded.
func (e *execution) failWith(end *store.Entry) {
	e.failure = storedErrorOf(failure.Decode(end.Error), e)
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

// awaitInterrupt waits for the end of the context of an execution that cleans up. That comes
// once all branches are where it met them before: they may look at the context on their way.
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

// interruptCause returns why the context has ended or will end.
func (e *execution) interruptCause() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return cmp.Or(e.pendingCause, context.Cause(e.ctx))
}

// interruptPending reports whether the context will still end.
func (e *execution) interruptPending() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pendingCause != nil
}

// replayedGrace is the delay after which a context ends whose branches have replayed all
// recorded calls and make no other durable call.
const replayedGrace = 100 * time.Millisecond

// interruptWhenReplayed ends the context of an execution that cleans up after replayedGrace,
// if all recorded calls are replayed.
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

// noNewCalls reports whether the branch must make no new call.
func (sc *scope) noNewCalls(ctx context.Context) bool { return sc.replaysOnly || ctx.Err() != nil }

// afterInterrupt reports whether what was recorded at t followed from the end of the context.
func (e *execution) afterInterrupt(t time.Time) bool {
	at := e.interruptedAt.Load()
	return at != 0 && t.UnixMilli() > at
}

// interruptedBefore reports whether the context had ended before a call.
func (e *execution) interruptedBefore(found *store.Entry, recorded bool) bool {
	return e.interruptedAt.Load() != 0 && (!recorded || e.afterInterrupt(found.At))
}

// refuseNew returns why a new call is refused, the cause of the context, or nil.
func (sc *scope) refuseNew(ctx context.Context) error {
	if !sc.noNewCalls(ctx) {
		return nil
	}
	return sc.interruptedErr(ctx, &waitSpec{until: sc.e.c.now()})
}

// interruptedErr returns the cause of a context that is done while a branch waits, and notes
// from which call on a replay of the run must not find what follows.
func (sc *scope) interruptedErr(ctx context.Context, w *waitSpec) error {
	cause := context.Cause(ctx)
	if cause == nil {
		cause = context.Cause(sc.e.ctx)
	}
	if !errors.Is(cause, ErrCanceled) || sc.replaysOnly {
		return cause
	}
	from := sc.lastSeq
	if w.child != (store.ID{}) || w.futures != nil || w.suspends { // these waits are not calls
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

// interruptedStepErr returns the error of a step whose context is done.
func (sc *scope) interruptedStepErr(ctx context.Context, err error) error {
	if cause := sc.refuseNew(ctx); !errors.Is(err, cause) {
		return errorf("%w: %w", cause, err)
	}
	return err
}

// interruptedCalls returns the calls that a cancel interrupted.
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

// noteUnseenLocked notes a branch that has failed, until its error is seen.
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

// withUnseen adds to what the next attempt must not find the failures of branches whose errors
// nobody has seen, and so nobody has dealt with.
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

// branchNumber returns the first number of a scope's path.
func branchNumber(path string) int {
	first, _, _ := strings.Cut(path, "/")
	n, _ := strconv.Atoi(first)
	return n
}

// endedBeforeInterrupt reports whether a branch ended before the execution's context did or
// will.
func (f *future) endedBeforeInterrupt() bool {
	d := f.sc.e.durable
	d.mu.Lock()
	defer d.mu.Unlock()
	return f.done && f.entry.Done && f.sc.e.interruptedAt.Load() != 0 && !f.sc.e.afterInterrupt(f.entry.At)
}

// nextAttempt returns what follows a failed attempt: another after a delay, or none. A replay
// starts the count of retries anew.
func (e *execution) nextAttempt(err error) (delay time.Duration, retry bool, why error) {
	return e.def.cfg.nextAttempt(e.run.Attempt-e.run.Replayed, err)
}

// runCleanup runs the compensations once the handler has returned, if the run ends as failed
// or canceled, and returns the error with which it ends.
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
	e.interruptedAt.CompareAndSwap(0, e.c.now().UnixMilli())
	e.cancel(nil) // for branches that the handler left behind
	d.awaitCompensations()
	if e.becomeOwner(ownedByHandler) {
		e.override = e.runCompensations(end)
	}
	return end
}

// abandonHandler finishes the execution without a handler that ignores the end of its context.
func (e *execution) abandonHandler(cause error) {
	if !e.becomeOwner(ownedByTimer) {
		return
	}
	defer e.w.commitPosted()
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

// undoContext returns the context of compensations, which only a shutdown ends.
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

// An entryError is the error of an entry, which the next attempt of the run must not find.
type entryError struct {
	e    *execution
	at   store.Address   // Seq 0: none
	next store.Address   // of the first call after the failure was seen; Seq 0: the one after at
	step *journal.Failed // what is known of the entry, if it is a step; or nil
	err  error
}

// entries returns what the next attempt must not find.
func (e *entryError) entries() []store.Address {
	return slices.DeleteFunc([]store.Address{e.at, e.next}, func(a store.Address) bool { return a.Seq == 0 })
}

// seenError notes where a scope saw the failure of something that had started before: the
// calls from there on are forgotten with it.
func (sc *scope) seenError(at store.Address, err error) error {
	return &entryError{e: sc.e, at: at, next: store.Address(sc.cursor.Peek()), err: err}
}

func (e *entryError) Error() string { return e.err.Error() }

func (e *entryError) Unwrap() error { return e.err }

// errorOf returns the error that an entry records, or nil.
func (sc *scope) errorOf(e *store.Entry) error {
	if e.Error == nil {
		return nil
	}
	err := &entryError{e: sc.e, at: e.Address, err: storedErrorOf(failure.Decode(e.Error), sc.e)}
	if e.Kind == store.EntryStep {
		err.step = &journal.Failed{Name: e.Name, Began: clock.Millis(e.Began), Ended: clock.Millis(e.At), Attempts: e.Attempts,
			Tries: journal.Tries(e.Tries)}
	}
	return err
}

// addTry adds a try of a step to its entry, with the entry's error.
func addTry(e *store.Entry, began, ended time.Time) {
	e.Tries = journal.AddTry(e.Tries, journal.Try{Began: clock.Millis(began), Ended: clock.Millis(ended),
		Error: text.Cut(failure.Decode(e.Error).Message, text.Listed)})
}

// failedSteps returns the steps whose errors a stored failure has inside. errs are in an error with that text.
func failedSteps(errs []failure.Known, text string) (all []JournalEntry) {
	for i := range errs {
		k := &errs[i]
		if k.Is == markTask || k.Is == markCanceled { // its steps are those of another run
			continue
		}
		within := cmp.Or(k.Text, text)
		if s := k.Step; s != nil && k.At != nil {
			all = append(all, JournalEntry{Address: journal.Address(*k.At).String(), Kind: store.EntryStep.String(), Name: s.Name,
				Done: true, Error: within, Began: clock.FromMillis(s.Began), At: clock.FromMillis(s.Ended), Attempts: s.Attempts,
				Tries: stepTries(s.Tries)})
		}
		all = append(all, failedSteps(k.Inside, within)...)
	}
	return all
}

// toForget returns the entries whose errors are in err, each once: forgetting a branch twice
// would also remove what came after.
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
	case *apperror.Error:
		for _, one := range x.Tree() {
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

// failsEarly reports whether the handler failed for good before it made all recorded calls. It
// is called before compensations run.
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

// blockedOutcome returns the outcome of an execution whose code does not match its journal.
func (d *durableRun) blockedOutcome(divergence, err error) *store.Outcome {
	out := d.e.newOutcome(store.Blocked)
	out.Uncounted, out.Error, out.Forget = true, encodeFailure(divergence), d.e.toForget(err)
	d.e.c.logger().Error("stint: run does not match its journal; it is blocked", "task", d.e.run.Task, "run", d.e.run.ID, "err", divergence)
	return &out
}
