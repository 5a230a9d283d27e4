package sqlite

import (
	"database/sql"
	"errors"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// A nodeRow is the run of a workflow's task, to be inserted.
type nodeRow struct {
	state store.State
	due   int64
	error any
	flags int
}

func (r *nodeRow) decided(d store.Decision, now int64) {
	r.state, r.due = d.To, now
	switch {
	case d.To == store.Blocked:
		r.error = failureText(store.KindCondition, d.Reason)
	case d.To == store.Canceled:
		r.error = failureText("canceled", "its cancel condition held")
	case d.To == store.Waiting && d.Next.IsZero():
		r.due = 0
	case d.To == store.Waiting:
		r.due = ceilMillis(d.Next)
	}
}

const (
	nodeHead    = "INSERT INTO stint_runs (id, lane, state, priority, rank, parent, root, node) VALUES "
	nodeFullSQL = `INSERT INTO stint_runs (id, lane, state, priority, rank, parent, root, node, due_at, start_by, start_in, ended_at,
  error, flags, limits, limiter, attempt, replayed)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?17,?17)`
)

// insert creates the run of a task. Plain ones are inserted together, at the end of the change that
// creates them.
func (f *workflowRun) insert(place int, r nodeRow) error {
	u := f.u
	lane, err := u.workflows.nodeLane(f.Graph, place, f.key)
	if err != nil {
		return err
	}
	priority := f.priority
	var startBy, dueAt, endedAt any
	if place < len(f.Tasks) {
		if p := f.Tasks[place].Priority; p != nil {
			priority = int64(*p)
		}
		if in := lifecycle.StartIn(f.Tasks[place].StartIn); in > 0 && r.state == store.Queued {
			at := f.now + in
			startBy = at
			u.timers.add(at)
		}
	}
	key := u.nextKey(f.now)
	rank := store.Rank(max(r.due, keys.CreatedAt(key)), int8(priority), f.AgeEvery)
	node := f.node | int64(place)
	text, limits, err := f.taskLimits(place)
	if err != nil {
		return err
	}
	attempts, err := f.attempts(place)
	if err != nil {
		return err
	}
	if r.state == store.Queued && startBy == nil && r.flags == 0 && text == nil && attempts == 0 {
		return u.workflows.nodes.add(u, key, lane, priority, rank, f.key, f.root, node)
	}
	if r.state == store.Waiting && r.due > 0 {
		dueAt = r.due
		u.timers.add(r.due)
	}
	if r.state.Terminal() {
		endedAt = f.now
	}
	if err := u.workflows.nodes.flush(u); err != nil {
		return err
	}
	var limiter any
	if text != nil && r.state == store.Queued {
		if limiter, err = u.limiters.admitNewRun(f.key, limits, false); err != nil { // the parent's end must not fail
			r.state, r.error = store.Blocked, failureText(store.KindCondition, err.Error())
		}
	}
	return u.exec(nodeFullSQL, key, lane, int64(r.state), priority, rank, f.key, f.root, node, dueAt, startBy,
		nullable(lifecycle.StartIn(f.StartIn(place))), endedAt, r.error, r.flags, text, limiter, attempts)
}

// attempts returns how many attempts a task had made before its workflow was replayed.
func (f *workflowRun) attempts(place int) (n int64, err error) {
	if !f.replayed {
		return 0, nil
	}
	err = f.u.one("SELECT attempts FROM stint_remade WHERE run = ? AND place = ?", []any{f.key, place}, &n)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return n, err
}
