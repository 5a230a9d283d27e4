package stint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/internal/text"
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

// Named gives a condition the name under which Fired has it. Without Named, an event has its key
// as name, a sleep is "sleep", and ParentOutput has the name of its task. AnyOf and AllOf without
// a name are not in Fired.
func Named(name string, cond Condition) Condition {
	if err := check.Name("name", name); err != nil && cond.err == nil {
		cond.err = fmt.Errorf("Named: %w", err)
	}
	cond.name = name
	return cond
}

// String describes the condition by the names of what it is made of, such as
// "any(approved, all(paid, sleep))". If that is longer than 255 bytes, its end is a hash. It is
// the JournalEntry.Name of a WaitFor with the condition.
func (c Condition) String() string {
	s := c.text()
	if len(s) <= check.MaxName {
		return s
	}
	h := sha256.Sum256([]byte(s))
	return text.Cut(s, check.MaxName-40) + " " + hex.EncodeToString(h[:8])
}

func (c *Condition) text() string {
	list, kind := c.any, "any"
	if c.all != nil {
		list, kind = c.all, "all"
	}
	if list == nil {
		return c.leafName()
	}
	words := make([]string, len(list))
	for i := range list {
		words[i] = list[i].text()
	}
	return c.name + kind + "(" + strings.Join(words, ", ") + ")"
}

func (c *Condition) leafName() string {
	switch {
	case c.name != "":
		return c.name
	case c.event != nil:
		return c.event.Key
	case c.test != nil:
		return c.test.on.name
	}
	return store.SleepName
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
	w, err := cond.wait(opts)
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
func (c *Condition) wait(opts []WaitOption) (w conditionWait, err error) {
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
	w.Cond, err = c.build(func(*Condition, *store.Condition) error {
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
