package stint_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// Scenario 27: a payload or a recorded value that cannot be read blocks its run alone,
// and what blocks it is said.
func TestUnreadablePayload(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		type answer struct {
			N int `json:"n"`
		}
		task := stint.NewTask(c, "ask", func(ctx context.Context, key string) (int, error) {
			a, err := stint.WaitForEvent[answer](ctx, key)
			return a.N, err
		})
		runs := enqueueMany(t, task, []string{"bad", "good"})
		working(t, c)
		synctest.Wait()
		publish(t, c, "bad", []string{"no", "answer"})
		publish(t, c, "good", answer{7})
		if n, err := runs[1].Wait(t.Context()); err != nil || n != 7 {
			t.Errorf("the other run: %d, %v", n, err)
		}
		synctest.Wait()
		info := infoOf(t, runs[0])
		if info.State != stint.StateBlocked || !strings.Contains(info.Blocked, `event "bad"`) || !strings.Contains(info.Blocked, "answer") {
			t.Errorf("state %v, blocked by %q", info.State, info.Blocked)
		}
		if err := runs[0].Cancel(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Scenario 21: many more runs wait than may stay in memory, and each wakes.
func TestManyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waiting, resident := 5_000, 50
		if testing.Short() {
			waiting = 1_000
		}
		c := openedAt(t, ":memory:", stint.WithMaxResident(resident))
		task := stint.NewTask(c, "wait", func(ctx context.Context, n int) (int, error) {
			if n%2 == 0 {
				return n, stint.Sleep(ctx, time.Hour)
			}
			return stint.WaitForEvent[int](ctx, "go", stint.WithWaitTimeout(3*time.Hour))
		})
		ins := make([]int, waiting)
		for i := range ins {
			ins[i] = i
		}
		runs := enqueueMany(t, task, ins)
		working(t, c)
		time.Sleep(30 * time.Minute)
		if n := len(listRuns(t, c, stint.RunFilter{States: []stint.State{stint.StateRunning}, Limit: 1000}).Runs); n > resident {
			t.Errorf("%d executions are in memory", n)
		}
		publish(t, c, "go", -1)
		for i, r := range runs {
			want := i
			if i%2 == 1 {
				want = -1
			}
			if got, err := r.Wait(t.Context()); err != nil || got != want {
				t.Fatalf("run %d: %d, %v", i, got, err)
			}
		}
	})
}

// A child that waits for a run that it has not started can be looked at.
func TestWaitsForForeignRunAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:", stint.WithMaxResident(0))
		other := stint.NewTask[int, int](c, "other", nil) // nobody executes it
		run := enqueue(t, other, 1)
		child := stint.NewTask(c, "child", func(ctx context.Context, id string) (int, error) {
			return stint.RunByID[int](c, id).Wait(ctx)
		})
		parent := stint.NewTask(c, "parent", func(ctx context.Context, id string) (int, error) { return child.Run(ctx, id) })
		working(t, c)
		enqueue(t, parent, run.ID())
		synctest.Wait()
		time.Sleep(time.Minute)
		page := must[*stint.RunPage](t)(c.ListRuns(t.Context(), stint.RunFilter{States: []stint.State{stint.StateWaiting}}))
		if len(page.Runs) != 2 {
			t.Fatalf("%d runs wait, want 2", len(page.Runs))
		}
		for _, r := range page.Runs {
			if _, err := c.GetRun(t.Context(), r.ID); err != nil {
				t.Errorf("%s: %v", r.Task, err)
			}
		}
	})
}

// A run whose handler waits is in its first attempt, whether it goes on, fails later or is canceled; what says why a run has no
// output never says of one that started that it did not.
func TestAttemptOfWaiting(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		sleeps := stint.NewTask(c, "sleeps", func(ctx context.Context, n int) (int, error) {
			if err := stint.Sleep(ctx, time.Hour); err != nil {
				return 0, err
			}
			return n, nil
		})
		w := stint.NewWorkflow[int](c, "flow")
		stint.AddTask(w, "breaks", func(context.Context, int) (int, error) { return 0, stint.NonRetryable(errors.New("no such file")) })
		working(t, c)
		run, canceled := enqueue(t, sleeps, 1), enqueue(t, sleeps, 2)
		time.Sleep(time.Minute)
		for _, r := range []*stint.Run[int]{run, canceled} {
			if info := infoOf(t, r); info.State != stint.StateWaiting || info.Attempt != 1 {
				t.Errorf("while it waits: %v, attempt %d", info.State, info.Attempt)
			}
		}
		if err := canceled.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := canceled.Wait(t.Context()); err == nil || strings.Contains(err.Error(), "did not start") {
			t.Errorf("canceled while it waited: %v", err)
		}
		output(t, run)
		if info := infoOf(t, run); info.Attempt != 1 {
			t.Errorf("at its end: attempt %d", info.Attempt)
		}
		_, err := w.Run(t.Context(), 1)
		if err == nil || strings.Contains(err.Error(), "did not start") || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("a workflow that failed: %v", err)
		}
		early := enqueue(t, sleeps, 3, stint.WithDelay(time.Hour)) // control
		if err := early.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := early.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "was canceled before it started") {
			t.Errorf("canceled before its time: %v", err)
		}
	})
}
