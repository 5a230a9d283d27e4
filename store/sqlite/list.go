package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// reader runs statements on the read connections, outside of the writer's transactions.
type reader struct {
	ctx context.Context
	s   *Store
}

func (r reader) query(text string, args ...any) (*sql.Rows, error) {
	st, err := r.s.readStmt(r.ctx, text)
	if err != nil || st == nil {
		return r.s.read.QueryContext(r.ctx, text, args...)
	}
	return st.QueryContext(r.ctx, args...)
}

func (r reader) one(text string, args []any, into ...any) error {
	st, err := r.s.readStmt(r.ctx, text)
	if err != nil || st == nil {
		return r.s.read.QueryRowContext(r.ctx, text, args...).Scan(into...)
	}
	return st.QueryRowContext(r.ctx, args...).Scan(into...)
}

// keptStmts is how many reading statements stay prepared. Lists have any number of texts.
const keptStmts = 64

// readStmt returns the prepared statement with this text; nil: there are too many.
func (s *Store) readStmt(ctx context.Context, text string) (*sql.Stmt, error) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	if st := s.readStmts[text]; st != nil || len(s.readStmts) >= keptStmts {
		return st, nil
	}
	st, err := s.read.PrepareContext(ctx, text)
	if err == nil {
		s.readStmts[text] = st
	}
	return st, err
}

// view runs a function that reads: on a connection of its own, each statement in a snapshot; or, for a
// database in memory, in the writer.
func (s *Store) view(ctx context.Context, f func(querier) error) error {
	if s.read == nil {
		return s.doOp(ctx, &op{apply: func(u *unit) error { return f(u) }, reads: true, done: make(chan struct{})})
	}
	if s.opts.ReadOnly {
		if _, err := s.refresh(); err != nil {
			return err
		}
	}
	s.reading.RLock() // Close waits for readers
	defer s.reading.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	err := explain(f(reader{ctx, s}))
	if s.opts.ReadOnly && !s.isStill() {
		return errMoving
	}
	return err
}

const runColumns = `r.id, l.task, l.queue, r.state, r.priority, r.attempt, r.crashes, r.lease, coalesce(r.due_at, r.id >> 20),
  r.started_at, r.ended_at, r.cancel_at, r.start_by, coalesce((SELECT name FROM stint_workers w WHERE w.id = r.worker), ''),
  r.parent, r.root, coalesce(r.key, ''),
  coalesce(r.metadata, (SELECT f.metadata FROM stint_runs f WHERE f.id = r.parent AND r.node IS NOT NULL AND NOT r.flags & 2)),
  coalesce(r.input, (SELECT data FROM stint_inputs i WHERE i.id = r.id),
    (SELECT coalesce(f.input, (SELECT data FROM stint_inputs i WHERE i.id = f.id))
      FROM stint_runs f WHERE f.id = r.parent AND r.node IS NOT NULL AND NOT r.flags & 2)),
  r.node, r.flags & 2 > 0, r.output, r.error, p.done, p.total, p.message,
  CASE WHEN r.` + stateQueued + ` AND r.limiter > 0 THEN r.limiter END,
  r.` + stateQueued + ` AND EXISTS (SELECT 1 FROM stint_queues q WHERE q.name = l.queue AND q.paused),
  CASE WHEN r.` + stateQueued + ` THEN l.route ELSE '' END`

const runTables = ` FROM stint_runs r CROSS JOIN stint_lanes l ON l.id = r.lane LEFT JOIN stint_progress p ON p.run = r.id `

type runRow struct {
	store.Run
	key, due                        int64
	started, ended, cancel, startBy *int64
	parent, root, node              *int64
	flow                            bool
	done, total                     *int64
	message                         *string
	limiter                         *int64
	route                           string
}

func (r *runRow) fields() []any {
	return []any{&r.key, &r.Task, &r.Queue, &r.State, &r.Priority, &r.Attempt, &r.Crashes, &r.Executions, &r.due,
		&r.started, &r.ended, &r.cancel, &r.startBy, &r.Worker, &r.parent, &r.root, &r.Key, &r.Metadata,
		&r.Input, &r.node, &r.flow, &r.Output, &r.Error, &r.done, &r.total, &r.message, &r.limiter, &r.Paused, &r.route}
}

func (s *Store) run(q querier, r *runRow) (store.Run, error) {
	if r.node != nil {
		g, err := s.graphs.graph(q, *r.node>>nodeBits)
		if code(err) != 0 {
			return r.Run, err
		}
		if place := workflow.Place(*r.node); err == nil && place <= g.Success() { // else it was changed by hand
			name := g.TaskName(place)
			r.NoHandler, r.Workflow, r.Run.Task = !r.flow && r.Task == name && r.State == store.Queued, r.flow, name
		}
	}
	r.ID, r.Parent, r.Root, r.Lease = s.ids.ID(r.key), s.ids.Optional(r.parent), s.ids.Optional(r.root), store.Lease(r.Executions)
	r.Created, r.Due = millis(keys.CreatedAt(r.key)), millis(r.due)
	r.Started, r.Ended, r.CancelAt, r.StartBy = optionalTime(r.started), optionalTime(r.ended), optionalTime(r.cancel),
		optionalTime(r.startBy)
	if r.route != "" {
		r.Route, _ = store.ParseRoute(r.route) // one that was changed by hand is ignored
	}
	if r.limiter != nil {
		limiters, err := limiterInfos(q, "id = ?", *r.limiter)
		if err != nil {
			return r.Run, err
		}
		if len(limiters) > 0 {
			r.Limiter = &limiters[0]
		}
	}
	if r.done != nil {
		r.Progress = &store.Progress{Done: *r.done, Total: *r.total, Message: *r.message}
	}
	return r.Run, nil
}

// Get implements store.History.
func (s *Store) Get(ctx context.Context, id store.ID) (*store.Run, error) {
	key, ok := s.ids.Key(id)
	if !ok {
		return nil, fmt.Errorf("run %s: %w", id, store.ErrNotFound)
	}
	var row runRow
	var run store.Run
	err := s.view(ctx, func(q querier) error {
		err := q.one("SELECT "+runColumns+runTables+"WHERE r.id = ? AND l.staged IS NULL", []any{key}, row.fields()...)
		if err != nil {
			return err
		}
		if run, err = s.run(q, &row); err != nil {
			return err
		}
		run.Attempts, err = s.attempts(q, key)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("run %s: %w", id, store.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return &run, nil
}

func (s *Store) attempts(q querier, key int64) ([]store.Attempt, error) {
	type row struct {
		store.Attempt
		started *int64
		ended   int64
	}
	rows, err := rowsOf(q, func(r *row) []any {
		return []any{&r.Attempt.Attempt, &r.Worker, &r.started, &r.ended, &r.To, &r.Error}
	}, `SELECT attempt, coalesce((SELECT name FROM stint_workers w WHERE w.id = a.worker), ''), started_at, ended_at, state, error
		FROM stint_attempts a WHERE run = ? ORDER BY lease`, key)
	var all []store.Attempt
	for _, r := range rows {
		r.Started, r.Ended = optionalTime(r.started), millis(r.ended)
		all = append(all, r.Attempt)
	}
	return all, err
}

// List implements store.History.
func (s *Store) List(ctx context.Context, f store.Filter, before store.ID, limit int) (runs []store.Run, next store.ID, err error) {
	// One bound on each side: of two, SQLite uses one for the search, and reads up to the other.
	from, to := int64(0), never
	if !f.Since.IsZero() {
		from = keys.At(f.Since)
	}
	if !f.Until.IsZero() {
		to = keys.At(f.Until)
	}
	if f.Through != (store.ID{}) {
		key, _ := s.ids.Key(f.Through) // unknown: 0, before every run
		to = min(to, key+1)
	}
	f.Since, f.Until, f.Through = time.Time{}, time.Time{}, store.ID{}
	where, args, err := s.where(ctx, f)
	if err != nil {
		return nil, next, err
	}
	id := "r.id"
	if len(f.States) == 1 && f.States[0] == store.Running {
		id = "+r.id" // few are running: find them by their index and sort, rather than read all by ID
	}
	if before != (store.ID{}) {
		key, ok := s.ids.Key(before)
		if !ok {
			return nil, next, fmt.Errorf("list before run %s: %w", before, store.ErrNotFound)
		}
		to = min(to, key)
	}
	err = s.view(ctx, func(q querier) error {
		if f.Scan > 0 && !rare(f.States) {
			var floor int64
			if err := floorOf(q, to, f.Scan, &floor); err != nil {
				return err
			}
			if floor > from {
				from, next = floor, s.ids.ID(floor)
			}
		}
		where := where + " AND " + id + " >= ? AND " + id + " < ? ORDER BY " + id + " DESC LIMIT ?"
		rows, more, err := pageOf(q, limit, (*runRow).fields, func(r *runRow) int { return r.Size() },
			"SELECT "+runColumns+runTables+where, append(args, from, to, limit+1)...)
		if err != nil {
			return err
		}
		if more {
			next = s.ids.ID(rows[len(rows)-1].key)
		}
		runs = make([]store.Run, len(rows))
		for i := range rows {
			if runs[i], err = s.run(q, &rows[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return runs, next, err
}

// pageOf is rowsOf for a page of a list: at least one row, at most limit, and fewer rather than more than
// store.MaxPageBytes. more reports whether there are others: the query's limit has to be limit+1. It reads
// one row that it does not return.
func pageOf[T any](
	q querier, limit int, fields func(*T) []any, size func(*T) int, text string, args ...any,
) (page []T, more bool, err error) {
	rows, err := q.query(text, args...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for bytes := 0; rows.Next(); {
		var v T
		if len(page) == limit {
			return page, true, nil
		}
		if err := rows.Scan(fields(&v)...); err != nil {
			return nil, false, err
		}
		if bytes += size(&v); bytes > store.MaxPageBytes && len(page) > 0 {
			return page, true, nil
		}
		page = append(page, v)
	}
	return page, false, rows.Err()
}

// floorOf sets floor to the run after n others, in the order of a list; 0: there are fewer.
func floorOf(q querier, from int64, n int, floor *int64) error {
	err := q.one("SELECT id FROM stint_runs WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?", []any{from, n - 1}, floor)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// Logs implements store.History.
func (s *Store) Logs(ctx context.Context, id store.ID, after int64, limit int) ([]store.Log, error) {
	key, _ := s.ids.Key(id)
	type row struct {
		store.Log
		at int64
	}
	var rows []row
	err := s.view(ctx, func(q querier) (err error) {
		rows, _, err = pageOf(q, limit, func(r *row) []any {
			return []any{&r.Seq, &r.at, &r.Level, &r.Attempt, &r.Message, &r.Attrs}
		}, func(r *row) int { return r.Size() }, "SELECT seq, at, level, attempt, message, attrs FROM stint_logs "+
			"WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?", key, after, limit)
		return err
	})
	logs := make([]store.Log, len(rows))
	for i, r := range rows {
		r.At = millis(r.at)
		logs[i] = r.Log
	}
	return logs, err
}

// Chunks implements store.History.
func (s *Store) Chunks(ctx context.Context, id store.ID, after int64, limit int) (chunks []store.Chunk, ended bool, err error) {
	key, _ := s.ids.Key(id)
	err = s.view(ctx, func(q querier) (err error) {
		// The state first: if the run has ended by then, all its chunks are there.
		err = q.one("SELECT "+hasEnded+" FROM stint_runs WHERE id = ?", []any{key}, &ended)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("run %s: %w", id, store.ErrNotFound)
		}
		if err != nil {
			return err
		}
		var more bool
		chunks, more, err = pageOf(q, limit, func(c *store.Chunk) []any { return []any{&c.Seq, &c.Data} },
			func(c *store.Chunk) int { return len(c.Data) },
			"SELECT seq, data FROM stint_chunks WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?", key, after, limit)
		ended = ended && !more && len(chunks) < limit
		return err
	})
	return chunks, ended, err
}

const queuesSQL = `
SELECT name, paused,
  coalesce((SELECT sum((SELECT count(*) FROM (SELECT 1 FROM stint_runs r WHERE r.limiter IS NULL AND r.lane = l.id
  AND r.` + stateQueued + ` LIMIT ?1)))
    FROM stint_lanes l WHERE l.queue = q.name AND l.staged IS NULL), 0),
  (SELECT count(*) FROM stint_runs r CROSS JOIN stint_lanes l ON l.id = r.lane WHERE r.` + stateRunning + ` AND r.worker > 0
  AND l.queue = q.name),
  (SELECT min((SELECT coalesce(r.due_at, r.id >> 20) FROM stint_runs r WHERE r.limiter IS NULL AND r.lane = l.id
  AND r.` + stateQueued + ` ORDER BY r.rank, r.turn LIMIT 1))
    FROM stint_lanes l WHERE l.queue = q.name AND l.staged IS NULL)
FROM stint_queues q`

const prioritiesSQL = `
SELECT priority, count(*) FROM (SELECT r.priority FROM stint_lanes l CROSS JOIN stint_runs r ON r.lane = l.id
  WHERE l.queue = ? AND l.staged IS NULL AND r.limiter IS NULL AND r.` + stateQueued + ` LIMIT ?) GROUP BY priority`

func priorities(q querier, queue string) (map[int8]int, error) {
	type row struct {
		priority int8
		n        int
	}
	rows, err := rowsOf(q, func(r *row) []any { return []any{&r.priority, &r.n} }, prioritiesSQL, queue, store.MaxCount)
	counts := map[int8]int{}
	for _, r := range rows {
		counts[r.priority] = r.n
	}
	return counts, err
}

// Queues implements store.Limits.
func (s *Store) Queues(ctx context.Context, name string) (all []store.QueueInfo, err error) {
	err = s.view(ctx, func(q querier) (err error) {
		all = nil
		type row struct {
			store.QueueInfo
			oldest *int64
		}
		fields := func(i *row) []any { return []any{&i.Name, &i.Paused, &i.Ready, &i.Running, &i.oldest} }
		var rows []row
		if name == "" {
			rows, err = rowsOf(q, fields, queuesSQL+" ORDER BY name", store.MaxCount)
		} else {
			rows, err = rowsOf(q, fields, queuesSQL+" WHERE name = ?2", store.MaxCount, name)
		}
		for _, r := range rows {
			r.Oldest = optionalTime(r.oldest)
			if name != "" && err == nil {
				r.Priorities, err = priorities(q, name)
			}
			all = append(all, r.QueueInfo)
		}
		return err
	})
	return all, err
}
