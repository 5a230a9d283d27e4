package live

import (
	"errors"
	"testing"

	"github.com/stint-dev/stint/store"
)

func id(n int) store.ID { return store.ID{byte(n >> 8), byte(n)} }

var errFirst, errSecond = errors.New("first"), errors.New("second")

// Who waits finds the error of the execution that it has seen end, and no other.
func TestWaiting(t *testing.T) {
	var es Errors
	e := es.Watch(id(1))
	if err := es.Of(e, 1); err != nil {
		t.Errorf("before the run failed: %v", err)
	}
	es.Report(id(1), 1, errFirst)
	if err := es.Of(e, 1); err != errFirst {
		t.Errorf("got %v, want the handler's own error", err)
	}
	es.Report(id(1), 2, errSecond) // after a replay
	if err := es.Of(e, 1); err != nil {
		t.Errorf("of the execution before: got %v, want none", err)
	}
	if err := es.Of(e, 2); err != errSecond {
		t.Errorf("got %v, want that of the second execution", err)
	}
}

// Errors of runs that nobody waits for are kept for the newest ones only.
func TestLate(t *testing.T) {
	var es Errors
	for n := range kept + 1 {
		es.Report(id(n), 1, errFirst)
	}
	if len(es.recent) != kept || len(es.oldest) != kept {
		t.Errorf("%d and %d are kept, want %d", len(es.recent), len(es.oldest), kept)
	}
	for n, want := range map[int]error{0: nil, 1: errFirst, kept: errFirst} {
		e := es.Watch(id(n))
		if err := es.Of(e, 1); err != want {
			t.Errorf("run %d: got %v, want %v", n, err, want)
		}
		es.Unwatch(id(n), e)
	}
	if len(es.waited) != 0 {
		t.Errorf("%d runs are waited for, want none", len(es.waited))
	}
}

// Several who wait for a run share its error, until the last of them leaves.
func TestSharing(t *testing.T) {
	var es Errors
	a, b := es.Watch(id(1)), es.Watch(id(1))
	es.Unwatch(id(1), a)
	es.Report(id(1), 1, errFirst)
	if err := es.Of(b, 1); err != errFirst {
		t.Errorf("got %v, want the handler's own error", err)
	}
	es.Unwatch(id(1), b)
	if len(es.waited) != 0 {
		t.Errorf("%d runs are waited for, want none", len(es.waited))
	}
}
