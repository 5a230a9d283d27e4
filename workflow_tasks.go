package stint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stint-dev/stint/internal/blocked"
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
// Of the task's conditions the one that became true first decides. At the same instant cancel
// precedes skip, and skip precedes wait.
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

// match returns what the options ask of events.
func (c *waitConfig) match() (store.Match, error) {
	if c.FromNow && c.Since != 0 {
		return c.Match, errors.New("FromNow and PublishedSince: want one of them")
	}
	if c.scope != "" {
		return c.Match.WithScope(c.scope), nil
	}
	return c.Match, nil
}

// FromNow counts only events that are published after the wait has begun: of a workflow's
// task, after its parents have ended.
func FromNow() WaitOption {
	return waitOption(func(c *waitConfig) error { c.FromNow = true; return nil })
}

// PublishedSince counts events that were published at t or later, also before the run was
// enqueued. A run receives each event once; of several it receives the first.
func PublishedSince(t time.Time) WaitOption {
	return waitOption(func(c *waitConfig) error {
		if c.Since = t.UnixMilli(); c.Since <= 0 {
			return fmt.Errorf("PublishedSince(%v): want a time after 1970", t)
		}
		return nil
	})
}

// A WaitOption narrows which events count, or how long WaitForEvent waits.
type WaitOption interface{ applyWait(*waitConfig) error }

type waitConfig struct {
	store.Match
	scope   string
	timeout time.Duration
}

type waitOption func(*waitConfig) error

func (o waitOption) applyWait(c *waitConfig) error { return o(c) }

// WithWaitTimeout makes WaitForEvent return ErrTimeout after d.
func WithWaitTimeout(d time.Duration) WaitOption {
	return waitOption(func(c *waitConfig) error {
		c.timeout = d
		return wantPositive("WithWaitTimeout", d)
	})
}

// WithMatch counts only events whose payload is a JSON object with that value in the field.
// Values are compared as JSON: numbers exactly (10, 10.0 and 1e1 are equal), objects in any
// order of their fields. The value has at most 4 KiB as JSON. Matches are found by an index,
// so other waits cost nothing. A value that JSON cannot hold, such as NaN or a string that is
// not UTF-8, is an error.
func WithMatch(field string, value any) WaitOption {
	return waitOption(func(m *waitConfig) error {
		var b []byte
		err := guarded(func() (err error) {
			b, err = json.Marshal(value)
			return err
		})
		if err != nil {
			return fmt.Errorf("WithMatch(%q): %w", field, err)
		}
		if s, ok := value.(string); ok && !utf8.ValidString(s) {
			return fmt.Errorf("WithMatch(%q): %q is not UTF-8, which JSON cannot hold", field, s)
		}
		m.Field = field
		m.Value, _ = jsonx.Canonical(b)
		if err := check.Name("field", field); err != nil {
			return err
		}
		if store.IsScoped(field) {
			return fmt.Errorf("WithMatch(%q): a field cannot begin with U+0001", field)
		}
		return check.Size(fmt.Sprintf("WithMatch(%q): a value", field), len(m.Value), check.MaxMatch)
	})
}

// WithFilter counts only events for which a CEL expression over input (the payload), metadata,
// key and scope is true. It needs import _ "github.com/stint-dev/stint/cel", which documents the
// language. An event for which the expression fails does not count. WithMatch may be given
// too, and saves evaluations.
func WithFilter(expr string) WaitOption {
	return waitOption(func(m *waitConfig) error {
		m.Filter = expr
		if _, err := store.CompileFilter(expr, store.WaitVars...); err != nil {
			return fmt.Errorf("WithFilter: %w", err)
		}
		return nil
	})
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
	return c.build(func(c *Condition, s *store.Condition) error {
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

// build converts a condition to its stored form. test does that for ParentOutput.
func (c *Condition) build(test func(*Condition, *store.Condition) error) (s store.Condition, err error) {
	list := func(cs []Condition) (all []store.Condition, err error) {
		for i := range cs {
			one, err := cs[i].build(test)
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
		s.Event = c.event
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

// A TaskInfo is a task in a workflow's run. The graph is the one stored with the run, which
// may differ from the one in the code. The functions of OnFailure and OnSuccess are the last
// tasks, "on-failure" and "on-success": StateSkipped once the run has ended without need of
// them.
type TaskInfo struct {
	Name    string
	Parents []string
	State   State  // StateBlocked while it waits for its parents
	Blocked string // what it waits for
	RunID   string // "" while it waits for its parents, or if it was not needed
	Attempt int
	Queue   string
	Output  json.RawMessage // if State is StateSucceeded
	Error   string

	Scheduled, Started, Finished time.Time
}

// taskInfos returns the tasks of a workflow's run with their states.
func taskInfos(g *store.Graph, tasks []store.WorkflowTask) []TaskInfo {
	infos := make([]TaskInfo, len(g.Tasks))
	for i := range infos {
		t := &g.Tasks[i]
		infos[i] = TaskInfo{Name: t.Name, Queue: t.Queue, State: StateBlocked}
		for _, p := range t.Parents {
			infos[i].Parents = append(infos[i].Parents, g.Tasks[p].Name)
		}
	}
	hooks := map[int]TaskInfo{}
	for _, t := range tasks[1:] { // the first is the workflow's run itself
		f := failure.Decode(t.Error)
		info := TaskInfo{
			Name: g.Name(t.Place), State: t.State, RunID: t.ID.String(), Attempt: t.Attempt, Queue: g.QueueOf(t.Place),
			Error: text.Cut(f.Message, text.Listed), Scheduled: t.Due, Started: t.Started, Finished: t.Ended,
			Blocked: blocked.Failure(g.TaskName(t.Place), t.State, t.NoHandler, f.Message),
		}
		if t.State == StateSucceeded {
			info.Output = jsonx.Embed(t.Output)
		}
		if t.Place >= len(infos) {
			hooks[t.Place] = info
			continue
		}
		info.Parents = infos[t.Place].Parents
		if info.State == StateWaiting {
			info.Blocked = blocked.Condition(g.Tasks[t.Place].WaitFor)
		}
		infos[t.Place] = info
	}
	setParentReasons(g, infos)
	return append(infos, hookInfos(g, hooks, &tasks[0])...)
}

// hookInfos returns the on-failure and on-success tasks of a workflow's run, of those that have run.
func hookInfos(g *store.Graph, ran map[int]TaskInfo, run *store.WorkflowTask) (infos []TaskInfo) {
	for place, h := range map[int]struct {
		queue *string
		waits string
	}{g.Failure(): {g.OnFailure, "waits for a task to fail"}, g.Success(): {g.OnSuccess, "waits for the run to succeed"}} {
		info, ok := ran[place]
		switch {
		case h.queue == nil && !ok:
			continue
		case !ok && run.State.Terminal():
			info = TaskInfo{Name: g.Name(place), Queue: *h.queue, State: StateSkipped, Finished: run.Ended}
		case !ok:
			info = TaskInfo{Name: g.Name(place), Queue: *h.queue, State: StateBlocked, Blocked: h.waits}
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b TaskInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos
}

// explainTasks says which worker the tasks of a workflow's run lack, those that nothing else keeps from starting.
func explainTasks(ctx context.Context, workers *blocked.Workers, g *store.Graph, infos []TaskInfo, tasks []store.WorkflowTask) error {
	byRun := map[string]int{}
	for i := range infos {
		byRun[infos[i].RunID] = i
	}
	for _, t := range tasks[1:] { // the first is the workflow's run itself
		i, ok := byRun[t.ID.String()]
		if !ok || t.State != store.Queued || infos[i].Blocked != "" {
			continue
		}
		route := store.Route{Wants: g.Task(t.Place).Wants}
		why, err := workers.Lacks(ctx, infos[i].Queue, g.TaskName(t.Place), &route)
		if err != nil {
			return err
		}
		infos[i].Blocked = why
	}
	return nil
}

// setParentReasons sets the Blocked of tasks that have no run yet: the parents they wait for.
func setParentReasons(g *store.Graph, infos []TaskInfo) {
	for i := range g.Tasks {
		if infos[i].RunID != "" {
			continue
		}
		var open []string
		for _, p := range g.Tasks[i].Parents {
			if !infos[p].State.Terminal() && len(open) <= maxListed {
				open = append(open, infos[p].Name)
			}
		}
		infos[i].Blocked = "waits for " + strings.Join(open, ", ")
	}
}
