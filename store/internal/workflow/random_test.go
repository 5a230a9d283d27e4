package workflow_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/workflow"
	"pgregory.net/rapid"
)

// Whatever graph, in whatever order its tasks end and events come: every task ends exactly once,
// none before its parents, the workflow exactly when all have, and as they have. So again after
// each replay.
func TestRandom(t *testing.T) {
	tb := t
	rapid.Check(t, func(t *rapid.T) {
		r := newRows(tb, randomGraph(t))
		for replays := rapid.IntRange(0, 2).Draw(t, "replays"); ; replays-- {
			for range 200 {
				if r.workflow().State.Terminal() {
					break
				}
				r.step(t)
				r.check(t)
			}
			if !r.workflow().State.Terminal() {
				t.Fatalf("it does not end: %s", r.states())
			}
			if replays == 0 {
				break
			}
			ok(tb, workflow.Replay(r, r.key(), r.workflow().Node, r.now, rapid.Bool().Draw(t, "whole")))
			r.check(t)
		}
		if tb.Failed() {
			t.Fatal(r.states())
		}
	})
}

func randomGraph(t *rapid.T) (g store.Graph) {
	hook := "q"
	g.OnFailure, g.OnSuccess = &hook, &hook
	for i := range rapid.IntRange(1, 8).Draw(t, "tasks") {
		task := store.GraphTask{Name: fmt.Sprint("t", i), Queue: "q", Tests: []string{"test"}}
		for p := range i {
			if rapid.IntRange(0, 2).Draw(t, "parent") == 0 {
				task.Parents = append(task.Parents, p)
			}
		}
		task.CancelIf = randomCondition(t, &task, 9)
		task.SkipIf = randomCondition(t, &task, 5)
		task.WaitFor = randomCondition(t, &task, 3)
		g.Tasks = append(g.Tasks, task)
	}
	return g
}

// randomCondition returns a condition one time of so many.
func randomCondition(t *rapid.T, task *store.GraphTask, times int) *store.Condition {
	if rapid.IntRange(1, times).Draw(t, "condition") > 1 {
		return nil
	}
	var all []store.Condition
	for range rapid.IntRange(1, 2).Draw(t, "leaves") {
		switch n := rapid.IntRange(0, 3).Draw(t, "kind"); {
		case n == 0:
			all = append(all, store.Condition{Sleep: time.Duration(rapid.IntRange(1, 100).Draw(t, "ms")) * time.Millisecond})
		case n == 1 && len(task.Parents) > 0:
			all = append(all, store.Condition{Test: &store.TestRef{Parent: task.Parents[0]}})
		default:
			all = append(all, store.Condition{Event: &store.Match{Key: rapid.SampledFrom([]string{"e", "f"}).Draw(t, "key")}})
		}
	}
	switch {
	case len(all) == 1:
		return &all[0]
	case rapid.Bool().Draw(t, "any"):
		return &store.Condition{Any: all}
	}
	return &store.Condition{All: all}
}

// step ends a task that is ready, publishes an event, or lets time pass.
func (r *rows) step(t *rapid.T) {
	var ready []int
	stuck := true
	for i := range r.graph.Tasks {
		if x := r.task(i); x != nil && x.State == store.Queued {
			ready = append(ready, i)
		} else if x != nil && x.State == store.Waiting && (x.Due > 0 || r.waitsForEvent(x.Key)) {
			stuck = false
		}
	}
	if len(ready) > 0 && (stuck || rapid.IntRange(0, 3).Draw(t, "ends") > 0) {
		to := rapid.SampledFrom([]store.State{store.Succeeded, store.Succeeded, store.Succeeded, store.Failed, store.Canceled}).Draw(t, "to")
		r.finish(rapid.SampledFrom(ready).Draw(t, "task"), to, store.TestResult{OK: rapid.Bool().Draw(t, "result")})
		return
	}
	if stuck { // it waits for what a test has ruled out: somebody cancels it
		for i := range r.graph.Tasks {
			if x := r.task(i); x != nil && x.State == store.Waiting {
				ok(r.t, r.DropWaits(x.Key))
				r.finish(i, store.Canceled)
				return
			}
		}
	}
	if rapid.Bool().Draw(t, "event") {
		r.publish(rapid.SampledFrom([]string{"e", "f"}).Draw(t, "key"))
		return
	}
	r.pass(rapid.Int64Range(1, 60).Draw(t, "ms"))
}

func (r *rows) waitsForEvent(task int64) bool {
	return slices.ContainsFunc(r.waits, func(w wait) bool { return w.task == task && w.came == 0 })
}

func (r *rows) check(t *rapid.T) {
	all := true
	for i := range r.graph.Tasks {
		x := r.task(i)
		all = all && x != nil && x.State.Terminal()
		if x == nil {
			continue
		}
		if r.ended[x.Key] > 1 {
			t.Fatalf("%s ended %d times", r.graph.Name(i), r.ended[x.Key])
		}
		if wrong := r.wrong(x); wrong != "" {
			t.Fatalf("%s: %+v", wrong, x)
		}
		r.checkParents(t, i)
	}
	w := r.workflow()
	if w.State.Terminal() != all || (r.ended[w.Key] == 1) != all {
		t.Fatalf("the workflow ended %d times: %s", r.ended[w.Key], r.states())
	}
	if all {
		r.checkEnd(t)
	}
}

// checkParents checks that a task's run may be there, and may be what it is.
func (r *rows) checkParents(t *rapid.T, task int) {
	x, bad, ran := r.task(task), false, len(r.graph.Tasks[task].Parents) == 0
	for _, i := range r.graph.Tasks[task].Parents {
		p := r.task(i)
		if p == nil || !p.State.Terminal() {
			t.Fatalf("%s is there before its parent has ended: %s", r.graph.Name(task), r.states())
		}
		bad = bad || p.State == store.Failed || p.State == store.Canceled
		ran = ran || p.State != store.Skipped
	}
	switch {
	case bad && (x.State != store.Canceled || x.Lease > 0):
		t.Fatalf("%s depends on what did not succeed: %s", r.graph.Name(task), r.states())
	case !bad && !ran && r.graph.Tasks[task].SkipIf == nil && x.State != store.Skipped:
		t.Fatalf("all that %s depends on was skipped: %s", r.graph.Name(task), r.states())
	}
}

// checkEnd checks how a workflow has ended.
func (r *rows) checkEnd(t *rapid.T) {
	want := store.Succeeded
	for i := range r.graph.Tasks {
		switch r.task(i).State {
		case store.Failed:
			want = store.Failed
		case store.Canceled:
			if want != store.Failed {
				want = store.Canceled
			}
		}
	}
	if got := r.workflow().State; got != want {
		t.Fatalf("it is %v, want %v: %s", got, want, r.states())
	}
	if failed := r.task(r.graph.Failure()) != nil; failed != (want == store.Failed) {
		t.Fatalf("on-failure ran: %v: %s", failed, r.states())
	}
	if succeeded := r.task(r.graph.Success()) != nil; succeeded != (want == store.Succeeded) {
		t.Fatalf("on-success ran: %v: %s", succeeded, r.states())
	}
}
