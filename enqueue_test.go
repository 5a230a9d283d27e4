package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"pgregory.net/rapid"
)

func enqueueJSONMany(t testing.TB, c *stint.Client, runs ...stint.JSONRun) []stint.Enqueued {
	t.Helper()
	return must[[]stint.Enqueued](t)(c.EnqueueJSONMany(t.Context(), runs))
}

// One call enqueues runs of several tasks and workflows, each with its options.
func TestEnqueueJSONMany(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "double", double, stint.WithPriority(7), stint.WithIdempotency(func(n int) string { return fmt.Sprint(n) }, time.Hour))
	flow := stint.NewWorkflow[int](c, "flow")
	stint.AddTask(flow, "one", double)
	before := enqueue(t, task, 3).ID()
	got := enqueueJSONMany(t, c,
		stint.JSONRun{Task: "double", Input: []byte("1"), Options: []stint.RunOption{stint.WithPriority(3)}},
		stint.JSONRun{Task: "elsewhere", Input: []byte(`{"a":1}`), Options: []stint.RunOption{stint.WithQueue("q"), stint.WithMetadata(map[string]string{"k": "v"})}},
		stint.JSONRun{Task: "flow", Input: []byte("2")},
		stint.JSONRun{Task: "double", Input: []byte("3")},
		stint.JSONRun{Task: "double", Input: []byte("1")},
	)
	ids := map[string]bool{}
	for i, want := range []string{"double 3 default false", "elsewhere 2 q false", "flow 2 default false", "double 7 default true", "double 3 default true"} {
		r := getRun(t, c, got[i].ID)
		if text := fmt.Sprint(r.Task, " ", r.Priority, " ", r.Queue, " ", got[i].Existing); text != want {
			t.Errorf("run %d: %s, want %s", i, text, want)
		}
		ids[r.ID] = true
	}
	if len(ids) != 4 || got[3].ID != before || got[4].ID != got[0].ID || got[0].ID >= got[1].ID || got[1].ID >= got[2].ID {
		t.Errorf("%+v, and %s before", got, before)
	}
	if got, err := c.EnqueueJSONMany(t.Context(), nil); got != nil || err != nil {
		t.Errorf("no runs: %v, %v", got, err)
	}
	working(t, c)
	if out, err := stint.RunByID[stint.Outputs](c, got[2].ID).Wait(t.Context()); err != nil {
		t.Errorf("%v, %v", out, err)
	}
}

// A run that cannot be enqueued is named by its index, and none is enqueued.
func TestEnqueueJSONManyNamesTheBad(t *testing.T) {
	c := opened(t)
	stint.NewTask(c, "double", double)
	flow := stint.NewWorkflow[int](c, "flow")
	stint.AddTask(flow, "one", double)
	good := stint.JSONRun{Task: "double", Input: []byte("1")}
	gone := "01890a5d-ac96-774b-bcce-b302099a8057"
	for name, tt := range map[string]struct {
		bad  stint.JSONRun
		want string
		is   error
	}{
		"no JSON":              {stint.JSONRun{Task: "double", Input: []byte("{")}, "not JSON", nil},
		"of another type":      {stint.JSONRun{Task: "double", Input: []byte(`"x"`)}, "double", nil},
		"no task":              {stint.JSONRun{Input: []byte("1")}, "empty task name", nil},
		"too large":            {stint.JSONRun{Task: "x", Input: []byte(`"` + strings.Repeat("x", 4<<20) + `"`)}, "WithMaxPayload", nil},
		"a bad option":         {stint.JSONRun{Task: "x", Input: []byte("1"), Options: []stint.RunOption{stint.WithPriority(1000)}}, "WithPriority", nil},
		"a task of a workflow": {stint.JSONRun{Task: "flow:one", Input: []byte("1")}, "alone", nil},
		"no parent":            {stint.JSONRun{Task: "x", Input: []byte("1"), Options: []stint.RunOption{stint.WithChildKey("k")}}, "WithParent", nil},
		"an unknown parent":    {stint.JSONRun{Task: "x", Input: []byte("1"), Options: []stint.RunOption{stint.WithParent(gone)}}, gone, stint.ErrNotFound},
		"no parent's ID":       {stint.JSONRun{Task: "x", Input: []byte("1"), Options: []stint.RunOption{stint.WithParent("x")}}, "UUID", stint.ErrNotFound},
		"no worker":            {stint.JSONRun{Task: "x", Input: []byte("1"), Options: []stint.RunOption{stint.WithWorker("", true)}}, "WithWorker", nil},
	} {
		_, err := c.EnqueueJSONMany(t.Context(), []stint.JSONRun{good, good, tt.bad, good})
		if err == nil || !strings.Contains(err.Error(), "run 2 (") || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 500 ||
			tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if page := listRuns(t, c, stint.RunFilter{}); len(page.Runs) > 0 {
		t.Errorf("%d runs were enqueued", len(page.Runs))
	}
}

// Children by ID are like those that the parent's handler makes.
func TestWithParent(t *testing.T) {
	c := opened(t)
	meta := func(k, v string) stint.RunOption { return stint.WithMetadata(map[string]string{k: v}) }
	parent := enqueueJSON(t, c, "parent", json.RawMessage("1"), stint.WithPriority(9), meta("a", "1"), meta("b", "1"))
	child := enqueueJSON(t, c, "child", json.RawMessage("1"), meta("b", "2"), stint.WithParent(parent.ID()), stint.WithChildKey("0"))
	info := infoOf(t, child)
	if info.ParentID != parent.ID() || info.RootID != parent.ID() || info.Priority != 9 || fmt.Sprint(info.Metadata) != "map[a:1 b:2]" {
		t.Errorf("%+v", info)
	}
	again := enqueueJSON(t, c, "other", json.RawMessage("1"), stint.WithParent(parent.ID()), stint.WithChildKey("0"))
	if !again.Existing() || again.ID() != child.ID() {
		t.Errorf("the same key: %s, existing %v", again.ID(), again.Existing())
	}
	grandchild := enqueueJSON(t, c, "child", json.RawMessage("1"), stint.WithParent(child.ID()), stint.WithChildKey("0"))
	detached := enqueueJSON(t, c, "child", json.RawMessage("1"), stint.WithParent(parent.ID()), stint.Detached())
	if info := infoOf(t, grandchild); info.RootID != parent.ID() || grandchild.Existing() {
		t.Errorf("%+v", info)
	}
	if err := parent.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	for r, want := range map[*stint.Run[json.RawMessage]]stint.State{child: stint.StateCanceled, grandchild: stint.StateCanceled, detached: stint.StateQueued} {
		if info := infoOf(t, r); info.State != want {
			t.Errorf("%s is %v, want %v", info.ID, info.State, want)
		}
	}
	for _, opts := range [][]stint.RunOption{{stint.WithParent(parent.ID())}, {stint.WithChildKey("1"), stint.WithParent(parent.ID())}} {
		if _, err := c.EnqueueJSON(t.Context(), "child", json.RawMessage("1"), opts...); !errors.Is(err, stint.ErrCanceled) || !strings.Contains(err.Error(), parent.ID()) {
			t.Errorf("a child of a canceled run: %v", err)
		}
	}
	enqueueJSON(t, c, "child", json.RawMessage("1"), stint.WithParent(parent.ID()), stint.Detached())
	many := stint.NewTask(c, "many", double)
	if _, err := many.EnqueueMany(t.Context(), []int{1, 2}, stint.WithParent(grandchild.ID()), stint.WithChildKey("k")); err == nil || !strings.Contains(err.Error(), "WithChildKey") {
		t.Errorf("one key for two: %v", err)
	}
}

// A handler that fails after it has enqueued finds the runs it started, with the same results.
func TestEnqueueJSONManyInAHandlerIsOnce(t *testing.T) {
	c := opened(t)
	stint.NewTask(c, "leaf", double)
	var results []string
	parent := stint.NewTask(c, "parent", func(ctx context.Context, n int) (int, error) {
		key := stint.WithChildKey("same")
		got, err := c.EnqueueJSONMany(ctx, []stint.JSONRun{
			{Task: "leaf", Input: []byte("1"), Options: []stint.RunOption{key}}, {Task: "other", Input: []byte("2"), Options: []stint.RunOption{key}},
			{Task: "leaf", Input: []byte("3")},
		})
		if err != nil {
			return 0, err
		}
		results = append(results, fmt.Sprint(got))
		if len(results) < 3 {
			return 0, errors.New("again")
		}
		return stint.RunByID[int](c, got[2].ID).Wait(ctx)
	}, stint.WithRetries(5))
	run := enqueue(t, parent, 1)
	working(t, c)
	if n := output(t, run); n != 6 {
		t.Errorf("%d", n)
	}
	slices.Sort(results)
	if len(slices.Compact(results)) != 1 || !strings.Contains(results[0], "true") {
		t.Errorf("%q", results)
	}
	if page := listRuns(t, c, stint.RunFilter{ParentID: run.ID()}); len(page.Runs) != 2 {
		t.Errorf("%d children", len(page.Runs))
	}
	entries := must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID()))
	if len(entries) != 1 || entries[0].Name != "leaf,other,leaf" {
		t.Errorf("%+v", entries)
	}
}

// A run goes to the worker that it names, and one affinity of a run replaces the task's.
func TestRunRoutes(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "where", func(ctx context.Context, _ int) (string, error) {
		info, _ := stint.Info(ctx)
		return info.Worker, nil
	}, stint.WithAffinity(stint.Affinity{Label: "zone", Value: "eu"}, stint.Affinity{Label: "cpu", Comparator: ">=", Value: 2}))
	working(t, c, stint.WithName("a"), stint.WithLabels(map[string]string{"zone": "eu", "cpu": "2"}))
	working(t, c, stint.WithName("b"), stint.WithLabels(map[string]string{"zone": "us", "cpu": "4"}))
	working(t, c, stint.WithName("c"), stint.WithLabels(map[string]string{"zone": "us", "cpu": "1"}))
	zone := func(v string) stint.RunOption { return stint.WithAffinity(stint.Affinity{Label: "zone", Value: v}) }
	for _, tt := range []struct {
		opts []stint.RunOption
		want string
	}{
		{nil, "a"}, {[]stint.RunOption{zone("us")}, "b"}, {[]stint.RunOption{zone("us"), stint.WithWorker("b", true)}, "b"},
		{[]stint.RunOption{zone("us"), stint.WithWorker("c", false)}, "b"},
	} {
		if where := output(t, enqueue(t, task, 1, tt.opts...)); where != tt.want {
			t.Errorf("went to %s, want %s", where, tt.want)
		}
	}
	any := stint.NewTask(c, "any", func(ctx context.Context, _ int) (string, error) {
		info, _ := stint.Info(ctx)
		return info.Worker, nil
	})
	for range 5 {
		for _, name := range []string{"a", "b", "c"} {
			if where := output(t, enqueue(t, any, 1, stint.WithWorker(name, true))); where != name {
				t.Errorf("went to %s, want %s", where, name)
			}
		}
	}
	lost := enqueue(t, any, 1, stint.WithWorker("gone", true))
	if info := infoOf(t, lost); info.State != stint.StateQueued || !strings.Contains(info.Blocked, "gone") {
		t.Errorf("for a worker that is not there: %v, %q", info.State, info.Blocked)
	}
}

// Random bulks of mixed tasks, parents and keys give what a model in maps gives.
func TestRandomBulks(t *testing.T) {
	c := opened(t, unsynced())
	checkRandom(t, 40, func(rt *rapid.T) {
		type child struct{ parent, key string }
		parents := []string{enqueueJSON(t, c, "p", json.RawMessage("1")).ID(), enqueueJSON(t, c, "p", json.RawMessage("1")).ID()}
		children, keys := map[child]string{}, map[[2]string]string{}
		space := parents[0] // keys are of this program alone
		for range rapid.IntRange(1, 3).Draw(rt, "bulks") {
			n := rapid.IntRange(1, 8).Draw(rt, "runs")
			runs, refs := make([]stint.JSONRun, n), make([]child, n)
			idem := make([]string, n)
			for i := range runs {
				runs[i] = stint.JSONRun{Task: rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "task"), Input: fmt.Append(nil, i)}
				o := &runs[i].Options
				if p := rapid.IntRange(0, 2).Draw(rt, "parent"); p > 0 {
					refs[i].parent = parents[p-1]
					*o = append(*o, stint.WithParent(refs[i].parent))
					if refs[i].key = rapid.SampledFrom([]string{"", "1", "2"}).Draw(rt, "child key"); refs[i].key != "" {
						*o = append(*o, stint.WithChildKey(refs[i].key))
					}
				}
				if key := rapid.SampledFrom([]string{"", "", "k", "l"}).Draw(rt, "key"); key != "" {
					idem[i] = space + key
					*o = append(*o, stint.WithIdempotencyKey(idem[i], time.Hour))
				}
			}
			bad := rapid.IntRange(-3, n-1).Draw(rt, "bad")
			if bad >= 0 {
				runs[bad].Options = append(runs[bad].Options, stint.WithPriority(999))
			}
			got, err := c.EnqueueJSONMany(t.Context(), runs)
			if (err != nil) != (bad >= 0) {
				rt.Fatalf("%v, of %+v", err, runs)
			}
			for i, e := range got {
				want := ""
				if refs[i].key != "" {
					want = children[refs[i]]
				}
				held := [2]string{runs[i].Task, idem[i]}
				if want == "" && idem[i] != "" {
					want = keys[held]
				}
				if e.Existing != (want != "") || e.Existing && e.ID != want {
					rt.Fatalf("run %d: %+v, want %q", i, e, want)
				}
				if refs[i].key != "" {
					children[refs[i]] = e.ID
				}
				if idem[i] != "" && !e.Existing {
					keys[held] = e.ID
				}
				if !e.Existing {
					if r := getRun(t, c, e.ID); r.ParentID != refs[i].parent || r.Task != runs[i].Task || string(r.Input) != fmt.Sprint(i) {
						rt.Fatalf("run %d is %+v", i, r)
					}
				}
			}
		}
	})
}
