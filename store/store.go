package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
)

// Errors of every store, for errors.Is. A store may wrap them with the attempt that failed.
var (
	// ErrClosed reports a call on a closed store.
	ErrClosed = errors.New("store is closed")
	// ErrNotFound reports that something that the call names does not exist: a run, a cron, a worker and so on.
	ErrNotFound = errors.New("not found")
	// ErrStale reports that the run was given to another execution, or has ended.
	ErrStale = errors.New("stale execution")
	// ErrParentCanceled reports that the Parent of a run to enqueue was canceled: see NewRun.ParentNamed.
	ErrParentCanceled = errors.New("the parent was canceled")
	// ErrReadOnly reports a change through a read-only store.
	ErrReadOnly = errors.New("store is read-only")
	// ErrUnavailable reports that the store cannot write at present: the disk is full, say, or the server is
	// away. Nothing was changed, and the call may be repeated later.
	ErrUnavailable = errors.New("the store cannot write at present")
	// ErrMoved reports that `stint move` has moved the rows to another database, which the error names. Nothing was
	// changed. A store whose rows have moved returns it from every call.
	ErrMoved = errors.New("the database has moved")
)

// Kinds of ErrUnavailable.
var (
	// ErrBusy reports that another program kept the database locked for longer than the store waits.
	ErrBusy error = unavailable("database is locked by another program")
	// ErrFileGone reports that the database's file was removed or moved while it was open. ErrReplaced reports that
	// another file is at its path.
	ErrFileGone error = unavailable("database file is gone")
	ErrReplaced error = unavailable("database file was replaced by another")
)

type unavailable string

func (e unavailable) Error() string { return string(e) }

// Is makes the error an ErrUnavailable.
func (unavailable) Is(target error) bool { return target == ErrUnavailable }

// An ID names a run or an event. It is a UUIDv7 that the store assigns. IDs increase in the order of enqueueing and
// publishing.
type ID = uuid.UUID

// Runs moves runs through their states.
type Runs interface {
	// Enqueue stores all runs or none, in order, in one commit. It keeps no reference to its arguments after it has
	// returned. The error is ErrNotFound if a Parent does not exist, ErrParentCanceled as NewRun.ParentNamed says, and
	// ErrStale if the first run's Call is stale.
	Enqueue(ctx context.Context, now time.Time, runs []NewRun) ([]Enqueued, error)
	// Claim gives the worker runs that may start, as many as fit into its Free slots, in order: highest effective
	// priority first, then earliest due, then first enqueued. It waits until there is at least one, or until ctx is
	// done. When Claim returns, its runs are Running, and that is committed.
	Claim(ctx context.Context, r ClaimRequest) ([]Claimed, error)
	// Append records the entry of a durable call, or completes the pending entry at its address, and returns the entry
	// that is at the address then. If that waits for an event that has been published already, it is returned Done, with
	// the event's payload. stale reports that the call's Lease is no longer that of the run; then nothing is recorded.
	Append(ctx context.Context, now time.Time, c Call) (e Entry, stale bool, err error)
	// Record stores what running handlers reported, and reports for each record whether it was stale: its Lease is no
	// longer that of the run. Of a record whose Lease is zero, only the Logs are stored, in whatever state the run is;
	// such a record is stale if the run does not exist.
	Record(ctx context.Context, records []Record) (stale []bool, err error)
	// Finish records outcomes, and reports for each whether it was stale: the run was given to another
	// execution, or had ended. A stale outcome changes nothing.
	//
	// A run that was asked to cancel (Run.CancelAt) ends as Canceled, unless it has something to clean up: it has a
	// journal and To is not terminal, or it has pending compensations (see UndoScope). Such a run becomes Queued once
	// more, or Blocked if To is Blocked, and keeps its CancelAt.
	Finish(ctx context.Context, now time.Time, outcomes []Outcome) (stale []bool, err error)
	// Act cancels, replays, deletes or moves all runs that match f and are in a state that the action is for (see
	// ActionKind), and returns how many. With Action.DryRun it only counts them.
	Act(ctx context.Context, now time.Time, a Action, f Filter) (int, error)
	// Expire deletes old rows in small batches, and returns how many runs it deleted. It deletes
	//
	//   - succeeded, canceled and skipped runs that ended before done, and failed runs that ended before failed; a run
	//     whose Parent is stored stays as long as that;
	//   - events that were published before done;
	//   - rate limits that came with runs, and that no run has used for an hour;
	//   - counters that are older than MinutesKept or HoursKept;
	//   - error groups whose error has not occurred for HoursKept, unless ErrorGroup.MutedTill is in the future, and those
	//     beyond MaxErrorGroups.
	Expire(ctx context.Context, done, failed time.Time) (int, error)
}

// History reads runs, with their journals, logs and streams.
type History interface {
	// Get returns a run with its attempts, or ErrNotFound.
	Get(ctx context.Context, id ID) (*Run, error)
	// Workflow returns the graph of a workflow's run; that run itself, with the Place that Graph.End returns; and the
	// runs of the tasks with the given names (nil: all tasks, with the on-failure and on-success tasks). The error is
	// ErrNotFound if there is no such run, or it is not a workflow's.
	Workflow(ctx context.Context, id ID, names []string) (*Graph, []WorkflowTask, error)
	// List returns up to limit runs that match and are older than before (zero: from the newest), newest first. With
	// f.Oldest it returns those that are newer than before, oldest first. next is the before of the next page, or zero
	// if this is the last one. A page ends early, but has at least one run if any matches, before its runs exceed
	// MaxPageBytes by their Size. With f.Scan a page that is not the last may be empty. The error is ErrNotFound if
	// before is not an ID of this database.
	List(ctx context.Context, f Filter, before ID, limit int) (runs []Run, next ID, err error)
	// Count counts the runs that match and are older than before (zero: all). With f.Scan it counts part of them: next is
	// then the before of the next part, or zero if this was the last one. The error is as for List.
	Count(ctx context.Context, f Filter, before ID) (n int, next ID, err error)
	// Entries returns up to limit entries of a run's journal after an address (zero: from the first), ordered by scope
	// and number. It returns fewer, but at least one if there is one, before they exceed MaxPageBytes. A negative limit
	// means all entries, whatever their size. more reports whether others follow. Entries of the kind EntryNote are
	// left out unless notes is true. A run that does not exist has no entries, and that is no error.
	Entries(ctx context.Context, id ID, after Address, limit int, notes bool) (entries []Entry, more bool, err error)
	// Logs returns up to limit lines of a run with numbers above after, oldest first. It returns fewer, but at least
	// one if there is one, before they exceed MaxPageBytes.
	Logs(ctx context.Context, id ID, after int64, limit int) ([]Log, error)
	// Chunks returns up to limit chunks of a run's stream with numbers above after. It returns fewer as Logs does. A
	// negative after leaves out all stored chunks but the last -after. ended reports that the run has ended and these
	// are its last chunks. The error is ErrNotFound if the run does not exist.
	Chunks(ctx context.Context, id ID, after int64, limit int) (chunks []Chunk, ended bool, err error)
	// Await waits until the run has ended, or has the chunk or the entry of u, and returns its result. It returns at
	// once, with a State of 0, if the run does not exist.
	Await(ctx context.Context, id ID, u Until) (Result, error)
}

// Workers registers workers, and recovers the runs of dead ones.
type Workers interface {
	// Register adds a worker, and returns its ID. The worker lives until Unregister, or until the store that registered
	// it is closed or its process dies. A run that is Blocked because its code could not go on, such as after a change
	// of that code, is queued again once a worker of another build lives and none of the build that blocked it.
	//
	// If w.ID is that of a worker, Register changes the Labels and the Tasks of that worker, each unless it is nil, and
	// nothing else.
	Register(ctx context.Context, w WorkerInfo) (int64, error)
	// Unregister removes a worker, and queues the runs that it still executes. Their attempt does not
	// count.
	Unregister(ctx context.Context, worker int64) error
	// Recover waits until a process that had the database open has died, and queues the runs that it executed behind
	// all others. Their attempt does not count. A run that was asked to cancel ends, unless it has a journal: such a run
	// executes once more to clean up.
	//
	// A run whose processes have died SuspectCrashes times is a suspect: it is queued after a delay, starts when nothing
	// else may start, and no two suspects execute at the same time. After MaxCrashes deaths it is Blocked; or it ends,
	// if it was asked to cancel and has no pending compensation.
	Recover(ctx context.Context) (Recovered, error)
	// Watch waits until there is a signal for the worker or one of its runs that an earlier Watch has not returned.
	Watch(ctx context.Context, worker int64) (Signals, error)
}

// Schedules starts runs at times and by events.
type Schedules interface {
	// Declare replaces the declared crons and triggers of each task by those of its Declaration. Crons of CronSet stay.
	// A cron or trigger that did not change keeps its state, such as its next tick.
	//
	// A declaration ends when a worker of the same Program registers whose Defines lacks the task, while no living
	// worker has it. If the task is declared again, its crons and triggers continue where they ended: crons catch up on
	// missed ticks by their CatchUp, and triggers on all missed events if they ended at most CatchUpGraceTime ago.
	Declare(ctx context.Context, now time.Time, ds []Declaration) error
	// Publish stores events in order, resumes the runs that wait for them, and enqueues a run for each trigger that
	// matches, in one commit. Such a run has the event's payload as its input, and the event's metadata with MetaEvent,
	// MetaEventKey and MetaPayload. Publish returns the events' IDs. The error is ErrStale if the first event's Call is
	// stale.
	Publish(ctx context.Context, now time.Time, events []NewEvent) ([]ID, error)
}

// Health describes the database itself, and its condition.
type Health interface {
	// Changed waits until the number of changes, by all processes, is not after, which is 0 or the result of an earlier
	// call, and returns that number. It misses no change, but may return when nothing has changed. A commit adds one or
	// more to the number.
	Changed(ctx context.Context, after uint64) (uint64, error)
	// Facts describes the database.
	Facts(ctx context.Context) (Facts, error)
	// Check looks for damage, and returns a description of each problem. It changes nothing.
	Check(ctx context.Context) ([]string, error)
	// Healthy returns nil, or why the store cannot write at present, such as that its file is no longer
	// at its path.
	Healthy() error
}

// A Store keeps the state of an engine. Its methods may be called concurrently.
//
// An error of a store that cannot write at present is ErrUnavailable: nothing was changed, and the call
// may be repeated later.
type Store interface {
	Runs
	History
	Workers
	Schedules
	Lists
	Changes
	Health
	// Close waits for the changes that were begun, queues the runs that the store's workers still execute, and closes
	// the database. Later calls return ErrClosed.
	Close() error
}

// A Tx is the part of *sql.Tx that AppTx needs.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// AppTx is an optional interface of a Store: it takes part in the app's transactions on the same database.
type AppTx interface {
	// EnqueueTx enqueues in the app's transaction. The runs exist if and only if it commits, and start
	// promptly after that.
	EnqueueTx(ctx context.Context, now time.Time, tx Tx, runs []NewRun) ([]Enqueued, error)
	// PublishTx publishes in the app's transaction. The events exist if and only if it commits, and take
	// effect promptly after that.
	PublishTx(ctx context.Context, now time.Time, tx Tx, events []NewEvent) ([]ID, error)
	// BeginTx begins a transaction that the app may use, for AppendTx.
	BeginTx(ctx context.Context) (*sql.Tx, error)
	// AppendTx is Append in a transaction.
	AppendTx(ctx context.Context, now time.Time, tx Tx, c Call) (e Entry, stale bool, err error)
	// Unavailable reports whether an error of a statement in such a transaction means what ErrUnavailable
	// does: the transaction may be repeated later.
	Unavailable(err error) bool
}

// Clock is an optional interface of a Store whose database has a clock of its own, such as a server's. All times that such
// a store is given, such as now, are of that clock, and so are all times that it returns.
type Clock interface {
	// Now returns the time of the database, as far as the store knows it.
	Now() time.Time
}

// Backuper is an optional interface of a Store: it copies its database to a file.
type Backuper interface {
	// Backup writes a consistent copy of the database to a new file.
	Backup(ctx context.Context, path string) error
}

const (
	// MaxCrashes is how many times a process must die while it executes a run until the run is Blocked.
	MaxCrashes = 5
	// SuspectCrashes is how many such deaths make a run a suspect. No two suspects execute at the same time.
	SuspectCrashes = 2
	// MaxCount is the number at which lists stop counting runs.
	MaxCount = 10_000
	// MaxLimits is the highest number of limits in a LimitList.
	MaxLimits = 10_000
	// MaxPageBytes is the highest sum of the sizes of the rows of a page, in bytes: see the Size methods. A single row may
	// exceed it.
	MaxPageBytes = 8 << 20
	// MaxLogs is how many lines are kept of a run's log: the newest ones.
	MaxLogs = 10_000
)

// Kinds of the errors with which a store itself ends or blocks a run. They are the "kind" of the stored error, which is
// JSON: see Run.Error.
const (
	KindParent     = "parent"     // a task is canceled: one that it depends on failed or was canceled
	KindWorkflow   = "workflow"   // a workflow's run failed or is canceled: one of its tasks did not succeed
	KindCondition  = "condition"  // a task is blocked: one of its conditions cannot be decided
	KindDamaged    = "damaged"    // a run is blocked: its rows were changed by something other than a store
	KindQuarantine = "quarantine" // a run is blocked: its processes died MaxCrashes times
)

// Values of Run.Error with which a store itself ends or blocks a run.
const (
	EndByError      = `{"kind":"schedule_timeout","message":"the workflow did not end in time"}`
	StartByError    = `{"kind":"schedule_timeout","message":"did not start in time"}`
	CrashError      = `{"kind":"crash","message":"the process died while the run was executing"}`
	QuarantineError = `{"kind":"quarantine","message":"the process died 5 times while this run was executing; replay or cancel it"}`
)
