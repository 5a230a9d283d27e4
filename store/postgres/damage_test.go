package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stint-dev/stint/store"
)

// A row whose columns do not go together, as somebody has left it who changed it by hand, is found where it is read: its run
// is blocked and says why, and no other is held up (R8).
func TestColumnsThatDoNotGoTogether(t *testing.T) {
	limits := []store.Limit{{Name: "l", Key: "k", Max: 1, Strategy: store.StrategyQueue}}
	for _, c := range []struct {
		name, set string
		limits    []store.Limit
		claims    bool        // the run is claimed before it is changed
		to        store.State // Canceled: it is canceled once it is blocked
	}{
		{"queued, and has ended", "ended_at = 1", nil, false, store.Blocked},
		{"queued, and has ended, canceled", "ended_at = 1", nil, false, store.Canceled},
		{"waits for a limiter, without limits", "limits = NULL", limits, false, store.Blocked},
		{"running, by no worker", "worker = NULL", nil, true, store.Canceled},
		{"waiting, and has ended", "state = 5, ended_at = 1", nil, true, store.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := newTables(t)
			s := openStore(t, set)
			ctx := withinMinutes(t)
			run := store.NewRun{Task: "t", Queue: "q", Input: []byte("1"), Limits: c.limits}
			made, err := s.Enqueue(ctx, s.Now(), []store.NewRun{run, run}) // the first occupies the limiter
			if err != nil {
				t.Fatal(err)
			}
			if c.claims {
				if got, err := s.Claim(ctx, any1(2)); err != nil || len(got) != 2 {
					t.Fatalf("claimed %v, %v", got, err)
				}
			}
			id := made[1].ID
			key, _ := s.ids.Key(id)
			statement := fmt.Sprintf("UPDATE stint.runs SET %s WHERE id = %d", c.set, key)
			if _, err := dial(t, set).Exec(ctx, qualify(statement, set.Schema)); err != nil {
				t.Fatal(err)
			}
			if c.to == store.Canceled {
				if _, err := s.Act(ctx, s.Now(), store.Action{Kind: store.ActCancel}, store.Filter{IDs: []store.ID{id}}); err != nil {
					t.Error(err)
				}
			} else {
				got, err := s.Claim(ctx, any1(2))
				if err != nil || len(got) != 1 || got[0].ID != made[0].ID {
					t.Fatalf("claimed %+v, %v, want the whole run", got, err)
				}
				end := store.Outcome{ID: got[0].ID, Lease: got[0].Lease, To: store.Succeeded, Queue: "q", Task: "t"}
				if stale, err := s.Finish(ctx, s.Now(), []store.Outcome{end}); err != nil || stale[0] {
					t.Errorf("finish: %v, %v", stale, err)
				}
			}
			r, err := s.Get(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			if r.State != c.to || c.to == store.Blocked && !strings.Contains(string(r.Error), `"kind":"damaged"`) {
				t.Errorf("the run is %v: %s", r.State, r.Error)
			}
			if c.claims {
				return
			}
			if _, err := s.Enqueue(ctx, s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("2")}}); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Claim(ctx, any1(1)); err != nil || len(got) != 1 {
				t.Errorf("claimed %+v, %v, want a run", got, err)
			}
		})
	}
}

// What a column alone may not be, the database refuses.
func TestColumnsOutOfRange(t *testing.T) {
	set := newTables(t)
	s := openStore(t, set)
	if _, err := s.Enqueue(t.Context(), s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"id = 0", "attempt = -1", "state = 1", "state = 11", "priority = 128", "priority = -129"} {
		if _, err := dial(t, set).Exec(t.Context(), qualify("UPDATE stint.runs SET "+c, set.Schema)); code(err) != "23514" {
			t.Errorf("%s: %v, want a violation of a check", c, err)
		}
	}
}
