package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// A Definition is a task, or a workflow if it has Tasks, as data. It says what the options of
// NewTask, NewWorkflow and AddTask say, with CEL expressions (package cel) where those have
// functions. What it does is up to workers with WithHandler.
type Definition struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// TaskOptions are those of the task, or of the workflow's run: then Retries, BackoffFactor,
	// BackoffMax, ScheduleTimeout, SlotCost and Affinity are an error, for they are options of its
	// tasks.
	TaskOptions
	// Tasks are those of a workflow, in any order.
	Tasks []TaskSpec `json:"tasks,omitempty"`
	// OnFailure, of a workflow, runs once as soon as a task of a run has failed for good, as
	// Workflow.OnFailure says. Its runs are of the task "workflow:on-failure", whatever its Name.
	OnFailure *TaskSpec `json:"on_failure,omitempty"`
	// InputSchema, a JSON schema, describes the input to people and programs. It is not enforced.
	InputSchema json.RawMessage `json:"input_schema,omitempty"`
}

// TaskOptions are the options of a task as data. Each has the meaning and the default of the
// option of its name, such as WithRetries.
type TaskOptions struct {
	Queue           string            `json:"queue,omitempty"`
	Priority        int               `json:"priority,omitempty"` // 0 means PriorityDefault
	Retries         int               `json:"retries,omitempty"`
	BackoffFactor   float64           `json:"backoff_factor,omitempty"` // of WithRetryBackoff
	BackoffMax      Duration          `json:"backoff_max,omitempty"`
	Timeout         Duration          `json:"timeout,omitempty"`
	ScheduleTimeout Duration          `json:"schedule_timeout,omitempty"`
	SlotCost        int               `json:"slot_cost,omitempty"`
	Concurrency     []ConcurrencySpec `json:"concurrency,omitempty"`
	RateLimits      []RateLimitSpec   `json:"rate_limits,omitempty"`
	Idempotency     *IdempotencySpec  `json:"idempotency,omitempty"`
	Affinity        []Affinity        `json:"affinity,omitempty"`
	Sticky          string            `json:"sticky,omitempty"` // "soft" or "hard"
	Crons           []CronSpec        `json:"crons,omitempty"`
	Events          []string          `json:"events,omitempty"`
	EventFilter     string            `json:"event_filter,omitempty"`  // of WithEventFilter
	EventFilters    []EventFilterSpec `json:"event_filters,omitempty"` // see TriggerFilter
	Metadata        map[string]string `json:"metadata,omitempty"`
}

// A Duration is a time.Duration that is text as JSON, such as "1m30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// A ConcurrencySpec is a Concurrency as data.
type ConcurrencySpec struct {
	// Name identifies the limit, as in Concurrency. The default is the name of the task; of the
	// second and later ones, with their number ("task/2").
	Name string `json:"name,omitempty"`
	// Key is an expression for the key, a string: 'all' makes one key for all runs.
	Key                 string   `json:"key"`
	Max                 int      `json:"max"`
	Strategy            Strategy `json:"strategy,omitempty"` // as JSON text: see Strategy.String
	ReleaseWhileWaiting bool     `json:"release_while_waiting,omitempty"`
}

// A RateLimitSpec takes units from a rate limit at each start of an attempt, as WithRateLimit and
// RateLimit do. It has Key or KeyExpr, and may have Limit or LimitExpr with a Window: then the
// limit is created by its first use, and admits that many units each window and at most as many at
// once. Without them the limit is the one that SetRateLimit set.
type RateLimitSpec struct {
	Key       string   `json:"key,omitempty"`
	KeyExpr   string   `json:"key_expr,omitempty"`   // a string
	Units     int      `json:"units,omitempty"`      // 0 means 1
	UnitsExpr string   `json:"units_expr,omitempty"` // a number, whose fraction is dropped
	Limit     int      `json:"limit,omitempty"`
	LimitExpr string   `json:"limit_expr,omitempty"` // a number, likewise
	Window    Duration `json:"window,omitempty"`
}

// An IdempotencySpec is a WithIdempotency as data.
type IdempotencySpec struct {
	Key       string   `json:"key"` // an expression for a string; if it is empty, the run has no key
	TTL       Duration `json:"ttl,omitempty"`
	UntilDone bool     `json:"until_done,omitempty"` // in place of TTL
}

// A CronSpec is a spec of WithCron, with the input of its runs.
type CronSpec struct {
	Spec  string          `json:"spec"`
	Input json.RawMessage `json:"input,omitempty"` // empty means null
}

// An EventFilterSpec is a TriggerFilter that a definition declares.
type EventFilterSpec struct {
	Scope      string          `json:"scope"`
	Expression string          `json:"expression"`
	Payload    json.RawMessage `json:"payload,omitempty"`
}

// A DefinitionInfo is the newest version of a definition.
type DefinitionInfo struct {
	Definition
	Version string
	At      time.Time // when it became the newest
	Error   string    // why it is not in force, such as that the database was changed by other means
	// Task describes it as ListTasks describes a task that code defines. It is zero if there is an Error.
	Task TaskDefinition
}

// Define makes d the newest version of the definition of its name, and returns the version, a
// digest of its content. When Define returns, the definition is stored and in force in all
// processes on the database: runs that EnqueueJSON enqueues take it, and its crons and events
// start runs whether or not a worker has the task. Runs keep the version that they were made by.
// The crons, events and event filters of the former version end; crons and filters that other
// calls made stay.
//
// Defining the same content again returns the same version and writes nothing. The order of lists
// does not count. The newest 100 versions are kept, for runs that were made by them.
//
// An expression has the variables input and metadata (or additional_metadata) of the run, and
// workflow_run_id, a text that no other run has. If the expression of a limit cannot be computed
// for a run, such as because a field is missing, that run fails when it starts, and its error
// names the expression. If the expression of an idempotency key cannot be computed, EnqueueJSON
// returns the error.
//
// Errors name the field: a parent is unknown, parents are a cycle, an expression does not compile,
// package cel is not imported, a cron spec is invalid, or an option is. A name that this client's
// code defines with NewTask or NewWorkflow is taken.
func (c *Client) Define(ctx context.Context, d Definition) (version string, err error) {
	if err := c.writable("define"); err != nil {
		return "", err
	}
	if version, err = c.define(ctx, &d); err != nil {
		return "", wrapStoreErr(fmt.Sprintf("define %q", d.Name), err)
	}
	return version, nil
}

func (c *Client) define(ctx context.Context, d *Definition) (version string, err error) {
	def, err := c.defFrom(d)
	if err != nil {
		return "", err
	}
	body, version, err := d.encode()
	if err != nil {
		return "", err
	}
	if len(body) > c.cfg.maxPayload {
		return "", fmt.Errorf("it has %d bytes as JSON: want at most %d (WithMaxPayload)", len(body), c.cfg.maxPayload)
	}
	def.version = version
	dec, err := def.declaration(c)
	if err != nil {
		return "", err
	}
	dec.Program = "" // it outlives every program
	dec.Definition = &store.Definition{Task: d.Name, Version: version, Body: body}
	for _, f := range d.EventFilters {
		dec.Filters = append(dec.Filters, store.TaskFilter{Task: d.Name, Scope: f.Scope, Expr: f.Expression, Payload: f.Payload})
	}
	if err := c.claimName(d.Name); err != nil {
		return "", err
	}
	newest, err := c.storedDefinition(ctx, d.Name, "")
	is := newest != nil && newest.Version == version
	if is {
		if _, _, changed := c.fromStored(newest); changed != nil { // by other means: it is stored anew
			is, err = false, c.store.Declare(ctx, c.now(), []store.Declaration{{Task: d.Name, Definition: &store.Definition{}}})
		}
	}
	if err == nil && !is {
		err = c.store.Declare(ctx, c.now(), []store.Declaration{dec})
	}
	if err != nil {
		return "", err
	}
	c.definitions.put(def, true)
	c.restartClaims()
	return version, nil
}

// DeleteDefinition ends the definition of that name in all processes, with its crons, events and event filters, or returns
// ErrNotFound. Runs that it made stay, and go on with the defaults of all options that apply when a run executes, such as no retries.
func (c *Client) DeleteDefinition(ctx context.Context, name string) error {
	err := c.writable("delete definition")
	if err == nil {
		err = check.Name("name", name)
	}
	if err != nil {
		return wrapStoreErr("delete definition", err)
	}
	newest, err := c.storedDefinition(ctx, name, "")
	if err == nil && newest == nil {
		err = store.ErrNotFound
	}
	if err == nil {
		err = c.store.Declare(ctx, c.now(), []store.Declaration{{Task: name, Definition: &store.Definition{}}})
	}
	if err != nil {
		return wrapStoreErr(fmt.Sprintf("delete definition %q", name), err)
	}
	c.definitions.drop(name)
	return nil
}

// Definition returns the newest version of the definition of that name, or ErrNotFound. It has an Error if the
// database was changed by other means and it cannot be used.
func (c *Client) Definition(ctx context.Context, name string) (*DefinitionInfo, error) {
	newest, err := c.storedDefinition(ctx, name, "")
	if err == nil && newest == nil {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, wrapStoreErr(fmt.Sprintf("definition of %q", text.Cut(name, 255)), err)
	}
	info := c.definitionInfo(newest)
	return &info, nil
}

// Definitions returns the newest version of each definition of the database, by name. One that was changed by other means
// and cannot be used has an Error. It returns an error if there are more than 100,000 or they exceed 256 MiB.
func (c *Client) Definitions(ctx context.Context) ([]DefinitionInfo, error) {
	infos := []DefinitionInfo{}
	var whole check.Whole
	for list := (store.DefinitionList{Limit: maxPage, More: true}); list.More; {
		if err := c.store.Read(ctx, &list); err != nil {
			return nil, wrapStoreErr("list definitions", err)
		}
		for i := range list.Definitions {
			if err := whole.Add(list.Definitions[i].Size()); err != nil {
				return nil, fmt.Errorf("stint: list definitions: %w", err)
			}
			list.After, infos = list.Definitions[i].Task, append(infos, c.definitionInfo(&list.Definitions[i]))
		}
	}
	return infos, nil
}

// storedDefinition returns a version of the definition of that name, or with "" its newest; nil: there is none.
func (c *Client) storedDefinition(ctx context.Context, name, version string) (*store.Definition, error) {
	list := store.DefinitionList{Task: name, Version: version}
	if err := c.store.Read(ctx, &list); err != nil || len(list.Definitions) == 0 {
		return nil, err
	}
	return &list.Definitions[0], nil
}

func (c *Client) definitionInfo(s *store.Definition) DefinitionInfo {
	info := DefinitionInfo{Version: s.Version, At: s.At}
	d, def, err := c.fromStored(s)
	if info.Name = s.Task; d != nil {
		info.Definition = *d
	}
	if err != nil {
		info.Error = err.Error()
		return info
	}
	info.Task = def.definition(c)
	info.Task.Input, info.Task.Example, info.Task.Options.EventFilters = d.InputSchema, nil, d.EventFilters
	return info
}

// definitions are those of the database that the client has used.
type definitions struct {
	mu     sync.Mutex
	known  map[versionOf]*taskDef
	newest map[string]*taskDef // by name, as far as the client knows
}

// A versionOf is a version of a definition.
type versionOf struct{ name, version string }

// maxKnownDefinitions bounds what is kept of older versions.
const maxKnownDefinitions = 1000

// put adds a definition; newest says that it is the newest of its name.
func (ds *definitions) put(def *taskDef, newest bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.known == nil || len(ds.known) > maxKnownDefinitions {
		ds.known = map[versionOf]*taskDef{}
	}
	ds.known[versionOf{def.name, def.version}] = def
	if newest {
		ds.newest[def.name] = def
	}
}

func (ds *definitions) drop(name string) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.newest, name)
}

// last returns the newest definition of a name that the client has met, or nil.
func (ds *definitions) last(name string) *taskDef {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.newest[name]
}

// isWorkflow reports whether the name is known to be a workflow's.
func (ds *definitions) isWorkflow(name string) bool {
	d := ds.last(name)
	return d != nil && d.workflow != nil
}

func (ds *definitions) at(v versionOf) *taskDef {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.known[v]
}

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

// fromStored returns a stored definition, and what it defines. What can be read of one that was changed
// by other means is returned with the error.
func (c *Client) fromStored(s *store.Definition) (d *Definition, def *taskDef, err error) {
	d = &Definition{}
	if err := json.Unmarshal(s.Body, d); err != nil {
		return nil, nil, fmt.Errorf("definition of %q, version %s, was changed in the database: %w", s.Task, s.Version, err)
	}
	_, version, err := d.encode()
	if err == nil && (version != s.Version || d.Name != s.Task) {
		err = errors.New("it is not what the version says")
	}
	if err != nil {
		return d, nil, fmt.Errorf("definition of %q, version %s, was changed in the database: %w: define it again", s.Task, s.Version, err)
	}
	if def = c.definitions.at(versionOf{d.Name, version}); def != nil {
		return d, def, nil
	}
	if def, err = c.defFrom(d); err != nil {
		return d, nil, fmt.Errorf("definition of %q, version %s: %w", s.Task, s.Version, err)
	}
	def.version = version
	return d, def, nil
}

// definition returns the newest definition of a name, or nil if it has none.
func (c *Client) definition(ctx context.Context, name string) (*taskDef, error) {
	stored, err := c.storedDefinition(ctx, name, "")
	if err != nil || stored == nil {
		return nil, err
	}
	if def := c.definitions.at(versionOf{name, stored.Version}); def != nil {
		c.definitions.put(def, true)
		return def, nil
	}
	_, def, err := c.fromStored(stored)
	if err != nil {
		c.logger().Error("stint: a definition cannot be used", "task", name, "err", err)
		return nil, err
	}
	c.definitions.put(def, true)
	return def, nil
}

// definitionOf returns a version of the definition of a run's task. If that version is no longer kept, it returns the newest
// one; nil if the task has no definition.
func (c *Client) definitionOf(ctx context.Context, task, version string) (*taskDef, error) {
	name, _, _ := strings.Cut(task, ":")
	v := versionOf{name, version}
	def := c.definitions.at(v)
	if def != nil {
		return def, nil
	}
	stored, err := c.storedDefinition(ctx, name, version)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return c.definition(ctx, name)
	}
	if _, def, err = c.fromStored(stored); err != nil {
		return nil, err
	}
	c.definitions.put(def, false)
	return def, nil
}

// claimName makes a name one of Define, unless code defines it on this client.
func (c *Client) claimName(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tasks[name] != nil {
		return errors.New("name: code of this client defines it, with NewTask or NewWorkflow")
	}
	c.defined[name] = true
	return nil
}

// restartClaims makes workers look for runs of what was defined just now.
func (c *Client) restartClaims() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.workers {
		w.restartClaim()
	}
}
