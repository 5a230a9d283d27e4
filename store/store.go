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
	// ErrBusy reports that another program kept the database locked for longer than the store waits.
	// Nothing was changed.
	ErrBusy = errors.New("database is locked by another program")
	// ErrStale reports that the run was given to another execution, or has ended.
	ErrStale = errors.New("stale execution")
	// ErrReadOnly reports a change through a read-only store.
	ErrReadOnly = errors.New("store is read-only")
	// ErrFileGone reports that the database's file was removed or moved while it was open, ErrReplaced
	// that another file is at its path. Nothing is acknowledged from then on.
	ErrFileGone = errors.New("database file is gone")
	ErrReplaced = errors.New("database file was replaced by another")
)

// An ID names a run: a UUIDv7, assigned by the store, increasing in the order of enqueueing.
type ID = uuid.UUID

// Runs moves runs through their states.
type Runs interface {
	// Enqueue stores all runs or none, in order, in one commit. It retains nothing.
	Enqueue(ctx context.Context, now time.Time, runs []NewRun) ([]Enqueued, error)
	// Claim gives the worker up to Free runs that may start, in order: highest effective priority first,
	// then earliest due, then first enqueued. It waits until there is at least one, or ctx is done.
	// What it returns is committed.
	Claim(ctx context.Context, r ClaimRequest) ([]Claimed, error)
	// Finish records outcomes, and reports for each whether it was stale: the run was given to another
	// execution, or had ended. A stale outcome changes nothing.
	//
	// A run that was asked to cancel ends as Canceled, unless it has something to clean up: it has a
	// journal and To is not terminal, or it has pending compensations; see UndoScope. Then it is Queued
	// once more, or Blocked if To is Blocked, and stays asked to cancel.
	Finish(ctx context.Context, now time.Time, outcomes []Outcome) (stale []bool, err error)
	// Record stores what running handlers reported, and reports for each record whether it was stale.
	Record(ctx context.Context, records []Record) (stale []bool, err error)
	// Publish stores events in order, resumes the runs that wait for them, and enqueues the runs of
	// triggers that match, in one commit. Such a run has the event's payload as its input, and the
	// event's metadata with MetaEvent, MetaEventKey and MetaPayload. Publish returns the events' IDs.
	Publish(ctx context.Context, now time.Time, events []NewEvent) ([]ID, error)
	// Await returns the run's result once it has ended, has a stream chunk after the given one (negative:
	// chunks do not count), or does not exist.
	Await(ctx context.Context, id ID, afterChunk int64) (Result, error)
}

// Workers registers workers, and recovers the runs of dead ones.
type Workers interface {
	// Register adds a worker, and returns its number. The worker lives while the store that registered
	// it is open, or until Unregister. A run that its handler blocked is queued again once a worker of
	// another build lives and none of the build that blocked it.
	Register(ctx context.Context, w WorkerInfo) (int64, error)
	// SetLabels changes a worker's labels.
	SetLabels(ctx context.Context, worker int64, labels map[string]string) error
	// SetTasks changes which tasks a worker has handlers for.
	SetTasks(ctx context.Context, worker int64, tasks []string) error
	// Living lists the living workers.
	Living(ctx context.Context) ([]WorkerInfo, error)
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
	// Watch waits until there is a signal for one of the worker's runs that it has not returned before.
	Watch(ctx context.Context, worker int64) (Signals, error)
}

// Admin reads, and acts on many runs at once.
type Admin interface {
	// Get returns a run with its attempts, or ErrNotFound.
	Get(ctx context.Context, id ID) (*Run, error)
	// Workflow returns a workflow run's graph; that run itself, with Place End; and the runs of its tasks
	// with the given names (nil: all, and the on-failure and on-success tasks). ErrNotFound if there is
	// no such run, or it is not a workflow's.
	Workflow(ctx context.Context, id ID, names []string) (*Graph, []WorkflowTask, error)
	// List returns up to limit runs that match, newest first, older than before (zero: from the newest).
	// next is the before of the next page, or zero if this is the last. A page has at least one run, and
	// ends before its Size exceeds MaxPageBytes.
	List(ctx context.Context, f Filter, before ID, limit int) (runs []Run, next ID, err error)
	// Logs returns up to limit lines of a run after the given line number, oldest first. It returns at
	// least one, and fewer than limit rather than more than MaxPageBytes.
	Logs(ctx context.Context, id ID, after int64, limit int) ([]Log, error)
	// Chunks returns up to limit stream chunks of a run after the given one, limited as Logs. It also
	// reports whether the run has ended and these are its last chunks.
	Chunks(ctx context.Context, id ID, after int64, limit int) ([]Chunk, bool, error)
	// Cancel cancels all runs that match and have not ended, and counts them. A run with a running
	// handler gets a Signal. A waiting run with a journal, or a Blocked one with pending compensations,
	// is queued once more to clean up. All others end at once, also a Blocked one that was asked to
	// cancel before. Children that are not detached are canceled too. reason is encoded as Outcome.Error.
	Cancel(ctx context.Context, now time.Time, f Filter, reason []byte) (int, error)
	// Count returns how many runs a method would change, and changes nothing. Where the end of one run
	// ends another that matches too, as in a canceled workflow, both count.
	Count(ctx context.Context, f Filter, act Act) (int, error)
	// Replay queues all runs that match and have ended or are Blocked for a new attempt. Attempts keep
	// counting; the budget of retries starts anew. The new attempt records its compensations anew: of the
	// old ones only notes stay, in UndoneScope, except for those of branches that have ended, or within
	// such a branch, which are pending again.
	Replay(ctx context.Context, now time.Time, f Filter) (int, error)
	// Names returns all known names.
	Names(ctx context.Context) (*Names, error)
	// Delete deletes all runs that match and have ended, with everything stored about them. Only their
	// keys stay, as long as their KeyTTL.
	Delete(ctx context.Context, f Filter) (int, error)
	// Expire deletes, in small batches, what is old: succeeded, canceled and skipped runs that ended before
	// done, failed ones that ended before failed, events published before done, rate limits that came with
	// runs and were not used for an hour, and counters. It returns how many runs it deleted.
	Expire(ctx context.Context, done, failed time.Time) (int, error)
	// Pause stops, or with paused false resumes: starts from a queue; starts by the living workers of a
	// name; or what a limit admits. Admitted and started runs continue. While a limit is paused, a
	// strategy that cancels new runs lets them wait. ErrNotFound if no living worker has the name, or the
	// rate limit does not exist.
	Pause(ctx context.Context, what Pausable, paused bool) error
	// Queues lists every queue that was ever used, by name.
	Queues(ctx context.Context) ([]QueueInfo, error)
	// Priorities counts the runs of a queue that may start, by priority, up to MaxCount of them.
	Priorities(ctx context.Context, queue string) (map[int8]int, error)
	// SetRate sets a rate limit's settings, which override those of Limits.
	SetRate(ctx context.Context, now time.Time, key string, perSecond float64, burst int) error
	// Limits lists the rate limits, or the keys of concurrency limits that are in use or paused, by name
	// and key, up to MaxLimits.
	Limits(ctx context.Context, rates bool) ([]LimitInfo, error)
	// Check looks for damage, and describes what it found. It changes nothing.
	Check(ctx context.Context) ([]string, error)
	// Backup writes a consistent copy of the database to a new file.
	Backup(ctx context.Context, path string) error
	// Healthy returns nil, or why the store cannot write at present, such as that its file is no longer
	// at its path.
	Healthy() error
	// Degraded reports whether an error, also of a statement in the app's transaction, means that the
	// store cannot write at present: nothing was changed, and the call may be repeated later.
	Degraded(err error) bool
}

// A Store keeps the state of an engine. Its methods may be called concurrently.
type Store interface {
	Runs
	Journal
	Workers
	Schedules
	Admin
	Stats
	// Close waits for what was begun, and queues the runs that the store's workers still execute.
	Close() error
}

// A Tx is the part of *sql.Tx that AppTx needs.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// AppTx is the one optional interface of a Store: it takes part in the app's transactions on the same
// database.
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
}

const (
	// MaxCrashes is how many deaths of its process a run may be executing in before it is Blocked.
	MaxCrashes = 5
	// SuspectCrashes is how many deaths make a run a suspect, which executes only while no other does.
	SuspectCrashes = 2
	// MaxCount is the highest count of runs in a list.
	MaxCount = 10_000
	// MaxLimits is how many limits are listed.
	MaxLimits = 10_000
	// MaxPageBytes is how many bytes of payloads and texts a page has, unless its only row has more.
	MaxPageBytes = 8 << 20
	// MaxLogs is how many log lines of a run are kept: the last ones.
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
