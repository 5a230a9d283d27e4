package sqlite

import (
	"database/sql"
	"errors"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/entries"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/internal/ready"
	"github.com/stint-dev/stint/store/internal/workflow"
)

var _ lifecycle.WorkerRows = (*runs)(nil)

// The column flags of a run.
const (
	flagDetached = 1 // it outlives its parent
	flagWorkflow = 2 // a workflow's run
	flagResumed  = 4 // its handler goes on after a wait
	flagForked   = 8 // it began with the journal of another run
)

func flagsOf(r *lifecycle.Run) (flags int64) {
	for _, f := range [...]struct {
		on   bool
		flag int64
	}{{r.Detached, flagDetached}, {r.Workflow, flagWorkflow}, {r.Resumed, flagResumed}, {r.Forked, flagForked}} {
		if f.on {
			flags |= f.flag
		}
	}
	return flags
}

const (
	// hasJournal and hasUndo select runs that have something to clean up when they are canceled:
	// durable calls from which the handler may continue, or compensations.
	hasJournal = "EXISTS (SELECT 1 FROM stint_journal j WHERE j.run = stint_runs.id)"
	hasUndo    = "EXISTS (SELECT 1 FROM stint_journal j WHERE j.run = stint_runs.id AND j.scope >= 'undo' AND j.scope < 'undo0' " +
		"AND j.done = 0)"

	readRunSQL = `
SELECT id, lane, state, rank, attempt, replayed, lease, crashes, spent, coalesce(worker, 0), flags, coalesce(due_at, 0),
  coalesce(ended_at, 0), coalesce(cancel_at, 0), coalesce(start_by, 0), coalesce(start_in, 0), coalesce(parent, 0), coalesce(node, 0),
  error, limits IS NOT NULL, ` + hasJournal + ", " + hasUndo + `
FROM stint_runs WHERE `

	// writeRunSQL leaves alone when a run has started, unless it begins now: a workflow's, which
	// nobody executes.
	writeRunSQL = `
UPDATE stint_runs SET state = ?2, rank = ?3, attempt = ?4, replayed = ?5, crashes = ?6, spent = ?7, flags = ?8,
  due_at = nullif(?9, 0), ended_at = nullif(?10, 0), cancel_at = nullif(?11, 0), start_by = nullif(?12, 0), output = ?13, error = ?14,
  started_at = coalesce(nullif(?15, 0), started_at), worker = coalesce(worker, ?16)
WHERE id = ?1`
)

func runFields(r *lifecycle.Run, flags *int64) []any {
	return []any{&r.Key, &r.Lane, &r.State, &r.Rank, &r.Attempt, &r.Replayed, &r.Lease, &r.Crashes, &r.Spent, &r.Worker, flags, &r.Due,
		&r.Ended, &r.CancelAt, &r.StartBy, &r.StartIn, &r.Parent, &r.Node, &r.Error, &r.Limited, &r.Journal, &r.Undo}
}

func setFlags(r *lifecycle.Run, flags int64) {
	r.Detached, r.Workflow = flags&flagDetached != 0, flags&flagWorkflow != 0
	r.Resumed, r.Forked = flags&flagResumed != 0, flags&flagForked != 0
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

// Run implements lifecycle.Rows.
func (rs *runs) Run(key int64) (*lifecycle.Run, error) {
	var r lifecycle.Run
	var flags int64
	err := rs.one(readRunSQL+"id = ?", []any{key}, runFields(&r, &flags)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	setFlags(&r, flags)
	return &r, err
}

// RunsOf implements lifecycle.Rows.
func (rs *runs) RunsOf(worker int64) ([]*lifecycle.Run, error) {
	type row struct {
		lifecycle.Run
		flags int64
	}
	rows, err := rowsOf(rs, func(r *row) []any { return runFields(&r.Run, &r.flags) }, readRunSQL+"worker = ? AND "+stateRunning, worker)
	all := make([]*lifecycle.Run, len(rows))
	for i := range rows {
		all[i] = &rows[i].Run
		setFlags(all[i], rows[i].flags)
	}
	return all, err
}

// Write implements lifecycle.Rows.
func (rs *runs) Write(r *lifecycle.Run) error {
	var worker any
	if r.Workflow && r.State == store.Running {
		worker = 0
	}
	if r.State == store.Queued {
		rs.claims.recheck = true
	}
	return rs.exec(writeRunSQL, r.Key, int64(r.State), r.Rank, r.Attempt, r.Replayed, r.Crashes, r.Spent, flagsOf(r), r.Due, r.Ended,
		r.CancelAt, r.StartBy, r.Output, text(r.Error), r.Started, worker)
}

// Key implements lifecycle.Rows.
func (rs *runs) Key(id store.ID) (int64, bool) { return rs.s.ids.Key(id) }

// ID implements lifecycle.Rows.
func (rs *runs) ID(key int64) store.ID { return rs.s.ids.ID(key) }

// NextKey implements lifecycle.Rows.
func (rs *runs) NextKey(now int64) int64 { return rs.nextKey(now) }

// WakeAt implements lifecycle.Rows.
func (rs *runs) WakeAt(at int64) { rs.timers.add(at) }

// ForRun implements lifecycle.Rows.
func (rs *runs) ForRun(run int64, f func() error) error { return forRun(run, f) }

// Children implements lifecycle.Rows. The end of a workflow's task may have created some.
func (rs *runs) Children(key int64) ([]int64, error) {
	if err := rs.workflows.nodes.flush(rs.unit); err != nil {
		return nil, err
	}
	return column[int64](rs, "SELECT id FROM stint_runs WHERE parent = ? AND flags & 1 = 0 AND "+notEnded, key)
}

// Open implements lifecycle.Rows.
func (rs *runs) Open(key int64) (open bool, err error) {
	err = rs.one("SELECT EXISTS (SELECT 1 FROM stint_runs WHERE id = ? AND "+notEnded+")", []any{key}, &open)
	return open, err
}

// Resume implements lifecycle.Rows.
func (rs *runs) Resume(key, now int64) error {
	n, err := rs.execN("UPDATE stint_runs SET "+stateQueued+", due_at = ?2, "+setRank+"?2 WHERE id = ?1 AND "+stateWaiting+
		" AND lease > 0", key, now)
	if n > 0 {
		rs.claims.recheck = true
	}
	return err
}

// dueBy makes a run that waits due at a time, unless it is earlier.
func (rs *runs) dueBy(key, at int64) error {
	n, err := rs.execN("UPDATE stint_runs SET due_at = ?2, "+setRank+"?2 WHERE id = ?1 AND "+stateWaiting+
		" AND lease > 0 AND (due_at IS NULL OR due_at > ?2)", key, at)
	if n > 0 {
		rs.WakeAt(at)
	}
	return err
}

// Queue implements lifecycle.Rows.
func (rs *runs) Queue(keys []int64) error {
	if len(keys) == 0 {
		return nil
	}
	rs.claims.recheck = true
	_, err := readying(rs.unit, func(key *int64) int64 { return *key }, func(key *int64) []any { return []any{key} },
		"UPDATE stint_runs SET "+stateQueued+" WHERE id IN (SELECT value FROM json_each(?)) RETURNING id", reading.JSONKeys(keys))
	return err
}

// KeepAttempt implements lifecycle.Rows.
func (rs *runs) KeepAttempt(r *lifecycle.Run, to store.State, ended int64, reason []byte) error {
	return rs.exec(`INSERT INTO stint_attempts (run, lease, attempt, worker, started_at, ended_at, state, error)
		SELECT id, lease, attempt, worker, started_at, ?2, ?3, ?4 FROM stint_runs WHERE id = ?1 ON CONFLICT DO NOTHING`,
		r.Key, ended, int64(to), text(reason))
}

// MoveLane implements lifecycle.Rows.
func (rs *runs) MoveLane(r *lifecycle.Run, suspect bool) error {
	l, err := rs.lanes.laneByID(r.Lane)
	if err != nil || l == nil || l.Suspect == suspect {
		return err
	}
	name := l.Name
	name.Suspect = suspect
	return rs.setLane(r.Key, name)
}

// MoveQueue implements lifecycle.Rows.
func (rs *runs) MoveQueue(r *lifecycle.Run, queue string) (bool, error) {
	l, err := rs.lanes.laneByID(r.Lane)
	if err != nil || l == nil || l.Staged || l.Queue == queue {
		return false, err
	}
	rs.claims.recheck = true
	name := l.Name
	name.Queue = queue
	return true, rs.setLane(r.Key, name)
}

// setLane moves a run to the lane with a name.
func (rs *runs) setLane(key int64, name ready.Name) error {
	to, err := rs.lanes.lane(name)
	if err != nil {
		return err
	}
	rs.workflows.drop(key)
	return rs.exec(setLaneSQL, key, to)
}

// setLaneSQL moves a run to another lane.
const setLaneSQL = "UPDATE stint_runs SET lane = ?2 WHERE id = ?1"

// Blocked implements lifecycle.Rows.
func (rs *runs) Blocked() ([]lifecycle.Blocked, error) {
	return rowsOf(rs, func(b *lifecycle.Blocked) []any { return []any{&b.Key, &b.Begun, &b.Crashes, &b.Build} },
		"SELECT r.id, r.lease > 0, r.crashes, coalesce(w.build, '') FROM stint_runs r LEFT JOIN stint_workers w ON w.id = r.worker "+
			"WHERE r."+afterRunning+" AND r."+notEnded+" AND r."+stateBlocked)
}

// Builds implements lifecycle.Rows.
func (rs *runs) Builds() ([]string, error) {
	return column[string](rs, "SELECT build FROM stint_workers WHERE ended_at IS NULL")
}

// Due implements lifecycle.Rows.
func (rs *runs) Due(now int64) ([]lifecycle.Due, error) {
	return rowsOf(rs, func(d *lifecycle.Due) []any { return []any{&d.Key, &d.Node, &d.Workflow, &d.Limited} },
		"SELECT id, coalesce(node, 0), flags & 2 > 0, limits IS NOT NULL FROM stint_runs WHERE "+stateScheduled+" AND due_at <= ? "+
			"ORDER BY due_at LIMIT ?", now, perTimers)
}

// Overdue implements lifecycle.Rows.
func (rs *runs) Overdue(now int64) ([]int64, error) {
	return column[int64](rs, "SELECT id FROM stint_runs WHERE start_by IS NOT NULL AND start_by <= ? ORDER BY start_by LIMIT ?", now,
		perTimers)
}

// Waiters implements lifecycle.Rows.
func (rs *runs) Waiters(now int64) ([]lifecycle.Waiter, error) {
	return rowsOf(rs, func(w *lifecycle.Waiter) []any { return []any{&w.Key, &w.Begun} },
		"SELECT id, lease > 0 FROM stint_runs WHERE "+stateWaiting+" AND due_at IS NOT NULL AND due_at <= ? ORDER BY due_at LIMIT ?",
		now, perTimers)
}

// Interrupt implements lifecycle.Rows.
func (rs *runs) Interrupt(r *lifecycle.Run) {
	rs.signals.cancels = append(rs.signals.cancels, cancelOf{r.Worker, r.Key})
}

// An ending is the end of a run, with its result if that is known.
type ending struct {
	key     int64
	result  *store.Result
	counted bool
}

// Ended implements lifecycle.Rows.
func (rs *runs) Ended(key int64) { rs.signals.ended = append(rs.signals.ended, ending{key: key}) }

// forkSQL inserts a copy of a run.
const forkSQL = `
INSERT INTO stint_runs (id, lane, state, priority, rank, start_in, start_by, input, metadata, flags, limits, limiter)
SELECT ?1, lane, ` + queuedState + `, priority, ?3, start_in, nullif(?4, 0),
  coalesce(input, (SELECT data FROM stint_inputs i WHERE i.id = r.id)), metadata, ?5, limits, CASE WHEN limits IS NOT NULL THEN 0 END
FROM stint_runs r WHERE id = ?2`

// Copy implements lifecycle.Rows.
func (rs *runs) Copy(from, to *lifecycle.Run, before store.Address) error {
	if err := rs.exec(forkSQL, to.Key, from.Key, to.Rank, to.StartBy, flagsOf(to)); err != nil {
		return err
	}
	rs.limiters.unadmitted = rs.limiters.unadmitted || to.Limited
	rs.triggers.forget() // it may wait for events that nothing waited for
	return entries.Copy(rs.journals, from.Key, to.Key, before.Seq)
}

// EntryDone implements lifecycle.Rows.
func (rs *runs) EntryDone(key int64, at store.Address) (done bool, due int64, err error) {
	err = rs.one("SELECT done, CASE done WHEN 0 THEN coalesce(due_at, 0) ELSE 0 END FROM stint_journal WHERE run = ? AND scope = ? "+
		"AND seq = ?", []any{key, at.Scope, at.Seq}, &done, &due)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return done, due, err
}

// ResetUndo implements lifecycle.Rows.
func (rs *runs) ResetUndo(key int64) error { return entries.ResetUndo(rs.journals, key) }

// Forget implements lifecycle.Rows.
func (rs *runs) Forget(key int64, from store.Address) error {
	return entries.Forget(rs.journals, key, from)
}

// AwaitChild implements lifecycle.Rows.
func (rs *runs) AwaitChild(child, run int64) error {
	return rs.exec("INSERT OR IGNORE INTO stint_awaited (child, run) VALUES (?, ?)", child, run)
}

// BeginWorkflow implements lifecycle.Rows.
func (rs *runs) BeginWorkflow(key, node, now int64) error {
	err := rs.exec("UPDATE stint_runs SET "+stateRunning+", worker = 0, started_at = ?2, limiter = NULL WHERE id = ?1", key, now)
	if err != nil {
		return err
	}
	rs.workflows.drop(key)
	return workflow.BeginRun(rs.workflows, key, node, now)
}

// ReplayWorkflow implements lifecycle.Rows.
func (rs *runs) ReplayWorkflow(key, node, now int64, whole bool) error {
	return workflow.Replay(rs.workflows, key, node, now, whole)
}

// Advance implements lifecycle.Rows.
func (rs *runs) Advance(parent, node int64, to store.State, now int64) error {
	return workflow.TaskEnded(rs.workflows, parent, node, to, now)
}

// Reconsider implements lifecycle.Rows.
func (rs *runs) Reconsider(key, now int64) error { return workflow.Reconsider(rs.workflows, key, now) }

// DropWaits implements lifecycle.Rows.
func (rs *runs) DropWaits(key int64) error {
	return rs.exec("DELETE FROM stint_waits WHERE run = ?", key)
}

// MoveToTaskLane implements lifecycle.Rows.
func (rs *runs) MoveToTaskLane(key, node int64) error {
	g, err := rs.workflows.Graph(node >> nodeBits)
	if err != nil {
		return err
	}
	place := workflow.Place(node)
	return rs.workflows.moveTask(g, key, place, g.TaskName(place))
}
