package store

import "fmt"

// A State is where a run stands. The numbers are stored; they never change meaning.
type State uint8

// The states of a run. Numbers start at 2 because SQLite stores 0 and 1 without a
// byte, and a row that never changes size is updated in place.
const (
	Scheduled State = iota + 2 // waits for its time
	Queued                     // may start
	Running                    // a worker has it
	Waiting                    // holds no slot: sleeps, or waits for an event or a child
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

// String is the state's name, in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText is String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a state's name.
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

// transitions is the whole state machine: for each state, those a single commit may
// move a run to.
var transitions = map[State][]State{
	Scheduled: {Queued, Canceled},
	Queued:    {Running, Canceled},
	Running:   {Queued, Scheduled, Waiting, Blocked, Succeeded, Failed, Canceled, Skipped},
	Waiting:   {Queued, Failed, Canceled},
	Blocked:   {Queued, Canceled, Failed, Skipped},
	Succeeded: {Queued},
	Failed:    {Queued},
	Canceled:  {Queued},
	Skipped:   {Queued},
}

// Legal reports whether one commit may move a run from one state to another.
// From a terminal state only Queued is legal, and only by a replay.
func Legal(from, to State) bool {
	for _, s := range transitions[from] {
		if s == to {
			return true
		}
	}
	return false
}
