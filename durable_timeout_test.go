package stint_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// What a step returns after its timeout is refused, though it ignores its context, and
// counts as a try; what it returns in time is taken.
func TestStepTimeoutIsFirm(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		for name, in := range map[string]func(context.Context, func(context.Context) (int, error)) (int, error){
			"step": func(ctx context.Context, f func(context.Context) (int, error)) (int, error) { return f(ctx) },
			"branch": func(ctx context.Context, f func(context.Context) (int, error)) (int, error) {
				return stint.Go(ctx, "b", f).Wait(ctx)
			},
		} {
			for _, tt := range []struct {
				takes   []time.Duration // each try
				want    string
				retries int
			}{
				{[]time.Duration{50 * time.Millisecond}, "1 false", 0}, // in time
				{[]time.Duration{10 * time.Second}, "0 true", 0},
				{[]time.Duration{10 * time.Second, 50 * time.Millisecond}, "2 false", 1},
				{[]time.Duration{10 * time.Second, 10 * time.Second}, "0 true", 1},
			} {
				var tries atomic.Int64
				task := stint.NewTask(c, fmt.Sprint(name, tt.takes), func(ctx context.Context, _ int) (string, error) {
					n, err := in(ctx, func(ctx context.Context) (int, error) {
						return stint.Step(ctx, "s", func(context.Context) (int, error) {
							n := tries.Add(1)
							<-time.After(tt.takes[n-1]) // ignores its context
							return int(n), nil
						}, stint.WithTimeout(100*time.Millisecond), stint.WithRetries(tt.retries))
					})
					if serr := stint.Sleep(ctx, time.Hour); serr != nil {
						return "", serr
					}
					return fmt.Sprint(n, errors.Is(err, stint.ErrTimeout)), nil
				})
				stop := working(t, c)
				if got := runTask(t, task, 0); got != tt.want || int(tries.Load()) != len(tt.takes) {
					t.Errorf("%s that takes %v: %q after %d tries, want %q after %d", name, tt.takes, got, tries.Load(), tt.want, len(tt.takes))
				}
				stop()
			}
		}
	})
}

// What a step does after its timeout is ErrTimeout, and what it is else: an error that it
// returns, or its panic. What it does in time is that alone.
func TestStepFailsLate(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		for name, ends := range map[string]func() error{
			"error": func() error { return &declined{7, "late"} },
			"panic": func() error { panic(&declined{7, "late"}) },
		} {
			for takes, late := range map[time.Duration]bool{0: false, 10 * time.Second: true} {
				task := stint.NewTask(c, fmt.Sprint(name, takes), func(ctx context.Context, _ int) (int, error) {
					_, err := stint.Step(ctx, "s", func(context.Context) (int, error) {
						<-time.After(takes)
						return 0, ends()
					}, stint.WithTimeout(100*time.Millisecond))
					if serr := stint.Sleep(ctx, time.Hour); serr != nil {
						return 0, serr
					}
					return 0, err
				})
				stop := working(t, c)
				_, err := task.Run(t.Context(), 0)
				d, is := errors.AsType[*declined](err)
				_, panicked := errors.AsType[*stint.PanicError](err)
				if errors.Is(err, stint.ErrTimeout) != late || !is || d.Code != 7 || panicked != (name == "panic") {
					t.Errorf("%s after %v: %v", name, takes, err)
				}
				stop()
			}
		}
	})
}

// The rows of a StepTx that is late are rolled back, as its result is refused.
func TestStepTxTimeoutIsFirm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	c, table := openedAt(t, path), appTable(path)
	task := stint.NewTask(c, "tx", func(ctx context.Context, late bool) (bool, error) {
		_, err := stint.StepTx(ctx, "rows", func(ctx context.Context, tx *sql.Tx) (int, error) {
			if _, err := tx.Exec("CREATE TABLE IF NOT EXISTS " + table + " (v TEXT)"); err != nil {
				return 0, err
			}
			if _, err := tx.Exec("INSERT INTO "+table+" VALUES ($1)", fmt.Sprint(late)); err != nil {
				return 0, err
			}
			if late {
				<-ctx.Done()
			}
			return 1, nil
		}, stint.WithTimeout(map[bool]time.Duration{true: 20 * time.Millisecond, false: time.Minute}[late]))
		return errors.Is(err, stint.ErrTimeout), nil
	})
	rows := stint.NewTask(c, "count", func(ctx context.Context, _ int) (int, error) {
		return stint.StepTx(ctx, "n", func(ctx context.Context, tx *sql.Tx) (n int, err error) {
			return n, tx.QueryRowContext(ctx, "SELECT count(*) FROM "+table).Scan(&n)
		})
	})
	working(t, c)
	for i, late := range []bool{false, true, true} {
		if got := runTask(t, task, late); got != late {
			t.Errorf("call %d: ErrTimeout %v, want %v", i, got, late)
		}
	}
	if n := runTask(t, rows, 0); n != 1 {
		t.Errorf("%d rows, want that of the one in time", n)
	}
}

// A step that the attempt's timeout cuts off is called again by the next attempt.
func TestAttemptTimeoutInStep(t *testing.T) {
	durably(t, func(t *testing.T, c *stint.Client) {
		var before, tries atomic.Int64
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			if _, err := counted(ctx, &before, "before", 1); err != nil {
				return 0, err
			}
			return stint.Step(ctx, "s", func(ctx context.Context) (int, error) {
				if tries.Add(1) == 1 {
					<-ctx.Done()
					return 0, ctx.Err()
				}
				return 5, nil
			})
		}, stint.WithTimeout(time.Second), stint.WithRetries(1))
		working(t, c)
		if got, err := task.Run(t.Context(), 0); err != nil || got != 5 || before.Load() != 1 || tries.Load() != 2 {
			t.Errorf("Run = %d, %v; the step before ran %d times, the one that was cut off %d", got, err, before.Load(), tries.Load())
		}
	})
}
