package stint

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// A Condition is something that a task of a workflow waits for, is skipped or is
// canceled on: see WithWaitFor, WithSkipIf and WithCancelIf. It is weighed from when
// the task's parents have ended; of a task without parents, from the run's start.
//
// Of cancel, skip and wait the one that came true first decides; at one instant cancel
// beats skip beats wait.
type Condition struct {
	sleep    time.Duration
	event    *store.Match
	test     *predicate
	any, all []Condition
	err      error
}

// A predicate is a function of the app's on a parent's output.
type predicate struct {
	on *node
	fn func([]byte) (bool, error)
}

// SleepFor is true d after the parents have ended.
func SleepFor(d time.Duration) Condition {
	if d <= 0 {
		return Condition{err: fmt.Errorf("SleepFor(%v): want more than 0", d)}
	}
	return Condition{sleep: d}
}

// UserEvent is true once an event with the key, and what WithMatch asks, was published
// since the workflow's run was enqueued.
func UserEvent(key string, opts ...WaitOption) Condition {
	w := waitConfig{Match: store.Match{Key: key}}
	err := checkName("event key", key)
	for _, o := range opts {
		if o != nil && err == nil {
			err = o.applyWait(&w)
		}
	}
	if err == nil && w.timeout > 0 {
		err = errors.New("WithWaitTimeout is for WaitForEvent: join a SleepFor with AnyOf")
	}
	return Condition{event: &w.Match, err: err}
}

// A WaitOption narrows which events count, or for how long.
type WaitOption interface{ applyWait(*waitConfig) error }

type waitConfig struct {
	store.Match
	timeout time.Duration
}

type waitOption func(*waitConfig) error

func (o waitOption) applyWait(c *waitConfig) error { return o(c) }

// WithWaitTimeout has WaitForEvent return ErrTimeout after d.
func WithWaitTimeout(d time.Duration) WaitOption {
	return waitOption(func(c *waitConfig) error {
		c.timeout = d
		return wantPositive("WithWaitTimeout", d)
	})
}

// WithMatch counts only events whose payload is a JSON object that has value in the field,
// as JSON: numbers are compared exactly, and 10, 10.0 and 1e1 are equal; so are objects
// whose fields stand in another order. The value has at most 4 KiB as JSON. It is found by an index: what else waits costs
// nothing. A value that JSON cannot hold, such as NaN or a text that is not UTF-8, is an
// error.
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
		if err := checkName("field", field); err != nil {
			return err
		}
		return checkSize(fmt.Sprintf("WithMatch(%q): a value", field), len(m.Value), maxMatch)
	})
}

// WithFilter has only events count of which a CEL expression is true: over input, the
// payload; metadata; and key. It needs import _ "github.com/stint-dev/stint/cel", which
// says more. An event of which it cannot be computed does not count. WithMatch, which
// may stand beside it, spares its evaluation.
func WithFilter(expr string) WaitOption {
	return waitOption(func(m *waitConfig) error {
		m.Filter = expr
		if _, err := store.CompileFilter(expr); err != nil {
			return fmt.Errorf("WithFilter: %w", err)
		}
		return nil
	})
}

// ParentOutput is true if f is, of the output of n, which must be a parent of the task.
// It is false if that was skipped. f is called once, by the worker that finished the
// parent; if it panics, the task is blocked, with the panic as the reason.
func ParentOutput[T any](n *Node[T], f func(T) bool) Condition {
	if n == nil || f == nil {
		return Condition{err: errors.New("ParentOutput: want a task and a function")}
	}
	return Condition{test: &predicate{n.n, func(output []byte) (ok bool, err error) {
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

// AnyOf is true when one of the conditions is. They may be AllOf and AnyOf again.
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

// nodeOption is an option that only AddTask takes.
func nodeOption(f func(*taskConfig) error) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.nodeOnly = true
		return f(c)
	})
}

// WithParents has a task of a workflow start after others of it. It is for AddTask.
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

// WithWaitFor has a task of a workflow start only once the condition is true.
func WithWaitFor(cond Condition) TaskOption {
	return conditionOption("WithWaitFor", cond, func(c *taskConfig) **Condition { return &c.waitFor })
}

// WithSkipIf skips a task of a workflow if the condition is true by the time that the
// task would start. Its children start all the same; its output is ErrSkipped.
func WithSkipIf(cond Condition) TaskOption {
	return conditionOption("WithSkipIf", cond, func(c *taskConfig) **Condition { return &c.skipIf })
}

// WithCancelIf cancels a task of a workflow, and its descendants with it, if the
// condition is true by the time that the task would start.
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

// buildConditions puts the conditions of a task into its graph's form, and the predicates
// to the parents whose outputs they are on.
func (n *node) buildConditions() (err error) {
	for _, c := range []struct {
		kind string
		from *Condition
		to   **store.Condition
	}{{"cancel", n.def.cfg.cancelIf, &n.graph.CancelIf}, {"skip", n.def.cfg.skipIf, &n.graph.SkipIf}, {"wait", n.def.cfg.waitFor, &n.graph.WaitFor}} {
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

func (n *node) buildCondition(c *Condition, kind string, count *int) (s store.Condition, err error) {
	list := func(cs []Condition) (all []store.Condition, err error) {
		for i := range cs {
			one, err := n.buildCondition(&cs[i], kind, count)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		return all, nil
	}
	switch {
	case c.any != nil:
		s.Any, err = list(c.any)
	case c.all != nil:
		s.All, err = list(c.all)
	case c.event != nil:
		s.Event = c.event
	case c.test != nil:
		p := c.test.on
		if p.w != n.w || !slices.Contains(n.graph.Parents, p.index) {
			return s, fmt.Errorf("ParentOutput: task %q is not one of its parents", p.name)
		}
		*count++
		name := fmt.Sprintf("%s/%s/%d", n.name, kind, *count)
		s.Test = &store.TestRef{Parent: p.index, Test: len(p.graph.Tests)}
		p.graph.Tests = append(p.graph.Tests, name)
		p.tests[name] = c.test.fn
	case c.sleep > 0:
		s.Sleep = c.sleep
	default:
		return s, errors.New("an empty condition: make one with SleepFor, UserEvent, ParentOutput, AnyOf or AllOf")
	}
	return s, err
}

// evaluate has the predicates of the run's graph judge an output.
func (n *node) evaluate(names []string, output []byte) []store.TestResult {
	results := make([]store.TestResult, len(names))
	for i, name := range names {
		fn := n.tests[name]
		if fn == nil {
			results[i].Error = fmt.Sprintf("condition %s on the output of task %q is not in the code any more", name, n.name)
			continue
		}
		ok, err := fn(output)
		results[i].OK = ok
		if err != nil {
			results[i].Error = fmt.Sprintf("condition %s on the output of task %q: %s", name, n.name, errorText(err))
		}
	}
	return results
}
