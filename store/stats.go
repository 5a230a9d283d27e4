package store

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// How long counters of a minute, and those of an hour, are kept.
const (
	MinutesKept = 25 * time.Hour
	HoursKept   = 31 * 24 * time.Hour
)

// A Per says what one Counters of a CounterList counts.
type Per uint8

// The values of Per.
const (
	PerAll   Per = iota // all runs together
	PerTask             // each task in each queue
	PerQueue            // each queue: the sums of its tasks, and the queue's samples
	PerLimit            // each concurrency limit, with all its keys together, and each rate limit: only samples
)

// Counters count what happened in a span of time.
type Counters struct {
	At          time.Time // when the span begins
	Queue, Task string    // both empty: all
	Limit       LimitKey  // of PerLimit: the name of a concurrency limit, without a key, or the key of a rate

	Enqueued  int64 // except tasks of workflows, and runs of an AppTx
	Started   int64 // executions
	Succeeded int64 // runs, also those of workflows
	Failed    int64
	Canceled  int64
	Skipped   int64
	Retried   int64     // attempts that failed and were not the last
	Waits     Histogram // from a run's due time to its start
	Durations Histogram // from a run's last start to its end

	// Depth, Active and Max are the highest samples of the span. A program that has the database open takes one a minute,
	// of the 200 deepest queues and limits of each kind that are not idle.
	Depth  int // runs that may start, up to MaxCount of each task; of a limit: runs that wait for it
	Active int // of a queue: running runs; of a limit: runs that hold it, or units that are used up; else 0
	Max    int // of a limit: the highest Active that it allows, with all keys in use together, or the burst of a rate

	// Only for all runs together.
	Commits int64     // transactions
	Changes int64     // calls that these transactions answered
	Syncs   Histogram // durations of COMMIT
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
	t.Depth, t.Active, t.Max = max(t.Depth, o.Depth), max(t.Active, o.Active), max(t.Max, o.Max)
	t.Commits += o.Commits
	t.Changes += o.Changes
	t.Syncs.add(&o.Syncs)
}

// End counts a run that ended in a state, d after its last start; d is negative if it never
// started.
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

// A Histogram counts durations by size: up to each of its bounds, and beyond the last.
type Histogram [len(steps)*decades + 1]int64

// The bounds are the steps times powers of ten, from finest on: 0.1 ms to 23 hours. The steps are the E12 series of
// IEC 60063: each is about 1.21 times the one before.
var steps = [...]time.Duration{10, 12, 15, 18, 22, 27, 33, 39, 47, 56, 68, 82}

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

// Count returns how many durations were counted.
func (h *Histogram) Count() (n int64) {
	for _, c := range h {
		n += c
	}
	return n
}

// Quantile returns the duration that about the part q of all durations do not exceed; q is from 0 to 1. It assumes that
// durations between two bounds are spread evenly, so from 0.1 ms on it is off by at most a quarter. It returns 0 if no
// duration was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := max(math.Ceil(q*float64(h.Count())), 1) // of the duration that is asked for, among all by size
	for i, n := range h {
		if rank > float64(n) {
			rank -= float64(n)
			continue
		}
		if i == len(bounds) {
			return bounds[i-1]
		}
		from := time.Duration(0)
		if i > 0 {
			from = bounds[i-1]
		}
		return from + time.Duration(float64(bounds[i]-from)*(rank-.5)/float64(n))
	}
	return 0
}

// String returns the counts that are not 0 as texts INDEX:COUNT, with a space between them.
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

// ParseHistogram is the inverse of String. It ignores parts that are not of that form.
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
	Path       string // of a file; "": in memory, or a server
	Size       int64  // bytes
	LogSize    int64  // bytes of the write-ahead log
	FreePages  int64
	Pages      int64
	PageSize   int64
	Schema     int    // version
	Engine     string // and its version
	Durability string // of this program's commits
	// Checkpoint is when the log was last copied into the file.
	Checkpoint time.Time
	Server     *Server  // nil: no server
	Warnings   []string // what an operator should see to, a sentence each
}

// A Server describes the server of a database.
type Server struct {
	Address, Database, Schema string

	Connections    int // that are open, of all programs and to all its databases
	MaxConnections int
	Processes      int  // programs that have these tables open
	Listens        bool // this program hears of others' commits; else it polls
	// Skew is how far the server's clock is ahead of this program's. The server's decides.
	Skew time.Duration
	// DeadRows estimates the rows that were changed or deleted and not yet vacuumed, in the store's tables; LiveRows
	// the others.
	DeadRows, LiveRows int64
	// OldestSnapshot is the age of the oldest transaction whose rows vacuum must keep; SnapshotOf says whose it is.
	// Transactions of other roles are seen only with the rights of pg_monitor.
	OldestSnapshot time.Duration
	SnapshotOf     string
	// Standbys counts the standbys that replicate, and StandbyLag is how many bytes the last of them has yet to
	// replay; -1: unknown, which needs the rights of pg_monitor.
	Standbys   int
	StandbyLag int64
}
