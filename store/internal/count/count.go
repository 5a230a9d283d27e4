// Package count counts what becomes of runs, for store.Stats, and decides when to store that.
//
// A transaction counts into open counters, which are added to the sums when it is committed. A
// process stores its sums about once a second, each in a row of its own: nothing is read, and no
// row is added to.
package count

import (
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/limits"
)

// A Name says whose runs are counted. The zero Name is all of them.
type Name struct{ Queue, Task string }

// A Span is a span of time in which the runs of a Name are counted, in milliseconds.
type Span struct {
	Name
	Length, At int64
}

// Lengths are the lengths of spans, in milliseconds.
var Lengths = [...]int64{time.Minute.Milliseconds(), time.Hour.Milliseconds()}

// KeptFrom returns when the oldest span that is kept begins, in milliseconds.
func KeptFrom(length int64, now time.Time) int64 {
	if length == Lengths[0] {
		return now.Add(-store.MinutesKept).UnixMilli()
	}
	return now.Add(-store.HoursKept).UnixMilli()
}

// rollUpAfter is the age, from the end of its span, at which the rows of several processes become one.
const rollUpAfter = time.Hour

// RolledUpTo returns the time before which spans must begin for their rows to be rolled up, in
// milliseconds.
func RolledUpTo(length, now int64) int64 { return now - rollUpAfter.Milliseconds() - length }

// storeEvery is the interval in which counts are written, in milliseconds.
const storeEvery = 1000

// Rows are the stored counters of a transaction.
type Rows interface {
	// Depth returns how many runs are queued, up to store.MaxCount.
	Depth() (int, error)
	// Put stores what this process has counted in a span.
	Put(n Span, c *store.Counters) error
}

// A Set holds the counters of a process.
type Set struct {
	open    map[Name]*store.Counters
	sums    map[Span]*sum
	calls   int   // committed calls that are in no sum yet
	dirty   bool  // there are counts that are not stored
	stored  int64 // when the sums were last stored; milliseconds
	written []*sum
	storing bool // the transaction stores them
	last    bool
}

type sum struct {
	store.Counters
	dirty bool
}

// Of returns the counters of the transaction for runs of a task.
func (s *Set) Of(queue, task string) *store.Counters {
	n := Name{queue, task}
	if s.open == nil {
		s.open = map[Name]*store.Counters{}
	}
	c := s.open[n]
	if c == nil {
		c = &store.Counters{}
		s.open[n] = c
	}
	return c
}

// Counted reports whether the transaction has counted anything.
func (s *Set) Counted() bool { return len(s.open) > 0 }

// Calls counts calls that a commit has answered.
func (s *Set) Calls(n int) { s.calls += n }

// Last makes the next transaction store all counts: it is the last one.
func (s *Set) Last() { s.last = true }

// Postpone makes counts wait after a transaction at a time that could not begin.
func (s *Set) Postpone(now int64) { s.stored = max(s.stored, now) }

// DueAt returns when to store the sums, even if there is nothing else to do; limits.Never: no count
// waits for that.
func (s *Set) DueAt() int64 {
	if !s.dirty {
		return limits.Never
	}
	return s.stored + storeEvery
}

// Store stores the sums if it is time to, and drops those whose span is over.
func (s *Set) Store(r Rows, now int64) error {
	if !s.dirty || !s.last && now < s.stored+storeEvery && now >= s.stored {
		return nil
	}
	depth, err := r.Depth()
	if err != nil {
		return err
	}
	for n, x := range s.sums {
		over := n.At+n.Length <= now
		if !x.dirty {
			if over {
				delete(s.sums, n)
			}
			continue
		}
		if n.Task == "" && !over {
			x.Depth = max(x.Depth, depth)
		}
		if err := r.Put(n, &x.Counters); err != nil {
			return err
		}
		s.written = append(s.written, x)
	}
	s.storing = true
	return nil
}

// Commit adds the transaction's counts to the sums. took is the duration of the commit.
func (s *Set) Commit(now int64, took time.Duration) {
	if s.storing { // all but this transaction's counts
		s.dirty, s.stored, s.storing = false, now, false
	}
	if s.sums == nil {
		s.sums = map[Span]*sum{}
	}
	for _, x := range s.written {
		x.dirty = false
	}
	s.written = s.written[:0]
	all := store.Counters{Commits: 1, Changes: int64(s.calls)}
	s.calls = 0
	all.Syncs.Observe(took)
	for n, c := range s.open {
		all.Add(c)
		s.add(n, now, c)
	}
	s.add(Name{}, now, &all)
	if len(s.open) > 0 && !s.dirty {
		s.dirty, s.stored = true, max(s.stored, now-storeEvery/2)
	}
	clear(s.open)
}

func (s *Set) add(n Name, now int64, c *store.Counters) {
	for _, length := range Lengths {
		span := Span{n, length, now - now%length}
		x := s.sums[span]
		if x == nil {
			x = &sum{}
			s.sums[span] = x
		}
		x.Add(c)
		x.dirty = true
	}
}

// Rollback discards what the transaction has counted.
func (s *Set) Rollback() {
	s.storing = false
	clear(s.open)
	s.written = s.written[:0]
}
