package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"
)

// Errors that every store returns, wrapped with what was attempted.
var (
	ErrClosed   = errors.New("store is closed")
	ErrNotFound = errors.New("not found")
	// ErrBusy reports that another program kept the database locked for longer than
	// the store waits. Nothing was changed.
	ErrBusy = errors.New("database is locked by another program")
	// ErrStale reports that the run has been given to another execution, or has ended.
	ErrStale = errors.New("stale execution")
	// ErrReadOnly reports a change that was asked of a store which only reads.
	ErrReadOnly = errors.New("store is read-only")
	// ErrFileGone reports that the database's file was removed or moved while it was open,
	// and ErrReplaced that another is at its path. Nothing is acknowledged any more.
	ErrFileGone = errors.New("database file is gone")
	ErrReplaced = errors.New("database file was replaced by another")
)

// An ID names a run: a UUIDv7, assigned by the store, increasing in the order of enqueueing.
type ID = uuid.UUID

// UntilDone is the TTL of an idempotency key that is free again when its run ends.
const UntilDone time.Duration = -1

// A NewRun is a run to enqueue. Its times, as all that a store is given, lie in the years
// 1 to 9999, which JSON writes. A store keeps milliseconds, rounds when something is due
// up, and takes the last time for one that a sum puts beyond it.
type NewRun struct {
	Task     string // not empty
	Queue    string // not empty
	Priority int8
	// AgeEvery is how long a run waits for its effective priority to rise by one;
	// 0 means it never rises.
	AgeEvery time.Duration
	Input    []byte
	RunAt    time.Time     // not before; zero means now
	StartIn  time.Duration // canceled if it has not started so long after it was due; 0 means never
	Key      string        // idempotency key within Task; empty means none
	KeyTTL   time.Duration // how long Key refers to this run, deleted or not; UntilDone: until it ends
	// Debounce, if more than 0, has this run's input, metadata, limits, StartIn and RunAt take the
	// place of those of the run that Key refers to, as long as that is Scheduled and was never
	// claimed; but it starts at the latest so long after it was first enqueued.
	Debounce time.Duration
	Metadata []byte // a JSON object, or nil
	Parent   ID     // the run that asked for this one, or zero
	Detached bool   // outlives its parent
	// Graph makes this the run of a workflow, whose name Task is. It is never claimed:
	// its tasks are. StartIn is how long after it was due it must have ended: it is canceled then.
	Graph *Graph
	Route Route
	// Limits are what the run must pass before each start, and TaskLimits what the tasks
	// of its Graph must, by their places. The newest enqueue of those that have come to a limit
	// sets its figures, also for runs that wait, or have not started; SetRate's hold over them.
	Limits     []Limit
	TaskLimits map[int][]Limit
	// Call, if not nil, is a durable call of the run's parent, recorded in the same
	// commit with the IDs of all runs of the Enqueue. If it is stale nothing is enqueued.
	Call *Call
}

// Enqueued is the answer to one NewRun.
type Enqueued struct {
	ID       ID
	Existing bool // an earlier run with the same key; nothing was enqueued
}

// A ClaimRequest says what a worker can start.
type ClaimRequest struct {
	Worker int64 // from Register
	// Free is called when the store is about to choose, and says how many runs the
	// worker can start at that moment. It must not block or call the store.
	Free func() int
	// Tasks reports whether the worker has a handler for the task. Same duties as Free.
	Tasks func(task string) bool
	// Cost says how many of Free a run of the task takes; 0: more than the worker has. nil
	// means 1 for each. What is next in order and does not fit holds up what is behind it.
	Cost   func(task string) int
	Queues []string // nil means every queue
}

// A Claimed is a run that a worker has been given. Its Lease fences every later write
// about this execution: when the run is given to another, the old lease is refused.
type Claimed struct {
	ID       ID
	Lease    int64
	Task     string
	Queue    string
	Priority int8
	Attempt  int // from 1; this one included
	Replayed int // attempts that had been made when it was last replayed; of these the budget of retries knows nothing
	Crashes  int // executions that ended with the death of their process
	Due      time.Time
	Started  time.Time
	Input    []byte
	Metadata []byte
	Parent   ID
	Root     ID
	Node     int64    // says which task of which graph this is, to Finish; 0: of none
	Tests    []string // predicates on the output that Finish is to be told of
	Journal  bool     // there are entries to replay
	// CancelAt, if not zero, is when it was asked to cancel: it runs to clean up.
	CancelAt time.Time
	Spent    time.Duration // Outcome.Spent of the execution that waited in this attempt; else 0
}

// An Outcome is what became of an execution.
type Outcome struct {
	ID        ID
	Lease     int64
	To        State     // Scheduled or Queued (runs again), Waiting, Blocked, or a terminal state
	At        time.Time // when To is Scheduled
	Uncounted bool      // the attempt does not count; for what does not end the run
	Output    []byte    // when To is Succeeded
	Error     []byte    // the failure, encoded by the engine; kept with the attempt
	Follow    []NewRun  // enqueued in the same commit, as children
	Record    Record    // the last progress, logs and stream chunks

	// From Claimed, for Stats; they may be missing.
	Queue, Task string
	Started     time.Time

	// Of a task of a workflow, from Claimed.
	Parent ID
	Node   int64
	Tests  []TestResult // in the order of Claimed.Tests, when To is Succeeded
	// NoHandler, when To is Queued: this worker lacks the task's code. The run waits for
	// one that has it.
	NoHandler bool

	Waits Waits         // when To is Waiting
	Spent time.Duration // when To is Waiting: how much of its time limit the attempt has used; less than 0: it was given more
	// Forget removes these entries, what follows them in their scopes, and the scopes of
	// the branches among that: the next attempt does not find the failure that ended this.
	// Of a branch that failed it removes the entry alone: it goes on where it failed, and
	// those beside it stay.
	// It is done last: a run that waits for an entry which is done does not wait.
	Forget []Address
}

// A Record is what a running handler reported. ID and Lease are ignored inside an Outcome.
type Record struct {
	ID       ID
	Lease    int64
	Progress *Progress
	Logs     []Log
	Chunks   [][]byte
}

// Progress is how far a run is.
type Progress struct {
	Done, Total int64
	Message     string
}

// A Log is one line that a handler logged.
type Log struct {
	Seq     int64 // from 1; given by the store
	At      time.Time
	Level   int // as log/slog numbers levels
	Message string
	Attrs   []byte // a JSON object, or nil
	Attempt int
}

// A Run is everything the store knows of a run.
type Run struct {
	ID       ID
	Task     string
	Queue    string
	State    State
	Priority int8
	Attempt  int
	Crashes  int
	// Executions is how often a worker was given the run: for attempts, and again after
	// waits, crashes and drains.
	Executions int
	Created    time.Time
	Due        time.Time
	Started    time.Time // of the last attempt; zero if none started
	Ended      time.Time
	CancelAt   time.Time // when it was asked to cancel, of a run that did not end at once
	StartBy    time.Time // StartIn after Due, until it starts; a replay sets it anew
	Worker     string    // name of the worker of the last attempt
	Parent     ID
	Root       ID
	Key        string
	Metadata   []byte
	Workflow   bool // of a workflow
	// NoHandler: a task of a workflow that waits for a worker that has its code.
	NoHandler bool
	Route     Route      // of a queued run
	Limiter   *LimitInfo // of a queued run: the limit that it waits for, as that stands; nil: none
	Paused    bool       // its queue is
	Input     []byte
	Output    []byte
	Error     []byte
	Progress  *Progress
	Attempts  []Attempt // earlier executions, oldest first
}

// Size returns how many bytes of payloads and texts the run has, for MaxPageBytes.
func (r *Run) Size() int { return len(r.Metadata) + len(r.Input) + len(r.Output) + len(r.Error) }

// Size returns how many bytes of payload and metadata the event has, for MaxPageBytes.
func (e *NewEvent) Size() int { return len(e.Payload) + len(e.Metadata) }

// Size returns how many bytes the line has, for MaxPageBytes.
func (l *Log) Size() int { return len(l.Message) + len(l.Attrs) }

// An Attempt is an earlier execution of a run, which did not end it.
type Attempt struct {
	Attempt int
	Worker  string
	Started time.Time
	Ended   time.Time
	To      State  // what it led to
	Error   []byte // nil if it was cut short
}

// A Filter selects runs. Empty fields select all.
type Filter struct {
	IDs      []ID
	Tasks    []string
	Queues   []string
	States   []State
	Parent   ID
	Metadata map[string]string // each key has that value
	Since    time.Time         // created at or after
	Until    time.Time         // created before
	TopLevel bool              // no parent
	Error    string            // in the message of its error, also of one that the engine made; see ErrorHas
	Limit    *LimitKey         // it must pass this limit before each start
	Through  ID                // that run, and those that were enqueued before it

	// For List alone: how many runs it looks at, at most; 0: all.
	Scan int
}

// An Act is a verb of Admin that acts on all runs that match a filter.
type Act uint8

// The verbs of Admin that Count counts for.
const (
	ActCancel Act = iota + 1
	ActReplay
	ActDelete
)

// A Result is how a run stands.
type Result struct {
	State    State  // 0: there is no such run
	Workflow bool   // of a workflow
	Output   []byte // when Succeeded
}

// A WorkflowTask is a task of a workflow's run that has a run of its own, or that run itself.
type WorkflowTask struct {
	Place   int // in the graph
	ID      ID
	State   State
	Attempt int
	Due     time.Time
	Started time.Time // zero if it has not
	Ended   time.Time // zero if it has not
	Output  []byte
	Error   []byte
	// NoHandler: it waits for a worker that has its code.
	NoHandler bool
}

// A NewEvent is an event to publish.
type NewEvent struct {
	Key      string // not empty
	Payload  []byte // JSON
	Metadata []byte // a JSON object, or nil
	Scope    string // selects among the filters of tasks
	// Delivery, if not empty, is stored once: a second event with it is the first.
	Delivery string
	// Runs are, by task, what the templates of triggers would make: with the limits and
	// the keys that functions of the program make of the payload.
	Runs map[string]NewRun
	// Costly lists the filters that would have cost too much to compute of the event, and so
	// did not match it. It is given by the store.
	Costly []string

	view    any // of Decode
	viewErr error
	viewed  bool
	passed  map[string]bool // by filter expression
}

// A WorkerInfo describes a worker to Register.
type WorkerInfo struct {
	Name   string
	Slots  int
	Queues []string
	Labels map[string]string
	PID    int
	Host   string
	Build  string // tells programs apart, and builds of one
	// Program is the same for all builds of one, and Defines what this one defines, with a
	// handler or without: see Declare. Neither is kept.
	Program string
	Defines []string
	// Tasks are the tasks and workflows that it can work, sorted; nil: any.
	Tasks []string

	// Given by the store.
	Paused  bool
	ID      int64
	Started time.Time
	Running int // runs that it has
}

// Signals are what the runs of a worker must be told.
type Signals struct {
	Cancel []ID // asked to cancel
}

// Recovered says what became of the runs of dead processes.
type Recovered struct {
	Requeued int
	Blocked  []ID // were executing in MaxCrashes deaths
}

// A Chunk is a piece of a run's stream.
type Chunk struct {
	Seq  int64 // from 1
	Data []byte
}

// A QueueInfo is the state of a queue.
type QueueInfo struct {
	Name    string
	Paused  bool
	Ready   int // runs that may start, counted up to MaxCount
	Running int
	Oldest  time.Time // when the first that may start was due, of those that are next of their task; zero: none
}

// Names are names that the database knows, each list sorted.
type Names struct {
	Tasks  []string // that have or had runs, that a worker has or had, or that a cron, a trigger or a filter starts
	Queues []string // that have or had runs, were paused, or that a worker serves or served
}

// Runs moves runs along their states.
type Runs interface {
	// Enqueue stores all runs or none, in order, in one commit. It retains nothing.
	Enqueue(ctx context.Context, now time.Time, runs []NewRun) ([]Enqueued, error)
	// Claim gives the worker up to Free runs that may start, in order: higher
	// effective priority first, then first due, first in. It waits until there is at
	// least one, or ctx is done. What it returns has been committed.
	Claim(ctx context.Context, r ClaimRequest) ([]Claimed, error)
	// Finish records outcomes, and reports for each whether it was stale: the run had
	// been given to another, or had ended. A stale outcome changes nothing. A run that
	// was asked to cancel ends as Canceled, unless something is left to clean up: it has a
	// journal, and To is not terminal, or it has compensations that are not done; see
	// UndoScope. Then it is Queued, to run once more, or Blocked where that is To, and
	// stays asked to cancel.
	Finish(ctx context.Context, now time.Time, outcomes []Outcome) (stale []bool, err error)
	// Record stores what running handlers report, and says which were stale.
	Record(ctx context.Context, now time.Time, records []Record) (stale []bool, err error)
	// Publish stores events, in order, wakes what waits for them, and makes the runs of
	// the triggers that match, in one commit. A run has the event's payload as its input,
	// and its metadata with what EventMetadata adds. It returns the events' IDs.
	Publish(ctx context.Context, now time.Time, events []NewEvent) ([]ID, error)
	// Await returns when the run has ended, or has a stream chunk after the given one
	// (negative: whatever chunks there are), or does not exist, and says how it stands.
	Await(ctx context.Context, id ID, afterChunk int64) (Result, error)
}

// Workers keeps who is there.
type Workers interface {
	// Register makes a worker known, and returns its number. It lives as long as the
	// store that registered it is open, or until Unregister. A run that its handler
	// blocked is queued again, once a worker of another build lives and none of the one
	// that had it.
	Register(ctx context.Context, now time.Time, w WorkerInfo) (int64, error)
	// SetLabels changes a worker's labels.
	SetLabels(ctx context.Context, worker int64, labels map[string]string) error
	// SetTasks changes which tasks a worker can work.
	SetTasks(ctx context.Context, worker int64, tasks []string) error
	// PauseWorker stops, or with paused false resumes, starts by the living workers of that
	// name. It is ErrNotFound if there is none.
	PauseWorker(ctx context.Context, name string, paused bool) error
	// Living lists the workers that were registered and have not left.
	Living(ctx context.Context) ([]WorkerInfo, error)
	// Unregister gives what the worker still has back to the queue, at no cost of an attempt.
	Unregister(ctx context.Context, now time.Time, worker int64) error
	// Recover waits until a process that had the database open has died, and gives its
	// runs back to the queue, behind the rest; their attempt does not count. One that was
	// asked to cancel ends, unless it has a journal: it runs once more, to clean up. A run
	// that was executing in MaxCrashes deaths is Blocked instead, or ends if it was asked to
	// cancel and has no compensation that is not done. From its second on, a run
	// comes back after a delay, when nothing else may start, and no two such runs execute
	// at one time.
	Recover(ctx context.Context) (Recovered, error)
	// Watch waits until a run of the worker must be told something it was not told before.
	Watch(ctx context.Context, worker int64) (Signals, error)
}

// Admin reads, and acts on many runs at once.
type Admin interface {
	// Get returns a run with its attempts, or ErrNotFound.
	Get(ctx context.Context, id ID) (*Run, error)
	// Workflow returns the graph of a workflow's run; that run itself, with Place End; and
	// those of its tasks with the given names (nil: all, and the on-failure and
	// on-success tasks) that have a run. It is ErrNotFound if there is no such run, or it
	// is no workflow's.
	Workflow(ctx context.Context, id ID, names []string) (*Graph, []WorkflowTask, error)
	// List returns up to limit runs that match, newest first, from after before (zero: the
	// newest). next is where to go on, or zero if there is nothing more. A page whose Size
	// would pass MaxPageBytes ends earlier; it has one run at least.
	List(ctx context.Context, f Filter, before ID, limit int) (runs []Run, next ID, err error)
	// Logs returns up to limit lines of a run after the given line number, oldest first; fewer
	// where they would pass MaxPageBytes, but one at least.
	Logs(ctx context.Context, id ID, after int64, limit int) ([]Log, error)
	// Chunks returns up to limit stream chunks of a run after the given one, fewer where they
	// would pass MaxPageBytes, but one at least; and whether the run has ended and these are the
	// last.
	Chunks(ctx context.Context, id ID, after int64, limit int) ([]Chunk, bool, error)
	// Cancel cancels all that match and have not ended: by a Signal where a handler runs,
	// by one more execution, which may have to wait for a worker, where a handler with a
	// journal waits, or a run is Blocked that has compensations which are not done; and at
	// once where nothing is to clean up. A run that is Blocked and was asked to cancel before
	// ends at once. Children that are not detached are canceled with their parent. reason
	// is encoded as Outcome.Error is. It counts what it canceled.
	Cancel(ctx context.Context, now time.Time, f Filter, reason []byte) (int, error)
	// Count returns how many runs a verb would change. It changes nothing. Where one run's
	// end ends another that matches too, as in a workflow that is canceled, both count.
	Count(ctx context.Context, f Filter, act Act) (int, error)
	// Replay queues all ended runs that match, and those that are Blocked, for a new
	// attempt, whose number goes on, with a new budget of retries. It records its
	// compensations anew, so of those there are only notes stay, in UndoneScope; but those of
	// branches that have ended, or within such a branch, are pending again.
	Replay(ctx context.Context, now time.Time, f Filter) (int, error)
	// Names returns the names that are known.
	Names(ctx context.Context) (*Names, error)
	// Delete removes all ended runs that match, with all that was kept about them, save
	// that a key refers to its run as long as it was promised.
	Delete(ctx context.Context, f Filter) (int, error)
	// Expire deletes, in small batches, succeeded, canceled and skipped runs that ended
	// before done, failed ones that ended before failed, events published before done,
	// rate limits that nobody set and nobody used for an hour, and old tallies.
	Expire(ctx context.Context, done, failed time.Time) (int, error)
	// PauseQueue stops, or with paused false resumes, starts from a queue.
	PauseQueue(ctx context.Context, queue string, paused bool) error
	// Queues lists every queue that was ever used, by name.
	Queues(ctx context.Context) ([]QueueInfo, error)
	// Priorities counts the runs of a queue that may start by their priority, MaxCount of
	// them at most.
	Priorities(ctx context.Context, queue string) (map[int8]int, error)
	// SetRate sets the figures of a rate limit, which hold over those of Limits.
	SetRate(ctx context.Context, now time.Time, key string, perSecond float64, burst int) error
	// PauseLimit has no run pass a limit, or with paused false has them pass again. What has
	// passed it goes on. While it is paused, a strategy that cancels newcomers has them wait.
	// It is ErrNotFound for a rate that there is not.
	PauseLimit(ctx context.Context, now time.Time, k LimitKey, paused bool) error
	// Limits lists the rate limits, or the keys of concurrency limits that are in use or
	// paused, by name and key, up to MaxLimits.
	Limits(ctx context.Context, rates bool) ([]LimitInfo, error)
	// Check looks for damage, and says in words what it found. It changes nothing.
	Check(ctx context.Context) ([]string, error)
	// Backup writes a copy of all there is, as of one moment, to a new file.
	Backup(ctx context.Context, path string) error
	// Healthy is nil, or why the store cannot write at present: also because its file is no
	// longer the one at its path.
	Healthy() error
	// Degraded reports whether an error, also of a statement in a transaction of the
	// app's, says that the store cannot write at present: nothing was changed, and the
	// same may be tried again later.
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
	// Close waits for what was begun, and gives back what the store's workers have.
	Close() error
}

// A Tx is the part of *sql.Tx that joining the app's transaction takes.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// AppTx is the one optional interface of a Store: joining the app's transactions on the
// same database.
type AppTx interface {
	// EnqueueTx enqueues inside the app's transaction. The runs exist if and only if it
	// commits, and start promptly after that.
	EnqueueTx(ctx context.Context, now time.Time, tx Tx, runs []NewRun) ([]Enqueued, error)
	// PublishTx publishes inside the app's transaction. The events exist if and only if it
	// commits, and do what they do promptly after that.
	PublishTx(ctx context.Context, now time.Time, tx Tx, events []NewEvent) ([]ID, error)
	// BeginTx begins a transaction that the app may use, to be joined by AppendTx.
	BeginTx(ctx context.Context) (*sql.Tx, error)
	// AppendTx is Append inside a transaction.
	AppendTx(ctx context.Context, now time.Time, tx Tx, c Call) (e Entry, stale bool, err error)
}

// Rank is a run's place among those that may start, smaller first: its due time in
// milliseconds less what its priority is worth. A run's effective priority rises by
// one each ageEvery it waits, so of two runs the one with the smaller
//
//	due − (priority − 2) × ageEvery
//
// is ahead at any time. Their order never changes, and so an index can hold it.
// Priorities that do not age are set further apart than any two times.
func Rank(due int64, priority int8, ageEvery time.Duration) int64 {
	step := int64(1) << 49 // more than 9999 years
	if ageEvery > 0 {
		step = ageEvery.Milliseconds()
	}
	return due - (int64(priority)-2)*step
}

const (
	// MaxCrashes is how many deaths of a process a run may be executing in before it is Blocked.
	MaxCrashes = 5
	// SuspectCrashes is from how many on it executes only while no other such run does.
	SuspectCrashes = 2
	// MaxCount is up to how many runs are counted where they are listed as a number.
	MaxCount = 10_000
	// MaxLimits is how many limits are listed.
	MaxLimits = 10_000
	// MaxPageBytes is how many bytes of payloads and texts a page of a list has, unless one
	// row alone has more.
	MaxPageBytes = 8 << 20
	// MaxLogs is how many log lines of a run are kept: the last ones.
	MaxLogs = 10_000
)

// Kinds of the errors that a store writes by itself, in the form the engine gives all.
const (
	KindParent     = "parent"     // canceled: a task it depends on failed or was canceled
	KindWorkflow   = "workflow"   // the workflow's run: one of its tasks did not succeed
	KindCondition  = "condition"  // blocked: a condition cannot be decided
	KindDamaged    = "damaged"    // blocked: its rows were changed by other means
	KindQuarantine = "quarantine" // blocked: its process died too often
)

// What a store writes as Run.Error where it ends or blocks a run by itself, in the
// form the engine gives all errors.
const (
	EndByError      = `{"kind":"schedule_timeout","message":"the workflow did not end in time"}`
	StartByError    = `{"kind":"schedule_timeout","message":"did not start in time"}`
	CrashError      = `{"kind":"crash","message":"the process died while the run was executing"}`
	QuarantineError = `{"kind":"quarantine","message":"the process died 5 times while this run was executing; replay or cancel it"}`
)
