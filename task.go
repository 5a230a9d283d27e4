package stint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/backoff"
	"github.com/stint-dev/stint/internal/batch"
	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/failure"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// A Task is a named function whose calls are stored and executed by workers. NewTask makes
// one.
type Task[In, Out any] struct {
	c   *Client
	def *taskDef
}

// taskDef is a task without its types.
type taskDef struct {
	name      string
	cfg       taskConfig
	handler   Handler // nil: another process executes it
	fn        any     // the app's function, which handler calls
	onFailure *taskDef
	onEvent   *taskDef     // starts runs for events of programs that lack the task, or nil
	workflow  *workflowDef // of the workflow itself, or nil
	node      *node        // of a workflow's task, or nil
	zero      any          // the zero input
	prepare   func(payload []byte, r *store.NewRun) error
	hookOf    *workflowDef // of an on-failure or on-success task: its workflow

	// Of a definition as data.
	version string
	exprs   *store.Exprs // of its runs, or nil
}

// isWorkflow reports whether d, which may be nil, is a workflow.
func (d *taskDef) isWorkflow() bool { return d != nil && d.workflow != nil }

type taskConfig struct {
	retries         int
	backoff         backoff.Exponential
	policy          func(attempt int, err error) time.Duration
	timeout         time.Duration
	scheduleTimeout time.Duration
	run             runConfig

	in          reflect.Type // of the input
	idempotency func(any) string
	keyTTL      time.Duration
	limits      []func(task string, in any) (store.Limit, error)
	concurrency []ConcurrencySpec // what describes limits, and those of limitExprs
	rateLimits  []RateLimitSpec   // likewise
	slotCost    int               // 0 means 1
	linger      *time.Duration    // nil: lingerFor, unless too many executions wait
	holdSlots   bool              // while it waits in memory
	batch       batchConfig
	sticky      Sticky
	crons       []string
	cronInput   any // nil: the zero value
	catchUp     CatchUp
	events      []string
	eventFilter string
	onFailure   func(context.Context, any, *TaskError) error

	// Of a definition as data.
	keyExpr    string
	limitExprs []store.LimitExpr
	cronInputs map[string]json.RawMessage // by spec

	// Of a task of a workflow.
	nodeOnly                  bool // an option was given that only AddTask takes
	parents                   []*node
	waitFor, skipIf, cancelIf *Condition
}

// NewTask defines a task. fn may be any function or method of the app. A nil fn defines a task
// that this program only enqueues and another process executes.
//
// NewTask panics if the name is empty or taken, or an option is invalid or was made for
// another input type, so that mistakes in definitions show when the program starts.
func NewTask[In, Out any](c *Client, name string, fn func(context.Context, In) (Out, error), opts ...TaskOption) *Task[In, Out] {
	if c == nil {
		panic(fmt.Sprintf("stint: NewTask(%q): nil client", name))
	}
	def, err := newTaskDef(c, name, fn, opts)
	if err == nil && def.cfg.nodeOnly {
		err = errors.New("parents and conditions are for tasks of a workflow: see AddTask")
	}
	if err == nil && def.cfg.batch.set {
		err = errors.New("WithBatchSize, WithBatchInterval and WithBatchKey are for NewBatchTask")
	}
	if err == nil && strings.Contains(name, ":") {
		err = errors.New("no colon in the name: it stands between a workflow's and its task's")
	}
	if err == nil {
		err = c.registerTask(def)
	}
	if err != nil {
		panic(fmt.Sprintf("stint: NewTask(%q): %v", name, err))
	}
	return &Task[In, Out]{c, def}
}

// newTaskDef applies options and wraps the handler.
func newTaskDef[In, Out any](c *Client, name string, fn func(context.Context, In) (Out, error), opts []TaskOption) (*taskDef, error) {
	def := &taskDef{name: name}
	cfg := taskConfig{in: reflect.TypeFor[In](), run: runConfig{priority: PriorityDefault, queue: DefaultQueue}}
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o.applyTask(&cfg); err != nil {
			return nil, err
		}
	}
	def.cfg = cfg
	def.zero = *new(In)
	def.prepare = func(payload []byte, r *store.NewRun) error { return prepareRun[In](c, def, payload, r) }
	var err error
	if fn != nil {
		def.fn = fn
		if def.handler, err = c.withMiddleware(typedHandler(c, fn)); err != nil {
			return nil, err
		}
		if def.onEvent, err = c.newOnEventTask(def); err != nil {
			return nil, err
		}
	}
	if f := cfg.onFailure; f != nil {
		def.onFailure = &taskDef{name: name + onFailureSuffix}
		def.onFailure.cfg.run = cfg.run
		def.onFailure.cfg.run.wants = nil
		if def.onFailure.handler, err = c.withMiddleware(failureHandler[In](c, f)); err != nil {
			return nil, err
		}
	}
	return def, nil
}

// onFailureSuffix ends the name of the task that runs after a task failed.
const onFailureSuffix = ":on-failure"

func (c *Client) registerTask(def *taskDef) error {
	if err := check.Name("task name", def.name); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tasks[def.name] != nil {
		return errors.New("a task of that name is defined already on this client")
	}
	if c.defined[def.name] {
		return errors.New("Define has defined the name on this client")
	}
	c.tasks[def.name] = def
	if def.onFailure != nil {
		c.tasks[def.onFailure.name] = def.onFailure
	}
	if def.onEvent != nil {
		c.tasks[def.onEvent.name] = def.onEvent
	}
	c.addUndeclared(def)
	for w := range c.workers {
		w.restartClaim() // it can execute the new task too
	}
	return nil
}

// withMiddleware wraps the client's middleware around a handler.
func (c *Client) withMiddleware(h Handler) (Handler, error) {
	for i := len(c.cfg.middleware) - 1; i >= 0; i-- {
		inner := h
		if err := guarded(func() error { h = c.cfg.middleware[i](inner); return nil }); err != nil {
			return nil, fmt.Errorf("middleware %d of WithMiddleware: %w", i+1, err)
		}
		if h == nil {
			return nil, fmt.Errorf("middleware %d of WithMiddleware returned a nil handler", i+1)
		}
	}
	if len(c.cfg.middleware) == 0 {
		return h, nil
	}
	return func(ctx context.Context, input []byte) ([]byte, error) {
		out, err := h(ctx, input)
		if err != nil {
			return nil, err
		}
		return c.checkOutput("a middleware", out)
	}, nil
}

// checkOutput returns the output of a middleware, or of WithHandler's function, as it is stored: null if it
// is empty.
func (c *Client) checkOutput(of string, out []byte) ([]byte, error) {
	switch {
	case len(out) == 0:
		return []byte("null"), nil
	case len(out) > c.cfg.maxPayload:
		return nil, NonRetryable(fmt.Errorf("stint: the output that %s returned has %d bytes: want at most %d (WithMaxPayload)",
			of, len(out), c.cfg.maxPayload))
	case !json.Valid(out):
		return nil, NonRetryable(fmt.Errorf("stint: the output that %s returned is not JSON", of))
	}
	return out, nil
}

// typedHandler returns a handler that decodes the input, calls fn and encodes its output.
func typedHandler[In, Out any](c *Client, fn func(context.Context, In) (Out, error)) Handler {
	return func(ctx context.Context, input []byte) ([]byte, error) {
		var in In
		if err := c.unmarshal(input, &in); err != nil {
			return nil, NonRetryable(errorf("stint: stored input is not of type %T: %w", in, err))
		}
		out, err := fn(ctx, in)
		if err != nil {
			return nil, err
		}
		b, err := marshalAs(c, out)
		if err != nil {
			return nil, NonRetryable(errorf("stint: output of type %T: %w", out, err))
		}
		return b, nil
	}
}

// A failedRun is the input of an on-failure task.
type failedRun struct {
	RunID   string          `json:"run_id"`
	Task    string          `json:"task"`
	Attempt int             `json:"attempt"`
	Input   json.RawMessage `json:"input"`
	Failure json.RawMessage `json:"failure"`
}

func failureHandler[In any](c *Client, fn func(context.Context, any, *TaskError) error) Handler {
	return func(ctx context.Context, input []byte) ([]byte, error) {
		var f failedRun
		if err := json.Unmarshal(input, &f); err != nil {
			return nil, NonRetryable(errorf("stint: stored failure: %w", err))
		}
		var in In
		if err := c.unmarshal(f.Input, &in); err != nil {
			return nil, NonRetryable(errorf("stint: stored input is not of type %T: %w", in, err))
		}
		return []byte("null"), fn(ctx, in, &TaskError{Task: f.Task, RunID: f.RunID, Attempt: f.Attempt,
			Err: storedError(failure.Decode(f.Failure))})
	}
}

func (e *execution) failureRun(f *taskDef, failure []byte) store.NewRun {
	failed := failedRun{e.run.ID.String(), e.run.Task, e.run.Attempt, jsonx.Embed(e.run.Input), failure}
	input, _ := json.Marshal(failed) // all of it is JSON
	rc := runConfig{queue: e.run.Queue, priority: int(e.run.Priority), detached: true}
	r, _ := f.newRun(e.c, &rc, nil, time.Time{}) // only a workflow can be invalid
	r.Input, r.Metadata = input, e.run.Metadata
	return r
}

// Name returns the task's name.
func (t *Task[In, Out]) Name() string { return t.def.name }

// inputAs returns an input as its type. A nil interface value has no type of its own.
func inputAs[In any](in any) In {
	typed, _ := in.(In)
	return typed
}

// wantInput returns an error if an option was made for another input type than the task's.
func wantInput[In any](option string, c *taskConfig) error {
	if in := reflect.TypeFor[In](); in != c.in {
		return fmt.Errorf("stint: %s is for tasks with input %v, this one has %v", option, in, c.in)
	}
	return nil
}

// A TaskDefinition describes a task or workflow that this client's program defines.
type TaskDefinition struct {
	Name        string
	Workflow    bool
	Handler     bool // the program executes it, and does not only enqueue it
	Queue       string
	Priority    int
	Retries     int
	Timeout     time.Duration // 0: none
	Crons       []string
	Events      []string
	EventFilter string
	SlotCost    int
	BatchSize   int             // 0: not a batch task
	Input       json.RawMessage // JSON schema of the input
	Example     json.RawMessage // the zero input
	Tasks       []TaskInfo      // of a workflow: name, parents and queue of each task

	BackoffFactor   float64       // of WithRetryBackoff; 0: retries follow at once
	BackoffMax      time.Duration // the longest wait for a retry
	RetryPolicy     bool          // WithRetryPolicy decides the waits instead
	ScheduleTimeout time.Duration // 0: none
	Limits          int           // concurrency and rate limits that a run must pass
	BatchInterval   time.Duration // of a batch task
	OnFailure       bool          // WithOnFailure is given

	// Options are all of the options as data, also those of a task that code defines. Where a function of the code
	// computes a key or a limit, the text "func" stands for its expression. A Concurrency without a Key function has an
	// empty Key.
	Options TaskOptions
	// NodeOptions are the options of each task of a workflow, by the task's name.
	NodeOptions map[string]TaskOptions
}

// ListTasks returns the tasks and workflows that code defined on this client, by name. A
// workflow's tasks are in its Tasks. For those that are data see Definitions.
func (c *Client) ListTasks() []TaskDefinition {
	c.mu.Lock()
	defs := slices.Collect(maps.Values(c.tasks))
	c.mu.Unlock()
	var all []TaskDefinition
	for _, d := range defs {
		if d.node == nil && d.hookOf == nil && !strings.Contains(d.name, ":") {
			all = append(all, d.definition(c))
		}
	}
	slices.SortFunc(all, func(a, b TaskDefinition) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (d *taskDef) definition(c *Client) TaskDefinition {
	t := TaskDefinition{
		Name: d.name, Workflow: d.workflow != nil, Handler: d.handler != nil,
		Queue: d.cfg.run.queue, Priority: d.cfg.run.priority, Retries: d.cfg.retries, Timeout: d.cfg.timeout,
		Crons: d.cfg.crons, Events: d.cfg.events, EventFilter: d.cfg.eventFilter, SlotCost: max(d.cfg.slotCost, 1),
		BatchSize: d.cfg.batch.size, Input: jsonx.Schema(d.cfg.in),
		BackoffFactor: d.cfg.backoff.Factor, BackoffMax: d.cfg.backoff.Max, RetryPolicy: d.cfg.policy != nil,
		ScheduleTimeout: d.cfg.scheduleTimeout, Limits: len(d.cfg.limits) + len(d.cfg.limitExprs), BatchInterval: d.cfg.batch.interval,
		OnFailure: d.cfg.onFailure != nil, Options: d.options(),
	}
	t.Example, _ = c.encode(d.zero) // no JSON: no example
	if w := d.workflow; w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, n := range w.nodes {
			t.Handler = t.Handler || n.def.handler != nil
			info := TaskInfo{Name: n.name, Queue: n.graph.Queue, State: StateBlocked}
			if t.NodeOptions == nil {
				t.NodeOptions = map[string]TaskOptions{}
			}
			t.NodeOptions[n.name] = n.def.options()
			for _, p := range n.graph.Parents {
				info.Parents = append(info.Parents, w.nodes[p].name)
			}
			t.Tasks = append(t.Tasks, info)
		}
	}
	return t
}

const (
	// DefaultBatchSize is the maximum number of runs in a call of a batch task's handler.
	DefaultBatchSize = 100
	// DefaultBatchInterval is how long the first run of a batch waits for others.
	DefaultBatchInterval = 100 * time.Millisecond
)

type batchConfig struct {
	size     int
	interval time.Duration
	key      func(any) string
	set      bool
}

// WithBatchSize sets the maximum number of runs in a call of a batch task's handler. The
// default is DefaultBatchSize, 100. A worker with fewer slots gathers at most as many runs as it
// has slots.
func WithBatchSize(n int) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.batch.size, c.batch.set = n, true
		if n < 1 || n > maxSlots {
			return fmt.Errorf("stint: WithBatchSize(%d): want 1 to %d", n, maxSlots)
		}
		return nil
	})
}

// WithBatchInterval sets how long the first run of a batch waits for others before the handler
// is called. The default is DefaultBatchInterval, 100 ms.
func WithBatchInterval(d time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.batch.interval, c.batch.set = d, true
		return wantPositive("WithBatchInterval", d)
	})
}

// WithBatchKey batches only runs for which key returns the same value.
func WithBatchKey[In any](key func(In) string) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if key == nil {
			return errors.New("stint: WithBatchKey: nil key function")
		}
		c.batch.key, c.batch.set = func(in any) string { return key(inputAs[In](in)) }, true
		return wantInput[In]("WithBatchKey", c)
	})
}

// NewBatchTask defines a task whose handler is called with several runs at once. A worker gathers
// runs until there are WithBatchSize of them or the first has waited for WithBatchInterval. fn
// gets their inputs in the order of enqueueing and returns as many outputs, in that order. Another
// number of outputs fails all runs of the batch, without retries. An error of fn is the error of
// each run of the batch. Each is then retried as the task's options say, in another batch, which
// may gather the same runs: an input that makes fn return an error then uses up the attempts of
// all of them. So that the others succeed, return an output that names the fault of that
// input, and a nil error.
//
// fn's context is done when all runs of the batch are canceled or have timed out. The context
// belongs to no run: Logger, Progress and durable calls behave as outside of a run.
func NewBatchTask[In, Out any](
	c *Client, name string, fn func(ctx context.Context, ins []In) ([]Out, error), opts ...TaskOption,
) *Task[In, Out] {
	if fn == nil {
		return NewTask[In, Out](c, name, nil, append(slices.Clone(opts), batchMark)...)
	}
	task := taskConfig{in: reflect.TypeFor[In]()}
	for _, o := range opts {
		if o != nil {
			o.applyTask(&task) // NewTask reports its error
		}
	}
	cfg := task.batch
	cfg.size, cfg.interval = cmp.Or(cfg.size, DefaultBatchSize), cmp.Or(cfg.interval, DefaultBatchInterval)
	g := &batch.Group[In, Out]{
		Call:     func(ctx context.Context, ins []In) ([]Out, error) { return callBatch(ctx, fn, ins) },
		Interval: cfg.interval, Detach: outsideRun,
	}
	return NewTask(c, name, func(ctx context.Context, in In) (out Out, err error) {
		size, key, order := cfg.size, "", []byte(nil)
		if e := executionOf(ctx); e != nil {
			size, order = min(size, e.w.cfg.slots), e.run.ID[:]
		}
		if cfg.key != nil {
			if key, err = callKey("batch", cfg.key, in); err != nil {
				return out, NonRetryable(err)
			}
		}
		return g.Do(ctx, key, size, order, in)
	}, append(slices.Clone(opts), batchMark)...)
}

// outsideRun returns a context that belongs to no run.
func outsideRun(ctx context.Context) context.Context {
	return context.WithValue(ctx, executionKey{}, (*execution)(nil))
}

// callBatch calls a batch task's handler, whose Goexit must not end the caller's goroutine.
func callBatch[In, Out any](ctx context.Context, fn func(context.Context, []In) ([]Out, error), ins []In) (outs []Out, err error) {
	err = apperror.Original(guarded(func() (err error) {
		outs, err = fn(ctx, ins)
		return err
	}))
	if err == nil && len(outs) != len(ins) {
		err = NonRetryable(fmt.Errorf("stint: batch handler returned %d outputs for %d inputs", len(outs), len(ins)))
	}
	return outs, err
}

// batchMark tells NewTask that it defines a batch task.
var batchMark = taskOption(func(c *taskConfig) error {
	c.batch.size, c.batch.set = cmp.Or(c.batch.size, DefaultBatchSize), false
	return nil
})
