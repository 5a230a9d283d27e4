package hb

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// A trial is one case of one peer.
type trial struct {
	Peer
	name  string // of the variant
	of    string // the case
	scale Scale
}

// cases are the functions that measure each case. Those on a server are in many.go, those that end the process in backlog.go.
var cases = map[string]func(context.Context, *trial){
	"C1": enqueueOne, "C2": enqueue64, "C3": enqueueBatches, "C4": drain, "C5": pickup, "C6": mixed, "C6b": mixedWithBacklog, "C7": flows,
	"W-chain5": graphs, "W-diamond10": graphs, "W-wide10000": graphs, "W-chain1000": graphs, "W-chain5-100": graphs,
	"C8": backlog, "C8-plain": backlog, "C9": sleeping,
	"C4-held": held, "C5-process": pickupElsewhere, "P1": together, "P2x500": together, "P2x500-1ms": together, "P4": together,
}

func run(ctx context.Context, t *trial) {
	measure := cases[t.of]
	if measure == nil {
		fmt.Fprintln(os.Stderr, "no such case", t.of)
		os.Exit(2)
	}
	measure(ctx, t)
}

// emit prints what was measured: n of something in d, with the latencies of some.
func (t *trial) emit(n int, d time.Duration, lat []time.Duration, notes string) {
	if x := t.Notes(); x != "" {
		notes = strings.TrimSpace(x + " " + notes)
	}
	Emit(Line{t.name, t.of, n, round(d.Seconds(), 4), round(float64(n)/d.Seconds(), 1), Percentile(lat, .5), Percentile(lat, .99), notes})
}

func failed(errs int) string {
	if errs > 0 {
		return fmt.Sprintf("%d enqueue errors", errs)
	}
	return ""
}

// within waits until k has counted all, at most as long as a timed section may last, and reports whether it has.
func within(k *counter) bool {
	select {
	case <-k.done:
		return true
	case <-time.After(*fCap):
		return false
	}
}

func enqueueOne(ctx context.Context, t *trial) { t.enqueueFrom(ctx, 1, t.scale.C1) }
func enqueue64(ctx context.Context, t *trial)  { t.enqueueFrom(ctx, 64, t.scale.C2) }

func (t *trial) enqueueFrom(ctx context.Context, goroutines, n int) {
	begun := time.Now()
	did, lat, errs := producers(ctx, t, goroutines, n, *fCap)
	t.emit(did, time.Since(begun), lat, failed(errs))
}

func enqueueBatches(ctx context.Context, t *trial) {
	begun := time.Now()
	did := 0
	var lat []time.Duration
	for did < t.scale.C3 && time.Since(begun) < *fCap {
		b := time.Now()
		check(t.Bulk(ctx, t.scale.C3Batch, 0))
		lat = append(lat, time.Since(b))
		did += t.scale.C3Batch
	}
	t.emit(did, time.Since(begun), lat, "p50/p99 are per batch of 1000")
}

func drain(ctx context.Context, t *trial) {
	n := t.scale.C4
	check(load(ctx, t, n, 0))
	k := newCounter(n)
	begun := time.Now()
	check(t.Start(ctx, 100, func(int64) { k.hit() }))
	if within(k) {
		l, err := waitLeft(ctx, t, time.Now().Add(30*time.Second))
		check(err)
		d, notes := time.Since(begun), ""
		if l != 0 {
			notes = fmt.Sprintf("%d left after 30 s;", l)
		}
		if x := k.n.Load(); x > int64(n) {
			notes += fmt.Sprintf(" %d handler runs;", x)
		}
		t.emit(n, d, nil, notes)
	} else {
		l, err := t.Left(ctx)
		check(err)
		t.emit(n-int(l), time.Since(begun), nil, "stopped at the time limit;")
	}
	t.Stop(ctx)
}

func pickup(ctx context.Context, t *trial) {
	n := t.scale.C5
	k := newCounter(n)
	var mu sync.Mutex
	var lat []time.Duration
	check(t.Start(ctx, 100, func(at int64) {
		d := time.Since(time.Unix(0, at))
		mu.Lock()
		lat = append(lat, d)
		mu.Unlock()
		k.hit()
	}))
	time.Sleep(2 * time.Second) // let the worker go idle
	begun := time.Now()
	paced(ctx, t, n)
	within(k)
	d := time.Since(begun)
	mu.Lock()
	l := append([]time.Duration(nil), lat...)
	mu.Unlock()
	t.emit(len(l), d, l, "enqueue start to handler start")
	t.Stop(ctx)
}

func mixed(ctx context.Context, t *trial) {
	n := t.scale.C6
	k := newCounter(n)
	check(t.Start(ctx, 100, func(int64) { k.hit() }))
	time.Sleep(500 * time.Millisecond)
	begun := time.Now()
	did, lat, errs := producers(ctx, t, 8, n, *fCap)
	produced := time.Since(begun)
	if did == n {
		within(k)
		if k.n.Load() >= int64(n) {
			_, err := waitLeft(ctx, t, time.Now().Add(20*time.Second))
			check(err)
		}
	}
	l, err := t.Left(ctx)
	check(err)
	t.emit(did-int(l), time.Since(begun), lat,
		fmt.Sprintf("producers took %.2fs; p50/p99 are of the enqueue call; %s", produced.Seconds(), failed(errs)))
	t.Stop(ctx)
}

// mixedWithBacklog is mixed beside a backlog that takes as long to drain.
func mixedWithBacklog(ctx context.Context, t *trial) {
	k := newCounter(2 * t.scale.C6)
	check(load(ctx, t, 2*t.scale.C6, 0))
	ctx, cancel := context.WithCancel(ctx)
	var lat []time.Duration
	var wg sync.WaitGroup
	begun := time.Now()
	check(t.Start(ctx, 100, func(int64) { k.hit() }))
	wg.Go(func() {
		for ctx.Err() == nil {
			_, l, _ := producers(ctx, t, 8, 400, *fCap)
			lat = append(lat, l...)
		}
	})
	within(k)
	n, d := int(k.n.Load()), time.Since(begun)
	cancel()
	wg.Wait()
	t.emit(n, d, lat, "runs drained while 8 producers enqueue; p50/p99 are of the enqueue call")
	t.Stop(ctx)
}

func flows(ctx context.Context, t *trial) {
	f, ok := t.Peer.(Flows)
	if !ok {
		check(ErrUnsupported)
	}
	check(t.Start(ctx, 100, func(int64) {}))
	n := t.scale.C7
	within, cancel := context.WithTimeout(ctx, 100*time.Second)
	defer cancel()
	begun := time.Now()
	check(f.RunFlows(within, n, 100))
	d := time.Since(begun)
	t.emit(n, d, nil, fmt.Sprintf("%.0f steps/s", float64(5*n)/d.Seconds()))
	t.Stop(ctx)
}

// tasksOf has the number of tasks of each graph.
var tasksOf = map[string]int{"W-chain5": 5, "W-diamond10": 10, "W-wide10000": 10002, "W-chain1000": 1000, "W-chain5-100": 5}

func graphs(ctx context.Context, t *trial) {
	g := t.Peer.(Graphs)
	n, tasks := t.scale.C7, tasksOf[t.of]
	if tasks >= 1000 {
		n = 1
	}
	check(t.Start(ctx, 100, func(int64) {}))
	begun := time.Now()
	if t.of == "W-chain5-100" {
		check(g.RunFlowsOf(ctx, n, 100))
	} else {
		check(g.RunGraphs(ctx, strings.TrimPrefix(t.of, "W-"), n))
	}
	d := time.Since(begun)
	all := float64(tasks * n)
	t.emit(n, d, nil, fmt.Sprintf("%.0f tasks/s, %.3f ms a task, RSS %.0f MiB", all/d.Seconds(), 1000*d.Seconds()/all, Resident()))
	t.Stop(ctx)
}
