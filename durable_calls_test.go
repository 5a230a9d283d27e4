package stint_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
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

// txDatabase returns the app's own connections to a client's file.
func txDatabase(t *testing.T) (*stint.Client, *sql.DB) {
	path := filepath.Join(t.TempDir(), "test.db")
	c := openedAt(t, path)
	return c, app(t, path)
}

// A handler may enqueue and publish in a transaction of the app. It may not wait for such a run: it would enqueue another one after
// the wait.
func TestWithTxInAHandler(t *testing.T) {
	c, db := txDatabase(t)
	child := stint.NewTask(c, "child", double)
	calls := map[string]func(context.Context, *sql.Tx) (wait func() error, err error){
		"Enqueue": func(ctx context.Context, tx *sql.Tx) (func() error, error) {
			run, err := child.Enqueue(ctx, 1, stint.WithTx(tx))
			return func() error { return errOf(run.Wait(ctx)) }, err
		},
		"EnqueueMany": func(ctx context.Context, tx *sql.Tx) (func() error, error) {
			runs, err := child.EnqueueMany(ctx, []int{1, 2}, stint.WithTx(tx))
			return func() error { return errOf(runs[1].Wait(ctx)) }, err
		},
		"EnqueueJSON": func(ctx context.Context, tx *sql.Tx) (func() error, error) {
			run, err := c.EnqueueJSON(ctx, "child", json.RawMessage("1"), stint.WithTx(tx))
			return func() error { return errOf(run.Wait(ctx)) }, err
		},
		"Publish": func(ctx context.Context, tx *sql.Tx) (func() error, error) {
			_, err := c.Publish(ctx, "e", 1, stint.WithTx(tx))
			return func() error { return stint.ErrDurable }, err
		},
	}
	inTx := func(ctx context.Context, name string) (wait func() error, err error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return nil, err
		}
		defer tx.Rollback()
		if wait, err = calls[name](ctx, tx); err != nil {
			return nil, err
		}
		return wait, tx.Commit()
	}
	task := stint.NewTask(c, "t", func(ctx context.Context, name string) (string, error) {
		wait, err := inTx(ctx, name)
		if err != nil {
			return "", err
		}
		waited := wait()
		_, step := stint.Step(ctx, "s", func(ctx context.Context) (int, error) { return 0, errOf(inTx(ctx, name)) })
		_, stepTx := stint.StepTx(ctx, "tx", func(ctx context.Context, tx *sql.Tx) (int, error) { return 0, errOf(calls[name](ctx, tx)) })
		return fmt.Sprint(errors.Is(waited, stint.ErrDurable), step, stepTx), nil
	})
	working(t, c)
	for name := range calls {
		if got, err := task.Run(t.Context(), name); err != nil || got != "true <nil> <nil>" {
			t.Errorf("%s WithTx: the wait is refused, in a step, in StepTx: %s, %v", name, got, err)
		}
	}
	if n := len(listRuns(t, c, stint.RunFilter{Tasks: []string{"child"}}).Runs); n != 3*(1+2+1) {
		t.Errorf("%d children, want 12", n)
	}
}

// What a step starts is not started anew by its next try.
func TestEnqueueInAStep(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		child := stint.NewTask(c, "child", double)
		flow := stint.NewWorkflow[int](c, "flow")
		stint.AddTask(flow, "a", double)
		refused := map[string]func(context.Context) error{
			"Run":         func(ctx context.Context) error { return errOf(child.Run(ctx, 1)) },
			"Enqueue":     func(ctx context.Context) error { return errOf(child.Enqueue(ctx, 1)) },
			"EnqueueMany": func(ctx context.Context) error { return errOf(child.EnqueueMany(ctx, []int{1, 2})) },
			"Schedule":    func(ctx context.Context) error { return errOf(child.Schedule(ctx, time.Now(), 1)) },
			"EnqueueJSON": func(ctx context.Context) error { return errOf(c.EnqueueJSON(ctx, "child", json.RawMessage("1"))) },
			"EnqueueJSONMany": func(ctx context.Context) error {
				keyed := stint.JSONRun{Task: "child", Input: json.RawMessage("1"), Options: []stint.RunOption{stint.WithChildKey("j")}}
				return errOf(c.EnqueueJSONMany(ctx, []stint.JSONRun{keyed, {Task: "child", Input: json.RawMessage("1")}}))
			},
			"a workflow": func(ctx context.Context) error { return errOf(flow.Enqueue(ctx, 1)) },
		}
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			tries := 0
			return stint.Step(ctx, "s", func(ctx context.Context) (int, error) {
				for name, call := range refused {
					if err := call(ctx); !errors.Is(err, stint.ErrDurable) {
						t.Errorf("%s in a step: %v, want ErrDurable", name, err)
					}
				}
				n, err := child.Run(ctx, 5, stint.WithChildKey("k"))
				if err == nil {
					_, err = child.Enqueue(ctx, 5, stint.WithIdempotencyKey("i", time.Hour))
				}
				if tries++; err == nil && tries == 1 {
					err = errors.New("the first try")
				}
				return n, err
			}, stint.WithRetries(1))
		})
		working(t, c)
		if n, err := task.Run(t.Context(), 0); err != nil || n != 10 {
			t.Errorf("Run = %d, %v", n, err)
		}
		if n := len(listRuns(t, c, stint.RunFilter{Tasks: []string{"child", "flow"}}).Runs); n != 2 {
			t.Errorf("%d runs, want 2", n)
		}
	})
}

// A compensation that would be lost is refused, and fails the step for good.
func TestCompensateMistakes(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		tries := 0
		undo := func(context.Context) error { return nil }
		inStep := stint.NewTask(c, "in a step", func(ctx context.Context, _ int) (int, error) {
			return stint.Step(ctx, "book", func(ctx context.Context) (int, error) {
				tries++
				stint.Compensate(ctx, "cancel", undo)
				return 1, nil
			}, stint.WithRetries(3))
		}, stint.WithRetries(3))
		none := stint.NewTask(c, "nil", func(ctx context.Context, _ int) (int, error) {
			stint.Compensate(ctx, "cancel", nil)
			return 1, nil
		}, stint.WithRetries(3))
		working(t, c)
		if _, err := inStep.Run(t.Context(), 0); !errors.Is(err, stint.ErrDurable) || tries != 1 {
			t.Errorf("Compensate in a step: %v after %d tries, want ErrDurable after 1", err, tries)
		}
		if _, err := none.Run(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "nil function") {
			t.Errorf("Compensate without a function: %v", err)
		}
	})
}

// A compensation may enqueue.
func TestEnqueueInACompensation(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		refund := stint.NewTask(c, "refund", double)
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			stint.Compensate(ctx, "refund", func(ctx context.Context) error { return errOf(refund.Enqueue(ctx, 1)) })
			return 0, stint.NonRetryable(errors.New("no"))
		})
		working(t, c)
		if _, err := task.Run(t.Context(), 0); err == nil {
			t.Error("succeeded")
		}
		if n := len(listRuns(t, c, stint.RunFilter{Tasks: []string{"refund"}}).Runs); n != 1 {
			t.Errorf("%d refunds, want 1", n)
		}
	})
}

// What a handler publishes is published once, however often the handler runs.
func TestPublishInAHandler(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (bool, error) {
			a, err := c.Publish(ctx, "a", 1)
			if err != nil {
				return false, err
			}
			if err := stint.Sleep(ctx, time.Hour); err != nil {
				return false, err
			}
			ids, err := c.PublishMany(ctx, []stint.Event{{Key: "b", Payload: 1}, {Key: "c", Payload: 2}})
			if err != nil {
				return false, err
			}
			_, err = stint.Step(ctx, "fails", func(context.Context) (int, error) {
				if info, _ := stint.Info(ctx); info.Attempt == 1 {
					return 0, errors.New("no")
				}
				return 1, nil
			})
			if err != nil {
				return false, err
			}
			if err := stint.Sleep(ctx, time.Hour); err != nil {
				return false, err
			}
			again, err := c.Publish(ctx, "a", 2)
			return a != again && len(ids) == 2 && ids[0] != ids[1], err
		}, stint.WithRetries(1))
		working(t, c)
		run := enqueue(t, task, 0)
		if !output(t, run) {
			t.Error("an event of two calls has one ID")
		}
		page, err := c.ListEvents(t.Context(), stint.EventFilter{})
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for i := range page.Events {
			keys = append(keys, page.Events[i].Key)
		}
		if want := []string{"a", "c", "b", "a"}; !slices.Equal(keys, want) {
			t.Errorf("events %q, want %q", keys, want)
		}
		journal, err := c.Journal(t.Context(), run.ID())
		if err != nil {
			t.Fatal(err)
		}
		if e := journal[2]; e.Kind != "publish" || e.Name != "b,c" || !strings.Contains(string(e.Output), page.Events[1].ID) {
			t.Errorf("entry 3 is %v %q %s", e.Kind, e.Name, e.Output)
		}
		if doc, err := c.ExportJournal(t.Context(), run.ID()); err != nil {
			t.Error(err)
		} else if err := stint.ReplayJournal(t.Context(), doc, func(ctx context.Context, _ int) (bool, error) {
			return false, errOf(c.Publish(ctx, "other", 1))
		}); !errors.Is(err, stint.ErrDiverged) {
			t.Errorf("code that publishes another event: %v, want ErrDiverged", err)
		}
		fork := stint.RunByID[bool](c, must[string](t)(c.Fork(t.Context(), run.ID(), "fails")))
		output(t, fork)
		if page, err = c.ListEvents(t.Context(), stint.EventFilter{}); err != nil || len(page.Events) != 5 {
			t.Errorf("%d events after the fork, want 5: %v", len(page.Events), err)
		}
	})
}

// A run that an event of another type has blocked goes on with code that reads any payload.
func TestBadEventWayOut(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var mended atomic.Bool
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (by int, err error) {
			if !mended.Load() {
				return stint.WaitForEvent[int](ctx, "e")
			}
			for {
				raw, err := stint.WaitForEvent[json.RawMessage](ctx, "e")
				if err != nil {
					return 0, err
				}
				if json.Unmarshal(raw, &by) == nil {
					return by, nil
				}
			}
		})
		working(t, c)
		run := enqueue(t, task, 0)
		publish(t, c, "e", "no number")
		infoWhen(t, c, run.ID(), stint.StateBlocked)
		mended.Store(true)
		if n, err := c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		publish(t, c, "e", 7)
		if n := output(t, run); n != 7 {
			t.Errorf("%d, want 7", n)
		}
	})
}
