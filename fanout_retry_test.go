package stint_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// A fanOut counts how often its children ran.
type fanOut struct {
	mu   sync.Mutex
	ran  map[int]int
	good map[int]int // the try on which a child succeeds; 0: the first
}

func (f *fanOut) try(i int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ran[i]++; f.ran[i] < f.good[i] {
		return fmt.Errorf("child %d fails", i)
	}
	return nil
}

// A new attempt of a run, by a retry or a replay, runs those of its children anew that
// failed, and keeps those that succeeded, by whatever way they were begun and waited for.
func TestRetryOfAFanOut(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		f := &fanOut{}
		child := stint.NewTask(c, "child", func(ctx context.Context, i int) (int, error) {
			if err := stint.Sleep(ctx, time.Duration(i+1)*time.Minute); err != nil {
				return 0, err
			}
			return i, f.try(i)
		})
		w := stint.NewWorkflow[int](c, "flow")
		first := stint.AddTask(w, "first", func(_ context.Context, i int) (int, error) { return i, f.try(100 + i) })
		stint.AddTask(w, "second", func(_ context.Context, i int) (int, error) { return i, f.try(i) }, stint.WithParents(first))
		waitAll := func(ctx context.Context, runs []*stint.Run[int]) error {
			for _, r := range runs {
				if _, err := r.Wait(ctx); err != nil {
					return fmt.Errorf("a child: %w", err)
				}
			}
			return nil
		}
		ways := map[string]func(ctx context.Context) error{
			"many": func(ctx context.Context) error {
				runs, err := child.EnqueueMany(ctx, []int{0, 1, 2})
				if err != nil {
					return err
				}
				return waitAll(ctx, runs)
			},
			"one by one": func(ctx context.Context) error {
				var runs []*stint.Run[int]
				for i := range 3 {
					r, err := child.Enqueue(ctx, i)
					if err != nil {
						return err
					}
					runs = append(runs, r)
				}
				return waitAll(ctx, runs)
			},
			"run": func(ctx context.Context) error {
				for i := range 3 {
					if _, err := child.Run(ctx, i); err != nil {
						return err
					}
				}
				return nil
			},
			"branches": func(ctx context.Context) error {
				var fs []*stint.Future[int]
				for i := range 3 {
					fs = append(fs, stint.Go(ctx, "b", func(ctx context.Context) (int, error) { return child.Run(ctx, i) }))
				}
				var all error
				for _, b := range fs {
					_, err := b.Wait(ctx)
					all = errors.Join(all, err)
				}
				return all
			},
			"workflows": func(ctx context.Context) error {
				runs, err := w.EnqueueMany(ctx, []int{0, 1, 2})
				if err != nil {
					return err
				}
				for _, r := range runs {
					if _, err := r.Wait(ctx); err != nil {
						return err
					}
				}
				return nil
			},
			"cleans up after it": func(ctx context.Context) error {
				runs, err := child.EnqueueMany(ctx, []int{0, 1, 2})
				if err != nil {
					return err
				}
				if err := waitAll(ctx, runs); err != nil {
					stint.Step(ctx, "clean up", func(context.Context) (int, error) { return 0, nil })
					return err
				}
				_, err = stint.Step(ctx, "sum", func(context.Context) (int, error) { return 0, nil })
				return err
			},
		}
		for name, way := range ways {
			for _, by := range []string{"retry", "replay"} {
				retries := map[string]int{"retry": 3, "replay": 0}[by]
				task := stint.NewTask(c, name+" "+by, func(ctx context.Context, _ int) (int, error) { return 1, way(ctx) }, stint.WithRetries(retries), stint.WithRetryBackoff(2, time.Hour))
				f.mu.Lock()
				f.ran, f.good = map[int]int{}, map[int]int{1: 2, 2: 2}
				f.mu.Unlock()
				stop := working(t, c)
				run := enqueue(t, task, 0)
				_, err := run.Wait(t.Context())
				for replays := 0; by == "replay" && err != nil && replays < 3; replays++ {
					<-time.After(time.Hour)
					must[int](t)(c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}))
					_, err = run.Wait(t.Context())
				}
				if err != nil {
					t.Errorf("%s by %s: %v", name, by, err)
				}
				if f.ran[0] != 1 || f.ran[1] != 2 || f.ran[2] != 2 || f.ran[100] > 1 || f.ran[101] > 1 {
					t.Errorf("%s by %s: the children ran %v times, want the first once and the others twice", name, by, f.ran)
				}
				page := listRuns(t, c, stint.RunFilter{ParentID: run.ID()})
				if len(page.Runs) != 3 {
					t.Errorf("%s by %s: the run has %d children, want 3", name, by, len(page.Runs))
				}
				stop()
			}
		}
	})
}

// A failure that the handler has dealt with stays what it was: what followed from it is
// recorded.
func TestHandledFailureOfAChildStays(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var children, fallbacks, last atomic.Int64
		child := stint.NewTask(c, "child", func(context.Context, int) (int, error) {
			if children.Add(1) == 1 {
				return 0, errors.New("no")
			}
			return 1, nil
		})
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (string, error) {
			if _, err := child.Run(ctx, 0); err == nil {
				return "the child's", nil
			}
			if _, err := counted(ctx, &fallbacks, "fall back", 1); err != nil {
				return "", err
			}
			_, err := stint.Step(ctx, "last", func(context.Context) (int, error) {
				if last.Add(1) == 1 {
					return 0, errors.New("not yet")
				}
				return 1, nil
			})
			return "another", err
		}, stint.WithRetries(1), stint.WithRetryBackoff(2, time.Hour))
		working(t, c)
		if got, err := task.Run(t.Context(), 0); err != nil || got != "another" || children.Load() != 1 || fallbacks.Load() != 1 || last.Load() != 2 {
			t.Errorf("Run = %q, %v; the child ran %d times, the fallback %d, the last step %d", got, err, children.Load(), fallbacks.Load(), last.Load())
		}
	})
}

// A child that fails each time uses up the attempts of its parent, and no more.
func TestFanOutThatFailsForGood(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var children atomic.Int64
		child := stint.NewTask(c, "child", func(context.Context, int) (int, error) { children.Add(1); return 0, errors.New("no") })
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) { return child.Run(ctx, 0) }, stint.WithRetries(2))
		working(t, c)
		if _, err := task.Run(t.Context(), 0); err == nil || children.Load() != 3 {
			t.Errorf("Run = %v; the child ran %d times, want 3", err, children.Load())
		}
	})
}
