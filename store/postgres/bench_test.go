package postgres_test

import (
	"context"
	"flag"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint"
)

// The cases of docs/design/postgres.md, section "Figures":
//
//	STINT_DATABASE_URL=... go test ./store/postgres -run XXX -bench Engine
//	... -bench EngineDrain -pending 1000000   # with so many others ready
//	... -bench EngineDrain -hold              # while somebody holds a snapshot
var (
	pendingRuns  = flag.Int("pending", 0, "benchmarks: runs that are ready besides")
	holdSnapshot = flag.Bool("hold", false, "benchmarks: a session holds a snapshot")
)

type benchInput struct {
	T   int64  `json:"t"`
	Pad string `json:"pad"`
}

var benchSample = benchInput{1234567890123456789, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}

// benchWork runs a worker with 100 slots until stop is called.
func benchWork(b *testing.B, c *stint.Client) (stop func()) {
	b.Helper()
	w, err := c.NewWorker(stint.WithSlots(100))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() { cancel(); <-done }
}

func enqueueBatches(b *testing.B, task *stint.Task[benchInput, struct{}], n int) {
	b.Helper()
	for ; n > 0; n -= 1000 {
		if _, err := task.EnqueueMany(b.Context(), slices.Repeat([]benchInput{benchSample}, min(n, 1000))); err != nil {
			b.Fatal(err)
		}
	}
}

func perSecond(b *testing.B, n int, what string) {
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), what+"/s")
}

// BenchmarkEngineDrain works off no-op runs that were enqueued before, with 100 slots.
func BenchmarkEngineDrain(b *testing.B) {
	url, schema := newSchema(b)
	c := newClient(b, url, schema)
	var done atomic.Int64
	all := make(chan struct{})
	task := stint.NewTask(c, "noop", func(context.Context, benchInput) (struct{}, error) {
		if done.Add(1) == int64(b.N) {
			close(all)
		}
		return struct{}{}, nil
	})
	enqueueBatches(b, task, b.N+*pendingRuns)
	if *holdSnapshot {
		conn, err := pgx.Connect(b.Context(), url)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(b.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class"); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	stop := benchWork(b, c)
	<-all
	stop() // after the last outcomes are committed
	perSecond(b, b.N, "runs")
}

func BenchmarkEngineEnqueue(b *testing.B)   { benchEnqueue(b, 1) }
func BenchmarkEngineEnqueue64(b *testing.B) { benchEnqueue(b, 64) }

// benchEnqueue enqueues runs from goroutines, each of which waits for each of its own.
func benchEnqueue(b *testing.B, goroutines int) {
	url, schema := newSchema(b)
	task := stint.NewTask[benchInput, struct{}](newClient(b, url, schema), "noop", nil)
	enqueueBatches(b, task, 1)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range goroutines {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if _, err := task.Enqueue(b.Context(), benchSample); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	perSecond(b, b.N, "runs")
}

// BenchmarkEngineEnqueueMany enqueues 1,000 runs a call.
func BenchmarkEngineEnqueueMany(b *testing.B) {
	url, schema := newSchema(b)
	task := stint.NewTask[benchInput, struct{}](newClient(b, url, schema), "noop", nil)
	enqueueBatches(b, task, 1)
	b.ResetTimer()
	enqueueBatches(b, task, 1000*b.N)
	perSecond(b, 1000*b.N, "runs")
}

func BenchmarkEnginePickup(b *testing.B)        { benchPickup(b, false) }
func BenchmarkEnginePickupOfOther(b *testing.B) { benchPickup(b, true) }

// benchPickup measures the time from the beginning of an enqueue to that of its handler, one after another, in one
// program or from one to another.
func benchPickup(b *testing.B, other bool) {
	url, schema := newSchema(b)
	c := newClient(b, url, schema)
	began := make(chan time.Time, 1)
	task := stint.NewTask(c, "noop", func(context.Context, benchInput) (struct{}, error) { began <- time.Now(); return struct{}{}, nil })
	from := task
	if other {
		from = stint.NewTask[benchInput, struct{}](newClient(b, url, schema), "noop", nil)
	}
	defer benchWork(b, c)()
	var took []time.Duration // for a metric
	stamp := time.Now
	one := func() {
		t := stamp()
		r, err := from.Enqueue(b.Context(), benchSample)
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-began).Sub(t))
		if _, err := r.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	for range 20 {
		one()
	}
	took = nil
	b.ResetTimer()
	for range b.N {
		one()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkEngineWorkflows works off workflows of five tasks, one after another.
func BenchmarkEngineWorkflows(b *testing.B) {
	url, schema := newSchema(b)
	c := newClient(b, url, schema)
	w := stint.NewWorkflow[benchInput](c, "five")
	noop := func(context.Context, benchInput) (struct{}, error) { return struct{}{}, nil }
	last := stint.AddTask(w, "a", noop)
	for _, name := range []string{"b", "c", "d", "e"} {
		last = stint.AddTask(w, name, noop, stint.WithParents(last))
	}
	var runs []*stint.Run[stint.Outputs]
	for n := b.N; n > 0; n -= 100 {
		some, err := w.EnqueueMany(b.Context(), slices.Repeat([]benchInput{benchSample}, min(n, 100)))
		if err != nil {
			b.Fatal(err)
		}
		runs = append(runs, some...)
	}
	b.ResetTimer()
	stop := benchWork(b, c)
	for _, r := range runs {
		if _, err := r.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	stop()
	perSecond(b, 5*b.N, "tasks")
}

// BenchmarkEngineSteps works off runs of five durable steps, 100 at a time.
func BenchmarkEngineSteps(b *testing.B) {
	url, schema := newSchema(b)
	c := newClient(b, url, schema)
	var done atomic.Int64
	all := make(chan struct{})
	task := stint.NewTask(c, "steps", func(ctx context.Context, _ benchInput) (struct{}, error) {
		for range 5 {
			if _, err := stint.Step(ctx, "s", func(context.Context) (int, error) { return 1, nil }); err != nil {
				return struct{}{}, err
			}
		}
		if done.Add(1) == int64(b.N) {
			close(all)
		}
		return struct{}{}, nil
	})
	enqueueBatches(b, task, b.N)
	b.ResetTimer()
	stop := benchWork(b, c)
	<-all
	stop()
	perSecond(b, b.N, "runs")
}
