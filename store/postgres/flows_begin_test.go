package postgres

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
)

// joinedTasks returns a graph of tasks a and b, of which neither has a parent, and c, which has both.
func joinedTasks(t *testing.T) *store.Graph {
	t.Helper()
	g, err := store.NewGraph(store.Graph{Workflow: "j" + t.Name(), Tasks: []store.GraphTask{{Name: "a", Queue: "q"}, {Name: "b", Queue: "q"},
		{Name: "c", Queue: "q", Parents: []int{0, 1}}}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// flowRowsOf describes the rows of workflows' runs that were enqueued, and of their tasks, by what does not depend on when.
func flowRowsOf(t *testing.T, set *settings, s *Store, made []store.Enqueued) [][]string {
	t.Helper()
	var all [][]string
	for _, m := range made {
		key, _ := s.ids.Key(m.ID)
		rows, err := dial(t, set).Query(t.Context(), qualify(`SELECT concat_ws(' ', 'r', lane, rank - coalesce(due_at, id >> 20), turn, lease, spent, worker, limiter, due_at,
  started_at - (id >> 20), ended_at, cancel_at, start_by, start_in, parent = $1, root = $1, node, executions, attempt, replayed, crashes,
  state, priority, flags, key, metadata, limits, input, output, error) FROM stint.runs WHERE id = $1 OR parent = $1 ORDER BY id`, set.Schema), key)
		if err != nil {
			t.Fatal(err)
		}
		of, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, of)
	}
	return all
}

// enqueueOf enqueues runs, and reports whether that took one round trip.
func enqueueOf(t *testing.T, s *Store, counter *tripCounter, runs ...store.NewRun) (made []store.Enqueued, plain bool) {
	t.Helper()
	x := &tripsTest{T: t, s: s, ctx: t.Context()}
	conn := s.writerConn(x)
	before := counter.of(conn)
	made = x.enqueue(runs...)
	return made, counter.of(conn) == before+1
}

// A plain group that starts workflows stores what one does that reads before it writes.
func TestWorkflowsStartPlainly(t *testing.T) {
	set := noTables(t)
	s, counter := openCounted(t, set)
	run := store.NewRun{Task: "w", Queue: "q", Input: []byte("1"), Metadata: []byte(`{"m":"1"}`), Priority: 3, Graph: joinedTasks(t)}
	later := run
	later.RunAt = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	alone := store.NewRun{Task: "t", Queue: "q", Input: []byte("1")}
	first, plain := enqueueOf(t, s, counter, run, later, run, alone)
	if plain {
		t.Fatal("the first group was a plain one: it had to store the graph")
	}
	want := flowRowsOf(t, set, s, first)
	if len(want[0]) != 3 || len(want[1]) != 1 || len(want[3]) != 1 {
		t.Fatalf("rows %q, want a workflow's run with two tasks, one for later, and one more run", want)
	}
	for range 5 { // any may meet a look that the process takes
		var made []store.Enqueued
		if made, plain = enqueueOf(t, s, counter, run, later, run, alone); !plain {
			continue
		}
		if got := flowRowsOf(t, set, s, made); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("rows %q, want %q", got, want)
		}
		return
	}
	t.Error("no group was a plain one")
}

// The keys of a workflow's run and of its tasks are moved alike: the tasks are of the run whose ID is returned.
func TestMovedKeysOfWorkflows(t *testing.T) {
	set := noTables(t)
	ahead, s := openStore(t, set), openStore(t, set)
	ctx, g := withinMinutes(t), joinedTasks(t)
	run := store.NewRun{Task: "w", Queue: "q", Input: []byte("1"), Graph: g}
	var want []store.ID
	for range 4 { // the first ones learn
		ahead.keys.from(ahead.Now().Add(time.Hour).UnixMilli() << keyBits)
		for _, x := range []*Store{ahead, s, s} {
			made, err := x.Enqueue(ctx, x.Now(), []store.NewRun{run, run})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, made[0].ID, made[1].ID)
		}
	}
	request := any1(2 * len(want))
	request.Tasks = func(name string) bool { return name == g.Lane() }
	got, err := s.Claim(ctx, request)
	if err != nil || len(got) != 2*len(want) {
		t.Fatalf("claimed %d tasks, %v, want %d", len(got), err, 2*len(want))
	}
	for i, c := range got {
		if c.Parent != want[i/2] || c.Root != want[i/2] || string(c.Input) != "1" {
			t.Errorf("task %d is of %s, below %s, with input %s; want those of %s, in the order of the enqueues", i, c.Parent, c.Root, c.Input, want[i/2])
		}
	}
}
