// Command guard fails if the library has become slower: it compares the CPU time of its work with that of the same
// life of rows in plain SQL, measured in the same process, in turns. A ratio of CPU times holds on a busy machine,
// where no rate does.
//
//	go run ./cmd/guard          fails if a ratio is more than a third above the one on record: a quarter of the speed is lost
//	go run ./cmd/guard -rounds 9
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/bench/hb"
	"github.com/stint-dev/stint/bench/phys"
	_ "modernc.org/sqlite"
)

// The ratios on record: CPU time of a case over that of the life of as many rows in plain SQL, between those of a quiet
// machine and of one without a disk to wait for, where groups are smaller. Whoever makes a case faster lowers its figure.
var cases = []struct {
	name   string
	record float64
	run    func(dir string) error
}{
	{"drain", 2.1, func(dir string) error { return drain(dir) }},
	{"enqueue of five times as many, in 100s", 1.5, enqueue},
	{"drain of 1,000 keys in turns", 5.2, func(dir string) error {
		return drain(dir, stint.WithConcurrency(stint.Concurrency[job]{Key: byKey(1000), Max: 2, Strategy: stint.StrategyGroupRoundRobin}))
	}},
	{"drain of 10,000 rate limits", 4.7, func(dir string) error {
		return drain(dir, stint.WithRateLimitFunc(func(j job) stint.RateLimit {
			return stint.RateLimit{Key: byKey(10_000)(j), Limit: 1000, Burst: 1000}
		}))
	}},
	{"workflows of 5 tasks", 3.4, workflows},
	{"runs of 5 durable steps", 2.8, steps},
}

// Runs, or tasks of workflows, of each case.
const runs = 20_000

type job struct {
	N   int    `json:"n"`
	Pad string `json:"pad"`
}

func byKey(n int) func(job) string { return func(j job) string { return strconv.Itoa(j.N % n) } }

func main() {
	rounds := flag.Int("rounds", 5, "of each case")
	flag.Parse()
	if err := guard(*rounds); err != nil {
		fmt.Fprintln(os.Stderr, "guard:", err)
		os.Exit(1)
	}
}

func guard(rounds int) error {
	ratios := make([][]float64, len(cases))
	for range rounds {
		limit, err := cpu(func(dir string) error {
			phys.Life("sqlite", dir, func(path string) string { return "file:" + path }, runs)
			return nil
		})
		if err != nil {
			return err
		}
		for i, c := range cases {
			used, err := cpu(c.run)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			ratios[i] = append(ratios[i], used/limit)
		}
	}
	slower := 0
	for i, c := range cases {
		slices.Sort(ratios[i])
		median, note := ratios[i][len(ratios[i])/2], ""
		if median > c.record*4/3 {
			slower++
			note = "  slower than it was"
		}
		fmt.Printf("%-39s %5.2f of plain SQL [%.2f to %.2f], on record %.2f%s\n", c.name, median, ratios[i][0], ratios[i][len(ratios[i])-1],
			c.record, note)
	}
	if slower > 0 {
		return fmt.Errorf("%d of %d cases have lost a quarter of their speed; see where with the benchmark of the case and a CPU profile",
			slower, len(cases))
	}
	return nil
}

// cpu returns the seconds of CPU that f used outside of the kernel, whose share depends on the disk.
func cpu(f func(dir string) error) (float64, error) {
	dir, err := os.MkdirTemp("", "stint-guard-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	runtime.GC()
	before, err := used()
	if err != nil {
		return 0, err
	}
	if err := f(dir); err != nil {
		return 0, err
	}
	after, err := used()
	return (after - before).Seconds(), err
}

func used() (time.Duration, error) {
	var r syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano()), err
}

// working calls f with a client on a new file in dir, and a function that starts a worker of 100 slots. Then it stops the
// worker, waits for it, and closes the client.
func working(dir string, f func(c *stint.Client, work func() error) error) (err error) {
	c, err := stint.Open(filepath.Join(dir, "g.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	defer func() {
		cancel()
		workers.Wait()
		if closed := c.Close(); err == nil {
			err = closed
		}
	}()
	return f(c, func() error {
		w, err := c.NewWorker(stint.WithSlots(100))
		if err != nil {
			return err
		}
		workers.Go(func() { w.Run(ctx) })
		return nil
	})
}

func drain(dir string, opts ...stint.TaskOption) error {
	return working(dir, func(c *stint.Client, work func() error) error {
		var left atomic.Int64
		left.Store(runs)
		done := make(chan struct{})
		task := stint.NewTask(c, "noop", func(context.Context, job) (int, error) {
			if left.Add(-1) == 0 {
				close(done)
			}
			return 1, nil
		}, opts...)
		for i := 0; i < runs; {
			ins := make([]job, 1000)
			for j := range ins {
				ins[j] = job{i, hb.Pad}
				i++
			}
			if _, err := task.EnqueueMany(context.Background(), ins); err != nil {
				return err
			}
		}
		if err := work(); err != nil {
			return err
		}
		<-done
		return nil
	})
}

func enqueue(dir string) error {
	return working(dir, func(c *stint.Client, _ func() error) error {
		task := stint.NewTask(c, "noop", func(context.Context, job) (int, error) { return 1, nil })
		for range 5 * runs / 100 {
			if _, err := task.EnqueueMany(context.Background(), slices.Repeat([]job{{1, hb.Pad}}, 100)); err != nil {
				return err
			}
		}
		return nil
	})
}

func workflows(dir string) error {
	return working(dir, func(c *stint.Client, work func() error) error {
		w := stint.NewWorkflow[job](c, "chain")
		one := func(context.Context, job) (int, error) { return 1, nil }
		last := stint.AddTask(w, "first", one)
		for i := range 4 {
			last = stint.AddTask(w, fmt.Sprint("task", i), one, stint.WithParents(last))
		}
		if err := work(); err != nil {
			return err
		}
		return hb.Together(100, runs/5, func() error {
			_, err := w.Run(context.Background(), job{1, hb.Pad})
			return err
		})
	})
}

func steps(dir string) error {
	return working(dir, func(c *stint.Client, work func() error) error {
		task := stint.NewTask(c, "five", func(ctx context.Context, _ job) (sum int, err error) {
			for range 5 {
				n, err := stint.Step(ctx, "step", func(context.Context) (int, error) { return 1, nil })
				if err != nil {
					return 0, err
				}
				sum += n
			}
			return sum, nil
		})
		if err := work(); err != nil {
			return err
		}
		return hb.Together(100, runs/5, func() error {
			_, err := task.Run(context.Background(), job{1, hb.Pad})
			return err
		})
	})
}
