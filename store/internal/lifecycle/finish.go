package lifecycle

import (
	"fmt"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
)

// A Change is what an outcome makes of a run that is running.
type Change struct {
	To       store.State
	Due      int64 // when it is due; 0: as before, or if it waits: no time
	Ended    int64
	Attempts int64 // added to the attempts
	Resumed  bool  // its handler goes on after a wait, which has used Spent of its time limit
	Spent    int64
	Keep     int64 // when the attempt ended, if it is kept with the earlier ones, with Error
	Output   []byte
	Error    []byte
}

// Apply changes a run that is running.
func (r *Run) Apply(c *Change) {
	r.State, r.Ended, r.Output = c.To, c.Ended, c.Output
	if c.Due != 0 || c.Resumed {
		r.SetDue(c.Due)
		r.Spent = c.Spent
	}
	r.Attempt += c.Attempts
	r.Resumed = r.Resumed || c.Resumed
	if c.Error != nil || c.To.Terminal() || c.To == store.Blocked {
		r.Error = c.Error
	}
}

// HeldBy reports whether a worker executes the run with that lease.
func (r *Run) HeldBy(lease store.Lease) bool { return r.State == store.Running && r.Lease == lease }

// Finish applies the outcome of an execution, and does what follows. It returns the state in which
// the run is by then; 0: the outcome is of an earlier execution, and changes nothing.
func Finish(rows Rows, key int64, o *store.Outcome, now int64) (store.State, error) {
	if err := rows.Record(key, o.Lease, &o.Record); err != nil {
		return 0, err
	}
	to, err := apply(rows, key, o, now)
	if err != nil || to == 0 {
		return 0, err
	}
	for _, at := range o.Forget { // after Waits were read
		if err := rows.Forget(key, at); err != nil {
			return 0, err
		}
	}
	if o.NoHandler && !to.Terminal() {
		if err := rows.MoveToTaskLane(key, o.Node); err != nil {
			return 0, err
		}
	}
	if len(o.Follow) > 0 {
		for i := range o.Follow {
			o.Follow[i].Parent = o.ID
		}
		err = rows.Follow(o.Follow, now)
	}
	return to, err
}

// apply changes the run, and does what follows from its end. It returns the state in which it is
// by then; 0: the outcome is of an earlier execution.
func apply(rows Rows, key int64, o *store.Outcome, now int64) (store.State, error) {
	c := outcome(o, now)
	if o.To == store.Waiting {
		if err := wait(rows, key, &o.Waits, &c, now); err != nil {
			return 0, err
		}
	}
	if c.To == store.Scheduled {
		rows.WakeAt(c.Due)
	}
	done, err := rows.Try(key, o.Lease, c)
	if err != nil {
		return 0, err
	}
	if !done {
		r, err := rows.Run(key)
		if err != nil || r == nil || !r.HeldBy(o.Lease) {
			return 0, err
		}
		r.canceled(o, &c, now)
		r.Apply(&c)
		if err := rows.Write(r); err != nil {
			return 0, err
		}
	}
	if !c.To.Terminal() {
		if o.To == store.Scheduled && !o.Uncounted {
			rows.Retried(o)
		}
		return c.To, nil
	}
	if !o.To.Terminal() {
		rows.Ended(key)
	} else if f, err := finished(key, o, c.To, now); err != nil {
		return 0, err
	} else if err := rows.Finished(o, f); err != nil {
		return 0, err
	}
	if o.Node == 0 {
		return c.To, nil
	}
	parent, ok := rows.Key(o.Parent)
	if !ok {
		return 0, fmt.Errorf("outcome of a task of workflow run %s: %w", o.Parent, store.ErrNotFound)
	}
	return c.To, rows.Advance(parent, o.Node, c.To, now)
}

// outcome returns what an outcome makes of a run that was not asked to cancel.
func outcome(o *store.Outcome, now int64) Change {
	uncounted := int64(0)
	if o.Uncounted {
		uncounted = -1
	}
	switch {
	case o.To.Terminal():
		return Change{To: o.To, Ended: now, Output: o.Output, Error: o.Error}
	case o.To == store.Waiting: // a wait is within an attempt: the next claim counts it again
		return Change{To: store.Waiting, Attempts: -1, Resumed: true, Spent: o.Spent.Milliseconds()}
	case o.To == store.Queued:
		return Change{To: store.Queued, Attempts: uncounted}
	case o.To == store.Blocked:
		return Change{To: store.Blocked, Attempts: uncounted, Error: o.Error}
	}
	c := Change{To: store.Scheduled, Due: clock.CeilMillis(o.At), Attempts: uncounted, Error: o.Error}
	if !o.Uncounted {
		c.Keep = now
	}
	if c.Due <= now {
		c.To, c.Due = store.Queued, now
	}
	return c
}

// wait completes the change of a run that comes to wait: if one of the things that it waits for is
// there, it is queued.
func wait(rows Rows, key int64, w *store.Waits, c *Change, now int64) error {
	over := false
	if !w.Until.IsZero() {
		c.Due = clock.CeilMillis(w.Until)
	}
	for _, a := range w.Entries {
		done, due, err := rows.EntryDone(key, a)
		if err != nil {
			return err
		}
		over = over || done
		if due != 0 && (c.Due == 0 || due < c.Due) { // an event has changed when it is due
			c.Due = due
		}
	}
	if c.Due != 0 {
		over = over || c.Due <= now
		rows.WakeAt(c.Due)
	}
	for _, id := range w.Children {
		open, child, err := isOpen(rows, id)
		if err != nil {
			return err
		}
		if over = over || !open; !over {
			if err := rows.AwaitChild(child, key); err != nil {
				return err
			}
		}
	}
	if over {
		c.To, c.Due = store.Queued, now
	}
	return nil
}

func isOpen(rows Rows, id store.ID) (open bool, key int64, err error) {
	key, ok := rows.Key(id)
	if ok {
		open, err = rows.Open(key)
	}
	return open, key, err
}

// canceled replaces c by the change for a run that was asked to cancel. It ends, whatever the
// outcome, once it has cleaned up: compensations must run in any case, and a handler that would
// have gone on gets to see the cancel.
func (r *Run) canceled(o *store.Outcome, c *Change, now int64) {
	cleansUp := r.Undo || r.Journal && !o.To.Terminal()
	switch {
	case o.To == store.Blocked && r.Undo: // they cannot be done here
	case o.To != store.Blocked && cleansUp: // once more, in the same attempt
		*c = Change{To: store.Queued, Due: now, Attempts: -1, Resumed: true, Spent: r.Spent}
	default:
		*c = Change{To: store.Canceled, Ended: now, Error: r.Error}
		if o.To.Terminal() {
			c.Output = o.Output
		}
	}
}
