package stint

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/failure"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// A Condition is something that a task of a workflow waits for, is skipped on or is canceled
// on: see WithWaitFor, WithSkipIf and WithCancelIf. It is evaluated from when the task's
// parents have ended; for a task without parents, from the start of the run.
//
// If several conditions of a task are true, the one that became true first decides. If they became
// true at the same instant, WithCancelIf precedes WithSkipIf, and that precedes WithWaitFor.
type Condition struct {
	name     string // "": it has none
	sleep    time.Duration
	event    *store.Match
	test     *predicate
	any, all []Condition
	err      error
}

// A predicate is a function of the app on a parent's output.
type predicate struct {
	on *node
	fn func(input, output []byte) (bool, error)
}

// SleepFor is true d after the parents have ended.
func SleepFor(d time.Duration) Condition {
	if d <= 0 {
		return Condition{err: fmt.Errorf("SleepFor(%v): want more than 0", d)}
	}
	return Condition{sleep: d}
}

// UserEvent is true once an event with the key, and with what WithMatch and WithFilter ask
// for, was published since the workflow's run was enqueued. See also WithScope, FromNow and
// PublishedSince.
func UserEvent(key string, opts ...WaitOption) Condition {
	w := waitConfig{Match: store.Match{Key: key}}
	err := check.Name("event key", key)
	for _, o := range opts {
		if o != nil && err == nil {
			err = o.applyWait(&w)
		}
	}
	if err == nil && w.timeout > 0 {
		err = errors.New("WithWaitTimeout is for WaitForEvent: join a SleepFor with AnyOf")
	}
	m, merr := w.match()
	return Condition{event: &m, err: cmp.Or(err, merr)}
}

// ParentOutput is true if f is true for the output of n, which must be a parent of the task.
// It is false if n was skipped. f is called once, by the worker that finished the parent. If
// it panics, the task is blocked with the panic as the reason.
func ParentOutput[T any](n *Node[T], f func(T) bool) Condition {
	if n == nil || f == nil {
		return Condition{err: errors.New("ParentOutput: want a task and a function")}
	}
	return Condition{test: &predicate{n.n, func(_, output []byte) (ok bool, err error) {
		err = guarded(func() error {
			var out T
			if err := n.n.w.c.unmarshal(output, &out); err != nil {
				return err
			}
			ok = f(out)
			return nil
		})
		return ok && err == nil, vet(err)
	}}}
}

// AnyOf is true when one of the conditions is. Conditions may be nested.
func AnyOf(cs ...Condition) Condition { return combine("AnyOf", cs, Condition{any: slices.Clone(cs)}) }

// AllOf is true when all of the conditions are.
func AllOf(cs ...Condition) Condition { return combine("AllOf", cs, Condition{all: slices.Clone(cs)}) }

func combine(name string, cs []Condition, c Condition) Condition {
	if len(cs) == 0 {
		c.err = fmt.Errorf("%s: no conditions", name)
	}
	for _, x := range cs {
		c.err = errors.Join(c.err, x.err)
	}
	return c
}

// nodeOption returns an option that only AddTask accepts.
func nodeOption(f func(*taskConfig) error) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.nodeOnly = true
		return f(c)
	})
}

// WithParents makes a task of a workflow start after other tasks of it. It is an option of
// AddTask.
func WithParents(nodes ...AnyNode) TaskOption {
	return nodeOption(func(c *taskConfig) error {
		for _, n := range nodes {
			if n == nil || n.anyNode() == nil {
				return errors.New("WithParents: nil task")
			}
			c.parents = append(c.parents, n.anyNode())
		}
		return nil
	})
}

// WithWaitFor makes a task of a workflow start only once the condition is true.
func WithWaitFor(cond Condition) TaskOption {
	return conditionOption("WithWaitFor", cond, func(c *taskConfig) **Condition { return &c.waitFor })
}

// WithSkipIf skips a task of a workflow if the condition is true when the task would start.
// Its children start all the same; its output is ErrSkipped.
func WithSkipIf(cond Condition) TaskOption {
	return conditionOption("WithSkipIf", cond, func(c *taskConfig) **Condition { return &c.skipIf })
}

// WithCancelIf cancels a task of a workflow, with its descendants, if the condition is true
// when the task would start.
func WithCancelIf(cond Condition) TaskOption {
	return conditionOption("WithCancelIf", cond, func(c *taskConfig) **Condition { return &c.cancelIf })
}

func conditionOption(name string, cond Condition, where func(*taskConfig) **Condition) TaskOption {
	return nodeOption(func(c *taskConfig) error {
		switch p := where(c); {
		case cond.err != nil:
			return fmt.Errorf("%s: %w", name, cond.err)
		case *p != nil:
			return fmt.Errorf("%s: given twice: join the conditions with AnyOf or AllOf", name)
		default:
			*p = &cond
		}
		return nil
	})
}

// buildConditions converts the conditions of a task to its graph's form, and adds the
// predicates to the parents they are about.
func (n *node) buildConditions() (err error) {
	for _, c := range []struct {
		kind string
		from *Condition
		to   **store.Condition
	}{{"cancel", n.def.cfg.cancelIf, &n.graph.CancelIf}, {"skip", n.def.cfg.skipIf, &n.graph.SkipIf}, {"wait", n.def.cfg.waitFor,
		&n.graph.WaitFor}} {
		if c.from == nil {
			continue
		}
		count := 0
		stored, err := n.buildCondition(c.from, c.kind, &count)
		if err != nil {
			return err
		}
		*c.to = &stored
	}
	return nil
}

func (n *node) buildCondition(c *Condition, kind string, count *int) (store.Condition, error) {
	return c.build(n.w.c, func(c *Condition, s *store.Condition) error {
		p := c.test.on
		if p.w != n.w || !slices.Contains(n.graph.Parents, p.index) {
			return fmt.Errorf("ParentOutput: task %q is not one of its parents", p.name)
		}
		*count++
		name := fmt.Sprintf("%s/%s/%d", n.name, kind, *count)
		s.Name = c.leafName()
		s.Test = &store.TestRef{Parent: p.index, Test: len(p.graph.Tests)}
		p.graph.Tests = append(p.graph.Tests, name)
		p.tests[name] = c.test.fn
		return nil
	})
}

// build converts a condition to its stored form, for waits of a client. test does that for ParentOutput.
func (c *Condition) build(client *Client, test func(*Condition, *store.Condition) error) (s store.Condition, err error) {
	list := func(cs []Condition) (all []store.Condition, err error) {
		for i := range cs {
			one, err := cs[i].build(client, test)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		return all, nil
	}
	s.Name = c.name
	switch {
	case c.any != nil:
		s.Any, err = list(c.any)
	case c.all != nil:
		s.All, err = list(c.all)
	case c.event != nil:
		s.Event, err = c.event, client.canMatch(c.event)
	case c.test != nil:
		err = test(c, &s)
	case c.sleep > 0:
		s.Sleep = c.sleep
	default:
		return s, errors.New("an empty condition: make one with SleepFor, UserEvent, ParentOutput, AnyOf or AllOf")
	}
	return s, err
}

// evaluate calls the predicates that the run's graph names on an output.
func (n *node) evaluate(names []string, input, output []byte) []store.TestResult {
	results := make([]store.TestResult, len(names))
	for i, name := range names {
		fn := n.tests[name]
		if fn == nil {
			results[i].Error = fmt.Sprintf("condition %s on the output of task %q is not in the code any more", name, n.name)
			continue
		}
		ok, err := fn(input, output)
		results[i].OK = ok
		if err != nil {
			results[i].Error = fmt.Sprintf("condition %s on the output of task %q: %s", name, n.name, failure.Text(err))
		}
	}
	return results
}

// Named gives a condition the name under which Fired has it. Without Named, an event has its key
// as name, a sleep is "sleep", and ParentOutput has the name of its task. AnyOf and AllOf without
// a name are not in Fired.
func Named(name string, cond Condition) Condition {
	if err := check.Name("name", name); err != nil && cond.err == nil {
		cond.err = fmt.Errorf("Named: %w", err)
	}
	cond.name = name
	return cond
}

// String describes the condition by the names of what it is made of, such as
// "any(approved, all(paid, sleep))". If that is longer than 255 bytes, its end is a hash. It is
// the JournalEntry.Name of a WaitFor with the condition.
func (c Condition) String() string {
	s := c.text()
	if len(s) <= check.MaxName {
		return s
	}
	h := sha256.Sum256([]byte(s))
	return text.Cut(s, check.MaxName-40) + " " + hex.EncodeToString(h[:8])
}

func (c *Condition) text() string {
	list, kind := c.any, "any"
	if c.all != nil {
		list, kind = c.all, "all"
	}
	if list == nil {
		return c.leafName()
	}
	words := make([]string, len(list))
	for i := range list {
		words[i] = list[i].text()
	}
	return c.name + kind + "(" + strings.Join(words, ", ") + ")"
}

func (c *Condition) leafName() string {
	switch {
	case c.name != "":
		return c.name
	case c.event != nil:
		return c.event.Key
	case c.test != nil:
		return c.test.on.name
	}
	return store.SleepName
}

// Outputs has the results of the tasks of a workflow's run. Node.From reads them. As JSON it
// is an object with the outputs of the tasks that succeeded, by name.
type Outputs struct {
	runID string
	state State                          // of the workflow's run
	ended time.Time                      // zero: it has not
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
		return &TaskError{Task: name, RunID: r.ID.String(), Attempt: r.Attempt, Err: endCause(r.State, r.Error),
			canceled: r.State == store.Canceled}
	}
	return fmt.Errorf("stint: output of task %q: it has not ended: it is %v", name, r.State)
}

// comesAfter reports whether n comes after other in the graph.
func (n *node) comesAfter(other *node) bool {
	if slices.Contains(n.graph.Parents, other.index) {
		return true
	}
	g := store.Graph{Tasks: make([]store.GraphTask, n.index+1)}
	for i := range g.Tasks {
		g.Tasks[i].Parents = n.w.nodes[i].graph.Parents
	}
	return slices.Contains(g.Ancestors(n.index), other.index)
}

// outputs reads the results of a workflow's tasks; nil names: of all.
func (c *Client) outputs(ctx context.Context, id store.ID, names []string) (Outputs, error) {
	g, tasks, err := c.store.Workflow(ctx, id, names)
	if err != nil {
		return Outputs{}, wrapStoreErr("outputs of a workflow", err)
	}
	o := outputsOf(id, g, tasks)
	o.state, o.ended = tasks[0].State, tasks[0].Ended
	return o, nil
}

func outputsOf(id store.ID, g *store.Graph, tasks []store.WorkflowTask) Outputs {
	o := Outputs{runID: id.String(), tasks: make(map[string]*store.WorkflowTask, len(tasks))}
	for i := range tasks {
		if tasks[i].Place < g.End() {
			o.tasks[g.Name(tasks[i].Place)] = &tasks[i]
		}
	}
	return o
}
