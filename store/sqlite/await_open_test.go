package sqlite

import (
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// awaiting returns the result of a call of Await, once it is given. It returns when the call waits, or has its result.
func awaiting(t *testing.T, s *Store, id store.ID) <-chan store.Result {
	t.Helper()
	done := make(chan store.Result, 1)
	go func() {
		r, err := s.Await(t.Context(), id, store.Until{})
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	for waiting := 0; waiting == 0 && len(done) == 0; runtime.Gosched() {
		s.w.mu.Lock()
		waiting = len(s.w.awaits)
		s.w.mu.Unlock()
	}
	return done
}

// endNext has a worker of a store claim a run, which succeeds.
func endNext(t *testing.T, s *Store, worker int64) {
	t.Helper()
	ok := failing(t)
	got, err := s.Claim(t.Context(), store.ClaimRequest{Worker: worker, Free: func() int { return 1 }, Tasks: func(string) bool { return true }})
	ok(err)
	_, err = s.Finish(t.Context(), time.Now(), []store.Outcome{{ID: got[0].ID, Lease: got[0].Lease, To: store.Succeeded, Output: []byte("1"),
		Queue: got[0].Queue, Task: got[0].Task, Started: got[0].Started, Parent: got[0].Parent, Node: got[0].Node}})
	ok(err)
}

// Who waits for a run that this store has just enqueued is told of its end without reading it.
func TestAwaitReadsNothing(t *testing.T) {
	graph, err := store.NewGraph(store.Graph{Workflow: "w", Tasks: []store.GraphTask{{Name: "t", Queue: "q"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]store.NewRun{"task": {Task: "t", Queue: "q"}, "workflow": {Task: "w", Queue: "q", Graph: graph}} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(filepath.Join(t.TempDir(), "await.db"), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ok := failing(t)
			worker, err := s.Register(t.Context(), store.WorkerInfo{Name: "w"})
			ok(err)
			runs, err := s.Enqueue(t.Context(), time.Now(), []store.NewRun{n})
			ok(err)
			for range readConns { // reads would wait for ever
				defer func(c *readConn) { s.readers.free <- c }(<-s.readers.free)
			}
			done := awaiting(t, s, runs[0].ID)
			endNext(t, s, worker)
			result := <-done
			if r := result; r.State != store.Succeeded || r.Workflow != (n.Graph != nil) {
				t.Errorf("result %+v", r)
			}
			if r := result; n.Graph != nil && (len(r.Tasks) != 1 || string(r.Tasks[0].Output) != "1" || r.Graph.Name(0) != "t") {
				t.Errorf("tasks %+v", r.Tasks)
			}
			s.w.mu.Lock()
			defer s.w.mu.Unlock()
			if len(s.w.open) > 0 {
				t.Errorf("open: %v", s.w.open)
			}
		})
	}
}

// An end by another store is not missed, whether this one learns of it before somebody waits for the run, or after.
func TestAwaitEndedElsewhere(t *testing.T) {
	for name, before := range map[string]bool{"before": true, "after": false} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "await.db")
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			other, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			ok := failing(t)
			worker, err := other.Register(t.Context(), store.WorkerInfo{Name: "w"})
			ok(err)
			runs, err := s.Enqueue(t.Context(), time.Now(), []store.NewRun{{Task: "t", Queue: "q"}})
			ok(err)
			var done <-chan store.Result
			if !before {
				done = awaiting(t, s, runs[0].ID)
			}
			endNext(t, other, worker)
			if before {
				key, _ := s.ids.Key(runs[0].ID)
				for open := true; open; runtime.Gosched() {
					s.w.mu.Lock()
					_, open = s.w.open[key]
					s.w.mu.Unlock()
				}
				done = awaiting(t, s, runs[0].ID)
			}
			if r := <-done; r.State != store.Succeeded || string(r.Output) != "1" {
				t.Errorf("result %+v", r)
			}
		})
	}
}
