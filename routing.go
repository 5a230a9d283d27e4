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

// WithSlots sets how many runs the worker works at once. The default is 100.
func WithSlots(n int) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if n < 1 || n > maxSlots {
			return fmt.Errorf("stint: WithSlots(%d): want 1 to %d", n, maxSlots)
		}
		c.slots = n
		return nil
	})
}

// WithQueues has the worker take runs of these queues only; without the option it takes
// those of all. No name is an error: a list that turned out empty does not mean all.
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

// WithName names the worker, for people. The default is host name and process ID.
func WithName(name string) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		c.name = name
		if err := check.Name("worker name", name); err != nil {
			return errorf("stint: WithName: %w", err)
		}
		return nil
	})
}

// WithDrainTimeout sets how long running handlers get to end by themselves when the
// worker stops. The default is 30 s; 0 cancels them at once.
func WithDrainTimeout(d time.Duration) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		if d < 0 {
			return fmt.Errorf("stint: WithDrainTimeout(%v): want 0 or more", d)
		}
		c.drain = d
		return nil
	})
}

// WithLabels describes the worker: what runs with an affinity look for, and people. A
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

// An Affinity is what a task wants of a label of the worker that works it.
type Affinity struct {
	Label string
	// Comparator is one of = != > >= < <=; empty means =. The last four compare numbers: a
	// label that is none does not fit. A worker without the label fits != alone.
	Comparator string
	Value      any // a string, or a number of any type
	// Preferred, the worker need not fit: among those that may work the task and have slots
	// free, the one with the highest sum of weights gets it, if it takes it within a second.
	Preferred bool
	Weight    int // of a preference, from 1 to 1,000,000; 0 means 100
}

// WithAffinity has a task's runs worked by workers whose labels fit. It may be given
// several times.
func WithAffinity(wants ...Affinity) TaskOption {
	return taskOption(func(c *taskConfig) error {
		for _, a := range wants {
			w, err := a.toStore()
			if err != nil {
				return errorf("stint: WithAffinity: %w", err)
			}
			c.wants = append(c.wants, w)
		}
		if err := check.Count("affinities", len(c.wants), check.MaxNames); err != nil {
			return fmt.Errorf("stint: WithAffinity: %w", err)
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

// How runs stick to a worker.
const (
	// StickySoft prefers that worker, if it has slots free and takes the run within a second.
	StickySoft = store.StickySoft
	// StickyHard takes that worker alone: if it has gone, the run waits until one of its
	// name is there, or for the schedule timeout.
	StickyHard = store.StickyHard
)

// WithSticky has the tasks of a workflow's run follow the worker that took the first of
// them, and the runs of a task that are children the worker of their parent. Workers are
// told apart by their names. What WithAffinity asks comes first.
func WithSticky(s Sticky) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if s != StickySoft && s != StickyHard {
			return fmt.Errorf("stint: WithSticky(%d): want StickySoft or StickyHard", s)
		}
		c.sticky = s
		return nil
	})
}

// route is where a run of the task goes whose parent is e; nil: it has none.
func (d *taskDef) route(e *execution) store.Route {
	r := store.Route{Wants: d.cfg.wants}
	if e != nil && d.cfg.sticky != 0 && d.workflow == nil {
		r.To, r.Hard = e.w.cfg.name, d.cfg.sticky == StickyHard
	}
	return r
}

// SetLabels changes the labels of a worker that runs, at once.
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
	return wrapStoreErr("set labels", w.c.store.SetLabels(ctx, id, maps.Clone(labels)))
}

// A WorkerInfo is a worker that runs, of any process on the database.
type WorkerInfo struct {
	Name    string
	Host    string
	PID     int
	Started time.Time
	Slots   int
	Running int      // runs that it works
	Queues  []string // empty: all
	Labels  map[string]string
	Paused  bool
	Build   string // tells the program's builds apart
}

// PauseWorker has the workers of that name start nothing until ResumeWorker, or until
// they end; what runs goes on. It is ErrNotFound if none runs.
func (c *Client) PauseWorker(ctx context.Context, name string) error {
	return c.pauseWorker(ctx, "pause worker", name, true)
}

// ResumeWorker undoes PauseWorker.
func (c *Client) ResumeWorker(ctx context.Context, name string) error {
	return c.pauseWorker(ctx, "resume worker", name, false)
}

func (c *Client) pauseWorker(ctx context.Context, op, name string, paused bool) error {
	if err := check.Text("worker name", name); err != nil {
		return wrapStoreErr(op, err)
	}
	return wrapStoreErr(op, c.store.PauseWorker(ctx, name, paused))
}

// ListWorkers lists the workers that run, oldest first. One whose process has died is
// there until another process notices, within a second.
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

// WithSlotCost has a run of the task take n of its worker's slots. The default is 1. A
// worker with fewer slots leaves it to others. What is next in order and does not fit yet
// holds up what is behind it, so that it is not overtaken for ever.
func WithSlotCost(n int) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if n < 1 || n > maxSlots {
			return fmt.Errorf("stint: WithSlotCost(%d): want 1 to %d", n, maxSlots)
		}
		c.slotCost = n
		return nil
	})
}

// A slotWaiter is an execution that goes on when it has its slots again.
type slotWaiter struct {
	granted chan struct{} // closed then
	cost    int
}

// freeSlots is how many runs may start now. Executions that want their slot back go first.
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

// cost is how many slots a run of the task takes; 0: more than there are. Tasks of a
// workflow are counted as the dearest, until one is started.
func (w *Worker) cost(task string) int {
	n := w.c.slotCost(task)
	if n > w.cfg.slots {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n > w.freeSlotsLocked() { // it is passed over
		w.starved = true
	}
	return n
}

func (c *Client) slotCost(task string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if workflow, all := strings.CutSuffix(task, ":"); all && c.tasks[workflow] != nil && c.tasks[workflow].workflow != nil {
		most := 1
		for _, n := range c.tasks[workflow].workflow.nodes {
			most = max(most, n.def.cfg.slotCost)
		}
		return most
	}
	if d := c.tasks[task]; d != nil {
		return max(d.cfg.slotCost, 1)
	}
	return 1
}

// releaseSlots gives up an execution's slot, if it holds one.
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
	for len(w.slotWaiters) > 0 && w.inUse+w.slotWaiters[0].cost <= w.cfg.slots { // hand them over
		w.inUse += w.slotWaiters[0].cost
		w.holders++
		close(w.slotWaiters[0].granted)
		w.slotWaiters = w.slotWaiters[1:]
	}
	signal(w.freed)
	if w.starved && w.cancelClaim != nil { // the claim that waits was passed over: it asks again
		w.starved = false
		w.cancelClaim()
	}
}

// reacquireSlots takes slots for an execution that gave up its own, and waits for it.
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
	case <-ctx.Done(): // it ends without a slot, unless one was just given
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.slotWaiters, slotWaiter{turn, e.cost}); i >= 0 {
		w.slotWaiters = slices.Delete(w.slotWaiters, i, i+1)
		return
	}
	e.hasSlot = true
}

// lingerTime is how long an execution that waits stays in memory.
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
