// Package ready decides which ready runs a claim takes.
//
// Runs are in lanes: a lane holds those of one task in one queue, for the same workers. A Set knows
// which lanes have ready runs, and a position that the first run of each is not before. It keeps,
// for each worker, a View with the lanes that the worker may take from, as heaps by that position.
// A claim reads a lane when that is next, so it reads about as many runs as it takes, whatever the
// backlog and however many lanes it is in (R9).
//
// The package has no SQL, no clock and no goroutine: it reads runs by Rows, which a store implements
// in a transaction.
package ready

import (
	"cmp"
	"fmt"
	"math"

	"github.com/stint-dev/stint/store"
)

// A Name identifies a lane, but for those of large bulk enqueues.
type Name struct {
	Queue, Task string
	Suspect     bool   // its runs were executing in two or more deaths of a process
	Route       string // as store.Route.Text
}

// A Lane holds the runs of one task in one queue, or those of one large bulk enqueue.
type Lane struct {
	Name
	ID     int64
	Staged bool // of a bulk that is not complete
	Dirty  bool // for the store: it is to be written

	wants *store.Route // Route, parsed; nil: not yet

	// Whether runs may be ready in it. If so, the first is not before bound.
	ready bool
	bound Position
}

// Bound returns a position that the lane's first ready run is not before.
func (l *Lane) Bound() Position { return l.bound }

// A Position is a run's position in the order of starting.
type Position struct{ Rank, Turn, ID int64 }

// Start is before all positions: the bound of a lane whose first run was not read.
var Start = Position{Rank: -1 << 62}

// Compare returns -1 if p is before q, 1 if it is after q, and 0 if they are equal.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Rank, q.Rank), cmp.Compare(p.Turn, q.Turn), cmp.Compare(p.ID, q.ID))
}

// CompareStarts compares runs that a claim starts, with how often each was executing when its process died: in order, but
// those that are suspected of that are last.
func CompareStarts(p Position, crashes int, q Position, otherCrashes int) int {
	suspect := func(crashes int) int { return min(crashes/store.SuspectCrashes, 1) }
	return cmp.Or(cmp.Compare(suspect(crashes), suspect(otherCrashes)), p.Compare(q))
}

// Rows are the runs and workers of a transaction.
type Rows interface {
	// Now returns the time of the transaction, in milliseconds.
	Now() int64
	// Next returns up to n positions of a lane's ready runs after one, in order.
	Next(l *Lane, after Position, n int) ([]Position, error)
	// Heads returns the first ready run of each of the lanes that has any.
	Heads(lanes []int64) ([]Head, error)
	// Due returns when a lane's first ready run was due, in milliseconds; ok is false if there is none.
	Due(l *Lane) (at int64, ok bool, err error)
	// Busy returns how many runs a worker executes.
	Busy(worker int64) (int, error)
	// SuspectExecutes reports whether a run executes that is a suspect.
	SuspectExecutes() (bool, error)
	// WakeAt makes the store serve claims at a time, in milliseconds.
	WakeAt(at int64)
}

// A Head is the first ready run of a lane.
type Head struct {
	Lane int64
	Position
	More bool // others follow
}

// A Set holds lanes: all that have ready runs, and others. It is right in a transaction, and after
// Rollback or Commit in the next.
type Set struct {
	ByID   map[int64]*Lane
	ByName map[Name]*Lane
	Paused map[string]bool // queues
	Routed bool            // some lane is not for every worker

	views map[int64]*View // by worker

	added    []*Lane // by the transaction
	advanced []was   // lanes of which it has started runs, as they were
}

// was is how a lane was.
type was struct {
	*Lane
	ready bool
	bound Position
}

// NewSet returns a set without lanes.
func NewSet() Set {
	return Set{ByID: map[int64]*Lane{}, ByName: map[Name]*Lane{}, views: map[int64]*View{}}
}

// Add adds a lane that was read.
func (s *Set) Add(l *Lane) *Lane {
	s.ByID[l.ID] = l
	s.Routed = s.Routed || l.Route != ""
	return l
}

// AddNew adds a lane that the transaction has created.
func (s *Set) AddNew(l *Lane) *Lane {
	s.added = append(s.added, l)
	return s.Add(l)
}

// Touch marks a lane in which runs may have become ready.
func (s *Set) Touch(l *Lane) { s.set(l, Start) }

// TouchFrom marks a lane in which runs of a rank, or after it, may have become ready.
func (s *Set) TouchFrom(l *Lane, rank int64) {
	s.touchAt(l, Position{Rank: max(rank, Start.Rank), Turn: math.MinInt64})
}

// Found marks a lane in which nothing ready is before a position, as was read. Its first run is there if some is true, else
// it has none.
func (s *Set) Found(l *Lane, at Position, some bool) {
	if l.bound = at; some {
		s.set(l, at)
	}
}

func (s *Set) touchAt(l *Lane, at Position) {
	if !l.ready || at.Compare(l.bound) < 0 {
		s.set(l, at)
	}
}

// Took moves the bound of a lane to the last run that was taken of it, where the next claim begins. A run before
// that, which another transaction held meanwhile, is found once the lane is touched.
func (s *Set) Took(l *Lane, last Position) { s.advance(l, last) }

// Empty marks a lane that has no ready runs.
func (s *Set) Empty(l *Lane) {
	s.advanced = append(s.advanced, was{l, l.ready, l.bound})
	l.ready = false
	for _, v := range s.views {
		v.remove(l)
	}
}

// advance sets the position of a lane's first run.
func (s *Set) advance(l *Lane, to Position) {
	s.advanced = append(s.advanced, was{l, l.ready, l.bound})
	s.set(l, to)
}

func (s *Set) set(l *Lane, bound Position) {
	l.ready, l.bound = true, bound
	for _, v := range s.views {
		v.put(s, l)
	}
}

// Any reports whether some lane may have ready runs.
func (s *Set) Any() bool {
	for _, l := range s.ByID {
		if l.ready {
			return true
		}
	}
	return false
}

// Commit keeps what the transaction has done.
func (s *Set) Commit() { s.added, s.advanced = s.added[:0], s.advanced[:0] }

// Rollback undoes what the transaction has done. Bounds go back to where they were: before them there is nothing to find.
func (s *Set) Rollback() {
	for _, x := range s.advanced {
		if x.ready {
			s.touchAt(x.Lane, x.bound)
		}
	}
	for _, l := range s.added {
		s.Empty(l)
		delete(s.ByID, l.ID)
		delete(s.ByName, l.Name)
	}
	s.Commit()
}

// DropView forgets the view of a worker that is dead.
func (s *Set) DropView(worker int64) { delete(s.views, worker) }

// Check returns what claims would do wrong in a lane whose first ready run is at a position, for
// tests; empty: nothing.
func (s *Set) Check(lane int64, first Position) string {
	l := s.ByID[lane]
	if l == nil || !l.ready || l.bound.Compare(first) > 0 {
		return fmt.Sprintf("run %d is ready at %+v, and of its lane %d is known: %+v", first.ID, first, lane, l)
	}
	for worker, v := range s.views {
		if _, wanted := v.groupOf(s, l); wanted != (v.entries[l] != nil || v.waits[l] != nil) {
			return fmt.Sprintf("run %d is ready, and that lane %d is in the view of worker %d: %t", first.ID, lane, worker, !wanted)
		}
	}
	return ""
}
