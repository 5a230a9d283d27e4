package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/ready"
	"github.com/stint-dev/stint/store/internal/workflow"
)

const (
	spillAbove = 2048 // bytes: larger inputs are in stint_inputs
	stageAbove = 5000 // runs: larger bulks take several commits (stage.go)
	perInsert  = 50   // rows in one INSERT of a bulk
)

// Enqueue implements store.Runs.
func (s *Store) Enqueue(ctx context.Context, now time.Time, runs []store.NewRun) ([]store.Enqueued, error) {
	if len(runs) > stageAbove && !keyed(runs) && runs[0].Call == nil {
		return s.enqueueStaged(ctx, now, runs)
	}
	var out []store.Enqueued
	err := s.do(ctx, func(u *unit) (err error) {
		out, err = u.runs.enqueue(now.UnixMilli(), runs, nil)
		if err == nil && len(runs) > 0 && runs[0].Call != nil {
			err = u.journals.recordCall(now.UnixMilli(), runs[0].Call, out)
		}
		return err
	})
	return out, err
}

func keyed(runs []store.NewRun) bool {
	for i := range runs {
		if runs[i].Key != "" {
			return true
		}
	}
	return false
}

// Most runs are plain: due at once, and nothing but metadata is set. They have a short row.
const (
	plainHead = "INSERT INTO stint_runs (id, lane, state, priority, rank, input) VALUES "
	fullSQL   = `INSERT INTO stint_runs (id, lane, state, priority, rank, input, due_at, start_by, start_in, parent, root, key, metadata,
		flags, node, worker, started_at, limits, limiter)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
)

var (
	plainRows = newRowKind(plainHead, "?,"+queuedState+",?,?,?")
	metaRows  = newRowKind("INSERT INTO stint_runs (id, lane, state, priority, rank, input, metadata) VALUES ", "?,"+queuedState+",?,?,?,?")
	nodeRows  = newRowKind(nodeHead, "?,"+queuedState+",?,?,?,?,?")
)

// enqueue inserts runs in order. staged has their lanes if these are staged.
func (rs *runs) enqueue(now int64, runs []store.NewRun, staged map[ready.Name]int64) ([]store.Enqueued, error) {
	out := make([]store.Enqueued, len(runs))
	b := bulk{kind: plainRows}
	var name ready.Name
	var lane int64
	var counts *store.Counters
	for i := range runs {
		r := &runs[i]
		if r.Key != "" {
			holder, err := lifecycle.Existing(rs.keys, r, now)
			if err != nil {
				return nil, err
			}
			if holder != 0 {
				out[i] = store.Enqueued{ID: rs.s.ids.ID(holder), Existing: true}
				continue
			}
		}
		if n := (ready.Name{Queue: r.Queue, Task: r.Task, Route: r.Route.Text()}); n != name {
			var err error
			if lane, err = rs.laneOf(n, staged); err != nil {
				return nil, err
			}
			name, counts = n, rs.counters.Of(r.Queue, r.Task)
		}
		counts.Enqueued++
		key := rs.nextKey(now)
		out[i].ID = rs.s.ids.ID(key)
		input, err := rs.spill(key, r.Input)
		if err != nil {
			return nil, err
		}
		if lifecycle.Plain(r, now) {
			err = b.addPlain(rs.unit, key, lane, r, input)
		} else if err = b.flush(rs.unit); err == nil {
			err = rs.insertFull(key, lane, now, r, input, staged != nil)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, b.flush(rs.unit)
}

// addPlain adds a run with or without metadata, which are rows of two kinds.
func (b *bulk) addPlain(u *unit, key, lane int64, r *store.NewRun, input any) error {
	kind := plainRows
	if r.Metadata != nil {
		kind = metaRows
	}
	if b.kind != kind {
		if err := b.flush(u); err != nil {
			return err
		}
		*b = bulk{kind: kind}
	}
	rank := store.Rank(keys.CreatedAt(key), r.Priority, r.AgeEvery)
	if kind == plainRows {
		return b.add(u, key, lane, int64(r.Priority), rank, input)
	}
	return b.add(u, key, lane, int64(r.Priority), rank, input, string(r.Metadata))
}

func (rs *runs) laneOf(n ready.Name, staged map[ready.Name]int64) (int64, error) {
	if staged != nil {
		return staged[n], nil
	}
	return rs.lanes.lane(n)
}

// nextKey returns the next run key: the time, or the last key plus one if the clock did not advance, so
// that keys follow the order of enqueueing (R5).
func (t *txn) nextKey(now int64) int64 {
	t.lastKey = max(now<<keys.SeqBits, t.lastKey+1)
	return t.lastKey
}

// spill stores a large input in a table of its own, and returns the value for the run's row.
func (rs *runs) spill(key int64, input []byte) (any, error) {
	if len(input) <= spillAbove {
		if input == nil {
			input = []byte{}
		}
		return input, nil
	}
	return nil, rs.exec("INSERT INTO stint_inputs (id, data) VALUES (?, ?)", key, input)
}

func (rs *runs) insertFull(key, lane, now int64, r *store.NewRun, input any, staged bool) error {
	row := lifecycle.New(r, key, now)
	for _, at := range [...]int64{row.Due, row.StartBy} {
		if at != 0 {
			rs.timers.add(at)
		}
	}
	var parent, root, idem any
	if r.Parent != (store.ID{}) {
		p, err := rs.parentOf(r.Parent)
		if err != nil {
			return err
		}
		parent, root = p.key, p.root
	}
	if r.Key != "" {
		idem = r.Key
		if err := rs.keys.holdKey(now, key, r); err != nil {
			return err
		}
	}
	node, err := rs.nodeOf(r)
	if err != nil {
		return err
	}
	limits, err := rs.limiters.storedLimits(r.Limits)
	if err != nil {
		return err
	}
	var limiter *int64
	switch {
	case limits == nil || row.State != store.Queued:
	case staged:
		unadmitted := -lane // it comes to its limiters after unstage
		limiter = &unadmitted
	default:
		if limiter, err = rs.limiters.admitNewRun(key, r.Limits, row.Workflow); err != nil {
			return err
		}
	}
	var worker any
	if row.Workflow && row.State == store.Queued && limiter == nil { // it is not claimed: its tasks are
		row.Begin(keys.CreatedAt(key))
		worker = 0
	}
	err = rs.exec(fullSQL, key, lane, int64(row.State), int64(r.Priority), row.Rank, input, nullable(row.Due), nullable(row.StartBy),
		nullable(row.StartIn), parent, root, idem, text(r.Metadata), flagsOf(&row), nullable(node), worker, nullable(row.Started), limits,
		limiter)
	if err == nil {
		err = rs.workflows.keepTaskLimits(key, r.TaskLimits)
	}
	if err != nil || row.State != store.Running {
		return err
	}
	return rs.beginInserted(key, node, root, r)
}

// nodeOf returns the node of a run to insert, if it is a workflow's; else 0. It stores the graph.
func (rs *runs) nodeOf(r *store.NewRun) (int64, error) {
	if r.Graph == nil {
		return 0, nil
	}
	id, err := rs.workflows.storeGraph(r.Graph)
	return id<<nodeBits | int64(r.Graph.End()), err
}

// beginInserted begins the workflow's run that was inserted for r. root is its root, or nil.
func (rs *runs) beginInserted(key, node int64, root any, r *store.NewRun) error {
	info := workflowInfo{workflow.Shared{Priority: r.Priority, Root: key}, slices.Clone(r.Input), slices.Clone(r.Metadata)}
	if root != nil {
		info.Root = root.(int64)
	}
	rs.workflows.keep(key, info)
	return workflow.BeginRun(rs.workflows, key, node, keys.CreatedAt(key))
}

type parentRow struct{ key, root int64 }

func (rs *runs) parentOf(id store.ID) (p parentRow, err error) {
	key, ok := rs.s.ids.Key(id)
	if ok {
		err = rs.one("SELECT id, coalesce(root, id) FROM stint_runs WHERE id = ?", []any{key}, &p.key, &p.root)
	}
	if !ok || errors.Is(err, sql.ErrNoRows) {
		return p, fmt.Errorf("parent run %s: %w", id, store.ErrNotFound)
	}
	return p, err
}

var _ lifecycle.KeyRows = (*idempotencyKeys)(nil)

// Holder implements lifecycle.KeyRows.
func (ks *idempotencyKeys) Holder(task, key string) (h lifecycle.Holder, err error) {
	err = ks.one(`SELECT k.run, coalesce(k.expires_at, 0), coalesce(r.`+hasEnded+`, 1) FROM stint_keys k
		LEFT JOIN stint_runs r ON r.id = k.run WHERE k.task = ? AND k.key = ?`, []any{task, key}, &h.Run, &h.Expires, &h.Ended)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return h, err
}

// Replace implements lifecycle.KeyRows.
func (ks *idempotencyKeys) Replace(key int64, r *store.NewRun, at int64) (bool, error) {
	setBy := ks.nextKey(ks.now) // the settings are this enqueue's, not those of the run's enqueue
	limits, err := ks.limiters.storedLimits(store.SetByEnqueue(r.Limits, setBy))
	if err != nil {
		return false, err
	}
	var input any = r.Input
	if len(r.Input) > spillAbove {
		input = nil
	}
	n, err := ks.execN(`UPDATE stint_runs SET input = ?2, metadata = ?3, limits = ?4, `+setRank+`?5, due_at = ?5,
		start_in = ?6, start_by = ?5 + ?6 WHERE id = ?1 AND `+stateScheduled+` AND lease = 0`, key, input, text(r.Metadata), limits, at,
		nullable(lifecycle.StartIn(r.StartIn)))
	if err != nil || n == 0 {
		return false, err
	}
	ks.timers.add(at)
	if r.Graph != nil {
		if err := ks.exec("DELETE FROM stint_task_limits WHERE run = ?", key); err != nil {
			return false, err
		}
		limits := make(map[int][]store.Limit, len(r.TaskLimits))
		for place, ls := range r.TaskLimits {
			limits[place] = store.SetByEnqueue(ls, setBy)
		}
		if err := ks.workflows.keepTaskLimits(key, limits); err != nil {
			return false, err
		}
	}
	if input != nil {
		return true, ks.exec("DELETE FROM stint_inputs WHERE id = ?", key)
	}
	return true, ks.exec("INSERT OR REPLACE INTO stint_inputs (id, data) VALUES (?, ?)", key, r.Input)
}

// releaseKeys releases the keys of a run that is being deleted, except those whose KeyTTL has not passed.
func (ks *idempotencyKeys) releaseKeys(run int64) error {
	err := ks.exec("DELETE FROM stint_keys WHERE run = ? AND (expires_at IS NULL OR expires_at <= ?)", run, ks.now)
	if err != nil {
		return err
	}
	return ks.exec("UPDATE stint_keys SET gone = 1 WHERE run = ?", run)
}

// expireKeys deletes the keys of deleted runs whose KeyTTL has passed.
func (s *Store) expireKeys(ctx context.Context) error {
	for more := true; more; {
		err := s.do(ctx, func(u *unit) error {
			n, err := u.execN(expireKeysSQL, u.now, perBulk)
			more = n == perBulk
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const expireKeysSQL = `
DELETE FROM stint_keys WHERE (task, key) IN (SELECT task, key FROM stint_keys WHERE gone = 1 AND expires_at <= ?
  ORDER BY expires_at LIMIT ?)`

// holdKey makes the run key the holder of r's idempotency key.
func (ks *idempotencyKeys) holdKey(now, key int64, r *store.NewRun) error {
	return ks.exec(`INSERT INTO stint_keys (task, key, run, expires_at) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET run = excluded.run, expires_at = excluded.expires_at, gone = 0`, r.Task, r.Key, key,
		nullable(lifecycle.KeyExpires(r, now)))
}
