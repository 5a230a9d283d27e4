package store

import (
	"encoding/json"
	"fmt"
	"strconv"
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

// OnceScope has a note for each step that may be called once only and has begun. For a step of the handler itself the
// note is in this scope, for one of a branch in the scope "once/k", with the step's number. It stays when its entry is
// forgotten; only RunRestart at or before the step removes it. It is not Done, so a fork does not have it.
const OnceScope = "once"

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
	EntryWait                         // Value is a Wait, and once it is done what fired, by name; Error if it timed out
	EntryPublish                      // Value is that of EncodeEnqueued, of the events
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
	Began    time.Time // when the call began; zero in a Call: it stays as it is, or is At for a new entry
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

// A Wait is what an EntryWait waits for. The store keeps it as JSON in the entry's Value until the entry is done.
// Then the Value is a JSON object with what fired: the payloads of events, and null for sleeps and joined conditions.
//
// An event that it waits for is an EntryEvent in the scope LeafScope. Those that did not fire are deleted when the
// wait is done, so that another call may get their events. While it is not done its Due is when it will be, if no
// event changes that.
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
