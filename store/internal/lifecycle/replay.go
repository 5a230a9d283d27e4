package lifecycle

import (
	"fmt"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
)

// Replay queues a run that has ended or is blocked. A workflow is replayed as a whole, also if one
// of its tasks was selected, which must have ended; a blocked task alone is queued. whole
// is as Action.Whole. It reports whether it has changed something.
func Replay(rows Rows, key, now int64, whole bool) (bool, error) {
	r, err := rows.Run(key)
	switch {
	case err != nil || r == nil || !r.State.Terminal() && r.State != store.Blocked:
		return false, err
	case r.Workflow:
		return true, rows.ReplayWorkflow(key, r.Node, now, whole)
	case r.IsTask() && r.State != store.Blocked:
		p, err := rows.Run(r.Parent)
		if err == nil && p == nil {
			err = fmt.Errorf("run %s is of a workflow run: %w", rows.ID(key), store.ErrNotFound)
		}
		if err != nil || !p.State.Terminal() {
			return false, err
		}
		return true, rows.ReplayWorkflow(p.Key, p.Node, now, whole)
	}
	return true, Requeue(rows, r, now)
}

// Requeue queues a run for a new attempt, and keeps the last one with the earlier ones. The new
// attempt may have to undo again what was undone.
func Requeue(rows Rows, r *Run, now int64) error {
	if r.Lease != 0 {
		ended := r.Ended
		if ended == 0 {
			ended = now
		}
		if err := rows.KeepAttempt(r, r.State, ended, r.Error); err != nil {
			return err
		}
	}
	r.requeue(now)
	if err := rows.Write(r); err != nil {
		return err
	}
	if r.StartBy > 0 {
		rows.WakeAt(r.StartBy)
	}
	if err := rows.ResetUndo(r.Key); err != nil {
		return err
	}
	return rows.MoveLane(r, false)
}

// requeue changes a run that begins anew. Its attempts go on counting.
func (r *Run) requeue(now int64) {
	r.State, r.Ended, r.CancelAt, r.Resumed = store.Queued, 0, 0, false
	r.Replayed, r.Crashes, r.Spent = r.Attempt, 0, 0
	r.Output, r.Error = nil, nil
	r.SetDue(now)
	r.SetStartBy(now)
}

// ChangeRun makes a change of one run, and sets its answer.
func ChangeRun(rows Rows, now int64, c *store.RunChange) (err error) {
	switch c.Kind {
	case store.RunRestart:
		return restart(rows, c.ID, c.At, now)
	case store.RunFork:
		c.Fork, err = fork(rows, c.ID, c.At, now)
		return err
	case store.RunWake:
		return wake(rows, c.ID, now)
	}
	return reschedule(rows, c.ID, max(clock.CeilMillis(c.Due), now))
}

// restart queues a run that has ended or is blocked for an attempt that replays what was recorded
// before an address. Steps from there on that may be called once only may be called once more: somebody asked for it.
func restart(rows Rows, id store.ID, at store.Address, now int64) error {
	r, err := runOf(rows, id)
	if err == nil && (r.Workflow || !r.State.Terminal() && r.State != store.Blocked) {
		err = errNotEnded(id)
	}
	if err != nil {
		return err
	}
	for _, from := range []store.Address{at, {Scope: store.OnceScope, Seq: at.Seq}} {
		if err := rows.Forget(r.Key, from); err != nil {
			return err
		}
	}
	return Requeue(rows, r, now)
}

// fork enqueues a copy of a run, with what that had completed before an address.
func fork(rows Rows, id store.ID, at store.Address, now int64) (store.ID, error) {
	r, err := runOf(rows, id)
	if err == nil && r.Node != 0 {
		err = errNotEnded(id)
	}
	if err != nil {
		return store.ID{}, err
	}
	f := r.fork(rows.NextKey(now))
	if f.StartBy > 0 {
		rows.WakeAt(f.StartBy)
	}
	if err := rows.Copy(r, &f, at); err != nil {
		return store.ID{}, err
	}
	return rows.ID(f.Key), rows.ResetUndo(f.Key)
}

// reschedule changes when a scheduled run is due.
func reschedule(rows Rows, id store.ID, due int64) error {
	key, ok := rows.Key(id)
	if !ok {
		return store.ErrNotFound
	}
	r, err := rows.Run(key)
	switch {
	case err != nil:
		return err
	case r == nil:
		return store.ErrNotFound
	case r.State != store.Scheduled || r.Lease != 0:
		return fmt.Errorf("it is %v: %w", r.State, store.ErrStarted)
	}
	r.SetDue(due)
	r.SetStartBy(due)
	rows.WakeAt(due)
	return rows.Write(r)
}

// wake queues a run that waits, and has left memory.
func wake(rows Rows, id store.ID, now int64) error {
	none := fmt.Errorf("%w, or it does not wait", store.ErrNotFound)
	key, ok := rows.Key(id)
	if !ok {
		return none
	}
	r, err := rows.Run(key)
	switch {
	case err != nil:
		return err
	case r == nil || r.State != store.Waiting || r.Lease == 0:
		return none
	}
	return rows.Resume(key, now)
}

// MoveQueue moves a run that waits to another queue. It reports whether it has.
func MoveQueue(rows Rows, key int64, queue string) (bool, error) {
	r, err := rows.Run(key)
	if err != nil || r == nil || r.Workflow || r.State.Terminal() || r.State == store.Running {
		return false, err
	}
	return rows.MoveQueue(r, queue)
}

// fork returns the row of a run that copies r, and replays a journal at its first execution.
func (r *Run) fork(key int64) Run {
	f := Run{Key: key, Lane: r.Lane, State: store.Queued, StartIn: r.StartIn, Detached: r.Detached, Forked: true, Limited: r.Limited}
	f.Rank = r.Rank - r.DueAt() + f.DueAt()
	f.SetStartBy(f.DueAt())
	return f
}

// runOf returns the run with an ID.
func runOf(rows Rows, id store.ID) (*Run, error) {
	key, ok := rows.Key(id)
	if !ok {
		return nil, errNotEnded(id)
	}
	r, err := rows.Run(key)
	if err == nil && r == nil {
		err = errNotEnded(id)
	}
	return r, err
}

func errNotEnded(id store.ID) error {
	return fmt.Errorf("run %s: %w, or it has not ended", id, store.ErrNotFound)
}
