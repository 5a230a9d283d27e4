package stint_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/stint-dev/stint"
)

// A run that no living worker may start says what it lacks, alone, in lists, and as a task
// of a workflow.
func TestUnserved(t *testing.T) {
	c := opened(t)
	stint.NewTask(c, "here", double)
	stint.NewTask[int, int](c, "x", nil) // a producer's view
	far := stint.NewTask(c, "far", double, stint.WithAffinity(stint.Affinity{Label: "zone", Value: "eu"}))
	wf := stint.NewWorkflow[int](c, "wf")
	stint.AddTask(wf, "a", double, stint.WithQueue("gpu"))
	stop := working(t, c, stint.WithQueues("default"), stint.WithName("w1"))
	eventually(t, c, func() bool { return len(must[[]stint.WorkerInfo](t)(c.ListWorkers(t.Context()))) > 0 })
	queued := func(task string, opts ...stint.RunOption) string {
		return enqueueJSON(t, c, task, []byte("1"), opts...).ID()
	}
	flow := enqueue(t, wf, 1)
	blocked := func(id string) string { return getRun(t, c, id).Blocked }
	want := map[string]string{
		queued("here", stint.WithQueue("gpu")):    "no worker serves queue gpu",
		queued("x"):                               "no worker has task x",
		queued("nowhere"):                         "no worker has task nowhere",
		queued("nowhere", stint.WithQueue("gpu")): "no worker serves queue gpu",
		enqueue(t, far, 1).ID():                   "a worker with label zone = eu",
		infoOf(t, flow).Tasks[0].RunID:            "no worker serves queue gpu",
	}
	for id, why := range want {
		if got := blocked(id); got != why {
			t.Errorf("run %s of %s: %q, want %q", id, getRun(t, c, id).Task, got, why)
		}
	}
	if got := infoOf(t, flow).Tasks[0].Blocked; got != "no worker serves queue gpu" {
		t.Errorf("the workflow's task: %q", got)
	}
	for _, r := range listRuns(t, c, stint.RunFilter{States: []stint.State{stint.StateQueued}}).Runs {
		if r.Blocked != want[r.ID] {
			t.Errorf("listed, %s: %q, want %q", r.Task, r.Blocked, want[r.ID])
		}
	}
	if err := c.PauseWorker(t.Context(), "w1"); err != nil {
		t.Fatal(err)
	}
	if got := blocked(queued("here")); got != "every worker that may work it is paused" {
		t.Errorf("with a paused worker: %q", got)
	}
	if err := errors.Join(c.ResumeWorker(t.Context(), "w1"), c.PauseQueue(t.Context(), "default")); err != nil {
		t.Fatal(err)
	}
	if got := blocked(queued("nowhere")); got != `queue "default" is paused` {
		t.Errorf("in a paused queue: %q", got)
	}
	if err := c.ResumeQueue(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	// What is defined while the worker runs, it has too.
	late := stint.NewTask(c, "nowhere", double)
	runTask(t, late, 1)
	held := queued("nowhere", stint.WithQueue("gpu"))
	stop()
	stop = working(t, c)
	output(t, stint.RunByID[int](c, held))
	stop()
	if got := blocked(queued("here")); got != "no worker serves queue default" {
		t.Errorf("without a worker: %q", got)
	}
}

// Names lists what a person may have meant; an unknown one is an error that says so.
func TestNames(t *testing.T) {
	c := opened(t)
	stint.NewTask(c, "send-mail", double, stint.WithQueue("mail"))
	wf := stint.NewWorkflow[int](c, "ship")
	stint.AddTask(wf, "pack", double)
	enqueue(t, wf, 1)
	enqueueJSON(t, c, "elsewhere", []byte("1"))
	if err := errors.Join(c.PauseQueue(t.Context(), "later"), c.ResumeQueue(t.Context(), "never")); err != nil {
		t.Fatal(err)
	}
	n := must[*stint.Names](t)(c.Names(t.Context()))
	for _, task := range []string{"send-mail", "ship", "ship:pack", "elsewhere"} {
		if !slices.Contains(n.Tasks, task) {
			t.Errorf("tasks %q: no %q", n.Tasks, task)
		}
	}
	if want := []string{"default", "later", "mail"}; !slices.Equal(n.Queues, want) {
		t.Errorf("queues %q, want %q", n.Queues, want)
	}
	if err := n.Unknown([]string{"ship", "send-mial"}, nil); !errors.Is(err, stint.ErrNotFound) || err.Error() != `stint: not found: no task "send-mial" is known: did you mean "send-mail"?` {
		t.Errorf("a typo: %v", err)
	}
	if err := n.Unknown([]string{"ship:pack"}, []string{"later", "default"}); err != nil {
		t.Errorf("known names: %v", err)
	}
}
