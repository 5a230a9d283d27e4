package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// counters are the writer's counts, for store.Stats. Package count decides when they are stored.
type counters struct {
	*unit
	passive
	count.Set
}

var _ count.Rows = (*counters)(nil)

func (cs *counters) flush() error { return cs.Store(cs, cs.now) }
func (cs *counters) committed()   { cs.Commit(cs.now, cs.took) }
func (cs *counters) rolledBack()  { cs.Rollback() }

// Depth implements count.Rows.
func (cs *counters) Depth() (depth int, err error) {
	err = cs.one("SELECT count(*) FROM (SELECT 1 FROM stint_runs WHERE "+stateQueued+" LIMIT ?)", []any{store.MaxCount}, &depth)
	return depth, err
}

// Put implements count.Rows.
func (cs *counters) Put(n count.Span, c *store.Counters) error {
	return cs.put(n, cs.s.presence.name, c)
}

// countEndings counts the runs that ended without an outcome that counted them.
func (cs *counters) countEndings(ended []ending) error {
	for _, e := range ended {
		if e.counted {
			continue
		}
		var state store.State
		var lane int64
		var started, end, node *int64
		err := cs.one("SELECT state, lane, started_at, ended_at, node FROM stint_runs WHERE id = ? AND "+hasEnded, []any{e.key}, &state,
			&lane, &started, &end, &node)
		if errors.Is(err, sql.ErrNoRows) || code(err) == 0 && err != nil { // deleted, or changed by other means
			continue
		}
		if err != nil {
			return err
		}
		l, err := cs.lanes.laneByID(lane)
		if err != nil {
			return err
		}
		if l == nil {
			continue
		}
		name := count.Name{Queue: l.Queue, Task: l.Task}
		if node != nil {
			g, err := cs.workflows.graphs.graph(cs, *node>>nodeBits)
			if code(err) != 0 {
				return err
			}
			if place := workflow.Place(*node); err == nil && place < len(g.Tasks) {
				name.Task = g.TaskName(place) // all tasks of a workflow share a lane
			}
		}
		took := time.Duration(-1)
		if started != nil && end != nil {
			took = sinceStart(millis(*started), *end)
		}
		cs.Of(name.Queue, name.Task).End(state, took)
	}
	return nil
}

// sinceStart returns how long a run took; negative: it never started.
func sinceStart(started time.Time, now int64) time.Duration {
	if started.IsZero() {
		return -1
	}
	return max(millis(now).Sub(started), 0)
}

const storeCountersSQL = `
INSERT INTO stint_counters (span, queue, task, at, process, enqueued, started, succeeded, failed, canceled, skipped, retried, waits,
  durations, depth, commits, changes, syncs)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT DO UPDATE SET enqueued = excluded.enqueued, started = excluded.started, succeeded = excluded.succeeded,
  failed = excluded.failed, canceled = excluded.canceled,
  skipped = excluded.skipped, retried = excluded.retried, waits = excluded.waits, durations = excluded.durations,
  depth = max(depth, excluded.depth), commits = excluded.commits, changes = excluded.changes, syncs = excluded.syncs`

func (cs *counters) put(n count.Span, process string, c *store.Counters) error {
	return cs.exec(storeCountersSQL, n.Length, n.Queue, n.Task, n.At, process, c.Enqueued, c.Started, c.Succeeded, c.Failed, c.Canceled,
		c.Skipped, c.Retried,
		c.Waits.String(), c.Durations.String(), c.Depth, c.Commits, c.Changes, c.Syncs.String())
}

// nextCounterSQL reads the next queue and task by the index, after the counters of all runs.
const nextCounterSQL = `
SELECT queue, task FROM stint_counters WHERE span = ? AND (queue, task) > (?, ?) ORDER BY queue, task LIMIT 1`

func counterNames(q querier, span int64) (all []count.Name, err error) {
	for n := (count.Name{}); ; all = append(all, n) {
		err := q.one(nextCounterSQL, []any{span, n.Queue, n.Task}, &n.Queue, &n.Task)
		if errors.Is(err, sql.ErrNoRows) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

const countersSQL = `SELECT at, queue, task, enqueued, started, succeeded, failed, canceled, skipped, retried, waits, durations, depth,
	commits, changes, syncs
FROM stint_counters WHERE ` + ofTask + " ORDER BY at"

// Conditions on stint_counters: those of a task between two times, and of them those of a process or
// without one, which were rolled up.
const (
	ofTask    = "span = ? AND queue = ? AND task = ? AND at >= ? AND at <= ?"
	ofProcess = ofTask + " AND process IN (?, '')"
)

// Counters implements store.Stats.
func (s *Store) Counters(ctx context.Context, span time.Duration, since time.Time, perTask bool) (all []store.Counters, err error) {
	if span != time.Minute && span != time.Hour {
		return nil, fmt.Errorf("counters of %v: want a minute or an hour", span)
	}
	err = s.view(ctx, func(q querier) error {
		all = nil
		names := []count.Name{{}}
		if perTask {
			var err error
			if names, err = counterNames(q, span.Milliseconds()); err != nil {
				return err
			}
		}
		for _, n := range names {
			from := clock.Millis(since)
			of, err := countersOf(q, countersSQL, span.Milliseconds(), n.Queue, n.Task, from-from%span.Milliseconds(), never)
			if err != nil {
				return err
			}
			all = append(all, of...)
		}
		return nil
	})
	slices.SortStableFunc(all, func(a, b store.Counters) int { return cmp.Compare(a.At.UnixMilli(), b.At.UnixMilli()) })
	return all, err
}

// countersOf reads counters, and adds up those of all processes.
func countersOf(q querier, text string, args ...any) (all []store.Counters, err error) {
	type row struct {
		store.Counters
		at                      int64
		waits, durations, syncs string
	}
	rows, err := rowsOf(q, func(r *row) []any {
		return []any{&r.at, &r.Queue, &r.Task, &r.Enqueued, &r.Started, &r.Succeeded, &r.Failed, &r.Canceled, &r.Skipped, &r.Retried,
			&r.waits, &r.durations, &r.Depth, &r.Commits, &r.Changes, &r.syncs}
	}, text, args...)
	for i := range rows {
		r := &rows[i]
		r.At, r.Waits, r.Durations, r.Syncs = millis(r.at), store.ParseHistogram(r.waits), store.ParseHistogram(r.durations),
			store.ParseHistogram(r.syncs)
		if last := len(all) - 1; last >= 0 && all[last].At.Equal(r.At) {
			all[last].Add(&r.Counters)
		} else {
			all = append(all, r.Counters)
		}
	}
	return all, err
}

const crowdedSQL = `SELECT queue, task, at FROM stint_counters WHERE span = ? AND at < ? GROUP BY queue, task, at HAVING count(*) > 1
	LIMIT ?`

// rollUpCounters replaces the rows of several processes in a past span by one: a program may be started
// often.
func (s *Store) rollUpCounters(ctx context.Context, length int64, now time.Time) error {
	for {
		var crowded []count.Span
		err := s.view(ctx, func(q querier) (err error) {
			crowded, err = rowsOf(q, func(n *count.Span) []any { return []any{&n.Queue, &n.Task, &n.At} }, crowdedSQL, length,
				count.RolledUpTo(length, now.UnixMilli()), perBulk)
			return err
		})
		if err != nil || len(crowded) == 0 {
			return err
		}
		err = s.do(ctx, func(u *unit) error {
			for _, n := range crowded {
				if err := u.counters.rollUp(ofTask, length, n.Queue, n.Task, n.At, n.At); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(crowded) < perBulk {
			return err
		}
	}
}

// rollUp replaces the rows that meet a condition by one without a process.
func (cs *counters) rollUp(which string, length int64, queue, task string, at ...any) error {
	args := append([]any{length, queue, task}, at...)
	sums, err := countersOf(cs, strings.Replace(countersSQL, ofTask, which, 1), args...)
	if err != nil || len(sums) == 0 {
		return err
	}
	if err := cs.exec("DELETE FROM stint_counters WHERE "+which, args...); err != nil {
		return err
	}
	return cs.put(count.Span{Name: count.Name{Queue: queue, Task: task}, Length: length, At: sums[0].At.UnixMilli()}, "", &sums[0])
}

// rollUpProcess rolls up the recent counters of a dead process: a program that dies often would leave
// many rows for each minute.
func (cs *counters) rollUpProcess(process string) error {
	for _, length := range count.Lengths {
		names, err := counterNames(cs, length)
		if err != nil {
			return err
		}
		for _, n := range append(names, count.Name{}) {
			ats, err := column[int64](cs, "SELECT at FROM stint_counters WHERE "+ofTask+" AND process = ?", length, n.Queue, n.Task,
				count.RolledUpTo(length, cs.now), never, process)
			if err != nil {
				return err
			}
			for _, at := range ats {
				if err := cs.rollUp(ofProcess, length, n.Queue, n.Task, at, at, process); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// expireCounters deletes old counters, and rolls up those of past spans.
func (s *Store) expireCounters(ctx context.Context) error {
	now := time.Now()
	for _, length := range count.Lengths {
		args := []any{length, count.KeptFrom(length, now)}
		const old = " FROM stint_counters WHERE span = ? AND at < ?"
		var some bool
		err := s.view(ctx, func(q querier) error { return q.one("SELECT EXISTS (SELECT 1"+old+")", args, &some) })
		if err != nil {
			return err
		}
		if some {
			if err := s.do(ctx, func(u *unit) error { return u.exec("DELETE"+old, args...) }); err != nil {
				return err
			}
		}
		if err := s.rollUpCounters(ctx, length, now); err != nil {
			return err
		}
	}
	return nil
}
