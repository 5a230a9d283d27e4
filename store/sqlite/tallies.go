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
)

// tallies are what the writer counts, for store.Stats. A transaction counts into open,
// which becomes part of the sums when it is committed. The sums of this process are
// written about once a second, in a transaction that there is anyhow while there is work,
// each to a row of this process alone: nothing is read, and a row is never added to.
type tallies struct {
	open    map[tallyName]*store.Tally
	sums    map[spanName]*sum
	count   int   // calls that were answered and are in no sum yet
	news    bool  // something is counted and not written
	stored  int64 // when it was written last; milliseconds
	written []*sum
	last    bool // the store is about to close
}

type tallyName struct{ queue, task string }

type spanName struct {
	tallyName
	span, at int64 // milliseconds
}

type sum struct {
	store.Tally
	news bool
}

var tallySpans = [...]int64{time.Minute.Milliseconds(), time.Hour.Milliseconds()}

// tallyEvery is how far what is written lags behind what happened, in milliseconds.
const tallyEvery = 1000

// due is when the sums want to be written, though nothing else happens.
func (y *tallies) due() int64 {
	if !y.news {
		return never
	}
	return y.stored + tallyEvery
}

// tally is where the transaction counts for runs of a task.
func (t *txn) tally(queue, task string) *store.Tally {
	if t.w == nil { // the app's: it may never be committed
		return &store.Tally{}
	}
	y, name := &t.w.tallies, tallyName{queue, task}
	if y.open == nil {
		y.open = map[tallyName]*store.Tally{}
	}
	of := y.open[name]
	if of == nil {
		of = &store.Tally{}
		y.open[name] = of
	}
	return of
}

// tallyEndings counts runs that ended without an outcome that said it.
func (t *txn) tallyEndings(ended []ending) error {
	if t.w == nil {
		return nil
	}
	for _, e := range ended {
		if e.tallied {
			continue
		}
		var state store.State
		var lane int64
		var started, end, node *int64
		err := t.one("SELECT state, lane, started_at, ended_at, node FROM stint_runs WHERE id = ? AND state >= 7", []any{e.key}, &state, &lane, &started, &end, &node)
		if errors.Is(err, sql.ErrNoRows) || code(err) == 0 && err != nil { // deleted, or changed by other means
			continue
		}
		if err != nil {
			return err
		}
		l, err := t.laneByID(lane)
		if err != nil {
			return err
		}
		if l == nil {
			continue
		}
		name := tallyName{l.queue, l.task}
		if node != nil {
			g, err := t.s.graph(t, *node>>nodeBits)
			if code(err) != 0 {
				return err
			}
			if place := int(*node & (1<<nodeBits - 1)); err == nil && place < len(g.Tasks) {
				name.task = g.TaskName(place) // its lane is that of all the workflow's
			}
		}
		took := time.Duration(-1)
		if started != nil && end != nil {
			took = sinceStart(millis(*started), *end)
		}
		t.tally(name.queue, name.task).End(state, took)
	}
	return nil
}

// sinceStart is how long a run took; negative if it never started.
func sinceStart(started time.Time, now int64) time.Duration {
	if started.IsZero() {
		return -1
	}
	return max(millis(now).Sub(started), 0)
}

// calls counts calls that a commit answered.
func (y *tallies) calls(n int) { y.count += n }

// drop forgets what a transaction counted that was rolled back.
func (y *tallies) drop() {
	clear(y.open)
	y.written = y.written[:0]
}

// merge makes what a transaction counted part of the sums.
func (y *tallies) merge(now int64, took time.Duration) {
	if y.sums == nil {
		y.sums = map[spanName]*sum{}
	}
	for _, s := range y.written { // by this commit
		s.news = false
	}
	y.written = y.written[:0]
	all := store.Tally{Commits: 1, Changes: int64(y.count)}
	y.count = 0
	all.Syncs.Note(took)
	for name, o := range y.open {
		all.Add(o)
		y.into(name, now, o)
	}
	y.into(tallyName{}, now, &all)
	if len(y.open) > 0 && !y.news {
		y.news, y.stored = true, max(y.stored, now-tallyEvery/2)
	}
	clear(y.open)
}

func (y *tallies) into(name tallyName, now int64, o *store.Tally) {
	for _, span := range tallySpans {
		n := spanName{name, span, now - now%span}
		s := y.sums[n]
		if s == nil {
			s = &sum{}
			y.sums[n] = s
		}
		s.Add(o)
		s.news = true
	}
}

const storeTallySQL = `
INSERT INTO stint_tallies (span, queue, task, at, process, enqueued, started, succeeded, failed, canceled, skipped, retried, waits, durations, depth, commits, changes, syncs)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT DO UPDATE SET enqueued = excluded.enqueued, started = excluded.started, succeeded = excluded.succeeded, failed = excluded.failed, canceled = excluded.canceled,
  skipped = excluded.skipped, retried = excluded.retried, waits = excluded.waits, durations = excluded.durations,
  depth = max(depth, excluded.depth), commits = excluded.commits, changes = excluded.changes, syncs = excluded.syncs`

// store writes the sums if it is time to, and forgets those whose time is over.
func (y *tallies) store(t *txn) error {
	if !y.news || !y.last && t.now < y.stored+tallyEvery && t.now >= y.stored {
		return nil
	}
	var depth int
	if err := t.one("SELECT count(*) FROM (SELECT 1 FROM stint_runs WHERE state = 3 LIMIT ?)", []any{store.MaxCount}, &depth); err != nil {
		return err
	}
	for n, s := range y.sums {
		if !s.news {
			if n.at+n.span <= t.now {
				delete(y.sums, n)
			}
			continue
		}
		if n.task == "" && n.at+n.span > t.now {
			s.Depth = max(s.Depth, depth)
		}
		if err := t.storeTally(n, t.s.me.name, &s.Tally); err != nil {
			return err
		}
		y.written = append(y.written, s)
	}
	t.committed = append(t.committed, func() { y.news, y.stored = false, t.now })
	return nil
}

func (t *txn) storeTally(n spanName, process string, y *store.Tally) error {
	return t.exec(storeTallySQL, n.span, n.queue, n.task, n.at, process, y.Enqueued, y.Started, y.Succeeded, y.Failed, y.Canceled, y.Skipped, y.Retried,
		y.Waits.String(), y.Durations.String(), y.Depth, y.Commits, y.Changes, y.Syncs.String())
}

// nextTallySQL skips from task to task along the index, past that of all.
const nextTallySQL = `
SELECT queue, task FROM stint_tallies WHERE span = ? AND (queue, task) > (?, ?) ORDER BY queue, task LIMIT 1`

func tallyNames(q querier, span int64) (all []tallyName, err error) {
	for n := (tallyName{}); ; all = append(all, n) {
		err := q.one(nextTallySQL, []any{span, n.queue, n.task}, &n.queue, &n.task)
		if errors.Is(err, sql.ErrNoRows) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

const talliesSQL = `SELECT at, queue, task, enqueued, started, succeeded, failed, canceled, skipped, retried, waits, durations, depth, commits, changes, syncs
FROM stint_tallies WHERE ` + ofTask + " ORDER BY at"

// Which rows of tallies: of a task, between two times, and of them those of a process, with
// what has no process any more.
const (
	ofTask    = "span = ? AND queue = ? AND task = ? AND at >= ? AND at <= ?"
	ofProcess = ofTask + " AND process IN (?, '')"
)

// Tallies implements store.Stats.
func (s *Store) Tallies(ctx context.Context, span time.Duration, since time.Time, perTask bool) (all []store.Tally, err error) {
	if span != time.Minute && span != time.Hour {
		return nil, fmt.Errorf("tallies of %v: want a minute or an hour", span)
	}
	err = s.view(ctx, func(q querier) error {
		all = nil
		names := []tallyName{{}}
		if perTask {
			var err error
			if names, err = tallyNames(q, span.Milliseconds()); err != nil {
				return err
			}
		}
		for _, n := range names {
			from := clock.Millis(since)
			of, err := talliesOf(q, talliesSQL, span.Milliseconds(), n.queue, n.task, from-from%span.Milliseconds(), never)
			if err != nil {
				return err
			}
			all = append(all, of...)
		}
		return nil
	})
	slices.SortStableFunc(all, func(a, b store.Tally) int { return cmp.Compare(a.At.UnixMilli(), b.At.UnixMilli()) })
	return all, err
}

// talliesOf adds up what the processes counted.
func talliesOf(q querier, text string, args ...any) (all []store.Tally, err error) {
	type row struct {
		store.Tally
		at                      int64
		waits, durations, syncs string
	}
	rows, err := rowsOf(q, func(r *row) []any {
		return []any{&r.at, &r.Queue, &r.Task, &r.Enqueued, &r.Started, &r.Succeeded, &r.Failed, &r.Canceled, &r.Skipped, &r.Retried, &r.waits, &r.durations, &r.Depth, &r.Commits, &r.Changes, &r.syncs}
	}, text, args...)
	for i := range rows {
		r := &rows[i]
		r.At, r.Waits, r.Durations, r.Syncs = millis(r.at), store.ParseHistogram(r.waits), store.ParseHistogram(r.durations), store.ParseHistogram(r.syncs)
		if last := len(all) - 1; last >= 0 && all[last].At.Equal(r.At) {
			all[last].Add(&r.Tally)
		} else {
			all = append(all, r.Tally)
		}
	}
	return all, err
}

// foldAfter is how long after the end of a span the rows of its processes become one.
const foldAfter = time.Hour

const crowdedSQL = `SELECT queue, task, at FROM stint_tallies WHERE span = ? AND at < ? GROUP BY queue, task, at HAVING count(*) > 1 LIMIT ?`

// foldTallies makes one row of what several processes counted in a span that is over, for a
// program that is started often.
func (s *Store) foldTallies(ctx context.Context, span int64, now time.Time) error {
	for {
		var crowded []store.Tally
		err := s.view(ctx, func(q querier) error {
			type row struct {
				tallyName
				at int64
			}
			rows, err := rowsOf(q, func(r *row) []any { return []any{&r.queue, &r.task, &r.at} }, crowdedSQL, span, now.Add(-foldAfter).UnixMilli()-span, perBulk)
			crowded = nil
			for _, r := range rows {
				crowded = append(crowded, store.Tally{Queue: r.queue, Task: r.task, At: millis(r.at)})
			}
			return err
		})
		if err != nil || len(crowded) == 0 {
			return err
		}
		err = s.do(ctx, func(t *txn) error {
			for i := range crowded {
				c := &crowded[i]
				if err := t.foldTally(ofTask, span, c.Queue, c.Task, c.At.UnixMilli(), c.At.UnixMilli()); err != nil {
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

// foldTally makes one row, of no process, of those that a condition names.
func (t *txn) foldTally(which string, span int64, queue, task string, at ...any) error {
	args := append([]any{span, queue, task}, at...)
	sums, err := talliesOf(t, strings.Replace(talliesSQL, ofTask, which, 1), args...)
	if err != nil || len(sums) == 0 {
		return err
	}
	if err := t.exec("DELETE FROM stint_tallies WHERE "+which, args...); err != nil {
		return err
	}
	return t.storeTally(spanName{tallyName{queue, task}, span, sums[0].At.UnixMilli()}, "", &sums[0])
}

// foldProcess does so with what a process counted of late that is dead: a program that dies
// often would leave many rows of each minute.
func (t *txn) foldProcess(process string) error {
	for _, span := range tallySpans {
		names, err := tallyNames(t, span)
		if err != nil {
			return err
		}
		for _, n := range append(names, tallyName{}) {
			ats, err := column[int64](t, "SELECT at FROM stint_tallies WHERE "+ofTask+" AND process = ?", span, n.queue, n.task, t.now-foldAfter.Milliseconds()-span, never, process)
			if err != nil {
				return err
			}
			for _, at := range ats {
				if err := t.foldTally(ofProcess, span, n.queue, n.task, at, at, process); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// expireTallies deletes old tallies, and folds those of spans that are over.
func (s *Store) expireTallies(ctx context.Context) error {
	now := time.Now()
	for _, k := range []struct {
		span int64
		keep time.Duration
	}{{tallySpans[0], store.MinutesKept}, {tallySpans[1], store.HoursKept}} {
		args := []any{k.span, now.Add(-k.keep).UnixMilli()}
		const old = " FROM stint_tallies WHERE span = ? AND at < ?"
		var some bool
		err := s.view(ctx, func(q querier) error { return q.one("SELECT EXISTS (SELECT 1"+old+")", args, &some) })
		if err != nil {
			return err
		}
		if some {
			if err := s.do(ctx, func(t *txn) error { return t.exec("DELETE"+old, args...) }); err != nil {
				return err
			}
		}
		if err := s.foldTallies(ctx, k.span, now); err != nil {
			return err
		}
	}
	return nil
}
