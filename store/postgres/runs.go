package postgres

import (
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/damage"
	"github.com/stint-dev/stint/store/internal/entries"
	"github.com/stint-dev/stint/store/internal/failed"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// runRows are the runs of a unit.
type runRows struct{ *unit }

var _ lifecycle.WorkerRows = runRows{}

// run returns a run's row; nil: there is none. A row that no store has written so is an error.
func (u *unit) run(key int64) (*runRow, error) {
	r, err := u.runs.get(key)
	if err == nil && r != nil && r.odd != nil {
		return nil, &damage.Damage{Run: key, Err: r.odd}
	}
	return r, err
}

// Key implements lifecycle.Rows.
func (u runRows) Key(id store.ID) (int64, bool) { return u.s.ids.Key(id) }

// ID implements lifecycle.Rows.
func (u runRows) ID(key int64) store.ID { return u.s.ids.ID(key) }

// Run implements lifecycle.Rows.
func (u runRows) Run(key int64) (*lifecycle.Run, error) {
	r, err := u.run(key)
	if r == nil || err != nil {
		return nil, err
	}
	return &r.Run, u.journalOf(r)
}

// RunsOf implements lifecycle.Rows.
func (u runRows) RunsOf(worker int64) ([]*lifecycle.Run, error) {
	keys, err := u.runsOf.get(worker)
	if err != nil {
		return nil, err
	}
	var all []*lifecycle.Run
	for _, key := range keys {
		r, err := u.run(key)
		if err != nil {
			return nil, err
		}
		if r != nil && r.State == store.Running && r.Worker == worker {
			all = append(all, &r.Run)
		}
	}
	return all, nil
}

// Children implements lifecycle.Rows.
func (u runRows) Children(key int64) ([]int64, error) {
	keys, err := u.childrenOf.get(key)
	if err != nil {
		return nil, err
	}
	keys = slices.Concat(keys, slices.Sorted(maps.Keys(u.inserted))) // those of others are left out below
	var all []int64
	for _, child := range keys {
		r, err := u.run(child)
		if err != nil {
			return nil, err
		}
		if r != nil && r.Parent == key && !r.Detached && !r.State.Terminal() {
			all = append(all, child)
		}
	}
	return all, nil
}

// Open implements lifecycle.Rows.
func (u runRows) Open(key int64) (bool, error) {
	r, err := u.run(key)
	return r != nil && !r.State.Terminal(), err
}

// Try implements lifecycle.Rows.
func (u runRows) Try(key int64, lease store.Lease, c lifecycle.Change) (bool, error) {
	if u.assumeEnd(key, lease, &c) {
		return true, nil
	}
	r, err := u.run(key)
	if err != nil || r == nil || !r.executes(lease) || r.CancelAt != 0 {
		return false, err
	}
	if c.Keep != 0 {
		if err := u.KeepAttempt(&r.Run, c.To, c.Keep, c.Error); err != nil {
			return false, err
		}
	}
	r.Apply(&c)
	return true, u.Write(&r.Run)
}

// Write implements lifecycle.Rows.
func (u runRows) Write(r *lifecycle.Run) error {
	u.runs.change(r.Key)
	if r.State == store.Queued {
		u.ready(r)
	}
	if row, err := u.run(r.Key); err == nil && r.State == store.Running && row.worker == nil { // a workflow's run
		row.worker = new(int64)
	}
	return nil
}

// Resume implements lifecycle.Rows.
func (u runRows) Resume(key, now int64) error {
	r, err := u.run(key)
	if err != nil || r == nil || r.State != store.Waiting || r.Lease == 0 {
		return err
	}
	r.State = store.Queued
	r.SetDue(now)
	return u.Write(&r.Run)
}

// Queue implements lifecycle.Rows.
func (u runRows) Queue(keys []int64) error {
	for _, key := range keys {
		r, err := u.run(key)
		if err != nil {
			return err
		}
		r.State = store.Queued
		if err := u.Write(&r.Run); err != nil {
			return err
		}
	}
	return nil
}

// KeepAttempt implements lifecycle.Rows.
func (u runRows) KeepAttempt(r *lifecycle.Run, to store.State, ended int64, reason []byte) error {
	row, err := u.run(r.Key)
	if err == nil {
		u.attempts = append(u.attempts, &attemptRow{run: r.Key, n: row.executions, attempt: r.Attempt, worker: row.worker,
			started: r.Started, ended: ended, state: int64(to), reason: reason})
	}
	return err
}

// MoveLane implements lifecycle.Rows.
func (u runRows) MoveLane(r *lifecycle.Run, suspect bool) error {
	name, ok, err := u.laneByID(r.Lane)
	if err != nil || !ok || name.suspect == suspect {
		return err
	}
	name.suspect = suspect
	if r.Lane, err = u.lane(name); err != nil {
		return err
	}
	return u.Write(r)
}

// MoveQueue implements lifecycle.Rows.
func (u runRows) MoveQueue(r *lifecycle.Run, queue string) (bool, error) {
	name, ok, err := u.laneByID(r.Lane)
	if err != nil || !ok || name.queue == queue {
		return false, err
	}
	name.queue = queue
	if r.Lane, err = u.lane(name); err != nil {
		return false, err
	}
	return true, u.Write(r)
}

// Interrupt implements lifecycle.Rows.
func (u runRows) Interrupt(r *lifecycle.Run) {
	u.told.cancels = append(u.told.cancels, cancelOf{r.Worker, r.Key})
}

// WakeAt implements lifecycle.Rows.
func (u runRows) WakeAt(at int64) { u.wake(at) }

// Ended implements lifecycle.Rows.
func (u runRows) Ended(key int64) {
	u.told.ended = append(u.told.ended, ending{run: key, result: u.flowResult(key)})
}

// Finished implements lifecycle.Rows.
func (u runRows) Finished(o *store.Outcome, f lifecycle.Finished) error {
	if f.Tests != nil { // there is a row if the run has succeeded before, and was replayed
		if _, err := u.tests.get(f.Run); err != nil {
			return err
		}
		u.tests.put(f.Run, testRow{run: f.Run, results: f.Tests})
	}
	u.told.ended = append(u.told.ended, ending{f.Run, f.Result, f.Counted})
	if f.Counted {
		u.count(o.Queue, o.Task).End(f.Result.State, f.Took)
	}
	if f.Failure != nil {
		u.failed = append(u.failed, failed.Run{Key: f.Run, At: f.Ended, Failure: f.Failure})
	}
	return nil
}

// NextKey implements lifecycle.Rows.
func (u runRows) NextKey(now int64) int64 { return u.nextKey(now) }

// copyInputSQL stores the input and the metadata of a copy, whose row is inserted before.
const copyInputSQL = `
UPDATE stint.runs c SET metadata = r.metadata, input = coalesce(r.input, (SELECT data FROM stint.inputs i WHERE i.id = r.id))
FROM stint.runs r WHERE r.id = $1 AND c.id = $2`

// Copy implements lifecycle.Rows.
func (u runRows) Copy(from, to *lifecycle.Run, before store.Address) error {
	r, err := u.run(from.Key)
	if err != nil {
		return err
	}
	row := runRow{Run: *to, priority: r.priority, limits: r.limits}
	if row.limits != "" {
		row.limiter = new(int64)
	}
	u.insert(row)
	u.queued = append(u.queued, func(b *pgx.Batch) { b.Queue(u.s.sql(copyInputSQL), from.Key, to.Key) })
	return entries.Copy(entryRows(u), from.Key, to.Key, before.Seq)
}

// insert adds a new run.
func (u *unit) insert(r runRow) {
	u.runs.put(r.Key, r)
	u.inserted[r.Key] = true
	if r.limits != "" && (r.limiter == nil || *r.limiter != 0) {
		u.applied[r.Key] = r.atLimits() // its limiters know it
	}
	if r.State == store.Queued {
		u.ready(&r.Run)
	}
}

// EntryDone implements lifecycle.Rows.
func (u runRows) EntryDone(key int64, at store.Address) (done bool, due int64, err error) {
	r, err := u.journal.get(entryRows(u).at(key, at))
	if err != nil || r == nil || r.done {
		return r != nil && r.done, 0, err
	}
	return false, r.due, nil
}

// ResetUndo implements lifecycle.Rows.
func (u runRows) ResetUndo(key int64) error { return entries.ResetUndo(entryRows(u), key) }

// Forget implements lifecycle.Rows.
func (u runRows) Forget(key int64, from store.Address) error {
	return entries.Forget(entryRows(u), key, from)
}

// BeginWorkflow implements lifecycle.Rows.
func (u runRows) BeginWorkflow(key, node, now int64) error {
	r, err := u.run(key)
	if err != nil {
		return err
	}
	nobody := int64(0)
	r.Begin(now)
	r.worker, r.Worker = &nobody, 0
	u.runs.change(key)
	return workflow.BeginRun(workflowRows(u), key, node, now)
}

// ReplayWorkflow implements lifecycle.Rows.
func (u runRows) ReplayWorkflow(key, node, now int64, whole bool) error {
	return workflow.Replay(workflowRows(u), key, node, now, whole)
}

// Advance implements lifecycle.Rows.
func (u runRows) Advance(parent, node int64, to store.State, now int64) error {
	return workflow.TaskEnded(workflowRows(u), parent, node, to, now)
}

// Reconsider implements lifecycle.Rows.
func (u runRows) Reconsider(key, now int64) error {
	return workflow.Reconsider(workflowRows(u), key, now)
}

// ForRun implements lifecycle.Rows.
func (u runRows) ForRun(key int64, f func() error) error { return forRun(key, f) }
