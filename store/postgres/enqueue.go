package postgres

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/entries"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// spillAbove is the size in bytes above which an input is in stint.inputs: it would be rewritten with each
// change of its run's row.
const spillAbove = 2048

// Enqueue implements store.Runs.
func (s *Store) Enqueue(ctx context.Context, now time.Time, runs []store.NewRun) (out []store.Enqueued, err error) {
	err = s.do(ctx, func(u *unit) error {
		if out, err = u.enqueue(now.UnixMilli(), runs); err != nil || len(runs) == 0 || runs[0].Call == nil {
			return err
		}
		return u.recordCall(now, *runs[0].Call, store.EncodeEnqueued(out))
	})
	return out, err
}

// recordCall records the durable call that enqueued runs or published events.
func (u *unit) recordCall(now time.Time, c store.Call, value []byte) error {
	c.Entry.Value = value
	key, ok := u.s.ids.Key(c.ID)
	if !ok {
		return store.ErrStale
	}
	_, stale, err := entries.Append(entryRows{u}, key, &c, nil, now)
	if err == nil && stale {
		return store.ErrStale
	}
	return err
}

// enqueue inserts runs, in order.
func (u *unit) enqueue(now int64, runs []store.NewRun) ([]store.Enqueued, error) {
	out := make([]store.Enqueued, len(runs))
	var missed error // all rows that the runs need are asked for at once
	for i := range runs {
		holder, err := u.enqueueOne(now, &runs[i], &out[i])
		switch {
		case err == errMiss:
			missed = err
		case err != nil:
			return nil, cmp.Or(missed, err)
		case holder != 0:
			out[i] = store.Enqueued{ID: u.s.ids.ID(holder), Existing: true}
		}
	}
	return out, missed
}

// enqueueOne inserts a run, unless its keys refer to one that exists: it returns that.
func (u *unit) enqueueOne(now int64, n *store.NewRun, out *store.Enqueued) (existing int64, err error) {
	row, existing, err := lifecycle.Enqueue(enqueueRows{u}, n, now)
	if err != nil || existing != 0 {
		return existing, err
	}
	r := runRow{Run: row.Run, root: row.Root, limiter: row.Limiter, priority: int64(n.Priority), key: n.Key, metadata: n.Metadata,
		limits: string(store.EncodeLimits(n.Limits))}
	out.ID = u.s.ids.ID(r.Key)
	u.setInput(&r, n.Input)
	u.count(n.Queue, n.Task).Enqueued++
	begins := r.State == store.Running // a workflow's, which is nobody's
	if begins {
		r.worker = new(int64)
	}
	if u.assumeFresh(n, &r, out) {
		return 0, u.beginRun(&r, begins)
	}
	if r.limits != "" || len(n.TaskLimits) > 0 {
		u.useLimits()
	}
	for place, all := range n.TaskLimits {
		if len(all) > 0 {
			k := placeOf{r.Key, int64(place)}
			u.taskLimits.put(k, placeRow{run: k.run, place: k.place, limits: string(store.EncodeLimits(all))})
		}
	}
	u.insert(r)
	return 0, u.beginRun(&r, begins)
}

// beginRun starts the first tasks of a new workflow's run, if it begins.
func (u *unit) beginRun(r *runRow, begins bool) error {
	if !begins {
		return nil
	}
	return workflow.BeginRun(workflowRows{u}, r.Key, r.Node, r.Started)
}

func laneName(n *store.NewRun) laneOf {
	return laneOf{queue: n.Queue, task: n.Task, route: n.Route.Text()}
}

// putInputSQL stores an input that is too large for the run's row.
const putInputSQL = "INSERT INTO stint.inputs (id, data) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET data = excluded.data"

// setInput sets the input of a new run.
func (u *unit) setInput(r *runRow, input []byte) {
	if len(input) <= spillAbove {
		r.input = append([]byte{}, input...)
		return
	}
	key, data := r.Key, append([]byte{}, input...)
	u.queued = append(u.queued, func(b *pgx.Batch) {
		b.Queue(u.s.sql(putInputSQL), key, data)
	})
}

// enqueueRows are what a unit knows of runs that are enqueued.
type enqueueRows struct{ *unit }

var _ lifecycle.EnqueueRows = enqueueRows{}

// Lane implements lifecycle.EnqueueRows.
func (u enqueueRows) Lane(n *store.NewRun) (int64, error) { return u.lane(laneName(n)) }

// NextKey implements lifecycle.EnqueueRows.
func (u enqueueRows) NextKey(now int64) int64 { return u.nextKey(now) }

// Graph implements lifecycle.EnqueueRows.
func (u enqueueRows) Graph(g *store.Graph) (int64, error) { return u.storeGraph(g) }

// Admit implements lifecycle.EnqueueRows.
func (u enqueueRows) Admit(r *lifecycle.Run, all []store.Limit) (*int64, error) {
	return u.admitNew(all, r.Workflow, r.Key)
}

// WakeAt implements lifecycle.EnqueueRows.
func (u enqueueRows) WakeAt(at int64) { u.wake(at) }

// Holder implements lifecycle.EnqueueRows.
func (u enqueueRows) Holder(task, key string) (h lifecycle.Holder, err error) {
	k, err := u.keys.get(keyName{task, key})
	if k == nil || err != nil {
		return h, err
	}
	h = lifecycle.Holder{Run: k.run, Expires: k.expires, Ended: k.ended}
	if e := u.runs.entries[k.run]; e != nil { // the group may have changed it
		h.Ended = e.now == nil || e.now.State.Terminal()
	}
	return h, nil
}

// Parent implements lifecycle.EnqueueRows.
func (u enqueueRows) Parent(id store.ID) (lifecycle.Parent, error) {
	key, ok := u.s.ids.Key(id)
	if ok {
		p, err := u.run(key)
		if err != nil {
			return lifecycle.Parent{}, err
		}
		if p != nil {
			return lifecycle.Parent{Key: p.Key, Root: cmp.Or(p.root, p.Key), Canceled: p.State == store.Canceled || p.CancelAt != 0}, nil
		}
	}
	return lifecycle.Parent{}, fmt.Errorf("parent run %s: %w", id, store.ErrNotFound)
}

// Hold implements lifecycle.EnqueueRows.
func (u enqueueRows) Hold(task, key string, run, expires int64) error {
	u.keys.put(keyName{task, key}, keyRow{task: task, key: key, run: run, expires: expires})
	return nil
}

// Child implements lifecycle.EnqueueRows.
func (u enqueueRows) Child(parent int64, key string) (int64, error) {
	r, err := u.childKeys.get(childKey{parent, key})
	if r == nil || err != nil {
		return 0, err
	}
	return r.run, nil
}

// SetChild implements lifecycle.EnqueueRows.
func (u enqueueRows) SetChild(parent int64, key string, run int64) error {
	u.childKeys.put(childKey{parent, key}, childRow{childKey{parent, key}, run})
	return nil
}

// debounceSQL replaces the input and metadata of a run that has not started.
const debounceSQL = "UPDATE stint.runs SET input = $2, metadata = $3 WHERE id = $1"

// Replace implements lifecycle.EnqueueRows.
func (u enqueueRows) Replace(key int64, n *store.NewRun, due int64) (bool, error) {
	r, err := u.run(key)
	if err != nil || r == nil || r.State != store.Scheduled || r.Lease != 0 {
		return false, err
	}
	r.limits = string(store.EncodeLimits(n.Limits))
	if r.limits != "" {
		u.useLimits()
	}
	r.SetDue(due)
	r.StartIn = lifecycle.StartIn(n.StartIn)
	r.SetStartBy(r.Due)
	u.runs.change(key)
	if n.Graph != nil {
		if err := u.replaceTaskLimits(key, n.TaskLimits); err != nil {
			return false, err
		}
	}
	input, metadata := append([]byte{}, n.Input...), n.Metadata
	spilled := len(input) > spillAbove
	u.queued = append(u.queued, func(b *pgx.Batch) {
		row := any(input)
		if spilled {
			row = nil
			b.Queue(u.s.sql(putInputSQL), key, input)
		} else {
			b.Queue(u.s.sql("DELETE FROM stint.inputs WHERE id = $1"), key)
		}
		b.Queue(u.s.sql(debounceSQL), key, row, metadata)
	})
	return true, nil
}

// replaceTaskLimits replaces the limits of the tasks of a workflow's run.
func (u *unit) replaceTaskLimits(run int64, by map[int][]store.Limit) error {
	had, err := u.taskLimitsOf.get(run)
	if err != nil {
		return err
	}
	for _, k := range had {
		u.taskLimits.remove(k)
	}
	for place, all := range by {
		k := placeOf{run, int64(place)}
		u.taskLimits.put(k, placeRow{run: run, place: k.place, limits: string(store.EncodeLimits(all))})
	}
	return nil
}

// useLimits records that runs have limits, before any has some. In an app's transaction prepareTx has done so: the
// lock of the epoch would hold up all processes until the app commits, and this one forever if it enqueues more.
func (u *unit) useLimits() {
	if !u.limited && !u.limitsUsed && !u.deferred {
		u.limitsUsed, u.newEpoch = true, true
	}
}
