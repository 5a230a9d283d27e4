package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stint-dev/stint/store"
)

// Priorities. Any number from -128 to 127 is one.
const (
	PriorityLow     = 1
	PriorityDefault = 2
	PriorityHigh    = 3
)

// DefaultQueue is the queue of a run that names none.
const DefaultQueue = "default"

// UntilDone, as the TTL of an idempotency key, keeps it until its run has ended.
const UntilDone = store.UntilDone

const maxName = 255 // bytes of a task, queue or worker name, and of a key

// A Task is a named function whose calls are stored, and worked by workers. Make one
// with NewTask.
type Task[In, Out any] struct {
	c   *Client
	def *taskDef
}

// taskDef is a task without its types.
type taskDef struct {
	name      string
	cfg       taskConfig
	handler   Handler // nil: another process works it
	fn        any     // what handler calls
	onFailure *taskDef
	onEvent   *taskDef     // starts runs for events of programs that lack the task, or nil
	workflow  *workflowDef // whose own name this is, or nil
	node      *node        // of a workflow, or nil
	zero      any          // the zero input
	prepare   func(payload []byte, r *store.NewRun) error
	hookOf    *workflowDef // whose on-failure or on-success task this is, or nil
}

type taskConfig struct {
	retries         int
	backoff         backoff
	policy          func(attempt int, err error) time.Duration
	timeout         time.Duration
	scheduleTimeout time.Duration
	run             runConfig

	in          reflect.Type
	idempotency func(any) string
	keyTTL      time.Duration
	limits      []func(task string, in any) (store.Limit, error)
	slotCost    int // 0 means 1
	batch       batchConfig
	wants       []store.Want
	sticky      Sticky
	crons       []string
	cronInput   any // nil: the zero value
	catchUp     CatchUp
	events      []string
	eventFilter string
	onFailure   func(context.Context, any, *TaskError) error

	// Of a task of a workflow.
	nodeOnly                  bool // an option was given that only AddTask takes
	parents                   []*node
	waitFor, skipIf, cancelIf *Condition
}

// NewTask defines a task. fn may be any function or method of the app; a nil fn makes
// a producer's view of a task that another process works.
//
// It panics if the name is empty or taken, or if an option is invalid or was made for
// another input type: mistakes in a definition are found when the program starts.
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

// newTaskDef applies options and wraps a handler.
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
		if def.onFailure.handler, err = c.withMiddleware(failureHandler[In](c, f)); err != nil {
			return nil, err
		}
	}
	return def, nil
}

// onFailureSuffix makes the name of the task that runs after a task failed.
const onFailureSuffix = ":on-failure"

func (c *Client) registerTask(def *taskDef) error {
	if err := checkName("task name", def.name); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tasks[def.name] != nil {
		return errors.New("a task of that name is defined already on this client")
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
		w.restartClaim() // it may work the new task too
	}
	return nil
}

func checkName(what, name string) error {
	if name == "" {
		return fmt.Errorf("empty %s", what)
	}
	return checkText(what, name)
}

// checkText is checkName for what may be empty. Names are shown, exported as figures and
// compared: bytes that are no text would be replaced on the way.
func checkText(what, text string) error {
	if err := checkSize(what, len(text), maxName); err != nil {
		return err
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s: want UTF-8", what) // a key may be made of an input
	}
	return nil
}

// withMiddleware puts the client's middleware around a handler.
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
		return c.checkOutput(out)
	}, nil
}

// checkOutput is an output that a middleware returned, as it is stored: none is null.
func (c *Client) checkOutput(out []byte) ([]byte, error) {
	switch {
	case len(out) == 0:
		return []byte("null"), nil
	case len(out) > c.cfg.maxPayload:
		return nil, NonRetryable(fmt.Errorf("stint: the output that a middleware returned has %d bytes: want at most %d (WithMaxPayload)", len(out), c.cfg.maxPayload))
	case !json.Valid(out):
		return nil, NonRetryable(errors.New("stint: the output that a middleware returned is not JSON"))
	}
	return out, nil
}

// typedHandler decodes, calls and encodes.
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

// failedRun is the input of an on-failure task.
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
		return []byte("null"), fn(ctx, in, &TaskError{Task: f.Task, RunID: f.RunID, Attempt: f.Attempt, Err: decodeFailure(f.Failure).err()})
	}
}

// Name is the task's name.
func (t *Task[In, Out]) Name() string { return t.def.name }

// Enqueue stores a run and returns once it is durable; a worker starts it when it can.
//
// Errors: an input that cannot be encoded or is larger than the client allows; an
// invalid option; ErrClosed; ErrBusy. If ctx ends before the run's turn to be stored,
// its error is returned and nothing is stored.
func (t *Task[In, Out]) Enqueue(ctx context.Context, in In, opts ...RunOption) (*Run[Out], error) {
	runs, err := t.EnqueueMany(ctx, []In{in}, opts...)
	if err != nil {
		return nil, err
	}
	return runs[0], nil
}

// EnqueueMany stores all runs or none, in order: at most 1,000,000, with at most 256 MiB of
// inputs. The options are those of each run.
func (t *Task[In, Out]) EnqueueMany(ctx context.Context, ins []In, opts ...RunOption) ([]*Run[Out], error) {
	if len(ins) == 0 {
		return nil, nil
	}
	if err := checkCount("inputs", len(ins), maxPerCall); err != nil {
		return nil, errorf("stint: enqueue %q: %w", t.def.name, err)
	}
	rc, err := t.def.runConfig(ctx, t.c, opts)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	proto := rc.newRun(t.def, t.c, now)
	proto.Route = t.def.route(t.c.localExecution(ctx))
	if w := t.def.workflow; w != nil {
		if proto.Graph, err = w.freeze(); err != nil {
			return nil, err
		}
	}
	runs := make([]store.NewRun, len(ins))
	at := 0
	var size callSize
	err = t.c.guardInput(t.def, func() (err error) {
		for at = range ins {
			runs[at] = proto
			if err = t.fill(&runs[at], ins[at]); err == nil {
				err = size.add(len(runs[at].Input))
			}
			if err != nil {
				break
			}
		}
		return err
	})
	if err != nil {
		return nil, errorf("stint: enqueue %q: input %d: %w", t.def.name, at, err)
	}
	got, err := t.c.enqueueDurably(ctx, now, rc.tx, runs)
	if err != nil {
		return nil, wrapStoreErr(fmt.Sprintf("enqueue %q", t.def.name), err)
	}
	all := make([]Run[Out], len(got))
	handles := make([]*Run[Out], len(got))
	for i, e := range got {
		all[i] = Run[Out]{c: t.c, id: e.ID, existing: e.Existing}
		handles[i] = &all[i]
	}
	return handles, nil
}

// fill gives a run its input, and what functions of the input say.
func (t *Task[In, Out]) fill(r *store.NewRun, in In) (err error) {
	if r.Input, err = marshalAs(t.c, in); err != nil {
		return err
	}
	if err := t.def.setKey(r, in); err != nil {
		return err
	}
	return t.def.setLimits(r, in)
}

// setKey gives a run the key that WithIdempotency makes of its input, unless an option gave it one.
func (d *taskDef) setKey(r *store.NewRun, in any) error {
	if d.cfg.idempotency == nil || r.Key != "" {
		return nil
	}
	key, err := callKey("idempotency", d.cfg.idempotency, in)
	if err == nil {
		r.Key, r.KeyTTL = idempotencyKey(key), d.cfg.keyTTL
	}
	return err
}

// guardInput calls f, which encodes or decodes inputs of the task and calls its key functions:
// if that is code of the app's, where its panic is an error.
func (c *Client) guardInput(d *taskDef, f func() error) error {
	if d.dependsOnInput() || !c.encodesPlainly(d.cfg.in) {
		return guarded(f)
	}
	return f()
}

// Run enqueues a run and waits for its result. Inside a handler it starts a child,
// which is canceled with its parent unless Detached, and gives up the parent's slot
// while it waits.
func (t *Task[In, Out]) Run(ctx context.Context, in In, opts ...RunOption) (Out, error) {
	run, err := t.Enqueue(ctx, in, opts...)
	if err != nil {
		var zero Out
		return zero, err
	}
	return run.Wait(ctx)
}

// Schedule stores a run that starts at the given time, or at once if that has passed.
func (t *Task[In, Out]) Schedule(ctx context.Context, at time.Time, in In, opts ...RunOption) (*Run[Out], error) {
	return t.Enqueue(ctx, in, append([]RunOption{WithRunAt(at)}, opts...)...)
}

// callKey calls a key function of the app's, and says in an error which it was. The caller
// is in guarded, or on a handler's goroutine.
func callKey(what string, f func(any) string, in any) (key string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s key function: %w", what, original(panicError(v)))
		}
	}()
	key = f(in)
	if err := checkText(what+" key", key); err != nil {
		return "", err
	}
	return key, nil
}

// PauseQueue stops starting runs of a queue, over all workers and processes, until
// ResumeQueue. What runs goes on. A queue may be paused before its first use; the page and
// the command, where a name is typed, refuse one that is not known (see Names).
func (c *Client) PauseQueue(ctx context.Context, queue string) error {
	return c.pauseQueue(ctx, queue, true)
}

// ResumeQueue undoes PauseQueue. It does nothing to a queue that was never used.
func (c *Client) ResumeQueue(ctx context.Context, queue string) error {
	return c.pauseQueue(ctx, queue, false)
}

func (c *Client) pauseQueue(ctx context.Context, queue string, paused bool) error {
	if err := checkName("queue name", queue); err != nil {
		return errorf("stint: pause or resume: %w", err)
	}
	return wrapStoreErr("pause or resume queue", c.store.PauseQueue(ctx, queue, paused))
}

// A QueueInfo is the state of a queue.
type QueueInfo struct {
	Name    string
	Paused  bool
	Ready   int // runs that may start, counted up to 10,000 a task
	Running int
	Oldest  time.Time // when the first that may start was due; zero: none may
}

// QueuePriorities counts the runs of a queue that may start by their priority, 10,000 of
// them at most.
func (c *Client) QueuePriorities(ctx context.Context, queue string) (map[int]int, error) {
	if err := checkText("queue name", queue); err != nil {
		return nil, wrapStoreErr("count priorities", err)
	}
	counts, err := c.store.Priorities(ctx, queue)
	if err != nil {
		return nil, wrapStoreErr("count priorities", err)
	}
	public := make(map[int]int, len(counts))
	for p, n := range counts {
		public[int(p)] = n
	}
	return public, nil
}

// ListQueues lists every queue that was ever used, by name.
func (c *Client) ListQueues(ctx context.Context) ([]QueueInfo, error) {
	all, err := c.store.Queues(ctx)
	if err != nil {
		return nil, wrapStoreErr("list queues", err)
	}
	infos := make([]QueueInfo, len(all))
	for i, q := range all {
		infos[i] = QueueInfo(q)
	}
	return infos, nil
}
