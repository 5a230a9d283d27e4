package store

import (
	"context"
	"time"
)

// Changes makes the changes of operators and programs that are no outcome of a run.
type Changes interface {
	// Change makes a change in one commit, and sets its answer. ErrNotFound if what it is for does not exist.
	Change(ctx context.Context, now time.Time, c Change) error
}

// A Change is a pointer to one of RunChange, CronChange, FilterChange, PauseChange, RateChange, SettingChange and
// ErrorMark.
type Change interface{ change() }

// A RunChange restarts, forks, reschedules or wakes a run. ErrNotFound also if the run is not in a state that the
// change is for.
type RunChange struct {
	Kind RunChangeKind
	ID   ID        // of the run
	At   Address   // for RunRestart and RunFork: an entry in the handler's own scope
	Due  time.Time // for RunReschedule

	Fork ID // of RunFork; set by Change
}

// A RunChangeKind says what a RunChange does.
type RunChangeKind uint8

// The changes of a run.
const (
	// RunRestart queues a run that has ended, or is blocked, for a new attempt that replays only what was
	// recorded before At.
	RunRestart RunChangeKind = iota + 1
	// RunFork enqueues a copy of a run, with what that had completed before At.
	RunFork
	// RunReschedule changes the due time of a scheduled run: ErrStarted if it is not scheduled any more.
	RunReschedule
	// RunWake queues a run that is Waiting and has left memory, as what it waits for would.
	RunWake
)

// A CronChange sets, pauses, resumes, deletes or triggers a cron. ErrTaken for setting one that is declared or of
// another task, and for deleting one that is declared and whose task a living worker has.
type CronChange struct {
	Kind CronChangeKind
	Cron Cron   // for CronSet
	Name string // for all others

	Started ID // the run of CronTrigger; set by Change
}

// A CronChangeKind says what a CronChange does.
type CronChangeKind uint8

// The changes of a cron.
const (
	CronSet     CronChangeKind = iota + 1 // creates a cron, or replaces the one with its name; if the spec is the same, its ticks continue
	CronPause                             // ticks while it is paused are lost
	CronResume                            // its next tick is after now
	CronDelete                            // removes it
	CronTrigger                           // starts a run now, besides its ticks
)

// A FilterChange adds a filter without an ID, or replaces the one that has its ID. A filter with an ID and without a
// task deletes that one.
type FilterChange struct {
	Filter TaskFilter

	ID int64 // of the filter; set by Change
}

// A PauseChange stops what exactly one of its first fields names, or, with Paused false, resumes it: starts from a queue;
// starts by the living workers of a name; or what a limit admits. Admitted and started runs continue. While a
// limit is paused, a strategy that cancels new runs lets them wait. ErrNotFound if no living worker has the name,
// or the rate limit does not exist.
type PauseChange struct {
	Queue  string
	Worker string // a name
	Limit  LimitKey
	Paused bool
}

// A RateChange sets a rate limit's settings, which override those of Limits.
type RateChange struct {
	Key       string
	PerSecond float64
	Burst     int
}

// A SettingChange stores a setting, replacing one with its key; one whose Value is nil is deleted.
type SettingChange struct {
	Setting
	IfMissing bool // a stored one stays as it is

	Stored []byte // the value that is stored then; set by Change
}

// An ErrorMark is what a person said about an error group. It replaces the one that the group has; one that sets nothing
// removes it. A mark has one effect in the store: Expire keeps a group that is muted to a time until then.
type ErrorMark struct {
	Group     int64 // its ID
	MutedTill time.Time
	ToDouble  bool // MutedTo becomes twice the present Count
	Resolved  bool // Resolved becomes the present Count
}

func (*RunChange) change()     {}
func (*CronChange) change()    {}
func (*FilterChange) change()  {}
func (*PauseChange) change()   {}
func (*RateChange) change()    {}
func (*SettingChange) change() {}
func (*ErrorMark) change()     {}
