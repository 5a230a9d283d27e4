package workflow

import (
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
)

// A run is one run of a graph, over rows. It implements Run.
type run struct {
	Rows
	Shared
	graph *store.Graph
	key   int64 // the workflow run's
	node  int64 // graph << lifecycle.NodeBits
	now   int64
}

func runOf(rows Rows, key, node, now int64) (*run, error) {
	g, err := rows.Graph(node >> lifecycle.NodeBits)
	if err != nil {
		return nil, err
	}
	shared, err := rows.Shared(key)
	return &run{rows, shared, g, key, node >> lifecycle.NodeBits << lifecycle.NodeBits, now}, err
}

// Place returns the place in its graph of the task with a node.
func Place(node int64) int { return int(node & (1<<lifecycle.NodeBits - 1)) }

// BeginRun starts the first tasks of a workflow's run.
func BeginRun(rows Rows, key, node, now int64) error {
	r, err := runOf(rows, key, node, now)
	if err != nil {
		return err
	}
	return Begin(r, r.graph)
}

// TaskEnded does what follows from the end of a task. Nothing follows from the workflow's own end, or
// from that of its on-failure or on-success task.
func TaskEnded(rows Rows, key, node int64, to store.State, now int64) error {
	r, err := runOf(rows, key, node, now)
	if err != nil {
		return err
	}
	place := Place(node)
	if place >= len(r.graph.Tasks) {
		return nil
	}
	if to == store.Failed && r.graph.OnFailure != nil {
		if err := r.startHook(r.graph.Failure()); err != nil {
			return err
		}
	}
	return Advance(r, r.graph, place, to)
}

// startHook starts the on-failure or on-success task, once.
func (r *run) startHook(place int) error {
	there, err := r.Exists(r.key, r.node|int64(place))
	if err != nil || there {
		return err
	}
	_, err = r.insert(place, Task{Run: lifecycle.Run{State: store.Queued, Detached: true}})
	return err
}

// ParentEnded implements Run.
func (r *run) ParentEnded(place int, a JoinState) (JoinState, error) {
	return r.Rows.ParentEnded(r.key, place, a)
}

// EndUnstarted implements Run.
func (r *run) EndUnstarted(task int, to store.State, cause int) error {
	t := Task{Run: lifecycle.Run{State: to}}
	if cause >= 0 {
		t.Error = lifecycle.Failure(store.KindParent, r.didNotSucceed(cause))
	}
	_, err := r.insert(task, t)
	return err
}

func (r *run) didNotSucceed(task int) string {
	return fmt.Sprintf("task %q did not succeed", r.graph.Tasks[task].Name)
}

// EndWorkflow implements Run. One that was asked to cancel ends as canceled.
func (r *run) EndWorkflow(all JoinState) error {
	to := all.State()
	var reason []byte
	if to != store.Succeeded && all.Cause >= 0 {
		reason = lifecycle.Failure(store.KindWorkflow, r.didNotSucceed(all.Cause))
	}
	done, err := r.End(r.key, to, r.now, reason)
	if err != nil {
		return err
	}
	if !done {
		w, err := r.Runs().Run(r.key)
		if err != nil || w == nil || w.State != store.Running {
			return err
		}
		to = store.Canceled
		w.End(to, r.now, w.Error)
		if err := r.Runs().Write(w); err != nil {
			return err
		}
	}
	r.Over(r.key, to, r.now)
	r.Changed(r.key)
	if to == store.Succeeded && r.graph.OnSuccess != nil {
		return r.startHook(r.graph.Success())
	}
	return nil
}

// insert makes the run of a task, and returns its key. The end of a parent must not fail because of
// it: a task that can never be admitted is blocked.
func (r *run) insert(place int, t Task) (int64, error) {
	t.Key, t.Parent, t.Node = r.Runs().NextKey(r.now), r.key, r.node|int64(place)
	t.Priority, t.Root = r.Priority, r.Root
	task := r.graph.Task(place)
	if task.Priority != nil {
		t.Priority = *task.Priority
	}
	if t.StartIn = lifecycle.StartIn(task.StartIn); t.State == store.Queued {
		t.SetStartBy(r.now)
	}
	t.Rank = store.Rank(max(t.Due, keys.CreatedAt(t.Key)), t.Priority, r.graph.AgeEvery)
	if t.State.Terminal() {
		t.Ended = r.now
	}
	r.announce(&t.Run)
	if r.Replayed {
		n, err := r.Attempts(r.key, place)
		if err != nil {
			return 0, err
		}
		t.Attempt, t.Replayed = n, n
	}
	if err := r.limit(place, &t); err != nil {
		return 0, err
	}
	return t.Key, r.Insert(r.graph, t)
}

// limit admits a task that has limits, or makes it wait at one.
func (r *run) limit(place int, t *Task) (err error) {
	if !r.graph.Task(place).Limited {
		return nil
	}
	var all []store.Limit
	if t.Limits, all, err = r.TaskLimits(r.key, place); err != nil || t.Limits == "" || t.State != store.Queued {
		return err
	}
	t.Limiter, err = r.Admit(r.key, all)
	if errors.Is(err, limits.ErrUnits) || errors.Is(err, store.ErrNotFound) {
		t.State, t.Error = store.Blocked, lifecycle.Failure(store.KindCondition, err.Error())
		return nil
	}
	return err
}

// announce announces the times of a task's run.
func (r *run) announce(t *lifecycle.Run) {
	if t.StartBy > 0 {
		r.Runs().WakeAt(t.StartBy)
	}
	if t.State == store.Waiting && t.Due > 0 {
		r.Runs().WakeAt(t.Due)
	}
}

func millis(ms int64) time.Time { return clock.FromMillis(ms) }
