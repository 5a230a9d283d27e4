package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
)

// A TaskSpec is a task of a workflow that is defined as data. Of its options, Sticky, Idempotency,
// Crons, Events, EventFilter, EventFilters and Metadata are an error: they are the workflow's.
type TaskSpec struct {
	Name     string         `json:"name"`
	Parents  []string       `json:"parents,omitempty"` // names of other tasks of the workflow
	WaitFor  *ConditionSpec `json:"wait_for,omitempty"`
	SkipIf   *ConditionSpec `json:"skip_if,omitempty"`
	CancelIf *ConditionSpec `json:"cancel_if,omitempty"`
	TaskOptions
}

// A ConditionSpec is a Condition as data. Beside Name, exactly one of its fields is set.
type ConditionSpec struct {
	Name   string          `json:"name,omitempty"` // as Named gives it
	AllOf  []ConditionSpec `json:"all_of,omitempty"`
	AnyOf  []ConditionSpec `json:"any_of,omitempty"`
	Sleep  Duration        `json:"sleep,omitempty"` // as SleepFor
	Event  *EventSpec      `json:"event,omitempty"`
	Parent *ParentSpec     `json:"parent,omitempty"`
}

// An EventSpec is a UserEvent with its options, as data.
type EventSpec struct {
	Key     string    `json:"key"`
	Filter  string    `json:"filter,omitempty"`   // as WithFilter
	Scope   string    `json:"scope,omitempty"`    // as WithScope
	FromNow bool      `json:"from_now,omitempty"` // as FromNow
	Since   time.Time `json:"since,omitzero"`     // as PublishedSince
}

// A ParentSpec is a ParentOutput as data. Output is an expression that is true or false, over
// output, input and the run's metadata; empty means true. If the expression cannot be computed,
// the parent's run fails.
type ParentSpec struct {
	Name   string `json:"name"` // of a parent of the task
	Output string `json:"output,omitempty"`
}

// outputVars names the variables of expressions over a parent's output.
var outputVars = []string{"output", "input"}

// workflowFrom returns a workflow as its definition says.
func (c *Client) workflowFrom(d *Definition) (*taskDef, error) {
	if err := d.refuse("is an option of a workflow's tasks", "retries", "backoff_factor", "schedule_timeout", "slot_cost",
		"affinity"); err != nil {
		return nil, err
	}
	order, err := d.taskOrder()
	if err != nil {
		return nil, err
	}
	def, err := c.dataTask(d.Name, d.options())
	if err != nil {
		return nil, err
	}
	w := &workflowDef{c: c, name: d.Name}
	w.cfg.task, def.workflow = def.cfg, w
	nodes := map[string]*node{}
	for _, i := range order {
		t := &d.Tasks[i]
		if nodes[t.Name], err = w.addSpec(t, nodes); err != nil {
			return nil, fmt.Errorf("tasks: %q: %w", t.Name, err)
		}
	}
	if d.OnFailure != nil {
		if w.onFailure, err = w.hookFrom(d.OnFailure); err != nil {
			return nil, fmt.Errorf("on_failure: %w", err)
		}
	}
	_, err = w.freeze()
	return def, err
}

// refuse returns an error for the first of the fields that is set.
func (o *TaskOptions) refuse(why string, fields ...string) error {
	for _, f := range o.fields() {
		if f.is && slices.Contains(fields, f.field) {
			return fmt.Errorf("%s: it %s", f.field, why)
		}
	}
	return nil
}

// taskOrder returns the places of the tasks, parents first.
func (d *Definition) taskOrder() (order []int, err error) {
	places := map[string]int{}
	for i, t := range d.Tasks {
		if _, twice := places[t.Name]; twice {
			return nil, fmt.Errorf("tasks: there are two %q", t.Name)
		}
		places[t.Name] = i
	}
	const open, done = 1, 2
	marks := make([]int, len(d.Tasks))
	var path []string
	var visit func(i int) error
	visit = func(i int) error {
		t := &d.Tasks[i]
		path = append(path, t.Name)
		switch marks[i] {
		case open:
			return fmt.Errorf("tasks: %q: parents: a cycle: %s", t.Name, strings.Join(path[slices.Index(path, t.Name):], ", "))
		case done:
			path = path[:len(path)-1]
			return nil
		}
		marks[i] = open
		for _, p := range t.Parents {
			at, ok := places[p]
			if !ok {
				return fmt.Errorf("tasks: %q: parents: the workflow has no task %q", t.Name, p)
			}
			if err := visit(at); err != nil {
				return err
			}
		}
		marks[i], path = done, path[:len(path)-1]
		order = append(order, i)
		return nil
	}
	for i := range d.Tasks {
		if err := visit(i); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// addSpec adds a task, whose parents are there.
func (w *workflowDef) addSpec(t *TaskSpec, nodes map[string]*node) (*node, error) {
	if err := t.refuseOfWorkflow(); err != nil {
		return nil, err
	}
	opts := t.options()
	for _, p := range t.Parents {
		opts = append(opts, WithParents(&Node[json.RawMessage]{nodes[p]}))
	}
	for _, x := range []struct {
		field  string
		spec   *ConditionSpec
		option func(Condition) TaskOption
	}{{"wait_for", t.WaitFor, WithWaitFor}, {"skip_if", t.SkipIf, WithSkipIf}, {"cancel_if", t.CancelIf, WithCancelIf}} {
		if x.spec == nil {
			continue
		}
		cond, err := x.spec.condition(t, nodes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x.field, err)
		}
		opts = append(opts, x.option(cond))
	}
	def, err := w.c.dataTask(w.name+":"+t.Name, w.taskOptions(w.cfg.task.run.wants, opts))
	if err != nil {
		return nil, err
	}
	n := &node{w: w, name: t.Name, def: def, tests: map[string]func(input, output []byte) (bool, error){}}
	def.node = n
	return n, w.addNode(n, nil)
}

func (t *TaskSpec) refuseOfWorkflow() error {
	return t.refuse("is an option of the workflow, not of one task", "sticky", "idempotency", "crons", "events", "event_filter",
		"event_filters", "metadata")
}

// hookFrom returns the on-failure task.
func (w *workflowDef) hookFrom(t *TaskSpec) (*taskDef, error) {
	if err := t.refuseOfWorkflow(); err != nil {
		return nil, err
	}
	if len(t.Parents) > 0 || t.WaitFor != nil || t.SkipIf != nil || t.CancelIf != nil {
		return nil, errors.New("parents and conditions are for the other tasks")
	}
	def, err := w.c.dataTask(w.name+":"+store.OnFailureName, w.taskOptions(nil, t.options()))
	if err == nil {
		def.hookOf = w
	}
	return def, err
}

// condition returns the condition of a task that a spec says.
func (s *ConditionSpec) condition(t *TaskSpec, nodes map[string]*node) (Condition, error) {
	set := 0
	for _, is := range []bool{len(s.AllOf) > 0, len(s.AnyOf) > 0, s.Sleep != 0, s.Event != nil, s.Parent != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return Condition{}, errors.New("want exactly one of all_of, any_of, sleep, event and parent")
	}
	var c Condition
	var err error
	switch {
	case len(s.AllOf) > 0:
		c, err = joinSpecs("all_of", s.AllOf, AllOf, t, nodes)
	case len(s.AnyOf) > 0:
		c, err = joinSpecs("any_of", s.AnyOf, AnyOf, t, nodes)
	case s.Sleep != 0:
		c = SleepFor(time.Duration(s.Sleep))
	case s.Event != nil:
		var opts []WaitOption
		if s.Event.Filter != "" {
			opts = append(opts, WithFilter(s.Event.Filter))
		}
		if s.Event.Scope != "" {
			opts = append(opts, WithScope(s.Event.Scope))
		}
		if s.Event.FromNow {
			opts = append(opts, FromNow())
		}
		if !s.Event.Since.IsZero() {
			opts = append(opts, PublishedSince(s.Event.Since))
		}
		if c = UserEvent(s.Event.Key, opts...); c.err != nil {
			c.err = fmt.Errorf("event: %w", c.err)
		}
	default:
		c, err = s.Parent.condition(t, nodes)
	}
	if s.Name != "" {
		c = Named(s.Name, c)
	}
	if err == nil {
		err = c.err
	}
	return c, err
}

func joinSpecs(field string, specs []ConditionSpec, join func(...Condition) Condition, t *TaskSpec, nodes map[string]*node,
) (Condition, error) {
	all := make([]Condition, len(specs))
	for i := range specs {
		var err error
		if all[i], err = specs[i].condition(t, nodes); err != nil {
			return Condition{}, fmt.Errorf("%s: %d: %w", field, i, err)
		}
	}
	return join(all...), nil
}

func (s *ParentSpec) condition(t *TaskSpec, nodes map[string]*node) (Condition, error) {
	if !slices.Contains(t.Parents, s.Name) {
		return Condition{}, fmt.Errorf("parent: name: %q is not one of the task's parents", s.Name)
	}
	expr := s.Output
	if expr == "" {
		expr = "true"
	}
	if _, err := store.CompileValue(expr, store.KindBool, outputVars...); err != nil {
		return Condition{}, fmt.Errorf("parent: output: %w", err)
	}
	return Condition{test: &predicate{nodes[s.Name], func(input, output []byte) (bool, error) {
		f, err := store.CompileValue(expr, store.KindBool, outputVars...)
		if err != nil {
			return false, err
		}
		v, err := f(&store.Vars{Input: input, Output: output})
		ok, _ := v.(bool)
		return ok, err
	}}}, nil
}

// sort orders the lists whose order does not count.
func (t *TaskSpec) sort() {
	slices.Sort(t.Parents)
	t.Parents = slices.Compact(t.Parents)
	for _, s := range []*ConditionSpec{t.WaitFor, t.SkipIf, t.CancelIf} {
		if s != nil {
			s.sort()
		}
	}
	t.TaskOptions.sort()
}

func (s *ConditionSpec) sort() {
	for _, list := range [][]ConditionSpec{s.AllOf, s.AnyOf} {
		for i := range list {
			list[i].sort()
		}
		sortByText(list)
	}
}

// within returns the definition of a task, which is d's own or of one of a workflow's tasks; nil: there is
// none.
func (d *taskDef) within(task string) *taskDef {
	w := d.workflow
	if d.name == task || w == nil {
		return d
	}
	if w.onFailure != nil && w.onFailure.name == task {
		return w.onFailure
	}
	for _, n := range w.nodes {
		if n.def.name == task {
			return n.def
		}
	}
	return nil
}

// checked returns a handler that fails the runs of a definition whose key, limits or conditions cannot be
// computed.
func (d *taskDef) checked(h Handler) Handler {
	if d.exprs == nil && d.node == nil {
		return h
	}
	return func(ctx context.Context, input []byte) ([]byte, error) {
		e := executionOf(ctx)
		if d.exprs != nil {
			if err := d.exprs.Check(input, e.run.Metadata); err != nil && !errors.Is(err, store.ErrNoFilters) {
				return nil, NonRetryable(errorf("stint: %w", err))
			}
		}
		out, err := h(ctx, input)
		if err != nil || d.node == nil {
			return out, err
		}
		for _, r := range d.node.evaluate(e.run.Tests, input, out) {
			if r.Error != "" {
				return nil, NonRetryable(errors.New("stint: " + r.Error))
			}
		}
		return out, nil
	}
}
