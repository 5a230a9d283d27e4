//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/stint-dev/stint"
)

func init() { roles["soak"] = soakChild }

// soakRetention is short, so that a long soak sees rows come and go.
const soakRetention = 20 * time.Second

// usage is a program's use of resources, measured once a second.
type usage struct {
	Goroutines  int
	Descriptors int
	Heap        uint64 // bytes, after a collection
	Resident    int64  // bytes, with what SQLite has
	File        int64  // bytes, with its log
	Latency     time.Duration
}

// soakChild works with customers at a steady pace, and writes its usage beside the file.
func soakChild(path string) error {
	s, err := openShop(path, stint.WithRetention(soakRetention))
	if err != nil {
		return err
	}
	out, err := os.OpenFile(fmt.Sprintf("%s.usage-%d", path, os.Getpid()), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	fmt.Println("open")
	ctx := context.Background()
	errs := make(chan error, 1)
	for g := range 4 {
		go func() {
			for i := g; ; i += 4 {
				if err := s.visit(ctx, i, func(string, string) {}); err != nil {
					errs <- err
				}
				wait(ctx, 5*time.Millisecond)
			}
		}()
	}
	go func() { errs <- s.work(ctx, 8) }()
	for tick := time.NewTicker(time.Second); ; {
		select {
		case err := <-errs:
			return err
		case <-tick.C:
			if err := json.NewEncoder(out).Encode(s.usage(ctx, path)); err != nil {
				return err
			}
		}
	}
}

func (s *shop) usage(ctx context.Context, path string) (u usage) {
	began := time.Now()
	s.refund.Run(ctx, 1)
	u.Latency = time.Since(began)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Heap, u.Goroutines = m.HeapAlloc, runtime.NumGoroutine()
	var pages int64
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		fmt.Sscan(string(text), new(int64), &pages)
	}
	u.Resident = pages * int64(os.Getpagesize())
	fds, _ := os.ReadDir("/proc/self/fd")
	u.Descriptors = len(fds)
	for _, name := range []string{path, path + "-wal"} {
		if info, err := os.Stat(name); err == nil {
			u.File += info.Size()
		}
	}
	return u
}

// soak runs two programs on one file for long, one of which is killed and replaced now and then. The usage of the
// other does not grow.
func soak(ctx context.Context, r *round) error {
	path := filepath.Join(r.dir("soak"), "shop.db")
	steady, err := startChild("soak", path)
	if err != nil {
		return err
	}
	defer steady.kill()
	<-steady.open
	usageFile := fmt.Sprintf("%s.usage-%d", path, steady.Process.Pid)
	until := time.Now().Add(max(r.long, time.Duration(r.count)*2*time.Second))
	for few := true; ctx.Err() == nil && (few || time.Now().Before(until)); {
		c, err := startChild("soak", path)
		if err != nil {
			return err
		}
		wait(ctx, time.Second+time.Duration(r.rng.IntN(2000))*time.Millisecond)
		if err := c.kill(); err != nil {
			return err
		}
		r.faults++
		if few {
			all, err := readUsage(usageFile)
			if err != nil {
				return err
			}
			few = len(all) < leastUsage
		}
	}
	if err := steady.kill(); err != nil {
		return err
	}
	all, err := readUsage(usageFile)
	if err != nil {
		return err
	}
	r.flat(all)
	return r.settled(ctx, path)
}

func readUsage(path string) (all []usage, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		var u usage
		if d.Decode(&u) != nil { // the end, or a line that the kill tore
			return all, nil
		}
		all = append(all, u)
	}
}

// leastUsage is how many seconds of usage are needed to see growth.
const leastUsage = 12

// flat compares the last quarter of a soak with the second; in the first a program warms
// up, and its file fills up to its retention.
func (r *round) flat(all []usage) {
	n := len(all) / 4
	if len(all) < leastUsage {
		r.verdict.problem("a soak of %d seconds says nothing", len(all))
		return
	}
	for _, m := range []struct {
		what  string
		of    func(usage) float64
		slack float64 // beside half as much again
	}{
		{"goroutines", func(u usage) float64 { return float64(u.Goroutines) }, 20},
		{"descriptors", func(u usage) float64 { return float64(u.Descriptors) }, 5},
		{"MiB heap", func(u usage) float64 { return float64(u.Heap) / (1 << 20) }, 8},
		{"MiB resident", func(u usage) float64 { return float64(u.Resident) / (1 << 20) }, 16},
		{"MiB file", func(u usage) float64 { return float64(u.File) / (1 << 20) }, 16},
		// Noted only: other programs use the machine too.
		{"ms latency", func(u usage) float64 { return u.Latency.Seconds() * 1000 }, math.Inf(1)},
	} {
		if m.what == "MiB file" && n < 120 { // its retention is looked at each minute
			continue
		}
		early, late := median(all[n:2*n], m.of), median(all[3*n:], m.of)
		r.note("%s %.1f, then %.1f", m.what, early, late)
		if late > 1.5*early+m.slack {
			r.verdict.problem("%s grew from %.1f to %.1f", m.what, early, late)
		}
	}
}

func median(us []usage, of func(usage) float64) float64 {
	xs := make([]float64, len(us))
	for i, u := range us {
		xs[i] = of(u)
	}
	slices.Sort(xs)
	return xs[len(xs)/2]
}
