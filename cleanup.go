package stint

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint/store"
)

// Cleaning up. A run that fails for good or is canceled ends after its compensations, and
// one that is canceled while its handler waits after that has seen the cancel and returned.
// What cuts that off, the next execution takes up: it replays what is recorded with a
// context that has not ended, so that the handler comes by the same way to where it was;
// there its context ends.

// cleanup is the part of an execution that concerns this. All but failure and instead,
// which are its owner's, and cutAt, is guarded by execution.mu.
type cleanup struct {
	cutAt    atomic.Int64 // Unix time in ms: what was recorded later followed from the end of the context; 0: it runs as usual
	pending  error        // why the context will end; nil: it will not, or it has
	undoEnds context.CancelCauseFunc
	shutdown error         // why undoEnds was called, or would have been
	undone   chan struct{} // closed: giveUp is through; nil: it has not begun

	failure error          // ends the run; it is recorded, since compensations began
	instead *store.Outcome // of what the handler's return leads to
}

// An owner is who brings an execution to its end, once its handler is through.
type owner uint8

const (
	ownedByNone owner = iota
	ownedByHandler
	ownedByTimer // the handler ignored the end of its context
)

// own makes who asks the owner, if nobody is. It returns false for a handler that was given
// up: after what is done in its place.
func (e *execution) own(o owner) bool {
	e.mu.Lock()
	if e.owner == ownedByNone {
		e.owner, e.deadline = o, time.Time{}
		if o == ownedByTimer {
			e.undone = make(chan struct{})
		}
		if e.timer != nil {
			e.timer.Stop()
		}
	}
	got := e.owner == o
	e.mu.Unlock()
	if !got && o == ownedByHandler {
		<-e.undone
	}
	return got
}

// cleansUp has the execution end its context with that cause once it has replayed what was
// recorded, or after the grace: code that has changed may not come there.
func (e *execution) cleansUp(cause error, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.cutAt.CompareAndSwap(0, at.UnixMilli()) {
		return
	}
	e.pending, e.deadline = cause, time.Time{}
	if e.timer != nil {
		e.timer.Stop()
	}
	wait := time.Duration(0)
	if e.run.Journal {
		wait = cancelGrace
	}
	e.timer = time.AfterFunc(wait, e.cut)
}

// fails has an execution end its run by a failure that an earlier one recorded.
func (e *execution) fails(end *store.Entry) {
	e.failure = decodeFailure(end.Error).errOf(e)
	e.cleansUp(e.failure, end.At)
}

// cut ends the context of an execution that cleans up.
func (e *execution) cut() {
	if e.cutAt.Load() == 0 {
		return
	}
	e.mu.Lock()
	cause := e.pending
	e.pending = nil
	e.mu.Unlock()
	if cause != nil {
		e.interrupt(cause, cancelGrace)
	}
}

// awaitCut ends the context of an execution that cleans up, once all other branches have
// come to where the end of it met them too: they may look at it on their way.
func (sc *scope) awaitCut() {
	e, d := sc.e, sc.e.durable
	if e.cutAt.Load() == 0 || sc.replays || panicking() || !e.cutPends() {
		return
	}
	d.mu.Lock()
	d.live--
	d.atCut++
	d.idleLocked()
	d.mu.Unlock()
	select {
	case <-e.ctx.Done():
	case <-d.gone:
		runtime.Goexit()
	}
	d.mu.Lock()
	d.live++
	d.atCut--
	d.mu.Unlock()
}

// endsBy is why the context has ended, or is to end.
func (e *execution) endsBy() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return cmp.Or(e.pending, context.Cause(e.ctx))
}

// cutPends reports whether the context is still to end.
func (e *execution) cutPends() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pending != nil
}

// cutSoon is the delay after which the context of an execution ends whose branches have
// replayed all that is recorded and make no other durable call.
const cutSoon = 100 * time.Millisecond

// cutWhenReplayed ends the context of an execution that cleans up after cutSoon, if all that
// is recorded was replayed.
func (e *execution) cutWhenReplayed() {
	if e.cutAt.Load() == 0 || !e.cutPends() || !e.durable.replayed() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pending != nil {
		e.timer.Reset(cutSoon)
	}
}

// ended reports whether a branch makes no new call.
func (sc *scope) ended(ctx context.Context) bool { return sc.replays || ctx.Err() != nil }

// cutSince reports whether a time is after that from which on all follows from the end of
// the context.
func (e *execution) cutSince(t time.Time) bool {
	cut := e.cutAt.Load()
	return cut != 0 && t.UnixMilli() > cut
}

// cutBefore reports whether the context had ended before a call.
func (e *execution) cutBefore(found *store.Entry, recorded bool) bool {
	return e.cutAt.Load() != 0 && (!recorded || e.cutSince(found.At))
}

// refused is why a call is not made that has not been made before: the context is done.
func (sc *scope) refused(ctx context.Context) error {
	if !sc.ended(ctx) {
		return nil
	}
	return sc.cutShort(ctx, &waited{until: time.Now()})
}

// cutShort is the cause of a context that is done while a branch waits, and remembers from
// which call on a replay of the run must not find what follows.
func (sc *scope) cutShort(ctx context.Context, w *waited) error {
	cause := context.Cause(ctx)
	if cause == nil {
		cause = context.Cause(sc.e.ctx)
	}
	if !errors.Is(cause, ErrCanceled) || sc.replays {
		return cause
	}
	from := sc.last
	if w.child != (store.ID{}) || w.futures != nil { // waiting for these is no call
		from++
	}
	d := sc.e.durable
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.cuts[sc.cursor.Path]; !ok && from > 0 {
		if d.cuts == nil {
			d.cuts = map[string]int{}
		}
		d.cuts[sc.cursor.Path] = from
	}
	return cause
}

// cutShortBy is the error of a step whose context is done.
func (sc *scope) cutShortBy(ctx context.Context, err error) error {
	if cause := sc.refused(ctx); !errors.Is(err, cause) {
		return errorf("%w: %w", cause, err)
	}
	return err
}

// cutCalls are the calls that a cancel has cut short.
func (e *execution) cutCalls() (all []store.Address) {
	d := e.durable
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for path, seq := range d.cuts {
		all = append(all, store.Address{Scope: path, Seq: seq})
	}
	slices.SortFunc(all, func(a, b store.Address) int { return strings.Compare(a.Scope, b.Scope) })
	return all
}

// noteUnmetLocked notes a branch that has failed, until somebody has met its error.
func (d *durable) noteUnmetLocked(f *future) {
	if f.err != nil && f.entry.Done {
		if d.unmet == nil {
			d.unmet, d.broken = map[*future]struct{}{}, map[store.Address]struct{}{}
		}
		d.unmet[f], d.broken[f.entry.Address] = struct{}{}, struct{}{}
	}
}

func (d *durable) meets(f *future) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.unmet, f)
}

// withUnmet adds to what the next attempt is not to find the failures of branches whose error
// nobody has met: nobody has dealt with them.
func (e *execution) withUnmet(forget []store.Address) []store.Address {
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
	for f := range d.unmet {
		for _, a := range e.forget(f.err) {
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

// endedBefore reports whether a branch had ended before the execution's context did, or was
// to end.
func (f *future) endedBefore() bool {
	d := f.sc.e.durable
	d.mu.Lock()
	defer d.mu.Unlock()
	return f.done && f.entry.Done && f.sc.e.cutAt.Load() != 0 && !f.sc.e.cutSince(f.entry.At)
}

// next is what follows a failed attempt: another after a delay, or none. A replay gives a
// new budget.
func (e *execution) next(err error) (delay time.Duration, again bool, why error) {
	return e.def.cfg.next(e.run.Attempt-e.run.Replayed, err)
}

// cleanUp runs the compensations once the handler is through, if the run ends as failed or
// canceled, and returns the error by which it ends.
func (e *execution) cleanUp(err error) error {
	e.loading.Lock()
	d := e.durable
	e.loading.Unlock()
	if d != nil {
		d.root.awaitCut()
	}
	e.cut()
	bad, end := e.endsBadly(err)
	early := bad && e.failsEarly(err)
	if d == nil || e.replay != nil || !bad || early {
		e.own(ownedByHandler)
		return err
	}
	if end == nil {
		end = context.Cause(e.ctx)
	}
	e.cutAt.CompareAndSwap(0, time.Now().UnixMilli())
	e.cancel(nil) // branches that the handler leaves behind
	d.gather()
	if e.own(ownedByHandler) {
		e.instead = e.compensate(end)
	}
	return end
}

// giveUp goes on without a handler that ignores the end of its context.
func (e *execution) giveUp(cause error) {
	if !e.own(ownedByTimer) {
		return
	}
	defer close(e.undone)
	e.loading.Lock()
	d := e.durable
	e.loading.Unlock()
	if bad, err := e.endsBadly(cause); d != nil && bad {
		d.mu.Lock()
		d.over = true // its durable calls fail
		d.mu.Unlock()
		if o := e.compensate(err); o != nil {
			e.settle(*o, nil)
			return
		}
	}
	e.settle(e.judge(nil, nil, cause))
}

// undoContext is the context of compensations, which a shutdown alone ends.
func (e *execution) undoContext() context.Context {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(e.ctx))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.undoEnds = cancel
	if e.shutdown != nil {
		cancel(e.shutdown)
	}
	return ctx
}

// stopUndo ends the context of compensations. The caller holds mu.
func (e *execution) stopUndo(cause error) {
	e.shutdown = cause
	if e.undoEnds != nil {
		e.undoEnds(cause)
	}
}
