package stint_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"
)

// A figured is a run of the random test of figures: each enqueue may bring others.
type figured struct {
	Tenant       string
	Limit        float64
	Burst, Units int
	Sleeps       bool
	Seconds      int
}

// The tasks share a concurrency limit, as releases of one task do whose figures differ.
var figuredLimits = []stint.Concurrency[figured]{
	{Max: 1}, {Max: 4}, {Max: 2, Strategy: stint.StrategyGroupRoundRobin}, {Max: 3, Strategy: stint.StrategyGroupRoundRobin, ReleaseWhileWaiting: true},
}

// A figuresLedger knows the figures in force, and checks each start against them.
type figuresLedger struct {
	mu     sync.Mutex
	now    map[string]int // runs that execute, by tenant
	most   map[string]int
	starts []figuredStart
	rates  []figuredRate // one after another
	bad    []string
}

type figuredStart struct {
	at    time.Time
	units int
}

type figuredRate struct {
	from         time.Time
	limit, burst float64
}

func (l *figuresLedger) enter(j figured) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now[j.Tenant]++
	if n := l.now[j.Tenant]; n > l.most[j.Tenant] {
		l.bad = append(l.bad, fmt.Sprintf("%d of tenant %s at once, want %d at most", n, j.Tenant, l.most[j.Tenant]))
	}
	l.starts = append(l.starts, figuredStart{time.Now(), j.Units})
}

func (l *figuresLedger) leave(j figured) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now[j.Tenant]--
}

// set notes figures that an enqueue is about to set. Starts before it obey the old ones.
func (l *figuresLedger) set(limit int, j figured) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most[j.Tenant] = limit
	l.rates = append(l.rates, figuredRate{time.Now(), j.Limit, float64(j.Burst)})
}

// check compares the starts of each window with what the figures allow: the highest burst
// of those in force in it, and their limits for as long as they were.
func (l *figuresLedger) check(rt *rapid.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.bad {
		rt.Error(b)
	}
	slices.SortFunc(l.starts, func(a, b figuredStart) int { return a.at.Compare(b.at) })
	for i, first := range l.starts {
		units := 0
		for _, last := range l.starts[i:] {
			units += last.units
			if most := l.allowed(first.at, last.at); float64(units) > most+1e-6 {
				rt.Fatalf("%d units in %v from %v on, want %v at most: %+v", units, last.at.Sub(first.at), first.at, most, l.rates)
			}
		}
	}
}

func (l *figuresLedger) allowed(from, to time.Time) float64 {
	burst, sum := 0.0, 0.0
	for i, r := range l.rates {
		a, b := r.from, to
		if i+1 < len(l.rates) && l.rates[i+1].from.Before(to) {
			b = l.rates[i+1].from
		}
		if a.Before(from) {
			a = from
		}
		if d := b.Sub(a); d >= 0 {
			burst, sum = max(burst, r.burst), sum+d.Seconds()*r.limit
		}
	}
	return burst + sum
}

func (l *figuresLedger) tasks(c *stint.Client) (all []*stint.Task[figured, int]) {
	for i, limit := range figuredLimits {
		limit.Name, limit.Key = "shared", func(j figured) string { return j.Tenant }
		all = append(all, stint.NewTask(c, fmt.Sprint("figured", i), func(ctx context.Context, j figured) (int, error) {
			_, err := stint.Step(ctx, "work", func(ctx context.Context) (int, error) {
				l.enter(j)
				defer l.leave(j)
				if j.Seconds > 0 {
					select {
					case <-time.After(time.Duration(j.Seconds) * time.Second):
					case <-ctx.Done():
						return 0, context.Cause(ctx)
					}
				}
				return 1, nil
			})
			if err == nil && j.Sleeps {
				err = stint.Sleep(ctx, 2*time.Second)
			}
			return 1, err
		}, stint.WithConcurrency(limit), stint.WithRateLimitFunc(func(j figured) stint.RateLimit {
			return stint.RateLimit{Key: "rate", Units: j.Units, Limit: rate.Limit(j.Limit), Burst: j.Burst}
		})))
	}
	return all
}

// TestFiguresModel enqueues random runs with random figures on one of two clients of a file, among
// cancels, pauses of limits and restarts, and checks at each start that the figures of the newest
// enqueue held. In the end all have ended, no limit holds anything, and its counts are right.
func TestFiguresModel(t *testing.T) {
	n := 0
	synctest.Test(t, func(t *testing.T) {
		checkRandom(t, 40, func(rt *rapid.T) {
			n++
			figuresOnce(t, rt, filepath.Join(t.TempDir(), fmt.Sprint(n, ".db")))
		})
	})
}

func figuresOnce(t *testing.T, rt *rapid.T, path string) {
	l := &figuresLedger{now: map[string]int{}, most: map[string]int{}}
	var clients [2]*stint.Client
	var tasks [2][]*stint.Task[figured, int]
	var shut [2]func()
	open := func(i int) {
		c, err := openAt(t, path, stint.WithMaxResident(rapid.SampledFrom([]int{0, 10_000}).Draw(rt, "resident")))
		if err != nil {
			rt.Fatal(err)
		}
		clients[i], tasks[i] = c, l.tasks(c)
		stop := working(t, c, stint.WithSlots(rapid.IntRange(1, 6).Draw(rt, "slots")), stint.WithDrainTimeout(0))
		shut[i] = func() {
			stop()
			if err := c.Close(); err != nil {
				rt.Fatal(err)
			}
		}
	}
	open(0)
	open(1)
	var ids []string
	enqueue := func(i, task int, ins ...figured) {
		synctest.Wait()
		for _, j := range ins {
			l.set(figuredLimits[task].Max, j)
		}
		runs, err := tasks[i][task].EnqueueMany(t.Context(), ins)
		if err != nil {
			rt.Fatal(err)
		}
		for _, r := range runs {
			ids = append(ids, r.ID())
		}
	}
	keys := []stint.LimitKey{{Name: "shared", Key: "a"}, {Name: "shared", Key: "b"}, {Key: "rate"}}
	for range rapid.IntRange(1, 15).Draw(rt, "actions") {
		i := rapid.IntRange(0, 1).Draw(rt, "client")
		drawAction(t, rt, clients[i], ids, keys, func() { shut[i](); open(i) }, func() {
			ins := make([]figured, rapid.IntRange(1, 6).Draw(rt, "n"))
			bits := rapid.Uint32().Draw(rt, "runs")
			for k := range ins {
				ins[k] = figured{Tenant: string('a' + rune(bits>>k%2)), Limit: []float64{0.2, 3, 50}[bits>>6%3], Burst: []int{2, 4, 50}[bits>>8%3],
					Units: 1 + int(bits>>(10+k)%2), Sleeps: bits>>(16+k)%4 == 0, Seconds: int(bits >> (24 + k%4) % 3)}
			}
			enqueue(i, rapid.IntRange(0, len(figuredLimits)-1).Draw(rt, "task"), ins...)
		})
	}
	check := func(i int) {
		if found, err := clients[i].Check(t.Context()); err != nil || len(found) > 0 {
			rt.Errorf("Check: %q, %v", found, err)
		}
	}
	check(1)
	for _, k := range keys {
		if err := clients[1].ResumeLimit(t.Context(), k); err != nil && !errors.Is(err, stint.ErrNotFound) {
			rt.Fatal(err)
		}
	}
	for _, id := range ids {
		if _, err := stint.RunByID[int](clients[0], id).Wait(t.Context()); err != nil && !errors.Is(err, stint.ErrCanceled) {
			rt.Errorf("run %s: %v", id, err)
		}
	}
	if left, err := clients[0].ListConcurrency(t.Context()); err != nil || len(left) > 0 {
		rt.Errorf("limits hold %+v, %v", left, err)
	}
	check(0)
	shut[0]()
	shut[1]()
	l.check(rt)
}
