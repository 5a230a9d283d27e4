// Package workflow decides what runs of graphs do: which tasks start, which end unstarted, what
// follows from the end of one, what conditions say, and what a replay runs again.
//
// The package has no SQL, no clock and no goroutine: it reads and changes rows by Rows, which a
// store implements in a transaction.
package workflow

import "github.com/stint-dev/stint/store"

// A JoinState is how the parents of a task have ended: one, or all so far.
type JoinState struct {
	Ended    int  // how many
	Ran      bool // one was not skipped
	Failed   bool // one failed, or was canceled because another failed
	Canceled bool // one was canceled
	Cause    int  // a task that failed or was canceled by itself; -1: none
}

// Join returns the sum of a and b.
func (a JoinState) Join(b JoinState) JoinState {
	a.Ended += b.Ended
	a.Ran = a.Ran || b.Ran
	a.Failed = a.Failed || b.Failed
	a.Canceled = a.Canceled || b.Canceled
	if a.Cause < 0 {
		a.Cause = b.Cause
	}
	return a
}

// State returns the state in which a workflow's run ends.
func (a JoinState) State() store.State {
	switch {
	case a.Failed:
		return store.Failed
	case a.Canceled:
		return store.Canceled
	}
	return store.Succeeded
}

// A Run is one run of a graph, in a transaction of its store.
type Run interface {
	// ParentEnded adds a to the JoinState of the task, or the end, at a place, and returns the
	// sum. It is called if there are several parents.
	ParentEnded(place int, a JoinState) (JoinState, error)
	// Start creates the run of a task whose parents have all ended, and returns its state, which
	// its conditions decide.
	Start(task int) (store.State, error)
	// EndUnstarted creates the run of a task that ends without a start: as Canceled because of the
	// task at place cause (-1: none), or as Skipped.
	EndUnstarted(task int, to store.State, cause int) error
	// EndWorkflow ends the workflow's run.
	EndWorkflow(all JoinState) error
}

// Begin creates the runs of the tasks without parents.
func Begin(r Run, g *store.Graph) error {
	for i := range g.Tasks {
		if len(g.Tasks[i].Parents) > 0 {
			continue
		}
		to, err := r.Start(i)
		if err != nil {
			return err
		}
		if to.Terminal() {
			if err := Advance(r, g, i, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// Advance does what follows from the end of a task's run: it creates the runs of the tasks whose
// last parent this was, and of those that follow in turn. A task starts once all its parents have
// ended and at least one ran. If one failed or was canceled, the task is canceled, even if others
// were skipped. If all were skipped, it is skipped, unless it has a skip condition of its own.
func Advance(r Run, g *store.Graph, task int, to store.State) error {
	type end struct {
		place int
		how   JoinState
	}
	ended := []end{{task, joinState(task, to)}}
	for len(ended) > 0 {
		e := ended[len(ended)-1]
		ended = ended[:len(ended)-1]
		for _, c := range g.Children(e.place) {
			all := e.how
			if n := g.Joins(c); n > 1 {
				var err error
				if all, err = r.ParentEnded(c, e.how); err != nil {
					return err
				}
				if all.Ended < n {
					continue
				}
			}
			if c == g.End() {
				return r.EndWorkflow(all) // the last to end
			}
			to, how, err := startOrEnd(r, g, c, all)
			if err != nil {
				return err
			}
			if to.Terminal() {
				ended = append(ended, end{c, how})
			}
		}
	}
	return nil
}

func joinState(task int, to store.State) JoinState {
	a := JoinState{Ended: 1, Ran: to != store.Skipped, Failed: to == store.Failed, Canceled: to == store.Canceled, Cause: -1}
	if a.Failed || a.Canceled {
		a.Cause = task
	}
	return a
}

// startOrEnd starts a task whose parents have all ended, or ends it unstarted.
func startOrEnd(r Run, g *store.Graph, task int, all JoinState) (store.State, JoinState, error) {
	switch {
	case all.Failed || all.Canceled:
		how := all
		how.Ended, how.Canceled = 1, true
		return store.Canceled, how, r.EndUnstarted(task, store.Canceled, all.Cause)
	case !all.Ran && g.Tasks[task].SkipIf == nil:
		return store.Skipped, joinState(task, store.Skipped), r.EndUnstarted(task, store.Skipped, -1)
	}
	to, err := r.Start(task)
	return to, joinState(task, to), err
}

// Reruns reports which tasks a replay runs again: those that neither succeeded nor were skipped,
// and those that depend on them; all if there are none, or whole is true. state returns 0 for a task without a run.
func Reruns(g *store.Graph, whole bool, state func(task int) store.State) []bool {
	again, some := make([]bool, len(g.Tasks)), false
	for i := range g.Tasks {
		s := state(i)
		again[i] = s != store.Succeeded && s != store.Skipped
		for _, p := range g.Tasks[i].Parents {
			again[i] = again[i] || again[p]
		}
		some = some || again[i]
	}
	for i := range again {
		again[i] = again[i] || !some || whole
	}
	return again
}
