package store

import (
	"context"
	"time"
)

// Lists reads everything that is not a run or of one run: queues, limits, crons, events, counters and so on.
type Lists interface {
	// Read answers a query: it sets the query's result fields.
	//
	// A list with a Limit, which is at least 1, is read in pages. A page has at most Limit rows. It ends early, but has at
	// least one row if any row matches, before its rows exceed MaxPageBytes by their Size.
	Read(ctx context.Context, q Query) error
}

// A Query is a pointer to a CounterList, CronList, DefinitionList, ErrorGroupList, EventList, FilterList, LimitList,
// LogCountList, LogList, Names, QueueList, SettingList, StateCount or WorkerList. The caller sets the fields before the
// empty line. Read sets those after it, or all fields of a query without an empty line.
type Query interface{ query() }

// A WorkerList lists the living workers, in the order in which they were registered.
type WorkerList struct {
	Workers []WorkerInfo
}

// A DefinitionList lists the newest definition of each task, by the task's name, or one definition of one task.
type DefinitionList struct {
	Task    string // empty: the newest definition of each task; else one of this task, or none if it is not stored
	Version string // with a Task: the version to read; empty: the newest
	After   string // without a Task: the page begins after this task; empty: with the first
	Limit   int    // without a Task: see Read

	Definitions []Definition
	More        bool // another page follows, After the last task of this one
}

// A CronList lists crons by name. Crons that code declared and no longer does are left out.
type CronList struct {
	After string // the page begins after the cron with this name; empty: with the first
	Limit int    // see Read

	Crons []Cron
	More  bool // another page follows, After the last name of this one
}

// An EventList lists the events that match, newest first. The error is ErrNotFound if Before is not an ID of this database.
type EventList struct {
	Filter EventFilter
	Before ID  // only events that are older than this one; zero: from the newest
	Limit  int // see Read

	Events []EventInfo
	Next   ID // Before of the next page; zero: this is the last page
}

// A FilterList lists filters, oldest first.
type FilterList struct {
	Task  string // only the filters of this task; empty: of all tasks
	After int64  // the page begins after the filter with this ID; 0: with the first
	Limit int    // see Read

	Filters []TaskFilter
	More    bool // another page follows, After the last ID of this one
}

// A QueueList lists every queue that was ever used, by name.
type QueueList struct {
	Name string // only the queue with this name, with its Priorities; empty: all queues, without Priorities

	Queues []QueueInfo
}

// A LimitList lists limits by name and key: the first MaxLimits.
type LimitList struct {
	Rates bool // true: the rate limits; false: the keys of concurrency limits that are in use or paused

	Limits []LimitInfo
}

// A SettingList lists settings in the order of their keys' bytes.
type SettingList struct {
	Prefix string // only settings whose keys begin so; empty: all
	After  string // the page begins after this key; empty: with the first
	Limit  int    // see Read

	Settings []Setting
	More     bool // another page follows, After the last key of this one
}

// An ErrorGroupList lists the error groups that match, the most recently seen first.
type ErrorGroupList struct {
	ErrorQuery
	Limit int // see Read

	Groups []ErrorGroup
	More   bool // another page follows, After the last group of this one
}

// A LogList lists the lines of all runs that match, newest first, or oldest first with Filter.Oldest.
type LogList struct {
	Filter LogFilter
	After  LogPlace // the page begins after this line, in the order of the list; zero: with the first
	Limit  int      // see Read

	Lines []RunLog
	// Next is After of the next page; zero: this is the last page. With Filter.Scan a page that is not the last may be empty.
	Next LogPlace
}

// A LogCountList counts lines by level and by spans, in the order of their times and levels. Each span begins at a multiple
// of Span since 1970. The Scan and Oldest of the Filter are ignored.
type LogCountList struct {
	Filter LogFilter
	Span   time.Duration
	// Limit is how many lines are looked at: the newest in the Filter's time, and of its Run. Those of them that match
	// its Tasks and Level are counted.
	Limit int

	Counts []LogCount
}

// A CounterList lists counters by span, oldest first. Spans in which nothing happened are left out. Counts are not
// guaranteed: a process that dies may lose those of its last second.
type CounterList struct {
	Span  time.Duration // a minute or an hour: minutes are kept for MinutesKept, hours for HoursKept
	Since time.Time     // from the span in which this time lies
	Of    Per           // all runs together, or each task, queue or limit

	Counters []Counters
}

// A StateCount counts the runs that have not ended.
type StateCount struct {
	Runs map[State]int // each state up to MaxCount
}

// Names lists the names that the database knows, each list sorted.
type Names struct {
	Tasks  []string // tasks that have or had a run, a worker, a cron, a trigger or a filter
	Queues []string // queues that have or had a run or a worker, or were paused
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
