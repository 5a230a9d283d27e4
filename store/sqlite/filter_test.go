package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// A filter that takes its time holds up who publishes, and nobody else; each is computed once
// for an event, whoever asks for it.
func TestSlowFilterHoldsUpNobody(t *testing.T) {
	entered, release := make(chan string), make(chan struct{})
	store.RegisterFilters(func(expr string) (store.Predicate, error) {
		return func(*store.NewEvent) bool {
			entered <- expr
			<-release
			return true
		}, nil
	})
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
		if _, err := s.SetFilter(t.Context(), store.TaskFilter{Task: "t", Scope: "s", Expr: expr}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time the filters are known before the writer is asked
		done := make(chan error)
		go func() {
			_, err := s.Publish(t.Context(), time.Now(), []store.NewEvent{{Key: "order", Scope: "s", Payload: []byte("1")}})
			done <- err
		}()
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
	runs, _, err := s.List(t.Context(), store.Filter{Tasks: []string{"t"}}, store.ID{}, 100)
	if err != nil || len(runs) != 4 {
		t.Errorf("%d runs, %v: want 4, one for each filter of each event", len(runs), err)
	}
}
