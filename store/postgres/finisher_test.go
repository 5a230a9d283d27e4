package postgres

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
)

// begun enqueues runs, and claims them.
func begun(t *testing.T, ctx context.Context, s *Store, n int) []store.Outcome {
	t.Helper()
	runs := make([]store.NewRun, n)
	for i := range runs {
		runs[i] = oneRun[0]
	}
	if _, err := s.Enqueue(ctx, s.Now(), runs); err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(ctx, any1(n))
	if err != nil || len(got) != n {
		t.Fatalf("claimed %d runs, %v, want %d", len(got), err, n)
	}
	ends := make([]store.Outcome, n)
	for i, c := range got {
		ends[i] = store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Succeeded, Output: []byte("1"), Queue: c.Queue, Task: c.Task}
	}
	return ends
}

func finish(t *testing.T, ctx context.Context, s *Store, ends []store.Outcome) {
	t.Helper()
	stale, err := s.Finish(ctx, s.Now(), ends)
	if err != nil {
		t.Fatal(err)
	}
	for i := range stale {
		if stale[i] {
			t.Errorf("outcome %d is stale", i)
		}
	}
}

// groupsOfEnds returns the number of the last group that the finisher of a store has committed.
func groupsOfEnds(s *Store) (last int64) {
	s.acks.mu.Lock()
	defer s.acks.mu.Unlock()
	return s.acks.ends
}

// Ends are committed while the writer is busy with something else.
func TestEndsDoNotWaitForTheWriter(t *testing.T) {
	set := noTables(t)
	s := openStore(t, set)
	ctx := withinMinutes(t)
	finish(t, ctx, s, begun(t, ctx, s, 2)) // connects
	had, ends := groupsOfEnds(s), begun(t, ctx, s, 2)
	held, release := make(chan struct{}), make(chan struct{})
	stuck := make(chan error)
	no := errors.New("no")
	var once sync.Once
	go func() {
		stuck <- s.do(ctx, func(*unit) error { once.Do(func() { close(held); <-release }); return no })
	}()
	<-held
	finish(t, ctx, s, ends)
	close(release)
	if err := <-stuck; !errors.Is(err, no) {
		t.Error(err)
	}
	if groupsOfEnds(s) != had+1 {
		t.Error("the ends were not a group of the finisher")
	}
}

// The connection is cut before the ends are sent, and after their commit: they are recorded once, and nobody is told
// that they are stale.
func TestCutOffEnds(t *testing.T) {
	marker := []byte("a marker")
	for _, c := range []struct {
		name string
		cut  func(p *proxy, cut *atomic.Bool)
	}{
		{"never sent", func(p *proxy, cut *atomic.Bool) {
			p.set(func(b []byte) bool { return !bytes.Contains(b, marker) || cut.Swap(true) }, nil)
		}},
		{"answer lost", func(p *proxy, cut *atomic.Bool) {
			var sent atomic.Bool
			p.set(func(b []byte) bool {
				if bytes.Contains(b, marker) {
					sent.Store(true)
				}
				return true
			}, func([]byte) bool { return !sent.Load() || cut.Swap(true) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := newTables(t)
			p, through := newProxy(t, set)
			through.direct = set.direct // what is cut is the finisher's
			s, err := open(t.Context(), through)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx := withinMinutes(t)
			finish(t, ctx, s, begun(t, ctx, s, 3)) // prepares the statements
			ends := begun(t, ctx, s, 3)
			ends[1].Output = marker
			var cut atomic.Bool
			c.cut(p, &cut)
			finish(t, ctx, s, ends)
			if !cut.Load() {
				t.Error("nothing was cut")
			}
			n, err := pgx.CollectExactlyOneRow(query(t, dial(t, set), qualify("SELECT count(*) FROM stint.runs WHERE state = 7", set.Schema)), pgx.RowTo[int])
			if n != 6 || err != nil {
				t.Errorf("%d runs have ended, %v, want 6", n, err)
			}
		})
	}
}

// What is not as the finisher assumes goes on to the writer: the end of a run that was asked to cancel, or that another has.
func TestEndsThatAreNotPlain(t *testing.T) {
	set := noTables(t)
	s := openStore(t, set)
	ctx := withinMinutes(t)
	finish(t, ctx, s, begun(t, ctx, s, 1))
	had, ends := groupsOfEnds(s), begun(t, ctx, s, 3)
	if _, err := s.Act(ctx, s.Now(), store.Action{Kind: store.ActCancel}, store.Filter{IDs: []store.ID{ends[0].ID}}); err != nil {
		t.Fatal(err)
	}
	ends[1].Lease += 2
	stale, err := s.Finish(ctx, s.Now(), ends)
	if err != nil || stale[0] || !stale[1] || stale[2] {
		t.Errorf("stale %v, %v; want the second", stale, err)
	}
	if groupsOfEnds(s) != had {
		t.Error("it was a group of the finisher")
	}
	states, err := pgx.CollectRows(query(t, dial(t, set), qualify("SELECT state FROM stint.runs ORDER BY id", set.Schema)), pgx.RowTo[int])
	want := []int{int(store.Succeeded), int(store.Canceled), int(store.Running), int(store.Succeeded)}
	for i := range want {
		if err != nil || len(states) != len(want) || states[i] != want[i] {
			t.Fatalf("states %v, %v, want %v", states, err, want)
		}
	}
}

// A server that has lost the finisher's last group, or the writer's, takes no more ends of what executed before, whichever
// of the two is the first to find out.
func TestEndsAfterLostGroups(t *testing.T) {
	for _, which := range []string{"", "/ends"} {
		t.Run("of "+which, func(t *testing.T) {
			set := newTables(t)
			p, through := newProxy(t, set)
			s, err := open(t.Context(), through)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx := withinMinutes(t)
			worker, err := s.Register(ctx, store.WorkerInfo{Name: "w", Slots: 1})
			if err != nil {
				t.Fatal(err)
			}
			request := any1(1)
			request.Worker = worker
			var ends [2]store.Outcome
			for i := range ends {
				if _, err := s.Enqueue(ctx, s.Now(), oneRun); err != nil {
					t.Fatal(err)
				}
				got, err := s.Claim(ctx, request)
				if err != nil || len(got) != 1 {
					t.Fatalf("claimed %v, %v", got, err)
				}
				ends[i] = store.Outcome{ID: got[0].ID, Lease: got[0].Lease, To: store.Succeeded, Output: []byte("1"), Queue: "q", Task: "t"}
			}
			finish(t, ctx, s, ends[:1])
			if groupsOfEnds(s) == 0 {
				t.Fatal("the finisher has committed nothing")
			}
			gone := s.direct.process.name + which
			if _, err := dial(t, set).Exec(ctx, qualify("DELETE FROM stint.groups WHERE process = $1", set.Schema), gone); err != nil {
				t.Fatal(err) // as if the last commits were gone
			}
			p.refuse(true)
			p.refuse(false)
			var stale []bool
			for stale == nil { // it finds out with the first, and may say that the server is away
				if stale, err = s.Finish(ctx, s.Now(), ends[1:]); err != nil {
					stale = nil
				}
				if ctx.Err() != nil {
					t.Fatal(err)
				}
			}
			if !stale[0] {
				t.Error("the outcome was taken")
			}
		})
	}
}
