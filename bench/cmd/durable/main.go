// Command durable benchmarks durable functions: one JSON line a case, with the cost of one
// fdatasync at the same pace.
//
//	durable [-durable seq1000,event,fan10000,replay10000,sleep100k,sleep1m,kill10k]
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/bench/hb"
)

var cases = []struct {
	name string
	run  func(dir string) error
}{
	{"seq1000", sequential},
	{"event", event},
	{"fan10000", fanOut},
	{"replay10000", replay},
	{"sleep100k", sleepers},
	{"sleep1m", million},
	{"kill10k", kill},
}

var (
	fCases = flag.String("durable", "seq1000,event,fan10000,replay10000,sleep100k,kill10k", "cases")
	fChild = flag.String("victim", "", "internal: file of a process to be killed")
)

func main() {
	flag.Parse()
	if *fChild != "" {
		check(victim(*fChild))
		return
	}
	for _, c := range cases {
		if !slices.Contains(strings.Split(*fCases, ","), c.name) {
			continue
		}
		dir, err := os.MkdirTemp("", "stint-durable-")
		check(err)
		check(c.run(dir))
		os.RemoveAll(dir)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func emit(name string, n int, took time.Duration, lat []time.Duration, notes string) {
	hb.Emit(hb.Line{
		Peer: "stint", Case: "D-" + name, N: n, Seconds: took.Seconds(), PerS: float64(n) / took.Seconds(),
		P50: hb.Percentile(lat, .5), P99: hb.Percentile(lat, .99), Notes: notes,
	})
}

// An engine is a client on a file, with a worker.
type engine struct {
	*stint.Client
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func open(dir string) (*engine, error) {
	c, err := stint.Open(filepath.Join(dir, "d.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	return &engine{Client: c, stop: func() {}}, err
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
}

// syncs returns the latencies of n appends of a page with fdatasync, at a pace.
func syncs(dir string, n int, every time.Duration) []time.Duration {
	f, err := os.Create(filepath.Join(dir, "sync"))
	check(err)
	defer f.Close()
	page := make([]byte, 4096+24)
	lat := make([]time.Duration, n)
	for i := range lat {
		time.Sleep(every)
		t := time.Now()
		_, err := f.Write(page)
		check(err)
		check(syscall.Fdatasync(int(f.Fd())))
		lat[i] = time.Since(t)
	}
	return lat
}

func versus(dir string, n int, every time.Duration) string {
	lat := syncs(dir, n, every)
	return fmt.Sprintf("one fdatasync at this rhythm: p50 %.3f ms, p99 %.3f ms", hb.Percentile(lat, .5), hb.Percentile(lat, .99))
}

// sequential measures one run of 1,000 steps.
func sequential(dir string) error {
	e, err := open(dir)
	if err != nil {
		return err
	}
	defer e.close()
	const n = 1000
	lat := make([]time.Duration, n)
	task := stint.NewTask(e.Client, "steps", func(ctx context.Context, _ int) (int, error) {
		for i := range n {
			t := time.Now()
			if _, err := stint.Step(ctx, "step", func(context.Context) (int, error) { return i, nil }); err != nil {
				return 0, err
			}
			lat[i] = time.Since(t)
		}
		return n, nil
	})
	if err := e.work(); err != nil {
		return err
	}
	before := versus(dir, n, 0)
	t := time.Now()
	if _, err := task.Run(context.Background(), 0); err != nil {
		return err
	}
	emit("seq1000", n, time.Since(t), lat, "p50 and p99 of a step; "+before)
	return nil
}

// event measures the time from the call of Publish to the resumed handler, once in 20 ms, on an
// idle engine: for runs in memory and for evicted runs.
func event(dir string) error {
	const n, every = 300, 20 * time.Millisecond
	before := versus(dir, n, every)
	if err := published("event", filepath.Join(dir, "resident.db"), n, every,
		"publish to handler resumed, in memory; "+before); err != nil {
		return err
	}
	return published("event-evicted", filepath.Join(dir, "evicted.db"), n, every, "publish to handler resumed, replayed",
		stint.WithMaxResident(0))
}

func published(name, path string, n int, every time.Duration, notes string, opts ...stint.ClientOption) error {
	c, err := stint.Open(path, append(opts, stint.WithLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		return err
	}
	e := &engine{Client: c, stop: func() {}}
	defer e.close()
	resumed := make(chan time.Time, 1)
	task := stint.NewTask(c, "wait", func(ctx context.Context, i int) (int, error) {
		_, err := stint.WaitForEvent[map[string]int](ctx, "go", stint.WithMatch("n", i))
		resumed <- time.Now()
		return i, err
	})
	if err := e.work(); err != nil {
		return err
	}
	ctx := context.Background()
	begun := time.Now()
	var lat []time.Duration
	for i := range n {
		r, err := task.Enqueue(ctx, i)
		if err != nil {
			return err
		}
		time.Sleep(every)
		t := time.Now()
		if _, err := c.Publish(ctx, "go", map[string]int{"n": i}); err != nil {
			return err
		}
		lat = append(lat, (<-resumed).Sub(t))
		if _, err := r.Wait(ctx); err != nil {
			return err
		}
	}
	emit(name, n, time.Since(begun), lat, notes)
	return nil
}

// fanOut measures a run that starts 10,000 children and waits for them.
func fanOut(dir string) error {
	e, err := open(dir)
	if err != nil {
		return err
	}
	defer e.close()
	const n = 10_000
	child := stint.NewTask(e.Client, "child", func(_ context.Context, i int) (int, error) { return i, nil })
	parent := stint.NewTask(e.Client, "parent", func(ctx context.Context, _ int) (sum int, err error) {
		ins := make([]int, n)
		for i := range ins {
			ins[i] = i
		}
		runs, err := child.EnqueueMany(ctx, ins)
		if err != nil {
			return 0, err
		}
		for _, r := range runs {
			v, err := r.Wait(ctx)
			if err != nil {
				return 0, err
			}
			sum += v
		}
		return sum, nil
	})
	if err := e.work(); err != nil {
		return err
	}
	t := time.Now()
	if got, err := parent.Run(context.Background(), 0); err != nil || got != n*(n-1)/2 {
		return fmt.Errorf("sum %d, %w", got, err)
	}
	emit("fan10000", n, time.Since(t), nil, fmt.Sprintf("RSS %.0f MiB", hb.Resident()))
	return nil
}

// replay measures the time from an event until the handler of a run of 10,000 steps is past its
// wait, less that of a run without steps.
func replay(dir string) error {
	c, err := stint.Open(filepath.Join(dir, "d.db"), stint.WithMaxResident(0), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	e := &engine{Client: c}
	defer e.close()
	var entered, past time.Time
	task := stint.NewTask(c, "long", func(ctx context.Context, steps int) (int, error) {
		entered = time.Now()
		for i := range steps {
			if _, err := stint.Step(ctx, "step", func(context.Context) (string, error) {
				return "the result of step " + strconv.Itoa(i), nil
			}); err != nil {
				return 0, err
			}
		}
		if _, err := stint.WaitForEvent[int](ctx, "go"); err != nil {
			return 0, err
		}
		past = time.Now()
		return steps, nil
	})
	if err := e.work(); err != nil {
		return err
	}
	ctx := context.Background()
	var lat []time.Duration
	begun := time.Now()
	for range 5 {
		r, err := task.Enqueue(ctx, 10_000)
		if err != nil {
			return err
		}
		for {
			info, err := r.Info(ctx)
			if err != nil {
				return err
			}
			if info.State == stint.StateWaiting {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if _, err := e.Publish(ctx, "go", 1); err != nil {
			return err
		}
		if _, err := r.Wait(ctx); err != nil {
			return err
		}
		lat = append(lat, past.Sub(entered))
	}
	emit("replay10000", 5, time.Since(begun), lat, "from the handler's first line to past its 10,000 steps")
	return nil
}
