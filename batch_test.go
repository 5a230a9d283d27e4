package stint_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// Runs gather by key until there are enough or the interval is over, and each caller
// gets its own result.
func TestBatchTask(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		var mu sync.Mutex
		var calls []string
		task := stint.NewBatchTask(c, "batch", func(_ context.Context, ins []job) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			outs := make([]string, len(ins))
			for i, j := range ins {
				outs[i] = fmt.Sprint(j.Tenant, j.N)
			}
			calls = append(calls, strings.Join(outs, " "))
			return outs, nil
		}, stint.WithBatchSize(3), stint.WithBatchInterval(time.Second), stint.WithBatchKey(job.tenant))
		runs := enqueueMany(t, task, jobs("a", "a", "b", "a", "a", "b"))
		began := time.Now()
		working(t, c)
		for i, want := range []string{"a1", "a2", "b1", "a3", "a4", "b2"} {
			if got, err := runs[i].Wait(t.Context()); err != nil || got != want {
				t.Errorf("run %d: %q, %v", i, got, err)
			}
		}
		if d := time.Since(began); d < time.Second || d > 1500*time.Millisecond {
			t.Errorf("took %v: want the interval", d)
		}
		slices.Sort(calls)
		for _, call := range calls { // which of a's four were in the full one is the worker's affair
			if n := len(strings.Fields(call)); n > 3 || !slices.IsSorted(strings.Fields(call)) {
				t.Errorf("calls %q", calls)
			}
		}
		if len(calls) != 3 {
			t.Errorf("%d calls: %q", len(calls), calls)
		}
	})
}

// A worker with fewer slots than a batch has gathers what it can; a run that is canceled
// while it gathers is not in the call.
func TestBatchSlotsAndCancel(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		sizes := make(chan int, 10)
		task := stint.NewBatchTask(c, "batch", func(_ context.Context, ins []int) ([]int, error) { sizes <- len(ins); return ins, nil },
			stint.WithBatchSize(50), stint.WithBatchInterval(time.Minute))
		runs := enqueueMany(t, task, []int{1, 2, 3, 4, 5})
		working(t, c, stint.WithSlots(3))
		for i, r := range runs[:3] {
			if got, err := r.Wait(t.Context()); err != nil || got != i+1 {
				t.Errorf("run %d: %d, %v", i, got, err)
			}
		}
		synctest.Wait()
		if err := runs[3].Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := runs[3].Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("canceled: %v", err)
		}
		if got, err := runs[4].Wait(t.Context()); err != nil || got != 5 {
			t.Errorf("the other: %d, %v", got, err)
		}
		if a, b := <-sizes, <-sizes; a != 3 || b != 1 {
			t.Errorf("calls with %d and %d", a, b)
		}
	})
}

// What a batch handler gets wrong is each run's error, and the host lives.
func TestBatchErrors(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		var mu sync.Mutex
		failed := false
		for name, fn := range map[string]func(context.Context, []int) ([]int, error){
			"fails once": func(_ context.Context, ins []int) ([]int, error) {
				mu.Lock()
				defer mu.Unlock()
				if !failed {
					failed = true
					return nil, errors.New("once")
				}
				return ins, nil
			},
			"panics":  func(context.Context, []int) ([]int, error) { panic("oh") },
			"too few": func(context.Context, []int) ([]int, error) { return []int{1}, nil },
			"step": func(ctx context.Context, ins []int) ([]int, error) {
				_, err := stint.Step(ctx, "plain", func(context.Context) (int, error) { return 1, nil })
				return ins, err
			},
		} {
			task := stint.NewBatchTask(c, name, fn, stint.WithRetries(1), stint.WithBatchSize(2))
			runs := enqueueMany(t, task, []int{1, 2})
			stop := working(t, c)
			for _, r := range runs {
				_, err := r.Wait(t.Context())
				switch name {
				case "panics":
					says(t, err, "panic: oh", "attempt 2")
				case "too few":
					says(t, err, "1 outputs for 2 inputs", "attempt 1")
				default:
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			stop()
		}
		defer func() {
			if recover() == nil {
				t.Error("NewTask took a batch option")
			}
		}()
		stint.NewTask(c, "plain", double, stint.WithBatchSize(2))
	})
}
