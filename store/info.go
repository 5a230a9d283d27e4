package store

import "time"

// A Filter selects the runs that match all its fields. A zero field matches every run; an empty list that is not nil matches
// none.
type Filter struct {
	IDs      []ID
	Tasks    []string
	Queues   []string
	States   []State
	Parent   ID
	Metadata map[string]string // each key has this value
	Since    time.Time         // created at or after
	Until    time.Time         // created before
	TopLevel bool              // no parent
	Error    string            // a part of the message of Run.Error, as ErrorHas finds it
	Limit    *LimitKey         // a limit of the run
	Through  ID                // this run, and those enqueued before it
	// AnyMetadata matches runs that have at least one of these keys with one of the key's values.
	AnyMetadata map[string][]string
	Event       ID     // the event that started the run
	Worker      string // the name of the last attempt's worker
	NoTasks     bool   // true: no tasks of workflows
	ErrorGroup  int64  // the group of the error with which the run failed last

	// Oldest makes List go from the oldest run to the newest. Other methods ignore it.
	Oldest bool
	// Brief makes List leave out Input, Output, Metadata, Error and Progress. Other methods ignore it.
	Brief bool
	// Scan is the highest number of runs that List examines for a page, or Count for a part; 0: all. For a state that has
	// an index, Count examines as many of that state. Other methods ignore it.
	Scan int
}

// An Action is what Act does to each run that matches a filter.
type Action struct {
	Kind   ActionKind
	Reason []byte // for ActCancel: the error of the canceled runs, encoded as Outcome.Error
	Whole  bool   // for ActReplay: all tasks of a workflow's run, not only those that did not succeed
	Queue  string // for ActMoveQueue: to which
	// DryRun changes nothing and counts the runs that the action would change. Where the end of one run
	// ends another that matches too, as in a canceled workflow, both count.
	DryRun bool
}

// An ActionKind says what Act does.
type ActionKind uint8

// The actions.
const (
	// ActCancel cancels runs that have not ended. For a Running one, Watch returns a signal to its worker. A Waiting run
	// with a journal, or a Blocked one with pending compensations, is queued once more to clean up. All
	// others end at once, also a Blocked one that was asked to cancel before. Children that are not Detached
	// are canceled too.
	ActCancel ActionKind = iota + 1
	// ActReplay queues runs that have ended or are Blocked for a new attempt. Numbers of attempts continue; retries are
	// counted anew. The new attempt has to record its compensations again: the earlier ones become notes in
	// UndoneScope. Only those of branches that have ended, or of branches within these, become pending again.
	ActReplay
	// ActDelete deletes runs that have ended, with everything stored about them. Only their keys stay, as
	// long as their KeyTTL. A run whose Parent has not ended is not deleted: the parent may read its result again.
	ActDelete
	// ActMoveQueue moves runs that are Scheduled, Queued, Waiting or Blocked to another queue, with their place in the order of
	// starting. They stay there, also for later attempts and replays; but a replay that makes the run of a workflow's task
	// anew takes the queue of the graph. A workflow's own run is not moved: nobody executes it.
	ActMoveQueue
)

// A NewEvent is an event to publish.
type NewEvent struct {
	Key      string // not empty
	Payload  []byte // JSON
	Metadata []byte // a JSON object, or nil
	Scope    string // selects among the filters of tasks
	Priority *int8  // of the runs that it starts; nil: that of their task
	// Delivery, if not empty, names a delivery: a second event with it is not stored, and gets the ID of
	// the first.
	Delivery string
	// Runs has, by task, the runs of triggers for this event, with the limits and keys that functions of
	// the program compute from the payload.
	Runs map[string]NewRun
	// Call of the first event of a Publish, if not nil, is a durable call of the run that publishes. It is recorded in
	// the same commit, with the IDs as its Value. It must not have been recorded.
	Call *Call
	// Costly lists the filters that were too expensive to compute for this event, and so did not
	// match it. It is set by the store.
	Costly []string
	// Stored is the event's ID, or zero before it is stored. It is set by the store.
	Stored ID

	view    any // of Decode
	viewErr error
	viewed  bool
	passed  map[passedKey]bool // whether it passes a filter
}

// Size returns the bytes of payload and metadata that count for MaxPageBytes.
func (e *NewEvent) Size() int { return len(e.Payload) + len(e.Metadata) }

// A WorkerInfo describes a worker to Register.
type WorkerInfo struct {
	Name   string
	Slots  int
	Queues []string
	Labels map[string]string
	PID    int
	Host   string
	Build  string // differs between programs, and between builds of one
	// Program is the same for all builds of a program. Defines lists the tasks that this build defines, with
	// or without a handler: see Declare. Neither is stored.
	Program string
	Defines []string
	// Tasks lists the tasks and workflows that it has handlers for, sorted; nil: any.
	Tasks []string

	// Set by the store.
	Paused  bool
	ID      int64 // of a registered worker, Register changes that one; 0: a new worker
	Started time.Time
	Running int // runs that it executes
}

// An Execution names one execution of a run. The lease tells it from earlier ones.
type Execution struct {
	ID    ID
	Lease Lease
}

// Signals tell a worker to stop executions.
type Signals struct {
	Cancel []Execution // executions of runs that were asked to cancel
	// Lost reports that other stores took the worker for dead, or may at any moment: others have the runs that it
	// was given before, and all that it writes about them is stale. Claim gives it no runs until it lives again.
	Lost bool
}

// Recovered reports what became of the runs of dead processes.
type Recovered struct {
	Requeued int  // runs that were queued again
	Blocked  []ID // runs that are Blocked now, after MaxCrashes deaths
}

// A QueueInfo is the state of a queue.
type QueueInfo struct {
	Name    string
	Paused  bool
	Ready   int // runs that may start, up to MaxCount of each task
	Running int
	Oldest  time.Time // the earliest due time among the next runs of each task; zero: none may start
	// Priorities counts the runs that may start by their priority, up to MaxCount of them in all. Only a QueueList with
	// a Name sets it.
	Priorities map[int8]int
}
