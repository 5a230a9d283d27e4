package store

import (
	"encoding/json"
	"strings"
	"time"
)

// UntilDone is the KeyTTL of an idempotency key that is free again when its run ends.
const UntilDone time.Duration = -1

// A NewRun is a run to enqueue. Its times, like all times given to a store, lie in the years 1 to
// 9999, which JSON can write. A store keeps milliseconds, rounds due times up, and takes the last
// representable time for a sum beyond it.
type NewRun struct {
	Task     string // not empty
	Queue    string // not empty
	Priority int8
	// AgeEvery is how long a run waits until its effective priority rises by one; 0: it never rises.
	AgeEvery time.Duration
	Input    []byte
	RunAt    time.Time     // earliest start; zero: now
	StartIn  time.Duration // the run is canceled if it has not started this long after it was due; 0: never
	Key      string        // idempotency key within Task; empty: none
	KeyTTL   time.Duration // how long Key refers to this run, also after the run was deleted; or UntilDone
	// Debounce, if more than 0, applies if Key refers to a run that is Scheduled and was never claimed:
	// this run's input, metadata, limits, StartIn and RunAt replace that run's. That run starts at
	// the latest Debounce after it was first enqueued.
	Debounce time.Duration
	Metadata []byte // a JSON object, or nil
	Parent   ID     // the run that enqueued this one, or zero
	Detached bool   // it outlives its parent
	// ParentNamed reports that it is not Parent itself that enqueues the run. If Parent was canceled, or was asked to
	// cancel, and the run is not Detached, nothing is enqueued, and the error is ErrParentCanceled.
	ParentNamed bool
	// ChildKey is a key within Parent that is kept as long as Parent is stored; empty: none. If ChildKey refers to a run
	// already, that run is the result, whatever Key says. If only Key refers to a run, ChildKey refers to it from then on.
	ChildKey string
	// Graph makes this the run of a workflow whose name is Task. It is never claimed: its tasks are.
	// It is canceled if it has not ended StartIn after it was due.
	Graph *Graph
	Route Route
	// Limits must admit the run before each start. TaskLimits are the limits of its Graph's tasks, by place.
	// The settings of the newest enqueue with a limit apply to all runs that have not started; a RateChange
	// overrides them.
	Limits     []Limit
	TaskLimits map[int][]Limit
	// Call, if not nil, is a durable call of the run that enqueues this one. It is recorded in the same commit, with the
	// IDs of all runs of the Enqueue. If it is stale, nothing is enqueued.
	Call *Call
}

// Enqueued is the result for one NewRun.
type Enqueued struct {
	ID       ID
	Existing bool // ID is an earlier run with the same key; nothing was enqueued
}

// existingMark stands before the ID of a run that was Existing.
const existingMark = "existing:"

// EncodeEnqueued returns the Value of an EntryChild.
func EncodeEnqueued(all []Enqueued) []byte {
	texts := make([]string, len(all))
	for i, e := range all {
		if texts[i] = e.ID.String(); e.Existing {
			texts[i] = existingMark + texts[i]
		}
	}
	b, _ := json.Marshal(texts) // texts always encode
	return b
}

// EncodePublished returns the Value of the entry of a call that published events.
func EncodePublished(ids []ID) []byte {
	all := make([]Enqueued, len(ids))
	for i, id := range ids {
		all[i].ID = id
	}
	return EncodeEnqueued(all)
}

// DecodeEnqueued is the inverse of EncodeEnqueued.
func DecodeEnqueued(value []byte) ([]Enqueued, error) {
	var texts []string
	if err := json.Unmarshal(value, &texts); err != nil {
		return nil, err
	}
	all := make([]Enqueued, len(texts))
	for i, t := range texts {
		t, all[i].Existing = strings.CutPrefix(t, existingMark)
		if err := all[i].ID.UnmarshalText([]byte(t)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// A ClaimRequest describes what a worker can start.
type ClaimRequest struct {
	Worker int64 // from Register
	// Free returns how many slots of the worker are free. The store calls it when it is about to choose runs.
	// It must not block or call the store.
	Free func() int
	// Tasks reports whether the worker has a handler for the task. It must not block or call the store.
	Tasks func(task string) bool
	// Cost returns how many slots a run of the task needs; 0: more than the worker has in all, free or not. A nil Cost
	// means 1 for every task. A run that is next and does not fit into the free slots holds up the runs behind it.
	Cost   func(task string) int
	Queues []string // nil: every queue
}

// A Lease names one execution of a run, and fences all that is written about it: once the run is given to
// another execution, or has ended, writes with the lease are refused. It is opaque: only a store may compare
// leases by order or count them. A store never gives a run the same lease twice, also not after it has lost
// its last commits, and never zero.
type Lease int64

// A Claimed is a run that a worker was given.
type Claimed struct {
	ID       ID
	Lease    Lease
	Task     string
	Queue    string
	Priority int8
	Attempt  int // from 1, this one included
	// Executions counts how often a worker was given the run, this time included.
	Executions int
	Replayed   int // attempts before the last replay; the budget of retries does not count them
	Crashes    int // executions that ended with the death of their process
	Due        time.Time
	Started    time.Time
	Input      []byte
	Metadata   []byte
	Parent     ID
	Root       ID
	Node       int64    // the graph's task that this is, for Finish; 0: none
	Tests      []string // predicates on the output; Finish expects their results
	Journal    bool     // there are entries to replay
	// CancelAt is when the run was asked to cancel: it runs to clean up. Zero: it was not.
	CancelAt time.Time
	Spent    time.Duration // Outcome.Spent of the execution that waited in this attempt; else 0
}

// An Outcome is the result of an execution.
type Outcome struct {
	ID        ID
	Lease     Lease
	To        State     // Scheduled or Queued (it runs again), Waiting, Blocked, or a terminal state
	At        time.Time // if To is Scheduled
	Uncounted bool      // the attempt does not count; only if To is not terminal
	Output    []byte    // if To is Succeeded
	Error     []byte    // the failure, encoded by the engine; kept with the attempt
	Failure   *Failure  // if To is Failed: where it counts; nil: nowhere
	Follow    []NewRun  // children, enqueued in the same commit
	Record    Record    // the last progress, logs and stream chunks

	// Queue, Task and Started are those of Claimed, for Counters. They may be missing.
	Queue, Task string
	Started     time.Time

	// Parent and Node are those of Claimed, if the run is a workflow's task.
	Parent ID
	Node   int64
	Tests  []TestResult // in the order of Claimed.Tests, if To is Succeeded
	// NoHandler, if To is Queued, reports that the worker has no handler for the workflow's task: the run
	// waits for a worker that has one.
	NoHandler bool

	Waits Waits         // if To is Waiting
	Spent time.Duration // if To is Waiting: how much of its time limit the attempt has used; negative: it was given more
	// Forget lists journal entries to remove, so that the next attempt does not find the failure that ended this one.
	// With each entry go the later entries of its scope, and the scopes of branches among them. Of a failed
	// branch only the entry goes: the branch continues where it failed, and its siblings stay.
	// Forget is applied last: a run that waits for an entry that is done does not wait.
	Forget []Address
}

// A Record has the progress, log lines and stream chunks that a running handler reported. With a zero Lease it has log
// lines that did not come from a handler: see Runs.Record. Within an Outcome, its ID and Lease are ignored.
type Record struct {
	ID       ID
	Lease    Lease
	Progress *Progress
	Logs     []Log
	Chunks   []Chunk
}

// Progress is how far a run is.
type Progress struct {
	Done, Total int64
	Message     string
}

// A Chunk is a piece of a run's stream.
type Chunk struct {
	Seq       int64 // from 1; set by the store
	Data      []byte
	At        time.Time
	Attempt   int
	Execution int // Claimed.Executions: chunks that an attempt streams again after a crash have a higher one
}

// A Run is all that the store knows about a run.
type Run struct {
	ID       ID
	Task     string
	Queue    string
	State    State
	Priority int8
	Attempt  int
	Crashes  int
	// Executions counts how often a worker was given the run: for attempts, and after waits, crashes
	// and drains.
	Executions int
	Lease      Lease // of the last execution
	Created    time.Time
	Due        time.Time
	Started    time.Time // of the last attempt; zero: none
	Ended      time.Time
	CancelAt   time.Time // when it was asked to cancel, if it did not end at once
	StartBy    time.Time // Due plus StartIn, until it starts; a replay sets it anew
	Worker     string    // name of the last attempt's worker
	Parent     ID
	Root       ID
	Key        string
	Metadata   []byte
	Workflow   bool       // it is a workflow's run
	NoHandler  bool       // it is a workflow's task that waits for a worker with a handler for it
	Route      Route      // of a queued run
	Limiter    *LimitInfo // the limit that a queued run waits for; nil: none
	Paused     bool       // its queue is paused
	Input      []byte
	Output     []byte
	Error      []byte // JSON with the kind and the message of the failure, as the engine encodes it
	Progress   *Progress
	Attempts   []Attempt // earlier executions, oldest first
}

// Size returns the bytes of payloads and texts that count for MaxPageBytes.
func (r *Run) Size() int { return len(r.Metadata) + len(r.Input) + len(r.Output) + len(r.Error) }

// An Attempt is an execution of a run that did not end the run.
type Attempt struct {
	Attempt int
	Worker  string
	Started time.Time
	Ended   time.Time
	To      State  // the state of the run after it
	Error   []byte // as in Run.Error; nil if it was cut short
}

// An Until says for what Await waits besides the run's end; zero: for nothing.
type Until struct {
	Chunk int64   // the stream chunk with this number, or a later one
	Entry Address // the journal's entry at this address, once it is done
	// Due is the Due of that entry as the caller knows it, if it is an EntryWait. If the entry is due at another time by
	// now, Await returns as if it was done.
	Due time.Time
}

// Met reports whether the entry at u.Entry is as u asks. e is nil if there is no such entry.
func (u *Until) Met(e *Entry) bool {
	return e != nil && (e.Done || e.Kind == EntryWait && !e.Due.Equal(u.Due))
}

// A Result is a run's state and output.
type Result struct {
	State    State  // 0: there is no such run
	Workflow bool   // it is a workflow's run
	Output   []byte // if State is Succeeded
	Entry    *Entry // the one at Until.Entry; nil: there is none

	// Tasks are all tasks of a workflow's run that has succeeded, in the order of Graph's, with Place, State and Output alone.
	// They are nil if the store would have to read them: Workflow does.
	Graph *Graph
	Tasks []WorkflowTask
}

// A WorkflowTask is a run of a workflow's task, or the workflow's run itself.
type WorkflowTask struct {
	Place     int // in the graph
	ID        ID
	State     State
	Attempt   int
	Due       time.Time
	Started   time.Time // zero: it has not
	Ended     time.Time // zero: it has not
	Output    []byte
	Error     []byte
	NoHandler bool // it waits for a worker with a handler for it
}

// Rank returns a run's position among those that may start, smaller first: its due time in
// milliseconds less the worth of its priority. A run's effective priority rises by one each ageEvery
// that it waits, so of two runs the one with the smaller
//
//	due − (priority − 2) × ageEvery
//
// is ahead at any time. Their order never changes, so an index can hold it. Priorities that do not
// age are further apart than any two times.
func Rank(due int64, priority int8, ageEvery time.Duration) int64 {
	step := int64(1) << 49 // more than 9999 years
	if ageEvery > 0 {
		step = ageEvery.Milliseconds()
	}
	return due - (int64(priority)-2)*step
}
