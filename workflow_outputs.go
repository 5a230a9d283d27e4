package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// Outputs has the results of the tasks of a workflow's run. Node.From reads them. As JSON it
// is an object with the outputs of the tasks that succeeded, by name.
type Outputs struct {
	runID string
	state State                          // of the workflow's run
	tasks map[string]*store.WorkflowTask // by name
}

// MarshalJSON implements json.Marshaler.
func (o Outputs) MarshalJSON() ([]byte, error) {
	m := map[string]json.RawMessage{}
	for name, r := range o.tasks {
		if r.State == store.Succeeded {
			m[name] = jsonx.Embed(r.Output)
		}
	}
	return json.Marshal(m)
}

// UnmarshalJSON implements json.Unmarshaler. The result belongs to no run: Node.From finds
// only the outputs in the object.
func (o *Outputs) UnmarshalJSON(b []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	o.tasks = map[string]*store.WorkflowTask{}
	for name, out := range m {
		o.tasks[name] = &store.WorkflowTask{State: store.Succeeded, Output: out}
	}
	return nil
}

// Names returns the names of the tasks that have ended, sorted.
func (o Outputs) Names() []string {
	var names []string
	for name, r := range o.tasks {
		if r.State.Terminal() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// JSON returns the output of the task with a name, as it is stored. Its errors are those of
// Node.From.
func (o Outputs) JSON(name string) (json.RawMessage, error) {
	r := o.tasks[name]
	if r == nil {
		return nil, fmt.Errorf("%w: no run of task %.300q in workflow run %s", ErrNotFound, name, o.runID)
	}
	if r.State != store.Succeeded {
		return nil, notSucceeded(name, r)
	}
	return jsonx.Embed(r.Output), nil
}

// EarlierOutputs returns the results of the tasks that come before the one in whose handler it
// is called: its parents, their parents, and so on. In an on-failure or on-success function
// they are those of all tasks that have ended. It needs no Node, and so serves handlers that do
// not know the workflow's types. It returns an error outside of a workflow's task.
func EarlierOutputs(ctx context.Context) (Outputs, error) {
	e := executionOf(ctx)
	if !e.ofWorkflow() {
		return Outputs{}, errors.New("stint: EarlierOutputs: ctx is not of a handler of a workflow's task")
	}
	if e.replay != nil {
		return e.replayedOutputs(true), nil
	}
	g, _, err := e.c.store.Workflow(ctx, e.run.Parent, []string{}) // the graph that the run has
	if err != nil {
		return Outputs{}, wrapStoreErr("outputs of a workflow", err)
	}
	_, name, _ := strings.Cut(e.run.Task, ":")
	place, ok := g.Place(name)
	if !ok || place >= len(g.Tasks) {
		return e.c.outputs(ctx, e.run.Parent, nil)
	}
	names := []string{}
	for _, p := range g.Ancestors(place) {
		names = append(names, g.Tasks[p].Name)
	}
	return e.c.outputs(ctx, e.run.Parent, names)
}

// WorkflowFailure returns which tasks of the workflow's run have failed or were canceled by now,
// in the handler of its on-failure task, as the function of Workflow.OnFailure is given it. It
// returns an error outside of a workflow's task.
func WorkflowFailure(ctx context.Context) (*WorkflowError, error) {
	e := executionOf(ctx)
	if !e.ofWorkflow() {
		return nil, errors.New("stint: WorkflowFailure: ctx is not of a handler of a workflow's task")
	}
	workflow, _, _ := strings.Cut(e.run.Task, ":")
	if e.replay != nil {
		return workflowErrorOf(workflow, e.replayedOutputs(false)), nil
	}
	return e.c.workflowError(ctx, workflow, e.run.Parent)
}

// ofWorkflow reports whether the execution is of a workflow's task.
func (e *execution) ofWorkflow() bool {
	return e != nil && (e.run.Node != 0 || e.replay != nil && (e.def.node != nil || e.def.hookOf != nil))
}

// replayedOutputs returns the results that a replay has: of the earlier tasks alone, or of all.
func (e *execution) replayedOutputs(earlier bool) Outputs {
	o := Outputs{runID: e.run.Parent.String(), tasks: e.replay.tasks}
	if n := e.def.node; n != nil && earlier {
		o.tasks = maps.Clone(o.tasks)
		maps.DeleteFunc(o.tasks, func(name string, _ *store.WorkflowTask) bool {
			return !slices.ContainsFunc(n.w.nodes, func(x *node) bool { return x.name == name && n.comesAfter(x) })
		})
	}
	return o
}

// From returns the node's output in a finished run. The error is ErrSkipped if the task was
// skipped, a *TaskError if it failed or was canceled, and ErrNotFound if it did not run.
func (n *Node[Out]) From(o Outputs) (Out, error) {
	r := o.tasks[n.n.name]
	if r == nil {
		var out Out
		return out, fmt.Errorf("%w: no run of task %q in workflow run %s", ErrNotFound, n.n.name, o.runID)
	}
	return nodeOutput[Out](n.n, r)
}

// Output returns the output of a task in the handler of a later task of the same workflow's
// run, or of the on-failure or on-success task. Its errors are those of From.
func (n *Node[Out]) Output(ctx context.Context) (Out, error) {
	var out Out
	e := executionOf(ctx)
	if e != nil && e.replay != nil {
		return n.From(Outputs{runID: e.run.Parent.String(), tasks: e.replay.tasks})
	}
	if e == nil || e.def.hookOf != n.n.w && (e.def.node == nil || e.def.node.w != n.n.w) {
		return out, fmt.Errorf("stint: output of task %q: ctx is not of a handler of workflow %q", n.n.name, n.n.w.name)
	}
	if from := e.def.node; from != nil && !from.comesAfter(n.n) {
		return out, fmt.Errorf("stint: output of task %q: it does not come before task %q: make it a parent", n.n.name, from.name)
	}
	o, err := n.n.w.c.outputs(ctx, e.run.Parent, []string{n.n.name})
	if err != nil {
		return out, err
	}
	return n.From(o)
}

func nodeOutput[Out any](n *node, r *store.WorkflowTask) (out Out, err error) {
	if r.State != store.Succeeded {
		return out, notSucceeded(n.def.name, r)
	}
	if err := n.w.c.decode(r.Output, &out); err != nil {
		return out, errorf("stint: output of task %q is not a %T: %w", n.def.name, out, err)
	}
	return out, nil
}

// notSucceeded returns why a task has no output.
func notSucceeded(name string, r *store.WorkflowTask) error {
	switch r.State {
	case store.Skipped:
		return fmt.Errorf("%w: task %q", ErrSkipped, name)
	case store.Failed, store.Canceled:
		return &TaskError{Task: name, RunID: r.ID.String(), Attempt: r.Attempt, Err: endCause(r.State, r.Error)}
	}
	return fmt.Errorf("stint: output of task %q: it has not ended: it is %v", name, r.State)
}

// comesAfter reports whether n comes after other in the graph.
func (n *node) comesAfter(other *node) bool {
	if slices.Contains(n.graph.Parents, other.index) {
		return true
	}
	seen := make([]bool, n.index+1)
	todo := []int{n.index}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, p := range n.w.nodes[at].graph.Parents {
			if p == other.index {
				return true
			}
			if p > other.index && !seen[p] {
				seen[p] = true
				todo = append(todo, p)
			}
		}
	}
	return false
}

// outputs reads the results of a workflow's tasks; nil names: of all.
func (c *Client) outputs(ctx context.Context, id store.ID, names []string) (Outputs, error) {
	g, tasks, err := c.store.Workflow(ctx, id, names)
	if err != nil {
		return Outputs{}, wrapStoreErr("outputs of a workflow", err)
	}
	o := Outputs{runID: id.String(), state: tasks[0].State, tasks: make(map[string]*store.WorkflowTask, len(tasks))}
	for i := range tasks {
		if tasks[i].Place < g.End() {
			o.tasks[g.Name(tasks[i].Place)] = &tasks[i]
		}
	}
	return o, nil
}

// workflowError reads which tasks did not succeed.
func (c *Client) workflowError(ctx context.Context, workflow string, id store.ID) (*WorkflowError, error) {
	o, err := c.outputs(ctx, id, nil)
	if err != nil {
		return nil, err
	}
	return workflowErrorOf(workflow, o), nil
}

func workflowErrorOf(workflow string, o Outputs) *WorkflowError {
	e := &WorkflowError{Workflow: workflow, RunID: o.runID, Tasks: map[string]error{}}
	for name, r := range o.tasks {
		if r.State == store.Failed || r.State == store.Canceled {
			e.Tasks[name] = endCause(r.State, r.Error)
			e.noteCanceled(name, r.State == store.Canceled)
		}
	}
	return e
}
