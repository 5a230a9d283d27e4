package workflow_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/misstest"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// graph makes a graph of tasks as "a", or "c<a,b": c has the parents a and b.
func graph(tasks ...string) (g store.Graph) {
	var names []string
	for _, task := range tasks {
		name, parents, _ := strings.Cut(task, "<")
		t := store.GraphTask{Name: name, Queue: "q"}
		for p := range strings.SplitSeq(parents, ",") {
			if i := slices.Index(names, p); i >= 0 {
				t.Parents = append(t.Parents, i)
			}
		}
		g.Tasks, names = append(g.Tasks, t), append(names, name)
	}
	return g
}

func TestAdvance(t *testing.T) {
	type end struct {
		task int
		to   store.State
	}
	const succeeded, failed, canceled = store.Succeeded, store.Failed, store.Canceled
	diamond := graph("a", "b<a", "c<a", "d<b,c")
	for _, c := range []struct {
		name string
		g    store.Graph
		ends []end
		want string
	}{
		{"begins with the tasks without parents", graph("a", "b", "c<a,b"), nil, "a queued, b queued, = running"},
		{"one parent of two", graph("a", "b", "c<a,b"), []end{{0, succeeded}}, "a succeeded, b queued, = running"},
		{"both parents", graph("a", "b", "c<a,b"), []end{{1, succeeded}, {0, succeeded}}, "a succeeded, b succeeded, c queued, = running"},
		{"all succeed", diamond, []end{{0, succeeded}, {1, succeeded}, {2, succeeded}, {3, succeeded}},
			"a succeeded, b succeeded, c succeeded, d succeeded, = succeeded"},
		{"the first fails", diamond, []end{{0, failed}}, "a failed, b canceled, c canceled, d canceled, = failed"},
		{"one branch fails", diamond, []end{{0, succeeded}, {1, failed}}, "a succeeded, b failed, c queued, = running"},
		{"and the other ends", diamond, []end{{0, succeeded}, {1, failed}, {2, succeeded}},
			"a succeeded, b failed, c succeeded, d canceled, = failed"},
		{"a task is canceled", diamond, []end{{0, canceled}}, "a canceled, b canceled, c canceled, d canceled, = canceled"},
		{"two ends of the graph", graph("a", "b"), []end{{0, canceled}, {1, failed}}, "a canceled, b failed, = failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRows(t, c.g)
			for _, e := range c.ends {
				r.finish(e.task, e.to)
			}
			r.are(c.want)
		})
	}
}

func TestReasons(t *testing.T) {
	r := newRows(t, graph("a", "b<a", "c<b"))
	r.finish(0, store.Failed)
	for _, c := range []struct{ got, want string }{
		{string(r.task(1).Error), `{"kind":"parent","message":"task \"a\" did not succeed"}`},
		{string(r.task(2).Error), `{"kind":"parent","message":"task \"a\" did not succeed"}`},
		{string(r.workflow().Error), `{"kind":"workflow","message":"task \"a\" did not succeed"}`},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	if x := r.task(2); x.Ended != r.now || x.Lease != 0 {
		t.Errorf("%+v", x)
	}
}

// The cause is the first task that did not succeed by itself, also after a replay.
func TestCause(t *testing.T) {
	r := newRows(t, graph("a", "b", "c", "d<a,b,c"))
	cause := func(place int, want string) {
		t.Helper()
		x := r.task(place)
		if place == r.graph.End() {
			x = r.workflow()
		}
		if got := string(x.Error); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	r.finish(0, store.Succeeded)
	r.finish(1, store.Failed)
	r.finish(2, store.Failed)
	cause(3, `\"b\"`)
	cause(r.graph.End(), `\"b\"`)
	ok(t, workflow.Replay(r, r.key(), r.workflow().Node, r.now, false))
	r.finish(2, store.Canceled)
	r.finish(1, store.Succeeded)
	cause(3, `\"c\"`)
}

func TestReruns(t *testing.T) {
	g, err := store.NewGraph(graph("a", "b<a", "c", "d<c", "e<b,d"))
	ok(t, err)
	for _, c := range []struct {
		states []store.State
		want   []bool
	}{
		{[]store.State{store.Succeeded, store.Succeeded, store.Skipped, store.Skipped, store.Succeeded}, []bool{true, true, true, true, true}},
		{[]store.State{store.Failed, store.Succeeded, store.Succeeded, store.Succeeded, store.Succeeded}, []bool{true, true, false, false, true}},
		{[]store.State{store.Succeeded, 0, store.Skipped, store.Canceled, store.Succeeded}, []bool{false, true, false, true, true}},
	} {
		if got := workflow.Reruns(g, false, func(i int) store.State { return c.states[i] }); !slices.Equal(got, c.want) {
			t.Errorf("%v: got %v, want %v", c.states, got, c.want)
		}
	}
}

func TestHooks(t *testing.T) {
	hook := "q"
	g := graph("a", "b", "c<a,b")
	g.OnFailure, g.OnSuccess = &hook, &hook
	r := newRows(t, g)
	r.finish(0, store.Failed)
	r.are("a failed, b queued, = running, on-failure queued")
	r.finish(1, store.Failed) // there is one on-failure task
	r.are("a failed, b failed, c canceled, = failed, on-failure queued")
	if x := r.task(r.graph.Failure()); !x.Detached {
		t.Errorf("%+v", x)
	}
	r.finish(r.graph.Failure(), store.Failed) // nothing follows
	r.are("a failed, b failed, c canceled, = failed, on-failure failed")

	r = newRows(t, g)
	for i := range 3 {
		r.finish(i, store.Succeeded)
	}
	r.are("a succeeded, b succeeded, c succeeded, = succeeded, on-success queued")
}

// A workflow that was asked to cancel ends canceled, once its tasks have ended.
func TestCanceledWorkflow(t *testing.T) {
	r := newRows(t, graph("a", "b"))
	r.workflow().CancelAt, r.workflow().Error = r.now, []byte("why")
	r.finish(0, store.Succeeded)
	r.finish(1, store.Succeeded)
	r.are("a succeeded, b succeeded, = canceled")
	if w := r.workflow(); string(w.Error) != "why" || w.Ended != r.now {
		t.Errorf("%+v", w)
	}
}

func TestTaskRows(t *testing.T) {
	high := int8(3)
	g := graph("a", "b", "c")
	g.AgeEvery = time.Second
	g.Tasks[0].Priority = &high
	g.Tasks[1].StartIn = 500 * time.Millisecond
	r := newRows(t, g)
	if a := r.task(0); a.Priority != 3 || a.Rank != start-1000 || a.Root != r.key() || !a.Plain() {
		t.Errorf("%+v", a)
	}
	if b := r.task(1); b.StartIn != 500 || b.StartBy != start+500 || b.Plain() || !r.woken[start+500] {
		t.Errorf("%+v", b)
	}
	if c := r.task(2); c.Priority != 2 || c.Rank != start || c.Due != 0 {
		t.Errorf("%+v", c)
	}
}

func TestTaskLimits(t *testing.T) {
	g := graph("a", "b", "c")
	for i := range g.Tasks {
		g.Tasks[i].Limited = true
	}
	r := newRows(t, g, func(r *rows) { r.limits = map[int][]store.Limit{0: {{Units: 1}}, 1: {{Units: 10}}} })
	r.are("a queued, b blocked, c queued, = running")
	if a, b, c := r.task(0), r.task(1), r.task(2); *a.Limiter != 7 || b.Limiter != nil || c.Limiter != nil || c.Limits != "" ||
		string(b.Error) != `{"kind":"condition","message":"too many: it could never start"}` {
		t.Errorf("%+v\n%+v\n%+v", a, b, c)
	}
}

func TestConditions(t *testing.T) {
	sleep := func(ms int) *store.Condition { return &store.Condition{Sleep: time.Duration(ms) * time.Millisecond} }
	came := func(key string) *store.Condition { return &store.Condition{Event: &store.Match{Key: key}} }
	holds := &store.Condition{Test: &store.TestRef{}}
	pass := func(ms int64) func(*rows) { return func(r *rows) { r.pass(ms) } }
	publish := func(key string) func(*rows) { return func(r *rows) { r.publish(key) } }
	ends := func(to store.State, results ...store.TestResult) func(*rows) {
		return func(r *rows) { r.finish(0, to, results...) }
	}
	type does []func(*rows)
	yes, no := store.TestResult{OK: true}, store.TestResult{}
	for _, c := range []struct {
		name string
		task store.GraphTask // b, after a
		does does
		want string
	}{
		{"sleeps", store.GraphTask{WaitFor: sleep(100)}, does{ends(store.Succeeded), pass(99)}, "a succeeded, b waiting, = running"},
		{"has slept", store.GraphTask{WaitFor: sleep(100)}, does{ends(store.Succeeded), pass(100)}, "a succeeded, b queued, = running"},
		{"sleeps no time", store.GraphTask{WaitFor: sleep(-1)}, does{ends(store.Succeeded)}, "a succeeded, b queued, = running"},
		{"waits for an event", store.GraphTask{WaitFor: came("e")}, does{ends(store.Succeeded), publish("f")},
			"a succeeded, b waiting, = running"},
		{"it comes", store.GraphTask{WaitFor: came("e")}, does{ends(store.Succeeded), publish("e")}, "a succeeded, b queued, = running"},
		{"it came before", store.GraphTask{WaitFor: came("e")}, does{publish("e"), ends(store.Succeeded)}, "a succeeded, b queued, = running"},
		{"skipped by time", store.GraphTask{WaitFor: came("e"), SkipIf: sleep(50)}, does{ends(store.Succeeded), pass(50)},
			"a succeeded, b skipped, c skipped, = succeeded"},
		{"canceled by an event", store.GraphTask{WaitFor: sleep(50), CancelIf: came("e")}, does{ends(store.Succeeded), publish("e")},
			"a succeeded, b canceled, c canceled, = canceled"},
		{"decided by time, not by who looks first", store.GraphTask{WaitFor: came("e"), CancelIf: sleep(50)},
			does{ends(store.Succeeded), func(r *rows) { r.now += 60 }, publish("e")}, "a succeeded, b canceled, c canceled, = canceled"},
		{"a test holds", store.GraphTask{SkipIf: holds}, does{ends(store.Succeeded, yes)}, "a succeeded, b skipped, c skipped, = succeeded"},
		{"a test does not hold", store.GraphTask{SkipIf: holds}, does{ends(store.Succeeded, no)}, "a succeeded, b queued, = running"},
		{"a test fails", store.GraphTask{SkipIf: holds}, does{ends(store.Succeeded, store.TestResult{Error: "oh"})},
			"a succeeded, b blocked, = running"},
		{"no results", store.GraphTask{SkipIf: holds}, does{ends(store.Succeeded)}, "a succeeded, b blocked, = running"},
		{"the parent fails", store.GraphTask{WaitFor: came("e"), SkipIf: holds}, does{ends(store.Failed)},
			"a failed, b canceled, c canceled, = failed"},
		{"any of", store.GraphTask{WaitFor: &store.Condition{Any: []store.Condition{*came("e"), *sleep(10)}}},
			does{ends(store.Succeeded), pass(10)}, "a succeeded, b queued, = running"},
		{"all of", store.GraphTask{WaitFor: &store.Condition{All: []store.Condition{*came("e"), *sleep(10)}}},
			does{ends(store.Succeeded), pass(10)}, "a succeeded, b waiting, = running"},
		{"all of, and the last comes", store.GraphTask{WaitFor: &store.Condition{All: []store.Condition{*came("e"), *sleep(10)}}},
			does{ends(store.Succeeded), pass(10), publish("e")}, "a succeeded, b queued, = running"},
		{"all of, and the first comes", store.GraphTask{WaitFor: &store.Condition{All: []store.Condition{*came("e"), *sleep(10)}}},
			does{ends(store.Succeeded), publish("e")}, "a succeeded, b waiting, = running"},
		{"all of, the longest", store.GraphTask{WaitFor: &store.Condition{All: []store.Condition{*sleep(50), *sleep(10)}}},
			does{ends(store.Succeeded), pass(49)}, "a succeeded, b waiting, = running"},
		{"any of, the shortest", store.GraphTask{WaitFor: &store.Condition{Any: []store.Condition{*sleep(10), *sleep(50), *came("e")}}},
			does{ends(store.Succeeded), pass(10)}, "a succeeded, b queued, = running"},
		{"an event that was deleted since", store.GraphTask{WaitFor: &store.Condition{All: []store.Condition{*came("e"), *sleep(10)}}},
			does{ends(store.Succeeded), publish("e"), func(r *rows) { r.events = nil }, pass(10)}, "a succeeded, b queued, = running"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := graph("a", "b<a", "c<b")
			b := c.task
			b.Name, b.Queue, b.Parents, b.Tests = "b", "q", []int{0}, nil
			g.Tasks[0].Tests = []string{"holds"}
			g.Tasks[1] = b
			r := newRows(t, g)
			for _, f := range c.does {
				f(r)
			}
			if r.are(c.want); r.task(1).State != store.Waiting && len(r.waits) > 0 {
				t.Errorf("it waits: %+v", r.waits)
			}
			if x := r.task(1); x.State == store.Canceled && r.task(0).State == store.Succeeded &&
				string(x.Error) != `{"kind":"canceled","message":"its cancel condition held"}` {
				t.Errorf("canceled: %s", x.Error)
			}
			if x := r.task(1); x.State == store.Blocked && !bytes.Contains(x.Error, []byte("condition")) {
				t.Errorf("blocked: %s", x.Error)
			}
		})
	}
}

// A task that is ready after a wait is due from then on.
func TestDueAfterWait(t *testing.T) {
	g := graph("a")
	g.Tasks[0].WaitFor, g.Tasks[0].StartIn = &store.Condition{Sleep: 100 * time.Millisecond}, time.Second
	r := newRows(t, g)
	if a := r.task(0); a.Due != start+100 || a.Rank != start+100 || a.StartBy != 0 || !r.woken[start+100] {
		t.Errorf("%+v", a)
	}
	r.pass(150)
	if a := r.task(0); a.Due != r.now || a.Rank != r.now || a.StartBy != r.now+1000 || !r.woken[a.StartBy] {
		t.Errorf("%+v", a)
	}
}

// If all parents were skipped, so is a task, unless it has a skip condition of its own.
func TestSkipped(t *testing.T) {
	g := graph("a", "b<a", "c<a")
	g.Tasks[0].SkipIf = &store.Condition{Sleep: -1}
	g.Tasks[2].SkipIf = &store.Condition{Event: &store.Match{Key: "e"}}
	newRows(t, g).are("a skipped, b skipped, c queued, = running")
}

func TestDecide(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	leaf := &store.Condition{Sleep: 1}
	task := store.GraphTask{CancelIf: leaf, SkipIf: leaf, WaitFor: leaf}
	for _, c := range []struct {
		name               string
		cancel, skip, wait int64 // when each is true; 0: it is not
		now                int64
		want               store.State
		next               int64
	}{
		{"nothing is true", 0, 0, 0, 10, store.Waiting, 0},
		{"the earliest wins", 5, 3, 4, 10, store.Skipped, 0},
		{"at the same time, cancel", 3, 3, 3, 10, store.Canceled, 0},
		{"at the same time, skip", 0, 3, 3, 10, store.Skipped, 0},
		{"to come", 20, 0, 30, 10, store.Waiting, 20},
		{"true now", 0, 0, 10, 10, store.Queued, 0},
	} {
		truths := make([]workflow.Truth, 3)
		for i, ms := range []int64{c.cancel, c.skip, c.wait} {
			if ms > 0 {
				truths[i].Since = at(ms)
			}
		}
		d := workflow.Decide(&task, at(1), at(c.now), truths)
		if want := (workflow.Decision{To: c.want}); c.next == 0 && d != want || c.next > 0 && !d.Next.Equal(at(c.next)) {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
}

func TestReplay(t *testing.T) {
	for _, c := range []struct {
		name string
		to   [4]store.State // 0: it does not start
		want string
	}{
		{"all succeeded", [4]store.State{store.Succeeded, store.Succeeded, store.Succeeded, store.Succeeded}, "a queued, = running"},
		{"the first failed", [4]store.State{store.Failed}, "a queued, = running"},
		{"a branch failed", [4]store.State{store.Succeeded, store.Failed, store.Succeeded},
			"a succeeded, b queued, c succeeded, = running"},
		{"the last failed", [4]store.State{store.Succeeded, store.Succeeded, store.Succeeded, store.Failed},
			"a succeeded, b succeeded, c succeeded, d queued, = running"},
	} {
		t.Run(c.name, func(t *testing.T) {
			hook := "q"
			g := graph("a", "b<a", "c<a", "d<b,c")
			g.OnFailure = &hook
			r := newRows(t, g)
			for i, to := range c.to {
				if to != 0 {
					r.finish(i, to)
				}
			}
			r.now += 1000
			w := r.workflow()
			w.StartIn = 300
			ok(t, workflow.Replay(r, w.Key, w.Node, r.now, false))
			r.are(c.want)
			if w := r.workflow(); w.Started != r.now || w.StartBy != r.now+300 || w.Ended != 0 || w.Error != nil || w.Replayed != 1 {
				t.Errorf("%+v", w)
			}
			for i := range 4 { // and now all is well
				if x := r.task(i); x.State == store.Queued {
					r.finish(i, store.Succeeded)
				}
			}
			r.are("a succeeded, b succeeded, c succeeded, d succeeded, = succeeded")
			all := c.to[3] == store.Succeeded
			for i, to := range c.to {
				if x := r.task(i); (all || to != 0 && to != store.Succeeded) && (x.Attempt != 2 || x.Replayed != 1) {
					t.Errorf("%s has made %d attempts, %d before the replay: want 2, 1", r.graph.Name(i), x.Attempt, x.Replayed)
				}
			}
		})
	}
}

// A task goes on counting attempts, also if a replay makes its run anew twice.
func TestAttemptsOverReplays(t *testing.T) {
	r := newRows(t, graph("a", "b<a"))
	r.finish(0, store.Succeeded)
	r.finish(1, store.Succeeded)
	for range 2 {
		ok(t, workflow.Replay(r, r.key(), r.workflow().Node, r.now, false))
		if r.task(0).State == store.Queued {
			r.finish(0, store.Succeeded)
		}
		b := r.task(1)
		if b.Attempt != 1 || b.Replayed != 1 {
			t.Errorf("%+v", b)
		}
		b.State, b.Ended = store.Canceled, r.now // before it starts
		r.Ended(b.Key)
		ok(t, workflow.TaskEnded(r, b.Parent, b.Node, b.State, r.now))
	}
}

func TestTaskOf(t *testing.T) {
	g := graph("a", "b")
	for place, want := range []string{g.TaskName(0), g.TaskName(1), "lane"} {
		if got := workflow.TaskOf(&g, 7<<20|int64(place), "lane"); got != want {
			t.Errorf("place %d is %q, want %q", place, got, want)
		}
	}
}

func TestStick(t *testing.T) {
	g := graph("a", "b", "c<a,b")
	r := newRows(t, g)
	start := func() (c store.Claimed) {
		ok(t, workflow.Start(r, &c, r.key(), r.node(0), 5))
		return c
	}
	if c := start(); r.sticks != 0 || c.Task != r.graph.TaskName(0) || c.Node != r.node(0) {
		t.Errorf("a graph without Sticky sticks, or it is not known what starts: %+v", c)
	}
	g.Sticky = store.StickyHard
	r = newRows(t, g)
	r.task(0).State = store.Running
	for range 2 { // only the first start moves others
		start()
	}
	if r.sticks != 5 || !slices.Equal(r.moved, []int{1}) {
		t.Errorf("sticks to %d, moved %v", r.sticks, r.moved)
	}
	none := store.Route{}
	if to, err := workflow.RouteFor(r, r.graph, 2, r.key()); to.To != "w5" || !to.Hard || err != nil {
		t.Errorf("%+v, %v", to, err)
	}
	if to := workflow.RouteOf(r.graph, 0, "w", none); to.To != "w" || !to.Hard {
		t.Errorf("%+v", to)
	}
	if to := workflow.RouteOf(r.graph, 0, "", none); to.To != "" || to.Hard {
		t.Errorf("%+v", to)
	}
	if to := workflow.RouteOf(r.graph, r.graph.Success(), "w", none); to.To != "" {
		t.Errorf("%+v", to)
	}
}

// What the workflow's run says comes before what its task says, label by label, and before the worker that tasks follow.
func TestRouteOfRun(t *testing.T) {
	g := graph("a")
	g.Sticky = store.StickyHard
	zone, ssd, us := store.Want{Label: "zone", Op: "=", Value: "eu"}, store.Want{Label: "ssd"}, store.Want{Label: "zone", Op: "=", Value: "us"}
	g.Tasks[0].Wants = []store.Want{zone, ssd}
	got := workflow.RouteOf(&g, 0, "w", store.Route{Wants: []store.Want{us}, To: "mine"})
	if !slices.Equal(got.Wants, []store.Want{ssd, us}) || got.To != "mine" || got.Hard {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(g.Tasks[0].Wants, []store.Want{zone, ssd}) {
		t.Errorf("the graph has changed: %+v", g.Tasks[0].Wants)
	}
}

func TestMisses(t *testing.T) {
	hook := "q"
	g := graph("a", "b<a", "c<a,b", "d")
	g.OnFailure, g.Sticky = &hook, store.StickyHard
	g.Tasks[1].WaitFor = &store.Condition{All: []store.Condition{{Event: &store.Match{Key: "e"}}, {Test: &store.TestRef{}}}}
	g.Tasks[1].Limited, g.Tasks[3].Limited = true, true
	made := func(does ...func(*rows)) func() *rows {
		return func() *rows {
			r := newRows(t, g, func(r *rows) { r.limits = map[int][]store.Limit{1: {{Units: 1}}, 3: {{Units: 1}}} })
			for _, f := range does {
				f(r)
			}
			return r
		}
	}
	succeeds := func(r *rows) { r.finish(0, store.Succeeded, store.TestResult{}) }
	ended := func(r *rows, place int, to store.State) error {
		x := r.task(place)
		x.State = to
		return workflow.TaskEnded(r, x.Parent, x.Node, to, r.now)
	}
	for _, c := range []struct {
		name   string
		made   func() *rows
		decide func(*rows) error
	}{
		{"begin", made(func(r *rows) { delete(r.runs, r.task(0).Key); delete(r.runs, r.task(3).Key) }), func(r *rows) error {
			return workflow.BeginRun(r, r.key(), r.node(r.graph.End()), r.now)
		}},
		{"a task succeeds", made(), func(r *rows) error { return ended(r, 0, store.Succeeded) }},
		{"a task fails", made(), func(r *rows) error { return ended(r, 0, store.Failed) }},
		{"the last fails", made(func(r *rows) { r.finish(3, store.Failed); r.workflow().CancelAt = 1 }),
			func(r *rows) error { return ended(r, 0, store.Failed) }},
		{"reconsider", made(succeeds, func(r *rows) { r.events = append(r.events, event{"e", r.now}) }),
			func(r *rows) error { return workflow.Reconsider(r, r.task(1).Key, r.now) }},
		{"reconsider, and it is canceled", made(succeeds, func(r *rows) { r.graph.Tasks[1].CancelIf = &store.Condition{Sleep: -1} }),
			func(r *rows) error { return workflow.Reconsider(r, r.task(1).Key, r.now) }},
		{"replay", made(func(r *rows) { r.finish(0, store.Failed); r.finish(3, store.Succeeded) }),
			func(r *rows) error { return workflow.Replay(r, r.key(), r.workflow().Node, r.now, false) }},
		{"route", made(), func(r *rows) error {
			r.graph.Sticky = store.StickySoft
			_, err := workflow.RouteFor(r, r.graph, 1, r.key())
			return err
		}},
		{"start", made(), func(r *rows) error { return workflow.Start(r, &store.Claimed{}, r.key(), r.node(0), 5) }},
	} {
		t.Run(c.name, func(t *testing.T) { misstest.Each(t, c.made, c.decide) })
	}
}
