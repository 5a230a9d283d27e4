package workflow

import (
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Rows are the rows of a transaction that workflows have besides their runs. An error of a method
// is returned at once.
type Rows interface {
	// Runs returns the runs.
	Runs() lifecycle.Rows
	// Graph returns a stored graph.
	Graph(id int64) (*store.Graph, error)
	// Shared returns what the tasks of a workflow's run share. It may be remembered until Changed.
	Shared(run int64) (Shared, error)
	Changed(run int64)

	// Insert inserts the run of a task.
	Insert(g *store.Graph, t Task) error
	// Exists reports whether a task of a workflow's run has a run.
	Exists(run, node int64) (bool, error)
	// TaskLimits returns the limits of a task, and their text in its row; "": none.
	TaskLimits(run int64, place int) (text string, limits []store.Limit, err error)
	// Admit admits a run that is about to be inserted, or returns the Limiter that it waits at.
	Admit(run int64, limits []store.Limit) (limiter *int64, err error)
	// Attempts returns how many attempts a task had made before its workflow was replayed, as
	// KeepAttempts has stored it.
	Attempts(run int64, place int) (int64, error)
	KeepAttempts(run int64, place int, attempts int64) error

	// ParentEnded adds a to the JoinState of a place, and returns the sum. DropJoins removes all.
	ParentEnded(run int64, place int, a JoinState) (JoinState, error)
	DropJoins(run int64) error
	// End ends a workflow's run that is Running, unless it was asked to cancel. It reports whether
	// it has.
	End(run int64, to store.State, now int64, reason []byte) (bool, error)
	// Over announces that a workflow's run has ended: Ended of Runs, where the state and the time are known.
	Over(run int64, to store.State, now int64)

	// EventSince returns when the first event came that matches, since a workflow's run was
	// enqueued; zero: none has. Came returns which events have come that a task waits for.
	EventSince(run int64, m *store.Match) (time.Time, error)
	Came(task int64) ([]Came, error)
	// AwaitEvent makes a task wait for an event, for a leaf of its conditions.
	AwaitEvent(task int64, leaf int, m *store.Match) error
	// Results returns the results of the predicates on a task's output, in JSON; nil: it has not
	// succeeded.
	Results(run, node int64) ([]byte, error)

	// Tasks returns the runs of tasks from one node to another, in their order. Delete deletes one.
	Tasks(run, from, to int64) ([]Old, error)
	Delete(task int64) error

	// Follows returns the worker that the tasks of a workflow's run follow; "": none yet. Stick makes them
	// follow a worker, and reports whether they followed none before. Unstarted returns those that have not
	// started, and MoveTask moves one to where it belongs then.
	Follows(run int64) (worker string, err error)
	Stick(run, worker int64) (bool, error)
	Unstarted(run int64) ([]Old, error)
	MoveTask(g *store.Graph, t Old) error
}

// Shared is what the tasks of a workflow's run share. Only a replay changes it.
type Shared struct {
	Priority int8
	Root     int64
	Replayed bool
	Route    store.Route // of the workflow's run
}

// A Task is the run of a workflow's task, to be inserted. Due is set only if it is Waiting.
type Task struct {
	lifecycle.Run
	Priority int8
	Root     int64
	Limits   string // "": none
	Limiter  *int64 // that it waits at; nil: it is ready
}

// Plain reports whether the run is ready, and nothing about it is unusual.
func (t *Task) Plain() bool {
	return t.State == store.Queued && t.StartBy == 0 && !t.Detached && t.Limits == "" && t.Attempt == 0
}

// An Old is the run of a task that was made before.
type Old struct {
	Key      int64 // 0: it is gone
	Place    int
	State    store.State
	Attempts int64
	Begun    bool // it was given to a worker
}

// A Came says that an event has come for a leaf.
type Came struct {
	Leaf int
	At   time.Time
}
