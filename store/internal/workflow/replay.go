package workflow

import (
	"fmt"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Replay runs the tasks again that failed or were canceled, and those that depend on them; all
// tasks if there are none, or whole is true. A task whose parents all stay starts now: as a new attempt if it had
// failed. The runs of the other tasks are deleted, and their joins are reset.
func Replay(rows Rows, key, node, now int64, whole bool) error {
	r, err := runOf(rows, key, node, now)
	if err != nil {
		return err
	}
	if err := r.restart(); err != nil {
		return err
	}
	old, err := r.oldTasks()
	if err != nil {
		return err
	}
	p := replay{r, old, Reruns(r.graph, whole, func(i int) store.State { return old[i].State })}
	for i := range old {
		if _, waits := p.join(r.graph.Tasks[i].Parents); p.reruns[i] && old[i].Key != 0 && (waits || !old[i].Begun) {
			if err := r.remake(&old[i]); err != nil {
				return err
			}
		}
	}
	return p.start()
}

// restart sets the workflow's own run back to its beginning.
func (r *run) restart() error {
	w, err := r.Runs().Run(r.key)
	if err == nil && w == nil {
		err = fmt.Errorf("workflow run %s: %w", r.Runs().ID(r.key), store.ErrNotFound)
	}
	if err != nil {
		return err
	}
	w.Begin(r.now)
	w.Ended, w.CancelAt, w.Error, w.Replayed = 0, 0, nil, 1
	if w.SetStartBy(r.now); w.StartBy > 0 {
		r.Runs().WakeAt(w.StartBy)
	}
	if err := r.Runs().Write(w); err != nil {
		return err
	}
	r.Changed(r.key)
	return r.DropJoins(r.key)
}

// remake deletes the run of a task, which gets a new one when its parents have ended. The new one
// continues to count attempts.
func (r *run) remake(o *Old) error {
	if o.Attempts > 0 {
		if err := r.KeepAttempts(r.key, o.Place, o.Attempts); err != nil {
			return err
		}
	}
	key := o.Key
	o.Key = 0
	return r.Delete(key)
}

// oldTasks returns the runs of the tasks, by place, and deletes those of on-failure and on-success
// tasks, which may have to run again.
func (r *run) oldTasks() ([]Old, error) {
	all, err := r.Tasks(r.key, r.node, r.node|int64(r.graph.Success()))
	if err != nil {
		return nil, err
	}
	old := make([]Old, len(r.graph.Tasks))
	for _, o := range all {
		if o.Place < len(old) {
			old[o.Place] = o
		} else if err := r.remake(&o); err != nil {
			return nil, err
		}
	}
	return old, nil
}

type replay struct {
	*run
	old    []Old
	reruns []bool
}

// join returns the JoinState of the parents that stay, and reports whether others run again.
func (p *replay) join(parents []int) (all JoinState, waits bool) {
	all.Cause = -1
	for _, parent := range parents {
		if p.reruns[parent] {
			waits = true
			continue
		}
		all = all.Join(JoinState{Ended: 1, Ran: p.old[parent].State != store.Skipped, Cause: -1})
	}
	return all, waits
}

// resetJoin stores the JoinState of the parents that stay, if there are others to wait for.
func (p *replay) resetJoin(place int, parents []int) (waits bool, err error) {
	all, waits := p.join(parents)
	if waits && all.Ended > 0 {
		_, err = p.ParentEnded(place, all)
	}
	return waits, err
}

// start resets the joins, and starts the tasks that wait for nothing.
func (p *replay) start() error {
	g := p.graph
	var leaves, ready []int
	for i := range g.Tasks {
		if g.Leaf(i) {
			leaves = append(leaves, i)
		}
		if !p.reruns[i] {
			continue
		}
		waits, err := p.resetJoin(i, g.Tasks[i].Parents)
		if err != nil {
			return err
		}
		if !waits {
			ready = append(ready, i)
		}
	}
	if _, err := p.resetJoin(g.End(), leaves); err != nil {
		return err
	}
	for _, i := range ready {
		if err := p.startAgain(i); err != nil {
			return err
		}
	}
	return nil
}

func (p *replay) startAgain(task int) error {
	if key := p.old[task].Key; key != 0 {
		t, err := p.Runs().Run(key)
		if err != nil || t == nil {
			return err
		}
		return lifecycle.Requeue(p.Runs(), t, p.now)
	}
	to, err := p.Start(task)
	if err != nil || !to.Terminal() {
		return err
	}
	return Advance(p, p.graph, task, to)
}
