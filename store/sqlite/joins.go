package sqlite

import "github.com/stint-dev/stint/store/internal/workflow"

// A joinKey is a place in a workflow's run that has several parents.
type joinKey struct {
	run   int64
	place int
}

// A join is how the parents of a place have ended, in a transaction that has read it.
type join struct {
	all   workflow.JoinState
	since workflow.JoinState // what is not stored yet; Ended 0: nothing
}

// joins are those of the transaction. The first end of a parent stores it, and reads the sum by the same statement. Further ones are
// only added here, and are stored with the transaction: of a graph with 10,000 tasks side by side, a commit ends 100 or so of one join.
type joins map[joinKey]*join

const (
	joinSQL = `INSERT INTO stint_joins (run, place, ended, flags, cause) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET ended = ended + excluded.ended, flags = flags | excluded.flags, cause = coalesce(cause, excluded.cause)
RETURNING ended, flags, coalesce(cause, -1)`

	joinRan, joinFailed, joinCanceled = 1, 2, 4
)

// ParentEnded implements workflow.Rows.
func (ws *workflows) ParentEnded(run int64, place int, a workflow.JoinState) (workflow.JoinState, error) {
	key := joinKey{run, place}
	if j := ws.joins[key]; j != nil {
		if j.all = j.all.Join(a); j.since.Ended == 0 {
			j.since = a
		} else {
			j.since = j.since.Join(a)
		}
		return j.all, nil
	}
	all, err := ws.storeJoin(key, a)
	if err != nil {
		return all, err
	}
	if ws.joins == nil {
		ws.joins = joins{}
	}
	ws.joins[key] = &join{all: all}
	return all, nil
}

// storeJoin adds a to the stored JoinState of a place, and returns the sum.
func (ws *workflows) storeJoin(key joinKey, a workflow.JoinState) (workflow.JoinState, error) {
	flags := 0
	if a.Ran {
		flags |= joinRan
	}
	if a.Failed {
		flags |= joinFailed
	}
	if a.Canceled {
		flags |= joinCanceled
	}
	var cause any
	if a.Cause >= 0 {
		cause = a.Cause
	}
	err := ws.one(joinSQL, []any{key.run, key.place, a.Ended, flags, cause}, &a.Ended, &flags, &a.Cause)
	a.Ran, a.Failed, a.Canceled = flags&joinRan != 0, flags&joinFailed != 0, flags&joinCanceled != 0
	return a, err
}

// flushJoins stores what was only added in memory, and forgets all: others may delete rows then.
func (ws *workflows) flushJoins() error {
	for key, j := range ws.joins {
		if j.since.Ended > 0 {
			if _, err := ws.storeJoin(key, j.since); err != nil {
				return err
			}
		}
	}
	clear(ws.joins)
	return nil
}

// DropJoins implements workflow.Rows.
func (ws *workflows) DropJoins(run int64) error {
	if err := ws.flushJoins(); err != nil {
		return err
	}
	return ws.exec("DELETE FROM stint_joins WHERE run = ?", run)
}
