package store

import (
	"context"
	"time"
)

// Changes makes single changes that a person or a program asks for, such as a pause.
type Changes interface {
	// Change makes a change in one commit, and sets its result field, which comes after an empty line. The error is
	// ErrNotFound if the run, cron, filter, worker, rate limit or error group that it is for does not exist.
	Change(ctx context.Context, now time.Time, c Change) error
}

// A Change is a pointer to a CronChange, ErrorMark, FilterChange, PauseChange, RateChange, RunChange or SettingChange.
type Change interface{ change() }

// A RunChange restarts, forks, reschedules or wakes one run. The error is ErrNotFound also if the run cannot be changed so,
// such as a workflow's run, or one in a state that Kind does not name.
type RunChange struct {
	Kind RunChangeKind
	ID   ID        // of the run
	At   Address   // for RunRestart and RunFork: an entry in the handler's own scope
	Due  time.Time // for RunReschedule; a time before now means now

	Fork ID // ID of the run that RunFork enqueued; set by Change
}

// A RunChangeKind says what a RunChange does.
type RunChangeKind uint8

// The changes of a run.
const (
	// RunRestart queues a run that has ended, or is blocked, for a new attempt that replays only what was
	// recorded before At.
	RunRestart RunChangeKind = iota + 1
	// RunFork enqueues a copy of a run. The copy has the journal entries that the run had completed before At.
	RunFork
	// RunReschedule changes when a run is due. The error is ErrStarted if the run is not Scheduled, or has started before.
	RunReschedule
	// RunWake queues a run that is Waiting and has left memory, as if something that it waits for had come.
	RunWake
)

// A CronChange sets, pauses, resumes, deletes or triggers a cron, or gives it another spec. The error is ErrTaken if Kind is
// CronSet and the cron with that name is declared or of another task, if Kind is CronSpec and the cron is declared, or if Kind
// is CronDelete and the cron is declared and a living worker has its task.
type CronChange struct {
	Kind CronChangeKind
	Cron Cron   // for CronSet: the cron to store
	Name string // for the other kinds: the cron's name
	Spec string // for CronSpec

	Started ID // ID of the run that CronTrigger started; set by Change
}

// A CronChangeKind says what a CronChange does.
type CronChangeKind uint8

// The changes of a cron.
const (
	CronSet     CronChangeKind = iota + 1 // creates a cron, or replaces the one with its name; with the same spec, the next tick stays
	CronPause                             // pauses the cron; ticks of the pause start no run, whatever its CatchUp
	CronResume                            // ends the pause; the next tick is after now
	CronDelete                            // deletes the cron
	CronTrigger                           // starts a run now, also of a paused cron; the next tick stays
	CronSpec                              // gives the cron another spec; the rest of it stays
)

// A FilterChange adds, replaces or deletes a filter: without Filter.ID it adds Filter; with an ID it replaces the filter that
// has it; with an ID and without Filter.Task it deletes that filter.
type FilterChange struct {
	Filter TaskFilter

	ID int64 // ID of the filter; set by Change
}

// A PauseChange pauses or resumes a queue, workers or a limit. It sets exactly one of Queue, Worker and Limit. Runs that have
// started, or that the limit has admitted, go on. While a limit is paused, runs wait that its Strategy would cancel.
// Queues, and keys of concurrency limits, that were never used can be paused too.
type PauseChange struct {
	Queue  string   // no run of this queue starts
	Worker string   // the living workers of this name start no run
	Limit  LimitKey // this limit admits no run
	Paused bool     // true: pause; false: resume
}

// A RateChange sets a rate limit, and creates it if it does not exist. Its settings override those of the Limits of runs.
type RateChange struct {
	Key       string
	PerSecond float64 // units a second
	Burst     int     // units at once
}

// A SettingChange stores a setting, in place of the one with its key. With a nil Value it deletes that one, if there is one.
type SettingChange struct {
	Setting
	IfMissing bool // if the key has a value, nothing is changed

	Stored []byte // the key's value after the change; nil: it has none; set by Change
}

// An ErrorMark mutes an error group or marks it as resolved. It replaces all marks of the group: the zero value of a field
// removes that mark. In the store a mark has one effect: Expire keeps a group until its MutedTill.
type ErrorMark struct {
	Group     int64     // ID of the group
	MutedTill time.Time // ErrorGroup.MutedTill
	ToDouble  bool      // true: ErrorGroup.MutedTo becomes twice the present Count
	Resolved  bool      // true: ErrorGroup.Resolved becomes the present Count
}

func (*RunChange) change()     {}
func (*CronChange) change()    {}
func (*FilterChange) change()  {}
func (*PauseChange) change()   {}
func (*RateChange) change()    {}
func (*SettingChange) change() {}
func (*ErrorMark) change()     {}
