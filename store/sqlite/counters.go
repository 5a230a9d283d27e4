package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// counters are the writer's counts, for store.CounterList. Package count decides when they are stored.
type counters struct {
	*unit
	passive
	count.Set
	sampled bool // the transaction stores a sample
}

var _ count.Rows = (*counters)(nil)

func (cs *counters) flush() error { return cs.Store(cs, cs.now) }
func (cs *counters) rolledBack()  { cs.Rollback(); cs.sampled = false }

func (cs *counters) committed() {
	if !cs.sampled || cs.Counted() {
		cs.s.sampler.Touch()
	}
	cs.sampled = false
	cs.Commit(cs.now, cs.took)
}

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
			g, err := reading.Graph(cs, cs.workflows.graphs, *node>>nodeBits)
			if code(err) != 0 {
				return err
			}
			if err == nil {
				name.Task = workflow.TaskOf(g, *node, l.Task)
			}
		}
		took := time.Duration(-1)
		if started != nil && end != nil {
			took = count.Took(millis(*started), *end)
		}
		cs.Of(name.Queue, name.Task).End(state, took)
	}
	return nil
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

// rollUpCounters replaces the rows of several processes in a past span by one: a program may be started
// often.
func (s *Store) rollUpCounters(ctx context.Context, length int64, now time.Time) error {
	for {
		var crowded []count.Span
		err := s.view(ctx, func(q querier) (err error) {
			crowded, err = reading.Crowded(q, length, count.RolledUpTo(length, now.UnixMilli()), perBulk)
			return err
		})
		if err != nil || len(crowded) == 0 {
			return err
		}
		err = s.do(ctx, func(u *unit) error {
			for _, n := range crowded {
				if err := u.counters.rollUp(reading.OfTask, length, n.Queue, n.Task, n.At, n.At); err != nil {
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
	sums, err := reading.CountersOf(cs, which, args...)
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
		names, err := reading.CounterNames(cs, length)
		if err != nil {
			return err
		}
		for _, n := range append(names, count.Name{}) {
			ats, err := column[int64](cs, "SELECT at FROM stint_counters WHERE "+reading.OfTask+" AND process = ?", length, n.Queue, n.Task,
				count.RolledUpTo(length, cs.now), never, process)
			if err != nil {
				return err
			}
			for _, at := range ats {
				if err := cs.rollUp(reading.OfProcess, length, n.Queue, n.Task, at, at, process); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// expireSpans deletes old counts of a table, if there are any.
func (s *Store) expireSpans(ctx context.Context, table string, length int64, now time.Time) error {
	args := []any{length, count.KeptFrom(length, now)}
	old := " FROM " + table + " WHERE span = ? AND at < ?"
	var some bool
	err := s.view(ctx, func(q querier) error { return q.one("SELECT EXISTS (SELECT 1"+old+")", args, &some) })
	if err != nil || !some {
		return err
	}
	return s.do(ctx, func(u *unit) error { return u.exec("DELETE"+old, args...) })
}

// expireCounters deletes old counters, and rolls up those of past spans.
func (s *Store) expireCounters(ctx context.Context) error {
	now := time.Now()
	for _, length := range count.Lengths {
		if err := s.expireSpans(ctx, "stint_counters", length, now); err != nil {
			return err
		}
		if err := s.expireSpans(ctx, "stint_samples", length, now); err != nil {
			return err
		}
		if err := s.rollUpCounters(ctx, length, now); err != nil {
			return err
		}
	}
	return nil
}
