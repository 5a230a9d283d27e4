package lifecycle

import "github.com/stint-dev/stint/store"

// Cancel cancels a run and those of its descendants that are not detached. A run that executes is
// asked to cancel, and one that has something to clean up is queued for that; others end. It
// reports whether it has changed the run.
func Cancel(rows Rows, key, now int64, reason []byte) (bool, error) {
	r, err := rows.Run(key)
	if err != nil || r == nil || !r.cancel(now, reason) {
		return false, err
	}
	if err := rows.Write(r); err != nil {
		return false, err
	}
	if r.State == store.Running {
		rows.Interrupt(r)
	}
	children, err := rows.Children(key)
	if err != nil {
		return false, err
	}
	for _, child := range children {
		if _, err := Cancel(rows, child, now, reason); err != nil {
			return false, err
		}
	}
	if !r.State.Terminal() {
		return true, nil
	}
	rows.Ended(key)
	if !r.IsTask() {
		return true, nil
	}
	if err := rows.DropWaits(key); err != nil {
		return false, err
	}
	return true, rows.Advance(r.Parent, r.Node, store.Canceled, now)
}

// cancel changes a run that is to be canceled, and reports whether there was anything to change.
func (r *Run) cancel(now int64, reason []byte) bool {
	asked := r.CancelAt != 0
	switch {
	case r.State.Terminal(), asked && r.State != store.Blocked:
		return false
	case r.State == store.Running:
		r.CancelAt, r.Error = now, reason
	case r.Lease != 0 && !asked && (r.Undo || r.Journal && r.State != store.Blocked): // it cleans up
		r.State, r.CancelAt, r.Error = store.Queued, now, reason
		r.SetDue(now)
	default:
		r.End(store.Canceled, now, reason)
	}
	return true
}
