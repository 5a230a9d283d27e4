package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// An execution that waits stays in memory as long as its task says, with its slots or without.
func TestLinger(t *testing.T) {
	for _, tt := range []struct {
		opts  []stint.TaskOption
		after time.Duration // the event comes
		execs int
		other bool // another run starts meanwhile, on the only slot
	}{
		{nil, 500 * time.Millisecond, 1, true},
		{nil, 5 * time.Second, 2, true},
		{[]stint.TaskOption{stint.WithLinger(0)}, 500 * time.Millisecond, 2, true},
		{[]stint.TaskOption{stint.WithLinger(time.Hour)}, 50 * time.Minute, 1, true},
		{[]stint.TaskOption{stint.WithLinger(time.Hour)}, 70 * time.Minute, 2, true},
		{[]stint.TaskOption{stint.WithLinger(time.Hour), stint.WithHeldSlots()}, 50 * time.Minute, 1, false},
		{[]stint.TaskOption{stint.WithLinger(10 * time.Second), stint.WithHeldSlots()}, time.Minute, 2, true},
	} {
		t.Run(fmt.Sprint(len(tt.opts), " ", tt.after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := openedAt(t, ":memory:")
				task := stint.NewTask(c, "wait", func(ctx context.Context, _ int) (int, error) {
					return stint.WaitForEvent[int](ctx, "e")
				}, tt.opts...)
				var ran atomic.Bool
				other := stint.NewTask(c, "other", func(context.Context, int) (int, error) { ran.Store(true); return 0, nil })
				run := enqueue(t, task, 0)
				working(t, c, stint.WithSlots(1))
				synctest.Wait()
				enqueue(t, other, 0)
				time.Sleep(tt.after)
				synctest.Wait()
				if ran.Load() != tt.other {
					t.Errorf("another run started: %v, want %v", ran.Load(), tt.other)
				}
				publish(t, c, "e", 7)
				if got := output(t, run); got != 7 {
					t.Errorf("got %d", got)
				}
				if info := infoOf(t, run); info.Executions != tt.execs {
					t.Errorf("%d executions, want %d", info.Executions, tt.execs)
				}
			})
		})
	}
}

// Suspend leaves memory at once, and the handler comes back for whatever it waits for.
func TestSuspend(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var passes atomic.Int64
		child := stint.NewTask(c, "child", func(ctx context.Context, n int) (int, error) { return n, stint.Sleep(ctx, time.Hour) })
		task := stint.NewTask(c, "wait", func(ctx context.Context, _ int) (string, error) {
			if err := stint.Suspend(ctx); !errors.Is(err, stint.ErrDurable) {
				return "", fmt.Errorf("nothing to wait for: %w", err)
			}
			run, err := child.Enqueue(ctx, 3)
			if err != nil {
				return "", err
			}
			sleep, err := stint.StartWait(ctx, stint.SleepFor(time.Minute))
			if err != nil {
				return "", err
			}
			event, err := stint.StartWait(ctx, stint.UserEvent("e"), stint.WithWaitTimeout(5*time.Hour))
			if err != nil {
				return "", err
			}
			branch := stint.Go(ctx, "b", func(ctx context.Context) (int, error) { return 4, stint.Sleep(ctx, 3*time.Hour) })
			pass, children := passes.Add(1), []string{run.ID()}
			if pass == 3 {
				children = nil // it has ended
			}
			if pass <= 3 { // the sleep, the child and the branch end them
				select {
				case <-sleep.Done():
					_, err := sleep.Wait(ctx)
					return "", errors.Join(err, stint.Suspend(ctx, children...))
				default:
				}
				return "", stint.Suspend(ctx, children...)
			}
			i, fired, err := stint.Any(ctx, event, sleep)
			if err != nil {
				return "", err
			}
			n, err := branch.Wait(ctx)
			if err != nil {
				return "", err
			}
			_, err = event.Wait(ctx)
			return fmt.Sprint(i, len(fired), n, errors.Is(err, stint.ErrTimeout)), nil
		}, stint.WithLinger(100*time.Hour))
		run := enqueue(t, task, 0)
		working(t, c)
		for _, step := range []struct {
			after  time.Duration
			passes int64
		}{{30 * time.Second, 1}, {time.Minute, 2}, {time.Hour, 3}, {90 * time.Minute, 3}, {time.Hour, 4}} {
			time.Sleep(step.after)
			synctest.Wait()
			if n := passes.Load(); n != step.passes {
				t.Fatalf("%d passes, want %d", n, step.passes)
			}
		}
		if got := output(t, run); got != "1 1 4 true" {
			t.Errorf("got %s", got)
		}
		if err := stint.Suspend(t.Context()); !errors.Is(err, stint.ErrDurable) {
			t.Errorf("outside of a run: %v", err)
		}
	})
}

// A run that waits is woken: its handler runs again, and waits on.
func TestWakeRun(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var passes atomic.Int64
		task := stint.NewTask(c, "wait", func(ctx context.Context, _ int) (int64, error) {
			passes.Add(1)
			if err := stint.Sleep(ctx, time.Hour); err != nil {
				return 0, err
			}
			return passes.Load(), nil
		}, stint.WithLinger(0))
		run := enqueue(t, task, 0)
		if err := c.WakeRun(t.Context(), run.ID()); !errors.Is(err, stint.ErrNotFound) {
			t.Errorf("a run that has not started was woken: %v", err)
		}
		working(t, c)
		synctest.Wait()
		began := time.Now()
		if err := c.WakeRun(t.Context(), run.ID()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := passes.Load(); n != 2 {
			t.Errorf("%d passes, want 2", n)
		}
		if n := output(t, run); n != 3 || time.Since(began) > time.Hour+time.Second {
			t.Errorf("it ended in pass %d, after %v", n, time.Since(began))
		}
		if err := c.WakeRun(t.Context(), run.ID()); !errors.Is(err, stint.ErrNotFound) {
			t.Errorf("a run that has ended was woken: %v", err)
		}
	})
}

// A run may end, and be canceled, while waits are open.
func TestStartWaitLeft(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "wait", func(ctx context.Context, stay bool) (int, error) {
			f, err := stint.StartWait(ctx, stint.UserEvent("never"))
			if err == nil && stay {
				_, err = f.Wait(ctx)
			}
			return 7, err
		})
		left, canceled := enqueue(t, task, false), enqueue(t, task, true)
		working(t, c)
		if got := output(t, left); got != 7 {
			t.Errorf("got %d", got)
		}
		time.Sleep(time.Minute)
		if err := canceled.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := canceled.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("a canceled run: %v", err)
		}
		if _, err := stint.StartWait(t.Context(), stint.SleepFor(1)); !errors.Is(err, stint.ErrDurable) {
			t.Errorf("outside of a run: %v", err)
		}
	})
}

// Peek says what the next call has recorded, and changes nothing.
func TestPeek(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var passes [2][]string
		var pass atomic.Int64
		task := stint.NewTask(c, "peek", func(ctx context.Context, _ int) (int, error) {
			p := pass.Add(1) - 1
			peek := func(ctx context.Context) {
				e, ok := stint.Peek(ctx)
				passes[p] = append(passes[p], fmt.Sprintf("%v %s %s %q %v %s", ok, e.Address, e.Kind, e.Name, e.Done, e.Output))
			}
			peek(ctx)
			peek(ctx)
			_, err := stint.Step(ctx, "s", func(ctx context.Context) (int, error) { peek(ctx); return 3, nil })
			if err != nil {
				return 0, err
			}
			peek(ctx)
			b := stint.Go(ctx, "b", func(ctx context.Context) (int, error) {
				if err := stint.Sleep(ctx, time.Minute); err != nil {
					return 0, err
				}
				peek(ctx)
				return 0, stint.Sleep(ctx, time.Hour)
			})
			if p == 1 {
				peek(ctx)
			}
			return b.Wait(ctx)
		})
		run := enqueue(t, task, 0)
		working(t, c)
		time.Sleep(10 * time.Second)
		if err := c.RestartAt(t.Context(), run.ID(), "1"); !errors.Is(err, stint.ErrNotFound) {
			t.Errorf("a restart of a run that goes on: %v", err)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for p, want := range [][]string{
			{`false   "" false `, `false   "" false `, `false   "" false `, `false   "" false `},
			{`true 1 step "s" true 3`, `true 1 step "s" true 3`, `true 2 branch "" false `, `false   "" false `, `false   "" false `},
		} {
			if got := passes[p]; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("pass %d: %q, want %q", p+1, got, want)
			}
		}
		if _, ok := stint.Peek(t.Context()); ok {
			t.Error("there is a journal outside of a run")
		}
		if err := run.Cancel(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A step that StartStep has begun stays open until it is completed, also in another pass; the first result stays.
func TestStartStep(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var pass atomic.Int64
		task := stint.NewTask(c, "open", func(ctx context.Context, _ int) (string, error) {
			s, err := stint.StartStep(ctx, "s")
			if err != nil {
				return "", err
			}
			had, ok := s.Result()
			if pass.Add(1) == 2 {
				if err := s.Complete(ctx, json.RawMessage("{")); err == nil {
					return "", errors.New("a result that is not JSON is taken")
				}
				done := make(chan error)
				go func() {
					done <- errors.Join(s.Complete(ctx, json.RawMessage("7")), s.Complete(ctx, json.RawMessage("8")))
				}()
				if err := <-done; err != nil {
					return "", err
				}
				if got, ok := s.Result(); string(got) != "7" || !ok {
					return "", fmt.Errorf("it is %s, %v", got, ok)
				}
			}
			return fmt.Sprint(string(had), ok), stint.Sleep(ctx, time.Duration(pass.Load())*time.Minute)
		}, stint.WithLinger(0))
		run := enqueue(t, task, 0)
		working(t, c)
		time.Sleep(10 * time.Second)
		if _, err := stint.StartStep(t.Context(), "s"); !errors.Is(err, stint.ErrDurable) {
			t.Errorf("outside of a run: %v", err)
		}
		if got := output(t, run); got != "false" {
			t.Errorf("got %s", got)
		}
		if err := c.RestartAt(t.Context(), run.ID(), "2"); err != nil {
			t.Fatal(err)
		}
		if got := output(t, run); got != "7true" || pass.Load() < 3 {
			t.Errorf("got %s in pass %d", got, pass.Load())
		}
		for _, at := range []string{"", "0", "x", "3/1", "1/on/1", "undo/1"} {
			if err := c.RestartAt(t.Context(), run.ID(), at); err == nil {
				t.Errorf("a restart at %q is no error", at)
			}
		}
		if err := c.RestartAt(t.Context(), run.ID(), "1"); err != nil {
			t.Fatal(err)
		}
		if got := output(t, run); got != "false" {
			t.Errorf("after a restart at the step: %s", got)
		}
	})
}
