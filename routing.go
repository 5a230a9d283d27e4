package stint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// An Affinity says which label value a task needs or prefers in the worker that executes it.
type Affinity struct {
	Label string `json:"label"`
	// Comparator is one of = != > >= < <=; empty means =. The last four compare numbers: a
	// label that is not a number does not match. A worker without the label matches only !=.
	Comparator string `json:"comparator,omitempty"`
	Value      any    `json:"value"` // a string, or a number of any type
	// Preferred makes it a preference: of the workers that may execute the run and have free
	// slots, the one with the highest sum of weights gets it, if it takes it within a second.
	Preferred bool `json:"preferred,omitempty"`
	Weight    int  `json:"weight,omitempty"` // of a preference, 1 to 1,000,000; 0 means 100
}

// WithAffinity routes runs to workers whose labels match. A task may have it several times; for
// a workflow it is the affinity of each of its tasks. For one run, it replaces the task's
// affinities of the same labels.
func WithAffinity(wants ...Affinity) Option { return affinityOption(wants) }

type affinityOption []Affinity

// into adds the affinities to wants.
func (o affinityOption) into(wants *[]store.Want) error {
	for _, a := range o {
		w, err := a.toStore()
		if err != nil {
			return errorf("stint: WithAffinity: %w", err)
		}
		*wants = append(*wants, w)
	}
	if err := check.Count("affinities", len(*wants), check.MaxNames); err != nil {
		return fmt.Errorf("stint: WithAffinity: %w", err)
	}
	return nil
}

func (o affinityOption) applyTask(c *taskConfig) error { return o.into(&c.run.wants) }

func (o affinityOption) applyWorkflow(c *workflowConfig) error { return o.into(&c.task.run.wants) }

func (o affinityOption) applyStep(*stepConfig) error { return runOption(nil).applyStep(nil) }

func (o affinityOption) applyCron(c *cronConfig) error { c.run = append(c.run, o); return nil }

func (o affinityOption) applyRun(c *runConfig) error {
	c.wants = slices.DeleteFunc(slices.Clone(c.wants), func(w store.Want) bool {
		return slices.ContainsFunc(o, func(a Affinity) bool { return a.Label == w.Label })
	})
	return o.into(&c.wants)
}

// WithWorker routes one run to the workers of a name. With only, no other worker takes it, and the
// run waits while there is none. Without only, it prefers these workers, if they have free slots
// and take the run within a second. For a workflow's run it routes all tasks. WithAffinity takes
// precedence.
func WithWorker(name string, only bool) RunOption {
	return runOnly(func(c *runConfig) error {
		c.worker, c.onlyThere = name, only
		if err := check.Name("worker name", name); err != nil {
			return errorf("stint: WithWorker: %w", err)
		}
		return nil
	})
}

func (a Affinity) toStore() (store.Want, error) {
	w := store.Want{Label: a.Label, Op: a.Comparator}
	if err := check.Name("label", a.Label); err != nil {
		return w, err
	}
	if w.Op == "" {
		w.Op = "="
	}
	if !slices.Contains([]string{"=", "!=", ">", ">=", "<", "<="}, w.Op) {
		return w, fmt.Errorf("label %q: no comparator %q: want = != > >= < or <=", a.Label, a.Comparator)
	}
	v := reflect.ValueOf(a.Value)
	switch {
	case v.IsValid() && v.Kind() == reflect.String:
		w.Value = v.String()
		if err := check.Text(fmt.Sprintf("value of label %q", a.Label), w.Value); err != nil {
			return w, err
		}
		if _, err := strconv.ParseFloat(w.Value, 64); err != nil && w.Op != "=" && w.Op != "!=" {
			return w, fmt.Errorf("label %q %s %q: only numbers have an order", a.Label, w.Op, w.Value)
		}
	case v.CanInt(), v.CanUint(), v.CanFloat():
		w.Value = fmt.Sprint(a.Value)
	default:
		return w, fmt.Errorf("label %q: a value of type %T: want a string or a number", a.Label, a.Value)
	}
	if a.Weight < 0 || a.Weight > 1_000_000 || a.Weight > 0 && !a.Preferred {
		return w, fmt.Errorf("label %q: weight %d: want 1 to 1,000,000, of what is Preferred", a.Label, a.Weight)
	}
	if a.Preferred {
		if w.Weight = a.Weight; w.Weight == 0 {
			w.Weight = 100
		}
	}
	return w, nil
}

// A Sticky says how runs follow a worker. See WithSticky.
type Sticky = store.Sticky

// Values of Sticky.
const (
	// StickySoft prefers the worker, if it has free slots and takes the run within a second.
	StickySoft = store.StickySoft
	// StickyHard requires the worker: if it is gone, the run waits until one with its name is
	// there, or for the schedule timeout.
	StickyHard = store.StickyHard
)

// WithSticky routes all tasks of a workflow's run to the worker that took the first of them, and a
// task's child runs to the worker of their parent. Workers are identified by name. WithAffinity
// takes precedence.
func WithSticky(s Sticky) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if s != StickySoft && s != StickyHard {
			return fmt.Errorf("stint: WithSticky(%d): want StickySoft or StickyHard", s)
		}
		c.sticky = s
		return nil
	})
}

// route returns where a run of the task goes. e is the execution that enqueues it, or nil.
func (d *taskDef) route(rc *runConfig, e *execution) store.Route {
	r := store.Route{Wants: rc.wants, To: rc.worker, Hard: rc.onlyThere}
	if d.cfg.sticky == 0 || d.workflow != nil || r.To != "" {
		return r
	}
	switch {
	case rc.named != nil:
		r.To = rc.named.Worker
	case e != nil:
		r.To = e.w.cfg.name
	}
	r.Hard = r.To != "" && d.cfg.sticky == StickyHard
	return r
}

// SetLabels replaces the labels of a running worker at once. It returns an error for a worker whose
// Run was not called yet: use WithLabels.
func (w *Worker) SetLabels(ctx context.Context, labels map[string]string) error {
	if err := checkLabels(labels); err != nil {
		return err
	}
	w.mu.Lock()
	id := w.id
	w.mu.Unlock()
	if id == 0 {
		return errors.New("stint: SetLabels: the worker does not run yet: use WithLabels")
	}
	change := store.WorkerInfo{ID: id, Labels: map[string]string{}}
	maps.Copy(change.Labels, labels)
	_, err := w.c.store.Register(ctx, change)
	return wrapStoreErr("set labels", err)
}

// A WorkerInfo describes a running worker, of any process on the database.
type WorkerInfo struct {
	Name    string
	Host    string
	PID     int
	Started time.Time
	Slots   int
	Running int      // runs that it executes
	Queues  []string // empty: all
	Labels  map[string]string
	Paused  bool
	Build   string // distinguishes builds of the program
}

// PauseWorker stops the workers of that name from starting runs until ResumeWorker, or until
// they end. Runs that execute go on. The error is ErrNotFound if no such worker runs.
func (c *Client) PauseWorker(ctx context.Context, name string) error {
	return c.pauseWorker(ctx, "pause worker", name, true)
}

// ResumeWorker ends the pause of PauseWorker.
func (c *Client) ResumeWorker(ctx context.Context, name string) error {
	return c.pauseWorker(ctx, "resume worker", name, false)
}

func (c *Client) pauseWorker(ctx context.Context, op, name string, paused bool) error {
	if err := check.Name("worker name", name); err != nil {
		return wrapStoreErr(op, err)
	}
	return c.change(ctx, op, &store.PauseChange{Worker: name, Paused: paused})
}

// ListWorkers returns the running workers, oldest first. A worker whose process has died is
// listed until another process notices, within a second.
func (c *Client) ListWorkers(ctx context.Context) ([]WorkerInfo, error) {
	var list store.WorkerList
	if err := c.store.Read(ctx, &list); err != nil {
		return nil, wrapStoreErr("list workers", err)
	}
	infos := make([]WorkerInfo, len(list.Workers))
	for i, w := range list.Workers {
		infos[i] = WorkerInfo{Name: w.Name, Host: w.Host, PID: w.PID, Started: w.Started, Slots: w.Slots, Running: w.Running,
			Queues: w.Queues, Labels: w.Labels, Paused: w.Paused, Build: w.Build}
	}
	return infos, nil
}

// WithSlotCost sets how many of a worker's slots a run of the task takes. The default is 1. A
// worker with fewer slots leaves the run to others. A run that is next in order and does not
// fit yet holds up those behind it, so that they do not overtake it for ever.
func WithSlotCost(n int) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if n < 1 || n > maxSlots {
			return fmt.Errorf("stint: WithSlotCost(%d): want 1 to %d", n, maxSlots)
		}
		c.slotCost = n
		return nil
	})
}

// cost returns the slots a run of the task needs; 0 if the worker has too few. A workflow's
// tasks are charged the highest cost until one is started.
func (w *Worker) cost(task string) int {
	n := w.c.slotCost(task)
	if !w.slots.Fits(n) {
		return 0
	}
	return n
}

func (c *Client) slotCost(task string) int {
	workflow, name, within := strings.Cut(task, ":")
	c.mu.Lock()
	d := c.tasks[task]
	if d == nil {
		d = c.tasks[workflow]
	}
	c.mu.Unlock()
	if d == nil {
		d = c.definitions.Newest(workflow)
	}
	switch {
	case d == nil:
		return 1
	case within && name == "" && d.workflow != nil:
		return int(max(d.workflow.slotCost.Load(), 1))
	}
	if d = d.within(task); d == nil {
		return 1
	}
	return max(d.cfg.slotCost, 1)
}

// WithHandler makes the worker execute every run with h, which gets the input as JSON and returns
// the output as JSON. Info(ctx) says which task the run is of. With it a program can execute tasks
// whose names it learns when it runs. The other options of a task, such as its retries and
// timeout, are those of its definition in this program or, if it has none, of Client.Define. A
// task without a definition has the defaults. An empty output is stored as null.
//
// Without WithTasks the worker takes runs of every task that its client has defined, with or
// without a function.
func WithHandler(h Handler) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if h == nil {
			return errors.New("stint: WithHandler(nil): want a function")
		}
		c.handler = h
		return nil
	})
}

// prepareHandler wraps what every handler of the client has around that of WithHandler, and checks
// what it returns.
func (c *Client) prepareHandler(cfg *workerConfig) (err error) {
	h := cfg.handler
	if h == nil {
		return nil
	}
	cfg.handler, err = c.withMiddleware(func(ctx context.Context, input []byte) ([]byte, error) {
		out, err := h(ctx, input)
		if err != nil {
			return nil, err
		}
		return c.checkOutput("the handler", out)
	})
	return err
}

// served is what a worker takes, by name.
type served struct {
	all   bool            // no WithTasks
	names map[string]bool // also, for each "workflow:task", "workflow:"
}

func newServed(names []string) served {
	s := served{all: names == nil, names: map[string]bool{}}
	for _, n := range names {
		s.names[n] = true
		if workflow, _, ok := strings.Cut(n, ":"); ok {
			s.names[store.GraphLane(workflow)] = true
		}
	}
	return s
}

// has reports whether a name is of a task that the worker takes, or of all tasks of a workflow of
// which it takes some.
func (s *served) has(name string) bool {
	if s.all || s.names[name] {
		return true
	}
	task, _, ok := strings.Cut(name, ":")
	return ok && s.names[task]
}

// hasHandler reports whether the worker can execute a task, or, with a colon after the name of a
// workflow, one of its tasks.
func (w *Worker) hasHandler(name string) bool {
	if !w.served.has(name) {
		return false
	}
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	d := w.c.tasks[name]
	if d != nil && d.handler != nil {
		return true
	}
	workflow, task, within := strings.Cut(name, ":")
	isWorkflow := w.c.tasks[workflow].isWorkflow() || w.c.definitions.Newest(workflow).isWorkflow()
	switch {
	case within && task == "": // all tasks of a workflow
		return isWorkflow || w.cfg.handler != nil && !w.served.all
	case w.cfg.handler == nil:
		return false
	case w.served.all:
		return d != nil || w.c.defined[workflow]
	}
	return !within || w.served.names[name] || isWorkflow || !isOwn(name)
}

// isOwn reports whether the name is of a task that belongs to another one's function.
func isOwn(name string) bool {
	return strings.HasSuffix(name, onEventSuffix) || strings.HasSuffix(name, onFailureSuffix)
}

// taskOf returns the definition of a claimed run's task, or nil if the worker has no handler for it.
func (w *Worker) taskOf(r *store.Claimed) *taskDef {
	if !w.hasHandler(r.Task) {
		return nil
	}
	d := w.c.task(r.Task)
	if w.cfg.handler == nil || d != nil && d.handler != nil && (isOwn(d.name) || d.hookOf != nil) {
		return d
	}
	if d == nil {
		return w.definedTask(r)
	}
	own := *d
	own.handler = w.cfg.handler
	return &own
}

// definedTask returns the task of a run that was made by a definition, if it was, with the worker's handler.
// A run whose definition was changed by other means fails; one whose definition cannot be read at present
// comes back.
func (w *Worker) definedTask(r *store.Claimed) *taskDef {
	own := taskDef{name: r.Task, handler: w.cfg.handler}
	version := jsonx.Texts(r.Metadata)[store.MetaVersion]
	if version == "" {
		return &own
	}
	d, err := w.c.definitionOf(context.Background(), r.Task, version)
	switch {
	case err != nil && w.c.unavailable(err):
		own.handler = func(context.Context, []byte) ([]byte, error) { return nil, Snooze(retryStore) }
	case err != nil:
		own.handler = func(context.Context, []byte) ([]byte, error) { return nil, NonRetryable(errorf("stint: %w", err)) }
	case d != nil:
		if d = d.within(r.Task); d != nil {
			own = *d
			own.handler = d.checked(w.cfg.handler)
		}
	}
	return &own
}

// readDefinitions reads the definitions of the tasks that the worker names: a claim asks what they cost. It
// leaves out those that cannot be used.
func (w *Worker) readDefinitions(ctx context.Context) error {
	if w.cfg.handler == nil {
		return nil
	}
	for _, task := range w.cfg.tasks {
		name, _, _ := strings.Cut(task, ":")
		if w.c.definitions.Newest(name) != nil || w.c.task(name) != nil {
			continue
		}
		if _, err := w.c.definition(ctx, name); err != nil && w.c.unavailable(err) {
			return wrapStoreErr("worker: read the definitions of its tasks", err)
		}
	}
	return nil
}

// warnOfUnknownTasks logs the names of WithTasks that no task of the program has: they may be misspelled, or be of
// tasks that it defines later.
func (w *Worker) warnOfUnknownTasks() {
	if w.cfg.handler != nil {
		return
	}
	for _, task := range w.cfg.tasks {
		if name, _, _ := strings.Cut(task, ":"); w.c.task(name) == nil {
			w.c.logger().Warn("stint: WithTasks names a task that the program has not defined", "task", task)
		}
	}
}

// handledTasks returns the tasks and workflows that the worker has handlers for.
func (w *Worker) handledTasks() []string {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	names := []string{}
	for name, d := range c.tasks {
		if w.served.has(name) && (d.handler != nil || d.workflow != nil || w.cfg.handler != nil) {
			names = append(names, name)
		}
	}
	if w.cfg.handler != nil {
		others := w.cfg.tasks
		if w.served.all {
			others = slices.Collect(maps.Keys(c.defined))
		}
		for _, name := range others {
			names = append(names, name, store.GraphLane(name)) // any task of a workflow of that name
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// definedTasks returns the tasks and workflows of the client, with or without handlers.
func (c *Client) definedTasks() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.tasks))
}

// storeTasks stores which tasks the worker has, if more were defined since.
func (w *Worker) storeTasks(ctx context.Context) error {
	w.c.mu.Lock()
	defined := len(w.c.tasks) + len(w.c.defined)
	w.c.mu.Unlock()
	if defined == w.definedCount {
		return nil
	}
	tasks := w.handledTasks()
	if !slices.Equal(tasks, w.storedTasks) {
		if _, err := w.c.store.Register(ctx, store.WorkerInfo{ID: w.id, Tasks: tasks}); err != nil {
			return err
		}
	}
	w.definedCount, w.storedTasks = defined, tasks
	return nil
}

// ReleaseSlot gives up the run's worker slots before the handler returns, so that another run
// can start. Outside of a run it does nothing.
func ReleaseSlot(ctx context.Context) error {
	if e := executionOf(ctx); e != nil {
		e.w.slots.Release(&e.slots)
	}
	return nil
}
