package store

import (
	"context"
	"time"
)

// Lists reads queues, limits, crons, events and the rest that is listed beside runs.
type Lists interface {
	// Read reads what a query asks for, and sets its answer. A list with a Limit has up to
	// as many rows, at least one if there are any, and fewer rather than more than MaxPageBytes.
	Read(ctx context.Context, q Query) error
}

// A Query is a pointer to one of the types below. In each the answer comes last, after an empty line.
type Query interface{ query() }

// A WorkerList lists the living workers, in the order of registering.
type WorkerList struct {
	Workers []WorkerInfo
}

// A DefinitionList lists definitions by task.
type DefinitionList struct {
	Task    string // only that of this task, if it exists; empty: the newest of every task
	Version string // of Task; empty: the newest
	After   string // the task before the page
	Limit   int    // without a Task

	Definitions []Definition
	More        bool // there are others
}

// A CronList lists crons by name.
type CronList struct {
	After string // the name before the page
	Limit int

	Crons []Cron
	More  bool // there are others
}

// An EventList lists the events that match, newest first.
type EventList struct {
	Filter EventFilter
	Before ID // only older ones; zero: from the newest
	Limit  int

	Events []EventInfo
	Next   ID // the Before of the next page; zero: this is the last
}

// A FilterList lists filters, oldest first.
type FilterList struct {
	Task  string // only its filters; empty: those of all
	After int64  // the ID before the page
	Limit int

	Filters []TaskFilter
	More    bool // there are others
}

// A QueueList lists every queue that was ever used, by name.
type QueueList struct {
	Name string // only the one with this name, with its Priorities

	Queues []QueueInfo
}

// A LimitList lists limits by name and key, up to MaxLimits.
type LimitList struct {
	Rates bool // the rate limits; else the keys of concurrency limits that are in use or paused

	Limits []LimitInfo
}

// A SettingList lists settings in the order of their keys' bytes.
type SettingList struct {
	Prefix string // of the keys
	After  string // the key before the page
	Limit  int

	Settings []Setting
	More     bool // there are others
}

// An ErrorGroupList lists the error groups that match, the last seen first.
type ErrorGroupList struct {
	ErrorQuery
	Limit int

	Groups []ErrorGroup
	More   bool // there are others
}

// A LogList lists the lines of all runs that match, newest first or as the filter says.
type LogList struct {
	Filter LogFilter
	After  LogPlace
	Limit  int

	Lines []RunLog
	Next  LogPlace // the After of the next page; zero: there is no more. With Filter.Scan a page may be empty and not the last
}

// A LogCountList counts the lines that match by level and by spans that begin at multiples of Span since 1970, in
// the order of their times and levels.
type LogCountList struct {
	Filter LogFilter
	Span   time.Duration
	Limit  int // how many lines are counted: the newest in the filter's time, and of its run

	Counts []LogCount
}

// A CounterList lists what happened since a time, oldest first, and leaves out spans in which nothing did. Its
// counts are not part of any guarantee: a process that dies may lose those of its last second.
type CounterList struct {
	Span  time.Duration // a minute or an hour: minutes are kept for MinutesKept, hours for HoursKept
	Since time.Time
	Of    Per

	Counters []Counters
}

// A StateCount counts the runs that have not ended.
type StateCount struct {
	Runs map[State]int // each up to MaxCount
}

// Names are the names that the database knows, each list sorted.
type Names struct {
	Tasks  []string // with runs, a worker, a cron, a trigger or a filter, now or before
	Queues []string // with runs or a worker, now or before, or paused
}

func (*WorkerList) query()     {}
func (*DefinitionList) query() {}
func (*CronList) query()       {}
func (*EventList) query()      {}
func (*FilterList) query()     {}
func (*QueueList) query()      {}
func (*LimitList) query()      {}
func (*SettingList) query()    {}
func (*ErrorGroupList) query() {}
func (*LogList) query()        {}
func (*LogCountList) query()   {}
func (*CounterList) query()    {}
func (*StateCount) query()     {}
func (*Names) query()          {}
