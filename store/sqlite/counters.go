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
	"github.com/stint-dev/stint/store/internal/workflow"
)

// counters are the writer's counts, for store.Stats. A transaction counts into open, which is added to
// the sums when it is committed. The sums of this process are written about once a second, in a
// transaction that does other work too while there is some, each to a row of its own: nothing is read,
// and no row is added to.
type counters struct {
	*unit
	passive
	open    map[counterName]*store.Counters
	sums    map[spanName]*sum
	count   int   // committed calls that are in no sum yet
	dirty   bool  // there are counts that are not written
	stored  int64 // when the sums were last written; milliseconds
	written []*sum
	storing bool // the transaction writes them
	last    bool // the store is about to close
}

type counterName struct{ queue, task string }

type spanName struct {
	counterName
	span, at int64 // milliseconds
}

type sum struct {
	store.Counters
	dirty bool
}

var counterSpans = [...]int64{time.Minute.Milliseconds(), time.Hour.Milliseconds()}

// countersEvery is how long counts stay unwritten, in milliseconds.
const countersEvery = 1000

// due returns when to write the sums, even if nothing else happens.
func (cs *counters) due() int64 {
	if !cs.dirty {
		return never
	}
	return cs.stored + countersEvery
}

// forTask returns what the transaction counts for runs of a task.
func (cs *counters) forTask(queue, task string) *store.Counters {
	name := counterName{queue, task}
	if cs.open == nil {
		cs.open = map[counterName]*store.Counters{}
	}
	of := cs.open[name]
	if of == nil {
		of = &store.Counters{}
		cs.open[name] = of
	}
	return of
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
		name := counterName{l.Queue, l.Task}
		if node != nil {
			g, err := cs.workflows.graphs.graph(cs, *node>>nodeBits)
			if code(err) != 0 {
				return err
			}
			if place := workflow.Place(*node); err == nil && place < len(g.Tasks) {
				name.task = g.TaskName(place) // all tasks of a workflow share a lane
			}
		}
		took := time.Duration(-1)
		if started != nil && end != nil {
			took = sinceStart(millis(*started), *end)
		}
		cs.forTask(name.queue, name.task).End(state, took)
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

// calls counts calls that a commit has answered.
func (cs *counters) calls(n int) { cs.count += n }

func (cs *counters) rolledBack() {
	cs.storing = false
	clear(cs.open)
	cs.written = cs.written[:0]
}

// committed adds the transaction's counts to the sums.
func (cs *counters) committed() {
	now := cs.now
	if cs.storing { // all but this transaction's counts
		cs.dirty, cs.stored, cs.storing = false, now, false
	}
	if cs.sums == nil {
		cs.sums = map[spanName]*sum{}
	}
	for _, s := range cs.written { // by this commit
		s.dirty = false
	}
	cs.written = cs.written[:0]
	all := store.Counters{Commits: 1, Changes: int64(cs.count)}
	cs.count = 0
	all.Syncs.Observe(cs.took)
	for name, o := range cs.open {
		all.Add(o)
		cs.into(name, now, o)
	}
	cs.into(counterName{}, now, &all)
	if len(cs.open) > 0 && !cs.dirty {
		cs.dirty, cs.stored = true, max(cs.stored, now-countersEvery/2)
	}
	clear(cs.open)
}

func (cs *counters) into(name counterName, now int64, o *store.Counters) {
	for _, span := range counterSpans {
		n := spanName{name, span, now - now%span}
		s := cs.sums[n]
		if s == nil {
			s = &sum{}
			cs.sums[n] = s
		}
		s.Add(o)
		s.dirty = true
	}
}

const storeCountersSQL = `
INSERT INTO stint_counters (span, queue, task, at, process, enqueued, started, succeeded, failed, canceled, skipped, retried, waits,
  durations, depth, commits, changes, syncs)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT DO UPDATE SET enqueued = excluded.enqueued, started = excluded.started, succeeded = excluded.succeeded,
  failed = excluded.failed, canceled = excluded.canceled,
  skipped = excluded.skipped, retried = excluded.retried, waits = excluded.waits, durations = excluded.durations,
  depth = max(depth, excluded.depth), commits = excluded.commits, changes = excluded.changes, syncs = excluded.syncs`

// flush writes the sums if it is time to, and drops those whose span is over.
func (cs *counters) flush() error {
	if !cs.dirty || !cs.last && cs.now < cs.stored+countersEvery && cs.now >= cs.stored {
		return nil
	}
	var depth int
	if err := cs.one("SELECT count(*) FROM (SELECT 1 FROM stint_runs WHERE "+stateQueued+" LIMIT ?)", []any{store.MaxCount},
		&depth); err != nil {
		return err
	}
	for n, s := range cs.sums {
		if !s.dirty {
			if n.at+n.span <= cs.now {
				delete(cs.sums, n)
			}
			continue
		}
		if n.task == "" && n.at+n.span > cs.now {
			s.Depth = max(s.Depth, depth)
		}
		if err := cs.storeCounters(n, cs.s.presence.name, &s.Counters); err != nil {
			return err
		}
		cs.written = append(cs.written, s)
	}
	cs.storing = true
	return nil
}

func (cs *counters) storeCounters(n spanName, process string, c *store.Counters) error {
	return cs.exec(storeCountersSQL, n.span, n.queue, n.task, n.at, process, c.Enqueued, c.Started, c.Succeeded, c.Failed, c.Canceled,
		c.Skipped, c.Retried,
		c.Waits.String(), c.Durations.String(), c.Depth, c.Commits, c.Changes, c.Syncs.String())
}

// nextCounterSQL reads the next queue and task by the index, after the counters of all runs.
const nextCounterSQL = `
SELECT queue, task FROM stint_counters WHERE span = ? AND (queue, task) > (?, ?) ORDER BY queue, task LIMIT 1`

func counterNames(q querier, span int64) (all []counterName, err error) {
	for n := (counterName{}); ; all = append(all, n) {
		err := q.one(nextCounterSQL, []any{span, n.queue, n.task}, &n.queue, &n.task)
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
		names := []counterName{{}}
		if perTask {
			var err error
			if names, err = counterNames(q, span.Milliseconds()); err != nil {
				return err
			}
		}
		for _, n := range names {
			from := clock.Millis(since)
			of, err := countersOf(q, countersSQL, span.Milliseconds(), n.queue, n.task, from-from%span.Milliseconds(), never)
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

// rollUpAfter is how long after the end of a span its rows are rolled up.
const rollUpAfter = time.Hour

const crowdedSQL = `SELECT queue, task, at FROM stint_counters WHERE span = ? AND at < ? GROUP BY queue, task, at HAVING count(*) > 1
	LIMIT ?`

// rollUpCounters replaces the rows of several processes in a past span by one: a program may be started
// often.
func (s *Store) rollUpCounters(ctx context.Context, span int64, now time.Time) error {
	for {
		var crowded []store.Counters
		err := s.view(ctx, func(q querier) error {
			type row struct {
				counterName
				at int64
			}
			rows, err := rowsOf(q, func(r *row) []any { return []any{&r.queue, &r.task, &r.at} }, crowdedSQL, span,
				now.Add(-rollUpAfter).UnixMilli()-span, perBulk)
			crowded = nil
			for _, r := range rows {
				crowded = append(crowded, store.Counters{Queue: r.queue, Task: r.task, At: millis(r.at)})
			}
			return err
		})
		if err != nil || len(crowded) == 0 {
			return err
		}
		err = s.do(ctx, func(u *unit) error {
			for i := range crowded {
				c := &crowded[i]
				if err := u.counters.rollUp(ofTask, span, c.Queue, c.Task, c.At.UnixMilli(), c.At.UnixMilli()); err != nil {
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
func (cs *counters) rollUp(which string, span int64, queue, task string, at ...any) error {
	args := append([]any{span, queue, task}, at...)
	sums, err := countersOf(cs, strings.Replace(countersSQL, ofTask, which, 1), args...)
	if err != nil || len(sums) == 0 {
		return err
	}
	if err := cs.exec("DELETE FROM stint_counters WHERE "+which, args...); err != nil {
		return err
	}
	return cs.storeCounters(spanName{counterName{queue, task}, span, sums[0].At.UnixMilli()}, "", &sums[0])
}

// rollUpProcess rolls up the recent counters of a dead process: a program that dies often would leave
// many rows for each minute.
func (cs *counters) rollUpProcess(process string) error {
	for _, span := range counterSpans {
		names, err := counterNames(cs, span)
		if err != nil {
			return err
		}
		for _, n := range append(names, counterName{}) {
			ats, err := column[int64](cs, "SELECT at FROM stint_counters WHERE "+ofTask+" AND process = ?", span, n.queue, n.task,
				cs.now-rollUpAfter.Milliseconds()-span, never, process)
			if err != nil {
				return err
			}
			for _, at := range ats {
				if err := cs.rollUp(ofProcess, span, n.queue, n.task, at, at, process); err != nil {
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
	for _, k := range []struct {
		span int64
		keep time.Duration
	}{{counterSpans[0], store.MinutesKept}, {counterSpans[1], store.HoursKept}} {
		args := []any{k.span, now.Add(-k.keep).UnixMilli()}
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
		if err := s.rollUpCounters(ctx, k.span, now); err != nil {
			return err
		}
	}
	return nil
}
