package lifecycle

import "github.com/stint-dev/stint/store"

// Act does an action to a run, and reports whether it has changed it.
func Act(rows Rows, a *store.Action, key, now int64) (bool, error) {
	switch a.Kind {
	case store.ActCancel:
		return Cancel(rows, key, now, a.Reason)
	case store.ActReplay:
		return Replay(rows, key, now, a.Whole)
	case store.ActMoveQueue:
		return MoveQueue(rows, key, a.Queue)
	}
	return Delete(rows, key)
}

// Delete deletes a run that has ended, and reports whether it has. A workflow's task is deleted with its workflow's run, and
// the result of a run may be read again by its parent, unless that has ended.
func Delete(rows Rows, key int64) (bool, error) {
	r, err := rows.Run(key)
	if err != nil || r == nil || !r.State.Terminal() || r.IsTask() {
		return false, err
	}
	if r.Parent != 0 {
		if open, err := rows.Open(r.Parent); open || err != nil {
			return false, err
		}
	}
	return true, rows.Delete(key)
}
