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
		if err == nil && len(out) == 1 && !out[0].Existing {
			key, _ := s.ids.Key(out[0].ID)
			u.signals.opened = append(u.signals.opened, key)
		}
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
func (rs *runs) enqueue(now int64, all []store.NewRun, staged map[ready.Name]int64) ([]store.Enqueued, error) {
	e := enqueuing{idempotencyKeys: rs.keys, staged: staged, plain: bulk{kind: plainRows}}
	out := make([]store.Enqueued, len(all))
	at := millis(now)
	for i := range all {
		err := rs.workflows.nodes.flush(rs.unit) // its rows get the highest keys, so none may have a higher one already
		if err != nil {
			return nil, err
		}
		if r := &all[i]; plain(r, at) {
			out[i].ID, err = e.addPlain(now, r)
		} else {
			out[i], err = e.insert(now, r)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, e.plain.flush(rs.unit)
}

// plain reports whether a new run is due at once, and sets nothing unusual but its metadata.
func plain(n *store.NewRun, at time.Time) bool {
	return n.Key == "" && n.Graph == nil && n.Limits == nil && n.Parent == (store.ID{}) && !n.Detached && n.StartIn == 0 &&
		!n.RunAt.After(at)
}

// enqueuing is one call of enqueue.
type enqueuing struct {
	*idempotencyKeys
	staged map[ready.Name]int64
	plain  bulk

	// Of the last run: most have the lane of the one before.
	name   ready.Name
	lane   int64
	counts *count.Counts
}

var _ lifecycle.EnqueueRows = (*enqueuing)(nil)

// addPlain adds a run with or without metadata, which are rows of two kinds.
func (e *enqueuing) addPlain(now int64, r *store.NewRun) (store.ID, error) {
	lane, err := e.Lane(r)
	if err != nil {
		return store.ID{}, err
	}
	e.counts.Enqueued++
	key := e.nextKey(now)
	input, err := e.runs.spill(key, r.Input)
	if err != nil {
		return store.ID{}, err
	}
	kind := plainRows
	if r.Metadata != nil {
		kind = metaRows
	}
	if e.plain.kind != kind {
		if err := e.plain.flush(e.unit); err != nil {
			return store.ID{}, err
		}
		e.plain = bulk{kind: kind}
	}
	rank := store.Rank(keys.CreatedAt(key), r.Priority, r.AgeEvery)
	if kind == plainRows {
		err = e.plain.add(e.unit, key, lane, int64(r.Priority), rank, input)
	} else {
		err = e.plain.add(e.unit, key, lane, int64(r.Priority), rank, input, string(r.Metadata))
	}
	return e.s.ids.ID(key), err
}

// insert inserts a run that is not plain, unless its keys refer to one that exists.
func (e *enqueuing) insert(now int64, n *store.NewRun) (store.Enqueued, error) {
	if err := e.plain.flush(e.unit); err != nil {
		return store.Enqueued{}, err
	}
	r, existing, err := lifecycle.Enqueue(e, n, now)
	if err != nil || existing != 0 {
		return store.Enqueued{ID: e.s.ids.ID(existing), Existing: true}, err
	}
	e.counts.Enqueued++
	out := store.Enqueued{ID: e.s.ids.ID(r.Key)}
	input, err := e.runs.spill(r.Key, n.Input)
	if err != nil {
		return out, err
	}
	limits, err := e.limiters.storedLimits(n.Limits)
	if err != nil {
		return out, err
	}
	var idem, worker any
	if n.Key != "" {
		idem = n.Key
	}
	if r.State == store.Running {
		worker = 0 // nobody's
	}
	err = e.exec(fullSQL, r.Key, r.Lane, int64(r.State), int64(n.Priority), r.Rank, input, nullable(r.Due), nullable(r.StartBy),
		nullable(r.StartIn), nullable(r.Parent), nullable(r.Root), idem, text(n.Metadata), flagsOf(&r.Run), nullable(r.Node), worker,
		nullable(r.Started), limits, r.Limiter)
	if err != nil || !r.Workflow {
		return out, err
	}
	return out, e.workflows.inserted(&r, n)
}

// Lane implements lifecycle.EnqueueRows.
func (e *enqueuing) Lane(r *store.NewRun) (lane int64, err error) {
	n := ready.Name{Queue: r.Queue, Task: r.Task, Route: r.Route.Text()}
	if n == e.name {
		return e.lane, nil
	}
	if e.staged != nil {
		lane = e.staged[n]
	} else if lane, err = e.lanes.lane(n); err != nil {
		return 0, err
	}
	e.name, e.lane, e.counts = n, lane, e.counters.Of(r.Queue, r.Task)
	return lane, nil
}

// NextKey implements lifecycle.EnqueueRows.
func (e *enqueuing) NextKey(now int64) int64 { return e.nextKey(now) }

// Graph implements lifecycle.EnqueueRows.
func (e *enqueuing) Graph(g *store.Graph) (int64, error) { return e.workflows.storeGraph(g) }

// Admit implements lifecycle.EnqueueRows.
func (e *enqueuing) Admit(r *lifecycle.Run, all []store.Limit) (*int64, error) {
	if e.staged != nil {
		unadmitted := -r.Lane // it comes to its limiters after unstage
		return &unadmitted, nil
	}
	return e.limiters.admitNewRun(r.Key, all, r.Workflow)
}

// WakeAt implements lifecycle.EnqueueRows.
func (e *enqueuing) WakeAt(at int64) { e.timers.add(at) }
