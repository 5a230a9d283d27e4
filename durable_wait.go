package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/store"
)

// Fired says which conditions made a wait end. It has their names (see Named), and what came with
// each, as JSON: the payload of an event, the output of ParentOutput's task, and null for a sleep,
// AnyOf and AllOf.
//
// For AnyOf it has the member that was true first; if several were at the same instant, the one
// that was given first. For AllOf it has all members. If conditions that fired share a name, it
// has the first.
type Fired map[string]json.RawMessage

// Decode decodes into v what came with the condition of that name. The error is ErrNotFound if the
// condition did not fire.
func (f Fired) Decode(name string, v any) error {
	b, ok := f[name]
	if !ok {
		return fmt.Errorf("%w: no condition %q fired", ErrNotFound, name)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return errorf("stint: what fired as %q: %w", name, err)
	}
	return nil
}

// WaitFor waits until the condition is true, and returns what made it true. The condition is
// made of SleepFor and UserEvent, joined with AllOf and AnyOf; ParentOutput is an error.
//
// Its events are those published since the run was enqueued, each for one call only: those that
// are not in Fired are left for other calls. FromNow restricts all events of the condition.
// With WithWaitTimeout it returns ErrTimeout if the condition was not true in time. Sleeps and
// the timeout count from the call, and are not started anew by a crash or a restart: the first
// to be true decides, also while no worker runs. A run that waits occupies no slot and, after a
// moment, no goroutine and no memory.
//
// Code that runs again must wait for a condition with the same names, in the same order.
//
// Outside of a run it returns ErrDurable.
func WaitFor(ctx context.Context, cond Condition, opts ...WaitOption) (Fired, error) {
	return withWait(ctx, "WaitFor", &cond, opts, func(sc *scope, e *store.Entry) (Fired, error) {
		if err := sc.awaitEntry(ctx, e); err != nil {
			return nil, err
		}
		return sc.fired(e)
	})
}

// withWait begins a wait for a call of that name, and returns what f makes of its entry.
func withWait[T any](ctx context.Context, call string, cond *Condition, opts []WaitOption,
	f func(*scope, *store.Entry) (T, error),
) (out T, err error) {
	name := cond.String()
	sc, err := enter(ctx, store.EntryWait, name)
	if sc == nil {
		if err == nil {
			err = fmt.Errorf("%w: %s outside of a run", ErrDurable, call)
		}
		return out, err
	}
	defer sc.leave()
	w, err := cond.wait(sc.e.c, opts)
	if err != nil {
		return out, errorf("stint: wait for %q: %w", name, err)
	}
	e, err := sc.beginWait(ctx, name, w)
	if err != nil {
		return out, err
	}
	return f(sc, &e)
}

// A conditionWait is what a call of WaitFor waits for.
type conditionWait struct {
	store.Wait
	timeout time.Duration
}

// wait returns what WaitFor waits for with the options.
func (c *Condition) wait(client *Client, opts []WaitOption) (w conditionWait, err error) {
	var cfg waitConfig
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o.applyWait(&cfg); err != nil {
			return w, err
		}
	}
	if cfg.Field != "" || cfg.Filter != "" || cfg.scope != "" || cfg.Since != 0 {
		return w, errors.New("WithMatch, WithFilter, WithScope and PublishedSince are for one event: give them to UserEvent")
	}
	if c.err != nil {
		return w, c.err
	}
	w.timeout = cfg.timeout
	w.Cond, err = c.build(client, func(*Condition, *store.Condition) error {
		return errors.New("ParentOutput is for the tasks of workflows")
	})
	if err != nil {
		return w, err
	}
	leaves := w.Cond.Leaves()
	if err := check.Count("conditions", len(leaves), check.MaxNames); err != nil {
		return w, err
	}
	for _, l := range leaves {
		if l.Event != nil {
			e := *l.Event
			e.FromNow = e.FromNow || cfg.FromNow && e.Since == 0
			l.Event = &e
		}
	}
	return w, nil
}

// beginWait returns the entry of a wait, which it records unless it is recorded.
func (sc *scope) beginWait(ctx context.Context, name string, w conditionWait) (e store.Entry, err error) {
	e, recorded, err := sc.next(store.EntryWait, name)
	if err != nil {
		return e, err
	}
	if recorded {
		if e.Done && sc.e.afterInterrupt(e.At) && ctx.Err() != nil {
			return e, sc.refuseNew(ctx)
		}
		return e, nil
	}
	if err := sc.refuseNew(ctx); err != nil {
		return e, err
	}
	if w.timeout > 0 {
		w.Until = clock.CeilMillis(clock.Add(sc.e.c.now(), w.timeout))
		w.Late = encodeFailure(fmt.Errorf("%w: not %s in %v", ErrTimeout, name, w.timeout))
	}
	if e.Value, err = json.Marshal(&w.Wait); err != nil {
		return e, err
	}
	return sc.append(ctx, e)
}

// awaitEntry waits until the entry of a wait is done. It returns the entry's own error too.
func (sc *scope) awaitEntry(ctx context.Context, e *store.Entry) error {
	for !e.Done {
		if err := sc.wait(ctx, waitSpec{until: e.Due, entry: e.Address, due: e.Due, into: e}); err != nil {
			return err
		}
		if e.Done {
			break
		}
		stored, err := sc.append(ctx, *e) // the store decides whether it is over
		if err != nil {
			return err
		}
		*e = stored
	}
	return sc.errorOf(e)
}

// fired returns what made a wait end.
func (sc *scope) fired(e *store.Entry) (f Fired, err error) {
	if err := json.Unmarshal(e.Value, &f); err != nil || f == nil {
		sc.diverge(fmt.Errorf("entry %v, wait %q: what is recorded is not what fired: %.100q", journal.Address(e.Address), e.Name, e.Value))
	}
	return f, nil
}

// stayLocked returns how long the execution, all of whose branches wait, stays in memory.
func (d *durableRun) stayLocked() time.Duration {
	stay := d.e.w.lingerTime()
	if own := d.e.def.cfg.linger; own != nil && !d.e.w.draining() {
		stay = *own
	}
	soonest, others := d.soonestWaitLocked()
	switch {
	case !others && !soonest.IsZero() && soonest.Sub(d.e.c.now()) > stay:
		return 0
	case d.e.run.Crashes >= store.SuspectCrashes: // other suspects wait until this one is gone
		return 0
	}
	for p := range d.parked {
		if p.suspends {
			return 0
		}
	}
	return stay
}

// lingerTime returns how long an execution that waits stays in memory.
func (w *Worker) lingerTime() time.Duration {
	if w.c.cfg.maxResident == 0 || w.draining() {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.running)-w.slots.Holding() > w.c.cfg.maxResident {
		return 0
	}
	return lingerFor
}

// soonestWaitLocked returns the soonest time that a branch waits for, and whether any branch
// waits for something else.
func (d *durableRun) soonestWaitLocked() (soonest time.Time, others bool) {
	for p := range d.parked {
		if !p.until.IsZero() && (soonest.IsZero() || p.until.Before(soonest)) {
			soonest = p.until
		}
		others = others || p.entry.Seq > 0 || p.child != (store.ID{}) || p.suspends
		for f := range d.waitsOfLocked(p) {
			if due := f.entry.Due; !due.IsZero() && (soonest.IsZero() || due.Before(soonest)) {
				soonest = due
			}
			others = true
		}
	}
	return soonest, others
}

// waitsOfLocked yields the waits of StartWait that a parked branch waits for.
func (d *durableRun) waitsOfLocked(p *parked) iter.Seq[*future] {
	return func(yield func(*future) bool) {
		if p.suspends {
			maps.Keys(d.openWaits)(yield)
			return
		}
		for _, f := range p.futures {
			if f.isWait && !yield(f) {
				return
			}
		}
	}
}

// waits returns what a suspended execution waits for.
func (d *durableRun) waits() (w store.Waits) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w.Until, _ = d.soonestWaitLocked()
	for p := range d.parked {
		if p.entry.Seq > 0 {
			w.Entries = append(w.Entries, p.entry)
		}
		if p.child != (store.ID{}) {
			w.Children = append(w.Children, p.child)
		}
		w.Children = append(w.Children, p.children...)
		for f := range d.waitsOfLocked(p) {
			w.Entries = append(w.Entries, f.entry.Address)
		}
	}
	return w
}

// What follows is for code that drives a run for a program elsewhere, such as a gateway: it begins calls
// one after another, has many of them open, and does not block in any. Handlers in Go have no need of it.

// StartWait begins what WaitFor does, and returns once the wait is recorded. The future ends when
// the condition is true, or with ErrTimeout. A run may end before its waits do. Future.Wait and
// Any take such futures from several branches as they take branches.
func StartWait(ctx context.Context, cond Condition, opts ...WaitOption) (*Future[Fired], error) {
	return withWait(ctx, "StartWait", &cond, opts, func(sc *scope, e *store.Entry) (*Future[Fired], error) {
		if !e.Done && !e.Due.IsZero() && !sc.e.c.now().Before(e.Due) { // it came while the run was not in memory
			stored, err := sc.append(ctx, *e)
			if err != nil {
				return nil, err
			}
			*e = stored
		}
		return &Future[Fired]{f: sc.openWait(*e), decode: (*scope).fired}, nil
	})
}

// openWait returns the future of a wait that is recorded.
func (sc *scope) openWait(e store.Entry) *future {
	d := sc.e.durable
	f := &future{sc: sc, entry: e, isWait: true, ended: make(chan struct{})}
	if e.Done {
		f.done, f.err = true, sc.errorOf(&e)
		close(f.ended)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.openWaits == nil {
		d.openWaits = map[*future]struct{}{}
	}
	d.openWaits[f] = struct{}{}
	if e.Done {
		return f
	}
	if sc.e.replay != nil || d.unwinding() {
		return f
	}
	if d.waitCtx == nil {
		d.waitCtx, d.stopWaits = context.WithCancel(context.WithoutCancel(sc.e.ctx))
	}
	ctx := d.waitCtx
	d.waiters.Go(func() { f.followWait(ctx, e) })
	return f
}

// followWait ends the future of a wait when the wait is over, until ctx is done.
func (f *future) followWait(ctx context.Context, e store.Entry) {
	sc := f.sc
	for !e.Done {
		got, err := sc.awaitChange(ctx, &e)
		if ctx.Err() != nil {
			return
		}
		if err != nil || got == nil { // its time has come, or it is not known why it ended
			stored, stale, err := sc.record(ctx, e)
			if err != nil || stale { // the next durable call finds out
				return
			}
			got = &stored
		}
		e = *got
		d := sc.e.durable
		d.mu.Lock()
		f.entry = e
		if e.Done {
			f.endWaitLocked(e)
		}
		d.mu.Unlock()
	}
}

// awaitChange waits until the entry of a wait is done or due at another time. It returns nil
// when the time has come at which it is due.
func (sc *scope) awaitChange(ctx context.Context, e *store.Entry) (*store.Entry, error) {
	if !e.Due.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.Due.Sub(sc.e.c.now()))
		defer cancel()
	}
	got, err := sc.e.c.store.Await(ctx, sc.e.run.ID, store.Until{Entry: e.Address, Due: e.Due})
	return got.Entry, err
}

func (f *future) endWaitLocked(e store.Entry) {
	d := f.sc.e.durable
	f.entry, f.done, f.err = e, true, f.sc.errorOf(&e)
	close(f.ended)
	for _, p := range f.waiting {
		d.wakeLocked(p)
	}
}

// sawWait notes that the handler has seen the end of a wait.
func (d *durableRun) sawWait(f *future) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.openWaits, f)
}

// Done returns a channel that is closed when the future of StartWait has ended. It is for code
// that drives a run for another program. What a handler does next must not depend on it: a handler
// in Go calls Wait or Any. For a branch it returns nil.
func (f *Future[T]) Done() <-chan struct{} {
	if f == nil || f.f == nil {
		return nil
	}
	return f.f.ended
}

// Suspend makes the run leave memory at once, without its linger time (WithLinger), as soon as all
// other branches wait too. The handler runs again from the top when one of these happens:
// something that another branch waits for comes; a wait of StartWait ends whose Future.Wait has
// not returned; or one of the named runs ends.
//
// Suspend never returns nil. It returns why the context is done, or ErrDurable if nothing would
// make the handler run again. Outside of a run it returns ErrDurable.
func Suspend(ctx context.Context, runIDs ...string) error {
	sc, err := enter(ctx, store.EntryWait, "suspend")
	if sc == nil {
		if err == nil {
			err = fmt.Errorf("%w: Suspend outside of a run", ErrDurable)
		}
		return err
	}
	defer sc.leave()
	w := waitSpec{suspends: true}
	if err := check.Count("runs", len(runIDs), check.MaxIDs); err != nil {
		return errorf("stint: suspend: %w", err)
	}
	for _, text := range runIDs {
		id, err := parseID(text)
		if err != nil {
			return err
		}
		w.children = append(w.children, id)
	}
	d := sc.e.durable
	d.mu.Lock()
	alone := len(w.children)+len(d.openWaits)+len(d.parked) == 0 && d.live == 1
	d.mu.Unlock()
	if alone {
		return fmt.Errorf("%w: Suspend while nothing is waited for", ErrDurable)
	}
	if err := sc.wait(ctx, w); err != nil {
		return err
	}
	if d.unwinding() {
		runtime.Goexit()
	}
	return nil
}

// An OpenStep is a step whose result comes from elsewhere: StartStep has begun it.
type OpenStep struct {
	sc    *scope
	entry store.Entry // guarded by durableRun.mu
}

// StartStep begins a step, and returns once that is recorded. Complete records its result. If
// the handler runs again before that, the step is open again.
func StartStep(ctx context.Context, name string) (*OpenStep, error) {
	sc, err := enter(ctx, store.EntryStep, name)
	if sc == nil {
		if err == nil {
			err = fmt.Errorf("%w: StartStep outside of a run", ErrDurable)
		}
		return nil, err
	}
	defer sc.leave()
	e, recorded, err := sc.next(store.EntryStep, name)
	if err != nil {
		return nil, err
	}
	if !recorded {
		if err := sc.refuseNew(ctx); err != nil {
			return nil, err
		}
		if e, err = sc.append(ctx, e); err != nil {
			return nil, err
		}
	}
	return &OpenStep{sc: sc, entry: e}, nil
}

// Result returns the step's result, which is JSON. It returns false if the step has none yet.
func (s *OpenStep) Result() (json.RawMessage, bool) {
	d := s.sc.e.durable
	d.mu.Lock()
	defer d.mu.Unlock()
	return s.entry.Value, s.entry.Done
}

// Complete records the step's result. If the step has one, that stays. Complete may be called
// in any goroutine, until the handler returns.
func (s *OpenStep) Complete(ctx context.Context, result json.RawMessage) error {
	if !json.Valid(result) {
		return fmt.Errorf("stint: result of step %q: want JSON", s.entry.Name)
	}
	if err := check.Size("result", len(result), s.sc.e.c.cfg.maxPayload); err != nil {
		return errorf("stint: result of step %q: %w", s.entry.Name, err)
	}
	d := s.sc.e.durable
	d.mu.Lock()
	e, over := s.entry, d.handlerReturned
	d.mu.Unlock()
	switch {
	case e.Done:
		return nil
	case over:
		return fmt.Errorf("%w: result of step %q after its handler has returned", ErrDurable, e.Name)
	}
	e.Done, e.Value = true, result
	stored, stale, err := s.sc.record(ctx, e)
	if err != nil {
		return err
	}
	if stale {
		return errors.Join(fmt.Errorf("stint: result of step %q: %w", e.Name, errLost))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.entry = stored
	return nil
}
