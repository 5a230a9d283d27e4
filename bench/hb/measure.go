package hb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type counter struct {
	n    atomic.Int64
	want int64
	done chan struct{}
	once sync.Once
}

func newCounter(want int) *counter { return &counter{want: int64(want), done: make(chan struct{})} }
func (k *counter) hit() int64 {
	v := k.n.Add(1)
	if v >= k.want {
		k.once.Do(func() { close(k.done) })
	}
	return v
}

// waitLeft polls the store until nothing is left (only once every handler has run).
func waitLeft(ctx context.Context, p Peer, deadline time.Time) (int64, error) {
	for {
		l, err := p.Left(ctx)
		if err != nil {
			return l, err
		}
		if l <= 0 || time.Now().After(deadline) {
			return l, nil
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func load(ctx context.Context, p Peer, n int, delay time.Duration) error {
	for left := n; left > 0; {
		k := min(left, 1000)
		err := p.Bulk(ctx, k, delay)
		if errors.Is(err, ErrUnsupported) && delay == 0 {
			return loadSingle(ctx, p, left)
		}
		if err != nil {
			return err
		}
		left -= k
	}
	return nil
}

func loadSingle(ctx context.Context, p Peer, n int) error {
	return Together(32, n, func() error { return p.Enqueue(ctx, time.Now().UnixNano()) })
}

// paced enqueues n runs, one each 20 ms.
func paced(ctx context.Context, p Peer, n int) {
	begun := time.Now()
	for i := range n {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * 20 * time.Millisecond)))
		check(p.Enqueue(ctx, time.Now().UnixNano()))
	}
}

func producers(ctx context.Context, p Peer, g, n int, capd time.Duration) (int, []time.Duration, int) {
	var i, did, errs atomic.Int64
	lat := make([][]time.Duration, g)
	var wg sync.WaitGroup
	stop := time.Now().Add(capd)
	for w := range g {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i.Add(1) <= int64(n) {
				t := time.Now()
				if t.After(stop) {
					return
				}
				if err := p.Enqueue(ctx, t.UnixNano()); err != nil {
					if errs.Add(1) == 1 {
						fmt.Fprintln(os.Stderr, "enqueue error:", err)
					}
					continue
				}
				did.Add(1)
				lat[w] = append(lat[w], time.Since(t))
			}
		}()
	}
	wg.Wait()
	var all []time.Duration
	for _, l := range lat {
		all = append(all, l...)
	}
	return int(did.Load()), all, int(errs.Load())
}

// Percentile returns a percentile of latencies, p from 0 to 1, in milliseconds; 0 if there are none.
func Percentile(d []time.Duration, p float64) float64 {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return float64(s[int(p*float64(len(s)-1))].Microseconds()) / 1000
}

func round(f float64, places int) float64 {
	v, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', places, 64), 64)
	return v
}

// Resident returns the resident memory of the process, in MiB; 0 if it cannot be read.
func Resident() float64 {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib / 1024
		}
	}
	return 0
}

// CPU returns the time that the process has used, in the kernel too.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Together calls f n times, so many at once, and returns the first error.
func Together(at, n int, f func() error) error {
	var left atomic.Int64
	left.Store(int64(n))
	errs := make(chan error, at)
	for range at {
		go func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var first error
	for range at {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return first
}
