package stint_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// A step that may run at most once is not called again by the next attempts of the run, whatever it did. Only
// RestartFrom calls it once more.
func TestAtMostOnceAcrossAttempts(t *testing.T) {
	charged := errors.New("gateway timeout: maybe charged")
	for name, body := range map[string]func(context.Context) (int, error){
		"error":   func(context.Context) (int, error) { return 0, charged },
		"panic":   func(context.Context) (int, error) { panic(charged) },
		"timeout": func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			durably(t, func(t *testing.T, c *stint.Client) {
				var calls atomic.Int64
				var seen []bool
				charge := func(ctx context.Context) (int, error) {
					n, err := stint.Step(ctx, "charge", func(ctx context.Context) (int, error) { calls.Add(1); return body(ctx) },
						stint.WithAtMostOnce(), stint.WithTimeout(time.Minute))
					if serr := stint.Sleep(ctx, time.Hour); serr != nil { // the handler runs again within the attempt
						return 0, serr
					}
					return n, err
				}
				task := stint.NewTask(c, "once", func(ctx context.Context, branch bool) (int, error) {
					n, err := 0, error(nil)
					if branch {
						n, err = stint.Go(ctx, "b", charge).Wait(ctx)
					} else {
						n, err = charge(ctx)
					}
					seen = append(seen, errors.Is(err, stint.ErrMaybeRan))
					return n, err
				}, stint.WithRetries(2))
				working(t, c)
				for _, branch := range []bool{false, true} {
					calls.Store(0)
					seen = nil
					run := enqueue(t, task, branch)
					if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrMaybeRan) || calls.Load() != 1 {
						t.Errorf("branch %t: Wait = %v after %d calls, want ErrMaybeRan after 1", branch, err, calls.Load())
					}
					if want := []bool{false, true}; !slices.Equal(seen, want) {
						t.Errorf("branch %t: ErrMaybeRan by attempt: %t, want %t", branch, seen, want)
					}
					if n, err := c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}); n != 1 || err != nil {
						t.Fatal(n, err)
					}
					if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrMaybeRan) || calls.Load() != 1 {
						t.Errorf("branch %t: after a replay: %v after %d calls, want ErrMaybeRan after 1", branch, err, calls.Load())
					}
					if err := c.RestartAt(t.Context(), run.ID(), "1"); err != nil {
						t.Fatal(err)
					}
					if _, err := run.Wait(t.Context()); err == nil || calls.Load() != 2 {
						t.Errorf("branch %t: after RestartAt: %v after %d calls, want 2", branch, err, calls.Load())
					}
				}
			})
		})
	}
}

// A fork is another run: it may call the step once.
func TestForkCallsAtMostOnceStep(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var calls atomic.Int64
		task := stint.NewTask(c, "once", func(ctx context.Context, _ int) (int, error) {
			return stint.Step(ctx, "charge", func(context.Context) (int, error) { return int(calls.Add(1)), nil }, stint.WithAtMostOnce())
		})
		working(t, c)
		run := enqueue(t, task, 0)
		if n := output(t, run); n != 1 {
			t.Errorf("%d, want 1", n)
		}
		fork, err := c.Fork(t.Context(), run.ID(), "charge")
		if err != nil {
			t.Fatal(err)
		}
		if n := output(t, stint.RunByID[int](c, fork)); n != 2 {
			t.Errorf("the fork: %d, want 2", n)
		}
	})
}

// A step that runs at most once has no retries.
func TestAtMostOnceRefusesRetries(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "once", func(ctx context.Context, _ int) (int, error) {
			return stint.Step(ctx, "charge", func(context.Context) (int, error) { return 1, nil }, stint.WithAtMostOnce(), stint.WithRetries(3))
		})
		working(t, c)
		if _, err := task.Run(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "WithRetries(3) beside WithAtMostOnce") {
			t.Errorf("Run: %v", err)
		}
	})
}
