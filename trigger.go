package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/program"
	"github.com/stint-dev/stint/store"
)

// WithEvents has each event with one of the keys start a run of the task or workflow, in
// the commit that publishes it, with the event's payload as its input and its metadata.
// "*" in a key stands for any text: "order.*" matches "order.paid". A key that several
// of them match starts a run for each; one that is given twice counts once.
//
// What a program defines holds for all processes on the database from when a worker of
// it starts, or it publishes, until a program that defines it otherwise does, or a worker of
// the same program starts that lacks the task, and no living worker has it. Limits
// and idempotency keys that are functions of the input hold also where the publishing
// program lacks the task: a worker that has it applies them.
func WithEvents(keys ...string) TaskOption {
	return taskOption(func(c *taskConfig) error {
		for _, key := range keys {
			if err := check.Name("event key", key); err != nil {
				return fmt.Errorf("WithEvents: %w", err)
			}
		}
		if err := check.Count("event keys", len(c.events)+len(keys), check.MaxNames); err != nil {
			return fmt.Errorf("WithEvents: %w", err)
		}
		for _, key := range keys {
			if !slices.Contains(c.events, key) {
				c.events = append(c.events, key)
			}
		}
		return nil
	})
}

// WithEventFilter has only events start runs of which a CEL expression is true. See WithFilter.
func WithEventFilter(expr string) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if _, err := store.CompileFilter(expr); err != nil {
			return fmt.Errorf("WithEventFilter: %w", err)
		}
		c.eventFilter = expr
		return nil
	})
}

// onEventSuffix makes the name of the task that starts runs of a task for events of
// programs that lack it.
const onEventSuffix = ":on-event"

// dependsOnInput reports whether limits or a key are functions of the input.
func (d *taskDef) dependsOnInput() bool {
	if d.cfg.idempotency != nil || len(d.cfg.limits) > 0 {
		return true
	}
	return d.workflow != nil && slices.ContainsFunc(d.workflow.nodes, func(n *node) bool { return len(n.def.cfg.limits) > 0 })
}

// prepareRun gives a run what functions of its input say.
func prepareRun[In any](c *Client, d *taskDef, payload []byte, r *store.NewRun) error {
	return c.guardInput(d, func() error { return decodeAndPrepare[In](c, d, payload, r) })
}

func decodeAndPrepare[In any](c *Client, d *taskDef, payload []byte, r *store.NewRun) error {
	var in In
	if err := c.unmarshal(payload, &in); err != nil {
		return NonRetryable(errorf("stint: the event's payload is not of type %T: %w", in, err))
	}
	if err := d.setKey(r, in); err != nil {
		return NonRetryable(err)
	}
	if err := d.setLimits(r, in); err != nil {
		return NonRetryable(err)
	}
	return nil
}

// newOnEventTask is the task that starts runs of d for events, or nil if no event does.
func (c *Client) newOnEventTask(d *taskDef) (on *taskDef, err error) {
	if len(d.cfg.events) == 0 {
		return nil, nil
	}
	on = &taskDef{name: d.name + onEventSuffix}
	on.cfg.run = d.cfg.run
	on.handler, err = c.withMiddleware(func(ctx context.Context, payload []byte) ([]byte, error) {
		t, err := d.template(c, nil)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		r := t.Run
		e := executionOf(ctx)
		r.Input, r.Metadata, r.Parent, r.Detached = payload, e.run.Metadata, e.run.ID, true
		if err := d.prepare(payload, &r); err != nil {
			return nil, err
		}
		if r.Key == "" { // should this be tried again, it has started its run
			r.Key, r.KeyTTL = "event:"+e.run.ID.String(), store.UntilDone
		}
		_, err = c.store.Enqueue(ctx, now, []store.NewRun{r})
		return []byte("null"), err
	})
	return on, err
}

// template is a run of the task as a cron or a trigger makes it.
func (d *taskDef) template(c *Client, opts []RunOption) (t store.Template, err error) {
	rc := d.cfg.run
	for _, o := range opts {
		if err := o.applyRun(&rc); err != nil {
			return t, err
		}
	}
	t.Run, err = d.newRun(c, &rc, nil, time.Time{})
	return t, err
}

// declaration is what d's definition says of how its runs begin.
func (d *taskDef) declaration(c *Client) (store.Declaration, error) {
	dec := store.Declaration{Task: d.name, Program: program.Name()}
	if len(d.cfg.crons)+len(d.cfg.events) == 0 {
		return dec, nil
	}
	t, err := d.template(c, nil)
	if err != nil {
		return dec, err
	}
	dec.Graph = t.Run.Graph
	if d.dependsOnInput() {
		t.Via = d.name + onEventSuffix
	}
	for _, key := range d.cfg.events {
		dec.Triggers = append(dec.Triggers, store.Trigger{Key: key, Filter: d.cfg.eventFilter, Template: t})
	}
	if len(d.cfg.crons) == 0 {
		return dec, nil
	}
	in := d.cfg.cronInput
	if in == nil {
		in = d.zero
	}
	input, err := c.encode(in)
	if err != nil {
		return dec, fmt.Errorf("input of WithCron: %w", err)
	}
	for _, spec := range d.cfg.crons {
		cron, err := d.cronOf(c, d.cronName(spec), spec, cronConfig{catchUp: d.cfg.catchUp}, input, in)
		if err != nil {
			return dec, fmt.Errorf("cron %q: %w", spec, err)
		}
		dec.Crons = append(dec.Crons, cron)
	}
	return dec, nil
}

// declare stores how the runs of tasks begin that were defined since the last time.
// Workflows are left out unless all is true, for their tasks are added one by one.
func (c *Client) declare(ctx context.Context, all bool) error {
	c.mu.Lock()
	some := len(c.undeclared) > 0 && !c.cfg.readOnly
	c.mu.Unlock()
	if !some {
		return nil
	}
	c.declareMu.Lock() // who finds some undeclared waits until another has stored them
	defer c.declareMu.Unlock()
	c.mu.Lock()
	var defs []*taskDef
	for _, d := range c.undeclared {
		if w := d.workflow; w == nil || all && len(w.nodes) > 0 {
			defs = append(defs, d)
		}
	}
	c.mu.Unlock()
	if len(defs) == 0 {
		return nil
	}
	ds := make([]store.Declaration, len(defs))
	var err error
	for i, d := range defs {
		if ds[i], err = d.declaration(c); err != nil {
			break
		}
	}
	if err == nil {
		err = c.store.Declare(ctx, time.Now(), ds)
	}
	if err != nil {
		return wrapStoreErr("store the crons and triggers of tasks", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undeclared = slices.DeleteFunc(c.undeclared, func(d *taskDef) bool { return slices.Contains(defs, d) })
	return nil
}

// addUndeclared notes a definition that was registered. The caller holds mu.
func (c *Client) addUndeclared(d *taskDef) {
	if d.node != nil || d.hookOf != nil || d.handler == nil && d.workflow == nil && len(d.cfg.crons)+len(d.cfg.events) == 0 {
		return
	}
	c.undeclared = append(c.undeclared, d)
	if len(d.cfg.events) > 0 {
		c.triggerTasks = append(c.triggerTasks, d)
	}
}

// triggeredRuns are the runs that an event may start of tasks that this program has, for what
// functions of the input say of them. One that they fail for is left to fail where a
// person sees it: in a run.
func (c *Client) triggeredRuns(key string, payload []byte) map[string]store.NewRun {
	c.mu.Lock()
	triggered := c.triggerTasks
	c.mu.Unlock()
	var runs map[string]store.NewRun
	for _, d := range triggered {
		if !d.dependsOnInput() || !slices.ContainsFunc(d.cfg.events, func(k string) bool { return store.MatchKey(k, key) }) {
			continue
		}
		r := store.NewRun{Task: d.name}
		if d.prepare(payload, &r) != nil {
			continue
		}
		if runs == nil {
			runs = map[string]store.NewRun{}
		}
		runs[d.name] = r
	}
	return runs
}

// A TriggerFilter narrows which events start runs of a task, at run time. While a task
// has filters, an event must have a scope (WithScope), and starts a run for each filter
// of that scope that it passes.
type TriggerFilter struct {
	ID         int64 // given by CreateFilter
	Task       string
	Scope      string
	Expression string // CEL; see WithFilter
	Payload    any    // encoded as JSON, for FilterPayload; of ListFilters a json.RawMessage
}

// CreateFilter adds a filter, for good, and returns its number.
func (c *Client) CreateFilter(ctx context.Context, f TriggerFilter) (int64, error) {
	if err := c.writable("create filter"); err != nil {
		return 0, err
	}
	err := errors.Join(check.Name("task name", f.Task), check.Name("scope", f.Scope))
	if err == nil {
		_, err = store.CompileFilter(f.Expression)
	}
	stored := store.TaskFilter{Task: f.Task, Scope: f.Scope, Expr: f.Expression}
	if err == nil && f.Payload != nil {
		stored.Payload, err = c.encode(f.Payload)
	}
	if err != nil {
		return 0, errorf("stint: create filter: %w", err)
	}
	id, err := c.store.SetFilter(ctx, stored)
	return id, wrapStoreErr("create filter", err)
}

// DeleteFilter removes a filter, or is ErrNotFound.
func (c *Client) DeleteFilter(ctx context.Context, id int64) error {
	return wrapStoreErr(fmt.Sprintf("delete filter %d", id), c.store.DeleteFilter(ctx, id))
}

// A FilterQuery says which filters FilterPage lists.
type FilterQuery struct {
	Task   string // "": of all tasks
	Limit  int    // how many a page has [100, at most 1,000]
	Cursor string // FilterPage.Next of the page before, or a filter's ID: the page begins behind it
}

// A FilterPage is a page of filters, oldest first. A Payload in it is a json.RawMessage.
type FilterPage struct {
	Filters []TriggerFilter
	Next    string // Cursor of the next page; "" on the last
}

// ListFilters lists the filters of a task, or with "" of all tasks, oldest first, and holds them
// in memory: more than 100,000, or 256 MiB, are an error. FilterPage lists any number.
func (c *Client) ListFilters(ctx context.Context, task string) ([]TriggerFilter, error) {
	list := []TriggerFilter{}
	var whole check.Whole
	for q := (FilterQuery{Task: task, Limit: maxPage}); ; {
		page, err := c.FilterPage(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, f := range page.Filters {
			payload, _ := f.Payload.(json.RawMessage)
			if err := whole.Add(len(f.Task) + len(f.Scope) + len(f.Expression) + len(payload)); err != nil {
				return nil, fmt.Errorf("stint: list filters: %w: list them with FilterPage", err)
			}
		}
		list = append(list, page.Filters...)
		if q.Cursor = page.Next; q.Cursor == "" {
			return list, nil
		}
	}
}

// FilterPage lists filters, oldest first. A page that would have more than 8 MiB ends earlier,
// with one filter at least.
func (c *Client) FilterPage(ctx context.Context, q FilterQuery) (*FilterPage, error) {
	limit, err := pageLimit(q.Limit)
	if err == nil {
		err = check.Text("task name", q.Task)
	}
	var after int64
	if err == nil && q.Cursor != "" {
		if after, err = strconv.ParseInt(q.Cursor, 10, 64); err != nil || after < 0 {
			err = fmt.Errorf("cursor %.64q: want a filter's ID", q.Cursor)
		}
	}
	if err != nil {
		return nil, errorf("stint: list filters: %w", err)
	}
	all, more, err := c.store.Filters(ctx, q.Task, after, limit)
	if err != nil {
		return nil, wrapStoreErr("list filters", err)
	}
	page := &FilterPage{Filters: make([]TriggerFilter, len(all))}
	for i, f := range all {
		page.Filters[i] = TriggerFilter{ID: f.ID, Task: f.Task, Scope: f.Scope, Expression: f.Expr}
		if f.Payload != nil {
			page.Filters[i].Payload = jsonx.Embed(f.Payload)
		}
	}
	if more {
		page.Next = strconv.FormatInt(all[len(all)-1].ID, 10)
	}
	return page, nil
}

// FilterPayload decodes the payload of the filter by which an event started this run
// into v. It is ErrNotFound if no filter with a payload did.
func FilterPayload(ctx context.Context, v any) error {
	e := executionOf(ctx)
	if e == nil {
		return fmt.Errorf("%w: filter payload: not in a run", ErrNotFound)
	}
	text := decodeMetadata(e.run.Metadata)[store.MetaPayload]
	if text == "" {
		return fmt.Errorf("%w: filter payload", ErrNotFound)
	}
	return e.c.decode([]byte(text), v)
}
