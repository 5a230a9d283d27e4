// Command limits benchmarks concurrency and rate limits: one JSON line a case, as a share of the
// same work without limits in the same process.
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
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/bench/hb"
)

var (
	fCases  = flag.String("limits", "keys,rates,beside,fair,split", "cases")
	blocked = flag.Int("blocked", 1_000_000, "runs of the blocked key")
	fPairs  = flag.Int("pairs", 3, "of keys and rates, each beside a drain without limits")
	seconds = flag.Int("seconds", 60, "of the case with two processes")
	worker  = flag.String("worker", "", "internal: directory of a process that works")
)

func main() {
	flag.Parse()
	if *worker != "" {
		if err := workUntilKilled(*worker); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		return
	}
	cases := map[string]func() error{"keys": keys, "rates": rates, "beside": beside, "fair": fair, "split": split}
	for _, name := range strings.Split(*fCases, ",") {
		f := cases[name]
		if f == nil {
			fmt.Fprintln(os.Stderr, "no such case:", name)
			os.Exit(2)
		}
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
	}
}

type job struct {
	Key string `json:"key"`
	N   int    `json:"n"`
	Pad string `json:"pad"`
}

type engine struct {
	*stint.Client
	dir  string
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func open() (*engine, error) {
	dir, err := os.MkdirTemp("", "stint-limits-")
	if err != nil {
		return nil, err
	}
	c, err := stint.Open(filepath.Join(dir, "l.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	return &engine{Client: c, dir: dir, stop: func() {}}, err
}

func (e *engine) work(slots int) error {
	w, err := e.NewWorker(stint.WithSlots(slots))
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

// enqueue enqueues n runs in batches, with the keys that key returns.
func enqueue(t *stint.Task[job, int], n int, key func(i int) string) error {
	for i := 0; i < n; {
		ins := make([]job, min(1000, n-i))
		for j := range ins {
			ins[j] = job{key(i), i, hb.Pad}
			i++
		}
		if _, err := t.EnqueueMany(context.Background(), ins); err != nil {
			return err
		}
	}
	return nil
}

// drain returns how many runs a second 100 slots execute.
func drain(n int, key func(i int) string, opts ...stint.TaskOption) (perSecond float64, err error) {
	e, err := open()
	if err != nil {
		return 0, err
	}
	defer e.close()
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan struct{})
	t := stint.NewTask(e.Client, "t", func(context.Context, job) (int, error) {
		if left.Add(-1) == 0 {
			close(done)
		}
		return 1, nil
	}, opts...)
	if err := enqueue(t, n, key); err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := e.work(100); err != nil {
		return 0, err
	}
	<-done
	e.stop()
	e.wg.Wait()
	return float64(n) / time.Since(begun).Seconds(), nil
}

func byKey(j job) string { return j.Key }

func compare(name string, n, keys int, opt stint.TaskOption) error {
	key := func(i int) string { return strconv.Itoa(i % keys) }
	var plain, limited []float64
	for range *fPairs {
		p, err := drain(n, key)
		if err != nil {
			return err
		}
		l, err := drain(n, key, opt)
		if err != nil {
			return err
		}
		plain, limited = append(plain, p), append(limited, l)
	}
	slices.Sort(plain)
	slices.Sort(limited)
	p, l := plain[len(plain)/2], limited[len(limited)/2]
	hb.Emit(hb.Line{Peer: "stint", Case: name + "-plain", N: n, PerS: p, Notes: "the same runs without limits"})
	hb.Emit(hb.Line{Peer: "stint", Case: name, N: n, PerS: l,
		Notes: fmt.Sprintf("%.0f%% of %.0f/s without limits (medians of %d)", 100*l/p, p, *fPairs)})
	return nil
}

func keys() error {
	return compare("L-keys1000", 100_000, 1000,
		stint.WithConcurrency(stint.Concurrency[job]{Key: byKey, Max: 2, Strategy: stint.StrategyGroupRoundRobin}))
}

func rates() error {
	return compare("L-rates10000", 100_000, 10_000, stint.WithRateLimitFunc(func(j job) stint.RateLimit {
		return stint.RateLimit{Key: j.Key, Limit: 1000, Burst: 1000}
	}))
}

// beside measures the throughput of 1,000 keys while another key has many waiting runs.
func beside() error {
	e, err := open()
	if err != nil {
		return err
	}
	defer e.close()
	k := neighbours{left: new(atomic.Int64), done: make(chan struct{}, 1)}
	hold := make(chan struct{})
	k.task = stint.NewTask(e.Client, "t", func(_ context.Context, j job) (int, error) {
		if j.Key == "blocked" {
			<-hold
			return 0, nil
		}
		if k.left.Add(-1) == 0 {
			k.done <- struct{}{}
		}
		return 1, nil
	}, stint.WithConcurrency(stint.Concurrency[job]{Key: byKey, Max: 1}))
	if err := e.work(100); err != nil {
		return err
	}
	alone, err := k.rate()
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := enqueue(k.task, *blocked, func(int) string { return "blocked" }); err != nil {
		return err
	}
	took := time.Since(begun)
	with, err := k.rate()
	if err != nil {
		return err
	}
	lat, err := k.pickup()
	if err != nil {
		return err
	}
	close(hold)
	hb.Emit(hb.Line{Peer: "stint", Case: "L-beside", N: *blocked, PerS: with, P50: hb.Percentile(lat, .5), P99: hb.Percentile(lat, .99),
		Notes: fmt.Sprintf("%.0f%% of %.0f/s alone; p50 and p99 of enqueue to handler; the blocked were enqueued in %.0f s",
			100*with/alone, alone, took.Seconds())})
	return nil
}

// neighbours are runs of keys that are free, beside those of one that is blocked.
type neighbours struct {
	task *stint.Task[job, int]
	left *atomic.Int64
	done chan struct{}
}

// rate returns how many of 1,000 keys in turns end in a second: the median of three.
func (k *neighbours) rate() (float64, error) {
	const n = 20_000
	var all []float64
	for range 3 {
		k.left.Store(n)
		begun := time.Now()
		if err := enqueue(k.task, n, func(i int) string { return strconv.Itoa(i % 1000) }); err != nil {
			return 0, err
		}
		<-k.done
		all = append(all, n/time.Since(begun).Seconds())
	}
	slices.Sort(all)
	return all[1], nil
}

// pickup returns how long one at a time takes from its enqueue to its end.
func (k *neighbours) pickup() (lat []time.Duration, err error) {
	for i := range 300 {
		k.left.Store(1)
		at := time.Now()
		if _, err := k.task.Enqueue(context.Background(), job{Key: "one" + strconv.Itoa(i)}); err != nil {
			return nil, err
		}
		<-k.done
		lat = append(lat, time.Since(at))
	}
	return lat, nil
}

// fair measures one tenant with 100,000 runs and 99 with 10 each, which take turns.
func fair() error {
	e, err := open()
	if err != nil {
		return err
	}
	defer e.close()
	const tenants, each = 99, 10
	var mu sync.Mutex
	var order []string
	left := tenants * each
	done := make(chan struct{})
	t := stint.NewTask(e.Client, "t", func(_ context.Context, j job) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, j.Key)
		if j.Key != "greedy" {
			if left--; left == 0 {
				close(done)
			}
		}
		return 1, nil
	}, stint.WithConcurrency(stint.Concurrency[job]{Key: byKey, Max: 1, Strategy: stint.StrategyGroupRoundRobin}))
	if err := enqueue(t, 100_000, func(int) string { return "greedy" }); err != nil {
		return err
	}
	if err := enqueue(t, tenants*each, func(i int) string { return strconv.Itoa(i % tenants) }); err != nil {
		return err
	}
	if err := e.work(10); err != nil {
		return err
	}
	<-done
	mu.Lock()
	defer mu.Unlock()
	got := map[string]int{} // when the small ones had done half of theirs
	for _, k := range order[:tenants*each/2] {
		got[k]++
	}
	var sum, squares float64
	for _, n := range got {
		sum, squares = sum+float64(n), squares+float64(n*n)
	}
	hb.Emit(hb.Line{Peer: "stint", Case: "L-fair", N: len(order),
		Notes: fmt.Sprintf("the 99 were done after %d starts, %d of the greedy one; Jain index half way %.4f", len(order),
			len(order)-tenants*each, sum*sum/(squares*float64(len(got))))})
	return nil
}
