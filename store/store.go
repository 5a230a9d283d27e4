package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
)

// Errors of every store, wrapped with what was attempted.
var (
	ErrClosed   = errors.New("store is closed")
	ErrNotFound = errors.New("not found")
	// ErrStale reports that the run was given to another execution, or has ended.
	ErrStale = errors.New("stale execution")
	// ErrParentCanceled reports that a run's Parent was canceled: see NewRun.ParentNamed.
	ErrParentCanceled = errors.New("the parent was canceled")
	// ErrReadOnly reports a change through a read-only store.
	ErrReadOnly = errors.New("store is read-only")
	// ErrUnavailable reports that the store cannot write at present: the disk is full, say, or the server is
	// away. Nothing was changed, and the call may be repeated later.
	ErrUnavailable = errors.New("the store cannot write at present")
	// ErrMoved reports that the database has moved to another, which the error names: see `stint move`. Nothing
	// was changed. A store that has moved returns it from every call.
	ErrMoved = errors.New("the database has moved")
)

// Kinds of ErrUnavailable.
var (
	// ErrBusy reports that another program kept the database locked for longer than the store waits.
	ErrBusy error = unavailable("database is locked by another program")
	// ErrFileGone reports that the database's file was removed or moved while it was open, ErrReplaced
	// that another file is at its path.
	ErrFileGone error = unavailable("database file is gone")
	ErrReplaced error = unavailable("database file was replaced by another")
)

type unavailable string

func (e unavailable) Error() string { return string(e) }

// Is makes the error an ErrUnavailable.
func (unavailable) Is(target error) bool { return target == ErrUnavailable }

// An ID names a run: a UUIDv7, assigned by the store, increasing in the order of enqueueing.
type ID = uuid.UUID

// Runs moves runs through their states.
type Runs interface {
	// Enqueue stores all runs or none, in order, in one commit. It retains nothing. ErrNotFound if a Parent
	// does not exist, ErrParentCanceled by ParentNamed, ErrStale if the first run's Call is stale.
	Enqueue(ctx context.Context, now time.Time, runs []NewRun) ([]Enqueued, error)
	// Claim gives the worker up to Free runs that may start, in order: highest effective priority first,
	// then earliest due, then first enqueued. It waits until there is at least one, or ctx is done.
	// What it returns is committed.
	Claim(ctx context.Context, r ClaimRequest) ([]Claimed, error)
	// Append records a durable call's entry, or completes the pending one at its address, and returns the
	// entry there: for an event that has been published, with its payload. stale reports that the lease
	// is old, and nothing was recorded.
	Append(ctx context.Context, now time.Time, c Call) (e Entry, stale bool, err error)
	// Record stores what running handlers reported, and reports for each record whether it was stale. A
	// record whose Lease is zero is of no execution: of it only Logs are stored, in whatever state the run
	// is, and it is stale if the run does not exist.
	Record(ctx context.Context, records []Record) (stale []bool, err error)
	// Finish records outcomes, and reports for each whether it was stale: the run was given to another
	// execution, or had ended. A stale outcome changes nothing.
	//
	// A run that was asked to cancel ends as Canceled, unless it has something to clean up: it has a
	// journal and To is not terminal, or it has pending compensations; see UndoScope. Then it is Queued
	// once more, or Blocked if To is Blocked, and stays asked to cancel.
	Finish(ctx context.Context, now time.Time, outcomes []Outcome) (stale []bool, err error)
	// Act cancels, replays, deletes or moves all runs that match and that the action concerns, and returns
	// how many; with DryRun it only counts them.
	Act(ctx context.Context, now time.Time, a Action, f Filter) (int, error)
	// Expire deletes, in small batches, what is old: succeeded, canceled and skipped runs that ended before
	// done, failed ones that ended before failed, events published before done, rate limits that came with
	// runs and were not used for an hour, counters, and error groups that were not seen as long as those are kept, unless
	// they are muted, or that are over MaxErrorGroups. A run whose Parent is there stays with it. It returns how many runs it deleted.
	Expire(ctx context.Context, done, failed time.Time) (int, error)
}

// History reads runs, and what they have recorded.
type History interface {
	// Get returns a run with its attempts, or ErrNotFound.
	Get(ctx context.Context, id ID) (*Run, error)
	// Workflow returns a workflow run's graph; that run itself, with Place End; and the runs of its tasks
	// with the given names (nil: all, and the on-failure and on-success tasks). ErrNotFound if there is
	// no such run, or it is not a workflow's.
	Workflow(ctx context.Context, id ID, names []string) (*Graph, []WorkflowTask, error)
	// List returns up to limit runs that match, newest first, older than before (zero: from the newest).
	// next is the before of the next page, or zero if this is the last. A page has at least one run, and
	// ends before its Size exceeds MaxPageBytes. With f.Oldest it goes the other way.
	List(ctx context.Context, f Filter, before ID, limit int) (runs []Run, next ID, err error)
	// Count counts the runs that match and are older than before (zero: all). With Scan it counts only part of them,
	// and next is the before of the rest, or zero if this was the last part.
	Count(ctx context.Context, f Filter, before ID) (n int, next ID, err error)
	// Entries returns up to limit entries of a run's journal after an address (zero: from the first), by
	// scope and number. It returns at least one, and fewer than limit rather than more than MaxPageBytes;
	// a negative limit means all entries, whatever their size. more reports whether there are others. It
	// skips EntryNote unless notes is true. A run that does not exist has no entries.
	Entries(ctx context.Context, id ID, after Address, limit int, notes bool) (entries []Entry, more bool, err error)
	// Logs returns up to limit lines of a run after the given line number, oldest first. It returns at
	// least one, and fewer than limit rather than more than MaxPageBytes.
	Logs(ctx context.Context, id ID, after int64, limit int) ([]Log, error)
	// Chunks returns up to limit stream chunks of a run after the given one, limited as Logs; a negative
	// after means all but the last -after of those that there are. It also reports whether the run has
	// ended and these are its last chunks. ErrNotFound if the run does not exist.
	Chunks(ctx context.Context, id ID, after int64, limit int) ([]Chunk, bool, error)
	// Await waits until the run has ended, does not exist, or has what u names, and returns its result.
	Await(ctx context.Context, id ID, u Until) (Result, error)
}

// Workers registers workers, and recovers the runs of dead ones.
type Workers interface {
	// Register adds a worker, and returns its number. The worker lives while the store that registered
	// it is open, or until Unregister. A run that its handler blocked is queued again once a worker of
	// another build lives and none of the build that blocked it.
	//
	// With the ID of a worker it changes that worker's Labels and Tasks, each unless it is nil, and
	// nothing else.
	Register(ctx context.Context, w WorkerInfo) (int64, error)
	// Unregister removes a worker, and queues the runs that it still executes. Their attempt does not
	// count.
	Unregister(ctx context.Context, worker int64) error
	// Recover waits until a process that had the database open has died, and queues its runs behind all
	// others. Their attempt does not count. A run that was asked to cancel ends, unless it has a journal:
	// then it runs once more to clean up.
	//
	// From its second death on a run is a suspect: it comes back after a delay, when nothing else may
	// start, and no two suspects execute at the same time. After MaxCrashes deaths it is Blocked; or it
	// ends, if it was asked to cancel and has no pending compensation.
	Recover(ctx context.Context) (Recovered, error)
	// Watch waits until there is a signal for the worker, or one of its runs, that it has not returned
	// before.
	Watch(ctx context.Context, worker int64) (Signals, error)
}

// Schedules starts runs at times and by events.
type Schedules interface {
	// Declare sets the crons and triggers of tasks to those declared. Other crons stay, and so does the
	// state of what did not change.
	//
	// A declaration ends when a worker of the same Program registers that does not define its task, and no
	// living worker does. If it is declared again it continues, and catches up: on ticks by its CatchUp, on
	// events of the last CatchUpGraceTime.
	Declare(ctx context.Context, now time.Time, ds []Declaration) error
	// Publish stores events in order, resumes the runs that wait for them, and enqueues the runs of
	// triggers that match, in one commit. Such a run has the event's payload as its input, and the
	// event's metadata with MetaEvent, MetaEventKey and MetaPayload. Publish returns the events' IDs.
	// ErrStale if the first event's Call is stale.
	Publish(ctx context.Context, now time.Time, events []NewEvent) ([]ID, error)
}

// Health says how the database is.
type Health interface {
	// Changed waits for a change after the number that an earlier call returned, or 0, and
	// returns the present number. It misses nothing, but may return when nothing has changed.
	// The number rises by one or more a commit, more if more was done.
	Changed(ctx context.Context, after uint64) (uint64, error)
	// Facts describes the database.
	Facts(ctx context.Context) (Facts, error)
	// Check looks for damage, and describes what it found. It changes nothing.
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
	// Close waits for what was begun, and queues the runs that the store's workers still execute.
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

// Clock is an optional interface of a Store: its database's clock decides. All instants that the store is
// given are by that clock, such as now, and so are those that it returns.
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
	// MaxCrashes is the number of deaths of its process after which a run is Blocked.
	MaxCrashes = 5
	// SuspectCrashes is the number of deaths that make a run a suspect, which executes only while no other does.
	SuspectCrashes = 2
	// MaxCount is the highest count of runs in a list.
	MaxCount = 10_000
	// MaxLimits is the highest number of limits in a list.
	MaxLimits = 10_000
	// MaxPageBytes is the highest number of bytes of payloads and texts in a page, unless its only row has more.
	MaxPageBytes = 8 << 20
	// MaxLogs is the number of log lines of a run that are kept: the last ones.
	MaxLogs = 10_000
)

// Kinds of the errors that a store writes by itself, encoded as the engine encodes all errors.
const (
	KindParent     = "parent"     // canceled: a task it depends on failed or was canceled
	KindWorkflow   = "workflow"   // the workflow's run: one of its tasks did not succeed
	KindCondition  = "condition"  // blocked: a condition cannot be decided
	KindDamaged    = "damaged"    // blocked: its rows were changed by other means
	KindQuarantine = "quarantine" // blocked: its process died too often
)

// What a store writes as Run.Error where it ends or blocks a run by itself, encoded as the engine
// encodes all errors.
const (
	EndByError      = `{"kind":"schedule_timeout","message":"the workflow did not end in time"}`
	StartByError    = `{"kind":"schedule_timeout","message":"did not start in time"}`
	CrashError      = `{"kind":"crash","message":"the process died while the run was executing"}`
	QuarantineError = `{"kind":"quarantine","message":"the process died 5 times while this run was executing; replay or cancel it"}`
)
