package hb

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// end ends the process without what a peer does at Close, which would take longer than the case.
func (t *trial) end() {
	if a, ok := t.Peer.(interface{ Abort() }); ok {
		a.Abort()
	}
	os.RemoveAll(filepath.Join(*fDir, fmt.Sprintf("%s-%s-%d", t.name, t.of, *fRep)))
	os.Exit(0)
}

// backlog drains a part of a large backlog, in three windows. C8-plain has no more than they drain.
func backlog(ctx context.Context, t *trial) {
	const windows = 3
	step, size := t.scale.C8Step, t.scale.C8
	if t.of == "C8-plain" {
		size = windows * step
	}
	note := t.loadBacklog(ctx, size)
	var at [windows]atomic.Int64
	k := newCounter(windows * step)
	begun := time.Now()
	check(t.Start(ctx, 100, func(int64) {
		v := k.hit()
		if w := int(v) / step; int(v)%step == 0 && w <= windows {
			at[w-1].Store(int64(time.Since(begun)))
		}
	}))
	select {
	case <-k.done:
	case <-time.After(60 * time.Second):
	}
	total := time.Since(begun)
	prev := time.Duration(0)
	for w := range windows {
		a := time.Duration(at[w].Load())
		if a == 0 {
			did := int(k.n.Load()) - w*step
			t.emit(did, total-prev, nil, note+fmt.Sprintf(" window %d stopped at 60 s total", w))
			break
		}
		t.emit(step, a-prev, nil, note+fmt.Sprintf(" window %d", w))
		prev = a
	}
	Emit(Line{t.name, t.of + "-memory", size, 0, Resident(), 0, 0,
		"per_s is RSS MiB here, with the backlog in the file and the worker at work; " + note})
	t.end()
}

// loadBacklog enqueues a backlog, for at most 70 s, and says how fast.
func (t *trial) loadBacklog(ctx context.Context, size int) string {
	begun := time.Now()
	loaded := 0
	for loaded < size && time.Since(begun) < 70*time.Second {
		check(load(ctx, t, 10000, 0))
		loaded += 10000
	}
	d := time.Since(begun)
	if loaded < min(size, 100000) {
		fmt.Fprintf(os.Stderr, "%s: only %d loaded in %s, skipped\n", t.of, loaded, d)
		os.Exit(3)
	}
	return fmt.Sprintf("backlog %d loaded in %.1fs (%.0f/s);", loaded, d.Seconds(), float64(loaded)/d.Seconds())
}

// sleeping measures the memory of many runs that sleep for an hour.
func sleeping(ctx context.Context, t *trial) {
	check(t.Start(ctx, 100, func(int64) {}))
	time.Sleep(time.Second)
	debug.FreeOSMemory()
	base := Resident()
	begun := time.Now()
	n := t.scale.C9
	if f, ok := t.Peer.(Flows); ok {
		n = t.scale.C9Flows
		check(f.SleepFlows(ctx, n))
	} else {
		check(load(ctx, t, n, time.Hour))
	}
	d := time.Since(begun)
	peak := Resident()
	time.Sleep(2 * time.Second)
	debug.FreeOSMemory()
	time.Sleep(200 * time.Millisecond)
	after := Resident()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	Emit(Line{t.name, t.of, n, round(d.Seconds(), 3), after, 0, 0,
		fmt.Sprintf("per_s is RSS MiB here; base %.1f MiB, after load %.1f MiB, after GC %.1f MiB, heap %.1f MiB; %s",
			base, peak, after, float64(ms.HeapInuse)/(1<<20), t.Notes())})
	t.end()
}
