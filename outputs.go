package stint

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// Outputs are what became of the tasks of a workflow's run. Node.From reads them. As
// JSON they are an object of outputs by the names of the tasks that succeeded.
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

// UnmarshalJSON implements json.Unmarshaler. What it reads is of no run: Node.From
// knows the outputs that there are, and no more.
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

// From is the node's output in a finished run. It is ErrSkipped if the task was
// skipped, a *TaskError if it did not succeed, and ErrNotFound if it did not run.
func (n *Node[Out]) From(o Outputs) (Out, error) {
	r := o.tasks[n.n.name]
	if r == nil {
		var out Out
		return out, fmt.Errorf("%w: no run of task %q in workflow run %s", ErrNotFound, n.n.name, o.runID)
	}
	return nodeOutput[Out](n.n, r)
}

// Output is the output of a task of the same run of the workflow: in the handler of a
// task that comes after it, or of the on-failure or on-success task. Its errors are
// those of From.
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
	switch r.State {
	case store.Succeeded:
		if err := n.w.c.decode(r.Output, &out); err != nil {
			return out, errorf("stint: output of task %q is not a %T: %w", n.def.name, out, err)
		}
		return out, nil
	case store.Skipped:
		return out, fmt.Errorf("%w: task %q", ErrSkipped, n.def.name)
	case store.Failed, store.Canceled:
		return out, &TaskError{Task: n.def.name, RunID: r.ID.String(), Attempt: r.Attempt, Err: endCause(r.State, r.Error)}
	}
	return out, fmt.Errorf("stint: output of task %q: it has not ended: it is %v", n.def.name, r.State)
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

// outputs reads what became of a workflow's tasks; nil names: of all.
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

// A WorkflowError says which tasks of a workflow's run did not succeed. It is inside
// the *TaskError that Run.Wait returns. errors.Is and errors.As look at those that failed.
type WorkflowError struct {
	Workflow string
	RunID    string
	Tasks    map[string]error // those that failed or were canceled, by name
	canceled map[string]bool  // those that were canceled
}

// noteCanceled notes whether a task was canceled.
func (e *WorkflowError) noteCanceled(name string, canceled bool) {
	if canceled {
		if e.canceled == nil {
			e.canceled = map[string]bool{}
		}
		e.canceled[name] = true
	}
}

func (e *WorkflowError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "workflow %q", e.Workflow)
	for i, name := range e.names() {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		if i == maxListed {
			fmt.Fprintf(&b, "; and %d more", len(e.Tasks)-i)
			break
		}
		fmt.Fprintf(&b, "%stask %q: %v", sep, name, e.Tasks[name])
	}
	return b.String()
}

const maxListed = 5 // tasks that a WorkflowError's text lists

// Unwrap gives the errors of the tasks that failed, in the order of their names; if none did,
// of those that were canceled. What a failure canceled does not make the run a canceled one.
func (e *WorkflowError) Unwrap() []error {
	var all []error
	for _, name := range e.names() {
		if e.canceled[name] && len(e.canceled) < len(e.Tasks) {
			break
		}
		all = append(all, e.Tasks[name])
	}
	return all
}

// names are those of the tasks that failed, then of those that were canceled.
func (e *WorkflowError) names() []string {
	names := slices.Sorted(maps.Keys(e.Tasks))
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case e.canceled[a] == e.canceled[b]:
			return 0
		case e.canceled[b]:
			return -1
		}
		return 1
	})
	return names
}

// workflowError reads which tasks did not succeed.
func (c *Client) workflowError(ctx context.Context, workflow string, id store.ID) (*WorkflowError, error) {
	o, err := c.outputs(ctx, id, nil)
	if err != nil {
		return nil, err
	}
	e := &WorkflowError{Workflow: workflow, RunID: id.String(), Tasks: map[string]error{}}
	for name, r := range o.tasks {
		if r.State == store.Failed || r.State == store.Canceled {
			e.Tasks[name] = endCause(r.State, r.Error)
			e.noteCanceled(name, r.State == store.Canceled)
		}
	}
	return e, nil
}
