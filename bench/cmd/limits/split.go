package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/bench/hb"
)

// The limits of the two processes of split.
const (
	splitRate, splitBurst = 200, 10
	splitMax              = 5
	splitWork             = 100 * time.Millisecond
)

// splitTasks defines a task with a rate limit and one with a concurrency limit. Each handler
// reports when it began and ended.
func splitTasks(c *stint.Client) (rated, counted *stint.Task[int, int]) {
	say := func(kind string, work time.Duration) func(context.Context, int) (int, error) {
		return func(ctx context.Context, _ int) (int, error) {
			began := time.Now()
			if info, _ := stint.Info(ctx); work == 0 {
				began = info.Started // when it took its unit
			}
			time.Sleep(work)
			fmt.Println(kind, began.UnixNano(), time.Now().UnixNano())
			return 0, nil
		}
	}
	rated = stint.NewTask(c, "rated", say("rated", 0), stint.WithRateLimit("r", 1))
	counted = stint.NewTask(c, "counted", say("counted", splitWork), stint.WithConcurrency(stint.Concurrency[int]{Max: splitMax}))
	return rated, counted
}

func workUntilKilled(dir string) error {
	c, err := stint.Open(filepath.Join(dir, "l.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	splitTasks(c)
	for range 2 {
		w, err := c.NewWorker()
		if err != nil {
			return err
		}
		go w.Run(context.Background())
	}
	select {}
}

// split runs four workers in two processes under a rate and a concurrency limit. It measures the
// most runs at once, the starts above the rate in the worst window, and how much of the limits
// was used.
func split() error {
	e, err := open()
	if err != nil {
		return err
	}
	defer e.close()
	ctx := context.Background()
	if err := e.SetRateLimit(ctx, "r", splitRate, splitBurst); err != nil {
		return err
	}
	rated, counted := splitTasks(e.Client)
	run := time.Duration(*seconds) * time.Second
	for _, t := range []struct {
		task *stint.Task[int, int]
		n    int
	}{{rated, splitRate * (*seconds + 5)}, {counted, splitMax * int((run+5*time.Second)/splitWork)}} {
		if _, err := t.task.EnqueueMany(ctx, make([]int, t.n)); err != nil {
			return err
		}
	}
	spans, err := watch(e.dir, run)
	if err != nil {
		return err
	}
	over, used := overRate(spans["rated"])
	most, share := atOnce(spans["counted"])
	hb.Emit(hb.Line{Peer: "stint", Case: "L-split", N: len(spans["rated"]) + len(spans["counted"]), Seconds: run.Seconds(),
		Notes: fmt.Sprintf("rate: %.2f starts over burst and rate in the worst window, %.1f%% of it used; "+
			"concurrency: at most %d of %d at once, %.1f%% of it used", over, used, most, splitMax, share)})
	return nil
}

// watch runs two processes for a time and returns what their handlers reported.
func watch(dir string, run time.Duration) (map[string][][2]int64, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	spans := map[string][][2]int64{}
	var wg sync.WaitGroup
	var cmds []*exec.Cmd
	for range 2 {
		cmd := exec.Command(self, "-worker", dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		cmds = append(cmds, cmd)
		wg.Go(func() {
			for sc := bufio.NewScanner(out); sc.Scan(); {
				var kind string
				var from, to int64
				if n, _ := fmt.Sscan(sc.Text(), &kind, &from, &to); n == 3 {
					mu.Lock()
					spans[kind] = append(spans[kind], [2]int64{from, to})
					mu.Unlock()
				}
			}
		})
	}
	time.Sleep(run)
	for _, cmd := range cmds {
		cmd.Process.Kill()
	}
	wg.Wait()
	for _, cmd := range cmds {
		cmd.Wait()
	}
	return spans, nil
}

// overRate returns the starts above the rate in the worst window, and the used share of the rate.
func overRate(spans [][2]int64) (over, used float64) {
	slices.SortFunc(spans, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	least := 0.0 // over i of i - rate * t(i): the worst window begins there
	for i, s := range spans {
		at := float64(i) - splitRate*float64(s[0]-spans[0][0])/1e9
		least = min(least, at)
		over = max(over, at-least+1-splitBurst)
	}
	took := float64(spans[len(spans)-1][0]-spans[0][0]) / 1e9
	return over, 100 * float64(len(spans)) / (splitBurst + splitRate*took)
}

// atOnce returns the most spans that overlap, and the share of splitMax that they used.
func atOnce(spans [][2]int64) (most int, used float64) {
	type edge struct {
		at int64
		by int
	}
	var edges []edge
	var sum, first, last int64 = 0, spans[0][0], 0
	for _, s := range spans {
		edges = append(edges, edge{s[0], 1}, edge{s[1], -1})
		sum += s[1] - s[0]
		first, last = min(first, s[0]), max(last, s[1])
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by, b.by)) })
	now := 0
	for _, e := range edges {
		now += e.by
		most = max(most, now)
	}
	return most, 100 * float64(sum) / float64(splitMax*(last-first))
}
