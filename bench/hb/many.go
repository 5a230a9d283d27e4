package hb

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint/bench/pg"
)

// Shared is implemented by the peers on a server, whose store several processes share.
type Shared interface {
	// Join opens the store that another process has opened. pg.URL is the server's.
	Join(ctx context.Context) error
}

// wantShared ends the process of a case that the peer cannot do.
func wantShared(p Peer) {
	if _, ok := p.(Shared); !ok {
		check(ErrUnsupported)
	}
}

// A process is one that works on the store of this one.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	runs atomic.Int64 // of handlers so far
	lat  []time.Duration
}

// startProcess starts a process that has joined the store at the URL, and has yet to start its worker.
func startProcess(variant, url string, slots int) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self, "-variant", variant, "-child", "join", "-slots", strconv.Itoa(slots))}
	p.cmd.Env = append(os.Environ(), "STINT_DATABASE_URL="+url)
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	p.out.Buffer(nil, 1<<20)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if !p.out.Scan() {
		return nil, errors.New("a process did not join")
	}
	return p, nil
}

// work starts the worker, and calls f whenever the process says how many handlers have run.
func (p *process) work(f func()) error {
	_, err := fmt.Fprintln(p.in, "work")
	go func() {
		for p.out.Scan() {
			if text := p.out.Text(); strings.HasPrefix(text, "[") {
				_ = json.Unmarshal([]byte(text), &p.lat)
				f()
			} else if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				p.runs.Store(n)
				f()
			}
		}
		f()
	}()
	return err
}

// join is such a process: it starts a worker when it is told to, says how many handlers have run, and at the end of its
// input how late the first of them were.
func join(ctx context.Context, p Peer, slots int) {
	check(p.(Shared).Join(ctx))
	fmt.Println("joined")
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return
	}
	var runs atomic.Int64
	var mu sync.Mutex
	lat := []time.Duration{}
	check(p.Start(ctx, slots, func(t int64) {
		if runs.Add(1) > 1000 {
			return
		}
		late := time.Since(time.Unix(0, t))
		mu.Lock()
		lat = append(lat, late)
		mu.Unlock()
	}))
	over := make(chan struct{})
	go func() { in.Scan(); close(over) }()
	tick := time.NewTicker(2 * time.Millisecond)
	for said := int64(0); ; {
		select {
		case <-tick.C:
			if n := runs.Load(); n != said {
				said = n
				fmt.Println(n)
			}
		case <-over:
			mu.Lock()
			b, _ := json.Marshal(lat)
			mu.Unlock()
			fmt.Println(string(b))
			p.Stop(ctx)
			p.Close()
			return
		}
	}
}

// drainTogether measures how processes drain n runs of the peer's store together, over a network with that round trip;
// without one if it is negative.
func drainTogether(ctx context.Context, p Peer, variant string, processes, slots, n int, roundTrip time.Duration) (time.Duration, string) {
	wantShared(p)
	url := pg.URL()
	if roundTrip >= 0 {
		through, stop, err := pg.Network(roundTrip)
		check(err)
		defer stop()
		url = through
	}
	note, err := pg.RoundTrip(ctx, url)
	check(err)
	check(load(ctx, p, n, 0))
	all := make([]*process, processes)
	for i := range all {
		all[i], err = startProcess(variant, url, slots)
		check(err)
		defer func() { all[i].in.Close(); _ = all[i].cmd.Wait() }()
	}
	said := make(chan struct{}, 1)
	t := time.Now()
	for _, w := range all {
		check(w.work(func() {
			select {
			case said <- struct{}{}:
			default:
			}
		}))
	}
	for stop := time.After(*fCap); ; {
		sum := int64(0)
		for _, w := range all {
			sum += w.runs.Load()
		}
		if sum >= int64(n) {
			break
		}
		select {
		case <-said:
		case <-stop:
			check(fmt.Errorf("%d of %d runs at the time limit", sum, n))
		}
	}
	left, err := waitLeft(ctx, p, time.Now().Add(30*time.Second))
	check(err)
	if left != 0 {
		note += fmt.Sprintf("; %d left after 30 s", left)
	}
	return time.Since(t), note
}

// pickupFrom enqueues n runs, one after another, for a worker in another process, and returns how late their handlers began.
func pickupFrom(ctx context.Context, p Peer, variant string, n int) []time.Duration {
	wantShared(p)
	w, err := startProcess(variant, pg.URL(), 100)
	check(err)
	said := make(chan struct{}, 1000)
	check(w.work(func() { said <- struct{}{} }))
	time.Sleep(2 * time.Second) // let the worker go idle
	paced(ctx, p, n)
	for stop := time.After(*fCap); w.runs.Load() < int64(n); {
		select {
		case <-said:
		case <-stop:
			check(fmt.Errorf("%d of %d runs at the time limit", w.runs.Load(), n))
		}
	}
	w.in.Close()
	for len(w.lat) < n {
		<-said
	}
	_ = w.cmd.Wait()
	return w.lat
}

// drainHeld drains n runs again and again, as C4 does, first three times, and then for so long while a snapshot is held.
// It returns how long one took before, and while it was held: the medians of three and of the last five.
func drainHeld(ctx context.Context, p Peer, n int, hold time.Duration) (before, held time.Duration, cycles int) {
	wantShared(p)
	cycle := func() time.Duration {
		check(load(ctx, p, n, 0))
		k := newCounter(n)
		t := time.Now()
		check(p.Start(ctx, 100, func(int64) { k.hit() }))
		select {
		case <-k.done:
		case <-time.After(6 * *fCap):
			check(fmt.Errorf("%d of %d runs at the time limit", k.n.Load(), n))
		}
		d := time.Since(t)
		p.Stop(ctx)
		return d
	}
	middle := func(took []time.Duration) time.Duration {
		took = slices.Sorted(slices.Values(took))
		return took[len(took)/2]
	}
	before = middle([]time.Duration{cycle(), cycle(), cycle()})
	release, err := pg.Hold(ctx)
	check(err)
	defer release()
	var took []time.Duration
	for t := time.Now(); time.Since(t) < hold || len(took) < 5; {
		took = append(took, cycle())
	}
	return before, middle(took[len(took)-5:]), len(took)
}

// held measures drains while a snapshot is held, and those before.
func held(ctx context.Context, t *trial) {
	before, held, cycles := drainHeld(ctx, t.Peer, t.scale.C4, *fHold)
	Emit(Line{t.name, "C4-held-before", t.scale.C4, round(before.Seconds(), 4), round(float64(t.scale.C4)/before.Seconds(), 1), 0, 0, ""})
	t.emit(t.scale.C4, held, nil, fmt.Sprintf("the last of %d drains, while a snapshot was held for %s", cycles, *fHold))
}

func pickupElsewhere(ctx context.Context, t *trial) {
	begun := time.Now()
	lat := pickupFrom(ctx, t.Peer, t.name, t.scale.C5)
	t.emit(len(lat), time.Since(begun), lat, "enqueue start to handler start, from another process")
}

// together drains with as many processes as the case's name says: "P2x500-1ms" are two of 500 slots over a network of 1 ms.
func together(ctx context.Context, t *trial) {
	processes, slots, roundTrip := int(t.of[1]-'0'), 100, -time.Nanosecond
	if strings.HasPrefix(t.of, "P2") {
		slots, roundTrip = 500, 0
	}
	if strings.HasSuffix(t.of, "-1ms") {
		roundTrip = time.Millisecond
	}
	d, note := drainTogether(ctx, t.Peer, t.name, processes, slots, t.scale.P, roundTrip)
	t.emit(t.scale.P, d, nil, note)
}
