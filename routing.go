package stint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/stint-dev/stint/store"
)

// WithLabels describes the worker: what runs with an affinity look for, and people. A
// value that is a number compares as one.
func WithLabels(labels map[string]string) WorkerOption {
	return workerOption(func(c *workerConfig) error {
		c.labels = maps.Clone(labels)
		return checkLabels(labels)
	})
}

func checkLabels(labels map[string]string) error {
	if err := checkCount("labels", len(labels), maxNames); err != nil {
		return errorf("stint: %w", err)
	}
	for name, value := range labels {
		if err := checkName("label", name); err != nil {
			return errorf("stint: labels: %w", err)
		}
		if err := checkText(fmt.Sprintf("value of label %q", name), value); err != nil {
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
		if err := checkCount("affinities", len(c.wants), maxNames); err != nil {
			return fmt.Errorf("stint: WithAffinity: %w", err)
		}
		return nil
	})
}

func (a Affinity) toStore() (store.Want, error) {
	w := store.Want{Label: a.Label, Op: a.Comparator}
	if err := checkName("label", a.Label); err != nil {
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
		if err := checkText(fmt.Sprintf("value of label %q", a.Label), w.Value); err != nil {
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
	if err := checkText("worker name", name); err != nil {
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
		infos[i] = WorkerInfo{Name: w.Name, Host: w.Host, PID: w.PID, Started: w.Started, Slots: w.Slots, Running: w.Running, Queues: w.Queues, Labels: w.Labels, Paused: w.Paused, Build: w.Build}
	}
	return infos, nil
}
