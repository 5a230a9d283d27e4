package stint_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// Compensations of branches, and of branches in them, run once each and last first, however
// often the run was evicted, replayed or tried again before; those of the handler itself are
// the control.
func TestCompensationsOfBranches(t *testing.T) {
	type saga func(ctx context.Context, u *undoer, attempt int) error
	in := func(ctx context.Context, f func(ctx context.Context) error) error {
		_, err := stint.Go(ctx, "branch", func(ctx context.Context) (int, error) { return 1, f(ctx) }).Wait(ctx)
		return err
	}
	for name, tt := range map[string]struct {
		saga    saga
		retries int
		want    string
	}{
		"control": {func(ctx context.Context, u *undoer, _ int) error { return u.saga(ctx) }, 0, "c b a"},
		"in a branch of a branch": {func(ctx context.Context, u *undoer, _ int) error {
			return in(ctx, func(ctx context.Context) error {
				return in(ctx, func(ctx context.Context) error { return errors.Join(stint.Sleep(ctx, time.Minute), u.saga(ctx)) })
			})
		}, 0, "c b a"},
		"whose branch looks at its context": {func(ctx context.Context, u *undoer, _ int) error {
			return in(ctx, func(ctx context.Context) error {
				return errors.Join(stint.Sleep(ctx, time.Minute), ctx.Err(), u.saga(ctx), ctx.Err())
			})
		}, 0, "c b a"},
		"before, in and after a branch": {func(ctx context.Context, u *undoer, _ int) error {
			u.add(ctx, "a")
			err := in(ctx, func(ctx context.Context) error {
				u.add(ctx, "b")
				return stint.Sleep(ctx, time.Minute)
			})
			u.add(ctx, "c")
			return err
		}, 0, "c b a"},
		"beside a branch that fails first": {func(ctx context.Context, u *undoer, attempt int) error {
			bad := stint.Go(ctx, "bad", func(ctx context.Context) (int, error) {
				if err := stint.Sleep(ctx, time.Minute); err != nil || attempt > 1 {
					return 0, err
				}
				return 0, errors.New("bad")
			})
			good := stint.Go(ctx, "good", func(ctx context.Context) (int, error) { return 1, u.saga(ctx) })
			_, err := stint.All(ctx, good, bad)
			return err
		}, 1, "c b a"},
	} {
		t.Run(name, func(t *testing.T) {
			durably(t, func(t *testing.T, c *stint.Client) {
				var u undoer
				task := stint.NewTask(c, "saga", func(ctx context.Context, _ int) (int, error) {
					info, _ := stint.Info(ctx)
					if err := tt.saga(ctx, &u, info.Attempt); err != nil {
						return 0, err
					}
					return 0, stint.Sleep(ctx, time.Hour)
				}, stint.WithRetries(tt.retries))
				stop := working(t, c)
				run := enqueue(t, task, 1)
				for i := range 3 { // the second and third after a replay
					<-time.After(3 * time.Minute)
					stop()
					stop = working(t, c) // so it replays, in every mode
					<-time.After(time.Second)
					if err := run.Cancel(t.Context()); err != nil {
						t.Fatal(err)
					}
					canceledWith(t, run)
					if got := u.took(); got != tt.want {
						t.Errorf("cancel %d: undone %q, want %q", i, got, tt.want)
					}
					must[int](t)(c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}))
				}
			})
		})
	}
}

// Each cancel of a run ends the context of its handler, also after a replay by the same worker.
func TestCancelAfterReplay(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) { return 0, pauseFor(ctx, time.Hour) })
		working(t, c)
		run := enqueue(t, task, 1)
		for range 3 {
			<-time.After(time.Minute)
			began := time.Now()
			if err := run.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
			canceledWith(t, run)
			if now := time.Now(); !now.Equal(began) {
				t.Errorf("it ended %v after its cancel", now.Sub(began))
			}
			must[int](t)(c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}))
		}
	})
}

// A child that was canceled with its parent runs anew when that is replayed, also if it still
// cleans up then.
func TestReplayWhileAChildCleansUp(t *testing.T) {
	for _, cleaning := range []time.Duration{0, 10 * time.Minute} {
		durably(t, func(t *testing.T, c *stint.Client) {
			var u undoer
			u.hold(func(ctx context.Context, _ string) error { return pauseFor(ctx, cleaning) })
			child := stint.NewTask(c, "child", func(ctx context.Context, n int) (int, error) {
				u.add(ctx, "child")
				return n, stint.Sleep(ctx, time.Hour)
			})
			parent := stint.NewTask(c, "parent", func(ctx context.Context, n int) (int, error) { return child.Run(ctx, n) })
			working(t, c)
			run := enqueue(t, parent, 7)
			<-time.After(time.Minute)
			if err := run.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
			canceledWith(t, run)
			must[int](t)(c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}))
			if got, err := run.Wait(t.Context()); got != 7 || err != nil || u.took() != "child" {
				t.Errorf("cleaning for %v: %d, %v", cleaning, got, err)
			}
		})
	}
}

// A new attempt runs those branches anew that failed, also where nobody had met their failure.
func TestNewAttemptOfFailedBranches(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var mu sync.Mutex
		tries := map[string]int{} // locked by mu: the branches of a new attempt run side by side
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			var fs []*stint.Future[int]
			for _, name := range []string{"a", "b", "c"} {
				fs = append(fs, stint.Go(ctx, name, func(ctx context.Context) (int, error) {
					return stint.Step(ctx, name, func(context.Context) (int, error) {
						mu.Lock()
						defer mu.Unlock()
						if tries[name]++; tries[name] == 1 && name != "a" {
							return 0, errors.New(name)
						}
						return 1, nil
					})
				}))
				if err := stint.Sleep(ctx, time.Minute); err != nil { // one after another
					return 0, err
				}
			}
			_, err := stint.All(ctx, fs...)
			return 0, err
		}, stint.WithRetries(1))
		working(t, c)
		run := enqueue(t, task, 1)
		if _, err := run.Wait(t.Context()); err != nil || tries["a"] != 1 || tries["b"] != 2 || tries["c"] != 2 {
			t.Errorf("%v, steps ran %v", err, tries)
		}
	})
}

// A worker that stops while one branch is in a step and another waits gives the run back: the
// step goes on elsewhere at once, and not when the wait is over.
func TestDrainWithABranchInAStep(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			slow := stint.Go(ctx, "slow", func(ctx context.Context) (int, error) {
				return stint.Step(ctx, "slow", func(ctx context.Context) (int, error) { return 1, pauseFor(ctx, time.Minute) })
			})
			asleep := stint.Go(ctx, "asleep", func(ctx context.Context) (int, error) { return 1, stint.Sleep(context.WithoutCancel(ctx), time.Hour) })
			if _, err := slow.Wait(context.WithoutCancel(ctx)); err != nil {
				return 0, err
			}
			done := stint.Now(ctx)
			_, err := asleep.Wait(ctx)
			return int(done.Unix()), err
		})
		stop := working(t, c, stint.WithDrainTimeout(0))
		began := time.Now()
		run := enqueue(t, task, 1)
		<-time.After(30 * time.Second)
		stop()
		working(t, c)
		done, err := run.Wait(t.Context())
		if after := time.Unix(int64(done), 0).Sub(began); err != nil || after > 2*time.Minute {
			t.Errorf("%v, the step was done after %v, want a minute and a half", err, after)
		}
	})
}

// RestartFrom runs all anew that follows the step, also branches that had not ended, and what
// stands before it stays.
func TestRestartForgetsOpenBranches(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var ran []string
		step := func(ctx context.Context, name string) error {
			_, err := stint.Step(ctx, name, func(context.Context) (int, error) { ran = append(ran, name); return 1, nil })
			return err
		}
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			f := stint.Go(ctx, "before", func(ctx context.Context) (int, error) {
				return 1, errors.Join(step(ctx, "a"), stint.Sleep(ctx, time.Hour))
			})
			if err := errors.Join(stint.Sleep(ctx, time.Minute), step(ctx, "b")); err != nil {
				return 0, err
			}
			after := stint.Go(ctx, "after", func(ctx context.Context) (int, error) {
				return 1, errors.Join(step(ctx, "c"), stint.Sleep(ctx, time.Hour))
			})
			_, err := stint.All(ctx, f, after)
			return 1, err
		})
		working(t, c)
		run := enqueue(t, task, 1)
		<-time.After(10 * time.Minute)
		if err := run.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		canceledWith(t, run)
		if err := c.RestartFrom(t.Context(), run.ID(), "b"); err != nil {
			t.Fatal(err)
		}
		if _, err := run.Wait(t.Context()); err != nil || strings.Join(ran, " ") != "a b c b c" {
			t.Errorf("%v, steps ran: %v, want a b c, and b c anew", err, ran)
		}
	})
}
