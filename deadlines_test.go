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

// started is when a run started, in time since began.
func startedAfter(t *testing.T, info *stint.RunInfo, began time.Time) time.Duration {
	t.Helper()
	if info.State != stint.StateSucceeded {
		t.Errorf("%v: %s", info.State, info.Error)
	}
	return info.Started.Sub(began).Round(time.Second)
}

// A schedule timeout counts from when the run may start: an edit each 20 s, for 80 s,
// gathered by WithDebounce, is worked 30 s after the last, also where it is of a workflow.
func TestScheduleTimeoutFollowsDebounce(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		ctx := t.Context()
		task := stint.NewTask(c, "task", double, stint.WithScheduleTimeout(time.Minute))
		flow := stint.NewWorkflow[int](c, "flow", stint.WithTimeout(time.Minute))
		node := stint.AddTask(flow, "a", double)
		working(t, c)
		began := time.Now()
		var run *stint.Run[int]
		var whole *stint.Run[stint.Outputs]
		for i := range 5 {
			run = must[*stint.Run[int]](t)(task.Enqueue(ctx, i, stint.WithDebounce("doc", 30*time.Second, 10*time.Minute)))
			whole = must[*stint.Run[stint.Outputs]](t)(flow.Enqueue(ctx, i, stint.WithDebounce("doc", 30*time.Second, 10*time.Minute)))
			if i < 4 {
				time.Sleep(20 * time.Second)
			}
		}
		if got, err := run.Wait(ctx); got != 8 || err != nil {
			t.Errorf("the last edit: %d, %v", got, err)
		}
		if at := startedAfter(t, must[*stint.RunInfo](t)(run.Info(ctx)), began); at != 110*time.Second {
			t.Errorf("started after %v, want 110s", at)
		}
		if got, err := node.From(must[stint.Outputs](t)(whole.Wait(ctx))); got != 8 || err != nil {
			t.Errorf("the last edit, in a workflow: %d, %v", got, err)
		}
	})
}

// A run that has started, and comes back after a delay, takes no other input: what is
// enqueued meanwhile is gathered into a run of its own.
func TestDebounceAfterTheStart(t *testing.T) {
	for how, comesBack := range map[string]func(ctx context.Context) error{
		"retry":  func(context.Context) error { return stint.RetryAfter(time.Hour, errors.New("again")) },
		"snooze": func(context.Context) error { return stint.Snooze(time.Hour) },
		"sleep":  func(ctx context.Context) error { return stint.Sleep(ctx, time.Hour) },
	} {
		in(t, func(t *testing.T, c *stint.Client) {
			task := stint.NewTask(c, "task", func(ctx context.Context, in string) (string, error) {
				was, err := stint.Step(ctx, "s", func(context.Context) (string, error) { return in, nil })
				if info, _ := stint.Info(ctx); err == nil && (how == "sleep" || info.Executions == 1) {
					err = comesBack(ctx)
				}
				return in + was, err
			}, stint.WithRetries(1), stint.WithScheduleTimeout(time.Minute))
			working(t, c)
			enqueue := func(in string) *stint.Run[string] {
				return enqueue(t, task, in, stint.WithDebounce("k", 30*time.Second, 10*time.Minute))
			}
			enqueue("a")
			first := enqueue("b")
			time.Sleep(40 * time.Second)
			second := enqueue("c")
			third := enqueue("d")
			if !first.Existing() || second.Existing() || !third.Existing() || second.ID() != third.ID() || first.ID() == second.ID() {
				t.Errorf("%s: runs %s, %s, %s", how, first.ID(), second.ID(), third.ID())
			}
			began := time.Now()
			got, want := output(t, first), "bb"
			if d := time.Since(began).Round(time.Minute); got != want || d != time.Hour {
				t.Errorf("%s: %s after %v, want %s after an hour", how, got, d, want)
			}
			if got := output(t, third); got != "dd" {
				t.Errorf("%s: the next %s", how, got)
			}
		})
	}
}

// What moves the time at which a run may start moves the end of its schedule timeout: with
// nobody to work it, it is canceled then and not before. So is a replay, and a fork.
func TestScheduleTimeoutFollows(t *testing.T) {
	const limit = time.Minute
	in(t, func(t *testing.T, c *stint.Client) {
		ctx := t.Context()
		task := stint.NewTask(c, "task", double, stint.WithScheduleTimeout(limit))
		flow := stint.NewWorkflow[int](c, "flow", stint.WithTimeout(limit))
		stint.AddTask(flow, "a", double)
		hour := func() time.Time { return time.Now().Add(time.Hour) }
		inAnHour := func() stint.RunOption { return stint.WithRunAt(hour()) }
		delay := func(d time.Duration) func() stint.RunOption {
			return func() stint.RunOption { return stint.WithDelay(d) }
		}
		canceledAfter := func(what string, info func(context.Context) (*stint.RunInfo, error), d time.Duration) {
			t.Helper()
			time.Sleep(d - time.Second)
			if s := must[*stint.RunInfo](t)(info(ctx)).State; s.Terminal() {
				t.Errorf("%s: %v a second before its time", what, s)
			}
			time.Sleep(2 * time.Second)
			if i := must[*stint.RunInfo](t)(info(ctx)); i.State != stint.StateCanceled {
				t.Errorf("%s: %v a second after its time", what, i.State)
			}
		}
		all := func(what string, move func(c *stint.Client, id string) error, d time.Duration, opt func() stint.RunOption) {
			t.Helper()
			run := must[*stint.Run[int]](t)(task.Enqueue(ctx, 1, opt()))
			if err := move(c, run.ID()); err != nil {
				t.Fatal(err)
			}
			canceledAfter(what, run.Info, d)
			whole := must[*stint.Run[stint.Outputs]](t)(flow.Enqueue(ctx, 1, opt()))
			if err := move(c, whole.ID()); err != nil {
				t.Fatal(err)
			}
			canceledAfter(what+", workflow", whole.Info, d)
		}
		none := func(*stint.Client, string) error { return nil }
		all("at once", none, limit, delay(0))
		all("delayed", none, 10*time.Second+limit, delay(10*time.Second))
		all("scheduled", none, time.Hour+limit, inAnHour)
		all("moved", func(c *stint.Client, id string) error { return c.Reschedule(ctx, id, hour()) }, time.Hour+limit, delay(time.Second))
		all("moved to now", func(c *stint.Client, id string) error { return c.Reschedule(ctx, id, time.Now()) }, limit, delay(time.Hour))
		all("replayed", func(c *stint.Client, id string) error {
			time.Sleep(limit + time.Second)
			n, err := c.ReplayRuns(ctx, stint.RunFilter{IDs: []string{id}})
			if n != 1 {
				t.Errorf("replayed %d runs", n)
			}
			return err
		}, limit, delay(0))
	})
}

// A replay of a workflow gives its tasks, too, their limits again.
func TestScheduleTimeoutOfTasksAfterReplay(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		ctx := t.Context()
		flow := stint.NewWorkflow[int](c, "flow")
		stint.AddTask(flow, "a", func(context.Context, int) (int, error) { return 0, errors.New("no") }, stint.WithScheduleTimeout(time.Minute))
		stop := working(t, c)
		run := must[*stint.Run[stint.Outputs]](t)(flow.Enqueue(ctx, 1))
		run.Wait(ctx)
		stop()
		must[int](t)(c.ReplayRuns(ctx, stint.RunFilter{IDs: []string{run.ID()}}))
		time.Sleep(59 * time.Second)
		if s := must[*stint.RunInfo](t)(run.Info(ctx)).State; s != stint.StateRunning {
			t.Errorf("before its task's time: %v", s)
		}
		time.Sleep(2 * time.Second)
		if s := must[*stint.RunInfo](t)(run.Info(ctx)).State; s != stint.StateCanceled {
			t.Errorf("after its task's time: %v", s)
		}
	})
}

// A run that has started once is not limited by its schedule timeout any more.
func TestScheduleTimeoutEndsWithAStart(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (int, error) {
			if info, _ := stint.Info(ctx); info.Attempt == 1 {
				return 0, stint.RetryAfter(time.Hour, errors.New("later"))
			}
			return 1, stint.Sleep(ctx, time.Hour)
		}, stint.WithScheduleTimeout(time.Minute), stint.WithRetries(1))
		working(t, c)
		run := enqueue(t, task, 1)
		if got, err := run.Wait(t.Context()); got != 1 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
	})
}

// waits are the durable calls that wait; each for so long.
func waits(child *stint.Task[time.Duration, int]) map[string]func(ctx context.Context, d time.Duration) error {
	var failed sync.Map // by run
	return map[string]func(ctx context.Context, d time.Duration) error{
		"sleep": stint.Sleep,
		"until": func(ctx context.Context, d time.Duration) error { return stint.SleepUntil(ctx, stint.Now(ctx).Add(d)) },
		"event": func(ctx context.Context, d time.Duration) error {
			if _, err := stint.WaitForEvent[int](ctx, "never", stint.WithWaitTimeout(d)); !errors.Is(err, stint.ErrTimeout) {
				return err
			}
			return nil
		},
		"child": func(ctx context.Context, d time.Duration) error { _, err := child.Run(ctx, d); return err },
		"branches": func(ctx context.Context, d time.Duration) error {
			_, err := stint.All(ctx,
				stint.Go(ctx, "short", func(ctx context.Context) (int, error) { return 0, stint.Sleep(ctx, d/2) }),
				stint.Go(ctx, "long", func(ctx context.Context) (int, error) { return 0, stint.Sleep(ctx, d) }))
			return err
		},
		"a step's retry": func(ctx context.Context, d time.Duration) error {
			info, _ := stint.Info(ctx)
			_, err := stint.Step(ctx, "again", func(context.Context) (int, error) {
				if _, failed := failed.LoadOrStore(info.ID, true); !failed {
					return 0, stint.RetryAfter(d, errors.New("later"))
				}
				return 0, nil
			}, stint.WithRetries(2))
			return err
		},
	}
}

// residents are how many runs stay in memory: none, and those that do not wait for long.
var residents = map[string]int{"evicted at once": 0, "default": stint.DefaultMaxResident}

// Time spent waiting in a durable call never counts for WithTimeout: whatever the call,
// long or short, in memory or not. Time that steps take does, over all executions.
func TestTimeoutCountsWork(t *testing.T) {
	work := func(ctx context.Context, d time.Duration) error {
		_, err := stint.Step(ctx, "work", func(ctx context.Context) (int, error) {
			select {
			case <-time.After(d):
				return 0, nil
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
		})
		return err
	}
	for memory, n := range residents {
		t.Run(memory, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := openedAt(t, ":memory:", stint.WithMaxResident(n))
				child := stint.NewTask(c, "child", func(_ context.Context, d time.Duration) (int, error) { time.Sleep(d); return 0, nil })
				working(t, c)
				for how, wait := range waits(child) {
					for _, d := range []time.Duration{500 * time.Millisecond, 3 * time.Second, time.Hour} {
						for name, after := range map[string]time.Duration{"in time": 900 * time.Millisecond, "too long": 1100 * time.Millisecond} {
							task := stint.NewTask(c, how+d.String()+name, func(ctx context.Context, _ int) (int, error) {
								return 1, errors.Join(work(ctx, time.Second), wait(ctx, d), work(ctx, after))
							}, stint.WithTimeout(2*time.Second))
							_, err := task.Run(t.Context(), 1)
							if late := name == "too long"; late && !errors.Is(err, stint.ErrTimeout) || !late && err != nil {
								t.Errorf("%s of %v, %s: %v", how, d, name, err)
							}
						}
					}
				}
			})
		})
	}
}

// One branch that works counts, while others wait.
func TestTimeoutCountsABranchThatWorks(t *testing.T) {
	for memory, n := range residents {
		t.Run(memory, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := openedAt(t, ":memory:", stint.WithMaxResident(n))
				for took, late := range map[time.Duration]bool{time.Second: false, 3 * time.Second: true} {
					task := stint.NewTask(c, "task"+took.String(), func(ctx context.Context, _ int) ([]int, error) {
						return stint.All(ctx,
							stint.Go(ctx, "waits", func(ctx context.Context) (int, error) { return 0, stint.Sleep(ctx, time.Hour) }),
							stint.Go(ctx, "works", func(ctx context.Context) (int, error) {
								return stint.Step(ctx, "work", func(context.Context) (int, error) { time.Sleep(took); return 0, nil })
							}))
					}, stint.WithTimeout(2*time.Second))
					working(t, c)
					if _, err := task.Run(t.Context(), 1); late && !errors.Is(err, stint.ErrTimeout) || !late && err != nil {
						t.Errorf("a branch that works for %v: %v", took, err)
					}
				}
			})
		})
	}
}

// What ExtendTimeout adds is the attempt's, wherever it goes on. The next attempt has the
// task's timeout again.
func TestExtendTimeoutOverAWait(t *testing.T) {
	for memory, n := range residents {
		for _, d := range []time.Duration{500 * time.Millisecond, time.Hour} {
			t.Run(memory+" "+d.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := openedAt(t, ":memory:", stint.WithMaxResident(n))
					extended := stint.NewTask(c, "extended", func(ctx context.Context, work time.Duration) (int, error) {
						if _, err := stint.Step(ctx, "extend", func(context.Context) (int, error) {
							return 0, stint.ExtendTimeout(ctx, 10*time.Second)
						}); err != nil {
							return 0, err
						}
						if err := stint.Sleep(ctx, d); err != nil {
							return 0, err
						}
						time.Sleep(work)
						info, _ := stint.Info(ctx)
						return info.Attempt, context.Cause(ctx)
					}, stint.WithTimeout(2*time.Second), stint.WithRetries(1))
					working(t, c)
					if got, err := extended.Run(t.Context(), 11*time.Second); got != 1 || err != nil {
						t.Errorf("within the extended time: attempt %d, %v", got, err)
					}
					if _, err := extended.Run(t.Context(), 13*time.Second); !errors.Is(err, stint.ErrTimeout) {
						t.Errorf("beyond the extended time: %v", err)
					}
				})
			})
		}
	}
}
