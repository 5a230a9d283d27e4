package hb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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
	var i atomic.Int64
	var wg sync.WaitGroup
	var ferr atomic.Value
	for range 32 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i.Add(1) <= int64(n) {
				if err := p.Enqueue(ctx, time.Now().UnixNano()); err != nil {
					ferr.Store(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if e := ferr.Load(); e != nil {
		return e.(error)
	}
	return nil
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
	s := append([]time.Duration(nil), d...)
	sort.Slice(s, func(i, j int) bool { return s[i] < s[j] })
	i := int(p * float64(len(s)-1))
	return float64(s[i].Microseconds()) / 1000
}

func round(f float64, places int) float64 {
	v, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', places, 64), 64)
	return v
}

// rss returns VmRSS in KiB.
func rss(pid int) int64 { return field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:") }

func field(file, key string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for _, l := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(l, key) {
			f := strings.Fields(l)
			v, _ := strconv.ParseInt(f[1], 10, 64)
			return v
		}
	}
	return 0
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
