package stint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/taskorder"
	"github.com/stint-dev/stint/store"
)

// defFrom returns a task or workflow as its definition says, or an error that names a field.
func (c *Client) defFrom(d *Definition) (*taskDef, error) {
	if err := check.Name("name", d.Name); err != nil {
		return nil, err
	}
	if strings.Contains(d.Name, ":") {
		return nil, errors.New("name: no colon: it stands between a workflow's and its task's")
	}
	if len(d.InputSchema) > 0 && !json.Valid(d.InputSchema) {
		return nil, errors.New("input_schema: it is not JSON")
	}
	if d.OnFailure != nil && len(d.Tasks) == 0 {
		return nil, errors.New("on_failure: it is of a workflow, which has tasks")
	}
	build := func() (*taskDef, error) { return c.dataTask(d.Name, d.options()) }
	if len(d.Tasks) > 0 {
		build = func() (*taskDef, error) { return c.workflowFrom(d) }
	}
	def, err := build()
	if err != nil {
		return nil, err
	}
	def.setExprs()
	return def, nil
}

// dataTask returns a task without a function.
func (c *Client) dataTask(name string, opts []TaskOption) (*taskDef, error) {
	if err := check.Name("name", name); err != nil {
		return nil, err
	}
	def, err := newTaskDef[json.RawMessage, json.RawMessage](c, name, nil, opts)
	if err != nil {
		return nil, err
	}
	number := 0
	for i := range def.cfg.limitExprs {
		l := &def.cfg.limitExprs[i].Limit
		if l.Rate() {
			continue
		}
		if number++; l.Name == "" {
			if l.Name = name; number > 1 {
				l.Name = fmt.Sprintf("%s/%d", name, number)
			}
		}
	}
	return def, nil
}

// setExprs gathers the expressions of a definition's runs, and has them computed when one is made.
func (d *taskDef) setExprs() {
	x := &store.Exprs{Key: d.cfg.keyExpr, KeyTTL: d.cfg.keyTTL, Limits: d.cfg.limitExprs}
	if w := d.workflow; w != nil {
		x.Tasks = map[int][]store.LimitExpr{}
		w.each(func(place int, def *taskDef) error {
			own := def.cfg.limitExprs
			if len(own) > 0 {
				x.Tasks[place] = own
			}
			// The workflow's run itself is not executed: its tasks find out what cannot be computed of it.
			def.exprs = &store.Exprs{Limits: own}
			if def.node != nil {
				def.exprs = &store.Exprs{Key: x.Key, Limits: slices.Concat(x.Limits, own)}
			}
			return nil
		})
	}
	if x.Key != "" || len(x.Limits) > 0 || len(x.Tasks) > 0 {
		d.exprs = x
	}
	d.prepare = func(_ []byte, r *store.NewRun) error {
		if d.exprs == nil {
			return nil
		}
		key, limits := d.exprs.Apply(r)
		if errors.Is(limits, store.ErrNoFilters) {
			return limits
		}
		return key // limits that cannot be computed fail the run when it starts
	}
}

// A fieldOption is an option that a field of a definition stands for.
type fieldOption struct {
	field  string
	is     bool // the field is set
	option func() TaskOption
}

func (o *TaskOptions) fields() []fieldOption {
	return []fieldOption{
		{"queue", o.Queue != "", func() TaskOption { return WithQueue(o.Queue) }},
		{"priority", o.Priority != 0, func() TaskOption { return WithPriority(o.Priority) }},
		{"retries", o.Retries != 0, func() TaskOption { return WithRetries(o.Retries) }},
		{"backoff_factor", o.BackoffFactor != 0 || o.BackoffMax != 0,
			func() TaskOption { return WithRetryBackoff(o.BackoffFactor, time.Duration(o.BackoffMax)) }},
		{"timeout", o.Timeout != 0, func() TaskOption { return WithTimeout(time.Duration(o.Timeout)) }},
		{"schedule_timeout", o.ScheduleTimeout != 0, func() TaskOption { return WithScheduleTimeout(time.Duration(o.ScheduleTimeout)) }},
		{"slot_cost", o.SlotCost != 0, func() TaskOption { return WithSlotCost(o.SlotCost) }},
		{"affinity", len(o.Affinity) > 0, func() TaskOption { return WithAffinity(o.Affinity...) }},
		{"sticky", o.Sticky != "", func() TaskOption { return withSticky(o.Sticky) }},
		{"crons", len(o.Crons) > 0, func() TaskOption { return withCrons(o.Crons) }},
		{"events", len(o.Events) > 0, func() TaskOption { return WithEvents(o.Events...) }},
		{"event_filter", o.EventFilter != "", func() TaskOption { return WithEventFilter(o.EventFilter) }},
		{"event_filters", len(o.EventFilters) > 0, func() TaskOption { return withEventFilters(o.EventFilters) }},
		{"metadata", len(o.Metadata) > 0, func() TaskOption { return WithMetadata(o.Metadata) }},
		{"concurrency", len(o.Concurrency) > 0, func() TaskOption { return withConcurrencySpecs(o.Concurrency) }},
		{"rate_limits", len(o.RateLimits) > 0, func() TaskOption { return withRateLimitSpecs(o.RateLimits) }},
		{"idempotency", o.Idempotency != nil, func() TaskOption { return withIdempotencySpec(o.Idempotency) }},
	}
}

// funcExpr stands for the expression of what a function of the program computes.
const funcExpr = "func"

// options returns the task's options as data.
func (d *taskDef) options() TaskOptions {
	c := &d.cfg
	o := TaskOptions{
		Queue: c.run.queue, Priority: c.run.priority, Retries: c.retries, BackoffFactor: c.backoff.Factor,
		BackoffMax: Duration(c.backoff.Max), Timeout: Duration(c.timeout), ScheduleTimeout: Duration(c.scheduleTimeout),
		SlotCost: c.slotCost, Concurrency: slices.Clone(c.concurrency), RateLimits: slices.Clone(c.rateLimits),
		Events: slices.Clone(c.events), EventFilter: c.eventFilter, Metadata: maps.Clone(c.run.metadata),
		Sticky: map[Sticky]string{StickySoft: "soft", StickyHard: "hard"}[c.sticky],
	}
	for i := range o.Concurrency {
		if l := &o.Concurrency[i]; l.Name == "" {
			if l.Name = d.name; i > 0 && len(c.limitExprs) > 0 {
				l.Name = fmt.Sprintf("%s/%d", d.name, i+1)
			}
		}
	}
	if c.idempotency != nil || c.keyExpr != "" {
		o.Idempotency = &IdempotencySpec{Key: cmp.Or(c.keyExpr, funcExpr)}
		if o.Idempotency.UntilDone = c.keyTTL == UntilDone; !o.Idempotency.UntilDone {
			o.Idempotency.TTL = Duration(c.keyTTL)
		}
	}
	for _, w := range c.run.wants {
		o.Affinity = append(o.Affinity, Affinity{w.Label, w.Op, w.Value, w.Weight > 0, w.Weight})
	}
	for _, spec := range c.crons {
		o.Crons = append(o.Crons, CronSpec{spec, c.cronInputs[spec]})
	}
	return o
}

// options returns the options of a task or workflow that fields stand for. Their errors name the field.
func (o *TaskOptions) options() []TaskOption {
	var all []TaskOption
	for _, f := range o.fields() {
		if f.is {
			all = append(all, taskOption(func(c *taskConfig) error {
				if err := f.option().applyTask(c); err != nil {
					return fmt.Errorf("%s: %s", f.field, strings.TrimPrefix(err.Error(), "stint: "))
				}
				return nil
			}))
		}
	}
	return all
}

func withSticky(text string) TaskOption {
	sticky, ok := map[string]Sticky{"soft": StickySoft, "hard": StickyHard}[text]
	if !ok {
		return failing(fmt.Errorf("%q: want soft or hard", text))
	}
	return WithSticky(sticky)
}

func failing(err error) TaskOption { return taskOption(func(*taskConfig) error { return err }) }

// withCrons is WithCron with an input for each spec.
func withCrons(crons []CronSpec) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.cronInputs = map[string]json.RawMessage{}
		for i, x := range crons {
			if err := WithCron(x.Spec).applyTask(c); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
			if len(x.Input) > 0 && !json.Valid(x.Input) {
				return fmt.Errorf("%d: input: it is not JSON", i)
			}
			if _, twice := c.cronInputs[x.Spec]; twice {
				return fmt.Errorf("%d: %q is given twice", i, x.Spec)
			}
			c.cronInputs[x.Spec] = x.Input
			if len(x.Input) == 0 {
				c.cronInputs[x.Spec] = json.RawMessage("null")
			}
		}
		return nil
	})
}

func withEventFilters(filters []EventFilterSpec) TaskOption {
	return taskOption(func(*taskConfig) error {
		for i, f := range filters {
			err := check.Name("scope", f.Scope)
			if err == nil {
				_, err = store.CompileFilter(f.Expression)
			}
			if err == nil && len(f.Payload) > 0 && !json.Valid(f.Payload) {
				err = errors.New("payload: it is not JSON")
			}
			if err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
		return check.Count("filters", len(filters), check.MaxNames)
	})
}

// checkExpr compiles an expression over a run.
func checkExpr(field, expr string, want store.Kind) error {
	if _, err := store.CompileValue(expr, want, store.RunVars...); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	return nil
}

// withIdempotencySpec is WithIdempotency with an expression.
func withIdempotencySpec(s *IdempotencySpec) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if s.Key == "" {
			return errors.New("key: empty: want an expression")
		}
		if (s.TTL != 0) == s.UntilDone {
			return errors.New("ttl: want either ttl or until_done")
		}
		if c.keyTTL = time.Duration(s.TTL); s.UntilDone {
			c.keyTTL = UntilDone
		} else if s.TTL < 0 {
			return fmt.Errorf("ttl: %v: want more than 0", time.Duration(s.TTL))
		}
		c.keyExpr = s.Key
		return checkExpr("key", s.Key, store.KindString)
	})
}

// workflowFrom returns a workflow as its definition says.
func (c *Client) workflowFrom(d *Definition) (*taskDef, error) {
	if err := d.refuse("is an option of a workflow's tasks", "retries", "backoff_factor", "schedule_timeout", "slot_cost",
		"affinity"); err != nil {
		return nil, err
	}
	tasks := make([]taskorder.Task, len(d.Tasks))
	for i, t := range d.Tasks {
		tasks[i] = taskorder.Task{Name: t.Name, Parents: t.Parents}
	}
	order, err := taskorder.ParentsFirst(tasks)
	if err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
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

// outputVars names the variables of expressions over a parent's output.
var outputVars = []string{"output", "input"}

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
