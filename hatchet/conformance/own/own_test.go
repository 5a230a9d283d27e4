// Package own tests a running server by Hatchet's Go SDK, in what the SDKs' own tests leave out. ../run.sh own starts the
// server and sets the environment.
package own

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hatchet-dev/hatchet/pkg/client/rest"
	hatchet "github.com/hatchet-dev/hatchet/sdks/go"
)

// longest is how long a test waits for what must come.
const longest = 100 * time.Second

type input struct {
	N int `json:"n"`
}

type output struct {
	N    int    `json:"n"`
	Text string `json:"text"`
}

func connect(t *testing.T) *hatchet.Client {
	t.Helper()
	if os.Getenv("HATCHET_CLIENT_TOKEN") == "" {
		t.Skip("no server: use ../run.sh own")
	}
	c, err := hatchet.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// work has a worker work until the test ends.
func work(t *testing.T, c *hatchet.Client, all ...hatchet.WorkflowBase) {
	t.Helper()
	workAtOnce(t, c, 10, all...)
}

// workAtOnce is work for so many runs at once.
func workAtOnce(t *testing.T, c *hatchet.Client, slots int, all ...hatchet.WorkflowBase) {
	t.Helper()
	w, err := c.NewWorker(t.Name(), hatchet.WithWorkflows(all...), hatchet.WithSlots(slots))
	if err != nil {
		t.Fatal(err)
	}
	stop, err := w.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// telling returns a task that tells of its starts.
func telling(c *hatchet.Client, name string, opts ...hatchet.StandaloneTaskOption) (*hatchet.StandaloneTask, chan input) {
	starts := make(chan input, 1000)
	return c.NewStandaloneTask(name, func(_ hatchet.Context, in input) (output, error) {
		starts <- in
		return output{N: in.N}, nil
	}, opts...), starts
}

func next[T any](t *testing.T, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(longest):
		t.Fatalf("waited for %s in vain", what)
	}
	return v
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	end := time.After(longest)
	for tick := time.NewTicker(100 * time.Millisecond); !holds(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func status(t *testing.T, c *hatchet.Client, run string) rest.V1TaskStatus {
	t.Helper()
	s, err := c.Runs().GetStatus(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

// run runs a task by name, and waits for it.
func run(t *testing.T, c *hatchet.Client, name string, n int) *hatchet.WorkflowResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	r, err := c.Run(ctx, name, input{n})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A task that is skipped for what its parent returned is skipped; the one of the other branch runs, and so does what follows.
func TestSkipCondition(t *testing.T) {
	t.Parallel()
	c := connect(t)
	w := c.NewWorkflow("own-skip")
	task := func(text string) func(hatchet.Context, input) (output, error) {
		return func(_ hatchet.Context, in input) (output, error) { return output{in.N, text}, nil }
	}
	first := w.NewTask("first", task("first"))
	large := w.NewTask("large", task("large"), hatchet.WithParents(first), hatchet.WithSkipIf(hatchet.ParentCondition(first, "output.n <= 10")))
	small := w.NewTask("small", task("small"), hatchet.WithParents(first), hatchet.WithSkipIf(hatchet.ParentCondition(first, "output.n > 10")))
	w.NewTask("join", func(ctx hatchet.Context, _ input) (output, error) {
		var from output
		if ctx.WasSkipped(large) == ctx.WasSkipped(small) {
			return from, errors.New("both branches, or none")
		}
		if ctx.WasSkipped(large) {
			return from, ctx.ParentOutput(small, &from)
		}
		return from, ctx.ParentOutput(large, &from)
	}, hatchet.WithParents(large, small), hatchet.WithSkipIf(hatchet.UserEventCondition("own-skip:never", "")))
	work(t, c, w)
	for n, want := range map[int]string{3: "small", 30: "large"} {
		var got output
		if err := run(t, c, "own-skip", n).TaskOutput("join").Into(&got); err != nil || got.Text != want {
			t.Errorf("of %d: %+v, %v, want %s", n, got, err, want)
		}
	}
}

// A task waits for a sleep or an event, whichever comes first, and is told of the event.
func TestWaitCondition(t *testing.T) {
	t.Parallel()
	c := connect(t)
	w := c.NewWorkflow("own-wait")
	first := w.NewTask("first", func(_ hatchet.Context, in input) (output, error) { return output{N: in.N}, nil })
	w.NewTask("second", func(ctx hatchet.Context, in input) (output, error) { return output{in.N, "went on"}, nil },
		hatchet.WithParents(first), hatchet.WithWaitFor(hatchet.OrCondition(hatchet.SleepCondition(time.Hour),
			hatchet.UserEventCondition("own-wait:go", "input.n == 7"))))
	work(t, c, w)
	ref, err := w.RunNoWait(t.Context(), input{1})
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.MustParse(ref.RunId)
	eventually(t, "the first task's end", func() bool {
		d, err := c.Runs().GetDetails(t.Context(), id)
		return err == nil && d.TaskRuns["first"] != nil && string(d.TaskRuns["first"].Status) == "COMPLETED"
	})
	for _, n := range []int{6, 7} {
		if err := c.Events().Push(t.Context(), "own-wait:go", input{n}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := ref.Result()
	if err != nil {
		t.Fatal(err)
	}
	var got output
	if err := r.TaskOutput("second").Into(&got); err != nil || got.Text != "went on" {
		t.Errorf("%+v, %v", got, err)
	}
}

// The on-failure task runs once, is told which task failed and why, and does not run if none fails.
func TestOnFailure(t *testing.T) {
	t.Parallel()
	c := connect(t)
	told := make(chan map[string]string, 10)
	w := c.NewWorkflow("own-failure")
	w.NewTask("breaks", func(_ hatchet.Context, in input) (output, error) {
		if in.N > 0 {
			return output{}, errors.New("no paper left")
		}
		return output{Text: "fine"}, nil
	})
	w.OnFailure(func(ctx hatchet.Context, _ input) (output, error) {
		told <- ctx.StepRunErrors()
		return output{Text: "cleaned"}, nil
	})
	work(t, c, w)
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	if _, err := w.Run(ctx, input{1}); err == nil {
		t.Error("a workflow whose task failed has no error")
	}
	if errs := next(t, "the on-failure task", told); len(errs) != 1 || !containsText(errs["breaks"], "no paper left") {
		t.Errorf("told %v", errs)
	}
	if _, err := w.Run(ctx, input{0}); err != nil {
		t.Error(err)
	}
	if len(told) > 0 {
		t.Errorf("the on-failure task ran again: %v", <-told)
	}
}

// All tasks of a sticky workflow's run are on one worker, though there are two.
func TestSticky(t *testing.T) {
	t.Parallel()
	c := connect(t)
	w := c.NewWorkflow("own-sticky", hatchet.WithWorkflowStickyStrategy(sticky))
	where := func(ctx hatchet.Context, _ input) (output, error) { return output{Text: ctx.Worker().ID()}, nil }
	var parents []*hatchet.Task
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		parents = []*hatchet.Task{w.NewTask(name, where, hatchet.WithParents(parents...))}
	}
	work(t, c, w)
	work(t, c, w)
	for range 5 {
		r := run(t, c, "own-sticky", 0)
		var on []string
		for _, name := range names {
			var o output
			if err := r.TaskOutput(name).Into(&o); err != nil {
				t.Fatal(err)
			}
			on = append(on, o.Text)
		}
		if slices.Sort(on); on[0] == "" || len(slices.Compact(on)) != 1 {
			t.Errorf("a sticky run was on workers %v", on)
		}
	}
}
