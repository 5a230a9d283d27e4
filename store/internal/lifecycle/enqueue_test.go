package lifecycle_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

func TestNew(t *testing.T) {
	key, graph := start<<keys.SeqBits, &store.Graph{}
	for _, c := range []struct {
		name string
		n    store.NewRun
		want row
	}{
		{"plain", store.NewRun{Priority: 2}, row{State: store.Queued, Rank: start}},
		{"in the past", store.NewRun{Priority: 2, RunAt: time.UnixMilli(5)}, row{State: store.Queued, Rank: start}},
		{"ages", store.NewRun{Priority: 4, AgeEvery: time.Second}, row{State: store.Queued, Rank: start - 2000}},
		{"later", store.NewRun{Priority: 2, RunAt: time.UnixMilli(start + 5).Add(-time.Microsecond), StartIn: time.Second},
			row{State: store.Scheduled, Rank: start + 5, Due: start + 5, StartIn: 1000, StartBy: start + 1005}},
		{"in a microsecond", store.NewRun{Priority: 2, StartIn: time.Microsecond},
			row{State: store.Queued, Rank: start, StartIn: 1, StartBy: start + 1}},
		{"a workflow with limits", store.NewRun{Priority: 2, Graph: graph, Detached: true, Limits: make([]store.Limit, 1)},
			row{State: store.Queued, Rank: start, Workflow: true, Detached: true, Limited: true}},
	} {
		c.want.Key = key
		if got := lifecycle.New(&c.n, key, start); got.Rank != c.want.Rank || got.State != c.want.State || got.Due != c.want.Due ||
			got.StartBy != c.want.StartBy || got.StartIn != c.want.StartIn || got.Workflow != c.want.Workflow ||
			got.Detached != c.want.Detached || got.Limited != c.want.Limited {
			t.Errorf("%s: got  %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

// keyRows implements lifecycle.EnqueueRows for one key, and one parent and its child.
type keyRows struct {
	holder    lifecycle.Holder
	scheduled bool
	due       int64
	parent    lifecycle.Parent
	child     int64
	limiter   *int64 // that Admit returns
	read      int    // how often the parent was
	log       []string
}

func (k *keyRows) note(format string, args ...any) {
	k.log = append(k.log, fmt.Sprintf(format, args...))
}

func (k *keyRows) Lane(n *store.NewRun) (int64, error) { return 7, nil }
func (k *keyRows) NextKey(now int64) int64             { return now << keys.SeqBits }
func (k *keyRows) WakeAt(at int64)                     { k.note("wake %d", at-start) }

func (k *keyRows) Graph(*store.Graph) (int64, error) {
	k.note("graph")
	return 5, nil
}

func (k *keyRows) Admit(r *lifecycle.Run, ls []store.Limit) (*int64, error) {
	k.note("admit %d in lane %d", len(ls), r.Lane)
	return k.limiter, nil
}

func (k *keyRows) Hold(task, key string, run, expires int64) error {
	k.holder = lifecycle.Holder{Run: run, Expires: expires}
	k.note("hold %s %s", task, key)
	return nil
}

func (k *keyRows) Parent(id store.ID) (lifecycle.Parent, error) {
	k.read++
	if k.parent.Key == 0 {
		return k.parent, store.ErrNotFound
	}
	return k.parent, nil
}

func (k *keyRows) Child(int64, string) (int64, error) { return k.child, nil }

func (k *keyRows) SetChild(_ int64, _ string, run int64) error {
	k.child = run
	k.note("child")
	return nil
}

func (k *keyRows) Holder(string, string) (lifecycle.Holder, error) { return k.holder, nil }

func (k *keyRows) Replace(_ int64, n *store.NewRun, due int64) (bool, error) {
	k.due = due
	for _, all := range [][]store.Limit{n.Limits, n.TaskLimits[1]} {
		for _, l := range all {
			k.note("set by %d", l.SetBy>>keys.SeqBits-start)
		}
	}
	return k.scheduled, nil
}

func TestExisting(t *testing.T) {
	run := keyOf(1)
	debounce := store.NewRun{Key: "k", Debounce: 2 * time.Second, RunAt: at(0)}
	late := debounce
	late.RunAt = at(5000)
	for _, c := range []struct {
		name string
		rows keyRows
		n    store.NewRun
		want int64
		due  int64
	}{
		{"a new key", keyRows{}, store.NewRun{Key: "k"}, 0, 0},
		{"until the run ends", keyRows{holder: lifecycle.Holder{Run: run}}, store.NewRun{Key: "k"}, run, 0},
		{"it has ended", keyRows{holder: lifecycle.Holder{Run: run, Ended: true}}, store.NewRun{Key: "k"}, 0, 0},
		{"for a time", keyRows{holder: lifecycle.Holder{Run: run, Expires: start + 1001, Ended: true}}, store.NewRun{Key: "k"}, run, 0},
		{"the time has passed", keyRows{holder: lifecycle.Holder{Run: run, Expires: start + 1000}}, store.NewRun{Key: "k"}, 0, 0},
		{"replaces it", keyRows{holder: lifecycle.Holder{Run: run}, scheduled: true}, debounce, run, start + 1000},
		{"at the latest", keyRows{holder: lifecycle.Holder{Run: run}, scheduled: true}, late, run, start + 2000},
		{"it has started", keyRows{holder: lifecycle.Holder{Run: run}}, debounce, 0, start + 1000},
		{"it has ended, with debounce", keyRows{holder: lifecycle.Holder{Run: run, Ended: true}, scheduled: true}, debounce, 0, 0},
	} {
		_, got, err := lifecycle.Enqueue(&c.rows, &c.n, start+1000)
		ok(t, err)
		if got != c.want || c.rows.due != c.due {
			t.Errorf("%s: run %d, due %d; want run %d, due %d", c.name, got, c.rows.due, c.want, c.due)
		}
	}
	for ttl, want := range map[time.Duration]int64{store.UntilDone: 0, time.Second: start + 1000, time.Nanosecond: start + 1} {
		var rows keyRows
		_, _, err := lifecycle.Enqueue(&rows, &store.NewRun{Key: "k", KeyTTL: ttl}, start)
		ok(t, err)
		if got := rows.holder.Expires; got != want {
			t.Errorf("%v: %d, want %d", ttl, got, want)
		}
	}
}

func TestExistingChildren(t *testing.T) {
	made := start << keys.SeqBits
	there, canceled := lifecycle.Parent{Key: keyOf(1)}, lifecycle.Parent{Key: keyOf(1), Canceled: true}
	holder := lifecycle.Holder{Run: keyOf(3)}
	for _, c := range []struct {
		name  string
		rows  keyRows
		n     store.NewRun
		want  int64
		err   error
		child int64 // that the key refers to by then
	}{
		{"no parent", keyRows{holder: holder}, store.NewRun{ChildKey: "c", Key: "k"}, 0, store.ErrNotFound, 0},
		{"no parent, and no key", keyRows{}, store.NewRun{ParentNamed: true}, 0, store.ErrNotFound, 0},
		{"new", keyRows{parent: there}, store.NewRun{ChildKey: "c", ParentNamed: true}, 0, nil, made},
		{"a child", keyRows{parent: there, child: keyOf(2), holder: holder}, store.NewRun{ChildKey: "c", Key: "k"}, keyOf(2), nil, keyOf(2)},
		{"an idempotency key's run", keyRows{parent: there, holder: holder}, store.NewRun{ChildKey: "c", Key: "k"}, keyOf(3), nil, keyOf(3)},
		{"canceled", keyRows{parent: canceled, holder: holder}, store.NewRun{ParentNamed: true, Key: "k", ChildKey: "c"}, 0,
			store.ErrParentCanceled, 0},
		{"canceled, detached", keyRows{parent: canceled}, store.NewRun{ParentNamed: true, Detached: true}, 0, nil, 0},
		{"canceled, of its own handler", keyRows{parent: canceled}, store.NewRun{ChildKey: "c"}, 0, nil, made},
		{"canceled, a child that is there", keyRows{parent: canceled, child: keyOf(2)}, store.NewRun{ParentNamed: true, ChildKey: "c"},
			keyOf(2), nil, keyOf(2)},
	} {
		_, got, err := lifecycle.Enqueue(&c.rows, &c.n, start)
		if got != c.want || !errors.Is(err, c.err) || c.rows.child != c.child {
			t.Errorf("%s: run %d, %v, child %d; want run %d, %v, child %d", c.name, got, err, c.rows.child, c.want, c.err, c.child)
		}
	}
}

// TestEnqueue: what a new run's row has of its parent, its graph and its limits, and what is asked for it.
func TestEnqueue(t *testing.T) {
	parent := store.ID{15: 1}
	there := lifecycle.Parent{Key: keyOf(1), Root: keyOf(9)}
	graph := &store.Graph{Tasks: make([]store.GraphTask, 2)}
	limited := make([]store.Limit, 2)
	asked, waits := int64(0), int64(3)
	const key = "hold t k"
	node := 5<<lifecycle.NodeBits | int64(graph.End())
	for _, c := range []struct {
		name string
		rows keyRows
		n    store.NewRun
		want lifecycle.Row
		log  string
		read int
	}{
		{"plain", keyRows{}, store.NewRun{}, lifecycle.Row{Run: row{State: store.Queued}}, "", 0},
		{"with a key", keyRows{}, store.NewRun{Key: "k"}, lifecycle.Row{Run: row{State: store.Queued}}, key, 0},
		{"a child", keyRows{parent: there}, store.NewRun{Parent: parent},
			lifecycle.Row{Run: row{State: store.Queued, Parent: there.Key}, Root: there.Root}, "", 1},
		{"a child with keys", keyRows{parent: there}, store.NewRun{Parent: parent, ChildKey: "c", Key: "k"},
			lifecycle.Row{Run: row{State: store.Queued, Parent: there.Key}, Root: there.Root}, "child, " + key, 1},
		{"later, with limits", keyRows{limiter: &waits}, store.NewRun{RunAt: at(5), StartIn: time.Second, Limits: limited},
			lifecycle.Row{Run: row{State: store.Scheduled}}, "wake 1005, wake 2005", 0},
		{"in time", keyRows{}, store.NewRun{StartIn: time.Second}, lifecycle.Row{Run: row{State: store.Queued}}, "wake 1000", 0},
		{"admitted", keyRows{}, store.NewRun{Limits: limited}, lifecycle.Row{Run: row{State: store.Queued}}, "admit 2 in lane 7", 0},
		{"waits", keyRows{limiter: &waits}, store.NewRun{Limits: limited, Key: "k"},
			lifecycle.Row{Run: row{State: store.Queued}, Limiter: &waits}, key + ", admit 2 in lane 7", 0},
		{"a workflow", keyRows{}, store.NewRun{Graph: graph}, lifecycle.Row{Run: row{State: store.Running, Node: node, Started: start}},
			"graph", 0},
		{"a workflow, later", keyRows{}, store.NewRun{Graph: graph, RunAt: at(5)},
			lifecycle.Row{Run: row{State: store.Scheduled, Node: node}}, "graph, wake 1005", 0},
		{"a workflow with limits", keyRows{limiter: &asked}, store.NewRun{Graph: graph, Limits: limited},
			lifecycle.Row{Run: row{State: store.Queued, Node: node}, Limiter: &asked}, "graph, admit 2 in lane 7", 0},
	} {
		c.n.Task, c.n.KeyTTL = "t", time.Second
		got, existing, err := lifecycle.Enqueue(&c.rows, &c.n, start)
		ok(t, err)
		if existing != 0 || got.Key != start<<keys.SeqBits || got.Lane != 7 || got.State != c.want.State || got.Parent != c.want.Parent ||
			got.Root != c.want.Root || got.Node != c.want.Node || got.Started != c.want.Started || got.Limiter != c.want.Limiter {
			t.Errorf("%s: got  %+v\nwant %+v", c.name, got, c.want)
		}
		if log := strings.Join(c.rows.log, ", "); log != c.log || c.rows.read != c.read {
			t.Errorf("%s: %s; the parent was read %d times; want %s; %d times", c.name, log, c.rows.read, c.log, c.read)
		}
	}
	var rows keyRows
	if _, _, err := lifecycle.Enqueue(&rows, &store.NewRun{Parent: parent, Key: "k"}, start); !errors.Is(err, store.ErrNotFound) || rows.log != nil {
		t.Errorf("no parent: %v, %v", err, rows.log)
	}
}

// A run with a Debounce replaces an earlier one: the settings of its limits are those of its enqueue.
func TestReplaces(t *testing.T) {
	for _, c := range []struct {
		scheduled bool
		runAt     time.Time
		want      string
	}{
		{true, at(0), "set by 7, set by 7, set by 7, wake 1000, wake 2000"},
		{false, at(-993), "set by 7, set by 7, set by 7, hold  k, admit 1 in lane 7, wake 1007"}, // it has started
	} {
		n := store.NewRun{Key: "k", Debounce: 2 * time.Second, RunAt: c.runAt, StartIn: time.Second, Limits: make([]store.Limit, 1),
			TaskLimits: map[int][]store.Limit{1: make([]store.Limit, 2)}}
		rows := keyRows{holder: lifecycle.Holder{Run: keyOf(1)}, scheduled: c.scheduled}
		_, existing, err := lifecycle.Enqueue(&rows, &n, start+7)
		ok(t, err)
		if log := strings.Join(rows.log, ", "); log != c.want || (existing == keyOf(1)) != c.scheduled {
			t.Errorf("%d, %s; want %s", existing, log, c.want)
		}
		if n.Limits[0].SetBy != 0 || n.TaskLimits[1][0].SetBy != 0 {
			t.Error("it has changed the new run")
		}
	}
}
