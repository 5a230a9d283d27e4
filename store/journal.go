package store

import (
	"fmt"
	"strings"
	"time"
)

// An Address is the place of an entry in a run's journal: a scope, "" for the handler itself,
// "k" or "k/l" for the branches that entry k, and l within it, began; and a number in that
// scope, from 1.
type Address struct {
	Scope string
	Seq   int
}

// UndoScope is the scope of the compensations of a handler itself; those of its branches have
// the scope "undo/k". Each is a step, pending until it is done.
const UndoScope = "undo"

// UndoneScope is the UndoScope of earlier attempts: a note, with the Value, of each compensation
// that a new attempt has to record again.
const UndoneScope = "undone"

// IsUndo reports whether a scope has compensations.
func IsUndo(scope string) bool {
	return scope == UndoScope || strings.HasPrefix(scope, UndoScope+"/")
}

// An EntryKind says which durable call an entry records. The numbers are stored.
type EntryKind uint8

// The kinds of entries.
const (
	EntryStep    EntryKind = iota + 2 // Value or Error
	EntrySleep                        // over at Due
	EntryEvent                        // Match; Value is the payload; Error if Due came first
	EntryChild                        // Value is that of EncodeEnqueued
	EntryBranch                       // Value or Error, once the branch has ended
	EntryAny                          // Value is the index of the winner
	EntryVersion                      // Value is true or false
	EntryEnd                          // a failure that ends the run once its compensations are done: Error
	EntryNote                         // a note of the engine, in a scope of its own
)

var entryNames = [...]string{
	EntryStep: "step", EntrySleep: "sleep", EntryEvent: "event", EntryChild: "child", EntryBranch: "branch", EntryAny: "any",
	EntryVersion: "version", EntryEnd: "end", EntryNote: "note",
}

// String returns the kind's name, in lower case.
func (k EntryKind) String() string {
	if int(k) < len(entryNames) && entryNames[k] != "" {
		return entryNames[k]
	}
	return "unknown"
}

// EntryKindNamed is the inverse of String.
func EntryKindNamed(name string) (EntryKind, error) {
	for k, n := range entryNames {
		if n == name && n != "" {
			return EntryKind(k), nil
		}
	}
	return 0, fmt.Errorf("no kind of entry is called %q", name)
}

// An Entry is one durable call of a run and its result. A step that began, an event and a branch
// are pending until they have a Value or an Error.
type Entry struct {
	Address
	Kind     EntryKind
	Name     string // of a step, child task, or branch; the key of an event
	Done     bool
	Value    []byte // JSON
	Error    []byte // encoded by the engine
	At       time.Time
	Due      time.Time // zero: none
	Match    Match     // of an event; its Key is Name
	Attempts int       // of a step
}

// Size returns the bytes of payloads and texts that count for MaxPageBytes.
func (e *Entry) Size() int {
	return len(e.Scope) + len(e.Name) + len(e.Value) + len(e.Error) + len(e.Match.Field) + len(e.Match.Value) + len(e.Match.Filter)
}

// A Call is a durable call of an execution.
type Call struct {
	ID    ID
	Lease Lease
	Entry Entry
}

// A Waits lists what a run waits for after an Outcome with To Waiting: the first of them queues
// it again.
type Waits struct {
	Until    time.Time // zero: no time
	Entries  []Address // events
	Children []ID
}
