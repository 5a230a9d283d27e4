package sqlite

import (
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// A filter that takes its time holds up who publishes, and nobody else; each is computed once
// for an event, whoever asks for it.
func TestSlowFilterHoldsUpNobody(t *testing.T) {
	entered, release := make(chan string), make(chan struct{})
	store.RegisterFilters(func(expr string) (store.Predicate, []string, error) {
		return func(*store.NewEvent, []byte) bool {
			entered <- expr
			<-release
			return true
		}, nil, nil
	})
	defer store.RegisterFilters(nil)
	s, err := Open(filepath.Join(t.TempDir(), "slow.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	trigger := store.Trigger{Key: "order", Filter: "of a trigger", Template: store.Template{Run: store.NewRun{Task: "t", Queue: "q"}}}
	if err := s.Declare(t.Context(), time.Now(), []store.Declaration{{Task: "t", Triggers: []store.Trigger{trigger}}}); err != nil {
		t.Fatal(err)
	}
	for _, expr := range []string{"of the task", "of the task too"} {
		failing(t)(s.Change(t.Context(), time.Now(), &store.FilterChange{Filter: store.TaskFilter{Task: "t", Scope: "s", Expr: expr}}))
	}
	publish := func(events []store.NewEvent) error {
		_, err := s.Publish(t.Context(), time.Now(), events)
		return err
	}
	for _, publish := range []func([]store.NewEvent) error{
		publish,
		publish, // now the filters are known before the writer is asked
		func(events []store.NewEvent) error { return publishTx(t, s, events) },
	} {
		done := make(chan error, 1)
		go func() { done <- publish([]store.NewEvent{{Key: "order", Scope: "s", Payload: []byte("1")}}) }()
		for _, want := range []string{"of a trigger", "of the task", "of the task too"} {
			if got := <-entered; got != want {
				t.Errorf("computes the filter %q, want %q", got, want)
			}
			if _, err := s.Enqueue(t.Context(), time.Now(), []store.NewRun{{Task: "other", Queue: "q"}}); err != nil {
				t.Fatal(err)
			}
			release <- struct{}{}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for { // until the publisher has published what the app's transaction left
		runs, _, err := s.List(t.Context(), store.Filter{Tasks: []string{"t"}}, store.ID{}, 100)
		if err != nil || len(runs) > 6 {
			t.Fatalf("%d runs, %v: want 6, one for each filter of each event", len(runs), err)
		}
		if len(runs) == 6 {
			break
		}
		runtime.Gosched()
	}
}

// publishTx publishes events in a transaction of the app's.
func publishTx(t *testing.T, s *Store, events []store.NewEvent) error {
	tx, err := s.BeginTx(t.Context())
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := s.PublishTx(t.Context(), time.Now(), tx, events); err != nil {
		return err
	}
	return tx.Commit()
}

// An event of an app's transaction that cannot be published holds up no other, and nothing
// that is due; it is published when it can be.
func TestPendingEventHoldsUpNothing(t *testing.T) {
	all := func(string) (store.Predicate, []string, error) {
		return func(*store.NewEvent, []byte) bool { return true }, nil, nil
	}
	store.RegisterFilters(all)
	defer store.RegisterFilters(nil)
	s, err := Open(filepath.Join(t.TempDir(), "pending.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	run := func(task string) store.Template { return store.Template{Run: store.NewRun{Task: task, Queue: "q"}} }
	err = s.Declare(t.Context(), time.Now(), []store.Declaration{{Task: "filtered",
		Triggers: []store.Trigger{{Key: "filtered", Filter: "f", Template: run("filtered")}}},
		{Task: "plain", Triggers: []store.Trigger{{Key: "plain", Template: run("plain")}}}})
	if err != nil {
		t.Fatal(err)
	}
	store.RegisterFilters(nil) // as in a program that does not import package cel
	if err := publishTx(t, s, []store.NewEvent{{Key: "filtered", Payload: []byte("1")}, {Key: "plain", Payload: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Enqueue(t.Context(), time.Now(),
		[]store.NewRun{{Task: "due", Queue: "q", RunAt: time.Now().Add(time.Millisecond)}}); err != nil {
		t.Fatal(err)
	}
	for _, task := range []string{"plain", "due"} {
		untilQueued(t, s, task)
	}
	store.RegisterFilters(all)
	untilQueued(t, s, "filtered")
}

// untilQueued waits for the one run of a task to be queued.
func untilQueued(t *testing.T, s *Store, task string) {
	t.Helper()
	for {
		runs, _, err := s.List(t.Context(), store.Filter{Tasks: []string{task}, States: []store.State{store.Queued}}, store.ID{}, 100)
		if err != nil || len(runs) > 1 {
			t.Fatalf("task %q has %d runs, %v", task, len(runs), err)
		}
		if len(runs) == 1 {
			return
		}
		runtime.Gosched()
	}
}
