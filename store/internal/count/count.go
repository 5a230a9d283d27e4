// Package count counts what becomes of runs, for store.CounterList, and decides when to store that.
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

// Counts are written storeEvery milliseconds, at most perStore rows of tasks in a transaction. If there are more, a workflow's with
// very many tasks say, the next transaction that writes some is restEvery milliseconds later: so they hold up nobody.
const (
	storeEvery = 1000
	restEvery  = 250
	perStore   = 500
)

// maxIdle is how many sums of transactions in which nothing was counted are kept in memory. The next transaction stores them: a process
// that is idle for long neither gathers them without bound nor writes for each.
const maxIdle = 64

// Rows are the stored counters of a transaction.
type Rows interface {
	// Depth returns how many runs are queued, up to store.MaxCount.
	Depth() (int, error)
	// Put stores what this process has counted in a span.
	Put(n Span, c *store.Counters) error
}

// A Set holds the counters of a process.
type Set struct {
	open    map[Name]*Counts
	spare   []*Counts // to be reused in open
	total   Counts    // of open, to be reused
	sums    map[Span]*sum
	all     []*sum // those of all runs that are not stored
	changed []*sum // those of tasks that are not stored, longest first
	calls   int    // committed calls that are in no sum yet
	dirty   bool   // there are counts that are not stored
	stored  int64  // when the sums were last stored; milliseconds
	dropAt  int64  // when to look for sums whose span is over
	storing bool   // the transaction stores all, and the first puts of changed
	puts    int
	last    bool
}

type sum struct {
	Counts
	span  Span
	dirty bool // it is in all, or in changed
}

// maxSpare is how many Counts are kept for the next transactions.
const maxSpare = 16

// Of returns the counts of the transaction for runs of a task.
func (s *Set) Of(queue, task string) *Counts {
	n := Name{queue, task}
	if s.open == nil {
		s.open = map[Name]*Counts{}
	}
	c := s.open[n]
	if c == nil {
		if i := len(s.spare) - 1; i >= 0 {
			c, s.spare = s.spare[i], s.spare[:i]
		} else {
			c = &Counts{}
		}
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

// DueAt returns when to store sums, even if there is nothing else to do; limits.Never: no count
// waits for that.
func (s *Set) DueAt() int64 {
	if !s.dirty {
		return limits.Never
	}
	return s.stored + storeEvery
}

// Store stores sums if it is time to, and drops those whose span is over.
func (s *Set) Store(r Rows, now int64) error {
	if !s.dirty && len(s.all) < maxIdle || s.dirty && !s.last && now < s.stored+storeEvery && now >= s.stored {
		return nil
	}
	depth, err := r.Depth()
	if err != nil {
		return err
	}
	for _, x := range s.all {
		if x.span.At+x.span.Length > now {
			x.Depth = max(x.Depth, depth)
		}
	}
	if s.puts = len(s.changed); !s.last {
		s.puts = min(s.puts, perStore)
	}
	var c store.Counters // one for all rows: it is large
	for _, some := range [...][]*sum{s.all, s.changed[:s.puts]} {
		for _, x := range some {
			c = x.counters()
			if err := r.Put(x.span, &c); err != nil {
				return err
			}
		}
	}
	s.storing = true
	s.drop(now)
	return nil
}

// drop drops the sums that are stored and whose span is over, once a minute.
func (s *Set) drop(now int64) {
	if now < s.dropAt && now+Lengths[0] >= s.dropAt {
		return
	}
	s.dropAt = now - now%Lengths[0] + Lengths[0]
	for n, x := range s.sums {
		if !x.dirty && n.At+n.Length <= now {
			delete(s.sums, n)
		}
	}
}

// Held returns how many sums are in memory.
func (s *Set) Held() int { return len(s.sums) }

// Commit adds the transaction's counts to the sums. took is the duration of the commit.
func (s *Set) Commit(now int64, took time.Duration) {
	if s.storing { // none of them has this transaction's counts
		s.markStored(now)
	}
	if s.sums == nil {
		s.sums = map[Span]*sum{}
	}
	all := &s.total
	all.reset()
	all.Commits, all.Changes = 1, int64(s.calls)
	s.calls = 0
	all.Syncs.Observe(took)
	for n, c := range s.open {
		all.Add(c)
		s.add(n, now, c)
		if len(s.spare) < maxSpare {
			c.reset()
			s.spare = append(s.spare, c)
		}
	}
	s.add(Name{}, now, all)
	if len(s.open) > 0 && !s.dirty {
		s.dirty, s.stored = true, max(s.stored, now-storeEvery/2)
	}
	clear(s.open)
}

// markStored notes what Store has stored.
func (s *Set) markStored(now int64) {
	for _, some := range [...][]*sum{s.all, s.changed[:s.puts]} {
		for _, x := range some {
			x.dirty = false
		}
	}
	s.all, s.changed = s.all[:0], s.changed[s.puts:]
	if s.dirty, s.stored = len(s.changed) > 0, now; s.dirty {
		s.stored = now - storeEvery + restEvery
	}
	s.storing, s.puts = false, 0
}

func (s *Set) add(n Name, now int64, c *Counts) {
	for _, length := range Lengths {
		span := Span{n, length, now - now%length}
		x := s.sums[span]
		if x == nil {
			x = &sum{span: span}
			s.sums[span] = x
		}
		x.Add(c)
		switch {
		case x.dirty:
			continue
		case n == Name{}:
			s.all = append(s.all, x)
		default:
			s.changed = append(s.changed, x)
		}
		x.dirty = true
	}
}

// Rollback discards what the transaction has counted.
func (s *Set) Rollback() {
	s.storing, s.puts = false, 0
	clear(s.open)
}
