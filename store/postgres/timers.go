package postgres

import (
	"cmp"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
)

// perTimers is the number of runs of a kind whose time has come that one group sees to.
const perTimers = 500

// A timeKind is a kind of time that a run may have.
type timeKind uint8

const (
	dueTimes        timeKind = iota // of scheduled runs
	overTimes                       // by which runs must have started
	wakeTimes                       // of waiting runs
	unadmittedTimes                 // of queued runs that have not come to their limiters: at once
)

// timeConditions select the runs whose time has come, $1, each by an index of its own.
var timeConditions = [...]string{
	dueTimes:  "t.state = 2 AND t.due_at <= $1 ORDER BY t.due_at",
	overTimes: "t.start_by IS NOT NULL AND t.start_by <= $1 ORDER BY t.start_by",
	wakeTimes: "t.state = 5 AND t.due_at IS NOT NULL AND t.due_at <= $1 ORDER BY t.due_at",

	unadmittedTimes: "t.state = 3 AND t.limiter = 0 AND $1::bigint > 0 ORDER BY t.rank, t.turn, t.id",
}

// timed holds the runs whose time has come. Those that another process sees to are left out.
type timed struct {
	runs  *relation[int64, runRow]
	u     *unit
	known map[timeKind][]int64
	asked map[timeKind]struct{}
}

func (x *timed) get(k timeKind) ([]*runRow, error) {
	keys, ok := x.known[k]
	if !ok {
		x.asked[k] = struct{}{}
		return nil, errMiss
	}
	var rows []*runRow
	for _, key := range keys {
		r, err := x.u.run(key)
		if isDamage(err) {
			return nil, err
		}
		if r != nil {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func (x *timed) fetch(s *settings, b *pgx.Batch) bool {
	some := len(x.asked) > 0
	for k := range x.asked {
		x.known[k] = nil
		b.Queue(s.sql("SELECT "+joined(x.runs.reads, (*column[runRow]).read)+" FROM stint.runs t WHERE "+timeConditions[k]+
			" LIMIT $2 FOR UPDATE SKIP LOCKED"), x.u.now, perTimers).Query(func(rows pgx.Rows) error {
			return x.runs.take(rows, nil, func(key int64) { x.known[k] = append(x.known[k], key) })
		})
	}
	clear(x.asked)
	return some
}

func (x *timed) flush(*settings, *pgx.Batch) {}
func (x *timed) reset()                      {}
func (x *timed) settle()                     { clear(x.known) }
func (x *timed) renew()                      { x.known, x.asked = emptied(x.known), emptied(x.asked) }

// Due implements lifecycle.Rows.
func (u runRows) Due(now int64) (all []lifecycle.Due, err error) {
	rows, err := u.timed.get(dueTimes)
	for _, r := range rows {
		if r.State == store.Scheduled && r.Due <= now {
			all = append(all, lifecycle.Due{Key: r.Key, Node: r.Node, Workflow: r.Workflow, Limited: r.Limited})
		}
	}
	return all, err
}

// Overdue implements lifecycle.Rows.
func (u runRows) Overdue(now int64) (all []int64, err error) {
	rows, err := u.timed.get(overTimes)
	for _, r := range rows {
		if r.StartBy != 0 && r.StartBy <= now {
			all = append(all, r.Key)
		}
	}
	return all, err
}

// Waiters implements lifecycle.Rows.
func (u runRows) Waiters(now int64) (all []lifecycle.Waiter, err error) {
	rows, err := u.timed.get(wakeTimes)
	for _, r := range rows {
		if r.State == store.Waiting && r.Due != 0 && r.Due <= now {
			all = append(all, lifecycle.Waiter{Key: r.Key, Begun: r.Lease != 0})
		}
	}
	return all, err
}

// fireTimers sees to the runs, crons and limiters whose time has come.
func (u *unit) fireTimers() error {
	rows := runRows{u}
	var missed error // all that it needs is asked for at once
	for _, k := range []timeKind{dueTimes, overTimes, wakeTimes, unadmittedTimes} {
		_, err := u.timed.get(k)
		missed = cmp.Or(missed, err)
	}
	names, err := u.limitersDue.get(0)
	from, _ := u.s.ticks.From(u.now)
	_, err2 := u.cronsDue.get(from)
	if missed = cmp.Or(missed, err, err2); missed != nil {
		return missed
	}
	if err := lifecycle.QueueDue(rows, u.now); err != nil {
		return err
	}
	if err := lifecycle.CancelOverdue(rows, u.now); err != nil {
		return err
	}
	if err := cron.Tick(cronRows{u}, &u.s.ticks, clock.FromMillis(u.now), perTimers); err != nil {
		return err
	}
	if err := lifecycle.WakeWaiters(rows, u.now); err != nil {
		return err
	}
	if err := u.admitUnadmitted(); err != nil {
		return err
	}
	return u.openDueLimiters(names)
}

// openDueLimiters makes limiters admit again whose time has come.
func (u *unit) openDueLimiters(names []limiterName) error {
	u.limiters.ask(names...)
	for _, n := range names {
		l, err := u.limiters.get(n)
		if err != nil {
			return err
		}
		if l != nil && l.WakeAt <= u.now {
			l.Recheck = true
			u.limiters.change(n)
		}
	}
	return nil
}

// admitUnadmitted takes the runs to their limiters that came in apps' transactions.
func (u *unit) admitUnadmitted() error {
	rows, err := u.timed.get(unadmittedTimes)
	for _, r := range rows {
		if r.State == store.Queued && r.limiter != nil && *r.limiter == 0 {
			u.runs.change(r.Key)
			u.applied[r.Key] = limits.State{} // its limiters do not know it
		}
	}
	return err
}

// nextTimeSQL reads the earliest time that a row has. Ticks before $1 are left alone until $2.
const nextTimeSQL = `
SELECT min(at) FROM (
  (SELECT due_at AS at FROM stint.runs WHERE state = 2 ORDER BY due_at LIMIT 1)
  UNION ALL (SELECT start_by FROM stint.runs WHERE start_by IS NOT NULL ORDER BY start_by LIMIT 1)
  UNION ALL (SELECT due_at FROM stint.runs WHERE state = 5 AND due_at IS NOT NULL ORDER BY due_at LIMIT 1)
  UNION ALL (SELECT wake_at FROM stint.limiters WHERE wake_at IS NOT NULL ORDER BY wake_at LIMIT 1)
  UNION ALL (SELECT next_at FROM stint.crons WHERE next_at IS NOT NULL AND next_at >= $1 ORDER BY next_at LIMIT 1)
  UNION ALL (SELECT $2::bigint WHERE EXISTS (SELECT 1 FROM stint.crons WHERE next_at IS NOT NULL AND next_at < $1))
  UNION ALL (SELECT 0 FROM stint.runs WHERE state = 3 AND limiter = 0 LIMIT 1)
) times`

// Delete implements lifecycle.Rows.
func (u runRows) Delete(key int64) error {
	r, err := u.run(key)
	if err != nil || r == nil {
		return err
	}
	if r.Workflow {
		tasks, err := u.tasksOf(key)
		if err != nil {
			return err
		}
		for _, t := range tasks {
			if err := u.Delete(t.Key); err != nil {
				return err
			}
		}
	}
	u.runs.remove(key)
	u.deleted = append(u.deleted, key)
	u.told.ended = append(u.told.ended, ending{run: key})
	return nil
}

// deletedSQL are the statements that delete what is stored about runs, besides their rows. Only their keys
// stay, as long as their KeyTTL.
var deletedSQL = []string{
	"DELETE FROM stint.inputs WHERE id = ANY ($1)",
	"DELETE FROM stint.attempts WHERE run = ANY ($1)",
	"DELETE FROM stint.joins WHERE run = ANY ($1)",
	"DELETE FROM stint.remade WHERE run = ANY ($1)",
	"DELETE FROM stint.tests WHERE run = ANY ($1)",
	"DELETE FROM stint.waits WHERE run = ANY ($1)",
	"DELETE FROM stint.journal WHERE run = ANY ($1)",
	"DELETE FROM stint.progress WHERE run = ANY ($1)",
	"DELETE FROM stint.logs WHERE run = ANY ($1)",
	"DELETE FROM stint.chunks WHERE run = ANY ($1)",
	"DELETE FROM stint.task_limits WHERE run = ANY ($1)",
	"DELETE FROM stint.sticky WHERE run = ANY ($1)",
	"DELETE FROM stint.child_keys WHERE parent = ANY ($1)",
	"DELETE FROM stint.error_runs WHERE run = ANY ($1)",
}
