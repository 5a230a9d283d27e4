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
	"sort"
	"strconv"
	"strings"
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
	fCap     = flag.Duration("cap", 20*time.Second, "time limit of a timed section; a case that passes it reports what it did by then")
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
			if c == "C8" || c == "C8-plain" {
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
	run(ctx, &trial{Peer: p, name: name, of: c, scale: s})
	done := make(chan struct{})
	go func() { p.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
	}
	os.RemoveAll(dir)
	os.Exit(0)
}
