package storetest

import (
	"encoding/json"
	"fmt"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint/store"
)

// What a run of a graph does. The tasks of these graphs are named by letters.

// graph makes a graph of which task i has the parents at place i.
func graph(s *suite, parents ...[]int) *store.Graph {
	return graphOf(s, func(*store.Graph) {}, parents...)
}

func graphOf(s *suite, change func(*store.Graph), parents ...[]int) *store.Graph {
	s.Helper()
	g := store.Graph{Workflow: "w"}
	for i, p := range parents {
		g.Tasks = append(g.Tasks, store.GraphTask{Name: string(rune('a' + i)), Queue: "q", Parents: p})
	}
	change(&g)
	made, err := store.NewGraph(g)
	s.ok(err)
	return made
}

func (s *suite) begin(g *store.Graph) store.ID {
	s.Helper()
	return s.enqueue(store.NewRun{Task: g.Workflow, Queue: "q", Priority: 2, Input: []byte("in"), Metadata: []byte(`{"k":"v"}`),
		Graph: g})[0]
}

// tasks lists the tasks of a workflow's run that have a run, "name state".
func (s *suite) tasks(id store.ID, want ...string) {
	s.Helper()
	g, tasks, err := s.Workflow(s.Context(), id, nil)
	s.ok(err)
	var got []string
	for _, t := range tasks[1:] {
		got = append(got, fmt.Sprint(g.Name(t.Place), " ", t.State))
	}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("tasks (-want +got):\n%s", d)
	}
}

// end ends a claimed task of a workflow.
func (s *suite) end(c store.Claimed, to store.State) {
	s.Helper()
	o := outcome(c, to)
	o.Parent, o.Node = c.Parent, c.Node
	if s.finish(o) {
		s.Errorf("the end of %s was stale", c.Task)
	}
}

func workflowJoin(s *suite) {
	id := s.begin(graph(s, nil, []int{0}, []int{0}, []int{1, 2}))
	s.tasks(id, "a queued")
	s.state(id, store.Running)
	a := s.claim(10)
	if len(a) != 1 || a[0].Task != "w:a" || string(a[0].Input) != "in" || string(a[0].Metadata) != `{"k":"v"}` || a[0].Parent != id {
		s.Fatalf("claimed %+v", a)
	}
	s.end(a[0], store.Succeeded)
	bc := s.claim(10)
	if len(bc) != 2 || bc[0].Task != "w:b" || bc[1].Task != "w:c" {
		s.Fatalf("claimed %+v", bc)
	}
	s.end(bc[1], store.Succeeded)
	s.tasks(id, "a succeeded", "b running", "c succeeded")
	s.end(bc[0], store.Succeeded)
	s.end(s.claim(10)[0], store.Succeeded)
	s.tasks(id, "a succeeded", "b succeeded", "c succeeded", "d succeeded")
	s.state(id, store.Succeeded)
}

func workflowFailure(s *suite) {
	queue := "q"
	id := s.begin(graphOf(s, func(g *store.Graph) { g.OnFailure, g.OnSuccess = &queue, &queue }, nil, nil, []int{0}, []int{1, 2}))
	ab := s.claim(10)
	s.end(ab[0], store.Failed)
	s.tasks(id, "a failed", "b running", "c canceled", "on-failure queued")
	s.end(ab[1], store.Succeeded)
	s.tasks(id, "a failed", "b succeeded", "c canceled", "d canceled", "on-failure queued")
	s.state(id, store.Failed)
	if f := s.claim(10); len(f) != 1 || f[0].Task != "w:on-failure" || string(f[0].Input) != "in" {
		s.Errorf("claimed %+v, want the on-failure task", f)
	}
}

// The on-failure task has a priority, wants, limits and a time to start of its own.
func workflowFailureTask(s *suite) {
	queue, high := "q", int8(3)
	g := graphOf(s, func(g *store.Graph) {
		g.OnFailure = &queue
		g.FailureTask = &store.GraphTask{Name: store.OnFailureName, Queue: queue, Priority: &high, StartIn: time.Minute, Limited: true,
			Wants: []store.Want{{Label: "zone", Op: "=", Value: "eu"}}}
	}, nil)
	flow := func() store.ID {
		return s.enqueue(store.NewRun{Task: g.Workflow, Queue: "q", Priority: 2, Graph: g, TaskLimits: map[int][]store.Limit{
			g.Failure(): {{Name: "cleanup", Max: 1, Strategy: store.StrategyQueue}}}})[0]
	}
	ids := []store.ID{flow(), flow(), flow()}
	for _, c := range s.claim(10) {
		s.end(c, store.Failed)
	}
	s.none(s.request(10))
	s.setLabels(s.worker, map[string]string{"zone": "eu"})
	first := s.claim(10)
	if len(first) != 1 || first[0].Task != "w:on-failure" || first[0].Priority != high {
		s.Fatalf("claimed %+v, want one on-failure task of priority %d", first, high)
	}
	s.end(first[0], store.Succeeded)
	second := s.claim(10)
	if len(second) != 1 {
		s.Fatalf("claimed %+v, want the next", second)
	}
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	s.end(second[0], store.Succeeded)
	s.none(s.request(10))
	for i, state := range []string{"succeeded", "succeeded", "canceled"} {
		s.tasks(ids[i], "a failed", "on-failure "+state)
	}
}

func workflowReplayWhole(s *suite) {
	id := s.begin(graph(s, nil, []int{0}, []int{1}))
	a := s.claim(10)
	s.end(a[0], store.Succeeded)
	s.end(s.claim(10)[0], store.Failed)
	s.tasks(id, "a succeeded", "b failed", "c canceled")
	n, err := s.Act(s.Context(), time.Now(), store.Action{Kind: store.ActReplay, Whole: true}, store.Filter{IDs: []store.ID{id}})
	s.ok(err)
	if n != 1 {
		s.Errorf("replayed %d, want 1", n)
	}
	s.tasks(id, "a queued")
	again := s.claim(10)
	if len(again) != 1 || again[0].ID != a[0].ID || again[0].Attempt != 2 {
		s.Fatalf("claimed %+v, want the first task again", again)
	}
}

func workflowReplay(s *suite) {
	id := s.begin(graph(s, nil, nil, []int{0, 1}))
	ab := s.claim(10)
	s.end(ab[0], store.Failed)
	s.end(ab[1], store.Succeeded)
	if n := s.act(store.ActReplay, store.Filter{Tasks: []string{"w:a"}}); n != 1 {
		s.Errorf("replayed %d, want 1", n)
	}
	s.tasks(id, "a queued", "b succeeded")
	a := s.claim(10)
	if len(a) != 1 || a[0].ID != ab[0].ID {
		s.Fatalf("claimed %+v, want the run that failed", a)
	}
	s.end(a[0], store.Succeeded)
	s.end(s.claim(10)[0], store.Succeeded)
	s.state(id, store.Succeeded)
	if n := s.act(store.ActDelete, store.Filter{IDs: []store.ID{a[0].ID}}); n != 0 {
		s.Error("a task was deleted without its workflow")
	}
	n := s.act(store.ActDelete, store.Filter{Tasks: []string{"w"}})
	if left := s.list(store.Filter{}, 10); n != 1 || len(left) != 0 {
		s.Errorf("deleted %d, left %d", n, len(left))
	}
}

func workflowConditions(s *suite) {
	id := s.begin(graphOf(s, func(g *store.Graph) {
		g.Tasks[0].WaitFor = &store.Condition{Sleep: time.Hour}
		g.Tasks[1].WaitFor = &store.Condition{Event: &store.Match{Key: "e", Field: "n", Value: "7"}}
		g.Tasks[2].SkipIf = &store.Condition{Event: &store.Match{Key: "e"}}
		g.Tasks[2].WaitFor = &store.Condition{Sleep: time.Hour}
		g.Tasks[3].Tests = []string{"t"}
		g.Tasks[4].WaitFor = &store.Condition{Test: &store.TestRef{Parent: 3}}
	}, nil, nil, nil, nil, []int{3}))
	s.tasks(id, "a waiting", "b waiting", "c waiting", "d queued")
	d := s.claim(10)[0]
	if !cmp.Equal(d.Tests, []string{"t"}) {
		s.Errorf("tests %q", d.Tests)
	}
	o := outcome(d, store.Succeeded)
	o.Parent, o.Node, o.Tests = d.Parent, d.Node, []store.TestResult{{Error: "boom"}}
	s.finish(o)
	s.tasks(id, "a waiting", "b waiting", "c waiting", "d succeeded", "e blocked")
	publish := func(payload string) {
		_, err := s.Publish(s.Context(), time.Now(), []store.NewEvent{{Key: "e", Payload: []byte(payload)}})
		s.ok(err)
	}
	publish(`{"n": 8}`)
	s.tasks(id, "a waiting", "b waiting", "c skipped", "d succeeded", "e blocked")
	publish(`{"n": 7}`)
	s.tasks(id, "a waiting", "b queued", "c skipped", "d succeeded", "e blocked")
	time.Sleep(time.Hour)
	synctest.Wait()
	s.tasks(id, "a queued", "b queued", "c skipped", "d succeeded", "e blocked")
	s.act(store.ActCancel, store.Filter{IDs: []store.ID{id}})
	s.tasks(id, "a canceled", "b canceled", "c skipped", "d succeeded", "e canceled")
	s.state(id, store.Canceled)
}

// A task that is replayed is tested again, and what follows goes by the new results.
func workflowTestsAgain(s *suite) {
	id := s.begin(graphOf(s, func(g *store.Graph) {
		g.Tasks[0].Tests = []string{"t"}
		g.Tasks[1].SkipIf = &store.Condition{Test: &store.TestRef{Parent: 0}}
	}, nil, []int{0}))
	tested := func(ok bool) {
		c := s.claim(10)[0]
		o := outcome(c, store.Succeeded)
		o.Parent, o.Node, o.Tests = c.Parent, c.Node, []store.TestResult{{OK: ok}}
		s.finish(o)
	}
	tested(true)
	s.tasks(id, "a succeeded", "b skipped")
	n, err := s.Act(s.Context(), time.Now(), store.Action{Kind: store.ActReplay, Whole: true}, store.Filter{IDs: []store.ID{id}})
	if s.ok(err); n != 1 {
		s.Errorf("replayed %d", n)
	}
	tested(false)
	s.tasks(id, "a succeeded", "b queued")
}

func workflowNoHandler(s *suite) {
	id := s.begin(graph(s, nil))
	r := s.request(10)
	r.Tasks = func(name string) bool { return name == "w:" }
	c := s.claimBy(r)[0]
	o := outcome(c, store.Queued)
	o.Parent, o.Node, o.Uncounted, o.NoHandler = c.Parent, c.Node, true, true
	s.finish(o)
	s.none(r)
	if _, tasks, err := s.Workflow(s.Context(), id, []string{"a"}); err != nil || len(tasks) != 2 || !tasks[1].NoHandler {
		s.Errorf("Flow: %+v, %v: want it to wait for another worker", tasks, err)
	}
	r.Tasks = func(name string) bool { return name == "w:a" }
	if got := s.claimBy(r); len(got) != 1 || got[0].Attempt != 1 || got[0].Node != c.Node || string(got[0].Input) != "in" {
		s.Errorf("claimed %+v", got)
	}
}

func workflowTimes(s *suite) {
	g := graph(s, nil)
	late := s.enqueue(store.NewRun{Task: "w", Queue: "q", Priority: 2, Graph: g, RunAt: time.Now().Add(time.Hour), StartIn: time.Hour})[0]
	s.state(late, store.Scheduled)
	time.Sleep(time.Hour)
	synctest.Wait()
	s.state(late, store.Running)
	s.tasks(late, "a queued")
	time.Sleep(time.Hour)
	synctest.Wait()
	s.state(late, store.Canceled)
	s.tasks(late, "a canceled")
	var f struct{ Kind string }
	if err := json.Unmarshal(s.get(late).Error, &f); err != nil || f.Kind == "" {
		s.Errorf("error %s: want a kind", s.get(late).Error)
	}
}

func graphRoundTrip(s *suite) {
	g := graphOf(s, func(g *store.Graph) {
		p := int8(3)
		g.Tasks[1].Priority, g.Tasks[1].StartIn = &p, time.Minute
		g.Tasks[1].CancelIf = &store.Condition{All: []store.Condition{{Sleep: 1},
			{Any: []store.Condition{{Event: &store.Match{Key: "k"}}}}}}
	}, nil, []int{0})
	again, err := store.ParseGraph(g.Text())
	s.ok(err)
	if again.Hash() != g.Hash() {
		s.Errorf("read back as %s, was %s", again.Text(), g.Text())
	}
	stored, _, err := s.Workflow(s.Context(), s.begin(g), nil)
	s.ok(err)
	if stored.Hash() != g.Hash() {
		s.Errorf("stored as %s, was %s", stored.Text(), g.Text())
	}
}
