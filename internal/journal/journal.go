// Package journal is the replay cursor of durable functions: it gives each durable call of a
// run an address, returns what is recorded there, and reports whether code that runs again
// still makes the same calls. It does no I/O and has no clock and no goroutine.
package journal

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// An Address identifies an entry by its scope ("" is the handler itself, else the numbers of
// the branches that lead to it, as "2" or "2/1") and its number in the scope, from 1.
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

// ParseAddress returns the address that String wrote as text.
func ParseAddress(text string) (Address, error) {
	i := strings.LastIndexByte(text, '/')
	scope, number := text[:max(i, 0)], text[i+1:]
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || strconv.Itoa(n) != number || i == 0 {
		return Address{}, fmt.Errorf("%.64q is no address of an entry: want one such as 3 or 3/1", text)
	}
	return Address{scope, n}, nil
}

// A Record is an entry: the kind and name of the call, and what the caller keeps with it.
type Record[T any] struct {
	At         Address
	Kind, Name string
	Entry      T
}

// Branch is the kind of the entries that have scopes of their own.
const Branch = "branch"

// A Divergence reports that code makes another call than is recorded.
type Divergence struct {
	At       Address
	Recorded string // such as "step \"charge\""; "nothing": the journal has no such call
	Asked    string // what the code does; "return": it ended with entries left
	// File and Line are where the code makes the call. The caller sets them; Line 0: unknown.
	File string
	Line int
}

func (d *Divergence) Error() string {
	s := fmt.Sprintf("the code does not match the run's journal: entry %v is %s, the code asks for %s", d.At, d.Recorded, d.Asked)
	if d.Line > 0 {
		s += fmt.Sprintf(" (%s:%d)", d.File, d.Line)
	}
	return s
}

// A Tape is the journal of a run. Its methods may be called concurrently; those of one Scope
// may not.
type Tape[T any] struct {
	mu     sync.Mutex
	tracks map[string]*track[T] // of scopes
	left   int                  // recorded calls not made yet
	// begun has the scopes in which, or within which, something is recorded, save "": at
	// their addresses are branches, though one is recorded itself only when it ends.
	nonEmpty map[string]struct{}
}

// A track has the recorded calls of one scope that are not made yet, in order. It may have
// gaps: a branch is recorded when it ends.
type track[T any] struct{ records []Record[T] }

// NewTape returns a tape of records, which must be in order within each scope.
func NewTape[T any](records []Record[T]) *Tape[T] {
	t := &Tape[T]{tracks: map[string]*track[T]{}, left: len(records)}
	for from := 0; from < len(records); {
		scope, to := records[from].At.Scope, from
		for to < len(records) && records[to].At.Scope == scope {
			to++
		}
		t.track(scope).records = records[from:to:to]
		t.noteScope(scope)
		from = to
	}
	return t
}

// noteScope notes that something is recorded in a scope, and so in those around it.
func (t *Tape[T]) noteScope(scope string) {
	for scope != "" {
		if t.nonEmpty == nil {
			t.nonEmpty = map[string]struct{}{}
		}
		t.nonEmpty[scope] = struct{}{}
		scope = scope[:max(strings.LastIndexByte(scope, '/'), 0)]
	}
}

func (t *Tape[T]) track(scope string) *track[T] {
	k := t.tracks[scope]
	if k == nil {
		k = &track[T]{}
		t.tracks[scope] = k
	}
	return k
}

// Played reports whether all recorded calls were made.
func (t *Tape[T]) Played() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left == 0
}

// Skip counts the calls of a scope, and of those within it, as made: its branch had ended and
// does not run again. restore undoes that.
func (t *Tape[T]) Skip(scope string) (restore func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	skipped := map[*track[T]][]Record[T]{}
	for path, k := range t.tracks {
		if len(k.records) > 0 && (path == scope || strings.HasPrefix(path, scope+"/")) {
			t.left -= len(k.records)
			skipped[k], k.records = k.records, nil
		}
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for k, records := range skipped {
			t.left += len(records)
			k.records = records
		}
	}
}

// A Scope is a cursor in one scope of a tape.
type Scope[T any] struct {
	tape  *Tape[T]
	track *track[T]
	Path  string
	seq   int
}

// Scope returns a cursor at the beginning of a scope.
func (t *Tape[T]) Scope(path string) *Scope[T] {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &Scope[T]{tape: t, track: t.track(path), Path: path}
}

// Next takes the next address of the scope for a call, and returns the entry recorded there, if
// any. The error is a *Divergence if that is another call.
func (s *Scope[T]) Next(kind, name string) (at Address, entry T, recorded bool, err error) {
	s.tape.mu.Lock()
	defer s.tape.mu.Unlock()
	s.seq++
	at = Address{s.Path, s.seq}
	left := s.track.records
	if len(left) == 0 || left[0].At.Seq != s.seq {
		if s.tape.nonEmpty != nil && kind != Branch {
			if _, branch := s.tape.nonEmpty[at.String()]; branch {
				return at, entry, false, &Divergence{At: at, Recorded: Branch, Asked: describe(kind, name)}
			}
		}
		return at, entry, false, nil
	}
	r := &left[0]
	if r.Kind != kind || r.Name != name {
		return at, entry, true, &Divergence{At: at, Recorded: describe(r.Kind, r.Name), Asked: describe(kind, name)}
	}
	s.track.records = left[1:]
	s.tape.left--
	return at, r.Entry, true, nil
}

// Peek returns the address that Next will take.
func (s *Scope[T]) Peek() Address { return Address{s.Path, s.seq + 1} }

// PeekRecord returns the address that Next will take, and the entry recorded there, if any. begun
// reports that none is, but that a branch has begun there which has recorded calls of its own.
func (s *Scope[T]) PeekRecord() (at Address, entry T, recorded, begun bool) {
	s.tape.mu.Lock()
	defer s.tape.mu.Unlock()
	at = s.Peek()
	if left := s.track.records; len(left) > 0 && left[0].At.Seq == at.Seq {
		return at, left[0].Entry, true, false
	}
	_, begun = s.tape.nonEmpty[at.String()]
	return at, entry, false, begun
}

// End returns a *Divergence if the scope has recorded calls that were not made.
func (s *Scope[T]) End() error {
	s.tape.mu.Lock()
	defer s.tape.mu.Unlock()
	return s.track.end()
}

// End returns a *Divergence if any scope has recorded calls that were not made.
func (t *Tape[T]) End() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.tracks {
		if err := k.end(); err != nil {
			return err
		}
	}
	return nil
}

func (k *track[T]) end() error {
	if len(k.records) == 0 {
		return nil
	}
	r := &k.records[0]
	return &Divergence{At: r.At, Recorded: describe(r.Kind, r.Name), Asked: "return"}
}

func describe(kind, name string) string {
	if name == "" {
		return kind
	}
	return fmt.Sprintf("%s %q", kind, name)
}
