package lifecycle

import "github.com/stint-dev/stint/store"

// Rows are the runs of a transaction, and what follows from their changes. An error of a method is
// returned at once.
type Rows interface {
	// Key and ID convert between a run's ID and its key. ok is false if no run can have that ID.
	Key(id store.ID) (key int64, ok bool)
	ID(key int64) store.ID

	// Run returns a run; nil: there is none.
	Run(key int64) (*Run, error)
	// RunsOf returns the runs that a worker executes, Children those of a run's children that have
	// not ended and are not detached.
	RunsOf(worker int64) ([]*Run, error)
	Children(key int64) ([]int64, error)
	// Open reports whether there is a run that has not ended.
	Open(key int64) (bool, error)

	// Try makes a change if the run is Running, has that lease, and was not asked to cancel. It
	// reports whether it has.
	Try(key int64, lease store.Lease, c Change) (bool, error)
	// Write stores a run that was read.
	Write(r *Run) error
	// Resume queues a run that is Waiting and has a lease: from now on it is due.
	Resume(key, now int64) error
	// Queue queues runs, in their places.
	Queue(keys []int64) error
	// Delete deletes a run with all that is stored about it, and a workflow's tasks with it.
	Delete(key int64) error
	// KeepAttempt stores the last execution of a run with the earlier ones, unless it is there.
	KeepAttempt(r *Run, to store.State, ended int64, reason []byte) error
	// MoveLane moves a run to its lane for suspects, or back.
	MoveLane(r *Run, suspect bool) error
	// MoveQueue moves a run to its lane in another queue, and reports whether it was not there.
	MoveQueue(r *Run, queue string) (bool, error)

	// Blocked returns the runs that are Blocked, Builds the builds of the living workers.
	Blocked() ([]Blocked, error)
	Builds() ([]string, error)
	// Due, Overdue and Waiters return runs that are Scheduled and due, that are past StartBy, and
	// that are Waiting and due: the earliest, as many as one transaction may change.
	Due(now int64) ([]Due, error)
	Overdue(now int64) ([]int64, error)
	Waiters(now int64) ([]Waiter, error)
	// WakeAt announces a time that a row has.
	WakeAt(at int64)

	// Interrupt tells the worker of a run that it was asked to cancel.
	Interrupt(r *Run)
	// Ended announces that a run has ended: others may wait for it. Finished announces, counts and stores
	// what is known of one that its outcome has ended.
	Ended(key int64)
	Finished(o *store.Outcome, f Finished) error

	// NextKey returns a new key. Copy inserts a copy of a run, with its input, metadata, limits,
	// and what its journal had completed before an address.
	NextKey(now int64) int64
	Copy(from, to *Run, before store.Address) error

	// Record stores what a handler reported, if its run is Running and has that lease.
	Record(key int64, lease store.Lease, r *store.Record) error
	// Retried counts an attempt that another follows.
	Retried(o *store.Outcome)
	// MoveToTaskLane moves a workflow's task to the lane of workers that have a handler for it, in its queue.
	MoveToTaskLane(key, node int64) error
	// Follow enqueues runs that follow an outcome.
	Follow(runs []store.NewRun, now int64) error

	// EntryDone reports whether an entry of a run's journal is done, and else when it is due (0: at no time); ResetUndo prepares a run's
	// compensations for a new attempt; Forget is that of an Outcome.
	EntryDone(key int64, at store.Address) (done bool, due int64, err error)
	ResetUndo(key int64) error
	Forget(key int64, from store.Address) error
	// AwaitChild makes the end of a child resume a run.
	AwaitChild(child, run int64) error

	// BeginWorkflow begins a workflow's run, ReplayWorkflow replays one, Advance does what follows
	// from the end of a task of one. Reconsider decides a task again that waits; DropWaits forgets
	// for what it waits.
	BeginWorkflow(key, node, now int64) error
	ReplayWorkflow(key, node, now int64, whole bool) error
	Advance(parent, node int64, to store.State, now int64) error
	Reconsider(key, now int64) error
	DropWaits(key int64) error

	// ForRun calls f. An error of it that shows damage is of that run.
	ForRun(key int64, f func() error) error
}
