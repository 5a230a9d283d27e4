package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// A drain lets running handlers end, and starts nothing new.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		started := make(chan struct{}, 2)
		task := stint.NewTask(c, "slow", func(ctx context.Context, n int) (int, error) {
			started <- struct{}{}
			time.Sleep(10 * time.Second)
			return n, ctx.Err()
		})
		runs := enqueueMany(t, task, []int{1, 2})
		stop := working(t, c, stint.WithSlots(1))
		<-started
		began := time.Now()
		stop()
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("the drain took %v, want the 10s that the handler needs", d)
		}
		for i, want := range []stint.State{stint.StateSucceeded, stint.StateQueued} {
			if info := infoOf(t, runs[i]); info.State != want {
				t.Errorf("run %d is %v, want %v", i, info.State, want)
			}
		}
	})
}

// A handler that is not done by the end of the drain timeout is interrupted, and its
// run is queued again at no cost of an attempt.
func TestDrainTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		started := make(chan int, 2)
		task := stint.NewTask(c, "slow", func(ctx context.Context, n int) (int, error) {
			info, _ := stint.Info(ctx)
			started <- info.Attempt
			select {
			case <-time.After(time.Minute):
				return n, nil
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
		})
		run := enqueue(t, task, 7)
		stop := working(t, c, stint.WithDrainTimeout(5*time.Second))
		<-started
		stop()
		info := infoOf(t, run)
		if info.State != stint.StateQueued || info.Attempt != 0 {
			t.Errorf("after the drain: %v, attempt %d; want queued, 0", info.State, info.Attempt)
		}
		working(t, c)
		if n := <-started; n != 1 {
			t.Errorf("started again as attempt %d, want 1", n)
		}
		if got, err := run.Wait(t.Context()); err != nil || got != 7 {
			t.Errorf("Wait = %d, %v", got, err)
		}
	})
}

// A handler that ignores its context does not keep the worker from returning.
func TestDrainOfTheDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		started, end := make(chan struct{}), make(chan struct{})
		task := stint.NewTask(c, "deaf", func(context.Context, int) (int, error) {
			close(started)
			<-end
			return 1, nil
		})
		run := enqueue(t, task, 1)
		w := must[*stint.Worker](t)(c.NewWorker(stint.WithDrainTimeout(time.Second)))
		ctx, cancel := context.WithCancel(t.Context())
		worked := make(chan error)
		go func() { worked <- w.Run(ctx) }()
		<-started
		cancel()
		if err := <-worked; err == nil || !strings.Contains(err.Error(), "deaf:1") {
			t.Errorf("Worker.Run = %v, want an error that names the task", err)
		}
		if info := infoOf(t, run); info.State != stint.StateQueued {
			t.Errorf("the run is %v, want queued", info.State)
		}
		close(end)
	})
}

// No more handlers run at once than there are slots.
func TestSlots(t *testing.T) {
	c := opened(t)
	var now, most atomic.Int64
	task := stint.NewTask(c, "count", func(context.Context, int) (int, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		return 0, nil
	})
	runs := enqueueMany(t, task, make([]int, 500))
	working(t, c, stint.WithSlots(3))
	for _, r := range runs {
		output(t, r)
	}
	if m := most.Load(); m > 3 {
		t.Errorf("%d handlers at once, want at most 3", m)
	}
}

// A handler that waits for a child gives its slot to it; ReleaseSlot does so by hand.
func TestReleaseSlot(t *testing.T) {
	c := opened(t)
	other := make(chan struct{})
	first := stint.NewTask(c, "first", func(ctx context.Context, _ int) (int, error) {
		if err := stint.ReleaseSlot(ctx); err != nil {
			return 0, err
		}
		<-other
		return 1, nil
	})
	second := stint.NewTask(c, "second", func(context.Context, int) (int, error) { close(other); return 2, nil })
	a := enqueue(t, first, 0)
	b := enqueue(t, second, 0)
	working(t, c, stint.WithSlots(1))
	if x, y := output(t, a), output(t, b); x != 1 || y != 2 {
		t.Errorf("got %d and %d", x, y)
	}
}

// Close drains the workers by itself, and a second Close does nothing.
func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		started := make(chan struct{})
		var ended atomic.Bool
		task := stint.NewTask(c, "slow", func(context.Context, int) (int, error) {
			close(started)
			time.Sleep(time.Second)
			ended.Store(true)
			return 1, nil
		})
		enqueue(t, task, 1)
		w := must[*stint.Worker](t)(c.NewWorker())
		var wg sync.WaitGroup
		wg.Go(func() { w.Run(context.Background()) })
		<-started
		if err := c.Close(); err != nil || !ended.Load() {
			t.Errorf("Close = %v, the handler ended: %v", err, ended.Load())
		}
		wg.Wait()
	})
}

// Middleware wraps every handler, the first given outermost, and sees the encoded input.
func TestMiddleware(t *testing.T) {
	var mu sync.Mutex
	var log []string
	wrap := func(name string) func(stint.Handler) stint.Handler {
		return func(next stint.Handler) stint.Handler {
			return func(ctx context.Context, in []byte) ([]byte, error) {
				info, _ := stint.Info(ctx)
				mu.Lock()
				log = append(log, fmt.Sprintf("%s %s %s", name, info.Task, in))
				mu.Unlock()
				return next(ctx, in)
			}
		}
	}
	c := opened(t, stint.WithMiddleware(wrap("outer")), stint.WithMiddleware(wrap("inner")))
	task := stint.NewTask(c, "double", double)
	working(t, c)
	runTask(t, task, 4)
	if want := []string{"outer double 4", "inner double 4"}; !slices.Equal(log, want) {
		t.Errorf("log %q, want %q", log, want)
	}
}

type upperCodec struct{}

func (upperCodec) Marshal(v any) ([]byte, error) {
	return json.Marshal(map[string]any{"wrapped": v})
}

func (upperCodec) Unmarshal(data []byte, v any) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	return json.Unmarshal(m["wrapped"], v)
}

// A codec decides what inputs and outputs look like in the file.
func TestCodec(t *testing.T) {
	c := opened(t, stint.WithCodec(upperCodec{}))
	task := stint.NewTask(c, "double", double)
	working(t, c)
	run := enqueue(t, task, 4)
	if got := output(t, run); got != 8 {
		t.Errorf("got %d", got)
	}
	info := infoOf(t, run)
	if string(info.Input) != `{"wrapped":4}` || string(info.Output) != `{"wrapped":8}` {
		t.Errorf("stored %s and %s", info.Input, info.Output)
	}
}

// A worker is run once, and not after its client is closed.
func TestWorkerMisuse(t *testing.T) {
	c := opened(t)
	w := must[*stint.Worker](t)(c.NewWorker())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Errorf("Run with a context that is done = %v", err)
	}
	if err := w.Run(ctx); err == nil {
		t.Error("a second Run succeeded")
	}
	late := must[*stint.Worker](t)(c.NewWorker())
	c.Close()
	if err := late.Run(t.Context()); !errors.Is(err, stint.ErrClosed) {
		t.Errorf("Run after Close = %v, want ErrClosed", err)
	}
}
