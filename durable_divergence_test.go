package stint_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// Code that does not match a run's journal is noticed before it does anything, also where
// what it leaves out had not ended, or where it fails before it comes to it; the run is
// blocked, and names the line.
func TestDivergenceIsNoticed(t *testing.T) {
	type code = func(ctx context.Context, n *atomic.Int64) error
	seq := func(all ...code) code {
		return func(ctx context.Context, n *atomic.Int64) error {
			for _, f := range all {
				if err := f(ctx, n); err != nil {
					return err
				}
			}
			return nil
		}
	}
	step := func(name string) code {
		return func(ctx context.Context, n *atomic.Int64) error { _, err := counted(ctx, n, name, 1); return err }
	}
	sleep := func(ctx context.Context, _ *atomic.Int64) error { return stint.Sleep(ctx, time.Hour) }
	branch := func(f code) code { // is left behind
		return func(ctx context.Context, n *atomic.Int64) error {
			stint.Go(ctx, "b", func(ctx context.Context) (int, error) { return 1, f(ctx, n) })
			return nil
		}
	}
	joined := func(f code) code {
		return func(ctx context.Context, n *atomic.Int64) error {
			_, err := stint.Go(ctx, "b", func(ctx context.Context) (int, error) { return 1, f(ctx, n) }).Wait(ctx)
			return err
		}
	}
	fails := func(context.Context, *atomic.Int64) error { return errors.New("bad input") }
	panics := func(context.Context, *atomic.Int64) error { panic("bad input") }
	many := func(n int) code {
		return func(ctx context.Context, _ *atomic.Int64) error {
			_, err := stint.RunByID[int](nil, "").Info(ctx) // not a durable call
			if err == nil {
				return errors.New("no error")
			}
			info, _ := stint.Info(ctx)
			_, err = noops[info.ID].EnqueueMany(ctx, make([]int, n))
			return err
		}
	}
	for name, tc := range map[string]struct {
		before, after code
		want          string // in RunInfo.Blocked; "": it goes on
		line          bool   // of the call; else of the function that returned
	}{
		"a branch that had not ended, now a step": {seq(branch(sleep), sleep), seq(step("x"), sleep), `entry 1 is branch, the code asks for step "x"`, true},
		"a nested one":                                  {branch(branch(branch(sleep))), branch(branch(step("x"))), `entry 1/1/1 is branch, the code asks for step "x"`, true},
		"a nested one, now a sleep":                     {branch(branch(sleep)), branch(sleep), `entry 1/1 is branch, the code asks for sleep`, true},
		"a branch that had not ended, left out":         {seq(branch(sleep), sleep), seq(), `entry 2 is sleep, the code asks for return`, false},
		"fails early":                                   {seq(step("a"), sleep), fails, `entry 1 is step "a", the code asks for return`, false},
		"fails in the middle":                           {seq(step("a"), sleep), seq(step("a"), fails), `entry 2 is sleep, the code asks for return`, false},
		"panics early":                                  {seq(step("a"), sleep), panics, `entry 1 is step "a", the code asks for return`, false},
		"a branch fails early":                          {joined(seq(step("a"), sleep)), joined(fails), `entry 1/1 is step "a", the code asks for return`, false},
		"a branch panics early":                         {joined(seq(step("a"), sleep)), joined(panics), `entry 1/1 is step "a", the code asks for return`, false},
		"fewer children":                                {seq(many(3), sleep), seq(many(2), sleep), `entry 1 is child "noop", 3 runs of it, the code asks for child "noop", 2 runs of it`, true},
		"control: a branch that had not ended, changed": {seq(branch(seq(sleep, sleep)), sleep), seq(branch(seq(sleep, sleep, step("x"))), sleep), "", false},
		"control: fails where it had waited":            {sleep, seq(sleep, fails), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "d.db")
				var id string
				for pass, do := range []code{tc.before, tc.after} {
					c := openedAt(t, path)
					var n, undone atomic.Int64
					noop := stint.NewTask(c, "noop", func(context.Context, int) (int, error) { return 1, nil })
					task := stint.NewTask(c, "task", func(ctx context.Context, _ int) (int, error) {
						stint.Compensate(ctx, "undo", func(context.Context) error { undone.Add(1); return nil })
						return 1, do(ctx, &n)
					})
					if pass == 0 {
						id = enqueue(t, task, 0).ID()
					}
					noops = map[string]*stint.Task[int, int]{id: noop}
					working(t, c)
					time.Sleep(time.Minute)
					if pass == 1 {
						time.Sleep(3 * time.Hour)
						info := getRun(t, c, id)
						switch d := info.Divergence; {
						case tc.want == "" && !info.State.Terminal():
							t.Errorf("the run is %v by %q", info.State, info.Blocked)
						case tc.want == "":
						case info.State != stint.StateBlocked || !strings.Contains(info.Blocked, tc.want) || n.Load() != 0 || undone.Load() != 0:
							t.Errorf("the run is %v by %q (%s) after %d steps and %d compensations, want %q", info.State, info.Blocked, info.Error, n.Load(), undone.Load(), tc.want)
						case d == nil || !strings.HasSuffix(d.File, "_test.go") || d.Line == 0 || !strings.Contains(info.Blocked, fmt.Sprintf("(%s:%d)", d.File, d.Line)):
							t.Errorf("the divergence is %+v, of %q", d, info.Blocked)
						}
					}
					c.Close()
				}
			})
		})
	}
}

var noops map[string]*stint.Task[int, int] // of the run with that ID

// While attempts are left a run that fails early is tried again, since what made it fail
// may pass.
func TestEarlyFailureIsRetried(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var passes, steps atomic.Int64
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			if passes.Add(1) == 2 {
				return 0, errors.New("the network is down")
			}
			if _, err := counted(ctx, &steps, "a", 1); err != nil {
				return 0, err
			}
			return 1, stint.Sleep(ctx, time.Hour)
		}, stint.WithRetries(1))
		stop := working(t, c)
		run := enqueue(t, task, 0)
		time.Sleep(time.Minute)
		stop()
		working(t, c)
		if got, err := run.Wait(t.Context()); err != nil || got != 1 || steps.Load() != 1 {
			t.Errorf("Wait = %d, %v after %d steps", got, err, steps.Load())
		}
	})
}

// A blocked run goes on with code that matches: what failed early was not kept.
func TestBlockedByEarlyFailureGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "d.db")
		var id string
		for pass := range 3 {
			c := openedAt(t, path)
			task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
				return stint.Go(ctx, "b", func(ctx context.Context) (int, error) {
					if pass == 1 {
						return 0, errors.New("bad input")
					}
					return 1, stint.Sleep(ctx, time.Hour)
				}).Wait(ctx)
			})
			if pass == 0 {
				id = enqueue(t, task, 0).ID()
			}
			if pass == 2 {
				must[int](t)(c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{id}}))
			}
			working(t, c)
			time.Sleep(time.Minute)
			if pass == 1 {
				time.Sleep(2 * time.Hour)
			}
			if pass == 2 {
				if got, err := stint.RunByID[int](c, id).Wait(t.Context()); err != nil || got != 1 {
					t.Errorf("Wait = %d, %v", got, err)
				}
			}
			c.Close()
		}
	})
}

// A branch that another left behind is not lost when that has ended.
func TestNestedBranchLeftBehind(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var inner, outer atomic.Int64
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			_, err := stint.Go(ctx, "outer", func(ctx context.Context) (int, error) {
				stint.Go(ctx, "inner", func(ctx context.Context) (int, error) {
					if err := stint.Sleep(ctx, time.Hour); err != nil {
						return 0, err
					}
					return counted(ctx, &inner, "late", 1)
				})
				return counted(ctx, &outer, "soon", 1)
			}).Wait(ctx)
			return 1, err
		})
		working(t, c)
		if got, err := task.Run(t.Context(), 0); err != nil || got != 1 || inner.Load() != 1 || outer.Load() != 1 {
			t.Errorf("Run = %d, %v; the step left behind ran %d times, the other %d", got, err, inner.Load(), outer.Load())
		}
	})
}
