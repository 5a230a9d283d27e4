// Package journal is the replay cursor of durable functions: where each durable call
// of a run stands, what was recorded there, and whether the code that runs again still
// asks for the same. It does no I/O and knows no clock and no goroutine.
package journal

import (
	"fmt"
	"strconv"
	"sync"
)

// An Address is where an entry stands: a scope, "" for the handler itself, else the
// numbers of the branches that lead to it ("2", "2/1"); and a number in it, from 1.
type Address struct {
	Scope string
	Seq   int
}

func (a Address) String() string {
	if a.Scope == "" {
		return strconv.Itoa(a.Seq)
	}
	return a.Scope + "/" + strconv.Itoa(a.Seq)
}

// A Record is an entry: what kind of call it was, with what name, and what the caller
// keeps with it.
type Record[T any] struct {
	Kind, Name string
	Entry      T
}

// A Divergence says that code asked for something else than it had recorded.
type Divergence struct {
	At       Address
	Recorded string // "step \"charge\""; "nothing": the journal has no such call
	Asked    string // "return": it ended with entries left
}

func (d *Divergence) Error() string {
	return fmt.Sprintf("the code does not match the run's journal: entry %v is %s, the code asks for %s", d.At, d.Recorded, d.Asked)
}

// A Tape is the journal of a run. Its methods may be called concurrently, those of one
// Scope may not.
type Tape[T any] struct {
	mu      sync.Mutex
	records map[Address]Record[T]
	left    int // recorded, and not asked for yet
}

// NewTape returns an empty tape, to which records are added; about so many.
func NewTape[T any](n int) *Tape[T] { return &Tape[T]{records: make(map[Address]Record[T], n)} }

// Add adds a recorded entry.
func (t *Tape[T]) Add(at Address, r Record[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records[at] = r
	t.left++
}

// Played reports whether every recorded entry was asked for.
func (t *Tape[T]) Played() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left == 0
}

// Skip counts the entries of a scope, and of those within it, as asked for: its branch
// had ended and is not entered again.
func (t *Tape[T]) Skip(scope string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for at := range t.records {
		if at.Scope == scope || len(at.Scope) > len(scope) && at.Scope[:len(scope)+1] == scope+"/" {
			delete(t.records, at)
			t.left--
		}
	}
}

// A Scope is a cursor in one scope of a tape.
type Scope[T any] struct {
	tape *Tape[T]
	Path string
	seq  int
}

// Scope returns a cursor at the beginning of a scope.
func (t *Tape[T]) Scope(path string) *Scope[T] { return &Scope[T]{tape: t, Path: path} }

// Ask takes the next number for a call, and returns what was recorded there, if
// anything was. If that is another call it is a divergence.
func (s *Scope[T]) Ask(kind, name string) (at Address, entry T, recorded bool, err error) {
	s.tape.mu.Lock()
	defer s.tape.mu.Unlock()
	s.seq++
	at = Address{s.Path, s.seq}
	r, recorded := s.tape.records[at]
	if !recorded {
		return at, entry, false, nil
	}
	if r.Kind != kind || r.Name != name {
		return at, entry, true, &Divergence{at, describe(r.Kind, r.Name), describe(kind, name)}
	}
	delete(s.tape.records, at)
	s.tape.left--
	return at, r.Entry, true, nil
}

// End is a divergence if the scope has entries that were not asked for.
func (s *Scope[T]) End() error {
	s.tape.mu.Lock()
	defer s.tape.mu.Unlock()
	at := Address{s.Path, s.seq + 1}
	if r, ok := s.tape.records[at]; ok {
		return &Divergence{at, describe(r.Kind, r.Name), "return"}
	}
	return nil
}

func describe(kind, name string) string {
	if name == "" {
		return kind
	}
	return fmt.Sprintf("%s %q", kind, name)
}
