package sqlite

import (
	"github.com/stint-dev/stint/internal/graphcache"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/ready"
	"github.com/stint-dev/stint/store/internal/workflow"
)

const (
	nodeBits         = lifecycle.NodeBits
	maxWorkflowBytes = 8 << 20 // of the cached workflows
)

// workflowInfo is what all tasks of a workflow's run share.
type workflowInfo struct {
	workflow.Shared
	input, metadata []byte

	// Of the workflow's run.
	lane    ready.Name // Queue and Task
	started int64

	outputs *outputs // nil: not known
}

func (i *workflowInfo) size() int { return 100 + len(i.input) + len(i.metadata) + i.outputs.size() }

// outputs are those of the tasks of a workflow's run that this store has begun, for who waits for its end. They are kept as long as
// all that is known of the run: not after another connection's commit, a rollback, or a replay.
type outputs struct {
	graph *store.Graph
	known int      // how many
	of    [][]byte // by place; nil: not known
}

const (
	maxOutputTasks = 100 // of a workflow whose outputs are kept
	maxOutputBytes = 1024
)

func (o *outputs) size() (bytes int) {
	if o == nil {
		return 0
	}
	for _, b := range o.of {
		bytes += 24 + len(b)
	}
	return bytes
}

// keepOutput keeps the output of a task that has succeeded.
func (ws *workflows) keepOutput(run, node int64, output []byte) {
	i := ws.infos[run]
	place := workflow.Place(node)
	if i.outputs == nil || place >= len(i.outputs.of) || output == nil || len(output) > maxOutputBytes || i.outputs.of[place] != nil {
		return
	}
	i.outputs.of[place] = output
	i.outputs.known++
	ws.bytes += len(output)
}

// tasks returns the tasks of a workflow's run that has succeeded, or nil.
func (o *outputs) tasks() []store.WorkflowTask {
	if o == nil || o.known < len(o.of) {
		return nil
	}
	all := make([]store.WorkflowTask, len(o.of))
	for place, b := range o.of {
		all[place] = store.WorkflowTask{Place: place, State: store.Succeeded, Output: b}
	}
	return all
}

// workflowInfo returns what all tasks of a workflow's run share.
func (ws *workflows) workflowInfo(key int64) (i workflowInfo, err error) {
	if i, ok := ws.infos[key]; ok {
		return i, nil
	}
	var lane int64
	err = ws.one("SELECT lane, priority, coalesce(root, id), coalesce(input, (SELECT data FROM stint_inputs i "+
		"WHERE i.id = r.id)), metadata, replayed > 0, coalesce(started_at, 0) FROM stint_runs r WHERE id = ?",
		[]any{key}, &lane, &i.Priority, &i.Root, &i.input, &i.metadata, &i.Replayed, &i.started)
	if err != nil {
		return i, err
	}
	l, err := ws.lanes.laneByID(lane)
	if err != nil || l == nil {
		return i, err
	}
	i.lane.Queue, i.lane.Task = l.Queue, l.Task
	if i.Route, err = store.ParseRoute(l.Route); err == nil {
		ws.keep(key, i)
	}
	return i, err
}

// workflows holds what tasks of workflows need often, and the rows of tasks that a change has
// made ready.
type workflows struct {
	*unit
	passive
	graphs *graphcache.Cache // the store's, or an app's transaction's own: that may have stored one
	infos  map[int64]workflowInfo
	bytes  int // of infos
	nodes  bulk
	joins  joins
}

func (ws *workflows) flush() error {
	if err := ws.flushJoins(); err != nil {
		return err
	}
	return ws.nodes.flush(ws.unit)
}

func (ws *workflows) rolledBack() {
	ws.graphs.Forget()
	ws.outdated()
	ws.nodes, ws.joins = bulk{kind: nodeRows}, nil
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
