package stint_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// An undoer is what the tests of compensations share: which ran to their end, in order.
type undoer struct {
	mu    sync.Mutex
	names []string
	holds func(ctx context.Context, name string) error // called by each before its end, if not nil
}

func (u *undoer) add(ctx context.Context, name string) {
	stint.Compensate(ctx, name, func(ctx context.Context) error {
		u.mu.Lock()
		holds := u.holds
		u.mu.Unlock()
		if holds != nil {
			if err := holds(ctx, name); err != nil {
				return err
			}
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.names = append(u.names, name)
		return nil
	})
}

// saga makes steps a, b and c, each with its compensation.
func (u *undoer) saga(ctx context.Context) error {
	for _, name := range []string{"a", "b", "c"} {
		if _, err := stint.Step(ctx, name, func(context.Context) (int, error) { return 1, nil }); err != nil {
			return err
		}
		u.add(ctx, name)
	}
	return nil
}

// took is what was undone since it was called last.
func (u *undoer) took() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	names := strings.Join(u.names, " ")
	u.names = nil
	return names
}

// hold has compensations call f before their end.
func (u *undoer) hold(f func(ctx context.Context, name string) error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.holds = f
}

func canceledWith(t *testing.T, run *stint.Run[int]) {
	t.Helper()
	if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
		t.Errorf("Wait = %v, want ErrCanceled", err)
	}
}

// What a run does before it is canceled or fails, and where it is then.
var sagas = map[string]func(u *undoer, ctx context.Context) error{
	"asleep": func(u *undoer, ctx context.Context) error {
		if err := u.saga(ctx); err != nil {
			return err
		}
		return stint.Sleep(ctx, time.Hour)
	},
	"waiting for an event": func(u *undoer, ctx context.Context) error {
		if err := u.saga(ctx); err != nil {
			return err
		}
		_, err := stint.WaitForEvent[int](ctx, "never")
		return err
	},
	"in a branch that has ended": func(u *undoer, ctx context.Context) error {
		f := stint.Go(ctx, "branch", func(ctx context.Context) (int, error) {
			return 1, errors.Join(u.saga(ctx), stint.Sleep(ctx, time.Millisecond))
		})
		if _, err := f.Wait(ctx); err != nil {
			return err
		}
		return stint.Sleep(ctx, time.Hour)
	},
	"between attempts": func(u *undoer, ctx context.Context) error {
		if err := u.saga(ctx); err != nil {
			return err
		}
		return stint.RetryAfter(time.Hour, errors.New("later"))
	},
	"with no other durable call": func(u *undoer, ctx context.Context) error {
		for _, name := range []string{"a", "b", "c"} {
			u.add(ctx, name)
		}
		return stint.RetryAfter(time.Hour, errors.New("later"))
	},
	"whose handler looks at its context first": func(u *undoer, ctx context.Context) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := u.saga(ctx); err != nil {
			return err
		}
		return stint.Sleep(ctx, time.Hour)
	},
}

// A canceled run ends once each compensation ran to its end, whether a worker is there at
// the cancel, comes later, or stops in the midst of it; until then it says that it cleans
// up. What runs at once when nothing is to clean up is the control.
func TestCanceledRunCleansUp(t *testing.T) {
	for name, saga := range sagas {
		t.Run(name, func(t *testing.T) {
			durably(t, func(t *testing.T, c *stint.Client) {
				var u undoer
				task := stint.NewTask(c, "saga", func(ctx context.Context, _ int) (int, error) { return 0, saga(&u, ctx) }, stint.WithRetries(1))
				plain := stint.NewTask(c, "plain", func(context.Context, int) (int, error) { return 0, stint.Snooze(time.Hour) })
				stop := working(t, c, stint.WithDrainTimeout(0))
				run, other := enqueue(t, task, 1), enqueue(t, plain, 1)
				time.Sleep(time.Minute)
				stop()
				for range 2 { // the second changes nothing
					if err := errors.Join(run.Cancel(t.Context()), other.Cancel(t.Context())); err != nil {
						t.Fatal(err)
					}
				}
				if i := infoOf(t, other); i.State != stint.StateCanceled || i.Canceling {
					t.Errorf("with nothing to clean up: %v, canceling %v", i.State, i.Canceling)
				}
				if i := infoOf(t, run); i.State != stint.StateQueued || !i.Canceling || !strings.Contains(i.Blocked, "clean up") {
					t.Errorf("without a worker: %v, canceling %v, %q", i.State, i.Canceling, i.Blocked)
				}
				if got := u.took(); got != "" {
					t.Errorf("undone without a worker: %s", got)
				}
				u.hold(func(ctx context.Context, name string) error { // the worker stops while b is undone
					if name == "b" {
						<-ctx.Done()
					}
					return ctx.Err()
				})
				stop = working(t, c, stint.WithDrainTimeout(0))
				time.Sleep(time.Minute)
				if i := infoOf(t, run); i.State != stint.StateRunning || !i.Canceling || u.took() != "c" {
					t.Errorf("while it cleans up: %v, canceling %v", i.State, i.Canceling)
				}
				stop()
				if i := infoOf(t, run); i.State.Terminal() {
					t.Errorf("after the worker stopped: %v", i.State)
				}
				u.hold(nil)
				working(t, c)
				canceledWith(t, run)
				if got := u.took(); got != "b a" {
					t.Errorf("undone in the end: %q, want the rest", got)
				}
				if i := infoOf(t, run); i.State != stint.StateCanceled || i.Canceling {
					t.Errorf("in the end: %v, canceling %v", i.State, i.Canceling)
				}
			})
		})
	}
}

// A run that fails for good ends once each compensation ran to its end, also if the worker
// stops in the midst of it, and by the error that it failed with, though its handler would
// go another way now.
func TestFailedRunCleansUp(t *testing.T) {
	planned := errors.New("planned")
	for name, fail := range map[string]func(ctx context.Context, first bool) error{
		"by its error": func(context.Context, bool) error { return planned },
		"by a step's": func(ctx context.Context, _ bool) error {
			_, err := stint.Step(ctx, "bad", func(context.Context) (int, error) { return 0, planned })
			return err
		},
		"by its timeout": func(ctx context.Context, _ bool) error { <-ctx.Done(); return planned },
		"by a timeout that it ignores": func(_ context.Context, first bool) error {
			if first {
				time.Sleep(2 * time.Minute)
			}
			return planned
		},
		"by chance": func(_ context.Context, first bool) error {
			if first {
				return planned
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			durably(t, func(t *testing.T, c *stint.Client) {
				var u undoer
				first := true
				task := stint.NewTask(c, "saga", func(ctx context.Context, _ int) (int, error) {
					if err := u.saga(ctx); err != nil {
						return 0, err
					}
					was := first
					first = false
					return 0, fail(ctx, was)
				}, stint.WithTimeout(time.Minute))
				u.hold(func(ctx context.Context, name string) error {
					if name == "b" {
						<-ctx.Done()
					}
					return ctx.Err()
				})
				stop := working(t, c, stint.WithDrainTimeout(0))
				run := enqueue(t, task, 1)
				time.Sleep(3 * time.Minute)
				if i := infoOf(t, run); i.State != stint.StateRunning || u.took() != "c" {
					t.Errorf("while it cleans up: %v", i.State)
				}
				stop()
				u.hold(nil)
				working(t, c)
				_, err := run.Wait(t.Context())
				if err == nil || !strings.Contains(err.Error(), "planned") && !errors.Is(err, stint.ErrTimeout) {
					t.Errorf("Wait = %v", err)
				}
				if got := u.took(); got != "b a" {
					t.Errorf("undone in the end: %q, want the rest", got)
				}
				if i := infoOf(t, run); i.State != stint.StateFailed || i.Attempt != 1 {
					t.Errorf("%v on attempt %d", i.State, i.Attempt)
				}
			})
		})
	}
}

// A cancel that comes while the run goes to sleep loses no compensation.
func TestCancelRacesSuspend(t *testing.T) {
	for _, resident := range []int{0, stint.DefaultMaxResident} {
		c := opened(t, stint.WithMaxResident(resident), unsynced())
		var u undoer
		steps := make(chan struct{})
		task := stint.NewTask(c, "saga", func(ctx context.Context, n int) (int, error) {
			_, err := stint.Step(ctx, "a", func(context.Context) (int, error) { steps <- struct{}{}; return 1, nil })
			if err != nil {
				return 0, err
			}
			u.add(ctx, "a")
			return 0, stint.Sleep(ctx, time.Hour)
		})
		working(t, c)
		const n = 60
		for i := range n {
			run := enqueue(t, task, i)
			<-steps
			for range i { // a little later each time
				infoOf(t, run)
			}
			if err := run.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
			canceledWith(t, run)
		}
		if got := strings.Fields(u.took()); len(got) != n {
			t.Errorf("resident %d: %d of %d compensations ran", resident, len(got), n)
		}
	}
}

// Neither the grace after a cancel nor another cancel ends a run while its compensations
// run; a handler that ignores its context keeps nobody from undoing what it did.
func TestCleanUpTakesItsTime(t *testing.T) {
	for _, ignores := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := openedAt(t, ":memory:")
			var u undoer
			late := make(chan error, 1)
			task := stint.NewTask(c, "saga", func(ctx context.Context, _ int) (int, error) {
				if err := u.saga(ctx); err != nil {
					return 0, err
				}
				<-ctx.Done()
				if ignores {
					time.Sleep(time.Hour)
					_, err := stint.Step(context.WithoutCancel(ctx), "late", func(context.Context) (int, error) { return 1, nil })
					late <- err
				}
				return 0, ctx.Err()
			})
			working(t, c)
			run := enqueue(t, task, 1)
			time.Sleep(time.Second)
			u.hold(func(context.Context, string) error { time.Sleep(time.Minute); return nil })
			began := time.Now()
			for range 3 {
				if err := run.Cancel(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(40 * time.Second)
			}
			if i := infoOf(t, run); i.State != stint.StateRunning || !i.Canceling {
				t.Errorf("ignores %v: %v, canceling %v", ignores, i.State, i.Canceling)
			}
			canceledWith(t, run)
			want := 3 * time.Minute
			if ignores {
				want += 30 * time.Second // the grace
			}
			if d := time.Since(began); u.took() != "c b a" || d < want || d > want+time.Second {
				t.Errorf("ignores %v: cleaned up after %v, want %v", ignores, d, want)
			}
			if ignores {
				if err := <-late; !errors.Is(err, stint.ErrDurable) {
					t.Errorf("a step of a handler that was given up: %v", err)
				}
			}
		})
	}
}

// Tasks of workflows and children clean up as other runs do, each for itself, and a
// workflow's run ends after its tasks have.
func TestCancelCleansUpBelow(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var u undoer
		sleeper := func(ctx context.Context, name string) error {
			if _, err := stint.Step(ctx, name, func(context.Context) (int, error) { return 1, nil }); err != nil {
				return err
			}
			u.add(ctx, name)
			return stint.Sleep(ctx, time.Hour)
		}
		child := stint.NewTask(c, "child", func(ctx context.Context, _ int) (int, error) { return 0, sleeper(ctx, "child") })
		parent := stint.NewTask(c, "parent", func(ctx context.Context, _ int) (int, error) {
			u.add(ctx, "parent")
			return child.Run(ctx, 1)
		})
		flow := stint.NewWorkflow[int](c, "flow")
		top := stint.AddTask(flow, "top", func(ctx context.Context, _ int) (int, error) { return 0, sleeper(ctx, "top") })
		stint.AddTask(flow, "bottom", func(context.Context, int) (int, error) { return 0, nil }, stint.WithParents(top))
		stop := working(t, c)
		run := enqueue(t, parent, 1)
		graph := enqueue(t, flow, 1)
		time.Sleep(time.Minute)
		stop()
		if err := errors.Join(run.Cancel(t.Context()), graph.Cancel(t.Context())); err != nil {
			t.Fatal(err)
		}
		info := infoOf(t, graph)
		if info.State != stint.StateRunning || !info.Canceling || info.Blocked == "" {
			t.Errorf("a workflow whose task has to clean up: %v, canceling %v, %q", info.State, info.Canceling, info.Blocked)
		}
		working(t, c)
		canceledWith(t, run)
		if _, err := graph.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("Wait = %v", err)
		}
		stinttestSettle(t, c)
		got := strings.Fields(u.took())
		if len(got) != 3 {
			t.Errorf("undone: %v, want child, parent and top", got)
		}
	})
}

// stinttestSettle waits until all runs have ended.
func stinttestSettle(t *testing.T, c *stint.Client) {
	t.Helper()
	page := listRuns(t, c, stint.RunFilter{})
	for _, r := range page.Runs {
		stint.RunByID[any](c, r.ID).Wait(t.Context())
	}
}

// A replay of a run that cleaned up is not canceled any more, makes the call that the
// cancel cut short anew, and cleans up again.
func TestReplayAfterCleanUp(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var u undoer
		tells := 0
		task := stint.NewTask(c, "saga", func(ctx context.Context, _ int) (int, error) {
			if err := u.saga(ctx); err != nil {
				return 0, err
			}
			if err := stint.Sleep(ctx, time.Hour); err != nil {
				if !errors.Is(err, stint.ErrCanceled) {
					t.Errorf("Sleep = %v", err)
				}
				_, serr := stint.Step(context.WithoutCancel(ctx), "tell", func(context.Context) (int, error) { tells++; return 1, nil })
				return 0, errors.Join(err, serr)
			}
			_, err := stint.Step(ctx, "last", func(context.Context) (int, error) { return 1, nil })
			return 7, err
		})
		working(t, c)
		run := enqueue(t, task, 1)
		for attempt := 1; attempt <= 2; attempt++ {
			time.Sleep(time.Minute)
			if err := run.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
			canceledWith(t, run)
			if got := u.took(); got != "c b a" || tells != attempt {
				t.Errorf("attempt %d: undone %q, told %d times", attempt, got, tells)
			}
			if i := infoOf(t, run); i.Attempt != attempt {
				t.Errorf("attempt %d, want %d", i.Attempt, attempt)
			}
			if n := must[int](t)(c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}})); n != 1 {
				t.Errorf("replayed %d", n)
			}
		}
		if got, err := run.Wait(t.Context()); got != 7 || err != nil || u.took() != "" {
			t.Errorf("Wait = %d, %v", got, err)
		}
	})
}

// A compensation that fails to the last is recorded, and keeps nobody from the others.
func TestCompensationThatFails(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var u undoer
		calls := 0
		u.hold(func(_ context.Context, name string) error {
			if name != "b" {
				return nil
			}
			calls++
			return fmt.Errorf("cannot %s", name)
		})
		task := stint.NewTask(c, "saga", func(ctx context.Context, _ int) (int, error) {
			if err := u.saga(ctx); err != nil {
				return 0, err
			}
			return 0, stint.Sleep(ctx, time.Hour)
		})
		working(t, c)
		run := enqueue(t, task, 1)
		time.Sleep(time.Minute)
		if err := run.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		canceledWith(t, run)
		if got := u.took(); got != "c a" || calls != 6 {
			t.Errorf("undone %q, %d calls of what fails", got, calls)
		}
		failed := 0
		for _, e := range must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID())) {
			if e.Name == "b" && e.Error == "cannot b" {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("the journal has the failure %d times", failed)
		}
	})
}

// Whatever durable call a cancel cuts short, or keeps from being made, its error is
// ErrCanceled; with a context of its own a call is made.
func TestCallsCutShortByCancel(t *testing.T) {
	blocks := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
	one := func(context.Context) (int, error) { return 1, nil }
	for name, call := range map[string]func(ctx context.Context, c *stint.Client, child *stint.Task[int, int]) error{
		"step": func(ctx context.Context, _ *stint.Client, _ *stint.Task[int, int]) error {
			_, err := stint.Step(ctx, "x", blocks)
			return err
		},
		"step with its own error": func(ctx context.Context, _ *stint.Client, _ *stint.Task[int, int]) error {
			_, err := stint.Step(ctx, "x", func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, errors.New("own") },
				stint.WithRetries(3))
			return err
		},
		"step between tries": func(ctx context.Context, _ *stint.Client, _ *stint.Task[int, int]) error {
			_, err := stint.Step(ctx, "x", func(context.Context) (int, error) { return 0, errors.New("own") },
				stint.WithRetries(3), stint.WithRetryBackoff(3600, 10*time.Hour))
			return err
		},
		"sleep": func(ctx context.Context, _ *stint.Client, _ *stint.Task[int, int]) error {
			return stint.Sleep(ctx, time.Hour)
		},
		"event": func(ctx context.Context, _ *stint.Client, _ *stint.Task[int, int]) error {
			_, err := stint.WaitForEvent[int](ctx, "never")
			return err
		},
		"child": func(ctx context.Context, _ *stint.Client, child *stint.Task[int, int]) error {
			_, err := child.Run(ctx, 1)
			return err
		},
		"branch": func(ctx context.Context, _ *stint.Client, _ *stint.Task[int, int]) error {
			_, err := stint.Go(ctx, "branch", func(ctx context.Context) (int, error) { return stint.Step(ctx, "x", blocks) }).Wait(ctx)
			return err
		},
		"any": func(ctx context.Context, _ *stint.Client, _ *stint.Task[int, int]) error {
			_, _, err := stint.Any(ctx, stint.Go(ctx, "branch", func(ctx context.Context) (int, error) { return 0, stint.Sleep(ctx, time.Hour) }))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			durably(t, func(t *testing.T, c *stint.Client) {
				child := stint.NewTask(c, "child", func(ctx context.Context, _ int) (int, error) { return 0, stint.Sleep(ctx, time.Hour) })
				told := 0
				task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (int, error) {
					if _, err := stint.Step(ctx, "first", one); err != nil {
						return 0, err
					}
					own := context.WithoutCancel(ctx)
					errs := []error{call(ctx, c, child)}
					if ctx.Err() == nil {
						t.Errorf("not cut short: %v", errs[0])
					}
					_, err := stint.Step(ctx, "after", one)
					errs = append(errs, err, stint.Sleep(ctx, 0))
					_, err = child.Enqueue(ctx, 1)
					errs = append(errs, err)
					_, err = stint.WaitForEvent[int](ctx, "none")
					for _, err := range append(errs, err) {
						if !errors.Is(err, stint.ErrCanceled) {
							t.Errorf("%v, want ErrCanceled of each of %v", err, errs)
						}
					}
					_, err = stint.Step(own, "tell", func(context.Context) (int, error) { told++; return 1, nil })
					return 0, err
				})
				working(t, c)
				run := enqueue(t, task, 1)
				time.Sleep(time.Minute)
				if err := run.Cancel(t.Context()); err != nil {
					t.Fatal(err)
				}
				canceledWith(t, run)
				if told != 1 {
					t.Errorf("told %d times", told)
				}
			})
		})
	}
}

// A run that only cleans up starts no child anew that an earlier cancel has ended; a replay does.
func TestCleanUpStartsNoChild(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		child := stint.NewTask(c, "child", func(ctx context.Context, n int) (int, error) { return n, stint.Sleep(ctx, time.Minute) })
		parent := stint.NewTask(c, "parent", func(ctx context.Context, n int) (int, error) { return child.Run(ctx, n) })
		children := func() (states string) {
			t.Helper()
			for _, r := range listRuns(t, c, stint.RunFilter{Tasks: []string{"child"}}).Runs {
				states += fmt.Sprint(r.State, " at attempt ", r.Attempt, "; ")
			}
			return states
		}
		cancel := func(run *stint.Run[int]) {
			t.Helper()
			if err := run.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		replay := func(run *stint.Run[int]) {
			t.Helper()
			if n, err := c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}); n != 1 || err != nil {
				t.Fatalf("replayed %d, %v", n, err)
			}
		}
		stop := working(t, c)
		run := enqueue(t, parent, 7)
		<-time.After(time.Second)
		cancel(run)
		if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Fatal(err)
		}
		stop()
		replay(run)
		cancel(run)
		working(t, c)
		if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Fatal(err)
		}
		<-time.After(time.Hour)
		if got := children(); got != "canceled at attempt 1; " {
			t.Errorf("children: %s", got)
		}
		replay(run)
		if got, err := run.Wait(t.Context()); got != 7 || err != nil {
			t.Errorf("replayed: %d, %v", got, err)
		}
		if got := children(); got != "succeeded at attempt 1; canceled at attempt 1; " { // the call was cut short: it is made anew
			t.Errorf("children: %s", got)
		}
	})
}
