package stint_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint"
)

func double(_ context.Context, n int) (int, error) { return 2 * n, nil }

func TestRun(t *testing.T) {
	for _, path := range []string{"file", ":memory:"} {
		t.Run(path, func(t *testing.T) {
			if path == "file" {
				path = t.TempDir() + "/a b?c#d%.db"
			}
			c := openedAt(t, path)
			task := stint.NewTask(c, "double", double)
			working(t, c)
			got, err := task.Run(t.Context(), 21)
			if err != nil || got != 42 {
				t.Fatalf("Run(21) = %d, %v", got, err)
			}
		})
	}
}

func TestEnqueueMany(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "double", double)
	in := make([]int, 6_000) // more than one commit's worth
	for i := range in {
		in[i] = i
	}
	runs, err := task.EnqueueMany(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(runs); i++ {
		if runs[i-1].ID() >= runs[i].ID() {
			t.Fatalf("run %d has ID %s, run %d %s: want increasing", i-1, runs[i-1].ID(), i, runs[i].ID())
		}
	}
	working(t, c)
	for i, r := range runs {
		if got, err := r.Wait(t.Context()); err != nil || got != 2*i {
			t.Fatalf("run %d: %d, %v", i, got, err)
		}
	}
}

// R5: first in, first out within equal priority; higher priority first.
func TestOrder(t *testing.T) {
	c := opened(t)
	var mu sync.Mutex
	var order []string
	note := func(_ context.Context, s string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, s)
		return s, nil
	}
	a, b := stint.NewTask(c, "a", note), stint.NewTask(c, "b", note)
	var last *stint.Run[string]
	var want []string
	for _, p := range []int{stint.PriorityLow, stint.PriorityDefault, stint.PriorityHigh} {
		for i := range 20 {
			task := a
			if i%3 == 0 {
				task = b
			}
			r := enqueue(t, task, fmt.Sprint(p, "/", i), stint.WithPriority(p))
			if p == stint.PriorityLow {
				last = r
			}
		}
	}
	for _, p := range []int{stint.PriorityHigh, stint.PriorityDefault, stint.PriorityLow} {
		for i := range 20 {
			want = append(want, fmt.Sprint(p, "/", i))
		}
	}
	working(t, c, stint.WithSlots(1))
	output(t, last)
	mu.Lock()
	defer mu.Unlock()
	if d := cmp.Diff(want, order); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
}

// A run's effective priority rises by one for each minute it has waited.
func TestPriorityAgeing(t *testing.T) {
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var opts []stint.ClientOption
				if !on {
					opts = append(opts, stint.WithPriorityAgeing(0))
				}
				c := openedAt(t, ":memory:", opts...)
				var order []string
				task := stint.NewTask(c, "note", func(_ context.Context, s string) (string, error) {
					order = append(order, s)
					return s, nil
				})
				old := enqueue(t, task, "old low", stint.WithPriority(stint.PriorityLow))
				time.Sleep(2*time.Minute + time.Second)
				young := enqueue(t, task, "young high", stint.WithPriority(stint.PriorityHigh))
				working(t, c, stint.WithSlots(1))
				output(t, old)
				output(t, young)
				if first := order[0]; (first == "old low") != on {
					t.Errorf("ageing %v: %q went first", on, first)
				}
			})
		})
	}
}

func TestRetries(t *testing.T) {
	c := opened(t)
	var calls atomic.Int32
	boom := errors.New("boom")
	task := stint.NewTask(c, "flaky", func(context.Context, int) (string, error) {
		if calls.Add(1) < 3 {
			return "", boom
		}
		return "done", nil
	}, stint.WithRetries(2))
	working(t, c)
	run := enqueue(t, task, 0)
	if got, err := run.Wait(t.Context()); err != nil || got != "done" {
		t.Fatalf("Wait = %q, %v", got, err)
	}
	info := infoOf(t, run)
	var states []stint.State
	for _, e := range info.Timeline {
		states = append(states, e.State)
	}
	want := []stint.State{stint.StateQueued, stint.StateRunning, stint.StateQueued, stint.StateRunning, stint.StateQueued, stint.StateRunning, stint.StateSucceeded}
	if d := cmp.Diff(want, states); d != "" || info.Attempt != 3 {
		t.Errorf("attempt %d, timeline (-want +got):\n%s", info.Attempt, d)
	}
}

func TestRetryBackoffInVirtualTime(t *testing.T) {
	for _, path := range []string{":memory:", "file"} {
		t.Run(path, func(t *testing.T) {
			if path == "file" {
				path = t.TempDir() + "/t.db"
			}
			synctest.Test(t, func(t *testing.T) {
				c := openedAt(t, path)
				var at []time.Time
				task := stint.NewTask(c, "hourly", func(context.Context, int) (int, error) {
					at = append(at, time.Now())
					if len(at) < 3 {
						return 0, errors.New("not yet")
					}
					return 7, nil
				}, stint.WithRetries(5), stint.WithRetryBackoff(1e9, time.Hour))
				working(t, c)
				if got, err := task.Run(t.Context(), 0); err != nil || got != 7 {
					t.Fatalf("Run = %d, %v", got, err)
				}
				for i := 1; i < len(at); i++ {
					if d := at[i].Sub(at[i-1]); d < 54*time.Minute || d > time.Hour+time.Second {
						t.Errorf("attempt %d came after %v: want an hour, less up to 10%%", i+1, d)
					}
				}
			})
		})
	}
}

func TestFailure(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name  string
		fn    func(context.Context, int) (int, error)
		calls int32
		check func(error) bool
	}{
		{"error", func(context.Context, int) (int, error) { return 0, boom }, 3, func(err error) bool { return errors.Is(err, boom) }},
		{"non-retryable", func(context.Context, int) (int, error) { return 0, fmt.Errorf("wrapped: %w", stint.NonRetryable(boom)) }, 1,
			func(err error) bool { return errors.Is(err, boom) }},
		{"retry after", func(context.Context, int) (int, error) { return 0, stint.RetryAfter(time.Millisecond, boom) }, 3,
			func(err error) bool { return errors.Is(err, boom) }},
		{"panic", func(context.Context, int) (int, error) { panic(boom) }, 3, func(err error) bool {
			p, ok := errors.AsType[*stint.PanicError](err)
			return ok && errors.Is(err, boom) && len(p.Stack) > 0
		}},
		{"panic(nil)", func(context.Context, int) (int, error) { panic(nil) }, 3, func(err error) bool {
			_, ok := errors.AsType[*stint.PanicError](err)
			return ok
		}},
		{"goexit", func(context.Context, int) (int, error) { runtime.Goexit(); return 0, nil }, 3, func(err error) bool {
			_, ok := errors.AsType[*stint.PanicError](err)
			return ok
		}},
		{"output", nil, 1, func(err error) bool { return err != nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := opened(t)
			var calls atomic.Int32
			working(t, c)
			var run interface {
				Info(context.Context) (*stint.RunInfo, error)
			}
			var err error
			if tt.fn == nil {
				task := stint.NewTask(c, "t", func(context.Context, int) (chan int, error) { calls.Add(1); return make(chan int), nil }, stint.WithRetries(2))
				r := enqueue(t, task, 1)
				_, err = r.Wait(t.Context())
				run = r
			} else {
				task := stint.NewTask(c, "t", func(ctx context.Context, n int) (int, error) { calls.Add(1); return tt.fn(ctx, n) }, stint.WithRetries(2))
				r := enqueue(t, task, 1)
				_, err = r.Wait(t.Context())
				run = r
			}
			te, ok := errors.AsType[*stint.TaskError](err)
			if !ok || te.Task != "t" || int32(te.Attempt) != tt.calls || !tt.check(err) {
				t.Errorf("Wait: %v", err)
			}
			if got := calls.Load(); got != tt.calls {
				t.Errorf("handler was called %d times, want %d", got, tt.calls)
			}
			info := infoOf(t, run)
			if info.State != stint.StateFailed || info.Error == "" {
				t.Errorf("state %v, error %q", info.State, info.Error)
			}
		})
	}
}

// Who waits after a run has failed gets the handler's own error too, but that of the last execution alone.
func TestWaitAfterTheFailure(t *testing.T) {
	c := opened(t)
	one, two := errors.New("one"), errors.New("two")
	var calls atomic.Int32
	task := stint.NewTask(c, "t", func(context.Context, int) (int, error) {
		if calls.Add(1) == 1 {
			return 0, one
		}
		return 0, two
	})
	working(t, c)
	run := enqueue(t, task, 1)
	for _, want := range []error{one, two} {
		for infoOf(t, run).State != stint.StateFailed {
			runtime.Gosched()
		}
		for range 2 {
			if _, err := run.Wait(t.Context()); !errors.Is(err, want) || errors.Is(err, one) != (want == one) {
				t.Errorf("Wait: %v, want %v", err, want)
			}
		}
		if want == one {
			if _, err := c.ReplayRuns(t.Context(), stint.RunFilter{IDs: []string{run.ID()}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSnooze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		began, calls := time.Now(), 0
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			if calls++; calls <= 10 {
				return 0, stint.Snooze(time.Hour)
			}
			info, _ := stint.Info(ctx)
			return info.Attempt, nil
		})
		working(t, c)
		if got, err := task.Run(t.Context(), 0); err != nil || got != 1 {
			t.Errorf("attempt %d, %v: want 1", got, err)
		}
		if d := time.Since(began); d < 10*time.Hour || d > 10*time.Hour+time.Second {
			t.Errorf("took %v, want 10h", d)
		}
	})
}

func TestOnFailure(t *testing.T) {
	c := opened(t)
	type told struct {
		in  int
		err *stint.TaskError
	}
	got := make(chan told, 1)
	task := stint.NewTask(c, "t", func(context.Context, int) (int, error) { return 0, errors.New("boom") },
		stint.WithRetries(1),
		stint.WithOnFailure(func(_ context.Context, in int, err *stint.TaskError) error { got <- told{in, err}; return nil }))
	working(t, c)
	run := enqueue(t, task, 5)
	if f := <-got; f.in != 5 || f.err.RunID != run.ID() || f.err.Attempt != 2 || f.err.Err.Error() != "boom" {
		t.Errorf("on failure: %d, %v", f.in, f.err)
	}
}

func TestTimeout(t *testing.T) {
	for _, obeys := range []bool{true, false} {
		t.Run(fmt.Sprintf("obeys=%v", obeys), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := openedAt(t, ":memory:")
				release := make(chan struct{})
				task := stint.NewTask(c, "slow", func(ctx context.Context, _ int) (string, error) {
					if obeys {
						<-ctx.Done()
						return "", context.Cause(ctx)
					}
					<-release
					return "late", nil
				}, stint.WithTimeout(time.Minute))
				working(t, c)
				began := time.Now()
				_, err := task.Run(t.Context(), 0)
				if !errors.Is(err, stint.ErrTimeout) {
					t.Errorf("Run: %v, want ErrTimeout", err)
				}
				if d := time.Since(began); d < time.Minute || d > time.Minute+5*time.Second {
					t.Errorf("failed after %v, want 1m", d)
				}
				close(release)
			})
		})
	}
}

func TestExtendTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		task := stint.NewTask(c, "slow", func(ctx context.Context, _ int) (string, error) {
			if err := stint.ExtendTimeout(ctx, time.Hour); err != nil {
				return "", err
			}
			select {
			case <-ctx.Done():
				return "", context.Cause(ctx)
			case <-time.After(30 * time.Minute):
				return "done", nil
			}
		}, stint.WithTimeout(time.Minute))
		working(t, c)
		if got, err := task.Run(t.Context(), 0); err != nil || got != "done" {
			t.Errorf("Run = %q, %v", got, err)
		}
	})
}

func TestScheduleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		task := stint.NewTask(c, "t", double, stint.WithScheduleTimeout(time.Minute))
		run := enqueue(t, task, 1)
		began := time.Now()
		_, err := run.Wait(t.Context())
		if !errors.Is(err, stint.ErrCanceled) || !errors.Is(err, stint.ErrTimeout) {
			t.Errorf("Wait: %v", err)
		}
		if d := time.Since(began); d < time.Minute || d > time.Minute+time.Second {
			t.Errorf("canceled after %v", d)
		}
	})
}

// R4: nothing starts before its time.
func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		task := stint.NewTask(c, "when", func(context.Context, int) (time.Time, error) { return time.Now(), nil })
		working(t, c)
		for _, opt := range []func(time.Time) stint.RunOption{
			func(at time.Time) stint.RunOption { return stint.WithRunAt(at) },
			func(at time.Time) stint.RunOption { return stint.WithDelay(time.Until(at)) },
		} {
			at := time.Now().Add(25*time.Hour + 123456*time.Nanosecond)
			run := enqueue(t, task, 1, opt(at))
			if info := infoOf(t, run); info.State != stint.StateScheduled {
				t.Errorf("state %v, want scheduled", info.State)
			}
			got := output(t, run)
			if got.Before(at) || got.After(at.Add(10*time.Millisecond)) {
				t.Errorf("started %v after its time", got.Sub(at))
			}
		}
	})
}

func TestCancel(t *testing.T) {
	c := opened(t)
	started := make(chan struct{}, 1)
	task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
		started <- struct{}{}
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), stint.ErrCanceled) {
			t.Errorf("cause %v, want ErrCanceled", context.Cause(ctx))
		}
		return 1, nil // counts as canceled all the same
	}, stint.WithRetries(3))
	queued := enqueue(t, task, 1)
	later := schedule(t, task, time.Now().Add(time.Hour), 1)
	for _, r := range []*stint.Run[int]{queued, later} {
		if err := r.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("Wait: %v, want ErrCanceled", err)
		}
	}
	working(t, c)
	running := enqueue(t, task, 1)
	<-started
	for range 2 { // again does nothing
		if err := running.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := running.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
		t.Errorf("Wait: %v, want ErrCanceled", err)
	}
	if err := running.Cancel(t.Context()); err != nil {
		t.Errorf("Cancel of an ended run: %v", err)
	}
	if err := stint.RunByID[int](c, "0198c0de-0000-7000-8000-000000000000").Cancel(t.Context()); !errors.Is(err, stint.ErrNotFound) {
		t.Errorf("Cancel of no run: %v, want ErrNotFound", err)
	}
}

func TestCancelIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		release := make(chan struct{})
		task := stint.NewTask(c, "t", func(context.Context, int) (int, error) { <-release; return 1, nil })
		working(t, c)
		run := enqueue(t, task, 1)
		synctest.Wait()
		began := time.Now()
		if err := run.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("Wait: %v", err)
		}
		if d := time.Since(began); d != 30*time.Second {
			t.Errorf("recorded after %v, want 30s", d)
		}
		close(release)
	})
}

func TestIdempotency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:")
		task := stint.NewTask(c, "t", double, stint.WithIdempotency(func(n int) string { return fmt.Sprint(n % 10) }, time.Hour))
		other := stint.NewTask(c, "u", double)
		first := enqueue(t, task, 1)
		again := enqueue(t, task, 11)
		if first.Existing() || !again.Existing() || again.ID() != first.ID() {
			t.Errorf("second enqueue: existing %v, ID %s, want %s", again.Existing(), again.ID(), first.ID())
		}
		if r := enqueue(t, other, 1, stint.WithIdempotencyKey("1", time.Hour)); r.Existing() {
			t.Error("another task's key is the same")
		}
		many := enqueueMany(t, task, []int{2, 12, 3})
		if many[0].Existing() || !many[1].Existing() || many[1].ID() != many[0].ID() || many[2].Existing() {
			t.Error("same key twice in one bulk: want one run")
		}
		time.Sleep(time.Hour)
		if r := enqueue(t, task, 1); r.Existing() {
			t.Error("key outlives its ttl")
		}
		done := enqueue(t, other, 1, stint.WithIdempotencyKey("k", stint.UntilDone))
		if r := enqueue(t, other, 1, stint.WithIdempotencyKey("k", stint.UntilDone)); !r.Existing() {
			t.Error("UntilDone: key is free before the run ended")
		}
		working(t, c)
		output(t, done)
		if r := enqueue(t, other, 1, stint.WithIdempotencyKey("k", stint.UntilDone)); r.Existing() {
			t.Error("UntilDone: key is held after the run ended")
		}
	})
}

func TestPauseQueue(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "t", double)
	working(t, c)
	if err := c.PauseQueue(t.Context(), "slow"); err != nil {
		t.Fatal(err)
	}
	paused := enqueue(t, task, 1, stint.WithQueue("slow"))
	runTask(t, task, 2) // the other queue goes on
	if info := infoOf(t, paused); info.State != stint.StateQueued {
		t.Errorf("state %v in a paused queue", info.State)
	}
	want := []stint.QueueInfo{{Name: "default"}, {Name: "slow", Paused: true, Ready: 1, Oldest: infoOf(t, paused).Scheduled}}
	if d := cmp.Diff(want, must[[]stint.QueueInfo](t)(c.ListQueues(t.Context()))); d != "" {
		t.Errorf("queues (-want +got):\n%s", d)
	}
	if err := c.ResumeQueue(t.Context(), "slow"); err != nil {
		t.Fatal(err)
	}
	output(t, paused)
}

func TestWorkerQueues(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "who", func(ctx context.Context, _ int) (string, error) {
		info, _ := stint.Info(ctx)
		return info.Worker + " " + info.Queue, nil
	})
	working(t, c, stint.WithQueues("a"), stint.WithName("A"))
	working(t, c, stint.WithQueues("b", "c"), stint.WithName("B"))
	for queue, want := range map[string]string{"a": "A a", "b": "B b", "c": "B c"} {
		if got, err := task.Run(t.Context(), 0, stint.WithQueue(queue)); err != nil || got != want {
			t.Errorf("queue %s: %q, %v", queue, got, err)
		}
	}
}

// A task that no worker knows leaves its runs queued, and holds up nothing else.
func TestUnknownTask(t *testing.T) {
	c := opened(t)
	elsewhere := stint.NewTask[int, int](c, "elsewhere", nil)
	waiting := enqueue(t, elsewhere, 1, stint.WithPriority(100))
	working(t, c, stint.WithSlots(1))
	task := stint.NewTask(c, "t", double) // after the worker started
	runTask(t, task, 2)
	if info := infoOf(t, waiting); info.State != stint.StateQueued {
		t.Errorf("state %v", info.State)
	}
}

// A child inherits, gives up its parent's slot, and is canceled with it.
func TestChild(t *testing.T) {
	c := opened(t)
	child := stint.NewTask(c, "child", func(ctx context.Context, n int) (stint.RunInfo, error) {
		info, _ := stint.Info(ctx)
		return info, nil
	})
	parent := stint.NewTask(c, "parent", func(ctx context.Context, n int) (stint.RunInfo, error) { return child.Run(ctx, n) })
	working(t, c, stint.WithSlots(1))
	run := enqueue(t, parent, 1, stint.WithPriority(9), stint.WithMetadata(map[string]string{"k": "v"}))
	info := output(t, run)
	if info.ParentID != run.ID() || info.RootID != run.ID() || info.Priority != 9 || info.Metadata["k"] != "v" {
		t.Errorf("child: %+v", info)
	}

	hang := stint.NewTask[int, int](c, "hang", nil)
	started := make(chan [2]string, 1)
	outer := stint.NewTask(c, "outer", func(ctx context.Context, n int) (int, error) {
		kept := must[*stint.Run[int]](t)(hang.Enqueue(ctx, n))
		free := must[*stint.Run[int]](t)(hang.Enqueue(ctx, n, stint.Detached()))
		started <- [2]string{kept.ID(), free.ID()}
		return kept.Wait(ctx)
	})
	o := enqueue(t, outer, 1)
	ids := <-started
	if err := o.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
		t.Errorf("parent: %v", err)
	}
	for i, want := range []stint.State{stint.StateCanceled, stint.StateQueued} {
		if info := getRun(t, c, ids[i]); info.State != want {
			t.Errorf("child %d is %v, want %v", i, info.State, want)
		}
	}
}

func TestStream(t *testing.T) {
	c := opened(t)
	next := make(chan struct{})
	seen := sync.OnceFunc(func() { close(next) })
	task := stint.NewTask(c, "t", func(ctx context.Context, n int) (int, error) {
		for i := range n {
			if err := stint.Stream(ctx, fmt.Append(nil, i)); err != nil {
				return 0, err
			}
			if i == 0 {
				<-next
			}
		}
		return n, nil
	})
	working(t, c)
	run := enqueue(t, task, 1000)
	read := func() (all []string) {
		for b, err := range run.Stream(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			if all = append(all, string(b)); len(all) == 1 {
				seen() // while the run goes on
			}
		}
		return all
	}
	var want []string
	for i := range 1000 {
		want = append(want, fmt.Sprint(i))
	}
	for range 2 { // the second comes late
		if got := read(); !slices.Equal(got, want) {
			t.Errorf("stream has %d chunks", len(got))
		}
	}
}

func TestProgressAndLogs(t *testing.T) {
	c := opened(t)
	task := stint.NewTask(c, "t", func(ctx context.Context, n int) (int, error) {
		if err := errors.Join(stint.Progress(ctx, 3, 10), stint.ProgressMessage(ctx, "reading")); err != nil {
			return 0, err
		}
		log := stint.Logger(ctx).With("a", 1).WithGroup("g")
		for i := range n {
			log.Info("line", "i", i)
		}
		return n, nil
	})
	working(t, c)
	run := enqueue(t, task, 3)
	output(t, run)
	info := infoOf(t, run)
	if want := (stint.ProgressInfo{Done: 3, Total: 10, Message: "reading"}); info.Progress != want {
		t.Errorf("progress %+v", info.Progress)
	}
	lines := must[[]stint.LogLine](t)(c.Logs(t.Context(), run.ID(), 0, 10))
	if len(lines) != 3 || lines[2].Message != "line" || string(lines[2].Attrs) != `{"a":1,"g":{"i":2}}` || lines[2].Attempt != 1 {
		t.Errorf("logs: %+v", lines)
	}
}

// Outside of a run each call does the natural plain thing.
func TestOutsideOfARun(t *testing.T) {
	ctx := t.Context()
	if _, ok := stint.Info(ctx); ok {
		t.Error("Info: ok")
	}
	err := errors.Join(stint.Progress(ctx, 1, 2), stint.Stream(ctx, nil), stint.ExtendTimeout(ctx, 1), stint.ReleaseSlot(ctx))
	if err != nil || stint.Logger(ctx) == nil {
		t.Error(err)
	}
}

// WithDebounce gathers enqueues into one run with the last input.
// Keys of idempotency and of debounce are apart, whatever they begin with.
func TestKeysOfIdempotencyAndDebounce(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		byInput := stint.NewTask(c, "by input", func(_ context.Context, s string) (string, error) { return s, nil },
			stint.WithIdempotency(func(s string) string { return s }, time.Hour))
		task := stint.NewTask(c, "t", func(_ context.Context, s string) (string, error) { return s, nil })
		keyed := func(key string) *stint.Run[string] {
			t.Helper()
			return enqueue(t, task, key, stint.WithIdempotencyKey(key, time.Hour), stint.WithDelay(time.Minute))
		}
		ids := map[string]bool{}
		for _, key := range []string{"x", "debounce:x", "idempotency:x", "idempotency:debounce:x", "idempotency:idempotency:x"} {
			r, f := keyed(key), enqueue(t, byInput, key)
			if again := keyed(key); r.Existing() || !again.Existing() || again.ID() != r.ID() {
				t.Errorf("key %q: existing %v, and again %v", key, r.Existing(), again.Existing())
			}
			if again := enqueue(t, byInput, key); f.Existing() || !again.Existing() {
				t.Errorf("key %q of the input: existing %v, and again %v", key, f.Existing(), again.Existing())
			}
			ids[r.ID()] = true
		}
		for _, key := range []string{"x", "debounce:x"} {
			with := stint.WithDebounce(key, time.Minute, time.Hour)
			r := enqueue(t, task, "first", with)
			again := enqueue(t, task, "last", with)
			if r.Existing() || !again.Existing() || ids[r.ID()] {
				t.Errorf("debounce %q: existing %v, and again %v", key, r.Existing(), again.Existing())
			}
			ids[r.ID()] = true
			if r := enqueue(t, byInput, "input", with); r.Existing() {
				t.Errorf("debounce %q is a key of the input", key)
			}
		}
		// The option that comes last says which it is.
		last := []stint.RunOption{stint.WithDebounce("y", time.Minute, time.Hour), stint.WithIdempotencyKey("y", time.Hour)}
		first := enqueue(t, task, "kept", last...)
		enqueue(t, task, "changed", last...)
		working(t, c)
		if out := output(t, first); out != "kept" {
			t.Errorf("an idempotent enqueue changed the input to %q", out)
		}
	})
}

func TestDebounce(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		var got []int
		task := stint.NewTask(c, "t", func(_ context.Context, n int) (int, error) { got = append(got, n); return n, nil })
		working(t, c)
		var last *stint.Run[int]
		for i := range 4 {
			r := enqueue(t, task, i, stint.WithDebounce("doc", 10*time.Second, time.Minute))
			if r.Existing() != (i > 0) || last != nil && r.ID() != last.ID() {
				t.Errorf("enqueue %d: existing %v", i, r.Existing())
			}
			last = r
			time.Sleep(5 * time.Second)
		}
		other := enqueue(t, task, 9, stint.WithDebounce("other", time.Second, time.Second))
		if n := output(t, last); n != 3 {
			t.Errorf("ran with input %d, want the last", n)
		}
		output(t, other)
		if len(got) != 2 {
			t.Errorf("ran with %v", got)
		}
		for _, o := range []stint.RunOption{stint.WithDebounce("", 1, 1), stint.WithDebounce("k", 0, 1), stint.WithDebounce("k", 2, 1)} {
			if _, err := task.Enqueue(t.Context(), 1, o); err == nil {
				t.Error("a bad debounce was taken")
			}
		}
	})
}
