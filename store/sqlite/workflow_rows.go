package sqlite

import (
	"cmp"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/internal/ready"
	"github.com/stint-dev/stint/store/internal/workflow"
)

var _ workflow.Rows = (*workflows)(nil)

const (
	nodeHead    = "INSERT INTO stint_runs (id, lane, state, priority, rank, parent, root, node) VALUES "
	nodeFullSQL = `INSERT INTO stint_runs (id, lane, state, priority, rank, parent, root, node, due_at, start_by, start_in, ended_at,
  error, flags, limits, limiter, attempt, replayed)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?17,?17)`
)

// Runs implements workflow.Rows.
func (ws *workflows) Runs() lifecycle.Rows { return ws.runs }

// Graph implements workflow.Rows.
func (ws *workflows) Graph(id int64) (*store.Graph, error) { return reading.Graph(ws, ws.graphs, id) }

// Shared implements workflow.Rows.
func (ws *workflows) Shared(run int64) (workflow.Shared, error) {
	i, err := ws.workflowInfo(run)
	return i.Shared, err
}

// Changed implements workflow.Rows.
func (ws *workflows) Changed(run int64) { ws.drop(run) }

// Insert implements workflow.Rows. Plain ones are inserted together, at the end of the change that
// makes them.
func (ws *workflows) Insert(g *store.Graph, t workflow.Task) error {
	place := workflow.Place(t.Node)
	lane, err := ws.taskLane(g, place, t.Parent, ready.Name{Queue: g.QueueOf(place), Task: g.Lane()})
	if err != nil {
		return err
	}
	if t.Plain() {
		return ws.nodes.add(ws.unit, t.Key, lane, int64(t.Priority), t.Rank, t.Parent, t.Root, t.Node)
	}
	if err := ws.nodes.flush(ws.unit); err != nil {
		return err
	}
	var limits any
	if t.Limits != "" {
		limits = t.Limits
	}
	return ws.exec(nodeFullSQL, t.Key, lane, int64(t.State), int64(t.Priority), t.Rank, t.Parent, t.Root, t.Node, nullable(t.Due),
		nullable(t.StartBy), nullable(t.StartIn), nullable(t.Ended), text(t.Error), flagsOf(&t.Run), limits, t.Limiter, t.Attempt)
}

// taskLane returns the lane of a workflow's task, for workers that fit it: that of all its tasks in a queue, or of one
// for workers that have a handler for it.
func (ws *workflows) taskLane(g *store.Graph, place int, run int64, name ready.Name) (int64, error) {
	route, err := workflow.RouteFor(ws, g, place, run)
	if err != nil {
		return 0, err
	}
	name.Route = route.Text()
	return ws.lanes.lane(name)
}

// moveTask moves a workflow's task to another lane, in the queue that it is in.
func (ws *workflows) moveTask(g *store.Graph, key int64, place int, task string) error {
	name := ready.Name{Task: task}
	var run int64
	err := ws.one("SELECT r.parent, l.queue FROM stint_runs r JOIN stint_lanes l ON l.id = r.lane WHERE r.id = ?", []any{key},
		&run, &name.Queue)
	if err != nil {
		return err
	}
	lane, err := ws.taskLane(g, place, run, name)
	if err != nil {
		return err
	}
	return ws.exec(setLaneSQL, key, lane)
}

// Follows implements workflow.Rows.
func (ws *workflows) Follows(run int64) (worker string, err error) {
	err = ws.one("SELECT worker FROM stint_sticky WHERE run = ?", []any{run}, &worker)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return worker, err
}

// Exists implements workflow.Rows.
func (ws *workflows) Exists(run, node int64) (there bool, err error) {
	err = ws.one("SELECT EXISTS (SELECT 1 FROM stint_runs WHERE parent = ? AND node = ?)", []any{run, node}, &there)
	return there, err
}

// keepTaskLimits stores the limits of a workflow run's tasks.
func (ws *workflows) keepTaskLimits(run int64, limits map[int][]store.Limit) error {
	for place, ls := range limits {
		stored, err := ws.limiters.storedLimits(ls)
		if err == nil && stored != nil {
			err = ws.exec("INSERT INTO stint_task_limits (run, place, limits) VALUES (?, ?, ?)", run, place, stored)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inserted stores the limits of the tasks of a workflow's run that was inserted for n, and begins it if it is Running.
func (ws *workflows) inserted(r *lifecycle.Row, n *store.NewRun) error {
	if err := ws.keepTaskLimits(r.Key, n.TaskLimits); err != nil || r.State != store.Running {
		return err
	}
	shared := workflow.Shared{Priority: n.Priority, Root: cmp.Or(r.Root, r.Key), Route: n.Route}
	lane := ready.Name{Queue: n.Queue, Task: n.Task}
	i := workflowInfo{Shared: shared, input: slices.Clone(n.Input), metadata: slices.Clone(n.Metadata), lane: lane, started: r.Started}
	if tasks := len(n.Graph.Tasks); tasks <= maxOutputTasks {
		i.outputs = &outputs{graph: n.Graph, of: make([][]byte, tasks)}
	}
	ws.keep(r.Key, i)
	return workflow.BeginRun(ws, r.Key, r.Node, r.Started)
}

// TaskLimits implements workflow.Rows.
func (ws *workflows) TaskLimits(run int64, place int) (text string, limits []store.Limit, err error) {
	err = ws.one("SELECT limits FROM stint_task_limits WHERE run = ? AND place = ?", []any{run, place}, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil, nil
	}
	if err == nil {
		limits, err = ws.limiters.limitsOf(text)
	}
	return text, limits, err
}

// Admit implements workflow.Rows.
func (ws *workflows) Admit(run int64, limits []store.Limit) (*int64, error) {
	if err := ws.nodes.flush(ws.unit); err != nil {
		return nil, err
	}
	return ws.limiters.admitNewRun(run, limits, false)
}

// Attempts implements workflow.Rows.
func (ws *workflows) Attempts(run int64, place int) (n int64, err error) {
	err = ws.one("SELECT attempts FROM stint_remade WHERE run = ? AND place = ?", []any{run, place}, &n)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return n, err
}

// KeepAttempts implements workflow.Rows.
func (ws *workflows) KeepAttempts(run int64, place int, attempts int64) error {
	return ws.exec("INSERT OR REPLACE INTO stint_remade (run, place, attempts) VALUES (?, ?, ?)", run, place, attempts)
}

// End implements workflow.Rows.
func (ws *workflows) End(run int64, to store.State, now int64, reason []byte) (bool, error) {
	n, err := ws.execN("UPDATE stint_runs SET state = ?2, ended_at = ?3, error = ?4, start_by = NULL WHERE id = ?1 AND "+stateRunning+
		" AND cancel_at IS NULL", run, int64(to), now, text(reason))
	return n > 0, err
}

// Over implements workflow.Rows. Who waits for the run is given its end, and it is counted, without reading the row.
func (ws *workflows) Over(run int64, to store.State, now int64) {
	i, known := ws.infos[run]
	if known {
		ws.counters.Of(i.lane.Queue, i.lane.Task).End(to, count.Took(millis(i.started), now))
	}
	r := &store.Result{State: to, Workflow: true}
	if known && to == store.Succeeded && ws.signals.isAwaited(run) {
		if r.Tasks = i.outputs.tasks(); r.Tasks != nil {
			r.Graph = i.outputs.graph
		}
	}
	ws.signals.ended = append(ws.signals.ended, ending{run, r, known})
}

// EventSince implements workflow.Rows.
func (ws *workflows) EventSince(run int64, m *store.Match) (time.Time, error) {
	return ws.events.eventSince(run, m)
}

// Came implements workflow.Rows.
func (ws *workflows) Came(task int64) ([]workflow.Came, error) {
	type row struct {
		leaf  int
		event int64
	}
	rows, err := rowsOf(ws, func(r *row) []any { return []any{&r.leaf, &r.event} }, "SELECT leaf, event FROM stint_waits "+
		"WHERE run = ? AND event IS NOT NULL", task)
	came := make([]workflow.Came, len(rows))
	for i, r := range rows {
		came[i] = workflow.Came{Leaf: r.leaf, At: millis(keys.CreatedAt(r.event))}
	}
	return came, err
}

// AwaitEvent implements workflow.Rows.
func (ws *workflows) AwaitEvent(task int64, leaf int, m *store.Match) error {
	delete(ws.triggers.noWaiters, m.Key)
	return ws.exec("INSERT INTO stint_waits (run, leaf, key, field, value, filter) VALUES (?, ?, ?, ?, ?, ?)", task, leaf, m.Key, m.Field,
		m.Value, m.Filter)
}

// Results implements workflow.Rows.
func (ws *workflows) Results(run, node int64) (text []byte, err error) {
	err = ws.one(`SELECT t.results FROM stint_runs r JOIN stint_tests t ON t.run = r.id WHERE r.parent = ? AND r.node = ?
		AND r.`+stateSucceeded, []any{run, node}, &text)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return text, err
}

// Tasks implements workflow.Rows.
func (ws *workflows) Tasks(run, from, to int64) ([]workflow.Old, error) {
	return ws.tasks("parent = ? AND node >= ? AND node <= ? ORDER BY parent, node", run, from, to)
}

func (ws *workflows) tasks(where string, args ...any) ([]workflow.Old, error) {
	return rowsOf(ws, func(o *workflow.Old) []any { return []any{&o.Key, &o.Place, &o.Attempts, &o.State, &o.Begun} },
		"SELECT id, node & 1048575, attempt, state, lease > 0 FROM stint_runs WHERE "+where, args...)
}

// Delete implements workflow.Rows.
func (ws *workflows) Delete(task int64) error { return ws.runs.Delete(task) }

// Stick implements workflow.Rows.
func (ws *workflows) Stick(run, worker int64) (bool, error) {
	n, err := ws.execN("INSERT OR IGNORE INTO stint_sticky (run, worker) SELECT ?, name FROM stint_workers WHERE id = ?", run, worker)
	return n > 0, err
}

// Unstarted implements workflow.Rows.
func (ws *workflows) Unstarted(run int64) ([]workflow.Old, error) {
	if err := ws.nodes.flush(ws.unit); err != nil {
		return nil, err
	}
	return ws.tasks("parent = ? AND node IS NOT NULL AND "+notEnded+" AND "+notRunning, run)
}

// MoveTask implements workflow.Rows.
func (ws *workflows) MoveTask(g *store.Graph, t workflow.Old) error {
	return ws.moveTask(g, t.Key, t.Place, g.Lane())
}
