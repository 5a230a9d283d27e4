package stint_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

type payload struct {
	T   int64  `json:"t"`
	Pad string `json:"pad"`
}

var sample = payload{1234567890123456789, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}

// BenchmarkDrain works off no-op runs that were enqueued before, with 100 slots; each
// outcome is durable. What a run costs must not grow with the runs that wait.
func BenchmarkDrain(b *testing.B) { drain(b) }

// BenchmarkDrainKeys is BenchmarkDrain over 1,000 keys that take turns, 2 at once each.
func BenchmarkDrainKeys(b *testing.B) {
	drain(b, stint.WithConcurrency(stint.Concurrency[payload]{Key: func(p payload) string { return fmt.Sprint(p.T % 1000) }, Max: 2, Strategy: stint.StrategyGroupRoundRobin}))
}

// BenchmarkDrainRates is BenchmarkDrain over 10,000 rate limits.
func BenchmarkDrainRates(b *testing.B) {
	drain(b, stint.WithRateLimitFunc(func(p payload) stint.RateLimit {
		return stint.RateLimit{Key: fmt.Sprint(p.T % 10_000), Limit: 1000, Burst: 1000}
	}))
}

// BenchmarkDrainFailed is BenchmarkDrain of runs that fail, each with an order's number in one of ten errors.
func BenchmarkDrainFailed(b *testing.B) {
	drainOf(b, 20_000, func(p payload) error {
		return stint.NonRetryable(fmt.Errorf("kind %c: order %d is refused", 'a'+rune(p.T%10), p.T))
	})
}

func drain(b *testing.B, opts ...stint.TaskOption) {
	for _, n := range []int{20_000, 100_000} {
		b.Run(fmt.Sprintf("runs=%d", n), func(b *testing.B) {
			drainOf(b, n, func(payload) error { return nil }, opts...)
		})
	}
}

func drainOf(b *testing.B, n int, result func(payload) error, opts ...stint.TaskOption) {
	for b.Loop() {
		b.StopTimer()
		c := opened(b)
		var left atomic.Int64
		left.Store(int64(n))
		done := make(chan struct{})
		task := stint.NewTask(c, "noop", func(_ context.Context, p payload) (struct{}, error) {
			if left.Add(-1) == 0 {
				close(done)
			}
			return struct{}{}, result(p)
		}, opts...)
		ins := make([]payload, 1000)
		for range n / len(ins) {
			for i := range ins {
				ins[i] = sample
				ins[i].T += int64(i)
			}
			enqueueMany(b, task, ins)
		}
		b.StartTimer()
		stop := working(b, c)
		<-done
		stop() // after the last outcome is committed
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "runs/s")
}

// BenchmarkEnqueueMany enqueues 1,000 runs a call.
func BenchmarkEnqueueMany(b *testing.B) {
	c := opened(b)
	task := stint.NewTask[payload, struct{}](c, "noop", nil)
	ins := make([]payload, 1000)
	for i := range ins {
		ins[i] = sample
	}
	b.ReportAllocs()
	for b.Loop() {
		enqueueMany(b, task, ins)
	}
	b.ReportMetric(float64(1000*b.N)/b.Elapsed().Seconds(), "runs/s")
}

// BenchmarkWorkflow runs workflows of five tasks in a chain, 2,000 at a time, with 100
// slots; each task's end, with the start of the next, is durable.
func BenchmarkWorkflow(b *testing.B) {
	const n = 2_000
	chains(b, 5, func(w *stint.Workflow[payload]) {
		for _, r := range enqueueMany(b, w, make([]payload, n)) {
			output(b, r)
		}
	})
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "workflows/s")
}

// byCallers has 100 callers call do n times together.
func byCallers(n int64, do func()) {
	var left atomic.Int64
	left.Store(n)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				do()
			}
		})
	}
	wg.Wait()
}

// BenchmarkSteps runs tasks of five durable steps, 100 in flight.
func BenchmarkSteps(b *testing.B) {
	const n = 2_000
	step := func(context.Context) (int, error) { return 1, nil }
	for b.Loop() {
		b.StopTimer()
		c := opened(b)
		task := stint.NewTask(c, "five", func(ctx context.Context, _ payload) (int, error) {
			for range 5 {
				if _, err := stint.Step(ctx, "step", step); err != nil {
					return 0, err
				}
			}
			return 5, nil
		})
		stop := working(b, c)
		b.StartTimer()
		byCallers(n, func() { runTask(b, task, sample) })
		b.StopTimer()
		stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(5*n*b.N)/b.Elapsed().Seconds(), "steps/s")
}

// BenchmarkPublish is events that each start a run, by 64 publishers.
func BenchmarkPublish(b *testing.B) {
	c := opened(b)
	stint.NewTask(c, "t", func(context.Context, int) (int, error) { return 0, nil }, stint.WithEvents("go"))
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Publish(context.Background(), "go", 1); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkWait measures runs that wait for an event which is there: by WaitForEvent, and as a condition.
func BenchmarkWait(b *testing.B) {
	for name, wait := range map[string]func(context.Context) error{
		"event": func(ctx context.Context) error { _, err := stint.WaitForEvent[int](ctx, "e"); return err },
		"condition": func(ctx context.Context) error {
			_, err := stint.WaitFor(ctx, stint.AnyOf(stint.UserEvent("e"), stint.SleepFor(time.Hour)))
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			c := opened(b)
			task := stint.NewTask(c, "wait", func(ctx context.Context, _ int) (int, error) { return 0, wait(ctx) })
			runs := enqueueMany(b, task, make([]int, b.N))
			publish(b, c, "e", 1)
			b.ReportAllocs()
			b.ResetTimer()
			working(b, c, stint.WithSlots(100))
			for _, run := range runs {
				output(b, run)
			}
		})
	}
}

// nop is a task of the workflows that are measured.
func nop(context.Context, payload) (int, error) { return 1, nil }

// BenchmarkWide defines and runs a workflow of 10,000 tasks side by side, between one before and one after, with 100 slots.
func BenchmarkWide(b *testing.B) {
	const n = 10_000
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		c := opened(b)
		stop := working(b, c)
		b.StartTimer()
		w := stint.NewWorkflow[payload](c, "wide")
		first := stint.AddTask(w, "first", nop)
		all := make([]stint.AnyNode, n)
		for i := range all {
			all[i] = stint.AddTask(w, fmt.Sprint("task", i), nop, stint.WithParents(first))
		}
		stint.AddTask(w, "last", nop, stint.WithParents(all...))
		output(b, enqueueMany(b, w, make([]payload, 1))[0])
		b.StopTimer()
		stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "tasks/s")
}

// chains measures run, each time with a workflow of n tasks, one after another, on a new client with a worker.
func chains(b *testing.B, n int, run func(w *stint.Workflow[payload])) {
	b.Helper()
	for b.Loop() {
		b.StopTimer()
		c := opened(b)
		w := stint.NewWorkflow[payload](c, "chain")
		last := stint.AddTask(w, "first", nop)
		for i := range n - 1 {
			last = stint.AddTask(w, fmt.Sprint("task", i), nop, stint.WithParents(last))
		}
		stop := working(b, c)
		b.StartTimer()
		run(w)
		b.StopTimer()
		stop()
		b.StartTimer()
	}
}

// BenchmarkHop runs a chain of 1,000 tasks: each starts when the one before has ended.
func BenchmarkHop(b *testing.B) {
	const n = 1000
	b.ReportAllocs()
	chains(b, n, func(w *stint.Workflow[payload]) { runTask(b, w, sample) })
	b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(n*b.N), "µs/task")
}

// BenchmarkWorkflowWait is BenchmarkWorkflow by 100 callers, each of which waits for its workflow before it enqueues the next.
func BenchmarkWorkflowWait(b *testing.B) {
	const n = 2_000
	chains(b, 5, func(w *stint.Workflow[payload]) {
		byCallers(n, func() { runTask(b, w, sample) })
	})
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "workflows/s")
}
