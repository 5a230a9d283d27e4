package store

import (
	"time"
)

// MaxErrorGroups is the highest number of error groups that are kept: those that were seen last.
const MaxErrorGroups = 10_000

// A Failure says in which error group a failed run counts.
type Failure struct {
	Group  int64  // the group's ID: a digest of Task and Text; not 0
	Task   string // whose run failed
	Text   string // the error's first line, with what varies masked
	Sample string // the beginning of the error's message
}

// An ErrorGroup stands for the failed runs of one task that had the same error.
type ErrorGroup struct {
	Failure                // its Sample is that of Run
	Run       ID           // the last one that failed; it may be deleted
	First     time.Time    // when the first one failed
	Last      time.Time    // when Run failed
	Count     int64        // how often a run failed so
	MutedTill time.Time    // the time until which it is muted; zero: none
	MutedTo   int64        // the Count until which it is muted; 0: none
	Resolved  int64        // the Count when it was marked as resolved; 0: it was not
	Counts    []ErrorCount // with ErrorQuery.Span; oldest first, without spans in which no run failed
}

// Size returns the bytes of texts that count for MaxPageBytes.
func (g *ErrorGroup) Size() int { return len(g.Task) + len(g.Text) + len(g.Sample) }

// An ErrorCount says how often runs failed in a span of time.
type ErrorCount struct {
	At time.Time // when the span begins
	N  int64
}

// An ErrorQuery selects error groups that match all its fields. A zero field matches every group.
type ErrorQuery struct {
	IDs   []int64
	Tasks []string
	Since time.Time // seen at or after
	Until time.Time // first seen before
	Text  string    // in Task, Text or Sample; case is ignored
	// Span is the length of the spans of ErrorGroup.Counts: a minute or an hour, or 0 for no Counts. Counts begin with the
	// span in which Since lies, end before Until, and are kept for MinutesKept and HoursKept.
	Span time.Duration
	// After is the place of a group: the page begins after it. Zero: with the first group.
	After ErrorPlace
}

// An ErrorPlace is a place in the list of error groups.
type ErrorPlace struct {
	Last time.Time
	ID   int64
}
