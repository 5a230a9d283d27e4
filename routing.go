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
	"github.com/stint-dev/stint/store"
)

// WithSlots sets how many runs the worker executes at once. The default is 100.
func WithSlots(n int) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if n < 1 || n > maxSlots {
			return fmt.Errorf("stint: WithSlots(%d): want 1 to %d", n, maxSlots)
		}
		c.slots = n
		return nil
	})
}

// WithQueues limits the worker to runs of these queues. Without the option it serves all
// queues. WithQueues with no names is an error, so that an empty list does not mean all.
func WithQueues(names ...string) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if len(names) == 0 {
			return errors.New("stint: WithQueues: no queue is named; without the option the worker takes runs of all")
		}
		for _, n := range names {
			if err := check.Name("queue name", n); err != nil {
				return errorf("stint: WithQueues: %w", err)
			}
		}
		c.queues = append(c.queues, names...)
		if err := check.Count("queues", len(c.queues), check.MaxNames); err != nil {
			return errorf("stint: WithQueues: %w", err)
		}
		return nil
	})
}

// WithName sets the worker's name. The default is host name and process ID, with a number of the process's second and later
// workers. Workers that share a name are paused together, and runs that are routed to it go to any of them.
func WithName(name string) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		c.name = name
		if err := check.Name("worker name", name); err != nil {
			return errorf("stint: WithName: %w", err)
		}
		return nil
	})
}

// WithDrainTimeout sets how long handlers may go on when the worker stops, before their
// contexts are canceled. The default is 30 s; with 0 they are canceled at once.
func WithDrainTimeout(d time.Duration) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if d < 0 {
			return fmt.Errorf("stint: WithDrainTimeout(%v): want 0 or more", d)
		}
		c.drain = d
		return nil
	})
}

// WithLabels sets the worker's labels, which WithAffinity looks for and ListWorkers shows. A
// value that is a number compares as one.
func WithLabels(labels map[string]string) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		c.labels = maps.Clone(labels)
		return checkLabels(labels)
	})
}

func checkLabels(labels map[string]string) error {
	if err := check.Count("labels", len(labels), check.MaxNames); err != nil {
		return errorf("stint: %w", err)
	}
	for name, value := range labels {
		if err := check.Name("label", name); err != nil {
			return errorf("stint: labels: %w", err)
		}
		if err := check.Text(fmt.Sprintf("value of label %q", name), value); err != nil {
			return errorf("stint: labels: %w", err)
		}
	}
	return nil
}

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

// SetLabels replaces the labels of a running worker at once.
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
	if err := check.Text("worker name", name); err != nil {
		return wrapStoreErr(op, err)
	}
	return wrapStoreErr(op, c.store.Pause(ctx, store.Pausable{Worker: name}, paused))
}

// ListWorkers returns the running workers, oldest first. A worker whose process has died is
// listed until another process notices, within a second.
func (c *Client) ListWorkers(ctx context.Context) ([]WorkerInfo, error) {
	all, err := c.store.Living(ctx)
	if err != nil {
		return nil, wrapStoreErr("list workers", err)
	}
	infos := make([]WorkerInfo, len(all))
	for i, w := range all {
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

// A slotWaiter is an execution that waits for its slots.
type slotWaiter struct {
	granted chan struct{} // closed when it has them
	cost    int
}

// freeSlots returns how many runs can start now. Executions that wait for their slots go
// first.
func (w *Worker) freeSlots() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.freeSlotsLocked()
	w.starved = n <= 0
	return n
}

func (w *Worker) freeSlotsLocked() int {
	n := w.cfg.slots - w.inUse
	for _, r := range w.slotWaiters {
		n -= r.cost
	}
	return n
}

// cost returns the slots a run of the task needs; 0 if the worker has too few. A workflow's
// tasks are charged the highest cost until one is started.
func (w *Worker) cost(task string) int {
	n := w.c.slotCost(task)
	if n > w.cfg.slots {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n > w.freeSlotsLocked() { // the run is passed over
		w.starved = true
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
		d = c.definitions.last(workflow)
	}
	switch {
	case d == nil:
		return 1
	case within && name == "" && d.workflow != nil:
		most := 1
		for _, n := range d.workflow.nodes {
			most = max(most, n.def.cfg.slotCost)
		}
		return most
	}
	if d = d.within(task); d == nil {
		return 1
	}
	return max(d.cfg.slotCost, 1)
}

// releaseSlots gives up an execution's slots, if it has them.
func (w *Worker) releaseSlots(e *execution) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.releaseSlotsLocked(e)
}

func (w *Worker) releaseSlotsLocked(e *execution) {
	if !e.hasSlot {
		return
	}
	e.hasSlot = false
	w.inUse -= e.cost
	w.holders--
	for len(w.slotWaiters) > 0 && w.inUse+w.slotWaiters[0].cost <= w.cfg.slots { // the slots are theirs
		w.inUse += w.slotWaiters[0].cost
		w.holders++
		close(w.slotWaiters[0].granted)
		w.slotWaiters = w.slotWaiters[1:]
	}
	signal(w.freed)
	if w.starved && w.cancelClaim != nil { // the waiting claim passed runs over: repeat it
		w.starved = false
		w.cancelClaim()
	}
}

// reacquireSlots waits for the slots of an execution that gave up its own.
func (w *Worker) reacquireSlots(ctx context.Context, e *execution) {
	w.mu.Lock()
	if e.hasSlot {
		w.mu.Unlock()
		return
	}
	if len(w.slotWaiters) == 0 && w.inUse+e.cost <= w.cfg.slots {
		w.inUse += e.cost
		w.holders++
		e.hasSlot = true
		w.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	w.slotWaiters = append(w.slotWaiters, slotWaiter{turn, e.cost})
	w.mu.Unlock()
	select {
	case <-turn:
	case <-ctx.Done(): // it goes on without a slot, unless one was just granted
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.slotWaiters, slotWaiter{turn, e.cost}); i >= 0 {
		w.slotWaiters = slices.Delete(w.slotWaiters, i, i+1)
		return
	}
	e.hasSlot = true
}

// lingerTime returns how long an execution that waits stays in memory.
func (w *Worker) lingerTime() time.Duration {
	if w.c.cfg.maxResident == 0 || w.draining() {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.running)-w.holders > w.c.cfg.maxResident {
		return 0
	}
	return lingerFor
}
