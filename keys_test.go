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

// A key lives as long as it was promised, whatever deletes its run: of a task, a batch
// task and a workflow, enqueued alone or in a bulk.
func TestKeyOutlivesItsRun(t *testing.T) {
	const ttl = 24 * time.Hour
	in(t, func(t *testing.T, c *stint.Client) {
		ctx := t.Context()
		var mu sync.Mutex
		calls := map[string]int{}
		called := func(what string, n int) {
			mu.Lock()
			defer mu.Unlock()
			calls[what] += n
		}
		count := func(what string) func(context.Context, int) (int, error) {
			return func(_ context.Context, n int) (int, error) {
				called(what, 1)
				if what == "fails" {
					return 0, errors.New("no")
				}
				return n, nil
			}
		}
		charge := stint.NewTask(c, "charge", count("charge"))
		ofInput := stint.NewTask(c, "of input", count("of input"), stint.WithIdempotency(func(int) string { return "k" }, ttl))
		fails := stint.NewTask(c, "fails", count("fails"))
		batch := stint.NewBatchTask(c, "batch", func(_ context.Context, ins []int) ([]int, error) { called("batch", len(ins)); return ins, nil })
		flow := stint.NewWorkflow[int](c, "flow")
		stint.AddTask(flow, "a", count("flow"))
		key := stint.WithIdempotencyKey("k", ttl)
		ways := map[string]func() (id string, existing bool, err error){
			"charge":   func() (string, bool, error) { r, err := charge.Enqueue(ctx, 1, key); return handle(r, err) },
			"of input": func() (string, bool, error) { r, err := ofInput.Enqueue(ctx, 1); return handle(r, err) },
			"fails":    func() (string, bool, error) { r, err := fails.Enqueue(ctx, 1, key); return handle(r, err) },
			"batch":    func() (string, bool, error) { r, err := batch.Enqueue(ctx, 1, key); return handle(r, err) },
			"flow":     func() (string, bool, error) { r, err := flow.Enqueue(ctx, 1, key); return handle(r, err) },
			"bulk": func() (string, bool, error) {
				r, err := charge.EnqueueMany(ctx, []int{1, 2}, stint.WithIdempotencyKey("bulk", ttl))
				if err != nil {
					return "", false, err
				}
				return handle(r[1], nil)
			},
		}
		first := map[string]string{}
		working(t, c)
		for what, enqueue := range ways {
			id, _, err := enqueue()
			if err != nil {
				t.Fatal(err)
			}
			first[what] = id
		}
		check := func(when string, existing bool) {
			t.Helper()
			for what, enqueue := range ways {
				id, again, err := enqueue()
				if err != nil || existing != (again && id == first[what]) {
					t.Errorf("%s, %s: existing %v, the first run %v, %v", when, what, again, id == first[what], err)
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		time.Sleep(time.Second)
		must[int](t)(c.ReplayRuns(ctx, stint.RunFilter{IDs: []string{first["charge"]}}))
		time.Sleep(time.Second)
		check("at once, and replayed", true)
		time.Sleep(3 * time.Hour) // beyond the retention, save of what failed
		if _, err := c.GetRun(ctx, first["charge"]); !errors.Is(err, stint.ErrNotFound) {
			t.Errorf("the run is there yet: %v", err)
		}
		check("after its retention", true)
		gone := stint.RunByID[int](c, first["charge"])
		if _, err := gone.Wait(ctx); !errors.Is(err, stint.ErrNotFound) {
			t.Errorf("Wait for a run that is gone: %v", err)
		}
		if _, err := gone.Info(ctx); !errors.Is(err, stint.ErrNotFound) {
			t.Errorf("Info of a run that is gone: %v", err)
		}
		must[int](t)(c.DeleteRuns(ctx, stint.RunFilter{IDs: []string{first["fails"]}}))
		check("after all are deleted", true)
		if found, err := c.Check(ctx); err != nil || len(found) > 0 {
			t.Errorf("Check: %q, %v", found, err)
		}
		time.Sleep(ttl)
		if n := calls["charge"]; n != 3 {
			t.Errorf("charged %d times, want 3: two, and a replay", n)
		}
		check("after its time", false)
	}, stint.WithRetention(time.Hour))
}

func handle[T any](r *stint.Run[T], err error) (string, bool, error) {
	if err != nil {
		return "", false, err
	}
	return r.ID(), r.Existing(), nil
}

// UntilDone: the key is free when its run has ended, and taken again while that is replayed.
func TestKeyUntilDone(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		ctx := t.Context()
		task := stint.NewTask(c, "task", double)
		key := stint.WithIdempotencyKey("k", stint.UntilDone)
		first := must[*stint.Run[int]](t)(task.Enqueue(ctx, 1, key))
		if again := must[*stint.Run[int]](t)(task.Enqueue(ctx, 1, key)); !again.Existing() {
			t.Error("a second run while the first waits")
		}
		stop := working(t, c)
		must[int](t)(first.Wait(ctx))
		stop()
		if found, err := c.Check(ctx); err != nil || len(found) > 0 {
			t.Errorf("Check: %q, %v", found, err)
		}
		must[int](t)(c.ReplayRuns(ctx, stint.RunFilter{IDs: []string{first.ID()}}))
		if again := must[*stint.Run[int]](t)(task.Enqueue(ctx, 1, key)); again.ID() != first.ID() {
			t.Error("a second run while the first is replayed")
		}
		working(t, c)
		must[int](t)(first.Wait(ctx))
		must[int](t)(c.DeleteRuns(ctx, stint.RunFilter{IDs: []string{first.ID()}}))
		if again := must[*stint.Run[int]](t)(task.Enqueue(ctx, 1, key)); again.Existing() {
			t.Error("the key of a run that has ended, and is deleted, is taken")
		}
	})
}
