package sqlite

import (
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// An oldTask is a task's run when its workflow is replayed.
type oldTask struct {
	id, place, attempts int64
	state               store.State
	ran                 bool
}

// replayWorkflow runs the tasks again that failed or were canceled, and those that depend on them; all
// tasks if there are none. A task whose parents all stay starts now: as a new attempt if it had failed.
// The runs of the other tasks are deleted, and their joins are reset.
func (ws *workflows) replayWorkflow(key, node, now int64) error {
	f, err := ws.workflowRun(key, node, now)
	if err != nil {
		return err
	}
	var endBy int64
	err = ws.one(`UPDATE stint_runs SET `+stateRunning+`, worker = 0, ended_at = NULL, cancel_at = NULL, error = NULL, started_at = ?2,
		start_by = ?2 + start_in, replayed = 1
		WHERE id = ?1 RETURNING coalesce(start_by, ?3)`, []any{key, now, never}, &endBy)
	if err != nil {
		return err
	}
	ws.timers.add(endBy)
	ws.drop(key)
	f.replayed = true
	if err := ws.exec("DELETE FROM stint_joins WHERE run = ?", key); err != nil {
		return err
	}
	old, err := f.oldTasks()
	if err != nil {
		return err
	}
	r := replay{f, old, f.Reruns(func(i int) store.State { return old[i].state })}
	for i := range f.Tasks {
		if _, waits := r.join(f.Tasks[i].Parents); r.reruns[i] && old[i].id != 0 && (waits || !old[i].ran) {
			if err := f.remake(&old[i]); err != nil {
				return err
			}
		}
	}
	return r.start()
}

// remake deletes the run of a task, which gets a new one when its parents have ended. The new one
// continues to count attempts.
func (f *workflowRun) remake(o *oldTask) error {
	if o.attempts > 0 {
		err := f.u.exec("INSERT OR REPLACE INTO stint_remade (run, place, attempts) VALUES (?, ?, ?)", f.key, o.place, o.attempts)
		if err != nil {
			return err
		}
	}
	id := o.id
	o.id = 0
	return f.u.runs.deleteRun(id)
}

// oldTasks reads the runs of the tasks, and deletes those of on-failure and on-success tasks, which may
// have to run again.
func (f *workflowRun) oldTasks() ([]oldTask, error) {
	rows, err := rowsOf(f.u, func(o *oldTask) []any { return []any{&o.id, &o.place, &o.attempts, &o.state, &o.ran} },
		"SELECT id, node & 1048575, attempt, state, lease > 0 FROM stint_runs WHERE parent = ? AND node >= ? AND node <= ? "+
			"ORDER BY parent, node",
		f.key, f.node, f.node|int64(f.Success()))
	if err != nil {
		return nil, err
	}
	old := make([]oldTask, len(f.Tasks))
	for _, o := range rows {
		if int(o.place) < len(old) {
			old[o.place] = o
		} else if err := f.remake(&o); err != nil {
			return nil, err
		}
	}
	return old, nil
}

type replay struct {
	f      *workflowRun
	old    []oldTask
	reruns []bool
}

// join returns the JoinState of the parents that stay, and reports whether others run again.
func (r *replay) join(parents []int) (all store.JoinState, waits bool) {
	all.Cause = -1
	for _, p := range parents {
		if r.reruns[p] {
			waits = true
			continue
		}
		all = all.Join(store.JoinState{Ended: 1, Ran: r.old[p].state != store.Skipped, Cause: -1})
	}
	return all, waits
}

// start resets the joins, and starts the tasks that wait for nothing.
func (r *replay) start() error {
	f := r.f
	join := func(place int, parents []int) (waits bool, err error) {
		all, waits := r.join(parents)
		if waits && all.Ended > 0 {
			_, err = f.ParentEnded(place, all)
		}
		return waits, err
	}
	var leaves, ready []int
	for i := range f.Tasks {
		if f.Leaf(i) {
			leaves = append(leaves, i)
		}
		if !r.reruns[i] {
			continue
		}
		waits, err := join(i, f.Tasks[i].Parents)
		if err != nil {
			return err
		}
		if !waits {
			ready = append(ready, i)
		}
	}
	if _, err := join(f.End(), leaves); err != nil {
		return err
	}
	for _, i := range ready {
		if id := r.old[i].id; id != 0 {
			old, err := f.u.runs.Run(id)
			if err == nil {
				err = lifecycle.Requeue(f.u.runs, old, f.now)
			}
			if err != nil {
				return err
			}
			continue
		}
		to, err := f.Start(i)
		if err == nil && to.Terminal() {
			err = f.Advance(f, i, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
