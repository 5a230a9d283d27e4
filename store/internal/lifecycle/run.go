// Package lifecycle decides what becomes of runs: how a new one begins, what an outcome, a cancel,
// the death of a process, a replay or the time changes in one, and what follows.
//
// The package has no SQL, no clock and no goroutine: it reads and changes rows by Rows, which a
// store implements in a transaction. An outcome is decided for the usual run, without reading it,
// and the store makes that change by one fenced statement (Rows.Try). Only if that changes nothing
// is the row read, and the outcome decided for it.
package lifecycle

import (
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
)

// A Run holds the columns of a run that decide what becomes of it. Times are in milliseconds; 0
// is none.
type Run struct {
	Key      int64
	Lane     int64
	State    store.State
	Rank     int64 // store.Rank
	Attempt  int64
	Replayed int64       // attempts before the last replay; of a workflow's run 1, if it was replayed
	Lease    store.Lease // of the last execution; 0: it was never given to a worker
	Crashes  int64
	Spent    int64 // milliseconds of its time limit that the attempt has used
	Worker   int64 // of the last execution; a store does not change it

	Detached bool // it outlives its parent
	Workflow bool // a workflow's run
	Resumed  bool // its handler goes on after a wait
	Forked   bool // it began with the journal of another run

	Due      int64 // 0: when it was created
	Started  int64
	Ended    int64
	CancelAt int64 // when it was asked to cancel, if it did not end at once
	StartBy  int64 // when it is canceled unless it has started; a workflow's run: ended
	StartIn  int64 // StartBy counts from when it is due; 0: it has none

	Parent int64 // 0: none
	Node   int64 // of a workflow and its tasks: graph << NodeBits | place; else 0

	Output, Error []byte // Output is not read: only runs that have ended have one
	Limited       bool   // it has limits
	Journal       bool   // there are entries, from which its handler may go on
	Undo          bool   // there are compensations that are not done
}

// NodeBits is the number of bits below the graph of a node.
const NodeBits = 20

// IsTask reports whether the run is a workflow's task.
func (r *Run) IsTask() bool { return r.Node != 0 && !r.Workflow }

// DueAt returns when the run is due.
func (r *Run) DueAt() int64 {
	if r.Due == 0 {
		return keys.CreatedAt(r.Key)
	}
	return r.Due
}

// SetDue changes when the run is due (0: when it was created), and its rank by as much.
func (r *Run) SetDue(at int64) {
	was := r.DueAt()
	r.Due = at
	r.Rank += r.DueAt() - was
}

// SetStartBy counts StartIn from a time on.
func (r *Run) SetStartBy(from int64) {
	if r.StartBy = 0; r.StartIn > 0 {
		r.StartBy = from + r.StartIn
	}
}

// End ends the run.
func (r *Run) End(to store.State, now int64, reason []byte) {
	r.State, r.Ended, r.StartBy, r.Error = to, now, 0, reason
}

// Begin starts a workflow's run: its tasks start.
func (r *Run) Begin(now int64) { r.State, r.Started = store.Running, now }
