package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint/internal/fired"
	"github.com/stint-dev/stint/store"
)

// A Workflow is a graph of tasks (a DAG) that runs as one. Each task starts when its parents
// have ended. Outcomes are stored, so a crash re-executes no task that finished. Make one with
// NewWorkflow and add its tasks with AddTask.
//
// When all parents of a task have ended, the task starts if at least one of them was not
// skipped and its conditions allow it. If a parent failed or was canceled, the task is
// canceled with its descendants; unrelated branches go on. The workflow's run ends when all
// tasks have: as failed if a task failed, else as canceled if a task was canceled, else as
// succeeded.
//
// The graph is stored with each run: a run keeps the graph it started with when a deploy
// changes the workflow.
type Workflow[In any] struct {
	def  *workflowDef
	task *Task[In, Outputs]
}

// workflowDef is a workflow without its type.
type workflowDef struct {
	c     *Client
	name  string
	cfg   workflowConfig
	nodes []*node

	slotCost atomic.Int64 // the highest of its tasks; 0 means 1

	onFailure, onSuccess *taskDef

	mu    sync.Mutex
	graph *store.Graph // set once the workflow has been enqueued; then no tasks can be added
}

type workflowConfig struct {
	task     taskConfig // timeout, idempotency, and the run's options
	defaults []TaskOption
}

// A WorkflowOption changes a workflow, for all its runs: WithTimeout (of the whole run: after
// it the run is canceled, with ErrTimeout in its error), WithPriority, WithQueue,
// WithMetadata, WithIdempotency, WithConcurrency, WithRateLimit, WithRateLimitFunc,
// WithSticky, WithCron, WithCronInput, WithCatchUp, WithEvents, WithEventFilter or
// WithTaskDefaults.
type WorkflowOption interface {
	applyWorkflow(*workflowConfig) error
}

type workflowOption func(*workflowConfig) error

func (o workflowOption) applyWorkflow(c *workflowConfig) error { return o(c) }

// Options of a task that are options of a workflow too.
func (o runOption) applyWorkflow(c *workflowConfig) error { return o(&c.task.run) }

func (o taskOption) applyWorkflow(c *workflowConfig) error { return o(&c.task) }

// WithTaskDefaults sets options that each task of a workflow starts with, also those of OnFailure and OnSuccess.
func WithTaskDefaults(opts ...TaskOption) WorkflowOption {
	return workflowOption(func(c *workflowConfig) error { c.defaults = append(c.defaults, opts...); return nil })
}

// An AnyNode is a Node of any type.
type AnyNode interface{ anyNode() *node }

// A Node is a task of a workflow with output type Out.
type Node[Out any] struct{ n *node }

func (n *Node[Out]) anyNode() *node {
	if n == nil {
		return nil
	}
	return n.n
}

// node is a Node without its type.
type node struct {
	w     *workflowDef
	index int
	name  string
	def   *taskDef
	graph store.GraphTask
	tests map[string]func(input, output []byte) (bool, error) // predicates on its output, by name
}

// NewWorkflow defines a workflow without tasks.
//
// It panics if the name is empty or taken, or an option is invalid or not one of a workflow,
// so that mistakes in definitions show when the program starts.
func NewWorkflow[In any](c *Client, name string, opts ...WorkflowOption) *Workflow[In] {
	if c == nil {
		panic(fmt.Sprintf("stint: NewWorkflow(%q): nil client", name))
	}
	w := &workflowDef{c: c, name: name}
	w.cfg.task = taskConfig{in: reflect.TypeFor[In](), run: runConfig{priority: PriorityDefault, queue: DefaultQueue}}
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o.applyWorkflow(&w.cfg); err != nil {
			panic(fmt.Sprintf("stint: NewWorkflow(%q): %v", name, err))
		}
	}
	if t := &w.cfg.task; t.retries > 0 || t.policy != nil || t.backoff.Factor != 0 || t.scheduleTimeout > 0 || t.onFailure != nil {
		panic(fmt.Sprintf("stint: NewWorkflow(%q): retries, backoff, schedule timeout and WithOnFailure are options of its tasks: "+
			"see WithTaskDefaults and Workflow.OnFailure", name))
	}
	if strings.Contains(name, ":") {
		panic(fmt.Sprintf("stint: NewWorkflow(%q): no colon in the name: it stands before a task's", name))
	}
	def := &taskDef{name: name, cfg: w.cfg.task, workflow: w, zero: *new(In)}
	def.cfg.run.wants = nil // they are its tasks'
	def.prepare = func(payload []byte, r *store.NewRun) error { return prepareRun[In](c, def, payload, r) }
	var err error
	if def.onEvent, err = c.newOnEventTask(def); err == nil {
		err = c.registerTask(def)
	}
	if err != nil {
		panic(fmt.Sprintf("stint: NewWorkflow(%q): %v", name, err))
	}
	return &Workflow[In]{w, &Task[In, Outputs]{c, def}}
}

// AddTask adds a task to a workflow. Its options are those of a task, and WithParents,
// WithWaitFor, WithSkipIf and WithCancelIf. fn gets the workflow's input, and reads the
// outputs of earlier tasks with Node.Output.
//
// AddTask panics if the name is empty or taken, a parent belongs to another workflow, or the
// workflow has been enqueued already.
func AddTask[In, Out any](w *Workflow[In], name string, fn func(context.Context, In) (Out, error), opts ...TaskOption) *Node[Out] {
	fail := func(format string, args ...any) {
		panic(fmt.Sprintf("stint: AddTask(%q) to workflow %q: %s", name, w.def.name, fmt.Sprintf(format, args...)))
	}
	if fn == nil {
		fail("nil function")
	}
	def, err := newTaskDef(w.def.c, w.def.name+":"+name, fn, w.def.taskOptions(w.def.cfg.task.run.wants, opts))
	if err != nil {
		fail("%v", err)
	}
	n := &node{w: w.def, name: name, def: def, tests: map[string]func(input, output []byte) (bool, error){}}
	def.node = n
	if err := w.def.addNode(n, w.def.c.registerTask); err != nil {
		fail("%v", err)
	}
	return &Node[Out]{n}
}

// taskOptions returns the options of a task of the workflow: its own after the defaults, and these after the workflow's wants
// if they are for it. They are not for the on-failure and the on-success task, as a task's are not for its WithOnFailure.
func (w *workflowDef) taskOptions(wants []store.Want, own []TaskOption) []TaskOption {
	shared := taskOption(func(c *taskConfig) error {
		c.run.queue, c.run.wants = w.cfg.task.run.queue, slices.Clone(wants)
		return nil
	})
	return append(append([]TaskOption{shared}, w.cfg.defaults...), own...)
}

// hookOptions returns the options of the on-failure or the on-success task, which has no place in the graph: parents and
// conditions among the defaults are not for it.
func (w *workflowDef) hookOptions(own []TaskOption) []TaskOption {
	placeless := taskOption(func(c *taskConfig) error {
		c.nodeOnly, c.parents, c.waitFor, c.skipIf, c.cancelIf = false, nil, nil, nil, nil
		return nil
	})
	return append(append(w.taskOptions(nil, nil), placeless), own...)
}

// addNode adds a task to the graph, after register has taken its name; nil: it is in no table of the client.
func (w *workflowDef) addNode(n *node, register func(*taskDef) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.graph != nil {
		return errors.New("the workflow has been enqueued: all tasks are added before")
	}
	if n.name == "" || strings.Contains(n.name, ":") || n.name == store.OnFailureName || n.name == store.OnSuccessName {
		return fmt.Errorf("want a name that is not empty, has no colon and is neither %s nor %s", store.OnFailureName, store.OnSuccessName)
	}
	cfg := &n.def.cfg
	if err := cfg.ofOneTask(); err != nil {
		return err
	}
	n.index = len(w.nodes)
	n.graph = graphTask(n.name, cfg)
	for _, p := range cfg.parents {
		if p.w != w {
			return fmt.Errorf("parent %q is a task of workflow %q", p.name, p.w.name)
		}
		if !slices.Contains(n.graph.Parents, p.index) {
			n.graph.Parents = append(n.graph.Parents, p.index)
		}
	}
	if err := n.buildConditions(); err != nil {
		return err
	}
	if register != nil {
		if err := register(n.def); err != nil {
			return err
		}
	}
	w.nodes = append(w.nodes, n)
	w.slotCost.Store(max(w.slotCost.Load(), int64(cfg.slotCost)))
	return nil
}

// ofOneTask returns an error if there are options that a workflow has as a whole.
func (c *taskConfig) ofOneTask() error {
	switch {
	case len(c.crons)+len(c.events) > 0:
		return errors.New("WithCron and WithEvents are the workflow's, not one task's")
	case c.sticky != 0:
		return errors.New("WithSticky is the workflow's, not one task's")
	case c.idempotency != nil || len(c.run.metadata) > 0:
		return errors.New("idempotency keys and metadata are the workflow's, not one task's")
	}
	return nil
}

// The names that a workflow's tasks of OnFailure and OnSuccess have after the workflow's name and a colon.
const (
	OnFailureName = store.OnFailureName
	OnSuccessName = store.OnSuccessName
)

// OnFailure sets a function that runs once, as soon as a task of a run has failed for good;
// not after cancels. The run still fails. The *WorkflowError has the errors of the tasks that
// have failed by then. It panics as AddTask does, and for options of parents and conditions.
func (w *Workflow[In]) OnFailure(fn func(context.Context, In, *WorkflowError) error, opts ...TaskOption) {
	w.def.setHook(&w.def.onFailure, store.OnFailureName, fn == nil, func(name string) (*taskDef, error) {
		return newTaskDef(w.def.c, name, func(ctx context.Context, in In) (struct{}, error) {
			werr, err := w.def.c.workflowError(ctx, w.def.name, executionOf(ctx).run.Parent)
			if err != nil {
				return struct{}{}, err
			}
			return struct{}{}, fn(ctx, in, werr)
		}, w.def.hookOptions(opts))
	})
}

// OnSuccess sets a function that runs once after a run has succeeded.
func (w *Workflow[In]) OnSuccess(fn func(context.Context, In, Outputs) error, opts ...TaskOption) {
	w.def.setHook(&w.def.onSuccess, store.OnSuccessName, fn == nil, func(name string) (*taskDef, error) {
		return newTaskDef(w.def.c, name, func(ctx context.Context, in In) (struct{}, error) {
			out, err := w.def.c.outputs(ctx, executionOf(ctx).run.Parent, nil)
			if err != nil {
				return struct{}{}, err
			}
			return struct{}{}, fn(ctx, in, out)
		}, w.def.hookOptions(opts))
	})
}

// setHook sets the on-failure or on-success task.
func (w *workflowDef) setHook(where **taskDef, name string, isNil bool, define func(name string) (*taskDef, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var def *taskDef
	err := errors.New("nil function")
	switch {
	case isNil:
	case *where != nil:
		err = errors.New("it has one already")
	case w.graph != nil:
		err = errors.New("the workflow has been enqueued")
	default:
		if def, err = define(w.name + ":" + name); err == nil {
			err = def.cfg.ofOneTask()
		}
		if err == nil && def.cfg.nodeOnly {
			err = errors.New("it has no parents and no conditions: those are for tasks that AddTask adds")
		}
		if err == nil {
			def.hookOf = w
			err = w.c.registerTask(def)
		}
	}
	if err != nil {
		panic(fmt.Sprintf("stint: %s task of workflow %q: %v", name, w.name, err))
	}
	*where = def
}

// freeze returns the workflow's graph, which does not change any more.
func (w *workflowDef) freeze() (*store.Graph, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.graph != nil {
		return w.graph, nil
	}
	g := store.Graph{Workflow: w.name, AgeEvery: w.c.cfg.ageing, Sticky: w.cfg.task.sticky}
	for _, n := range w.nodes {
		g.Tasks = append(g.Tasks, n.graph)
	}
	if d := w.onFailure; d != nil {
		g.OnFailure, g.FailureTask = &d.cfg.run.queue, hookTask(store.OnFailureName, &d.cfg)
	}
	if d := w.onSuccess; d != nil {
		g.OnSuccess, g.SuccessTask = &d.cfg.run.queue, hookTask(store.OnSuccessName, &d.cfg)
	}
	var err error
	if w.graph, err = store.NewGraph(g); err != nil {
		w.graph = nil
		return nil, errorf("stint: %w", err)
	}
	return w.graph, nil
}

// graphTask returns a task without parents and conditions.
func graphTask(name string, cfg *taskConfig) store.GraphTask {
	t := store.GraphTask{Name: name, Queue: cfg.run.queue, StartIn: cfg.scheduleTimeout, Limited: cfg.limited(), Wants: cfg.run.wants}
	if cfg.run.prioritySet {
		p := int8(cfg.run.priority)
		t.Priority = &p
	}
	return t
}

// hookTask returns what is said of the on-failure or on-success task, or nil.
func hookTask(name string, cfg *taskConfig) *store.GraphTask {
	if cfg.scheduleTimeout == 0 && !cfg.limited() && len(cfg.run.wants) == 0 && !cfg.run.prioritySet {
		return nil
	}
	t := graphTask(name, cfg)
	return &t
}

func (c *taskConfig) limited() bool { return len(c.limits)+len(c.limitExprs) > 0 }

// each calls do with the place of each task of the graph, and of the on-failure and the on-success task, and what defines it.
func (w *workflowDef) each(do func(place int, def *taskDef) error) error {
	for i, n := range w.nodes {
		if err := do(i, n.def); err != nil {
			return err
		}
	}
	places := store.Graph{Tasks: make([]store.GraphTask, len(w.nodes))}
	for place, def := range map[int]*taskDef{places.Failure(): w.onFailure, places.Success(): w.onSuccess} {
		if def == nil {
			continue
		}
		if err := do(place, def); err != nil {
			return err
		}
	}
	return nil
}

// Run enqueues a run and waits for its outputs, or returns a *TaskError that wraps a
// *WorkflowError.
func (w *Workflow[In]) Run(ctx context.Context, in In, opts ...RunOption) (Outputs, error) {
	run, err := w.Enqueue(ctx, in, opts...)
	if err != nil {
		return Outputs{}, err
	}
	return run.Wait(ctx)
}

// Enqueue is like Task.Enqueue, for a run of the workflow.
func (w *Workflow[In]) Enqueue(ctx context.Context, in In, opts ...RunOption) (*Run[Outputs], error) {
	return w.task.Enqueue(ctx, in, opts...)
}

// EnqueueMany is like Task.EnqueueMany, for runs of the workflow.
func (w *Workflow[In]) EnqueueMany(ctx context.Context, ins []In, opts ...RunOption) ([]*Run[Outputs], error) {
	return w.task.EnqueueMany(ctx, ins, opts...)
}

// Schedule stores a run that starts at the given time, or at once if that has passed.
func (w *Workflow[In]) Schedule(ctx context.Context, at time.Time, in In, opts ...RunOption) (*Run[Outputs], error) {
	return w.task.Schedule(ctx, at, in, opts...)
}

// Name returns the workflow's name.
func (w *Workflow[In]) Name() string { return w.def.name }

// Triggers returns, in the handler of a workflow's task, what made its WithWaitFor condition
// true: see Fired. It is empty if the task has no such condition. Events that the retention has
// deleted are missing. It is an error outside of a handler of a workflow's task.
func Triggers(ctx context.Context) (Fired, error) {
	e := executionOf(ctx)
	if e == nil || e.replay != nil || e.def.node == nil {
		return nil, errors.New("stint: triggers: ctx is not of a handler of a workflow's task")
	}
	g, _, err := e.c.store.Workflow(ctx, e.run.Parent, []string{})
	if err != nil {
		return nil, wrapStoreErr("triggers", err)
	}
	place, ok := g.Place(e.def.node.name)
	if !ok || place >= g.End() || g.Tasks[place].WaitFor == nil {
		return Fired{}, nil
	}
	f := Fired{}
	b, err := fired.Values(g.Tasks[place].WaitFor, func(leaf *store.Condition) (time.Time, []byte, error) { return e.truth(ctx, g, leaf) })
	if err != nil {
		return nil, wrapStoreErr("triggers", err)
	}
	return f, json.Unmarshal(b, &f)
}

// truth returns when a leaf of the task's condition became true, and what came with it.
func (e *execution) truth(ctx context.Context, g *store.Graph, c *store.Condition) (time.Time, []byte, error) {
	began := createdAt(e.run.ID) // when the parents had ended
	switch {
	case c.Event != nil:
		since := e.run.Parent // IDs increase
		if c.Event.FromNow {
			since = e.run.ID
		}
		return fired.FirstEvent(ctx, e.c.store, c.Event, since)
	case c.Test != nil:
		name := g.Tasks[c.Test.Parent].Name
		tests := g.Tests(c.Test.Parent)
		o, err := e.c.outputs(ctx, e.run.Parent, []string{name})
		if err != nil {
			return time.Time{}, nil, err
		}
		r := o.tasks[name]
		i := slices.IndexFunc(e.def.node.w.nodes, func(n *node) bool { return n.name == name })
		if r == nil || r.State != store.Succeeded || i < 0 || c.Test.Test >= len(tests) {
			return time.Time{}, nil, nil
		}
		if results := e.def.node.w.nodes[i].evaluate(tests[c.Test.Test:c.Test.Test+1], e.run.Input, r.Output); !results[0].OK {
			return time.Time{}, nil, nil
		}
		return began, r.Output, nil
	}
	return began.Add(max(c.Sleep, 0)), nil, nil
}

// WorkflowFailure returns which tasks of the workflow's run have failed or were canceled by now,
// in the handler of its on-failure task, as the function of Workflow.OnFailure is given it. It
// returns an error outside of a workflow's task.
func WorkflowFailure(ctx context.Context) (*WorkflowError, error) {
	e := executionOf(ctx)
	if !e.ofWorkflow() {
		return nil, errors.New("stint: WorkflowFailure: ctx is not of a handler of a workflow's task")
	}
	workflow, _, _ := strings.Cut(e.run.Task, ":")
	if e.replay != nil {
		return workflowErrorOf(workflow, e.replayedOutputs(false)), nil
	}
	return e.c.workflowError(ctx, workflow, e.run.Parent)
}

// workflowError reads which tasks did not succeed.
func (c *Client) workflowError(ctx context.Context, workflow string, id store.ID) (*WorkflowError, error) {
	o, err := c.outputs(ctx, id, nil)
	if err != nil {
		return nil, err
	}
	return workflowErrorOf(workflow, o), nil
}

func workflowErrorOf(workflow string, o Outputs) *WorkflowError {
	e := &WorkflowError{Workflow: workflow, RunID: o.runID, Tasks: map[string]error{}}
	for name, r := range o.tasks {
		if r.State == store.Failed || r.State == store.Canceled {
			e.Tasks[name] = endCause(r.State, r.Error)
			e.noteCanceled(name, r.State == store.Canceled)
		}
	}
	return e
}
