package reading

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/retention"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// ofWorkflow selects the workflow's run f that a task r is of.
const ofWorkflow = " FROM stint_runs f WHERE f.id = r.parent AND r.node IS NOT NULL AND r.flags & 2 = 0"

const input = "(SELECT data FROM stint_inputs i WHERE i.id = "

// payloadColumns are those of a run's columns that a brief list leaves out; here metadata and input.
const payloadColumns = `coalesce(r.metadata, (SELECT f.metadata` + ofWorkflow + `)),
  coalesce(r.input, ` + input + `r.id), (SELECT coalesce(f.input, ` + input + `f.id))` + ofWorkflow + `))`

// brief replaces the columns that a brief list leaves out.
var brief = strings.NewReplacer(payloadColumns, "NULL, NULL",
	"r.output, r.error, p.done, p.total, p.message", "NULL, NULL, CAST(NULL AS bigint), CAST(NULL AS bigint), NULL",
	" LEFT JOIN stint_progress p ON p.run = r.id", "")

// runColumns are a run's, between them Dialect.Executions.
const (
	runColumns = `SELECT r.id, l.task, l.queue, r.state, r.priority, r.attempt, r.crashes, r.lease, `

	moreRunColumns = `, ` + dueTime + `,
  r.started_at, r.ended_at, r.cancel_at, r.start_by, coalesce((SELECT name FROM stint_workers w WHERE w.id = r.worker), ''),
  r.parent, r.root, coalesce(r.key, ''), ` + payloadColumns + `,
  r.node, (r.flags & 2) + CASE WHEN r.` + isQueued + ` AND EXISTS (SELECT 1 FROM stint_queues q WHERE q.name = l.queue AND q.paused)
    THEN 1 ELSE 0 END, r.output, r.error, p.done, p.total, p.message,
  CASE WHEN r.` + isQueued + ` AND r.limiter > 0 THEN r.limiter END,
  CASE WHEN r.` + isQueued + ` THEN l.route ELSE '' END`

	// runTables begins with the condition of all that follow. SQLite reads r first, for which CROSS JOIN stands.
	runTables = ` FROM stint_runs r CROSS JOIN stint_lanes l LEFT JOIN stint_progress p ON p.run = r.id WHERE l.id = r.lane AND `
)

type runRow struct {
	store.Run
	key, lease, due                 int64
	started, ended, cancel, startBy *int64
	parent, root, node              *int64
	bits                            int64 // 1: its queue is paused, 2: it is a workflow's run; reading a column costs
	done, total                     *int64
	message                         *string
	limiter                         *int64
	route                           string
}

func (r *runRow) fields() []any {
	return []any{&r.key, &r.Task, &r.Queue, &r.State, &r.Priority, &r.Attempt, &r.Crashes, &r.lease, &r.Executions, &r.due,
		&r.started, &r.ended, &r.cancel, &r.startBy, &r.Worker, &r.parent, &r.root, &r.Key, &r.Metadata,
		&r.Input, &r.node, &r.bits, &r.Output, &r.Error, &r.done, &r.total, &r.message, &r.limiter, &r.route}
}

// runs decodes rows, with the limiters that their runs wait for.
func (r *Reader) runs(q Querier, now time.Time, rows []runRow) ([]store.Run, error) {
	limiters, err := r.limitersOf(q, now, rows)
	if err != nil {
		return nil, err
	}
	runs := make([]store.Run, len(rows))
	for i := range rows {
		row := &rows[i]
		if err := r.decode(q, row); err != nil {
			return nil, err
		}
		if row.limiter != nil {
			if l, ok := limiters[*row.limiter]; ok {
				row.Limiter = &l
			}
		}
		runs[i] = row.Run
	}
	return runs, nil
}

func (r *Reader) decode(q Querier, row *runRow) error {
	if row.node != nil {
		g, err := r.graph(q, *row.node>>lifecycle.NodeBits)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if place := workflow.Place(*row.node); err == nil && place <= g.Success() { // else it was changed by hand
			name := g.TaskName(place)
			row.Workflow = row.bits&2 != 0
			row.NoHandler = !row.Workflow && row.Task == name && row.State == store.Queued
			row.Task = name
		}
	}
	row.ID, row.Parent, row.Root = r.IDs.ID(row.key), r.IDs.Optional(row.parent), r.IDs.Optional(row.root)
	row.Lease, row.Paused = store.Lease(row.lease), row.bits&1 != 0
	row.Created, row.Due = millis(keys.CreatedAt(row.key)), millis(row.due)
	row.Started, row.Ended = optionalTime(row.started), optionalTime(row.ended)
	row.CancelAt, row.StartBy = optionalTime(row.cancel), optionalTime(row.startBy)
	if row.route != "" {
		row.Route, _ = store.ParseRoute(row.route) // one that was changed by hand is ignored
	}
	if row.done != nil {
		row.Progress = &store.Progress{Done: *row.done, Total: *row.total, Message: *row.message}
	}
	return nil
}

// Get reads what Get of store.History returns.
func (r *Reader) Get(q Querier, now time.Time, id store.ID) (*store.Run, error) {
	key, ok := r.IDs.Key(id)
	if !ok {
		return nil, notFound(id)
	}
	rows, err := All(q, (*runRow).fields, r.getRun, key)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, notFound(id)
	}
	runs, err := r.runs(q, now, rows)
	if err != nil {
		return nil, err
	}
	runs[0].Attempts, err = r.attempts(q, key)
	return &runs[0], err
}

func (r *Reader) attempts(q Querier, key int64) ([]store.Attempt, error) {
	type row struct {
		store.Attempt
		started *int64
		ended   int64
	}
	rows, err := All(q, func(r *row) []any {
		return []any{&r.Attempt.Attempt, &r.Worker, &r.started, &r.ended, &r.To, &r.Error}
	}, `SELECT attempt, coalesce((SELECT name FROM stint_workers w WHERE w.id = a.worker), ''), started_at, ended_at, state, error
		FROM stint_attempts a WHERE run = ? ORDER BY `+r.AttemptOrder, key)
	var all []store.Attempt
	for _, r := range rows {
		r.Started, r.Ended = optionalTime(r.started), millis(r.ended)
		all = append(all, r.Attempt)
	}
	return all, err
}

// List reads what List of store.History returns.
func (r *Reader) List(q Querier, now time.Time, f store.Filter, before store.ID, limit int) (runs []store.Run, next store.ID, err error) {
	from, to, err := r.boundsBefore(&f, before)
	if err != nil {
		return nil, next, fmt.Errorf("list %w", err)
	}
	where, args, err := r.where(q, &f)
	if err != nil {
		return nil, next, err
	}
	if f.Scan > 0 && !rare(f.States) {
		if from, to, next, err = r.scanned(q, &f, from, to); err != nil {
			return nil, next, err
		}
	}
	var last int64 // of childrenOf
	if where == runTables+r.Visible+" AND "+ofParent {
		if from, to, last, err = childrenOf(q, &f, args[0], from, to, limit); err != nil {
			return nil, next, err
		}
	}
	id := "r.id"
	if len(f.States) == 1 && f.States[0] == store.Running {
		id = "+r.id" // few are running: find them by their index and sort, rather than read all by ID
	}
	order := " DESC"
	if f.Oldest {
		order = " ASC"
	}
	where += " AND " + id + " >= ? AND " + id + " < ? ORDER BY " + id + order + " LIMIT ?"
	columns := runColumns + r.Executions + moreRunColumns
	if f.Brief {
		columns, where = brief.Replace(columns), brief.Replace(where)
	}
	rows, more, err := page(q, limit, (*runRow).fields, func(r *runRow) int { return r.Size() },
		columns+where, append(args, from, to, limit+1)...)
	if err != nil {
		return nil, next, err
	}
	if more || last != 0 { // of the keys that were narrowed to, some may have been deleted since: there may be more
		if len(rows) > 0 {
			last = rows[len(rows)-1].key
		}
		next = r.IDs.ID(last)
	}
	runs, err = r.runs(q, now, rows)
	return runs, next, err
}

// childrenOf narrows the keys that List looks at to a page of a run's children, and one more. Their index is not in the order of keys, and
// to sort keys costs little where to sort rows costs much. last is that one more; 0: they were all.
func childrenOf(q Querier, f *store.Filter, parent any, from, to int64, limit int) (_, _, last int64, err error) {
	order := "DESC"
	if f.Oldest {
		order = "ASC"
	}
	_, err = one(q, "SELECT id FROM stint_runs WHERE parent = ? AND id >= ? AND id < ? ORDER BY id "+order+" LIMIT 1 OFFSET ?",
		[]any{parent, from, to, limit}, &last)
	switch {
	case last == 0:
	case f.Oldest:
		to = last + 1
	default:
		from = last
	}
	return from, to, last, err
}

// scanned narrows the keys that List looks at to Scan runs, and returns where the next page goes on; zero: they were all.
func (r *Reader) scanned(q Querier, f *store.Filter, from, to int64) (int64, int64, store.ID, error) {
	if f.Oldest {
		var last int64
		_, err := one(q, "SELECT id FROM stint_runs WHERE id >= ? ORDER BY id LIMIT 1 OFFSET ?", []any{from, f.Scan - 1}, &last)
		if err == nil && last > 0 && last+1 < to {
			return from, last + 1, r.IDs.ID(last), nil
		}
		return from, to, store.ID{}, err
	}
	floor, err := floorOf(q, to, f.Scan)
	if err == nil && floor > from {
		return floor, to, r.IDs.ID(floor), nil
	}
	return from, to, store.ID{}, err
}

// Count reads what Count of store.History returns.
func (r *Reader) Count(q Querier, f store.Filter, before store.ID) (n int, next store.ID, err error) {
	f.Oldest = false
	from, to, err := r.boundsBefore(&f, before)
	if err != nil {
		return 0, next, fmt.Errorf("count %w", err)
	}
	if f.Scan > 0 && f.IDs == nil {
		floor, err := countFloor(q, &f, to)
		if err != nil {
			return 0, next, err
		}
		if floor > from {
			from, next = floor, r.IDs.ID(floor)
		}
	}
	where, args, err := r.where(q, &f)
	if err != nil {
		return 0, next, err
	}
	_, err = one(q, "SELECT count(*)"+where+" AND r.id >= ? AND r.id < ?", append(args, from, to), &n)
	return n, next, err
}

// countFloor returns the run down to which Count looks at runs from one on; 0: to the oldest. Where each state has an
// index, at most Scan runs of each lie between.
func countFloor(q Querier, f *store.Filter, from int64) (floor int64, err error) {
	if !rare(f.States) {
		return floorOf(q, from, f.Scan)
	}
	for _, st := range f.States {
		var of int64
		where := stateCondition([]store.State{st}) + " AND r.id < ? ORDER BY r.id DESC LIMIT 1 OFFSET ?"
		if _, err := one(q, "SELECT r.id FROM stint_runs r WHERE "+where, []any{from, f.Scan - 1}, &of); err != nil {
			return 0, err
		}
		floor = max(floor, of)
	}
	return floor, nil
}

// boundsBefore is bounds for the runs before one, or after it with Oldest; zero: all.
func (r *Reader) boundsBefore(f *store.Filter, before store.ID) (from, to int64, err error) {
	// One bound on each side: of two, SQLite uses one for the search, and reads up to the other.
	from, to = r.bounds(f)
	if before != (store.ID{}) {
		key, ok := r.IDs.Key(before)
		if !ok {
			return 0, 0, fmt.Errorf("before run %s: %w", before, store.ErrNotFound)
		}
		if f.Oldest {
			return max(from, key+1), to, nil
		}
		to = min(to, key)
	}
	return from, to, nil
}

// bounds returns the first key that a filter may select and the first after those, and removes them from it.
func (r *Reader) bounds(f *store.Filter) (from, to int64) {
	to = never
	if !f.Since.IsZero() {
		from = keys.At(f.Since)
	}
	if !f.Until.IsZero() {
		to = keys.At(f.Until)
	}
	if f.Through != (store.ID{}) {
		key, _ := r.IDs.Key(f.Through) // unknown: 0, before every run
		to = min(to, key+1)
	}
	f.Since, f.Until, f.Through = time.Time{}, time.Time{}, store.ID{}
	return from, to
}

// floorOf returns the run after n others, in the order of a list; 0: there are fewer.
func floorOf(q Querier, from int64, n int) (floor int64, err error) {
	_, err = one(q, "SELECT id FROM stint_runs WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?", []any{from, n - 1}, &floor)
	return floor, err
}

// Logs reads what Logs of store.History returns.
func (r *Reader) Logs(q Querier, id store.ID, after int64, limit int) ([]store.Log, error) {
	key, _ := r.IDs.Key(id)
	type row struct {
		store.Log
		at int64
	}
	rows, _, err := page(q, limit, func(r *row) []any {
		return []any{&r.Seq, &r.at, &r.Level, &r.Attempt, &r.Message, &r.Attrs}
	}, func(r *row) int { return r.Size() }, "SELECT seq, at, level, attempt, message, attrs FROM stint_logs "+
		"WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?", key, after, limit)
	logs := make([]store.Log, len(rows))
	for i, r := range rows {
		r.At = millis(r.at)
		logs[i] = r.Log
	}
	return logs, err
}

// Chunks reads what Chunks of store.History returns.
func (r *Reader) Chunks(q Querier, id store.ID, after int64, limit int) (chunks []store.Chunk, ended bool, err error) {
	key, _ := r.IDs.Key(id)
	// The state first: if the run has ended by then, all its chunks are there.
	found, err := one(q, "SELECT "+hasEnded+" FROM stint_runs WHERE id = ?", []any{key}, &ended)
	if err != nil {
		return nil, false, err
	}
	if !found {
		return nil, false, notFound(id)
	}
	if after < 0 {
		var last int64
		if _, err := one(q, "SELECT coalesce((SELECT seq FROM stint_chunks WHERE run = ? ORDER BY seq DESC LIMIT 1), 0)",
			[]any{key}, &last); err != nil {
			return nil, false, err
		}
		after = max(last+after, 0)
	}
	type row struct {
		store.Chunk
		at int64
	}
	rows, more, err := page(q, limit, func(r *row) []any { return []any{&r.Seq, &r.at, &r.Attempt, &r.Execution, &r.Data} },
		func(r *row) int { return len(r.Data) },
		"SELECT seq, at, attempt, execution, data FROM stint_chunks WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?", key, after, limit)
	for _, r := range rows {
		r.At = millis(r.at)
		chunks = append(chunks, r.Chunk)
	}
	return chunks, ended && !more && len(rows) < limit, err
}

// Result returns what Await returns of a run, and reports whether it is what Await waits for.
func (r *Reader) Result(q Querier, key int64, u store.Until) (res store.Result, done bool, err error) {
	found, err := one(q, "SELECT state, flags & 2 <> 0, CASE WHEN "+isSucceeded+" THEN output END FROM stint_runs WHERE id = ?",
		[]any{key}, &res.State, &res.Workflow, &res.Output)
	if err != nil || !found {
		return store.Result{}, !found, err
	}
	if u.Entry != (store.Address{}) {
		res.Entry, err = r.EntryAt(q, key, u.Entry)
	}
	if done = res.State.Terminal() || u.Met(res.Entry); done || err != nil || u.Chunk == 0 {
		return res, done, err
	}
	_, err = one(q, "SELECT EXISTS (SELECT 1 FROM stint_chunks WHERE run = ? AND seq >= ?)", []any{key, u.Chunk}, &done)
	return res, done, err
}

// A Canceled is an execution that was asked to cancel.
type Canceled struct {
	Key   int64
	Lease store.Lease
}

// AskedToCancel returns the executions of a worker that were asked to cancel.
func AskedToCancel(q Querier, worker int64) ([]Canceled, error) {
	return All(q, func(c *Canceled) []any { return []any{&c.Key, &c.Lease} },
		"SELECT id, lease FROM stint_runs WHERE worker = ? AND "+isRunning+" AND cancel_at IS NOT NULL", worker)
}

// Expirable returns up to n runs between two keys, for package retention.
func Expirable(q Querier, after, before int64, n int) ([]retention.Run, error) {
	return All(q, func(r *retention.Run) []any { return []any{&r.Key, &r.Lane, &r.State, &r.Ended, &r.Task, &r.Parent} },
		"SELECT id, lane, state, coalesce(ended_at, 0), node IS NOT NULL AND flags & 2 = 0, coalesce(parent, 0) FROM stint_runs "+
			"WHERE id > ? AND id < ? "+
			"ORDER BY id LIMIT ?", after, before, n)
}
