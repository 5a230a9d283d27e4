package stint_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// Each of these runs with waiting handlers in memory, and evicted at every wait.
func durably(t *testing.T, f func(t *testing.T, c *stint.Client)) {
	for name, n := range map[string]int{"resident": stint.DefaultMaxResident, "evicted": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f(t, openedAt(t, ":memory:", stint.WithMaxResident(n)))
			})
		})
	}
}

// counted is a step that counts its executions.
func counted(ctx context.Context, n *atomic.Int64, name string, out int) (int, error) {
	return stint.Step(ctx, name, func(context.Context) (int, error) { n.Add(1); return out, nil })
}

// Scenarios 1 and 2: a step that was recorded is not run again; one that was not is.
func TestStepOnce(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var a, b, handler atomic.Int64
		var keys sync.Map
		stopped := make(chan struct{})
		task := stint.NewTask(c, "two", func(ctx context.Context, _ int) (int, error) {
			x, err := counted(ctx, &a, "a", 1)
			if err != nil {
				return 0, err
			}
			y, err := stint.Step(ctx, "b", func(ctx context.Context) (int, error) {
				b.Add(1)
				keys.Store(stint.StepKey(ctx), true)
				if handler.Add(1) == 1 {
					close(stopped)
					<-ctx.Done() // the process "dies" inside the body
					return 0, ctx.Err()
				}
				return 10, nil
			})
			return x + y, err
		})
		run := enqueue(t, task, 0)
		stop := working(t, c, stint.WithDrainTimeout(0))
		<-stopped
		stop()
		working(t, c)
		if got, err := run.Wait(t.Context()); err != nil || got != 11 {
			t.Fatalf("Wait = %d, %v", got, err)
		}
		if a.Load() != 1 || b.Load() != 2 {
			t.Errorf("a ran %d times and b %d, want 1 and 2", a.Load(), b.Load())
		}
		n := 0
		keys.Range(func(k, _ any) bool { n++; return k != "" })
		if n != 1 {
			t.Errorf("%d step keys, want one", n)
		}
	})
}

// Scenarios 3 and 4: a step's own retries, whose budget survives a restart.
func TestStepRetries(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var tries atomic.Int64
		task := stint.NewTask(c, "flaky", func(ctx context.Context, good int) (int, error) {
			return stint.Step(ctx, "s", func(context.Context) (int, error) {
				if n := tries.Add(1); int(n) < good {
					return 0, fmt.Errorf("try %d", n)
				}
				return 7, nil
			}, stint.WithRetries(2), stint.WithRetryBackoff(10, time.Hour))
		})
		run := enqueue(t, task, 3)
		stop := working(t, c)
		time.Sleep(30 * time.Second) // after the second try
		stop()
		working(t, c)
		began := time.Now()
		if got, err := run.Wait(t.Context()); err != nil || got != 7 || tries.Load() != 3 {
			t.Errorf("Wait = %d, %v after %d tries", got, err, tries.Load())
		}
		if d := time.Since(began); d < 65*time.Second || d > 95*time.Second {
			t.Errorf("the third try came %v after the restart, want 70 to 90s", d)
		}
		tries.Store(0)
		_, err := task.Run(t.Context(), 9)
		if err == nil || !strings.Contains(err.Error(), "try 3") || tries.Load() != 3 {
			t.Errorf("Run = %v after %d tries, want the third error", err, tries.Load())
		}
	})
}

// Scenarios 5 and 6: a permanent error stays one, and a panic is an error with its stack.
func TestStepErrors(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var tries, handlers atomic.Int64
		task := stint.NewTask(c, "bad", func(ctx context.Context, panics bool) (string, error) {
			handlers.Add(1)
			_, err := stint.Step(ctx, "s", func(context.Context) (int, error) {
				tries.Add(1)
				if panics {
					panic("boom")
				}
				return 0, fmt.Errorf("wrapped: %w", stint.NonRetryable(errors.New("no")))
			}, stint.WithRetries(5))
			if serr := stint.Sleep(ctx, time.Hour); serr != nil { // the error is found again after the wait
				return "", serr
			}
			var p *stint.PanicError
			return fmt.Sprint(err != nil, errors.As(err, &p) && strings.Contains(string(p.Stack), "durable_test")), nil
		})
		working(t, c)
		if got := runTask(t, task, false); got != "true false" || tries.Load() != 1 {
			t.Errorf("got %q after %d tries", got, tries.Load())
		}
		tries.Store(0)
		if got := runTask(t, task, true); got != "true true" || tries.Load() != 6 {
			t.Errorf("panic: got %q after %d tries, want 6", got, tries.Load())
		}
	})
}

// A failed attempt of the run keeps the steps that succeeded, and runs the one that
// failed again.
func TestRunRetryKeepsSteps(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var a, b, after atomic.Int64
		task := stint.NewTask(c, "retry", func(ctx context.Context, _ int) (int, error) {
			x, err := counted(ctx, &a, "a", 1)
			if err != nil {
				return 0, err
			}
			y, err := stint.Step(ctx, "b", func(context.Context) (int, error) {
				if b.Add(1) < 3 {
					return 0, errors.New("not yet")
				}
				return 2, nil
			})
			if err != nil {
				counted(ctx, &after, "clean up", 0)
				return 0, fmt.Errorf("b: %w", err)
			}
			return x + y, nil
		}, stint.WithRetries(3), stint.WithRetryBackoff(2, time.Minute))
		working(t, c)
		if got, err := task.Run(t.Context(), 0); err != nil || got != 3 {
			t.Errorf("Run = %d, %v", got, err)
		}
		if a.Load() != 1 || b.Load() != 3 || after.Load() != 2 {
			t.Errorf("a ran %d times, b %d, the clean-up %d; want 1, 3, 2", a.Load(), b.Load(), after.Load())
		}
	})
}

// Scenario 7: 100 steps of one name in a loop.
func TestStepLoop(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var n atomic.Int64
		task := stint.NewTask(c, "loop", func(ctx context.Context, _ int) (sum int, err error) {
			for i := range 100 {
				x, err := counted(ctx, &n, "same", i)
				if err != nil {
					return 0, err
				}
				if i%33 == 0 {
					if err := stint.Sleep(ctx, time.Hour); err != nil {
						return 0, err
					}
				}
				sum += x
			}
			return sum, nil
		})
		working(t, c)
		if got, err := task.Run(t.Context(), 0); err != nil || got != 4950 || n.Load() != 100 {
			t.Errorf("Run = %d, %v with %d steps", got, err, n.Load())
		}
	})
}

// Scenarios 8 and 9: a sleep's time is stored once; a restart does not begin it anew,
// and one that is over when the process starts ends at once. A sleeping run is waiting
// and holds no slot.
func TestSleep(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "sleep", func(ctx context.Context, d time.Duration) (int, error) {
			return 1, stint.Sleep(ctx, d)
		})
		began := time.Now()
		run := enqueue(t, task, 10*time.Second)
		long := enqueue(t, task, time.Hour)
		stop := working(t, c, stint.WithSlots(1))
		time.Sleep(4 * time.Second)
		if info := infoOf(t, run); info.State != stint.StateWaiting || !strings.HasPrefix(info.Blocked, "sleep until ") {
			t.Errorf("while asleep: %v, by %q", info.State, info.Blocked)
		}
		stop()
		stop = working(t, c)
		output(t, run)
		if d := time.Since(began).Round(time.Second); d != 10*time.Second {
			t.Errorf("slept %v, want 10s in all", d)
		}
		stop()
		time.Sleep(3 * time.Hour)
		working(t, c)
		back := time.Now()
		output(t, long)
		if d := time.Since(back); d > time.Second {
			t.Errorf("resumed %v after the start", d)
		}
		if info := infoOf(t, long); info.Attempt != 1 {
			t.Errorf("attempt %d, want 1", info.Attempt)
		}
	})
}

// Scenarios 10, 12 and 13: an event before the wait counts once; one event wakes all who
// wait; a timeout is one outcome.
func TestWaitForEvent(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		type click struct{ User, N int }
		task := stint.NewTask(c, "wait", func(ctx context.Context, user int) (string, error) {
			if err := stint.Sleep(ctx, time.Minute); err != nil {
				return "", err
			}
			first, err := stint.WaitForEvent[click](ctx, "click", stint.WithMatch("User", user))
			if err != nil {
				return "", err
			}
			second, err := stint.WaitForEvent[click](ctx, "click", stint.WithMatch("User", user), stint.WithWaitTimeout(time.Hour))
			return fmt.Sprint(first.N, second.N, errors.Is(err, stint.ErrTimeout)), nil
		})
		working(t, c)
		publish := func(user, n int) {
			publish(t, c, "click", click{user, n})
		}
		publish(1, 7) // before the run
		time.Sleep(time.Second)
		one := enqueue(t, task, 1)
		two := enqueue(t, task, 2)
		time.Sleep(time.Second)
		publish(1, 1) // before the wait
		time.Sleep(10 * time.Minute)
		publish(1, 2)
		publish(2, 3)
		if got := output(t, one); got != "1 2 false" {
			t.Errorf("one had %q", got)
		}
		began := time.Now()
		if got := output(t, two); got != "3 0 true" {
			t.Errorf("two had %q", got)
		}
		if d := time.Since(began).Round(time.Second); d != time.Hour {
			t.Errorf("timed out after %v", d)
		}
	})
}

func TestOneEventWakesAll(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "wait", func(ctx context.Context, _ int) (int, error) {
			return stint.WaitForEvent[int](ctx, "go")
		})
		runs := enqueueMany(t, task, make([]int, n))
		working(t, c, stint.WithSlots(10))
		time.Sleep(time.Minute)
		publish(t, c, "go", 42)
		for _, r := range runs {
			if got := output(t, r); got != 42 {
				t.Fatalf("got %d", got)
			}
		}
	})
}

// Scenarios 14 and 15: branches run beside each other; results come in the order of the
// call, and are the same after a replay; they nest.
func TestBranches(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var steps atomic.Int64
		task := stint.NewTask(c, "fan", func(ctx context.Context, n int) (string, error) {
			var fs []*stint.Future[int]
			for i := range n {
				fs = append(fs, stint.Go(ctx, "branch", func(ctx context.Context) (int, error) {
					inner := stint.Go(ctx, "inner", func(ctx context.Context) (int, error) {
						if err := stint.Sleep(ctx, time.Duration(n-i)*time.Minute); err != nil {
							return 0, err
						}
						return counted(ctx, &steps, "s", i)
					})
					return inner.Wait(ctx)
				}))
			}
			winner, first, err := stint.Any(ctx, fs...)
			if err != nil {
				return "", err
			}
			all, err := stint.All(ctx, fs...)
			return fmt.Sprint(winner, first, all), err
		})
		working(t, c)
		began := time.Now()
		got, err := task.Run(t.Context(), 5)
		if err != nil || got != "4 4 [0 1 2 3 4]" || steps.Load() != 5 {
			t.Errorf("Run = %q, %v with %d steps", got, err, steps.Load())
		}
		if d := time.Since(began).Round(time.Second); d != 5*time.Minute {
			t.Errorf("took %v, want 5m: the branches run beside each other", d)
		}
	})
}

// A branch that fails fails its Wait; the next attempt enters it again, and no other.
func TestBranchFails(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var good, bad atomic.Int64
		task := stint.NewTask(c, "fan", func(ctx context.Context, _ int) (int, error) {
			a := stint.Go(ctx, "bad", func(ctx context.Context) (int, error) {
				if _, err := counted(ctx, &good, "before", 1); err != nil {
					return 0, err
				}
				if bad.Add(1) < 2 {
					return 0, errors.New("no")
				}
				return 1, nil
			})
			b := stint.Go(ctx, "good", func(ctx context.Context) (int, error) { return counted(ctx, &good, "s", 2) })
			all, err := stint.All(ctx, a, b)
			if err != nil {
				return 0, err
			}
			return all[0] + all[1], nil
		}, stint.WithRetries(1))
		working(t, c)
		if got, err := task.Run(t.Context(), 0); err != nil || got != 3 || bad.Load() != 2 {
			t.Errorf("Run = %d, %v; the branch ran %d times", got, err, bad.Load())
		}
		if good.Load() > 3 {
			t.Errorf("%d steps ran, want each once, or the second branch's again if it was cut off", good.Load())
		}
	})
}

// Scenarios 16 and 17: a child is begun once, however often its parent runs; a parent
// that waits holds no slot.
func TestDurableChild(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var children, parents atomic.Int64
		child := stint.NewTask(c, "child", func(ctx context.Context, n int) (int, error) {
			children.Add(1)
			return n * 2, stint.Sleep(ctx, time.Hour)
		})
		task := stint.NewTask(c, "parent", func(ctx context.Context, n int) (int, error) {
			parents.Add(1)
			many, err := child.EnqueueMany(ctx, []int{1, 2})
			if err != nil {
				return 0, err
			}
			x, err := child.Run(ctx, n)
			if err != nil {
				return 0, err
			}
			for _, r := range many {
				y, err := r.Wait(ctx)
				if err != nil {
					return 0, err
				}
				x += y
			}
			return x, nil
		})
		run := enqueue(t, task, 10)
		stop := working(t, c, stint.WithSlots(1))
		time.Sleep(10 * time.Minute)
		stop()
		working(t, c, stint.WithSlots(1))
		if got, err := run.Wait(t.Context()); err != nil || got != 26 {
			t.Errorf("Wait = %d, %v", got, err)
		}
		page := listRuns(t, c, stint.RunFilter{Tasks: []string{"child"}})
		if len(page.Runs) != 3 || parents.Load() < 2 {
			t.Errorf("%d children of a parent that ran %d times", len(page.Runs), parents.Load())
		}
	})
}

// Scenario 18: a cancel ends a wait with ErrCanceled.
func TestCancelWaiting(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "sleep", func(ctx context.Context, _ int) (int, error) { return 1, stint.Sleep(ctx, time.Hour) })
		working(t, c)
		for _, after := range []time.Duration{10 * time.Millisecond, time.Minute} {
			run := enqueue(t, task, 1)
			time.Sleep(after)
			if err := run.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
				t.Errorf("canceled %v after the start: %v", after, err)
			}
		}
	})
}

// Scenarios 19 and 20: a handler that recovers everything does not swallow an eviction,
// and one whose defer panics on the way out does no harm.
func TestEvictionIsNotSwallowed(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var unwound atomic.Int64
		task := stint.NewTask(c, "greedy", func(ctx context.Context, panics bool) (out string, err error) {
			defer func() {
				unwound.Add(1)
				if panics && out == "" {
					panic("in a defer")
				}
			}()
			func() {
				defer func() { recover() }()
				err = stint.Sleep(ctx, time.Hour)
			}()
			return "slept", err
		})
		working(t, c)
		for _, panics := range []bool{false, true} {
			if got, err := task.Run(t.Context(), panics); err != nil || got != "slept" {
				t.Errorf("panics %v: Run = %q, %v", panics, got, err)
			}
		}
	})
}

// Scenarios 22 to 24: code that does not match the journal blocks the run, says where,
// and does nothing; what is appended after the parked point goes on.
func TestDivergence(t *testing.T) {
	type code = func(ctx context.Context, n *atomic.Int64) error
	step := func(name string) code {
		return func(ctx context.Context, n *atomic.Int64) error { _, err := counted(ctx, n, name, 1); return err }
	}
	sleep := func(ctx context.Context, _ *atomic.Int64) error { return stint.Sleep(ctx, time.Hour) }
	event := func(key string) code {
		return func(ctx context.Context, _ *atomic.Int64) error {
			_, err := stint.WaitForEvent[int](ctx, key)
			return err
		}
	}
	for name, tc := range map[string]struct {
		before, after []code
		want          string // in RunInfo.Blocked; "": it goes on
	}{
		"swapped":      {[]code{step("a"), step("b"), sleep}, []code{step("b"), step("a"), sleep}, `entry 1 is step "a", the code asks for step "b"`},
		"changed key":  {[]code{step("a"), event("x")}, []code{step("a"), event("y")}, `entry 2 is event "x", the code asks for event "y"`},
		"removed last": {[]code{step("a"), step("b"), sleep}, []code{step("a"), step("b")}, `entry 3 is sleep, the code asks for return`},
		"removed all":  {[]code{step("a"), sleep}, nil, `entry 1 is step "a", the code asks for return`},
		"appended":     {[]code{step("a"), sleep}, []code{step("a"), sleep, step("new")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := t.TempDir() + "/d.db"
				var id string
				for pass, codes := range [][]code{tc.before, tc.after} {
					c := openedAt(t, path)
					var n atomic.Int64
					task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (int, error) {
						for _, f := range codes {
							if err := f(ctx, &n); err != nil {
								return 0, err
							}
						}
						return 1, nil
					})
					if pass == 0 {
						id = enqueue(t, task, 0).ID()
					}
					working(t, c)
					time.Sleep(time.Minute)
					if pass == 1 {
						c.Publish(t.Context(), "x", 1)
						time.Sleep(2 * time.Hour)
						info := getRun(t, c, id)
						switch {
						case tc.want == "" && (info.State != stint.StateSucceeded || n.Load() != 1):
							t.Errorf("the run is %v (%s) after %d steps", info.State, info.Blocked, n.Load())
						case tc.want != "" && (info.State != stint.StateBlocked || !strings.Contains(info.Blocked, tc.want) || n.Load() != 0):
							t.Errorf("the run is %v by %q after %d steps, want %q", info.State, info.Blocked, n.Load(), tc.want)
						case tc.want != "":
							d := info.Divergence
							if d == nil || fmt.Sprintf("entry %s is %s, the code asks for %s", d.Address, d.Recorded, d.Asked) != tc.want {
								t.Errorf("the divergence is %+v, want %q", d, tc.want)
							}
						}
					}
					c.Close()
				}
			})
		})
	}
}

// Scenario 24: Version is decided once for a run, in a loop and in branches too.
func TestVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := t.TempDir() + "/v.db"
		var id string
		for pass := range 2 {
			c := openedAt(t, path)
			task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (string, error) {
				var all []bool
				if pass == 1 {
					for range 3 {
						all = append(all, stint.Version(ctx, "change"))
					}
				}
				if err := stint.Sleep(ctx, time.Hour); err != nil {
					return "", err
				}
				if pass == 1 {
					all = append(all, stint.Version(ctx, "change"), stint.Version(ctx, "later"))
				}
				return fmt.Sprint(all), nil
			})
			stop := working(t, c)
			if pass == 0 {
				id = enqueue(t, task, 0).ID()
				time.Sleep(time.Minute)
			} else {
				fresh := enqueue(t, task, 0)
				for id, want := range map[string]string{id: "[false false false false true]", fresh.ID(): "[true true true true true]"} {
					if got := output(t, stint.RunByID[string](c, id)); got != want {
						t.Errorf("got %s, want %s", got, want)
					}
				}
			}
			stop()
			c.Close()
		}
	})
}

// Now and NewID are the same when the handler runs again; a step at most once is not
// run a second time.
func TestDeterministicValues(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var seen sync.Map
		task := stint.NewTask(c, "values", func(ctx context.Context, _ int) (int, error) {
			seen.Store(fmt.Sprint(stint.Now(ctx).UnixNano(), stint.NewID(ctx), stint.NewID(ctx)), true)
			if err := stint.Sleep(ctx, time.Hour); err != nil {
				return 0, err
			}
			return 1, stint.Sleep(ctx, time.Hour)
		})
		working(t, c)
		runTask(t, task, 0)
		n := 0
		seen.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Errorf("%d different values, want one", n)
		}
	})
}

func TestAtMostOnce(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var n atomic.Int64
		began := make(chan struct{})
		task := stint.NewTask(c, "once", func(ctx context.Context, _ int) (string, error) {
			_, err := stint.Step(ctx, "s", func(ctx context.Context) (int, error) {
				n.Add(1)
				close(began)
				<-ctx.Done()
				return 0, ctx.Err()
			}, stint.WithAtMostOnce())
			if errors.Is(err, stint.ErrMaybeRan) {
				return "maybe", nil
			}
			return "", err
		})
		run := enqueue(t, task, 0)
		stop := working(t, c, stint.WithDrainTimeout(0))
		<-began
		stop()
		working(t, c)
		if got, err := run.Wait(t.Context()); err != nil || got != "maybe" || n.Load() != 1 {
			t.Errorf("Wait = %q, %v after %d executions", got, err, n.Load())
		}
	})
}

// What a durable call is refused for is a clear error, and the host lives.
func TestDurableMistakes(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "mistakes", func(ctx context.Context, _ int) (string, error) {
			inStep, _ := stint.Step(ctx, "outer", func(ctx context.Context) (string, error) {
				return fmt.Sprint(errors.Is(stint.Sleep(ctx, time.Hour), stint.ErrDurable)), nil
			})
			_, noName := stint.Step(ctx, "", func(context.Context) (int, error) { return 0, nil })
			_, noJSON := stint.Step(ctx, "chan", func(context.Context) (chan int, error) { return make(chan int), nil })
			var both error
			done := make(chan struct{})
			stint.Step(ctx, "slow", func(context.Context) (int, error) {
				go func() {
					defer close(done)
					_, both = stint.Step(ctx, "beside", func(context.Context) (int, error) { return 0, nil })
				}()
				<-done
				return 0, nil
			})
			var finished context.Context
			if _, err := stint.Go(ctx, "branch", func(ctx context.Context) (int, error) { finished = ctx; return 0, nil }).Wait(ctx); err != nil {
				return "", err
			}
			_, late := stint.Step(finished, "late", func(context.Context) (int, error) { return 0, nil })
			return fmt.Sprint(inStep, " ", noName != nil, " ", noJSON != nil, " ", errors.Is(both, stint.ErrDurable), " ", errors.Is(late, stint.ErrDurable)), nil
		})
		working(t, c)
		if got, err := task.Run(t.Context(), 0); err != nil || got != "true true true true true" {
			t.Errorf("Run = %q, %v", got, err)
		}
	})
}

// Outside of a run durable calls do the plain thing, so that a handler is tested without
// an engine.
func TestDurableOutsideOfARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		n, err := stint.Step(ctx, "s", func(context.Context) (int, error) { return 3, nil })
		f, g := stint.Go(ctx, "f", func(ctx context.Context) (int, error) { return 1, stint.Sleep(ctx, time.Hour) }), stint.Go(ctx, "g", func(context.Context) (int, error) { return 2, nil })
		winner, first, _ := stint.Any(ctx, f, g)
		all, aerr := stint.All(ctx, f, g)
		if n != 3 || err != nil || winner != 1 || first != 2 || fmt.Sprint(all) != "[1 2]" || aerr != nil || !stint.Version(ctx, "x") || stint.StepKey(ctx) != "" {
			t.Errorf("got %d %v %d %d %v %v", n, err, winner, first, all, aerr)
		}
		if _, err := stint.WaitForEvent[int](ctx, "e"); !errors.Is(err, stint.ErrDurable) {
			t.Errorf("WaitForEvent = %v", err)
		}
	})
}

// Scenario 28: StepTx's rows and its record are one commit.
func TestStepTx(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	c, table := openedAt(t, path), appTable(path)
	var runs atomic.Int64
	task := stint.NewTask(c, "tx", func(ctx context.Context, mode string) (int, error) {
		return stint.StepTx(ctx, "rows", func(ctx context.Context, tx *sql.Tx) (int, error) {
			n := runs.Add(1)
			if _, err := tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS "+table+" (v TEXT)"); err != nil {
				return 0, err
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO "+table+" VALUES ($1)", fmt.Sprint(mode, n)); err != nil {
				return 0, err
			}
			if mode == "fails" && n == 1 {
				return 0, errors.New("no")
			}
			return int(n), nil
		}, stint.WithRetries(1))
	})
	working(t, c)
	if got, err := task.Run(t.Context(), "fails"); err != nil || got != 2 {
		t.Fatalf("Run = %d, %v", got, err)
	}
	run := enqueue(t, task, "again")
	output(t, run)
	must[int](t)(c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}))
	if got := output(t, run); got != 3 || runs.Load() != 3 {
		t.Errorf("replayed: %d after %d executions, want 3 and 3", got, runs.Load())
	}
	check := stint.NewTask(c, "check", func(ctx context.Context, _ int) (rows []string, err error) {
		return stint.StepTx(ctx, "read", func(ctx context.Context, tx *sql.Tx) (all []string, err error) {
			r, err := tx.QueryContext(ctx, "SELECT v FROM "+table+" ORDER BY v")
			if err != nil {
				return nil, err
			}
			defer r.Close()
			for r.Next() {
				var v string
				if err := r.Scan(&v); err != nil {
					return nil, err
				}
				all = append(all, v)
			}
			return all, r.Err()
		})
	})
	if rows := runTask(t, check, 0); fmt.Sprint(rows) != "[again3 fails2]" {
		t.Errorf("rows %v", rows)
	}
}

// The journal is readable; a run is restarted, and forked, from a step of it.
func TestJournal(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var a, b atomic.Int64
		task := stint.NewTask(c, "steps", func(ctx context.Context, n int) (int64, error) {
			if _, err := counted(ctx, &a, "a", 1); err != nil {
				return 0, err
			}
			if err := stint.Sleep(ctx, time.Hour); err != nil {
				return 0, err
			}
			_, err := counted(ctx, &b, "b", 2)
			return b.Load(), err
		})
		working(t, c)
		run := enqueue(t, task, 0)
		output(t, run)
		var got []string
		for _, e := range must[[]stint.JournalEntry](t)(c.Journal(t.Context(), run.ID())) {
			got = append(got, fmt.Sprint(e.Address, " ", e.Kind, " ", e.Name, " ", string(e.Output)))
		}
		if want := []string{"1 step a 1", "2 sleep  ", "3 step b 2"}; !slices.Equal(got, want) {
			t.Errorf("journal %q, want %q", got, want)
		}
		if err := c.RestartFrom(t.Context(), run.ID(), "b"); err != nil {
			t.Fatal(err)
		}
		if n := output(t, run); n != 2 || a.Load() != 1 {
			t.Errorf("restarted: %d, and a ran %d times", n, a.Load())
		}
		fork := must[string](t)(c.Fork(t.Context(), run.ID(), "b"))
		if n := output(t, stint.RunByID[int64](c, fork)); n != 3 || a.Load() != 1 {
			t.Errorf("forked: %d, and a ran %d times", n, a.Load())
		}
		for _, err := range []error{c.RestartFrom(t.Context(), run.ID(), "none"), c.RestartFrom(t.Context(), "x", "a")} {
			if !errors.Is(err, stint.ErrNotFound) {
				t.Errorf("restart from nothing: %v", err)
			}
		}
	})
}

// Compensations run last first if the run fails for good or is canceled, wherever it
// is; each once, also when they are cut off; and not if it succeeds or is tried again.
func TestCompensate(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var mu sync.Mutex
		var undone []string
		fails := true
		undo := func(ctx context.Context, name string) {
			stint.Compensate(ctx, name, func(ctx context.Context) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				if name == "b" && fails { // tried again after a second or so
					fails = false
					return errors.New("not yet")
				}
				undone = append(undone, name)
				return nil
			})
		}
		var attempts atomic.Int64
		task := stint.NewTask(c, "saga", func(ctx context.Context, mode string) (int, error) {
			attempts.Add(1)
			for _, name := range []string{"a", "b", "c"} {
				if _, err := stint.Step(ctx, name, func(context.Context) (int, error) { return 1, nil }); err != nil {
					return 0, err
				}
				undo(ctx, name)
			}
			if mode == "wait" {
				return 0, stint.Sleep(ctx, time.Hour)
			}
			if mode == "fail" {
				return 0, errors.New("no")
			}
			return 1, nil
		}, stint.WithRetries(1))
		working(t, c)
		check := func(what, want string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if got := fmt.Sprint(undone); got != want {
				t.Errorf("%s: undone %s, want %s", what, got, want)
			}
			undone, fails = nil, true
		}
		runTask(t, task, "good")
		check("success", "[]")
		if _, err := task.Run(t.Context(), "fail"); err == nil {
			t.Error("did not fail")
		}
		check("failure", "[c b a]")
		for _, after := range []time.Duration{10 * time.Millisecond, time.Minute} {
			run := enqueue(t, task, "wait")
			time.Sleep(after)
			if err := run.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
				t.Errorf("Wait = %v", err)
			}
			check(fmt.Sprint("canceled after ", after), "[c b a]")
		}
	})
}

// Scenario 11: an event that is published while its wait is being registered is never
// lost, with handlers in memory and evicted at every wait.
func TestEventRacesRegistration(t *testing.T) {
	n := 2_000
	if testing.Short() {
		n = 200
	}
	for _, resident := range []int{0, stint.DefaultMaxResident} {
		t.Run(fmt.Sprint("resident ", resident), func(t *testing.T) {
			c := opened(t, stint.WithMaxResident(resident), unsynced())
			task := stint.NewTask(c, "wait", func(ctx context.Context, i int) (int, error) {
				v, err := stint.WaitForEvent[struct{ N int }](ctx, "e", stint.WithMatch("N", i))
				return v.N, err
			})
			working(t, c)
			runs := make(chan *stint.Run[int], n)
			var wg sync.WaitGroup
			for g := range 4 {
				wg.Go(func() {
					for i := g; i < n; i += 4 {
						r, err := task.Enqueue(t.Context(), i)
						if err == nil {
							_, err = c.Publish(t.Context(), "e", map[string]int{"N": i})
						}
						if err != nil {
							t.Error(err)
							return
						}
						runs <- r
					}
				})
			}
			wg.Wait()
			close(runs)
			for r := range runs {
				if _, err := r.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
