// Package event decides what an event does: which runs its triggers start, and which runs that
// wait for it go on.
//
// It has no SQL, no clock and no goroutine: it reads and changes events, triggers and waits by
// Rows, which a store implements in a transaction.
package event

import (
	"fmt"

	"github.com/stint-dev/stint/store"
)

// Publish stores an event and does what follows from it, unless it was delivered before. now is in
// milliseconds. found are the event's candidates; nil: they are not known.
func Publish(r Rows, now int64, e *store.NewEvent, found *Candidates) (event int64, err error) {
	event, first, err := insert(r, now, e, false)
	if err != nil || !first {
		return event, err
	}
	return event, newDelivery(r, now, event, e).deliver(found)
}

// PublishLater stores an event that is pending, unless it was delivered before.
func PublishLater(r Rows, now int64, e *store.NewEvent) (event int64, err error) {
	event, _, err = insert(r, now, e, true)
	return event, err
}

// PublishPending does what follows from an event that is pending. Runs that read the stored events
// may have had it.
func PublishPending(r Rows, now, event int64, e *store.NewEvent) error {
	if pending, err := r.Take(event); err != nil || !pending {
		return err
	}
	d := newDelivery(r, now, event, e)
	d.late = true
	return d.deliver(nil)
}

func insert(r Rows, now int64, e *store.NewEvent, pending bool) (event int64, first bool, err error) {
	if e.Delivery != "" {
		if event, err = r.Delivered(e.Delivery); err != nil || event != 0 {
			return event, false, err
		}
	}
	event, err = r.Insert(now, e, pending)
	return event, true, err
}

// A delivery is an event that is stored.
type delivery struct {
	r     Rows
	now   int64
	event int64
	*store.NewEvent
	late bool // runs may have had it
}

func newDelivery(r Rows, now, event int64, e *store.NewEvent) *delivery {
	e.Stored = r.ID(event)
	return &delivery{r: r, now: now, event: event, NewEvent: e}
}

// deliver starts the runs of the event's triggers, and resolves the waits for it: first those of
// tasks, then those of durable calls. A run that the event starts may wait for it at once, so found,
// which was read before, is used only if the event starts none.
func (d *delivery) deliver(found *Candidates) error {
	started, err := d.trigger()
	if err != nil {
		return err
	}
	if found == nil || started {
		if found, err = candidates(d.r, d.NewEvent); err != nil {
			return err
		}
	}
	if !found.some {
		d.r.SetNoWaiters(d.Key)
		return nil
	}
	if err := d.resolve(Conditions, found.conditions); err != nil {
		return err
	}
	return d.resolve(Calls, found.calls)
}

// trigger starts the runs of the event's triggers, and reports whether there are any.
func (d *delivery) trigger() (started bool, err error) {
	exact, wild, err := d.r.Triggers(d.Key)
	if err != nil {
		return false, err
	}
	for _, list := range [...][]store.Trigger{exact, wild} {
		for i := range list {
			some, err := d.startBy(&list[i])
			if err != nil {
				return false, err
			}
			started = started || some
		}
	}
	return started, nil
}

// startBy starts the runs of a trigger, and reports whether there are any.
func (d *delivery) startBy(tr *store.Trigger) (started bool, err error) {
	if !matches(tr, d.Key) {
		return false, nil
	}
	filters, err := d.r.Filters(tr.Template.Run.Task)
	if err != nil {
		return false, err
	}
	runs, err := tr.RunsOf(d.NewEvent, filters)
	if err != nil {
		return false, err
	}
	for i := range runs {
		if err := d.r.Start(d.now, d.event, &runs[i]); err != nil {
			return false, fmt.Errorf("start of task %q by the event: %w", runs[i].Task, err)
		}
	}
	return len(runs) > 0, nil
}

// matches reports whether a trigger is for events with a key.
func matches(tr *store.Trigger, key string) bool { return tr.Key == key || store.MatchKey(tr.Key, key) }

// resolve gives the event to those of the candidates whose filter it passes. What waited is decided again only when
// all have it: one may wait by several matches.
func (d *delivery) resolve(kind Kind, found []store.Match) error {
	var waiters []Waiter
	for i := range found {
		m := &found[i]
		if ok, err := m.Passes(d.NewEvent); err != nil {
			return err
		} else if !ok {
			continue
		}
		runs, err := d.r.Resolve(kind, d.now, d.event, d.Payload, m, d.late)
		if err != nil {
			return err
		}
		waiters = append(waiters, runs...)
	}
	for _, w := range waiters {
		if err := d.r.Wake(kind, d.now, d.event, w); err != nil {
			return err
		}
	}
	return nil
}
