package sqlite

import (
	"database/sql"
	"errors"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
)

const perTimers = 500 // due runs a commit

// timers knows when fireTimers has work: the earliest time that stands in a row.
type timers struct {
	*unit
	passive
	next  int64  // as of the last commit; never: nothing waits for a time
	added int64  // the earliest that the transaction has stored
	found *int64 // what it has read instead of next
}

// add notes that a row has a time.
func (ts *timers) add(at int64) { ts.added = min(ts.added, at) }

// lookAgain has the next transaction read the times: it is not known what was stored.
func (ts *timers) lookAgain() { ts.found = new(int64) }

func (ts *timers) committed() {
	if ts.found != nil {
		ts.next = *ts.found
	}
	ts.next = min(ts.next, ts.added)
	ts.rolledBack()
}

func (ts *timers) rolledBack() { ts.added, ts.found = never, nil }
func (ts *timers) outdated()   { ts.next = 0 }

// fireTimers queues what is due, cancels what did not start in time, runs crons, resumes waits,
// and finds the next time at which one of these is due.
func (ts *timers) fireTimers() error {
	if ts.next > ts.now {
		return nil
	}
	if err := ts.queueDue(); err != nil {
		return err
	}
	if err := ts.cancelOverdue(); err != nil {
		return err
	}
	if err := cron.Tick(ts.crons, millis(ts.now), perTimers); err != nil {
		return err
	}
	type row struct {
		id    int64
		begun bool
	}
	waiting, err := rowsOf(ts, func(r *row) []any { return []any{&r.id, &r.begun} },
		"SELECT id, lease > 0 FROM stint_runs WHERE "+stateWaiting+" AND due_at IS NOT NULL AND due_at <= ? ORDER BY due_at LIMIT ?",
		ts.now, perTimers)
	if err != nil {
		return err
	}
	for _, r := range waiting {
		move := ts.workflows.reconsider // a task of a workflow, before its start
		if r.begun {
			move = ts.runs.resume // its handler waits
		}
		if err := forRun(r.id, func() error { return move(r.id, ts.now) }); err != nil {
			return err
		}
	}
	next, err := ts.nextTime()
	if err != nil {
		return err
	}
	var pending bool
	if err := ts.one("SELECT EXISTS (SELECT 1 FROM stint_events WHERE pending = 1)", nil, &pending); err != nil {
		return err
	}
	ts.events.pending = ts.events.pending || pending
	ts.found = &next
	return nil
}

// queueDue queues the runs that are due, and begins the workflows among them.
func (ts *timers) queueDue() error {
	type row struct {
		id    int64
		flags int
		node  *int64
	}
	rows, err := readying(ts.unit, func(r *row) int64 { return r.id }, func(r *row) []any { return []any{&r.id, &r.flags, &r.node} },
		`UPDATE stint_runs SET state = CASE WHEN flags & 2 AND limits IS NULL THEN `+scheduledState+` ELSE `+queuedState+` END
		WHERE id IN (SELECT id FROM stint_runs WHERE `+stateScheduled+` AND due_at <= ? ORDER BY due_at LIMIT ?) RETURNING id,
		flags * (`+stateScheduled+`), node`, ts.now, perTimers)
	if err != nil {
		return err
	}
	for _, r := range rows {
		ts.claims.recheck = true
		if r.flags&flagWorkflow == 0 {
			continue
		}
		if err := ts.exec("UPDATE stint_runs SET "+stateRunning+", worker = 0, started_at = ?2 WHERE id = ?1", r.id, ts.now); err != nil {
			return err
		}
		if err := forRun(r.id, func() error { return ts.workflows.beginWorkflow(r.id, *r.node, ts.now) }); err != nil {
			return err
		}
	}
	return nil
}

// cancelOverdue cancels runs that did not start in time, and workflows that did not end in time.
func (ts *timers) cancelOverdue() error {
	type row struct {
		id           int64
		flags        int
		parent, node *int64
	}
	rows, err := rowsOf(ts, func(r *row) []any { return []any{&r.id, &r.flags, &r.parent, &r.node} },
		"SELECT id, flags, parent, node FROM stint_runs WHERE start_by IS NOT NULL AND start_by <= ? ORDER BY start_by LIMIT ?", ts.now,
		perTimers)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.flags&flagWorkflow != 0 {
			if err := ts.exec("UPDATE stint_runs SET start_by = NULL WHERE id = ?", r.id); err != nil {
				return err
			}
			err := forRun(r.id, func() error {
				_, err := ts.runs.cancel(r.id, ts.now, store.EndByError)
				return err
			})
			if err != nil {
				return err
			}
			continue
		}
		n, err := ts.execN("UPDATE stint_runs SET "+stateCanceled+", ended_at = ?2, error = ?3, start_by = NULL "+
			"WHERE id = ?1 AND start_by IS NOT NULL", r.id, ts.now, store.StartByError)
		if err != nil {
			return err
		}
		if ts.runs.end(r.id, n); n > 0 {
			if err := forRun(r.id, func() error { return ts.workflows.advance(r.parent, r.node, store.Canceled, ts.now) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextTime returns when fireTimers has work next.
func (ts *timers) nextTime() (int64, error) {
	next := never
	for _, q := range []string{
		"SELECT due_at FROM stint_runs WHERE " + stateScheduled + " AND due_at IS NOT NULL ORDER BY due_at LIMIT 1",
		"SELECT start_by FROM stint_runs WHERE start_by IS NOT NULL ORDER BY start_by LIMIT 1",
		"SELECT due_at FROM stint_runs WHERE " + stateWaiting + " AND due_at IS NOT NULL ORDER BY due_at LIMIT 1",
		"SELECT wake_at FROM stint_limiters WHERE wake_at IS NOT NULL ORDER BY wake_at LIMIT 1",
		"SELECT next_at FROM stint_crons WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1",
	} {
		var at int64
		switch err := ts.one(q, nil, &at); {
		case err == nil:
			next = min(next, at)
		case !errors.Is(err, sql.ErrNoRows):
			return 0, err
		}
	}
	return next, nil
}
