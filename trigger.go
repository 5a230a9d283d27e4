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

// WithEvents starts a run of the task or workflow for each event with one of the keys, in the
// commit that publishes it. The event's payload is the run's input, and its metadata the
// run's. A "*" in a key stands for any text: "order.*" matches "order.paid". An event starts a
// run for each key it matches; a key given twice counts once.
//
// The definition applies to all processes on the database from when a worker of the program
// starts, or the program publishes, until a program defines the task otherwise, or a worker of
// the same program starts without the task while no living worker has it. Limits and
// idempotency keys that are functions of the input also apply if the publishing program lacks
// the task: a worker that has it applies them.
func WithEvents(keys ...string) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if len(keys) == 0 {
			return errors.New("WithEvents: no event key is named")
		}
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

// WithEventFilter starts runs only for events for which a CEL expression is true: over the
// variables of WithFilter and event_id.
func WithEventFilter(expr string) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if _, err := store.CompileFilter(expr, store.TriggerVars...); err != nil {
			return fmt.Errorf("WithEventFilter: %w", err)
		}
		c.eventFilter = expr
		return nil
	})
}

// onEventSuffix ends the name of the task that starts a task's runs for events of programs
// that lack it.
const onEventSuffix = ":on-event"

// dependsOnInput reports whether limits or a key are functions of the input.
func (d *taskDef) dependsOnInput() bool {
	if d.cfg.idempotency != nil || len(d.cfg.limits) > 0 {
		return true
	}
	return d.workflow != nil && slices.ContainsFunc(d.workflow.nodes, func(n *node) bool { return len(n.def.cfg.limits) > 0 })
}

// prepareRun sets the key and limits of a run that are functions of its input.
func prepareRun[In any](c *Client, d *taskDef, payload []byte, r *store.NewRun) error {
	return c.guardInput(d, func() error { return decodeAndPrepare[In](c, d, payload, r) })
}

func decodeAndPrepare[In any](c *Client, d *taskDef, payload []byte, r *store.NewRun) error {
	var in In
	if err := c.unmarshal(payload, &in); err != nil {
		return NonRetryable(errorf("stint: the input is not of type %T: %w", in, err))
	}
	if err := d.setKey(r, in); err != nil {
		return NonRetryable(err)
	}
	if err := d.setLimits(r, in); err != nil {
		return NonRetryable(err)
	}
	return nil
}

// newOnEventTask returns the task that starts runs of d for events, or nil if no event does.
func (c *Client) newOnEventTask(d *taskDef) (on *taskDef, err error) {
	if len(d.cfg.events) == 0 {
		return nil, nil
	}
	on = &taskDef{name: d.name + onEventSuffix}
	on.cfg.run = d.cfg.run
	on.cfg.run.wants = nil
	on.handler, err = c.withMiddleware(func(ctx context.Context, payload []byte) ([]byte, error) {
		t, err := d.template(c, nil)
		if err != nil {
			return nil, err
		}
		now := c.now()
		r := t.Run
		e := executionOf(ctx)
		r.Input, r.Metadata, r.Parent, r.Detached = payload, e.run.Metadata, e.run.ID, true
		r.Priority = e.run.Priority // that of the event, if it has one
		if err := d.prepare(payload, &r); err != nil {
			return nil, err
		}
		if r.Key == "" { // a retry of this must not start another
			r.Key, r.KeyTTL = "event:"+e.run.ID.String(), store.UntilDone
		}
		_, err = c.store.Enqueue(ctx, now, []store.NewRun{r})
		return []byte("null"), err
	})
	return on, err
}

// template returns a run of the task as a cron or trigger creates it.
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

// declaration returns the crons and triggers of d's definition.
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
	t.Exprs, t.Version = d.exprs, d.version
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
		if own := d.cfg.cronInputs[spec]; own != nil {
			input = own
		}
		cron, err := d.cronOf(c, d.cronName(spec), spec, cronConfig{catchUp: d.cfg.catchUp}, input, in)
		if err != nil {
			return dec, fmt.Errorf("cron %q: %w", spec, err)
		}
		dec.Crons = append(dec.Crons, cron)
	}
	return dec, nil
}

// declare stores the crons and triggers of tasks that were defined since the last call.
// Workflows are left out unless all is true: their tasks are added one by one.
func (c *Client) declare(ctx context.Context, all bool) error {
	c.mu.Lock()
	some := len(c.undeclared) > 0 && !c.cfg.readOnly
	c.mu.Unlock()
	if !some {
		return nil
	}
	c.declareMu.Lock() // whoever finds some waits until they are stored
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
		err = c.store.Declare(ctx, c.now(), ds)
	}
	if err != nil {
		return wrapStoreErr("store the crons and triggers of tasks", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undeclared = slices.DeleteFunc(c.undeclared, func(d *taskDef) bool { return slices.Contains(defs, d) })
	return nil
}

// addUndeclared notes a registered definition. The caller holds mu.
func (c *Client) addUndeclared(d *taskDef) {
	if d.node != nil || d.hookOf != nil || d.handler == nil && d.workflow == nil && len(d.cfg.crons)+len(d.cfg.events) == 0 {
		return
	}
	c.undeclared = append(c.undeclared, d)
	if len(d.cfg.events) > 0 {
		c.triggerTasks = append(c.triggerTasks, d)
	}
}

// triggeredRuns returns the runs that an event may start of this program's tasks, with the
// keys and limits that are functions of the input. If such a function fails, it is left to
// fail in a run, where a person sees it.
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

// A TriggerFilter narrows at run time which events start runs of a task. While a task has
// filters, an event needs a scope (WithScope), and starts a run for each filter of that scope
// that it passes.
type TriggerFilter struct {
	ID         int64 // set by CreateFilter
	Task       string
	Scope      string
	Expression string // CEL over the variables of WithFilter, event_id, and payload, which is Payload
	Payload    any    // encoded as JSON, for FilterPayload; a json.RawMessage in results
}

// CreateFilter stores a filter, which narrows the events that start runs of a task (see
// TriggerFilter), and returns its ID. It ignores f.ID. The error says that the task's name, the
// scope, the expression or the payload is invalid. The task need not be defined.
func (c *Client) CreateFilter(ctx context.Context, f TriggerFilter) (int64, error) {
	if err := c.writable("create filter"); err != nil {
		return 0, err
	}
	stored, err := c.storedFilter(f)
	if err != nil {
		return 0, errorf("stint: create filter: %w", err)
	}
	stored.ID = 0
	change := store.FilterChange{Filter: stored}
	if err := c.change(ctx, "create filter", &change); err != nil {
		return 0, err
	}
	return change.ID, nil
}

func (c *Client) storedFilter(f TriggerFilter) (stored store.TaskFilter, err error) {
	err = errors.Join(check.Name("task name", f.Task), check.Name("scope", f.Scope))
	if err == nil {
		_, err = store.CompileFilter(f.Expression)
	}
	stored = store.TaskFilter{ID: f.ID, Task: f.Task, Scope: f.Scope, Expr: f.Expression}
	if err == nil && f.Payload != nil {
		stored.Payload, err = c.encode(f.Payload)
	}
	return stored, err
}

// UpdateFilter replaces the filter that has f.ID, or returns ErrNotFound.
func (c *Client) UpdateFilter(ctx context.Context, f TriggerFilter) error {
	if err := c.writable("update filter"); err != nil {
		return err
	}
	if f.ID <= 0 {
		return fmt.Errorf("stint: update filter: %w: ID %d: want that of CreateFilter", ErrNotFound, f.ID)
	}
	stored, err := c.storedFilter(f)
	if err != nil {
		return errorf("stint: update filter %d: %w", f.ID, err)
	}
	return c.change(ctx, fmt.Sprintf("update filter %d", f.ID), &store.FilterChange{Filter: stored})
}

// DeleteFilter deletes the filter with that ID, or returns ErrNotFound.
func (c *Client) DeleteFilter(ctx context.Context, id int64) error {
	return c.change(ctx, fmt.Sprintf("delete filter %d", id), &store.FilterChange{Filter: store.TaskFilter{ID: id}})
}

// A FilterQuery says which filters FilterPage returns.
type FilterQuery struct {
	Task   string // "": all tasks
	Limit  int    // size of the page; default 100, at most 1,000
	Cursor string // FilterPage.Next of the previous page, or a filter's ID: the page begins after it
}

// A FilterPage is a page of filters, oldest first. Each Payload is a json.RawMessage.
type FilterPage struct {
	Filters []TriggerFilter
	Next    string // Cursor of the next page; "" on the last
}

// ListFilters returns the filters of a task, or with "" of all tasks, oldest first. It returns
// an error if there are more than 100,000 or they exceed 256 MiB; use FilterPage for those.
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

// FilterPage returns a page of filters, oldest first. A page ends early, but has at least one
// filter, when it reaches 8 MiB.
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
	list := store.FilterList{Task: q.Task, After: after, Limit: limit}
	if err := c.store.Read(ctx, &list); err != nil {
		return nil, wrapStoreErr("list filters", err)
	}
	page := &FilterPage{Filters: make([]TriggerFilter, len(list.Filters))}
	for i, f := range list.Filters {
		page.Filters[i] = TriggerFilter{ID: f.ID, Task: f.Task, Scope: f.Scope, Expression: f.Expr}
		if f.Payload != nil {
			page.Filters[i].Payload = jsonx.Embed(f.Payload)
		}
	}
	if list.More {
		page.Next = strconv.FormatInt(list.Filters[len(list.Filters)-1].ID, 10)
	}
	return page, nil
}

// FilterPayload decodes into v the payload of the filter by which an event started this run.
// It returns ErrNotFound outside of a run, and if no event started the run through a filter with a payload.
func FilterPayload(ctx context.Context, v any) error {
	e := executionOf(ctx)
	if e == nil {
		return fmt.Errorf("%w: filter payload: not in a run", ErrNotFound)
	}
	text := jsonx.Texts(e.run.Metadata)[store.MetaPayload]
	if text == "" {
		return fmt.Errorf("%w: filter payload", ErrNotFound)
	}
	return e.c.decode([]byte(text), v)
}

func (f *EventFilter) store() (s store.EventFilter, err error) {
	s = store.EventFilter{Keys: f.Keys, Metadata: f.Metadata, Since: f.Since, Until: f.Until}
	if f.Key != "" && (f.Keys == nil || slices.Contains(f.Keys, f.Key)) {
		s.Keys = []string{f.Key}
	} else if f.Key != "" {
		s.Keys = []string{}
	}
	for _, err := range []error{check.Text("event key", f.Key), check.Names("event key", f.Keys),
		check.Count("IDs", len(f.IDs), check.MaxIDs), check.Count("pairs of metadata", len(f.Metadata), check.MaxPairs),
		check.Metadata(f.Metadata), wantTime("Since", f.Since),
		wantTime("Until", f.Until)} {
		if err != nil {
			return s, err
		}
	}
	s.IDs, err = parseIDs(f.IDs)
	return s, err
}

// parseIDs returns IDs; nil for nil.
func parseIDs(ids []string) (all []store.ID, err error) {
	if ids != nil {
		all = make([]store.ID, len(ids))
	}
	for i, id := range ids {
		if all[i], err = parseID(id); err != nil {
			return nil, err
		}
	}
	return all, nil
}
