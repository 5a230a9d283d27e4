// Command schedules benchmarks events, crons and one-time schedules: one JSON line a case.
//
//	schedules [-schedules trigger,waits,wake1000,publishers,crons,once] [-waits N] [-once N]
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/bench/hb"
)

var (
	fCases = flag.String("schedules", "trigger,waits,wake1000,publishers,crons,once", "cases")
	fWaits = flag.Int("waits", 1_000_000, "registered waits")
	fOnce  = flag.Int("once", 1_000_000, "one-time schedules")
	fCrons = flag.Int("crons", 100_000, "crons")
)

func main() {
	flag.Parse()
	cases := map[string]func(*engine) error{"trigger": trigger, "waits": waits, "wake1000": wake, "publishers": publishers,
		"crons": crons, "once": once}
	for _, name := range strings.Split(*fCases, ",") {
		f := cases[name]
		if f == nil {
			fail(fmt.Errorf("no such case: %s", name))
		}
		e, err := open()
		if err == nil {
			err = f(e)
			e.close()
		}
		fail(err)
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// An engine is a client on a file, with a worker.
type engine struct {
	*stint.Client
	dir  string
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func open() (*engine, error) {
	dir, err := os.MkdirTemp("", "stint-schedules-")
	if err != nil {
		return nil, err
	}
	c, err := stint.Open(filepath.Join(dir, "s.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	return &engine{Client: c, dir: dir, stop: func() {}}, err
}

func (e *engine) work() error {
	w, err := e.NewWorker()
	if err != nil {
		return err
	}
	var ctx context.Context
	ctx, e.stop = context.WithCancel(context.Background())
	e.wg.Go(func() { w.Run(ctx) })
	return nil
}

func (e *engine) close() {
	e.stop()
	e.wg.Wait()
	e.Close()
	os.RemoveAll(e.dir)
}

func emit(name string, n int, took time.Duration, lat []time.Duration, notes string) {
	hb.Emit(hb.Line{Peer: "stint", Case: "E-" + name, N: n, Seconds: took.Seconds(), PerS: float64(n) / took.Seconds(),
		P50: hb.Percentile(lat, .5), P99: hb.Percentile(lat, .99), Notes: notes})
}

// idleCPU returns the share of a core that the process uses while it is idle.
func idleCPU(d time.Duration) float64 {
	runtime.GC()
	time.Sleep(time.Second)
	used, at := hb.CPU(), time.Now()
	time.Sleep(d)
	return float64(hb.CPU()-used) / float64(time.Since(at)) * 100
}

// versus measures one fdatasync at a pace, for comparison.
func versus(dir string, n int, every time.Duration) string {
	f, err := os.Create(filepath.Join(dir, "sync"))
	fail(err)
	defer f.Close()
	page := make([]byte, 4096+24)
	lat := make([]time.Duration, n)
	for i := range lat {
		time.Sleep(every)
		t := time.Now()
		_, err := f.Write(page)
		fail(err)
		fail(syscall.Fdatasync(int(f.Fd())))
		lat[i] = time.Since(t)
	}
	return fmt.Sprintf("one fdatasync at this rhythm: p50 %.3f ms, p99 %.3f ms", hb.Percentile(lat, .5), hb.Percentile(lat, .99))
}

// trigger measures the time from the call of Publish to the start of the handler, once in 20 ms,
// on an idle engine.
func trigger(e *engine) error {
	const n, every = 500, 20 * time.Millisecond
	started := make(chan time.Time, 1)
	stint.NewTask(e.Client, "t", func(context.Context, int) (int, error) { started <- time.Now(); return 0, nil }, stint.WithEvents("go"))
	if err := e.work(); err != nil {
		return err
	}
	before := versus(e.dir, n, every)
	begun := time.Now()
	var lat []time.Duration
	for i := range n {
		time.Sleep(every)
		t := time.Now()
		if _, err := e.Publish(context.Background(), "go", i); err != nil {
			return err
		}
		lat = append(lat, (<-started).Sub(t))
	}
	emit("trigger", n, time.Since(begun), lat, "publish to handler started; "+before)
	return nil
}

// waits measures Publish to one waiting run among 1,000, and among many more.
func waits(e *engine) error {
	ctx := context.Background()
	resumed := make(chan struct{}, 1)
	task := stint.NewTask(e.Client, "wait", func(ctx context.Context, i int) (int, error) {
		_, err := stint.WaitForEvent[map[string]int](ctx, "go", stint.WithMatch("n", i))
		resumed <- struct{}{}
		return i, err
	})
	if err := e.work(); err != nil {
		return err
	}
	have := 0
	var medians []float64
	for _, n := range []int{1000, *fWaits} {
		t := time.Now()
		for have < n {
			ins := make([]int, min(10_000, n-have))
			for j := range ins {
				ins[j] = have
				have++
			}
			if _, err := task.EnqueueMany(ctx, ins); err != nil {
				return err
			}
		}
		if err := idle(e); err != nil {
			return err
		}
		registered := time.Since(t)
		runtime.GC()
		const times = 300
		lat := make([]time.Duration, times)
		t = time.Now()
		for i := range lat {
			begun := time.Now()
			if _, err := e.Publish(ctx, "go", map[string]int{"n": n - 1 - i}); err != nil {
				return err
			}
			lat[i] = time.Since(begun)
			<-resumed
		}
		medians = append(medians, hb.Percentile(lat, .5))
		emit(fmt.Sprintf("waits%d", n), times, time.Since(t), lat,
			fmt.Sprintf("the call of Publish, which wakes one run of %d that wait (registered in %.1f s); p50 is %.2f of that among 1,000",
				n, registered.Seconds(), medians[len(medians)-1]/medians[0]))
	}
	return nil
}

func idle(e *engine) error {
	for {
		page, err := e.ListRuns(context.Background(),
			stint.RunFilter{States: []stint.State{stint.StateQueued, stint.StateRunning}, Limit: 1})
		if err != nil || len(page.Runs) == 0 {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// wake measures one event that 1,000 runs wait for.
func wake(e *engine) error {
	const n = 1000
	var left atomic.Int64
	done := make(chan time.Time, 1)
	task := stint.NewTask(e.Client, "wait", func(ctx context.Context, i int) (int, error) {
		_, err := stint.WaitForEvent[int](ctx, "go")
		if left.Add(-1) == 0 {
			done <- time.Now()
		}
		return i, err
	})
	if err := e.work(); err != nil {
		return err
	}
	var lat []time.Duration
	begun := time.Now()
	for range 5 {
		left.Store(n)
		if _, err := task.EnqueueMany(context.Background(), make([]int, n)); err != nil {
			return err
		}
		if err := idle(e); err != nil {
			return err
		}
		time.Sleep(2 * time.Second) // none of them is in memory any more
		t := time.Now()
		if _, err := e.Publish(context.Background(), "go", 1); err != nil {
			return err
		}
		lat = append(lat, (<-done).Sub(t))
	}
	emit("wake1000", n, time.Since(begun), lat, "from Publish until the last of 1,000 handlers was resumed")
	return nil
}

// publishers measures 64 goroutines that publish events, each of which starts a run, and compares
// them with 64 that enqueue.
func publishers(e *engine) error {
	const n, g = 40_000, 64
	ctx := context.Background()
	task := stint.NewTask(e.Client, "t", func(context.Context, int) (int, error) { return 0, nil }, stint.WithEvents("go"))
	all := func(call func(i int) error) (time.Duration, error) {
		var wg sync.WaitGroup
		var first atomic.Pointer[error]
		t := time.Now()
		for k := range g {
			wg.Go(func() {
				for i := k; i < n; i += g {
					if err := call(i); err != nil {
						first.CompareAndSwap(nil, &err)
						return
					}
				}
			})
		}
		wg.Wait()
		if p := first.Load(); p != nil {
			return 0, *p
		}
		return time.Since(t), nil
	}
	var plain, events time.Duration
	for range 3 {
		a, err := all(func(i int) error { _, err := task.Enqueue(ctx, i); return err })
		if err != nil {
			return err
		}
		b, err := all(func(i int) error { _, err := e.Publish(ctx, "go", i); return err })
		if err != nil {
			return err
		}
		plain, events = plain+a, events+b
	}
	emit("publishers", 3*n, events, nil, fmt.Sprintf("%.0f%% of the rate of 64 that enqueue, %.0f/s", 100*float64(plain)/float64(events),
		3*n/plain.Seconds()))
	return nil
}

// crons measures hourly crons, spread over the minutes: the idle CPU, and the lateness of the
// ticks of a full minute.
func crons(e *engine) error {
	var mu sync.Mutex
	var lat []time.Duration
	task := stint.NewTask(e.Client, "t", func(ctx context.Context, _ int) (int, error) {
		info, _ := stint.Info(ctx)
		at, err := time.Parse(time.RFC3339, info.Metadata[stint.MetaTick])
		mu.Lock()
		defer mu.Unlock()
		lat = append(lat, time.Since(at))
		return 0, err
	})
	n := *fCrons
	t := time.Now()
	var wg sync.WaitGroup
	for k := range 64 {
		wg.Go(func() {
			for i := k; i < n; i += 64 {
				fail(task.Cron(context.Background(), fmt.Sprint("cron ", i), fmt.Sprintf("%d * * * *", i%60), i))
			}
		})
	}
	wg.Wait()
	made := time.Since(t)
	if err := e.work(); err != nil {
		return err
	}
	for time.Now().Second() < 2 || time.Now().Second() > 35 { // a quiet part of a minute
		time.Sleep(time.Second)
	}
	time.Sleep(2 * time.Second)
	share := idleCPU(15 * time.Second)
	mu.Lock()
	lat = nil
	mu.Unlock()
	time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute + 10*time.Second)))
	mu.Lock()
	defer mu.Unlock()
	emit("crons", len(lat), made, lat,
		fmt.Sprintf("ticks of one minute, of %d hourly crons, made in %.1f s; p50 and p99 of lateness; idle CPU %.2f%%",
			n, made.Seconds(), share))
	return nil
}

// once measures one-time schedules: the idle CPU, and the lateness of 5,000 that are due at random
// times within 20 s.
func once(e *engine) error {
	const due = 5000
	var mu sync.Mutex
	var lat []time.Duration
	done := make(chan struct{})
	task := stint.NewTask(e.Client, "t", func(_ context.Context, at int64) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if lat = append(lat, time.Since(time.UnixMilli(at))); len(lat) == due {
			close(done)
		}
		return 0, nil
	})
	ctx := context.Background()
	n := *fOnce
	t := time.Now()
	for i := 0; i < n; i += 1000 {
		if _, err := task.EnqueueMany(ctx, make([]int64, min(1000, n-i)),
			stint.WithRunAt(t.Add(24*time.Hour+time.Duration(i)*time.Millisecond))); err != nil {
			return err
		}
	}
	made := time.Since(t)
	if err := e.work(); err != nil {
		return err
	}
	share := idleCPU(15 * time.Second)
	soon := time.Now().Add(10 * time.Second)
	for range due {
		at := soon.Add(rand.N(20 * time.Second)).Truncate(time.Millisecond)
		if _, err := task.Schedule(ctx, at, at.UnixMilli()); err != nil {
			return err
		}
	}
	if time.Now().After(soon) {
		return fmt.Errorf("the first were due before all were stored")
	}
	<-done
	emit("once", due, 20*time.Second, lat,
		fmt.Sprintf("beside %d that are due later (stored in %.1f s): p50 and p99 of lateness; idle CPU %.2f%%",
			n, made.Seconds(), share))
	return nil
}
