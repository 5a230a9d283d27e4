package sqlite

import (
	"database/sql"
	"errors"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
	"github.com/stint-dev/stint/store/internal/ready"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// limiterRows implements limits.Rows.
type limiterRows struct{ *unit }

var (
	_ limits.Rows  = limiterRows{}
	_ limits.Named = limiterRows{}
)

// Now implements limits.Rows.
func (r limiterRows) Now() time.Time { return millis(r.now) }

// Limiter implements limits.Rows.
func (r limiterRows) Limiter(l *store.Limit) (*limits.Limiter, error) {
	lim, err := r.limiters.limiterOf(l)
	if err != nil {
		return nil, err
	}
	return &lim.Limiter, nil
}

// LimiterNamed implements limits.Named.
func (r limiterRows) LimiterNamed(k store.LimitKey) (*limits.Limiter, error) {
	lim, err := r.limiters.limiterNamed(limiterName{k.Rate(), k.Name, k.Key})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &lim.Limiter, nil
}

// LimiterByID implements limits.Rows.
func (r limiterRows) LimiterByID(id int64) (*limits.Limiter, error) {
	lim, err := r.limiters.limiterByID(id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &lim.Limiter, nil
}

// Changed implements limits.Rows.
func (r limiterRows) Changed(l *limits.Limiter) { r.limiters.touch(r.limiters.byID[l.ID]) }

// WakeAt implements limits.Rows.
func (r limiterRows) WakeAt(at int64) { r.timers.add(at) }

// Making a run ready, or changing the limiter that it waits for. If keys take turns, the run goes
// behind those of other keys whose turn came before.
const (
	setLimiterSQL = "UPDATE stint_runs SET limiter = ?2 WHERE id = ?1"

	turnSet = `UPDATE stint_runs SET limiter = ?4, rank = max(?2, ` + dueTime + `) - ` + dueTime + ` + rank,
  due_at = max(?2, ` + dueTime + `), turn = ?3 WHERE `
	nextTurnSQL = turnSet + "id = ?1"

	// onlyFirstSQL picks the first run that waits for a limiter, if all that wait for it are in one
	// lane and the run has no other limit, and is neither a workflow's nor resumed.
	onlyFirstSQL = `id = (SELECT id FROM stint_runs r WHERE limiter = ?1 AND ` + stateQueued + `
    AND NOT EXISTS (SELECT 1 FROM stint_runs x WHERE x.limiter = ?1 AND x.` + stateQueued + ` AND x.lane > r.lane)
    ORDER BY lane, rank, turn, id LIMIT 1) AND flags & 6 = 0 AND instr(limits, '},{') = 0 AND lane = ?`
	admitFirstSQL     = "UPDATE stint_runs SET limiter = NULL WHERE " + onlyFirstSQL + "2"
	admitFirstTurnSQL = turnSet + onlyFirstSQL + "5"

	// admittedSQL reads the admitted runs that have not started, the last first.
	admittedSQL = `
SELECT id, state, limiter, flags, lease, limits FROM stint_runs WHERE limiter IS NULL AND ` + stateQueued + ` AND limits IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM stint_transitions WHERE run = id) ORDER BY lane DESC, rank DESC, turn DESC, id DESC`

	// setFirstSQL makes a run the first that waits for a limiter.
	setFirstSQL = `UPDATE stint_runs SET limiter = ?2, rank = min(rank, coalesce(
  (SELECT x.rank - 1 FROM stint_runs x WHERE x.limiter = ?2 AND x.` + stateQueued + ` AND x.lane = stint_runs.lane
  ORDER BY x.rank LIMIT 1), rank)) WHERE id = ?1`

	waitingLaneSQL = "SELECT lane FROM stint_runs WHERE limiter = ? AND " + stateQueued + " ORDER BY lane LIMIT 1"
)

// place returns the value of the column limiter, and makes claims look again at what is ready.
func (r limiterRows) place(at *limits.Limiter) any {
	if at != nil {
		return at.ID
	}
	r.claims.recheck = true
	return nil
}

// Place implements limits.Rows.
func (r limiterRows) Place(run int64, at *limits.Limiter) error {
	return r.exec(setLimiterSQL, run, r.place(at))
}

// PlaceLast implements limits.Rows.
func (r limiterRows) PlaceLast(run int64, at *limits.Limiter) error {
	return r.exec(nextTurnSQL, run, r.now, r.nextKey(r.now), r.place(at))
}

// PlaceFirst implements limits.Rows.
func (r limiterRows) PlaceFirst(run int64, at *limits.Limiter) error {
	return r.exec(setFirstSQL, run, r.place(at))
}

// waitingLanesSQL reads the lanes of the runs that wait for a limiter. Nearly always there is one.
var waitingLanesSQL = selectDistinct("lane", "stint_runs WHERE limiter = ?1 AND "+stateQueued)

// FirstWaiting implements limits.Rows.
func (r limiterRows) FirstWaiting(l *limits.Limiter) (*limits.Transition, error) {
	lanes, err := column[int64](r, waitingLanesSQL, l.ID)
	if err != nil {
		return nil, err
	}
	var first *transition
	var at ready.Position
	for _, lane := range lanes {
		var p ready.Position
		var x transition
		err := r.one("SELECT rank, turn, id, flags, limits, "+ofWorkflowSQL+" FROM stint_runs r WHERE limiter = ? AND lane = ? "+
			"AND "+stateQueued+" ORDER BY rank, turn, id LIMIT 1",
			[]any{l.ID, lane}, &p.Rank, &p.Turn, &x.Run, &x.afterFlags, &x.limits, &x.parent,
			&x.inWorkflow)
		if err != nil {
			return nil, err
		}
		if p.ID = x.Run; first == nil || p.Compare(at) < 0 {
			first, at = &x, p
		}
	}
	if first == nil {
		return nil, nil
	}
	return r.limiters.decode(first)
}

// AdmitFirst implements limits.Rows, in one statement. The lane is known from the limiter, or is
// probably that of the last admitted run.
func (r limiterRows) AdmitFirst(l *limits.Limiter) (bool, error) {
	lim := r.limiters.byID[l.ID]
	lane := lim.lane
	if lane == 0 {
		lane = r.limiters.lane
	}
	n, err := r.admitFirstIn(l, lane)
	if n == 0 && err == nil && lim.lane == 0 {
		err = r.one(waitingLaneSQL, []any{l.ID}, &lim.lane)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		if err == nil && lim.lane != lane {
			lane = lim.lane
			n, err = r.admitFirstIn(l, lane)
		}
	}
	if err != nil || n == 0 {
		lim.lane = 0 // others may wait in other lanes now
		return false, err
	}
	lim.lane, r.limiters.lane = lane, lane
	r.claims.recheck = true
	return true, nil
}

// admitFirstIn admits the first run that waits for a limiter, if all that wait are in this lane.
func (r limiterRows) admitFirstIn(l *limits.Limiter, lane int64) (int64, error) {
	switch {
	case lane == 0:
		return 0, nil
	case l.InTurns():
		return r.execN(admitFirstTurnSQL, l.ID, r.now, r.nextKey(r.now), nil, lane)
	}
	return r.execN(admitFirstSQL, l.ID, lane)
}

// Admitted implements limits.Rows.
func (r limiterRows) Admitted() ([]*limits.Transition, error) {
	rows, err := rowsOf(r, func(x *transition) []any {
		return []any{&x.Run, &x.Before.State, &x.Before.Limiter, &x.beforeFlags, &x.beforeLease, &x.limits}
	}, admittedSQL)
	if err != nil {
		return nil, err
	}
	return r.limiters.decodable(rows), nil
}

// Join implements limits.Rows.
func (r limiterRows) Join(l *limits.Limiter, run int64) error {
	return r.exec("INSERT OR IGNORE INTO stint_members (limiter, run) VALUES (?, ?)", l.ID, run)
}

// Forget implements limits.Rows.
func (r limiterRows) Forget(l *limits.Limiter) error { return r.exec(forgetMembersSQL, l.ID) }

// Older implements limits.Rows.
func (r limiterRows) Older(l *limits.Limiter) ([]int64, error) {
	err := r.exec("DELETE FROM stint_members WHERE limiter = ? AND NOT EXISTS (SELECT 1 FROM stint_runs WHERE id = run AND "+notEnded+")",
		l.ID)
	if err != nil {
		return nil, err
	}
	return column[int64](r, `SELECT r.id FROM stint_members m CROSS JOIN stint_runs r ON r.id = m.run
		WHERE m.limiter = ? AND r.`+sinceQueued+` AND r.`+upToWaiting+` AND r.cancel_at IS NULL ORDER BY r.priority DESC, r.id DESC
		LIMIT -1 OFFSET ?`, l.ID, l.Max)
}

// Begin implements limits.Rows.
func (r limiterRows) Begin(run int64) error {
	var node int64
	err := r.one("UPDATE stint_runs SET "+stateRunning+", worker = 0, started_at = ?2, limiter = NULL WHERE id = ?1 RETURNING node",
		[]any{run, r.now}, &node)
	if err != nil {
		return err
	}
	if err := r.exec("DELETE FROM stint_transitions WHERE run = ?", run); err != nil { // it is counted already
		return err
	}
	return workflow.BeginRun(r.workflows, run, node, r.now)
}

// Cancel implements limits.Rows.
func (r limiterRows) Cancel(run int64, why string) error {
	_, err := lifecycle.Cancel(r.runs, run, r.now, lifecycle.Failure("canceled", why))
	return err
}

// Block implements limits.Rows.
func (r limiterRows) Block(run int64, why error) error {
	return r.exec("UPDATE stint_runs SET "+stateBlocked+", limiter = NULL, error = ?2 WHERE id = ?1 AND "+stateQueued, run,
		text(lifecycle.Failure(store.KindCondition, why.Error())))
}

// ForRun implements limits.Rows.
func (r limiterRows) ForRun(run int64, f func() error) error { return forRun(run, f) }
