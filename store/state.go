package store

import (
	"fmt"
	"slices"
)

// A State is the state of a run. The numbers are stored; they never change meaning.
type State uint8

// The states of a run. Numbers start at 2 because SQLite stores 0 and 1 without a
// byte, and a row that never changes size is updated in place.
const (
	Scheduled State = iota + 2 // is not due yet
	Queued                     // may start
	Running                    // a worker executes it
	Waiting                    // sleeps, or waits for an event or a child; it has no slot
	Blocked                    // needs a person, a limit or a parent
	Succeeded
	Failed
	Canceled
	Skipped
)

// States lists every state in order.
var States = []State{Scheduled, Queued, Running, Waiting, Blocked, Succeeded, Failed, Canceled, Skipped}

var stateNames = [...]string{
	Scheduled: "scheduled", Queued: "queued", Running: "running", Waiting: "waiting", Blocked: "blocked",
	Succeeded: "succeeded", Failed: "failed", Canceled: "canceled", Skipped: "skipped",
}

// String returns the state's name, in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText returns String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses a state's name.
func (s *State) UnmarshalText(name []byte) error {
	for _, st := range States {
		if st.String() == string(name) {
			*s = st
			return nil
		}
	}
	return fmt.Errorf("%q is no state of a run", name)
}

// Terminal reports whether a run in s has ended. It leaves s only by an explicit replay (R3).
func (s State) Terminal() bool { return s >= Succeeded }

// A Transition is a change of a run's state that a single commit may make.
type Transition struct {
	From, To State
	When     string
}

// Transitions is the whole state machine. docs/design/states.md is generated from it, and tests
// look up each change that a store makes in it.
var Transitions = []Transition{
	{Scheduled, Queued, "its time has come"},
	{Scheduled, Running, "its time has come, and it is a workflow's: its tasks start"},
	{Scheduled, Canceled, "it is canceled"},
	{Queued, Running, "a worker claims it"},
	{Queued, Blocked, "what is stored of it cannot be read"},
	{Queued, Canceled, "it is canceled, or WithScheduleTimeout has passed"},
	{Running, Queued, "its attempt goes on elsewhere, or a retry is due at once"},
	{Running, Scheduled, "an attempt failed: a retry follows"},
	{Running, Waiting, "it sleeps, or waits for an event or a child"},
	{Running, Blocked, "no worker can go on with it until a person acts"},
	{Running, Succeeded, "its handler, or its workflow, succeeded"},
	{Running, Failed, "its last attempt, or its workflow, failed"},
	{Running, Canceled, "it has cleaned up after a cancel"},
	{Running, Skipped, "all tasks of the workflow were skipped"},
	{Waiting, Queued, "what it waits for is there, or it is canceled and has to clean up"},
	{Waiting, Blocked, "what is stored of it cannot be read"},
	{Waiting, Canceled, "it is canceled"},
	{Waiting, Skipped, "a workflow's task: its condition says so"},
	{Blocked, Queued, "what it lacked is there, or it is canceled and has to clean up"},
	{Blocked, Running, "a workflow's run: a person has replayed it"},
	{Blocked, Canceled, "it is canceled"},
	{Succeeded, Queued, "it is replayed"},
	{Succeeded, Running, "it is replayed, and it is a workflow's"},
	{Failed, Queued, "it is replayed"},
	{Failed, Running, "it is replayed, and it is a workflow's"},
	{Canceled, Queued, "it is replayed"},
	{Canceled, Running, "it is replayed, and it is a workflow's"},
	{Skipped, Queued, "it is replayed"},
	{Skipped, Running, "it is replayed, and it is a workflow's"},
}

// Legal reports whether one commit may move a run from one state to another: from a terminal
// state, only a replay may.
func Legal(from, to State) bool {
	return slices.ContainsFunc(Transitions, func(t Transition) bool { return t.From == from && t.To == to })
}
