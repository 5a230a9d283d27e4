// Package hb is the peer-neutral benchmark harness: it defines the cases C1..C9
// once, and each peer supplies a small adapter.
//
//	go run ./cmd/<peer> [-variant v] [-cases C1,C2,...] [-reps 3]
//
// The parent process re-executes itself once per (case, repetition) so every
// measurement starts with a fresh process and a fresh store, and kills a child
// that passes its time limit. Each measurement is one JSON line.
package hb

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Pad brings the payload to about 100 bytes of JSON: {"t":1234567890123456789,"pad":"..."}.
const Pad = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

type Payload struct {
	T   int64  `json:"t"`
	Pad string `json:"pad"`
}

// Kind names the task for libraries that take the name from the type (river, backlite).
func (Payload) Kind() string { return "noop" }

var ErrUnsupported = errors.New("unsupported")

// Peer is what an adapter supplies. Open is always given an empty directory (or an
// emptied server). Work is called once per handler run with the payload's T.
type Peer interface {
	Open(ctx context.Context, dir string) error
	Enqueue(ctx context.Context, t int64) error
	// Bulk enqueues n jobs as one batch, delayed if delay > 0.
	Bulk(ctx context.Context, n int, delay time.Duration) error
	// Start starts a worker with the given number of slots.
	Start(ctx context.Context, slots int, work func(t int64)) error
	Stop(ctx context.Context)
	// Left counts jobs not yet durably recorded as done.
	Left(ctx context.Context) (int64, error)
	Close()
	Notes() string // settings in force
}

// Flows is implemented by the workflow engines.
type Flows interface {
	// RunFlows runs n workflows of 5 sequential no-op steps, inflight at a time.
	RunFlows(ctx context.Context, n, inflight int) error
	// SleepFlows starts n workflows that each sleep durably for an hour.
	SleepFlows(ctx context.Context, n int) error
}

// Graphs is implemented by the libraries that run DAGs.
type Graphs interface {
	// RunGraphs enqueues n runs of the shape, and returns when all have ended. Shapes:
	// chain5, diamond10 (1 -> 8 -> 1), wide10000 (1 -> 10,000 -> 1), chain1000.
	RunGraphs(ctx context.Context, shape string, n int) error
	// RunFlowsOf is RunFlows with runs of chain5.
	RunFlowsOf(ctx context.Context, n, inflight int) error
}

type Line struct {
	Peer    string  `json:"peer"`
	Case    string  `json:"case"`
	N       int     `json:"n"`
	Seconds float64 `json:"seconds"`
	PerS    float64 `json:"per_s"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Notes   string  `json:"notes"`
}

func Emit(l Line) {
	b, _ := json.Marshal(l)
	fmt.Println(string(b))
}

type Scale struct{ C1, C2, C3, C3Batch, C4, C5, C6, P, C7, C8, C8Step, C9, C9Flows int }

var DefaultScale = Scale{C1: 5000, C2: 20000, C3: 100000, C3Batch: 1000, C4: 20000, C5: 500, C6: 20000, P: 40000,
	C7: 2000, C8: 1000000, C8Step: 20000, C9: 100000, C9Flows: 10000}

// Variants maps a variant name to a constructor.
type Variants map[string]func() Peer

var (
	fCases   = flag.String("cases", "C1,C2,C3,C4,C5,C6,C7,C8,C9", "cases")
	fReps    = flag.Int("reps", 3, "repetitions")
	fVariant = flag.String("variant", "", "peer variants, comma separated (default: all)")
	fChild   = flag.String("child", "", "internal: run one case")
	fRep     = flag.Int("rep", 0, "internal")
	fDir     = flag.String("dir", filepath.Join(os.TempDir(), "stint-bench"), "data directory")
	fCap     = flag.Duration("cap", 20*time.Second, "time limit inside one timed section; a case that passes it reports what it did by then")
	fLimit   = flag.Duration("limit", 150*time.Second, "hard limit for one child process")
	fC8      = flag.Int("c8", 1000000, "C8 backlog")
	fC7      = flag.Int("c7", 2000, "C7 workflows")
	fScale   = flag.Int("scale", 100, "percent of the runs of each other case")
	fHold    = flag.Duration("hold", 10*time.Minute, "C4-held: how long the snapshot is held")
	fSlots   = flag.Int("slots", 100, "internal")
)

func Main(vs Variants) {
	flag.Parse()
	if *fChild != "" {
		child(vs[*fVariant], *fVariant, *fChild)
		return
	}
	var names []string
	if *fVariant != "" {
		names = strings.Split(*fVariant, ",")
	} else {
		for n := range vs {
			names = append(names, n)
		}
		sort.Strings(names)
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	for _, n := range names {
		if vs[n] == nil {
			fmt.Fprintln(os.Stderr, "no such variant", n)
			os.Exit(2)
		}
		for _, c := range strings.Split(*fCases, ",") {
			reps := *fReps
			if c == "C8" {
				reps = 1 // one load, three measured windows
			}
			limit := *fLimit
			if c == "C4-held" {
				limit += *fHold
			}
			for r := 0; r < reps; r++ {
				ctx, cancel := context.WithTimeout(context.Background(), limit)
				cmd := exec.CommandContext(ctx, self, "-variant", n, "-child", c, "-rep", strconv.Itoa(r),
					"-dir", *fDir, "-cap", fCap.String(), "-c8", strconv.Itoa(*fC8), "-c7", strconv.Itoa(*fC7),
					"-scale", strconv.Itoa(*fScale), "-hold", fHold.String())
				cmd.Stdout = os.Stdout
				cmd.Stderr = os.Stderr
				err := cmd.Run()
				cancel()
				if err != nil {
					ee, ok := err.(*exec.ExitError)
					if ok && ee.ExitCode() == 3 { // unsupported
						break
					}
					fmt.Fprintf(os.Stderr, "%s %s rep %d: %v\n", n, c, r, err)
				}
			}
		}
	}
}

func check(err error) {
	if errors.Is(err, ErrUnsupported) {
		os.Exit(3)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func pct(d []time.Duration, p float64) float64 {
	if len(d) == 0 {
		return 0
	}
	s := append([]time.Duration(nil), d...)
	sort.Slice(s, func(i, j int) bool { return s[i] < s[j] })
	i := int(p * float64(len(s)-1))
	return float64(s[i].Microseconds()) / 1000
}

func child(mk func() Peer, name, c string) {
	ctx := context.Background()
	if c == "join" {
		join(ctx, mk(), *fSlots)
		return
	}
	s := DefaultScale
	s.C8, s.C7 = *fC8, *fC7
	for _, n := range []*int{&s.C1, &s.C2, &s.C3, &s.C4, &s.C5, &s.C6, &s.P} {
		*n = max(1, *n**fScale/100)
	}
	dir := filepath.Join(*fDir, fmt.Sprintf("%s-%s-%d", name, c, *fRep))
	os.RemoveAll(dir)
	check(os.MkdirAll(dir, 0o777))
	os.Chmod(dir, 0o777)
	p := mk()
	check(p.Open(ctx, dir))
	if c == "C7" {
		if _, ok := p.(Flows); !ok {
			os.Exit(3)
		}
	}
	run(ctx, p, name, c, s)
	done := make(chan struct{})
	go func() { p.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
	}
	os.RemoveAll(dir)
	os.Exit(0)
}

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

func run(ctx context.Context, p Peer, name, c string, s Scale) {
	emit := func(n int, d time.Duration, lat []time.Duration, notes string) {
		if x := p.Notes(); x != "" {
			notes = strings.TrimSpace(x + " " + notes)
		}
		Emit(Line{name, c, n, round(d.Seconds(), 4), round(float64(n)/d.Seconds(), 1), pct(lat, .5), pct(lat, .99), notes})
	}
	errNote := func(e int) string {
		if e > 0 {
			return fmt.Sprintf("%d enqueue errors", e)
		}
		return ""
	}
	switch c {
	case "C1", "C2":
		g, n := 1, s.C1
		if c == "C2" {
			g, n = 64, s.C2
		}
		t := time.Now()
		did, lat, errs := producers(ctx, p, g, n, *fCap)
		emit(did, time.Since(t), lat, errNote(errs))
	case "C3":
		t := time.Now()
		did := 0
		var lat []time.Duration
		for did < s.C3 && time.Since(t) < *fCap {
			b := time.Now()
			check(p.Bulk(ctx, s.C3Batch, 0))
			lat = append(lat, time.Since(b))
			did += s.C3Batch
		}
		emit(did, time.Since(t), lat, "p50/p99 are per batch of 1000")
	case "C4":
		check(load(ctx, p, s.C4, 0))
		k := newCounter(s.C4)
		t := time.Now()
		check(p.Start(ctx, 100, func(int64) { k.hit() }))
		notes := ""
		select {
		case <-k.done:
		case <-time.After(*fCap):
			notes = "stopped at the time limit;"
		}
		if notes == "" {
			l, err := waitLeft(ctx, p, time.Now().Add(30*time.Second))
			check(err)
			d := time.Since(t)
			if l != 0 {
				notes = fmt.Sprintf("%d left after 30 s;", l)
			}
			if x := k.n.Load(); x > int64(s.C4) {
				notes += fmt.Sprintf(" %d handler runs;", x)
			}
			emit(s.C4, d, nil, notes)
		} else {
			l, err := p.Left(ctx)
			check(err)
			emit(s.C4-int(l), time.Since(t), nil, notes)
		}
		p.Stop(ctx)
	case "C5":
		n := s.C5
		k := newCounter(n)
		var mu sync.Mutex
		var lat []time.Duration
		check(p.Start(ctx, 100, func(t int64) {
			d := time.Since(time.Unix(0, t))
			mu.Lock()
			lat = append(lat, d)
			mu.Unlock()
			k.hit()
		}))
		time.Sleep(2 * time.Second) // let the worker go idle
		t := time.Now()
		for i := range n {
			next := t.Add(time.Duration(i) * 20 * time.Millisecond)
			time.Sleep(time.Until(next))
			check(p.Enqueue(ctx, time.Now().UnixNano()))
		}
		select {
		case <-k.done:
		case <-time.After(*fCap):
		}
		d := time.Since(t)
		mu.Lock()
		l := append([]time.Duration(nil), lat...)
		mu.Unlock()
		emit(len(l), d, l, "enqueue start to handler start")
		p.Stop(ctx)
	case "C6":
		k := newCounter(s.C6)
		check(p.Start(ctx, 100, func(int64) { k.hit() }))
		time.Sleep(500 * time.Millisecond)
		t := time.Now()
		did, lat, errs := producers(ctx, p, 8, s.C6, *fCap)
		prod := time.Since(t)
		if did == s.C6 {
			select {
			case <-k.done:
			case <-time.After(*fCap):
			}
			if k.n.Load() >= int64(s.C6) {
				_, err := waitLeft(ctx, p, time.Now().Add(20*time.Second))
				check(err)
			}
		}
		l, err := p.Left(ctx)
		check(err)
		emit(did-int(l), time.Since(t), lat, fmt.Sprintf("producers took %.2fs; p50/p99 are of the enqueue call; %s", prod.Seconds(), errNote(errs)))
		p.Stop(ctx)
	case "C6b": // as C6, beside a backlog that takes as long to drain
		k := newCounter(2 * s.C6)
		check(load(ctx, p, 2*s.C6, 0))
		ctx, cancel := context.WithCancel(ctx)
		var lat []time.Duration
		var wg sync.WaitGroup
		t := time.Now()
		check(p.Start(ctx, 100, func(int64) { k.hit() }))
		wg.Go(func() {
			for ctx.Err() == nil {
				_, l, _ := producers(ctx, p, 8, 400, *fCap)
				lat = append(lat, l...)
			}
		})
		select {
		case <-k.done:
		case <-time.After(*fCap):
		}
		n, d := int(k.n.Load()), time.Since(t)
		cancel()
		wg.Wait()
		emit(n, d, lat, "runs drained while 8 producers enqueue; p50/p99 are of the enqueue call")
		p.Stop(ctx)
	case "C7":
		f := p.(Flows)
		check(p.Start(ctx, 100, func(int64) {}))
		cx, cancel := context.WithTimeout(ctx, 100*time.Second)
		defer cancel()
		t := time.Now()
		check(f.RunFlows(cx, s.C7, 100))
		d := time.Since(t)
		emit(s.C7, d, nil, fmt.Sprintf("%.0f steps/s", float64(5*s.C7)/d.Seconds()))
		p.Stop(ctx)
	case "W-chain5", "W-diamond10", "W-wide10000", "W-chain1000", "W-chain5-100":
		g := p.(Graphs)
		n, tasks := s.C7, map[string]int{"W-chain5": 5, "W-diamond10": 10, "W-wide10000": 10002, "W-chain1000": 1000, "W-chain5-100": 5}[c]
		if tasks >= 1000 {
			n = 1
		}
		check(p.Start(ctx, 100, func(int64) {}))
		t := time.Now()
		if c == "W-chain5-100" {
			check(g.RunFlowsOf(ctx, n, 100))
		} else {
			check(g.RunGraphs(ctx, strings.TrimPrefix(c, "W-"), n))
		}
		d := time.Since(t)
		emit(n, d, nil, fmt.Sprintf("%.0f tasks/s, %.3f ms a task, RSS %d MiB", float64(tasks*n)/d.Seconds(), 1000*d.Seconds()/float64(tasks*n), rss(os.Getpid())/1024))
		p.Stop(ctx)
	case "C8":
		lt := time.Now()
		loaded := 0
		for loaded < s.C8 && time.Since(lt) < 70*time.Second {
			check(load(ctx, p, 10000, 0))
			loaded += 10000
		}
		ld := time.Since(lt)
		if loaded < 100000 {
			fmt.Fprintf(os.Stderr, "C8: only %d loaded in %s, skipped\n", loaded, ld)
			os.Exit(3)
		}
		const windows = 3
		var at [windows]atomic.Int64
		k := newCounter(windows * s.C8Step)
		t := time.Now()
		check(p.Start(ctx, 100, func(int64) {
			v := k.hit()
			if v%int64(s.C8Step) == 0 && v/int64(s.C8Step) <= windows {
				at[v/int64(s.C8Step)-1].Store(int64(time.Since(t)))
			}
		}))
		select {
		case <-k.done:
		case <-time.After(60 * time.Second):
		}
		total := time.Since(t)
		note := fmt.Sprintf("backlog %d loaded in %.1fs (%.0f/s);", loaded, ld.Seconds(), float64(loaded)/ld.Seconds())
		prev := time.Duration(0)
		for w := range windows {
			a := time.Duration(at[w].Load())
			if a == 0 {
				did := int(k.n.Load()) - w*s.C8Step
				emit(did, total-prev, nil, note+fmt.Sprintf(" window %d stopped at 60 s total", w))
				break
			}
			emit(s.C8Step, a-prev, nil, note+fmt.Sprintf(" window %d", w))
			prev = a
		}
		Emit(Line{name, "C8-memory", s.C8, 0, float64(rss(os.Getpid())) / 1024, 0, 0, "per_s is RSS MiB here, with the backlog in the file and the worker at work; " + note})
		os.RemoveAll(filepath.Join(*fDir, fmt.Sprintf("%s-%s-%d", name, c, *fRep)))
		if cl, ok := p.(interface{ Abort() }); ok {
			cl.Abort()
		}
		os.Exit(0)
	case "C9":
		f, isFlow := p.(Flows)
		check(p.Start(ctx, 100, func(int64) {}))
		time.Sleep(time.Second)
		debug.FreeOSMemory()
		base := rss(os.Getpid())
		t := time.Now()
		n := s.C9
		if isFlow {
			n = s.C9Flows
			check(f.SleepFlows(ctx, n))
		} else {
			check(load(ctx, p, n, time.Hour))
		}
		d := time.Since(t)
		peak := rss(os.Getpid())
		time.Sleep(2 * time.Second)
		debug.FreeOSMemory()
		time.Sleep(200 * time.Millisecond)
		after := rss(os.Getpid())
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		Emit(Line{name, c, n, round(d.Seconds(), 3), float64(after) / 1024, 0, 0,
			fmt.Sprintf("per_s is RSS MiB here; base %.1f MiB, after load %.1f MiB, after GC %.1f MiB, heap %.1f MiB; %s",
				float64(base)/1024, float64(peak)/1024, float64(after)/1024, float64(ms.HeapInuse)/(1<<20), p.Notes())})
		if cl, ok := p.(interface{ Abort() }); ok {
			cl.Abort()
		}
		os.RemoveAll(filepath.Join(*fDir, fmt.Sprintf("%s-%s-%d", name, c, *fRep)))
		os.Exit(0)
	case "C4-held":
		before, held, cycles := drainHeld(ctx, p, s.C4, *fHold)
		Emit(Line{name, "C4-held-before", s.C4, round(before.Seconds(), 4), round(float64(s.C4)/before.Seconds(), 1), 0, 0, ""})
		emit(s.C4, held, nil, fmt.Sprintf("the last of %d drains, while a snapshot was held for %s", cycles, *fHold))
	case "C5-process":
		t := time.Now()
		lat := pickupFrom(ctx, p, name, s.C5)
		emit(len(lat), time.Since(t), lat, "enqueue start to handler start, from another process")
	case "P1", "P2x500", "P2x500-1ms", "P4":
		processes, slots, roundTrip := int(c[1]-'0'), 100, -time.Nanosecond
		if strings.HasPrefix(c, "P2") {
			slots, roundTrip = 500, 0
		}
		if strings.HasSuffix(c, "-1ms") {
			roundTrip = time.Millisecond
		}
		d, note := drainTogether(ctx, p, name, processes, slots, s.P, roundTrip)
		emit(s.P, d, nil, note)
	default:
		fmt.Fprintln(os.Stderr, "no such case", c)
		os.Exit(2)
	}
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
