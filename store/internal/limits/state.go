package limits

import "github.com/stint-dev/stint/store"

// A State holds the columns of a run that decide what it holds of its limits.
type State struct {
	State    store.State
	Limiter  *int64 // that it waits at, if it is queued; nil: it is ready; 0 or less: it has asked none yet
	Workflow bool   // a workflow's run
	Resumed  bool   // its handler goes on after a wait
	Begun    bool   // it was executed before
}

// A Transition is a run whose state has changed.
type Transition struct {
	Run           int64
	Before, After State
	Limits        []store.Limit
	SetBy         int64 // key of the enqueue that its limits came with, if it wants to be admitted
}

// SetBy returns the key of the enqueue that a run's limits came with: of a workflow's task, the workflow's. A fork has
// those of an older run, so it sets nothing: 0.
func SetBy(run, workflow int64, task, forked bool) int64 {
	switch {
	case forked:
		return 0
	case task:
		return workflow
	}
	return run
}

// A holding is what a run has of a limiter.
type holding uint8

const (
	nothing  holding = iota
	turn             // of a concurrency limit: admitted, but it waits at a later limiter
	admitted         // it is ready
	share            // it has started
)

// What each holding counts for at the limiter of a concurrency limit.
var (
	admittedOf = [...]int64{turn: 1, admitted: 1, share: 0}
	activeOf   = [...]int64{turn: 0, admitted: 1, share: 1}
)

// Ready reports whether claims see the run.
func (s *State) Ready() bool { return s.State == store.Queued && s.Limiter == nil }

// waitsAt returns the limiter that the run waits at; 0: none.
func (s *State) waitsAt() int64 {
	if s.State != store.Queued || s.Limiter == nil {
		return 0
	}
	return max(*s.Limiter, 0)
}

// keeps reports whether a run that goes on after a wait still has what a limit gave it.
func (s *State) keeps(l *store.Limit) bool { return s.Resumed && (l.Rate() || !l.Release) }

// holds returns what the run has of a limit's limiter.
func (s *State) holds(l *store.Limit) holding {
	switch {
	case l.Rate() && (!s.Ready() || s.Resumed):
		return nothing
	case s.Ready() && s.Resumed && !l.Release:
		return share
	case s.Ready():
		return admitted
	case s.State == store.Queued && s.Resumed && !l.Release: // it waits for a share that it gave up of another
		return share
	case s.State == store.Running, s.State == store.Waiting && s.Begun && !l.Release:
		return share
	}
	return nothing
}
