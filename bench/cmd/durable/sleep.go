package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/bench/hb"
)

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
	used, at := hb.CPU(), time.Now()
	time.Sleep(10 * time.Second)
	share := float64(hb.CPU()-used) / float64(time.Since(at)) * 100
	notes := fmt.Sprintf("asleep after %.1f s, RSS %.0f MiB, idle CPU %.2f%%", took.Seconds(), hb.Resident(), share)
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
	used, at := hb.CPU(), time.Now()
	time.Sleep(5 * time.Second)
	fmt.Printf("opened, and a first run worked, after %.3f s, RSS %.0f MiB, idle CPU %.2f%%\n", took.Seconds(), hb.Resident(),
		float64(hb.CPU()-used)/float64(time.Since(at))*100)
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
