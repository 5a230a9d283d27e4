package stint_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// Attempts go on counting after a replay and a restart, each with a new budget of retries;
// so do those of a workflow's tasks. A fork, which is a run of its own, begins at 1.
func TestAttemptsGoOnAfterReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		var mu sync.Mutex
		attempts := map[string][]int{}
		note := func(ctx context.Context, name string) error {
			info, _ := stint.Info(ctx)
			mu.Lock()
			defer mu.Unlock()
			attempts[name] = append(attempts[name], info.Attempt)
			return errors.New("no")
		}
		task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (int, error) {
			if _, err := stint.Step(ctx, "first", func(context.Context) (int, error) { return 1, nil }); err != nil {
				return 0, err
			}
			return 0, note(ctx, "task")
		}, stint.WithRetries(1))
		flow := stint.NewWorkflow[int](c, "flow")
		top := stint.AddTask(flow, "top", func(ctx context.Context, _ int) (int, error) { note(ctx, "top"); return 1, nil })
		stint.AddTask(flow, "bottom", func(ctx context.Context, _ int) (int, error) {
			mu.Lock()
			n := len(attempts["top"])
			mu.Unlock()
			return 1, stint.Sleep(ctx, time.Duration(n))
		},
			stint.WithParents(top))
		working(t, c)
		run := enqueue(t, task, 1)
		graph := enqueue(t, flow, 1)
		ends := func(last int) {
			t.Helper()
			if _, err := run.Wait(t.Context()); err == nil {
				t.Error("did not fail")
			}
			output(t, graph)
			if i := infoOf(t, run); i.Attempt != last || i.Executions != last {
				t.Errorf("attempt %d, %d executions, want %d", i.Attempt, i.Executions, last)
			}
		}
		ends(2)
		for again := 1; again <= 2; again++ {
			if n, err := c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID(), graph.ID()}}); n != 2 || err != nil {
				t.Fatalf("replayed %d, %v", n, err)
			}
			ends(2 + 2*again)
			for _, n := range infoOf(t, graph).Tasks {
				if n.Attempt != 1+again {
					t.Errorf("task %s is on attempt %d after replay %d", n.Name, n.Attempt, again)
				}
			}
		}
		if err := c.RestartFrom(t.Context(), run.ID(), "first"); err != nil {
			t.Fatal(err)
		}
		ends(8)
		fork := stint.RunByID[int](c, must[string](t)(c.Fork(t.Context(), run.ID(), "first")))
		if _, err := fork.Wait(t.Context()); err == nil {
			t.Error("the fork did not fail")
		}
		if i := infoOf(t, fork); i.Attempt != 2 || i.Executions != 2 {
			t.Errorf("the fork: attempt %d, %d executions", i.Attempt, i.Executions)
		}
	})
}
