//go:build unix

// Command torture attacks the library from outside: it kills, freezes and starves programs that use it, cuts their
// power, sets their clocks, and checks the file against what they have acknowledged. docs/reliability.md has the
// results of a long run.
//
//	go run ./internal/torture -minutes 60
//	go run ./internal/torture -attacks power,kill -count 2000 -seed 7
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// An attack does something bad, checks, and repeats it as often as its round says.
type attack struct {
	name  string
	what  string // that its count counts
	brief int    // count of the short form
	taste int    // count in "go test", where all of them have seconds; 0: none
	run   func(context.Context, *round) error
}

var attacks = []attack{
	{"power", "images", 1000, 100, power},
	{"kill", "kills", 150, 20, kill},
	{"freeze", "freezes", 20, 5, freeze},
	{"disk", "faults", 18, 6, faulty},
	{"clock", "jumps", 12, 6, clock},
	{"neighbours", "backups", 6, 2, neighbours},
	{"neighbour", "attacks", 20, 3, neighbour},
	{"litestream", "restores", 2, 1, litestream},
	{"history", "calls", 20, 5, history},
	{"soak", "kills", 8, 0, soak},
	{"programs", "kills", 40, 8, programs},
	{"cut", "faults", 200, 30, cut},
	{"backends", "ends", 100, 25, backends},
	{"postmaster", "kills", 15, 3, postmaster},
	{"frozen", "freezes", 8, 2, frozen},
	{"standby", "failovers", 6, 2, standby},
	{"room", "full disks", 6, 2, room},
	{"idle", "transactions", 30, 6, idle},
	{"linear", "calls", 10, 3, linear},
}

// A round is one attack's turn.
type round struct {
	count   int           // how often
	long    time.Duration // 0: the short form
	seed    uint64
	rng     *rand.Rand
	faults  int // so far
	verdict verdict
	notes   []string
	base    string
	dirs    int
}

// newRound returns a round with a directory of its own under base.
func newRound(base string, seed uint64, count int, long time.Duration) *round {
	return &round{count: count, long: long, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), base: base}
}

// dir creates a directory, or panics.
func (r *round) dir(name string) string {
	r.dirs++
	dir := fmt.Sprintf("%s/%s-%d", r.base, name, r.dirs)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		panic(err)
	}
	return dir
}

// scaled returns a duration for the short or the long form.
func (r *round) scaled(short, long time.Duration) time.Duration {
	if r.long > 0 {
		return long
	}
	return short
}

// shortLimit bounds the time of a short form: more than twice what the longest takes on a busy machine.
const shortLimit = 3 * time.Minute

// within makes an attack. If it takes longer than the limit, its context ends, and the error says where each goroutine
// was then.
func (a *attack) within(ctx context.Context, limit time.Duration, r *round) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var stacks bytes.Buffer
	dumped := make(chan struct{})
	timer := time.AfterFunc(limit, func() {
		defer close(dumped)
		pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		cancel(context.DeadlineExceeded) // only now, or what it waits for might not be seen
	})
	err := r.err(a.run(ctx, r))
	if !timer.Stop() {
		<-dumped
		err = errors.Join(err, fmt.Errorf("it was not over after %v, when its goroutines were here:\n%s", limit, &stacks))
	}
	return err
}

func (r *round) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// err returns the result of a round.
func (r *round) err(err error) error {
	err = errors.Join(err, r.verdict.err())
	if err != nil {
		err = fmt.Errorf("seed %d, after %d faults: %w", r.seed, r.faults, err)
	}
	return err
}

func joinClose(err error, s *shop) error { return errors.Join(err, s.c.Close()) }

func main() {
	if becomeChild() {
		return
	}
	minutes := flag.Float64("minutes", 0, "how long in all; 0: each attack once, in its short form")
	names := flag.String("attacks", "", "which, with commas; empty: all")
	count := flag.Int("count", 0, "how often each; 0: as its short form, or until its time is over")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what is random")
	dir := flag.String("dir", "", "where the files are, which stay if something is found; empty: a temporary directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	chosen, err := choose(*names)
	if err == nil && *dir == "" {
		*dir, err = os.MkdirTemp("", "torture")
	}
	if err != nil {
		log.Fatal(err)
	}
	each := time.Duration(*minutes * float64(time.Minute) / float64(len(chosen)))
	if !runAll(ctx, chosen, *dir, *seed, *count, each) {
		os.Exit(1)
	}
	os.Remove(*dir)
}

func choose(names string) (chosen []attack, err error) {
	if names == "" {
		return attacks, nil
	}
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, a := range attacks {
			if a.name == name {
				chosen, found = append(chosen, a), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no attack %q", name)
		}
	}
	return chosen, nil
}

// runAll prints a line for each attack, and reports whether the library withstood them all.
func runAll(ctx context.Context, chosen []attack, dir string, seed uint64, count int, each time.Duration) (stood bool) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "attack\tfaults\tlost\tdoubled\tover a limit\tstuck\tseconds\tseed\t")
	stood = true
	for _, a := range chosen {
		began := time.Now()
		var sum verdict
		faults, notes := 0, []string(nil)
		for n := uint64(0); n == 0 || each > 0 && time.Since(began) < each && ctx.Err() == nil; n++ {
			r := newRound(fmt.Sprintf("%s/%s-%d", dir, a.name, n), seed+n, max(count, a.brief), each)
			if count > 0 {
				r.count = count
			}
			var err error
			if each == 0 && count == 0 {
				err = a.within(ctx, shortLimit, r)
			} else {
				err = r.err(a.run(ctx, r))
			}
			sum.join(r.verdict)
			faults, notes = faults+r.faults, r.notes
			if why := (errNoServer{}); errors.As(err, &why) {
				notes = append(notes, why.Error())
				break
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\nfiles: %s\n", a.name, err, r.base)
				stood = false
				break
			}
			os.RemoveAll(r.base)
		}
		fmt.Fprintf(out, "%s\t%d %s\t%d\t%d\t%d\t%d\t%.0f\t%d\t%s\n", a.name, faults, a.what, sum.Lost, sum.Doubled, sum.Over, sum.Stuck,
			time.Since(began).Seconds(), seed, strings.Join(notes, "; "))
		out.Flush()
	}
	return stood
}
