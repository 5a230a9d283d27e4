// Package journal is the replay cursor of durable functions: where each durable call
// of a run stands, what was recorded there, and whether the code that runs again still
// asks for the same. It does no I/O and knows no clock and no goroutine.
package journal

import (
	"fmt"
	"strconv"
	"strings"
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

// A Record is an entry: what kind of call it was, with what name, and what the caller
// keeps with it.
type Record[T any] struct {
	At         Address
	Kind, Name string
	Entry      T
}

// Branch is the kind of the entries that have scopes of their own.
const Branch = "branch"

// A Divergence says that code asked for something else than it had recorded.
type Divergence struct {
	At       Address
	Recorded string // "step \"charge\""; "nothing": the journal has no such call
	Asked    string // "return": it ended with entries left
	// File and Line, which the caller knows, are where the code asks; Line 0: not known.
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

// A Tape is the journal of a run. Its methods may be called concurrently, those of one
// Scope may not.
type Tape[T any] struct {
	mu     sync.Mutex
	tracks map[string]*track[T] // of scopes
	left   int                  // recorded, and not asked for yet
	// begun has the scopes in which, or within which, something is recorded, save "": at
	// their addresses are branches, though one is recorded itself only when it ends.
	nonEmpty map[string]struct{}
}

// A track is what is recorded in one scope, and not asked for yet, in order. It may have
// gaps: a branch is recorded when it ends.
type track[T any] struct{ records []Record[T] }

// NewTape returns a tape of records, which are in order in each scope.
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

// noteScope notes a scope, and those that it is in.
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

// Played reports whether every recorded entry was asked for.
func (t *Tape[T]) Played() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left == 0
}

// Skip counts the entries of a scope, and of those within it, as asked for: its branch
// had ended and is not entered again. restore takes that back.
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

// Next takes the next number for a call, and returns what was recorded there, if
// anything was. If that is another call it is a divergence.
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

// Peek returns the address of the next call.
func (s *Scope[T]) Peek() Address { return Address{s.Path, s.seq + 1} }

// End is a divergence if the scope has entries that were not asked for.
func (s *Scope[T]) End() error {
	s.tape.mu.Lock()
	defer s.tape.mu.Unlock()
	return s.track.end()
}

// End is a divergence if any scope has entries that were not asked for.
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
