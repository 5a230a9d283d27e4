package stint

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

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
