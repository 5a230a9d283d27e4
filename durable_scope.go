package stint

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/store"
)

// A durableRun is the journaled part of an execution: its tape, its branches, and what they
// wait for. The first durable call makes it.
//
// A branch is the handler, or what Go started. A branch that waits is parked: its goroutine
// stays for a moment (linger), as the wait may be short. When all branches are parked and none
// woke in that time, the execution is suspended: every goroutine is unwound, the run is stored
// as waiting, and the handler runs again from the top when something it waits for has come.
type durableRun struct {
	e    *execution
	tape *journal.Tape[*store.Entry]
	root *scope

	mu                sync.Mutex
	live              int // branches that are not parked
	parked            map[*parked]struct{}
	linger            *time.Timer
	unwind            chan struct{} // closed: every branch unwinds
	suspended         bool
	branchInterrupted bool  // a branch was, with the execution: it has more to do than wait
	divergence        error // the run does not match its journal
	branchDivergence  error // a branch failed before it made all calls that it had recorded
	handlerReturned   bool  // the handler has returned
	versions          map[string]bool
	notes             map[string]bool          // by scope
	once              map[store.Address]string // names of the steps that began before, by the addresses of their notes
	// openWaits are those of StartWait whose end the handler has not seen. waitCtx ends with the execution; nil
	// before the first of them.
	openWaits map[*future]struct{}
	waitCtx   context.Context
	stopWaits context.CancelFunc
	waiters   sync.WaitGroup
	undoState
	goroutines sync.WaitGroup
}

// lingerFor is how long a parked execution stays in memory.
const lingerFor = time.Second

// A scope has the durable calls of one branch, which makes them one after another.
type scope struct {
	e         *execution
	cursor    *journal.Scope[*store.Entry]
	busy      atomic.Bool
	returned  atomic.Bool // its branch has returned
	now       time.Time
	ids       int
	branches  []*future // started here; guarded by durableRun.mu
	lastSeq   int       // number of the last call
	undoCount int       // compensations given; guarded by durableRun.mu
	// replaysOnly: its branch, or one around it, had ended and runs again only for its
	// compensations. It sees a context that has not ended, as before, and makes no call that
	// is not recorded.
	replaysOnly bool
}

type scopeKey struct{}

// scopeOf returns the scope of a handler or branch; nil outside of a run and inside a step.
func scopeOf(ctx context.Context) *scope {
	e := executionOf(ctx)
	if e == nil || ctx.Value(stepKey{}) != nil {
		return nil
	}
	if sc, ok := ctx.Value(scopeKey{}).(*scope); ok && sc.e == e {
		return sc
	}
	d, err := e.loadDurable(ctx)
	if err != nil {
		return nil
	}
	return d.root
}

// enter starts a durable call. It returns nil and no error outside of a run.
func enter(ctx context.Context, kind store.EntryKind, name string) (*scope, error) {
	e := executionOf(ctx)
	if e == nil {
		return nil, nil
	}
	fail := func(why string) (*scope, error) {
		return nil, fmt.Errorf("%w: %v %q %s", ErrDurable, kind, name, why)
	}
	if ctx.Value(stepKey{}) != nil {
		return fail("inside a step")
	}
	if err := check.Name(kind.String()+" name", name); err != nil {
		return nil, errorf("stint: %w", err)
	}
	d, err := e.loadDurable(ctx)
	if err != nil {
		return nil, err
	}
	sc := d.root
	if own, ok := ctx.Value(scopeKey{}).(*scope); ok {
		sc = own
	}
	d.mu.Lock()
	over := d.handlerReturned
	d.mu.Unlock()
	switch {
	case over:
		return fail("after its handler has returned")
	case errors.Is(context.Cause(e.ctx), ErrShutdown): // even if ctx does not end with it: another worker goes on
		return nil, fmt.Errorf("%w: %v %q", ErrShutdown, kind, name)
	case d.unwinding():
		runtime.Goexit() // called by a deferred function of a branch that unwinds
	case sc.returned.Load():
		return fail("after its branch has returned")
	case !sc.busy.CompareAndSwap(false, true):
		return fail("while another durable call of this branch is under way: use Go for what runs beside")
	}
	return sc, nil
}

func (sc *scope) leave() { sc.busy.Store(false) }

func newDurableRun(e *execution, entries []store.Entry) *durableRun {
	d := &durableRun{e: e, live: 1, parked: map[*parked]struct{}{}, unwind: make(chan struct{}), versions: map[string]bool{},
		notes: map[string]bool{}}
	records := make([]journal.Record[*store.Entry], 0, len(entries))
	for i := range entries {
		entry := &entries[i]
		if entry.Kind == store.EntryNote {
			d.loadNote(entry)
			continue
		}
		if entry.Kind == store.EntryVersion {
			d.versions[entry.Name] = string(entry.Value) == "true"
			continue
		}
		if store.IsUndo(entry.Scope) {
			d.loadUndo(entry)
			continue
		}
		if store.IsLeaf(entry.Scope) { // the store's own
			continue
		}
		records = append(records, journal.Record[*store.Entry]{At: journal.Address(entry.Address), Kind: entry.Kind.String(),
			Name: entry.Name, Entry: entry})
	}
	d.tape = journal.NewTape(records)
	d.root = d.newScope("")
	return d
}

// loadDurable returns the execution's journal, which the first durable call loads.
func (e *execution) loadDurable(ctx context.Context) (*durableRun, error) {
	e.loadMu.Lock()
	defer e.loadMu.Unlock()
	if e.durable != nil {
		return e.durable, nil
	}
	var entries []store.Entry
	if e.run.Journal {
		var err error
		if entries, _, err = e.c.store.Entries(context.WithoutCancel(ctx), e.run.ID, store.Address{}, -1, true); err != nil {
			return nil, wrapStoreErr("load the journal", err)
		}
	}
	e.durable = newDurableRun(e, entries)
	if end := e.durable.failureEntry; end != nil {
		e.failWith(end)
	}
	return e.durable, nil
}

func (d *durableRun) newScope(path string) *scope {
	return &scope{e: d.e, cursor: d.tape.Scope(path), now: createdAt(d.e.run.ID)}
}

func (d *durableRun) unwinding() bool {
	select {
	case <-d.unwind:
		return true
	default:
		return false
	}
}

// next takes the next address of the scope and returns what is recorded there. If the code
// makes another call than is recorded, next does not return. Nothing new starts while a panic
// unwinds.
func (sc *scope) next(kind store.EntryKind, name string) (e store.Entry, recorded bool, err error) {
	at, found, recorded, err := sc.cursor.Next(kind.String(), name)
	if err != nil {
		sc.diverge(err)
	}
	sc.lastSeq = at.Seq
	if recorded {
		e = *found
		if e.Done && kind != store.EntryBranch { // Go does not wait for the end of a branch
			sc.advanceTo(e.At)
		}
	} else {
		e = store.Entry{Address: store.Address(at), Kind: kind, Name: name}
	}
	if !recorded && guard.Unwinding() {
		return e, false, refusedInPanic(kind.String(), name)
	}
	if r := sc.e.replay; r != nil && r.stopsAt(&e, recorded) {
		sc.stopReplay()
	}
	if sc.e.interruptedBefore(found, recorded) && kind != store.EntryBranch {
		sc.awaitInterrupt()
	}
	sc.e.interruptWhenReplayed()
	return e, recorded, nil
}

// append stores an entry and returns what the store has at its address then. If the execution
// is not current any more, append does not return.
func (sc *scope) append(ctx context.Context, e store.Entry) (store.Entry, error) {
	stored, stale, err := sc.record(ctx, e)
	if err != nil {
		return e, err
	}
	if stale {
		sc.e.durable.diverge(store.ErrStale)
		runtime.Goexit()
	}
	if stored.Done && e.Kind != store.EntryVersion && e.Kind != store.EntryNote { // later passes do not see their times
		sc.advanceTo(stored.At)
	}
	return stored, nil
}

// record stores an entry, as append does, in any goroutine. stale reports that the execution is not current any more.
func (sc *scope) record(ctx context.Context, e store.Entry) (stored store.Entry, stale bool, err error) {
	if sc.e.replay != nil {
		return e, false, nil
	}
	record := func() (err error) {
		stored, stale, err = sc.e.c.store.Append(context.WithoutCancel(ctx), sc.e.c.now(),
			store.Call{ID: sc.e.run.ID, Lease: sc.e.run.Lease, Entry: e})
		return err
	}
	err = sc.e.c.retryWhileUnavailable(ctx, record)
	if err != nil && sc.e.c.unavailable(err) && errors.Is(sc.e.interruptCause(), ErrCanceled) {
		err = sc.e.c.retryWhileUnavailable(sc.e.c.ctx, record) // it has happened: the handler is to register what undoes it
	}
	if err != nil {
		return e, false, wrapStoreErr("record "+e.Kind.String(), err)
	}
	return stored, stale, nil
}

// advanceTo advances the scope's time, as every pass does at this point.
func (sc *scope) advanceTo(t time.Time) {
	if t.After(sc.now) {
		sc.now = t
	}
}

// diverge unwinds the execution.
func (d *durableRun) diverge(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.divergence == nil {
		d.divergence = err
	}
	d.unwindLocked()
}

func (d *durableRun) unwindLocked() {
	if d.unwinding() {
		return
	}
	close(d.unwind)
	if d.stopWaits != nil {
		d.stopWaits()
	}
}

// A waitSpec is what a branch waits for: the first of its fields to come.
type waitSpec struct {
	until   time.Time     // zero: no time
	entry   store.Address // Seq 0: none
	due     time.Time     // of entry, if it is of WaitFor: another Due wakes the branch too
	into    *store.Entry  // set to the entry, if that woke the branch in memory
	child   store.ID      // zero: none
	futures []*future
	// suspends: the branch is not woken, and the execution leaves memory at once; see Suspend.
	suspends bool
	children []store.ID // what Suspend waits for
}

// A parked is a branch that waits.
type parked struct {
	waitSpec
	woken chan struct{}
	awake bool        // guarded by durableRun.mu
	got   store.Entry // the entry, if that woke it
}

// wait parks the branch until what it waits for may have come, or ctx is done.
func (sc *scope) wait(ctx context.Context, w waitSpec) error {
	passed := !w.until.IsZero() && (!sc.e.c.now().Before(w.until) || sc.e.replay != nil)
	if passed && !sc.e.afterInterrupt(w.until) {
		return nil
	}
	if sc.awaitInterrupt(); sc.noNewCalls(ctx) {
		return sc.interruptedErr(ctx, &w)
	}
	if passed {
		return nil
	}
	if guard.Unwinding() { // unwinding here would hide the panic
		return refusedInPanic("a wait", "")
	}
	d := sc.e.durable
	p := &parked{waitSpec: w, woken: make(chan struct{})}
	if !d.park(p) {
		return nil // a future is done
	}
	watch, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, func() { d.wake(p) })()
	if !w.suspends {
		d.watch(watch, p)
	}
	select {
	case <-p.woken:
	case <-d.unwind:
		runtime.Goexit()
	}
	sc.e.w.slots.Reacquire(ctx, &sc.e.slots)
	sc.e.startClock()
	if w.into != nil && p.got.Done {
		*w.into = p.got
		sc.advanceTo(p.got.At)
	}
	if ctx.Err() != nil {
		return sc.interruptedErr(ctx, &w)
	}
	return nil
}

// watch wakes a parked branch while the execution is in memory.
func (d *durableRun) watch(ctx context.Context, p *parked) {
	if !p.until.IsZero() {
		t := time.AfterFunc(p.until.Sub(d.e.c.now()), func() { d.wake(p) })
		context.AfterFunc(ctx, func() { t.Stop() })
	}
	run := p.child
	if p.entry.Seq > 0 {
		run = d.e.run.ID
	}
	if run == (store.ID{}) {
		return
	}
	d.goroutines.Go(func() {
		got, err := d.e.c.store.Await(ctx, run, store.Until{Entry: p.entry, Due: p.due})
		if err == nil || !errors.Is(err, context.Canceled) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if !p.awake && got.Entry != nil {
				p.got = *got.Entry
			}
			d.wakeLocked(p)
		}
	})
}

// park counts a branch as parked, unless a future that it waits for is done.
func (d *durableRun) park(p *parked) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range p.futures {
		if f.done {
			return false
		}
	}
	for _, f := range p.futures {
		f.waiting = append(f.waiting, p)
	}
	d.parked[p] = struct{}{}
	d.live--
	d.allParkedLocked()
	return true
}

// allParkedLocked releases the slots if all branches are parked, and leaves memory a little
// later.
func (d *durableRun) allParkedLocked() {
	if d.live > 0 || d.unwinding() {
		return
	}
	if d.atInterrupt > 0 {
		d.e.interruptNow()
		return
	}
	if !d.e.def.cfg.holdSlots {
		d.e.w.slots.Release(&d.e.slots)
	}
	d.e.stopClock()
	stay := d.stayLocked()
	if stay <= 0 {
		d.suspendLocked()
		return
	}
	d.linger = time.AfterFunc(stay, d.suspend)
}

func (d *durableRun) suspend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.suspendLocked()
}

func (d *durableRun) suspendLocked() {
	if d.live > 0 || d.unwinding() || d.e.ctx.Err() != nil && !d.e.w.draining() {
		return
	}
	d.suspended = true
	d.unwindLocked()
}

// wake counts a parked branch as live again.
func (d *durableRun) wake(p *parked) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wakeLocked(p)
}

func (d *durableRun) wakeLocked(p *parked) {
	if p.awake || d.unwinding() {
		return
	}
	p.awake = true
	delete(d.parked, p)
	d.live++
	if d.linger != nil {
		d.linger.Stop()
		d.linger = nil
	}
	close(p.woken)
}

// finish waits for what the execution started, once its handler has returned or is unwound,
// and returns the outcome of the run if that is not what the handler returned.
func (d *durableRun) finish(done bool, err error) (o *store.Outcome) {
	d.mu.Lock()
	d.handlerReturned = true
	if d.linger != nil {
		d.linger.Stop()
	}
	if done && err == nil && d.divergence == nil {
		left := d.root.cursor.End()
		if left == nil {
			left = d.tape.End()
		}
		d.divergence = locateFunc(left, d.e.def.fn)
	}
	d.unwindLocked()
	suspended, interrupted, divergence := d.suspended, d.branchInterrupted, d.divergence
	d.mu.Unlock()
	if done {
		d.e.cancel(nil) // for branches that the handler left behind
	}
	d.goroutines.Wait()
	d.waiters.Wait()
	switch {
	case divergence != nil:
		return d.blockedOutcome(divergence, err)
	case suspended && interrupted:
		return d.e.requeued()
	case suspended:
		out := d.e.newOutcome(store.Waiting)
		out.Waits, out.Spent = d.waits(), d.e.spent()
		return &out
	}
	return nil
}

func refusedInPanic(kind, name string) error {
	return fmt.Errorf("%w: %s %q in a deferred function that a panic has called: make it after that has returned", ErrDurable, kind, name)
}
