package stint_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// A durable call in a deferred function while a panic unwinds is refused, whatever kind it
// is of, and the panic is what the run, or the branch, fails with.
func TestDurableCallWhileAPanicUnwinds(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		child := stint.NewTask(c, "child", func(context.Context, int) (int, error) { return 1, nil })
		var done *stint.Future[int]
		var began *stint.Run[int]
		calls := map[string]func(context.Context) error{
			"step":  func(ctx context.Context) error { _, err := counted(ctx, new(atomic.Int64), "late", 1); return err },
			"sleep": func(ctx context.Context) error { return stint.Sleep(ctx, time.Hour) },
			"event": func(ctx context.Context) error { _, err := stint.WaitForEvent[int](ctx, "e"); return err },
			"tx": func(ctx context.Context) error {
				_, err := stint.StepTx(ctx, "late", func(context.Context, *sql.Tx) (int, error) { return 1, nil })
				return err
			},
			"go": func(ctx context.Context) error {
				_, err := stint.Go(ctx, "late", func(context.Context) (int, error) { return 1, nil }).Wait(ctx)
				return err
			},
			"any":       func(ctx context.Context) error { _, _, err := stint.Any(ctx, done); return err },
			"all":       func(ctx context.Context) error { _, err := stint.All(ctx, done); return err },
			"future":    func(ctx context.Context) error { _, err := done.Wait(ctx); return err },
			"child":     func(ctx context.Context) error { _, err := child.Run(ctx, 1); return err },
			"children":  func(ctx context.Context) error { _, err := child.EnqueueMany(ctx, []int{1, 2}); return err },
			"wait":      func(ctx context.Context) error { _, err := began.Wait(ctx); return err },
			"recovered": func(ctx context.Context) error { recover(); return stint.Sleep(ctx, time.Hour) },
		}
		for _, where := range []string{"handler", "branch"} {
			for name, call := range calls {
				var got error
				var mu sync.Mutex
				fails := func(ctx context.Context, panics bool) (int, error) {
					var err error
					done = stint.Go(ctx, "done", func(context.Context) (int, error) { return 1, nil })
					if _, err = done.Wait(ctx); err != nil {
						return 0, err
					}
					if began, err = child.Enqueue(ctx, 1); err != nil {
						return 0, err
					}
					defer func() {
						mu.Lock()
						defer mu.Unlock()
						if panics {
							got = call(ctx)
						}
					}()
					if panics {
						panic("boom")
					}
					return 2, nil
				}
				task := stint.NewTask(c, where+" "+name, func(ctx context.Context, panics bool) (int, error) {
					if where == "handler" {
						return fails(ctx, panics)
					}
					return stint.Go(ctx, "b", func(ctx context.Context) (int, error) { return fails(ctx, panics) }).Wait(ctx)
				})
				stop := working(t, c)
				run := enqueue(t, task, true)
				_, err := run.Wait(t.Context())
				p, ok := errors.AsType[*stint.PanicError](err)
				if !ok || !strings.Contains(p.Error(), "boom") {
					t.Errorf("%s in a %s: the run failed with %v", name, where, err)
				}
				if !errors.Is(got, stint.ErrDurable) {
					t.Errorf("%s in a %s: the call returned %v", name, where, got)
				}
				if n := len(must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID()))); n != 2 {
					t.Errorf("%s in a %s: %d entries are recorded", name, where, n)
				}
				if got, err := task.Run(t.Context(), false); err != nil || got != 2 { // control
					t.Errorf("%s in a %s that does not panic: %d, %v", name, where, got, err)
				}
				stop()
			}
		}
	})
}

// Deferred functions may make durable calls where nothing panics, and code may after it
// has recovered in a function of its own.
func TestDurableCallInDefer(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var n atomic.Int64
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (out int, err error) {
			defer func() {
				if err == nil {
					out, err = counted(ctx, &n, "last", 7)
				}
			}()
			func() {
				defer func() { recover() }()
				panic("recovered")
			}()
			return 1, stint.Sleep(ctx, time.Hour)
		})
		working(t, c)
		if got, err := task.Run(t.Context(), 0); err != nil || got != 7 || n.Load() != 1 {
			t.Errorf("Run = %d, %v; the last step ran %d times", got, err, n.Load())
		}
	})
}

// What an unwinding does is never recorded: deferred functions of a branch that panic, end
// their goroutine or make durable calls while their run leaves memory.
func TestEvictionOfABranchIsNotItsFailure(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		for name, late := range map[string]func(context.Context){
			"nothing": func(context.Context) {},
			"panics":  func(context.Context) { panic("in a defer") },
			"panics, and then makes a call": func(ctx context.Context) {
				defer counted(ctx, new(atomic.Int64), "late", 1)
				panic("in a defer")
			},
			"makes a call": func(ctx context.Context) { counted(ctx, new(atomic.Int64), "late", 1) },
			"sleeps":       func(ctx context.Context) { stint.Sleep(ctx, time.Minute) },
			"begins":       func(ctx context.Context) { stint.Go(ctx, "late", func(context.Context) (int, error) { return 1, nil }) },
		} {
			for _, depth := range []int{0, 1, 3} {
				var unwound atomic.Int64
				var nest func(ctx context.Context, depth int) (int, error)
				nest = func(ctx context.Context, depth int) (n int, err error) {
					defer func() {
						if n == 0 {
							unwound.Add(1)
							late(ctx)
						}
					}()
					if depth > 0 {
						return stint.Go(ctx, "b", func(ctx context.Context) (int, error) { return nest(ctx, depth-1) }).Wait(ctx)
					}
					if err := stint.Sleep(ctx, time.Hour); err != nil {
						return -1, err
					}
					return 5, nil
				}
				task := stint.NewTask(c, fmt.Sprint(name, depth), func(ctx context.Context, _ int) (int, error) { return nest(ctx, depth) })
				stop := working(t, c)
				run := enqueue(t, task, 0)
				got, err := run.Wait(t.Context())
				if err != nil || got != 5 || int(unwound.Load()) != depth+1 {
					t.Errorf("%s, in %d branches: %d, %v, unwound %d times", name, depth, got, err, unwound.Load())
				}
				if n := len(must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID()))); n != depth+1 {
					t.Errorf("%s, in %d branches: %d entries", name, depth, n)
				}
				stop()
			}
		}
	})
}

// A drain that interrupts a handler records nothing of what that does to clean up, even in
// a context that outlives it: the next execution is to find what came before.
func TestDrainRecordsNoCleanUp(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var n, cleaned atomic.Int64
		in := make(chan struct{}, 1)
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			out, err := stint.Step(ctx, "work", func(ctx context.Context) (int, error) {
				if n.Add(1) > 1 {
					return 3, nil
				}
				in <- struct{}{}
				<-ctx.Done()
				return 0, ctx.Err()
			})
			if err != nil {
				counted(context.WithoutCancel(ctx), &cleaned, "clean up", 1)
				return 0, err
			}
			return counted(ctx, &n, "after", out)
		})
		run := enqueue(t, task, 0)
		stop := working(t, c, stint.WithDrainTimeout(0))
		<-in
		stop()
		working(t, c)
		if got, err := run.Wait(t.Context()); err != nil || got != 3 || cleaned.Load() != 0 {
			t.Errorf("Wait = %d, %v after %d clean-ups", got, err, cleaned.Load())
		}
	})
}
