package store

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// Stats says how the store and its runs fare. What it counts is not part of any
// guarantee: the death of a process may take the counts of its last second.
type Stats interface {
	// Counters returns what happened since a time, in spans of a minute or an hour, oldest
	// first: of all runs together, or, with perTask, of each task in each queue. Minutes
	// are kept for MinutesKept, hours for HoursKept.
	Counters(ctx context.Context, span time.Duration, since time.Time, perTask bool) ([]Counters, error)
	// Counts counts the runs that have not ended, by state, each up to MaxCount.
	Counts(ctx context.Context) (map[State]int, error)
	// Changed waits until something has changed since after, which is what an earlier call
	// returned, or 0. It misses nothing, and may return when nothing has changed. The number
	// rises with what was done: by one or more a commit.
	Changed(ctx context.Context, after uint64) (uint64, error)
	// Facts describes the database.
	Facts(ctx context.Context) (Facts, error)
}

// How long tallies are kept.
const (
	MinutesKept = 25 * time.Hour
	HoursKept   = 31 * 24 * time.Hour
)

// A Counters is what happened in a span of time.
type Counters struct {
	At          time.Time // where the span begins
	Queue, Task string    // both empty: of all

	Enqueued  int64 // runs that were made, save tasks of workflows, and what an AppTx made
	Started   int64 // executions
	Succeeded int64 // runs that ended so; those of workflows count too
	Failed    int64
	Canceled  int64
	Skipped   int64
	Retried   int64     // attempts that failed, and were not the last
	Waits     Histogram // from when a run was due to its start
	Durations Histogram // from the last start of a run to its end

	// Of all runs alone.
	Depth   int       // most runs that were ready, counted up to MaxCount
	Commits int64     // transactions
	Changes int64     // calls that they answered
	Syncs   Histogram // how long a transaction took to commit
}

// Add adds what happened in another span, or to other runs in the same.
func (t *Counters) Add(o *Counters) {
	t.Enqueued += o.Enqueued
	t.Started += o.Started
	t.Succeeded += o.Succeeded
	t.Failed += o.Failed
	t.Canceled += o.Canceled
	t.Skipped += o.Skipped
	t.Retried += o.Retried
	t.Waits.add(&o.Waits)
	t.Durations.add(&o.Durations)
	t.Depth = max(t.Depth, o.Depth)
	t.Commits += o.Commits
	t.Changes += o.Changes
	t.Syncs.add(&o.Syncs)
}

// End counts a run that ended in a state, d after its last start; negative: it had none.
func (t *Counters) End(s State, d time.Duration) {
	switch s {
	case Succeeded:
		t.Succeeded++
	case Failed:
		t.Failed++
	case Canceled:
		t.Canceled++
	case Skipped:
		t.Skipped++
	}
	if d >= 0 {
		t.Durations.Observe(d)
	}
}

// A Histogram counts durations by size: those up to each of its bounds, and beyond all.
type Histogram [len(steps)*decades + 1]int64

// The bounds are the steps times powers of ten from finest on: 0.1 ms to 19 hours.
var steps = [...]time.Duration{10, 15, 20, 30, 50, 70}

const (
	finest  = 10 * time.Microsecond
	decades = 9
)

var bounds = func() (b [len(Histogram{}) - 1]time.Duration) {
	unit := finest
	for d := range decades {
		for i, s := range steps {
			b[d*len(steps)+i] = s * unit
		}
		unit *= 10
	}
	return b
}()

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	lo, hi := 0, len(bounds)
	for lo < hi {
		if mid := (lo + hi) / 2; bounds[mid] < d {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	h[lo]++
}

func (h *Histogram) add(o *Histogram) {
	for i, n := range o {
		h[i] += n
	}
}

// Count is how many durations were counted.
func (h *Histogram) Count() (n int64) {
	for _, c := range h {
		n += c
	}
	return n
}

// Quantile is a bound that the part q of the durations does not exceed: at most half as
// much again as the smallest such. It is 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := int64(q * float64(h.Count()))
	for i, n := range h {
		if rank -= n; n > 0 && rank <= 0 {
			return bounds[min(i, len(bounds)-1)]
		}
	}
	return 0
}

// String lists the bounds that are not empty, as INDEX:COUNT.
func (h *Histogram) String() string {
	var b []byte
	for i, n := range h {
		if n == 0 {
			continue
		}
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, ':')
		b = strconv.AppendInt(b, n, 10)
	}
	return string(b)
}

// ParseHistogram reads what String made. What it does not understand counts as nothing.
func ParseHistogram(s string) (h Histogram) {
	for f := range strings.SplitSeq(s, " ") {
		i, n, _ := strings.Cut(f, ":")
		at, err := strconv.Atoi(i)
		count, err2 := strconv.ParseInt(n, 10, 64)
		if err == nil && err2 == nil && at >= 0 && at < len(h) && count > 0 {
			h[at] = count
		}
	}
	return h
}

// Facts describe a database.
type Facts struct {
	Path       string // "": none
	Size       int64  // bytes
	LogSize    int64  // bytes of what is committed and not in the file yet
	FreePages  int64
	Pages      int64
	PageSize   int64
	Schema     int    // version
	Engine     string // and its version
	Durability string // of this program's commits
	// Checkpoint is when what was committed last went from the log into the file.
	Checkpoint time.Time
}
