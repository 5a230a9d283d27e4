package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/ready"
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
			err = u.journals.recordCall(now.UnixMilli(), runs[0].Call, store.EncodeEnqueued(out))
		}
		return err
	})
	return out, err
}

func keyed(runs []store.NewRun) bool {
	for i := range runs {
		if runs[i].Key != "" || runs[i].ChildKey != "" {
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
	var counts *count.Counts
	for i := range runs {
		r := &runs[i]
		if lifecycle.Keyed(r) {
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
		plain := lifecycle.Plain(r, now)
		input, err := rs.spill(key, r.Input)
		if err != nil {
			return nil, err
		}
		if plain {
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

// insertFull inserts a run that is not plain.
func (rs *runs) insertFull(key, lane, now int64, r *store.NewRun, input any, staged bool) error {
	row := fullRow{Run: lifecycle.New(r, key, now), idem: r.Key, priority: r.Priority, input: input, metadata: r.Metadata}
	row.Lane = lane
	rs.timers.add(row.Due)
	rs.timers.add(row.StartBy)
	var err error
	if r.Parent != (store.ID{}) {
		if row.Parent, row.root, _, err = rs.keys.parent(r.Parent); err != nil {
			return err
		}
	}
	if err = rs.keys.hold(now, &row.Run, r); err != nil {
		return err
	}
	if row.Node, err = rs.workflows.nodeOf(r); err != nil {
		return err
	}
	if row.limits, row.limiter, err = rs.limiters.admitInserted(&row.Run, r.Limits, staged); err != nil {
		return err
	}
	if row.Workflow && row.State == store.Queued && row.limiter == nil { // it is not claimed: its tasks are
		row.Begin(keys.CreatedAt(key))
	}
	if err = rs.insert(&row); err != nil || !row.Workflow {
		return err
	}
	return rs.workflows.inserted(&row.Run, row.root, r)
}

// A fullRow is the row of a new run that is not plain.
type fullRow struct {
	lifecycle.Run
	root     int64 // 0: itself
	idem     string
	priority int8
	input    any // NULL: in stint_inputs
	metadata []byte
	limits   any
	limiter  *int64
}

func (rs *runs) insert(r *fullRow) error {
	var idem, worker any
	if r.idem != "" {
		idem = r.idem
	}
	if r.State == store.Running {
		worker = 0 // nobody's
	}
	return rs.exec(fullSQL, r.Key, r.Lane, int64(r.State), int64(r.priority), r.Rank, r.input, nullable(r.Due), nullable(r.StartBy),
		nullable(r.StartIn), nullable(r.Parent), nullable(r.root), idem, text(r.metadata), flagsOf(&r.Run), nullable(r.Node), worker,
		nullable(r.Started), r.limits, r.limiter)
}
