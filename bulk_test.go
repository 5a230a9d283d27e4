package stint_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stint-dev/stint"
)

// endedRuns are runs of two tasks: of "pay" one that succeeded, one that failed and one
// that waits for its time, of "ship" one that succeeded. They are named in want below by
// "paid", "failed", "later" and "shipped".
func endedRuns(t *testing.T, c *stint.Client) map[string]string {
	t.Helper()
	pay := stint.NewTask(c, "pay", func(_ context.Context, n int) (int, error) {
		if n < 0 {
			return 0, errors.New("less than nothing")
		}
		return n, nil
	})
	ship := stint.NewTask(c, "ship", double)
	stop := working(t, c)
	defer stop()
	ids := map[string]string{}
	for name, n := range map[string]int{"paid": 1, "failed": -1} {
		r := enqueue(t, pay, n)
		r.Wait(t.Context())
		ids[name] = r.ID()
	}
	shipped := enqueue(t, ship, 1)
	output(t, shipped)
	ids["shipped"] = shipped.ID()
	ids["later"] = enqueue(t, pay, 2, stint.WithDelay(1e15)).ID()
	return ids
}

// An action that selects nothing is refused, and one on all says so.
func TestNothingSelected(t *testing.T) {
	c := opened(t)
	ids := endedRuns(t, c)
	acts := map[string]func(context.Context, stint.RunFilter) (int, error){"cancel": c.CancelRuns, "replay": c.ReplayRuns, "delete": c.DeleteRuns}
	for name, f := range map[string]stint.RunFilter{
		"empty":                {},
		"empty, dry":           {DryRun: true},
		"no metadata":          {Metadata: map[string]string{}},
		"through":              {Through: ids["later"]},
		"no IDs":               {IDs: []string{}},
		"no IDs, of a task":    {IDs: []string{}, Tasks: []string{"pay"}},
		"no IDs, but all":      {IDs: []string{}, All: true},
		"no tasks, of a state": {Tasks: []string{}, States: []stint.State{stint.StateFailed, stint.StateScheduled}},
		"no queues":            {Queues: []string{}, Tasks: []string{"pay"}},
		"no states":            {States: []stint.State{}, Tasks: []string{"pay"}},
	} {
		for verb, act := range acts {
			if n, err := act(t.Context(), f); n != 0 || !errors.Is(err, stint.ErrNoFilter) {
				t.Errorf("%s, %s: %d, %v, want ErrNoFilter", verb, name, n, err)
			}
		}
	}
	for verb, act := range acts { // it would look as if these bounded it
		for _, f := range []stint.RunFilter{{Limit: 1, Tasks: []string{"pay"}}, {Cursor: ids["failed"], All: true}, {Scan: 1, Tasks: []string{"pay"}}} {
			if n, err := act(t.Context(), f); n != 0 || err == nil {
				t.Errorf("%s, %+v: %d, %v, want an error", verb, f, n, err)
			}
		}
	}
	if page := listRuns(t, c, stint.RunFilter{IDs: []string{}}); len(page.Runs) != 0 {
		t.Errorf("an empty list of IDs lists %d runs", len(page.Runs))
	}
	if _, err := c.NewWorker(stint.WithQueues([]string{}...)); err == nil {
		t.Error("a worker of no queue takes runs of all")
	}
	for name, state := range map[string]stint.State{"paid": stint.StateSucceeded, "failed": stint.StateFailed, "shipped": stint.StateSucceeded, "later": stint.StateScheduled} {
		if info := getRun(t, c, ids[name]); info.State != state {
			t.Errorf("the run %q is %v", name, info.State)
		}
	}
	if n, err := c.CancelRuns(t.Context(), stint.RunFilter{All: true}); n != 1 || err != nil {
		t.Errorf("cancel all: %d, %v", n, err)
	}
	if n, err := c.DeleteRuns(t.Context(), stint.RunFilter{All: true}); n != 4 || err != nil {
		t.Errorf("delete all: %d, %v", n, err)
	}
}

// A run that succeeded is replayed where the filter asks for it, and else not.
func TestReplayOfWhatSucceeded(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    func(ids map[string]string) stint.RunFilter
		want int
	}{
		{"all", func(map[string]string) stint.RunFilter { return stint.RunFilter{All: true} }, 1},
		{"a task", func(map[string]string) stint.RunFilter { return stint.RunFilter{Tasks: []string{"pay"}} }, 1},
		{"a queue", func(map[string]string) stint.RunFilter { return stint.RunFilter{Queues: []string{"default"}} }, 1},
		{"all that succeeded", func(map[string]string) stint.RunFilter {
			return stint.RunFilter{States: []stint.State{stint.StateSucceeded}}
		}, 2},
		{"that failed or succeeded", func(map[string]string) stint.RunFilter {
			return stint.RunFilter{Tasks: []string{"pay"}, States: []stint.State{stint.StateFailed, stint.StateSucceeded}}
		}, 2},
		{"by ID", func(ids map[string]string) stint.RunFilter {
			return stint.RunFilter{IDs: []string{ids["shipped"], ids["later"]}}
		}, 1},
		{"by ID, failed", func(ids map[string]string) stint.RunFilter {
			return stint.RunFilter{IDs: []string{ids["shipped"], ids["failed"]}, States: []stint.State{stint.StateFailed}}
		}, 1},
		{"through", func(ids map[string]string) stint.RunFilter {
			return stint.RunFilter{All: true, States: []stint.State{stint.StateFailed, stint.StateSucceeded}, Through: ids["shipped"]}
		}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := opened(t)
			f := tt.f(endedRuns(t, c))
			dry := f
			dry.DryRun = true
			if n, err := c.ReplayRuns(t.Context(), dry); n != tt.want || err != nil {
				t.Errorf("counted %d, %v, want %d", n, err, tt.want)
			}
			if n, err := c.ReplayRuns(t.Context(), f); n != tt.want || err != nil {
				t.Errorf("replayed %d, %v, want %d", n, err, tt.want)
			}
			if n, err := c.ReplayRuns(t.Context(), f); n != 0 || err != nil {
				t.Errorf("replayed %d again, %v", n, err)
			}
		})
	}
}

// What a dry run counted is acted on later, without the runs that came since.
func TestThrough(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "double", double)
	enqueue := func() string { return enqueue(t, task, 1).ID() }
	enqueue()
	f := stint.RunFilter{Tasks: []string{"double"}, Through: enqueue(), DryRun: true}
	later := enqueue()
	if n, err := c.CancelRuns(t.Context(), f); n != 2 || err != nil {
		t.Errorf("counted %d, %v, want 2", n, err)
	}
	f.DryRun = false
	if n, err := c.CancelRuns(t.Context(), f); n != 2 || err != nil {
		t.Errorf("canceled %d, %v, want 2", n, err)
	}
	if info := getRun(t, c, later); info.State != stint.StateQueued {
		t.Errorf("the later run is %v", info.State)
	}
	if page := listRuns(t, c, stint.RunFilter{Through: f.Through, Limit: 1}); len(page.Runs) != 1 || page.Runs[0].ID != f.Through {
		t.Errorf("through %s lists %+v", f.Through, page.Runs)
	}
	if _, err := c.CancelRuns(t.Context(), stint.RunFilter{All: true, Through: "x"}); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("through what is no ID: %v", err)
	}
}

// A run that waits in the memory of a worker of one queue goes on with a worker of the queue that it is moved to, and so
// does its retry.
func TestMoveRuns(t *testing.T) {
	c := opened(t)
	tried := 0
	task := stint.NewTask(c, "approve", func(ctx context.Context, _ int) (string, error) {
		if _, err := stint.WaitForEvent[int](ctx, "approved"); err != nil {
			return "", err
		}
		if tried++; tried == 1 {
			return "", errors.New("not yet")
		}
		info, _ := stint.Info(ctx)
		return info.Queue + " " + info.Worker, nil
	}, stint.WithRetries(1), stint.WithQueue("slow"))
	working(t, c, stint.WithName("a"), stint.WithQueues("slow"))
	working(t, c, stint.WithName("b"), stint.WithQueues("fast"))
	run := enqueue(t, task, 1)
	eventually(t, c, func() bool { return infoOf(t, run).State == stint.StateWaiting })
	f := stint.RunFilter{Queues: []string{"slow"}}
	if n, err := c.MoveRuns(t.Context(), f, "fast"); n != 1 || err != nil {
		t.Fatalf("moved %d, %v", n, err)
	}
	if n, err := c.MoveRuns(t.Context(), f, "fast"); n != 0 || err != nil {
		t.Errorf("moved %d again, %v", n, err)
	}
	must[string](t)(c.Publish(t.Context(), "approved", 1))
	if got := output(t, run); got != "fast b" {
		t.Errorf("it ended in %q", got)
	}
	if n, err := c.MoveRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}, "slow"); n != 0 || err != nil {
		t.Errorf("moved %d that have ended, %v", n, err)
	}
	if _, err := c.MoveRuns(t.Context(), f, ""); err == nil {
		t.Error("moved to a queue without a name")
	}
	if _, err := c.MoveRuns(t.Context(), stint.RunFilter{}, "slow"); !errors.Is(err, stint.ErrNoFilter) {
		t.Errorf("without a filter: %v", err)
	}
}
