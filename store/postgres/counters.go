package postgres

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// count returns what the group counts for runs of a task: it is added to the process's counters with the
// commit.
func (u *unit) count(queue, task string) *count.Counts { return countOf(u.counted, queue, task) }

func countOf(all map[count.Name]*count.Counts, queue, task string) *count.Counts {
	name := count.Name{Queue: queue, Task: task}
	c := all[name]
	if c == nil {
		c = &count.Counts{}
		all[name] = c
	}
	return c
}

// countEndings counts the runs that ended without an outcome that counted them.
func (u *unit) countEndings() error {
	for _, e := range u.told.ended[u.endsCounted:] {
		u.endsCounted++
		x := u.runs.entries[e.run]
		if e.counted || x == nil || x.now == nil || !x.now.State.Terminal() {
			continue
		}
		r := x.now
		n, ok, err := u.laneByID(r.Lane)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		name := count.Name{Queue: n.queue, Task: n.task}
		if r.Node != 0 {
			g, err := workflowRows{u}.Graph(r.Node >> lifecycle.NodeBits)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err == nil {
				name.Task = workflow.TaskOf(g, r.Node, n.task)
			}
		}
		took := time.Duration(-1)
		if r.Started != 0 && r.Ended != 0 {
			took = count.Took(clock.FromMillis(r.Started), r.Ended)
		}
		u.count(name.Queue, name.Task).End(r.State, took)
	}
	return nil
}

// countGroup adds what a group has counted to the process's counters.
func (w *writer) countGroup(u *unit, calls int) {
	for _, counted := range [...]map[count.Name]*count.Counts{u.counted, u.started} {
		for name, c := range counted {
			w.counters.Of(name.Queue, name.Task).Add(c)
		}
	}
	w.s.sampler.Touch()
	w.counters.Calls(calls)
	w.counters.Commit(u.now, u.took)
}

// depthSQL counts the runs that are queued, up to store.MaxCount.
const depthSQL = `(SELECT least(10000, (SELECT count(*) FROM (SELECT 1 FROM stint.runs WHERE state = 3 AND limiter IS NULL LIMIT 10000) a) +
  (SELECT count(*) FROM (SELECT 1 FROM stint.runs WHERE state = 3 AND limiter IS NOT NULL LIMIT 10000) b)))`

const storeCountersSQL = `
INSERT INTO stint.counters AS c (span, queue, task, at, process, enqueued, started, succeeded, failed, canceled, skipped, retried, waits,
  durations, depth, commits, changes, syncs)
VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,
  greatest($15, CASE WHEN $19 THEN ` + depthSQL + ` ELSE 0 END),$16,$17,$18)
ON CONFLICT (span, queue, task, at, process) DO UPDATE SET enqueued = excluded.enqueued, started = excluded.started,
  succeeded = excluded.succeeded, failed = excluded.failed, canceled = excluded.canceled, skipped = excluded.skipped,
  retried = excluded.retried, waits = excluded.waits, durations = excluded.durations, depth = greatest(c.depth, excluded.depth),
  commits = excluded.commits, changes = excluded.changes, syncs = excluded.syncs`

// counterRows are the stored counters, which are written with a batch.
type counterRows struct {
	s     *Store
	b     *pgx.Batch
	depth bool // the statement counts how many runs are queued
}

var _ count.Rows = counterRows{}

// Depth implements count.Rows. The sweeper counts; without one the statement that stores the counters does, if that is cheap.
func (r counterRows) Depth() (int, error) { return int(r.s.sweeper.depth.Load()), nil }

// Put implements count.Rows.
func (r counterRows) Put(n count.Span, c *store.Counters) error {
	r.s.storeCounters(r.b, n, r.s.direct.process.name, c, n.Name == count.Name{} && r.depth)
	return nil
}

func (s *Store) storeCounters(b *pgx.Batch, n count.Span, process string, c *store.Counters, depth bool) {
	b.Queue(s.sql(storeCountersSQL), n.Length, n.Queue, n.Task, n.At, process, c.Enqueued, c.Started, c.Succeeded, c.Failed, c.Canceled,
		c.Skipped, c.Retried, c.Waits.String(), c.Durations.String(), c.Depth, c.Commits, c.Changes, c.Syncs.String(), depth)
}
