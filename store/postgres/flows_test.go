package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
)

// beginFlows enqueues runs of a workflow of tasks one after another, and claims their first tasks.
func beginFlows(t *testing.T, s *Store, g *store.Graph, n int) (ids []store.ID, ends []store.Outcome) {
	t.Helper()
	runs := make([]store.NewRun, n)
	for i := range runs {
		runs[i] = store.NewRun{Task: g.Workflow, Queue: "q", Input: []byte("1"), Metadata: []byte(`{"m":"1"}`), Graph: g}
	}
	made, err := s.Enqueue(t.Context(), s.Now(), runs)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range made {
		ids = append(ids, m.ID)
	}
	return ids, claimTasks(t, s, g, n)
}

// claimTasks claims tasks of a workflow, and returns that they succeed.
func claimTasks(t *testing.T, s *Store, g *store.Graph, n int) (ends []store.Outcome) {
	t.Helper()
	got, err := s.Claim(t.Context(), store.ClaimRequest{Worker: 1, Free: func() int { return n }, Tasks: func(name string) bool { return name == g.Lane() }})
	if err != nil || len(got) != n {
		t.Fatalf("claimed %d runs, %v, want %d", len(got), err, n)
	}
	for _, c := range got {
		if string(c.Input) != "1" || string(c.Metadata) != `{"m":"1"}` || c.Node == 0 || c.Task == "" {
			t.Errorf("claimed %+v, want a task with the input and the metadata of its workflow's run", c)
		}
		ends = append(ends, store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Succeeded, Output: []byte("1"), Queue: c.Queue, Task: c.Task,
			Started: c.Started, Parent: c.Parent, Node: c.Node})
	}
	return ends
}

// statesOf returns the states of a workflow's run and of its tasks, in order.
func statesOf(t *testing.T, set *settings, s *Store, id store.ID) []store.State {
	t.Helper()
	key, _ := s.ids.Key(id)
	rows, err := dial(t, set).Query(t.Context(), qualify("SELECT state FROM stint.runs WHERE id = $1 OR parent = $1 ORDER BY id", set.Schema), key)
	if err != nil {
		t.Fatal(err)
	}
	states, err := pgx.CollectRows(rows, pgx.RowTo[int16])
	if err != nil {
		t.Fatal(err)
	}
	all := make([]store.State, len(states))
	for i, x := range states {
		all[i] = store.State(x)
	}
	return all
}

func wantStates(t *testing.T, got []store.State, want ...store.State) {
	t.Helper()
	for i := range want {
		if len(got) != len(want) || got[i] != want[i] {
			t.Fatalf("states %v, want %v", got, want)
		}
	}
}

// The finisher ends tasks of workflows whose children start at once, and the workflow with the last.
func TestFinisherOfWorkflows(t *testing.T) {
	set := noTables(t)
	s := openStore(t, set)
	ctx, g := withinMinutes(t), twoTasks(t)
	ids, ends := beginFlows(t, s, g, 3)
	waits := make(chan store.Result, 1)
	go func() {
		r, _ := s.Await(ctx, ids[0], store.Until{})
		waits <- r
	}()
	for range 2 {
		had := groupsOfEnds(s)
		finish(t, ctx, s, ends)
		if groupsOfEnds(s) != had+1 {
			t.Error("the ends were not a group of the finisher")
		}
		if last := ends[0].Node&1 == 1; !last {
			ends = claimTasks(t, s, g, 3)
		}
	}
	for _, id := range ids {
		wantStates(t, statesOf(t, set, s, id), store.Succeeded, store.Succeeded, store.Succeeded)
	}
	if r := <-waits; r.State != store.Succeeded || !r.Workflow {
		t.Errorf("the result is %+v, want that of a workflow that has succeeded", r)
	}
}

// What was remembered of a workflow's run is not so any more: the end of its task goes on to the writer, and is decided as it is.
func TestWorkflowsThatAreNotAsAssumed(t *testing.T) {
	for _, c := range []struct {
		name   string
		change string // of the workflow's run
		want   []store.State
	}{
		{"asked to cancel", "cancel_at = 1", []store.State{store.Running, store.Succeeded, store.Queued}},
		{"replayed", "replayed = 1", []store.State{store.Running, store.Succeeded, store.Queued}},
		{"another lane", "lane = lane + 1", []store.State{store.Running, store.Succeeded, store.Queued}},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := noTables(t)
			s := openStore(t, set)
			ctx, g := withinMinutes(t), twoTasks(t)
			ids, ends := beginFlows(t, s, g, 2)
			had := groupsOfEnds(s)
			key, _ := s.ids.Key(ids[1])
			if _, err := dial(t, set).Exec(ctx, qualify("UPDATE stint.runs SET "+c.change+" WHERE id = $1", set.Schema), key); err != nil {
				t.Fatal(err)
			}
			finish(t, ctx, s, ends)
			if groupsOfEnds(s) != had {
				t.Error("it was a group of the finisher")
			}
			wantStates(t, statesOf(t, set, s, ids[0]), store.Running, store.Succeeded, store.Queued)
			wantStates(t, statesOf(t, set, s, ids[1]), c.want...)
		})
	}
}

// A workflow is canceled while the end of its task is being committed: no task is left that nobody cancels.
func TestCancelBesideEndsOfTasks(t *testing.T) {
	set := noTables(t)
	s, other := openStore(t, set), openStore(t, set)
	ctx, g := withinMinutes(t), twoTasks(t)
	for range 30 {
		ids, ends := beginFlows(t, s, g, 4)
		done := make(chan error)
		go func() {
			_, err := other.Act(ctx, other.Now(), store.Action{Kind: store.ActCancel}, store.Filter{IDs: ids})
			done <- err
		}()
		if _, err := s.Finish(ctx, s.Now(), ends); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			for _, state := range statesOf(t, set, s, id) {
				if !state.Terminal() {
					t.Fatalf("states %v after the cancel", statesOf(t, set, s, id))
				}
			}
		}
	}
}
