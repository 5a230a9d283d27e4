package sqlite

import (
	"database/sql"
	"errors"

	"github.com/stint-dev/stint/store"
)

const perTimers = 500 // due runs a commit

// timers knows when fireTimers has work: the earliest time that stands in a row.
type timers struct {
	passive
	next  int64  // as of the last commit; never: nothing waits for a time
	added int64  // the earliest that the transaction has stored
	found *int64 // what it has read instead of next
}

// add notes that a row has a time.
func (x *timers) add(at int64) { x.added = min(x.added, at) }

// lookAgain has the next transaction read the times: it is not known what was stored.
func (x *timers) lookAgain() { x.found = new(int64) }

func (x *timers) committed(*txn) {
	if x.found != nil {
		x.next = *x.found
	}
	x.next = min(x.next, x.added)
	x.rolledBack()
}

func (x *timers) rolledBack() { x.added, x.found = never, nil }
func (x *timers) outdated()   { x.next = 0 }

// fireTimers queues what is due, cancels what did not start in time, runs crons, resumes waits,
// and finds the next time at which one of these is due.
func (t *txn) fireTimers() error {
	if t.timers.next > t.now {
		return nil
	}
	if err := t.queueDue(); err != nil {
		return err
	}
	if err := t.cancelOverdue(); err != nil {
		return err
	}
	if err := t.tick(); err != nil {
		return err
	}
	type row struct {
		id    int64
		begun bool
	}
	waiting, err := rowsOf(t, func(r *row) []any { return []any{&r.id, &r.begun} },
		"SELECT id, lease > 0 FROM stint_runs WHERE "+stateWaiting+" AND due_at IS NOT NULL AND due_at <= ? ORDER BY due_at LIMIT ?",
		t.now, perTimers)
	if err != nil {
		return err
	}
	for _, r := range waiting {
		move := t.reconsider // a task of a workflow, before its start
		if r.begun {
			move = t.resume // its handler waits
		}
		if err := t.forRun(r.id, func() error { return move(r.id, t.now) }); err != nil {
			return err
		}
	}
	next, err := t.nextTime()
	if err != nil {
		return err
	}
	var pending bool
	if err := t.one("SELECT EXISTS (SELECT 1 FROM stint_events WHERE pending = 1)", nil, &pending); err != nil {
		return err
	}
	t.events.pending = t.events.pending || pending
	t.timers.found = &next
	return nil
}

// queueDue queues the runs that are due, and begins the workflows among them.
func (t *txn) queueDue() error {
	type row struct {
		id    int64
		flags int
		node  *int64
	}
	rows, err := readying(t, func(r *row) int64 { return r.id }, func(r *row) []any { return []any{&r.id, &r.flags, &r.node} },
		`UPDATE stint_runs SET state = CASE WHEN flags & 2 AND limits IS NULL THEN `+scheduledState+` ELSE `+queuedState+` END
		WHERE id IN (SELECT id FROM stint_runs WHERE `+stateScheduled+` AND due_at <= ? ORDER BY due_at LIMIT ?) RETURNING id,
		flags * (`+stateScheduled+`), node`, t.now, perTimers)
	if err != nil {
		return err
	}
	for _, r := range rows {
		t.claims.recheck = true
		if r.flags&flagWorkflow == 0 {
			continue
		}
		if err := t.exec("UPDATE stint_runs SET "+stateRunning+", worker = 0, started_at = ?2 WHERE id = ?1", r.id, t.now); err != nil {
			return err
		}
		if err := t.forRun(r.id, func() error { return t.beginWorkflow(r.id, *r.node, t.now) }); err != nil {
			return err
		}
	}
	return nil
}

// cancelOverdue cancels runs that did not start in time, and workflows that did not end in time.
func (t *txn) cancelOverdue() error {
	type row struct {
		id           int64
		flags        int
		parent, node *int64
	}
	rows, err := rowsOf(t, func(r *row) []any { return []any{&r.id, &r.flags, &r.parent, &r.node} },
		"SELECT id, flags, parent, node FROM stint_runs WHERE start_by IS NOT NULL AND start_by <= ? ORDER BY start_by LIMIT ?", t.now,
		perTimers)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.flags&flagWorkflow != 0 {
			if err := t.exec("UPDATE stint_runs SET start_by = NULL WHERE id = ?", r.id); err != nil {
				return err
			}
			err := t.forRun(r.id, func() error {
				_, err := t.cancel(r.id, t.now, store.EndByError)
				return err
			})
			if err != nil {
				return err
			}
			continue
		}
		n, err := t.execN("UPDATE stint_runs SET "+stateCanceled+", ended_at = ?2, error = ?3, start_by = NULL "+
			"WHERE id = ?1 AND start_by IS NOT NULL", r.id, t.now, store.StartByError)
		if err != nil {
			return err
		}
		if t.end(r.id, n); n > 0 {
			if err := t.forRun(r.id, func() error { return t.advance(r.parent, r.node, store.Canceled, t.now) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextTime returns when fireTimers has work next.
func (t *txn) nextTime() (int64, error) {
	next := never
	for _, q := range []string{
		"SELECT due_at FROM stint_runs WHERE " + stateScheduled + " AND due_at IS NOT NULL ORDER BY due_at LIMIT 1",
		"SELECT start_by FROM stint_runs WHERE start_by IS NOT NULL ORDER BY start_by LIMIT 1",
		"SELECT due_at FROM stint_runs WHERE " + stateWaiting + " AND due_at IS NOT NULL ORDER BY due_at LIMIT 1",
		"SELECT wake_at FROM stint_limiters WHERE wake_at IS NOT NULL ORDER BY wake_at LIMIT 1",
		"SELECT next_at FROM stint_crons WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1",
	} {
		var at int64
		switch err := t.one(q, nil, &at); {
		case err == nil:
			next = min(next, at)
		case !errors.Is(err, sql.ErrNoRows):
			return 0, err
		}
	}
	return next, nil
}
