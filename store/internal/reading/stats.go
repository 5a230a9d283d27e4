package reading

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/sample"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
)

// stateCounts count by the partial indexes: PostgreSQL has two of queued runs.
var stateCounts = map[store.State][]string{
	store.Scheduled: {isScheduled},
	store.Queued:    {isQueued + " AND limiter IS NULL", isQueued + " AND limiter IS NOT NULL"},
	store.Running:   {isRunning},
	store.Waiting:   {isWaiting + " AND " + afterRunning + " AND " + notEnded},
	store.Blocked:   {isBlocked + " AND " + afterRunning + " AND " + notEnded},
}

// stateCount counts the runs that have not ended.
func stateCount(q Querier) (map[store.State]int, error) {
	counts := map[store.State]int{}
	for state, conds := range stateCounts {
		for _, cond := range conds {
			var n int
			_, err := one(q, "SELECT count(*) FROM (SELECT 1 FROM stint_runs WHERE "+cond+" LIMIT ?) x", []any{store.MaxCount}, &n)
			if err != nil {
				return nil, err
			}
			counts[state] = min(counts[state]+n, store.MaxCount)
		}
	}
	return counts, nil
}

// CounterNames returns the queues and tasks of which there are counters. It reads the next one by the index,
// after the counters of all runs.
func CounterNames(q Querier, span int64) (all []count.Name, err error) {
	const next = "SELECT queue, task FROM stint_counters WHERE span = ? AND (queue, task) > (?, ?) ORDER BY queue, task LIMIT 1"
	for n := (count.Name{}); ; all = append(all, n) {
		found, err := one(q, next, []any{span, n.Queue, n.Task}, &n.Queue, &n.Task)
		if err != nil || !found {
			return all, err
		}
	}
}

// counters reads a store.CounterList.
func counters(q Querier, span time.Duration, since time.Time, of store.Per) (all []store.Counters, err error) {
	if span != time.Minute && span != time.Hour {
		return nil, fmt.Errorf("counters of %v: want a minute or an hour", span)
	}
	ms, from := span.Milliseconds(), clock.Millis(since)
	from -= from % ms
	names := []count.Name{{}}
	switch of {
	case store.PerLimit:
		names = nil
	case store.PerTask, store.PerQueue:
		if names, err = CounterNames(q, ms); err != nil {
			return nil, err
		}
	}
	for _, n := range names {
		some, err := CountersOf(q, OfTask, ms, n.Queue, n.Task, from, never)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	switch of {
	case store.PerQueue:
		all, err = withSamples(q, all, ms, from)
	case store.PerLimit:
		all, err = samplesOf(q, []sample.Kind{sample.KindLimit, sample.KindRate}, ms, from)
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b store.Counters) int { return cmp.Compare(a.At.UnixMilli(), b.At.UnixMilli()) })
	return all, nil
}

// withSamples adds up the counters of the tasks of each queue, and adds the samples of the queues.
func withSamples(q Querier, tasks []store.Counters, ms, from int64) ([]store.Counters, error) {
	all, err := samplesOf(q, []sample.Kind{sample.KindQueue}, ms, from)
	if err != nil {
		return nil, err
	}
	type place struct {
		queue string
		at    int64
	}
	places := map[place]int{}
	for i, c := range all {
		places[place{c.Queue, c.At.UnixMilli()}] = i
	}
	for i := range tasks {
		c := &tasks[i]
		p := place{c.Queue, c.At.UnixMilli()}
		at, ok := places[p]
		if !ok {
			at, places[p] = len(all), len(all)
			all = append(all, store.Counters{At: c.At, Queue: c.Queue})
		}
		all[at].Add(c)
	}
	return all, nil
}

// samplesOf reads the samples of some kinds since a time. It reads the next name by the index, after the samples of one.
func samplesOf(q Querier, kinds []sample.Kind, ms, from int64) (all []store.Counters, err error) {
	const next = "SELECT name FROM stint_samples WHERE span = ? AND kind = ? AND name > ? ORDER BY name LIMIT 1"
	type row struct {
		store.Counters
		at int64
	}
	for _, kind := range kinds {
		for name := ""; ; {
			found, err := one(q, next, []any{ms, kind, name}, &name)
			if err != nil {
				return nil, err
			}
			if !found {
				break
			}
			rows, err := All(q, func(r *row) []any { return []any{&r.at, &r.Depth, &r.Active, &r.Max} },
				"SELECT at, waiting, active, max FROM stint_samples WHERE span = ? AND kind = ? AND name = ? AND at >= ? ORDER BY at",
				ms, kind, name, from)
			if err != nil {
				return nil, err
			}
			for _, r := range rows {
				r.At = millis(r.at)
				switch kind {
				case sample.KindQueue:
					r.Queue = name
				case sample.KindLimit:
					r.Limit.Name = name
				default:
					r.Limit.Key = name
				}
				all = append(all, r.Counters)
			}
		}
	}
	return all, nil
}

// Sampled reports whether there is a sample of the minute that begins at a time.
func Sampled(q Querier, minute time.Time) (bool, error) {
	var n int64
	return one(q, "SELECT kind FROM stint_samples WHERE span = ? AND kind = ? AND name = '' AND at = ?",
		[]any{count.Lengths[0], sample.KindMark, minute.UnixMilli()}, &n)
}

// Conditions on stint_counters: those of a task between two times, and of them those of a process or without
// one, which were rolled up.
const (
	OfTask    = "span = ? AND queue = ? AND task = ? AND at >= ? AND at <= ?"
	OfProcess = OfTask + " AND process IN (?, '')"
)

// CountersOf reads counters, and adds up those of all processes.
func CountersOf(q Querier, where string, args ...any) (all []store.Counters, err error) {
	type row struct {
		store.Counters
		at                      int64
		waits, durations, syncs string
	}
	rows, err := All(q, func(r *row) []any {
		return []any{&r.at, &r.Queue, &r.Task, &r.Enqueued, &r.Started, &r.Succeeded, &r.Failed, &r.Canceled, &r.Skipped, &r.Retried,
			&r.waits, &r.durations, &r.Depth, &r.Commits, &r.Changes, &r.syncs}
	}, `SELECT at, queue, task, enqueued, started, succeeded, failed, canceled, skipped, retried, waits, durations, depth,
	commits, changes, syncs
FROM stint_counters WHERE `+where+" ORDER BY at", args...)
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

// Crowded returns up to n spans before a time for which several processes have counters.
func Crowded(q Querier, length, before int64, n int) ([]count.Span, error) {
	return All(q, func(s *count.Span) []any { return []any{&s.Queue, &s.Task, &s.At} }, `SELECT queue, task, at FROM stint_counters
	WHERE span = ? AND at < ? GROUP BY queue, task, at HAVING count(*) > 1 LIMIT ?`, length, before, n)
}

// names reads the known names. Tasks of workflows share a lane, whose name ends with a colon; their own names are
// in the graphs.
func (r *Reader) names(q Querier) (n store.Names, err error) {
	if n.Queues, err = Column[string](q, "SELECT name FROM stint_queues"); err != nil {
		return n, err
	}
	n.Tasks, err = Column[string](q, "SELECT l.task FROM stint_lanes l WHERE "+r.Visible+" UNION SELECT task FROM stint_crons "+
		"UNION SELECT task FROM stint_triggers UNION SELECT task FROM stint_filters")
	if err != nil {
		return n, err
	}
	type worker struct{ tasks, queues []byte }
	workers, err := All(q, func(w *worker) []any { return []any{&w.tasks, &w.queues} }, "SELECT DISTINCT tasks, queues FROM stint_workers")
	if err != nil {
		return n, err
	}
	for _, w := range workers {
		n.Tasks, n.Queues = append(n.Tasks, texts(w.tasks)...), append(n.Queues, texts(w.queues)...)
	}
	n.Tasks = slices.DeleteFunc(n.Tasks, func(t string) bool { return strings.HasSuffix(t, ":") })
	err = r.graphs(q, func(_ int64, g *store.Graph) {
		for place := range g.Success() + 1 {
			n.Tasks = append(n.Tasks, g.TaskName(place))
		}
	})
	slices.Sort(n.Tasks)
	slices.Sort(n.Queues)
	n.Tasks, n.Queues = slices.Compact(n.Tasks), slices.Compact(n.Queues)
	return n, err
}

// texts returns the texts of a JSON array; none of one that was changed by hand and is not JSON.
func texts(array []byte) (all []string) {
	var values []any
	if json.Unmarshal(array, &values) != nil {
		return nil
	}
	for _, v := range values {
		if s, ok := v.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// workers reads a store.WorkerList.
func workers(q Querier) ([]store.WorkerInfo, error) {
	type row struct {
		store.WorkerInfo
		queues, labels, tasks []byte
		started               int64
	}
	rows, err := All(q, func(r *row) []any {
		return []any{&r.ID, &r.Name, &r.PID, &r.Host, &r.Slots, &r.queues, &r.labels, &r.tasks, &r.Build, &r.started, &r.Paused,
			&r.Running}
	}, `SELECT id, name, pid, host, slots, queues, labels, tasks, build, started_at, paused,
		(SELECT count(*) FROM stint_runs r WHERE r.worker = w.id AND r.`+isRunning+`) FROM stint_workers w WHERE ended_at IS NULL
		ORDER BY +id`)
	all := make([]store.WorkerInfo, len(rows))
	for i := range rows {
		r := &rows[i]
		if json.Unmarshal(r.queues, &r.Queues) != nil || json.Unmarshal(r.labels, &r.Labels) != nil ||
			json.Unmarshal(r.tasks, &r.Tasks) != nil {
			r.Queues, r.Labels, r.Tasks = nil, nil, nil // changed by hand; the others are listed all the same
		}
		r.Started = millis(r.started)
		all[i] = r.WorkerInfo
	}
	return all, err
}
