package sqlite

import (
	"database/sql"
	"errors"

	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/lifecycle"
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

// add notes that a row has a time; 0: it has none.
func (ts *timers) add(at int64) {
	if at != 0 {
		ts.added = min(ts.added, at)
	}
}

// lookAgain makes the next transaction read the times: what was stored is not known.
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

// catchUp makes ticks due that were left alone.
func (ts *timers) catchUp() {
	if ts.s.ticks.End() {
		ts.next = 0
		ts.lookAgain()
	}
}

// fireTimers queues what is due, cancels what did not start in time, runs crons, resumes waits,
// and finds the next time at which one of these is due.
func (ts *timers) fireTimers() error {
	if ts.next > ts.now {
		return nil
	}
	if err := lifecycle.QueueDue(ts.runs, ts.now); err != nil {
		return err
	}
	if err := lifecycle.CancelOverdue(ts.runs, ts.now); err != nil {
		return err
	}
	if err := cron.Tick(ts.crons, &ts.s.ticks, millis(ts.now), perTimers); err != nil {
		return err
	}
	if err := lifecycle.WakeWaiters(ts.runs, ts.now); err != nil {
		return err
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

// nextTime returns when fireTimers has work next.
func (ts *timers) nextTime() (int64, error) {
	next := never
	look := func(text string, args ...any) error {
		var at int64
		switch err := ts.one(text, args, &at); {
		case err == nil:
			next = min(next, at)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		return nil
	}
	for _, text := range []string{
		"SELECT due_at FROM stint_runs WHERE " + stateScheduled + " AND due_at IS NOT NULL ORDER BY due_at LIMIT 1",
		"SELECT start_by FROM stint_runs WHERE start_by IS NOT NULL ORDER BY start_by LIMIT 1",
		"SELECT due_at FROM stint_runs WHERE " + stateWaiting + " AND due_at IS NOT NULL ORDER BY due_at LIMIT 1",
		"SELECT wake_at FROM stint_limiters WHERE wake_at IS NOT NULL ORDER BY wake_at LIMIT 1",
	} {
		if err := look(text); err != nil {
			return 0, err
		}
	}
	from, until := ts.s.ticks.From(ts.now)
	err := look("SELECT next_at FROM stint_crons WHERE next_at IS NOT NULL AND next_at >= ? ORDER BY next_at LIMIT 1", from)
	if err == nil && from > 0 { // some may be left alone, until then
		err = look("SELECT ?2 WHERE EXISTS (SELECT 1 FROM stint_crons WHERE next_at IS NOT NULL AND next_at < ?1)", from, until)
	}
	return next, err
}
