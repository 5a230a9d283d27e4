// Command durable benchmarks durable functions: one JSON line a case, with the cost of one
// fdatasync at the same pace.
//
//	durable [-durable seq1000,event,fan10000,replay10000,sleep100k,sleep1m,kill10k]
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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
		P50: ms(pct(lat, .5)), P99: ms(pct(lat, .99)), Notes: notes,
	})
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func pct(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[int(p*float64(len(d)-1))]
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
	return fmt.Sprintf("one fdatasync at this rhythm: p50 %.3f ms, p99 %.3f ms", ms(pct(lat, .5)), ms(pct(lat, .99)))
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
	if err := published("event", filepath.Join(dir, "resident.db"), n, every, "publish to handler resumed, in memory; "+before); err != nil {
		return err
	}
	return published("event-evicted", filepath.Join(dir, "evicted.db"), n, every, "publish to handler resumed, replayed", stint.WithMaxResident(0))
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
	emit("fan10000", n, time.Since(t), nil, fmt.Sprintf("RSS %d MiB", rss()))
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
			if _, err := stint.Step(ctx, "step", func(context.Context) (string, error) { return "the result of step " + strconv.Itoa(i), nil }); err != nil {
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

func rss() int {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, _ := strconv.Atoi(f[1])
			return kib / 1024
		}
	}
	return 0
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// asleep enqueues n runs that sleep until the times at returns, and waits until all sleep.
func asleep(e *engine, n int, at func(i int) time.Time, late func(time.Duration)) error {
	task := stint.NewTask(e.Client, "nap", func(ctx context.Context, due int64) (int, error) {
		t := time.UnixMilli(due)
		err := stint.SleepUntil(ctx, t)
		if err == nil {
			late(time.Since(t))
		}
		return 0, err
	})
	if err := e.work(); err != nil {
		return err
	}
	ctx := context.Background()
	for i := 0; i < n; {
		ins := make([]int64, min(10_000, n-i))
		for j := range ins {
			ins[j] = at(i).UnixMilli()
			i++
		}
		if _, err := task.EnqueueMany(ctx, ins); err != nil {
			return err
		}
	}
	return idle(ctx, e)
}

func idle(ctx context.Context, e *engine) error {
	for {
		page, err := e.ListRuns(ctx, stint.RunFilter{States: []stint.State{stint.StateQueued, stint.StateRunning}, Limit: 1})
		if err != nil || len(page.Runs) == 0 {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// sleepers measures 100,000 sleeping runs that are all due within one minute.
func sleepers(dir string) error {
	e, err := open(dir)
	if err != nil {
		return err
	}
	defer e.close()
	const n = 100_000
	begun := time.Now()
	first := begun.Add(60 * time.Second)
	var mu sync.Mutex
	var lat []time.Duration
	done := make(chan struct{})
	err = asleep(e, n, func(i int) time.Time { return first.Add(time.Duration(i) * time.Minute / n) }, func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if lat = append(lat, d); len(lat) == n {
			close(done)
		}
	})
	if err != nil {
		return err
	}
	took := time.Since(begun)
	runtime.GC()
	time.Sleep(2 * time.Second)
	used, at := cpu(), time.Now()
	time.Sleep(10 * time.Second)
	share := float64(cpu()-used) / float64(time.Since(at)) * 100
	notes := fmt.Sprintf("asleep after %.1f s, RSS %d MiB, idle CPU %.2f%%", took.Seconds(), rss(), share)
	if !time.Now().Before(first) {
		notes += ", the first were due before all slept"
	}
	<-done
	emit("sleep100k", n, time.Since(begun), lat, notes+", p50 and p99 of lateness")
	return nil
}

// million measures 1,000,000 sleeping runs after their file is opened again.
func million(dir string) error {
	e, err := open(dir)
	if err != nil {
		return err
	}
	const n = 1_000_000
	begun := time.Now()
	err = asleep(e, n, func(i int) time.Time { return begun.Add(time.Hour + time.Duration(i)*time.Millisecond) }, func(time.Duration) {})
	if err != nil {
		return err
	}
	took := time.Since(begun)
	e.close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := exec.Command(self, "-victim", "open:"+dir).Output()
	emit("sleep1m", n, took, nil, strings.TrimSpace(string(out)))
	return err
}

// victim runs in a process of its own: it works until it is killed, or opens a file and prints
// how long that took.
func victim(file string) error {
	if dir, ok := strings.CutPrefix(file, "open:"); ok {
		return reopened(dir)
	}
	e, err := open(file)
	if err != nil {
		return err
	}
	steps(e)
	if err := e.work(); err != nil {
		return err
	}
	for time.Sleep(time.Hour); ; {
	}
}

func reopened(dir string) error {
	t := time.Now()
	e, err := open(dir)
	if err != nil {
		return err
	}
	task := stint.NewTask(e.Client, "nap", func(ctx context.Context, _ int64) (int, error) { return 1, nil })
	if err := e.work(); err != nil {
		return err
	}
	if _, err := task.Run(context.Background(), 1); err != nil {
		return err
	}
	took := time.Since(t)
	time.Sleep(2 * time.Second)
	used, at := cpu(), time.Now()
	time.Sleep(5 * time.Second)
	fmt.Printf("opened, and a first run worked, after %.3f s, RSS %d MiB, idle CPU %.2f%%\n", took.Seconds(), rss(), float64(cpu()-used)/float64(time.Since(at))*100)
	e.close()
	return nil
}

var progress atomic.Int64

// steps is a task of five steps with a short sleep between them.
func steps(e *engine) *stint.Task[int, int] {
	return stint.NewTask(e.Client, "steps", func(ctx context.Context, n int) (int, error) {
		for i := range 5 {
			if _, err := stint.Step(ctx, "step", func(context.Context) (int, error) {
				progress.Add(1)
				return i, nil
			}); err != nil {
				return 0, err
			}
			if i == 1 {
				if err := stint.Sleep(ctx, 2*time.Second); err != nil {
					return 0, err
				}
			}
		}
		return n, nil
	})
}

// kill measures how long the next process needs after one is killed with 10,000 open runs.
func kill(dir string) error {
	e, err := open(dir)
	if err != nil {
		return err
	}
	const n = 10_000
	runs, err := steps(e).EnqueueMany(context.Background(), make([]int, n))
	if err != nil {
		return err
	}
	e.close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "-victim", dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	time.Sleep(1500 * time.Millisecond) // most are asleep, the rest under way
	cmd.Process.Kill()
	bufio.NewReader(out).ReadString(0)
	cmd.Wait()

	begun := time.Now()
	if e, err = open(dir); err != nil {
		return err
	}
	defer e.close()
	steps(e)
	if err := e.work(); err != nil {
		return err
	}
	for progress.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	first := time.Since(begun)
	for _, r := range runs {
		if _, err := stint.RunByID[int](e.Client, r.ID()).Wait(context.Background()); err != nil {
			return err
		}
	}
	emit("kill10k", n, time.Since(begun), nil, fmt.Sprintf("first progress after %.3f s; time until all have ended", first.Seconds()))
	return nil
}
