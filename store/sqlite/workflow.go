package sqlite

import (
	"database/sql"
	"errors"
	"fmt"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

const (
	nodeBits         = lifecycle.NodeBits
	maxWorkflowBytes = 8 << 20 // of the cached workflows
)

// A workflowRun is one run of a graph, in a transaction. It implements store.WorkflowRun.
type workflowRun struct {
	*store.Graph
	workflowInfo
	u    *unit
	key  int64 // the workflow run's
	node int64 // graph << 20
	now  int64
}

// workflowInfo is what all tasks of a workflow's run share. Only a replay changes it.
type workflowInfo struct {
	priority, root  int64
	input, metadata []byte
	replayed        bool
}

func (i *workflowInfo) size() int { return 100 + len(i.input) + len(i.metadata) }

func (ws *workflows) workflowRun(key, node, now int64) (*workflowRun, error) {
	g, err := ws.graphs.graph(ws, node>>nodeBits)
	if err != nil {
		return nil, err
	}
	info, err := ws.workflowInfo(key)
	return &workflowRun{Graph: g, workflowInfo: info, u: ws.unit, key: key, node: node >> nodeBits << nodeBits, now: now}, err
}

// workflowInfo returns what all tasks of a workflow's run share.
func (ws *workflows) workflowInfo(key int64) (i workflowInfo, err error) {
	if i, ok := ws.infos[key]; ok {
		return i, nil
	}
	err = ws.one("SELECT priority, coalesce(root, id), coalesce(input, (SELECT data FROM stint_inputs i "+
		"WHERE i.id = r.id)), metadata, replayed > 0 FROM stint_runs r WHERE id = ?",
		[]any{key}, &i.priority, &i.root, &i.input, &i.metadata, &i.replayed)
	if err == nil {
		ws.keep(key, i)
	}
	return i, err
}

// A workflowCache holds what tasks of workflows need often, and the rows of tasks that a change has
// made ready.
type workflows struct {
	*unit
	passive
	graphs *graphCache // the store's, or an app's transaction's own: that may have stored one
	infos  map[int64]workflowInfo
	bytes  int // of infos
	nodes  bulk
}

func (ws *workflows) flush() error { return ws.nodes.flush(ws.unit) }

func (ws *workflows) rolledBack() {
	ws.graphs.forget()
	ws.outdated()
	ws.nodes = bulk{kind: nodeRows}
}

func (ws *workflows) outdated() { ws.infos, ws.bytes = nil, 0 } // another may have replayed them

// keep caches what a workflow's next tasks will need.
func (ws *workflows) keep(key int64, i workflowInfo) {
	if i.size() > maxWorkflowBytes/1000 {
		return
	}
	if ws.infos == nil || ws.bytes > maxWorkflowBytes {
		ws.infos, ws.bytes = map[int64]workflowInfo{}, 0
	}
	ws.drop(key)
	ws.infos[key] = i
	ws.bytes += i.size()
}

// drop removes a workflow that has ended.
func (ws *workflows) drop(key int64) {
	if i, ok := ws.infos[key]; ok {
		ws.bytes -= i.size()
		delete(ws.infos, key)
	}
}

// beginWorkflow starts the first tasks of a workflow's run.
func (ws *workflows) beginWorkflow(key, node, now int64) error {
	f, err := ws.workflowRun(key, node, now)
	if err != nil {
		return err
	}
	return f.Begin(f)
}

// advance does what follows from the end of a workflow's task.
func (ws *workflows) advance(parent, node int64, to store.State, now int64) error {
	f, err := ws.workflowRun(parent, node, now)
	if err != nil {
		return err
	}
	place := int(node & (1<<nodeBits - 1))
	if place >= len(f.Tasks) {
		return nil // nothing follows from the workflow's own end, or its on-failure task's
	}
	if to == store.Failed && f.OnFailure != nil {
		if err := f.startHook(f.Failure()); err != nil {
			return err
		}
	}
	return f.Advance(f, place, to)
}

// startHook starts the on-failure or on-success task, once.
func (f *workflowRun) startHook(place int) error {
	var there bool
	err := f.u.one("SELECT EXISTS (SELECT 1 FROM stint_runs WHERE parent = ? AND node = ?)", []any{f.key, f.node | int64(place)}, &there)
	if err != nil || there {
		return err
	}
	return f.insert(place, nodeRow{state: store.Queued, due: f.now, flags: flagDetached})
}

const (
	joinSQL = `INSERT INTO stint_joins (run, place, ended, flags, cause) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET ended = ended + excluded.ended, flags = flags | excluded.flags, cause = coalesce(cause, excluded.cause)
RETURNING ended, flags, cause`

	joinRan, joinFailed, joinCanceled = 1, 2, 4
)

// ParentEnded implements store.WorkflowRun.
func (f *workflowRun) ParentEnded(place int, a store.JoinState) (store.JoinState, error) {
	flags := 0
	for bit, on := range map[int]bool{joinRan: a.Ran, joinFailed: a.Failed, joinCanceled: a.Canceled} {
		if on {
			flags |= bit
		}
	}
	var cause *int
	if a.Cause >= 0 {
		cause = &a.Cause
	}
	err := f.u.one(joinSQL, []any{f.key, place, a.Ended, flags, cause}, &a.Ended, &flags, &cause)
	a.Ran, a.Failed, a.Canceled, a.Cause = flags&joinRan != 0, flags&joinFailed != 0, flags&joinCanceled != 0, -1
	if cause != nil {
		a.Cause = *cause
	}
	return a, err
}

// EndUnstarted implements store.WorkflowRun.
func (f *workflowRun) EndUnstarted(task int, to store.State, cause int) error {
	row := nodeRow{state: to, due: f.now}
	if cause >= 0 {
		row.error = parentError(f.Tasks[cause].Name)
	}
	return f.insert(task, row)
}

// failureText returns an error as a row has it.
func failureText(kind, message string) any { return text(lifecycle.Failure(kind, message)) }

func parentError(task string) any {
	return failureText(store.KindParent, fmt.Sprintf("task %q did not succeed", task))
}

// EndWorkflow implements store.WorkflowRun.
func (f *workflowRun) EndWorkflow(all store.JoinState) error {
	to := all.State()
	var reason any
	if to != store.Succeeded && all.Cause >= 0 {
		reason = failureText(store.KindWorkflow, fmt.Sprintf("task %q did not succeed", f.Tasks[all.Cause].Name))
	}
	var ended store.State
	err := f.u.one(`UPDATE stint_runs SET state = CASE WHEN cancel_at IS NULL THEN ?2 ELSE `+canceledState+` END, ended_at = ?3,
		start_by = NULL,
		error = CASE WHEN cancel_at IS NULL THEN ?4 ELSE error END WHERE id = ?1 AND `+stateRunning+` RETURNING state`,
		[]any{f.key, int64(to), f.now, reason}, &ended)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	f.u.runs.Ended(f.key)
	f.u.workflows.drop(f.key)
	if ended == store.Succeeded && f.OnSuccess != nil {
		return f.startHook(f.Success())
	}
	return nil
}
