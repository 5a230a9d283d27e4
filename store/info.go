package store

import "time"

// A Filter selects runs. Empty fields select all.
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
	Error    string            // in the error's message, also one that the engine wrote; see ErrorHas
	Limit    *LimitKey         // the run has this limit
	Through  ID                // this run, and those enqueued before it
	// AnyMetadata: at least one of these keys has one of its values. nil: any run.
	AnyMetadata map[string][]string
	Event       ID     // it started the run
	Worker      string // the name of the last attempt's worker
	NoTasks     bool   // no tasks of workflows
	ErrorGroup  int64  // it failed with an error of this group the last time that it failed; 0: any run

	// Oldest makes List go from the oldest run to the newest; its before is then an after. Other methods ignore it.
	Oldest bool
	// Brief makes List leave out Input, Output, Metadata, Error and Progress. Other methods ignore it.
	Brief bool
	// Scan is the highest number of runs that List looks at; 0: all. Count looks at as many of each state that it finds
	// by an index. Other methods ignore it.
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
	// ActCancel cancels runs that have not ended. A run with a running handler gets a Signal. A waiting run
	// with a journal, or a Blocked one with pending compensations, is queued once more to clean up. All
	// others end at once, also a Blocked one that was asked to cancel before. Children that are not detached
	// are canceled too.
	ActCancel ActionKind = iota + 1
	// ActReplay queues runs that have ended or are Blocked for a new attempt. Attempts keep counting; the
	// budget of retries starts anew. The new attempt records its compensations anew: of the old ones only
	// notes stay, in UndoneScope, except for those of branches that have ended, or within such a branch,
	// which are pending again.
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
	// Program is the same for all builds of a program, and Defines lists what this build defines, with
	// or without a handler; see Declare. Neither is stored.
	Program string
	Defines []string
	// Tasks lists the tasks and workflows that it has handlers for, sorted; nil: any.
	Tasks []string

	// Set by the store.
	Paused  bool
	ID      int64
	Started time.Time
	Running int // runs that it executes
}

// An Execution names one execution of a run. The lease tells it from earlier ones.
type Execution struct {
	ID    ID
	Lease Lease
}

// Signals are what a worker must tell its runs.
type Signals struct {
	Cancel []Execution // asked to cancel
	// Lost reports that the worker was taken for dead, or may be at any moment: others have the runs that it
	// was given before, and all that it writes about them is stale. Claim gives it nothing until it lives again.
	Lost bool
}

// Recovered reports what became of the runs of dead processes.
type Recovered struct {
	Requeued int
	Blocked  []ID // they were executing in MaxCrashes deaths
}

// A QueueInfo is the state of a queue.
type QueueInfo struct {
	Name    string
	Paused  bool
	Ready   int // runs that may start, counted up to MaxCount
	Running int
	Oldest  time.Time // the earliest due time among the next runs of each task; zero: none may start
	// Priorities counts the runs that may start, by priority, up to MaxCount of them. Only Queues with a
	// name returns it.
	Priorities map[int8]int
}
