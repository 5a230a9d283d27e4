package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An Address is the place of an entry in a run's journal: a scope, and a number in that scope, from 1. The scope is "" for
// the handler itself, "k" for the branch that entry k of the handler began, and "k/l" for the branch that entry l of that
// branch began.
type Address struct {
	Scope string
	Seq   int
}

// UndoScope is the scope of the compensations of a handler itself; those of its branches have
// the scope "undo/k". Each is a step, pending until it is done.
const UndoScope = "undo"

// UndoneScope replaces UndoScope when a run is replayed. It has a note, with the Value, of each compensation of earlier
// attempts that the new attempt has to record again.
const UndoneScope = "undone"

// OnceScope has a note for each step that may be called only once and has begun. The note has the step's number. Its scope
// is "once" for a step of the handler itself, and "once/k" for one of a branch. The note stays when Outcome.Forget removes
// the step's entry; only RunRestart at or before the step removes it. It is not Done, so RunFork does not copy it.
const OnceScope = "once"

// IsUndo reports whether a scope has compensations.
func IsUndo(scope string) bool {
	return scope == UndoScope || strings.HasPrefix(scope, UndoScope+"/")
}

// An EntryKind says which durable call an entry records. The numbers are stored.
type EntryKind uint8

// The kinds of entries.
const (
	EntryStep    EntryKind = iota + 2 // a step: its Value or Error, once it is done
	EntrySleep                        // a sleep until Due
	EntryEvent                        // a wait for an event that Match selects: Value is its payload; Error if Due came first
	EntryChild                        // an enqueue: Value is made by EncodeEnqueued
	EntryBranch                       // a branch: its Value or Error, once it has ended
	EntryAny                          // a choice among futures: Value is the index of the first that ended
	EntryVersion                      // a decision about a change of the code: Value is true or false
	EntryEnd                          // a failure, Error, that ends the run once its compensations are done
	EntryNote                         // a note of the engine, in a scope of its own
	EntryWait                         // a wait for a condition: see Wait; Error if it timed out
	EntryPublish                      // a publish: Value is made by EncodePublished
)

var entryNames = [...]string{
	EntryStep: "step", EntrySleep: "sleep", EntryEvent: "event", EntryChild: "child", EntryBranch: "branch", EntryAny: "any",
	EntryVersion: "version", EntryEnd: "end", EntryNote: "note", EntryWait: "wait",
	EntryPublish: "publish",
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
	Value    []byte    // JSON
	Error    []byte    // encoded by the engine
	Began    time.Time // when the call began; zero in a Call: that of a stored entry stays, and a new entry gets its At
	At       time.Time // when it was recorded
	Due      time.Time // zero: none
	Match    Match     // of an event; its Key is Name
	Attempts int       // of a step
	Tries    []byte    // of a step that was tried again, encoded by the engine
}

// Size returns the bytes of payloads and texts that count for MaxPageBytes.
func (e *Entry) Size() int {
	return len(e.Scope) + len(e.Name) + len(e.Value) + len(e.Error) + len(e.Match.Field) + len(e.Match.Value) + len(e.Match.Filter) +
		len(e.Tries)
}

// A Wait is the wait of an EntryWait for a condition. The store keeps it as JSON in the entry's Value until the entry is
// done. Then the Value is a JSON object of the conditions that fired, by name: the payloads of events, and null for sleeps
// and joined conditions.
//
// Each event of the condition is an EntryEvent in the scope that LeafScope returns. The events that did not fire are
// deleted when the wait is done, so that another call may receive them. While the wait is not done, the entry's Due is the
// time at which it will be done if no event comes before.
type Wait struct {
	At    time.Time       `json:"at"`              // when the wait began; set by the store
	Until int64           `json:"until,omitempty"` // when it times out, in milliseconds; 0: never
	Late  json.RawMessage `json:"late,omitempty"`  // the entry's Error if it times out
	Cond  Condition       `json:"cond"`
}

const leafScope = "/on"

// LeafScope returns the scope of the events that an EntryWait waits for.
func LeafScope(at Address) string {
	return strings.TrimPrefix(at.Scope+"/"+strconv.Itoa(at.Seq), "/") + leafScope
}

// IsLeaf reports whether a scope is a LeafScope.
func IsLeaf(scope string) bool { return strings.HasSuffix(scope, leafScope) }

// WaitOf returns the address of the EntryWait whose LeafScope a scope is; ok is false if it is none.
func WaitOf(scope string) (at Address, ok bool) {
	path, ok := strings.CutSuffix(scope, leafScope)
	if !ok {
		return at, false
	}
	i := strings.LastIndexByte(path, '/')
	n, err := strconv.Atoi(path[i+1:])
	return Address{Scope: path[:max(i, 0)], Seq: n}, err == nil
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
	Entries  []Address // events and waits
	Children []ID
}
