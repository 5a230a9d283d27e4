package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	c.definitions.PutNewest(def.name, def.version, def)
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
	c.definitions.Drop(name)
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
	if def = c.definitions.At(d.Name, version); def != nil {
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
	if def := c.definitions.At(name, stored.Version); def != nil {
		c.definitions.PutNewest(def.name, def.version, def)
		return def, nil
	}
	_, def, err := c.fromStored(stored)
	if err != nil {
		c.logger().Error("stint: a definition cannot be used", "task", name, "err", err)
		return nil, err
	}
	c.definitions.PutNewest(def.name, def.version, def)
	return def, nil
}

// definitionOf returns a version of the definition of a run's task. If that version is no longer kept, it returns the newest
// one; nil if the task has no definition.
func (c *Client) definitionOf(ctx context.Context, task, version string) (*taskDef, error) {
	name, _, _ := strings.Cut(task, ":")
	def := c.definitions.At(name, version)
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
	c.definitions.Put(def.name, def.version, def)
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

// ExprVars are the values of an expression's variables. An expression that reads a variable whose
// field is nil or empty fails. Metadata is an exception: if it is nil, the variable is an empty
// map.
type ExprVars struct {
	Input    json.RawMessage   // input
	Metadata map[string]string // metadata, or additional_metadata
	Payload  json.RawMessage   // payload
	Headers  map[string]string // headers
	EventID  string            // event_id
	EventKey string            // key, or event_key
	RunID    string            // workflow_run_id
}

// CompileExpr compiles a CEL expression whose value is a string, or true or false, for programs that are
// built on stint. It may read the named variables, or with none all of ExprVars. It needs import _
// "github.com/stint-dev/stint/cel", which documents the language and its bounds.
func CompileExpr[T string | bool](expr string, vars ...string) (func(ExprVars) (T, error), error) {
	var zero T
	kind := store.KindString
	if _, truth := any(zero).(bool); truth {
		kind = store.KindBool
	}
	if len(vars) == 0 {
		vars = append(slices.Clone(store.RunVars), "payload", "headers", "event_id", "event_key", "key")
	}
	value, err := store.CompileValue(expr, kind, vars...)
	if err != nil {
		return nil, errorf("stint: %w", err)
	}
	return func(v ExprVars) (T, error) {
		var meta []byte
		if v.Metadata != nil {
			meta, _ = json.Marshal(v.Metadata) // strings always encode
		}
		got, err := value(&store.Vars{Input: v.Input, Metadata: meta, Payload: v.Payload, Headers: v.Headers, EventID: v.EventID,
			EventKey: v.EventKey, RunID: v.RunID})
		if err != nil {
			return zero, errorf("stint: %w", err)
		}
		return got.(T), nil
	}, nil
}
