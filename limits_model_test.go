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

// A limited run of the random test: what it must pass, and how it behaves.
type limited struct {
	Tenant  string
	Shared  int
	Fails   bool
	Sleeps  bool
	Seconds int
}

const (
	perTenant, perShared = 2, 3
	rateBurst            = 4
)

var limitKeys = []stint.LimitKey{{Name: "limited", Key: "a"}, {Name: "limited", Key: "b"}, {Name: "shared", Key: "0"}, {Name: "shared", Key: "1"}, {Key: "rate"}}

var rateLimit = rate.Every(300 * time.Millisecond)

// limitLedger has the handlers that execute, and the starts of attempts.
type limitLedger struct {
	mu      sync.Mutex
	tenants map[string]int
	shared  map[int]int
	starts  []time.Time
	bad     []string
}

func (l *limitLedger) enter(j limited) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tenants[j.Tenant]++
	l.shared[j.Shared]++
	if n := l.tenants[j.Tenant]; n > perTenant {
		l.bad = append(l.bad, fmt.Sprintf("%d of tenant %s at once", n, j.Tenant))
	}
	if n := l.shared[j.Shared]; n > perShared {
		l.bad = append(l.bad, fmt.Sprintf("%d of %d at once", n, j.Shared))
	}
	l.starts = append(l.starts, time.Now())
}

func (l *limitLedger) leave(j limited) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tenants[j.Tenant]--
	l.shared[j.Shared]--
}

// limitedTask has two concurrency limits and a rate.
func limitedTask(c *stint.Client, l *limitLedger, strategy stint.Strategy) *stint.Task[limited, int] {
	return stint.NewTask(c, "limited", func(ctx context.Context, j limited) (int, error) {
		_, err := stint.Step(ctx, "work", func(ctx context.Context) (int, error) { // once an attempt, however often it is replayed
			l.enter(j)
			defer l.leave(j)
			if j.Seconds > 0 { // under the race detector, timers of no time that fire at once break a bubble
				select {
				case <-time.After(time.Duration(j.Seconds) * time.Second):
				case <-ctx.Done():
					return 0, context.Cause(ctx)
				}
			}
			if info, _ := stint.Info(ctx); j.Fails && info.Attempt == 1 {
				return 0, stint.RetryAfter(time.Second, errors.New("once more"))
			}
			return 1, nil
		})
		if err != nil {
			return 0, err
		}
		if j.Sleeps {
			return 1, stint.Sleep(ctx, 2*time.Second)
		}
		return 1, nil
	}, stint.WithRetries(1),
		stint.WithConcurrency(stint.Concurrency[limited]{Key: func(j limited) string { return j.Tenant }, Max: perTenant, Strategy: strategy}),
		stint.WithConcurrency(stint.Concurrency[limited]{Name: "shared", Key: func(j limited) string { return fmt.Sprint(j.Shared) }, Max: perShared}),
		stint.WithRateLimitFunc(func(limited) stint.RateLimit { return stint.RateLimit{Key: "rate", Limit: rateLimit, Burst: rateBurst} }))
}

// TestLimitsModel enqueues random runs on one of two clients of a file, with random
// durations, failures, cancels, pauses of limits and workers that come and go, and checks R4 at each
// start: no concurrency limit and no rate is ever exceeded. In the end all have ended,
// and no limiter holds anything.
func TestLimitsModel(t *testing.T) {
	n := 0
	synctest.Test(t, func(t *testing.T) {
		checkRandom(t, 40, func(rt *rapid.T) {
			n++
			strategy := rapid.SampledFrom([]stint.Strategy{stint.StrategyQueue, stint.StrategyGroupRoundRobin}).Draw(rt, "strategy")
			limitsOnce(t, rt, strategy, filepath.Join(t.TempDir(), fmt.Sprint(n, ".db")))
		})
	})
}

func limitsOnce(t *testing.T, rt *rapid.T, strategy stint.Strategy, path string) {
	l := &limitLedger{tenants: map[string]int{}, shared: map[int]int{}}
	var clients [2]*stint.Client
	var tasks [2]*stint.Task[limited, int]
	var stops [2]func()
	open := func(i int) {
		c, err := openAt(t, path, stint.WithMaxResident(rapid.SampledFrom([]int{0, 10_000}).Draw(rt, "resident")))
		if err != nil {
			rt.Fatal(err)
		}
		clients[i], tasks[i] = c, limitedTask(c, l, strategy)
		w, err := c.NewWorker(stint.WithSlots(rapid.IntRange(1, 6).Draw(rt, "slots")), stint.WithDrainTimeout(0))
		if err != nil {
			rt.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { w.Run(ctx) })
		stops[i] = func() { cancel(); wg.Wait() }
	}
	shut := func(i int) {
		stops[i]()
		if err := clients[i].Close(); err != nil {
			rt.Fatal(err)
		}
	}
	open(0)
	open(1)
	var ids []string
	most := 25
	if testing.Short() {
		most = 8
	}
	for range rapid.IntRange(1, most).Draw(rt, "actions") {
		i := rapid.IntRange(0, 1).Draw(rt, "client")
		drawAction(t, rt, clients[i], ids, limitKeys, func() { shut(i); open(i) }, func() {
			ins := make([]limited, rapid.IntRange(1, 6).Draw(rt, "n"))
			for k := range ins {
				bits := rapid.Uint16().Draw(rt, "run")
				ins[k] = limited{Tenant: string('a' + rune(bits%3)), Shared: int(bits / 3 % 2), Fails: bits/6%4 == 0, Sleeps: bits/24%4 == 0, Seconds: int(bits / 96 % 3)}
			}
			runs, err := tasks[i].EnqueueMany(t.Context(), ins)
			if err != nil {
				rt.Fatal(err)
			}
			for _, r := range runs {
				ids = append(ids, r.ID())
			}
		})
	}
	for _, k := range limitKeys {
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
		rt.Errorf("limiters hold %+v, %v", left, err)
	}
	shut(0)
	shut(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.bad {
		rt.Error(b)
	}
	slices.SortFunc(l.starts, time.Time.Compare)
	starts := l.starts
	for i := range starts {
		for j := i; j < len(starts); j++ {
			if most := rateBurst + float64(rateLimit)*starts[j].Sub(starts[i]).Seconds(); float64(j-i+1) > most+1e-9 {
				rt.Fatalf("%d starts in %v", j-i+1, starts[j].Sub(starts[i]))
			}
		}
	}
}

// drawAction does one of what happens to runs with limits, in the bubble of t: a client stops and is
// opened anew, one of the runs is canceled, time passes, a limit is paused or resumed, or, mostly,
// runs are enqueued.
func drawAction(t *testing.T, rt *rapid.T, c *stint.Client, ids []string, limits []stint.LimitKey, reopen, enqueue func()) {
	t.Helper()
	switch rapid.IntRange(0, 8).Draw(rt, "action") {
	case 0:
		reopen()
	case 1:
		if len(ids) > 0 {
			if err := stint.RunByID[int](c, rapid.SampledFrom(ids).Draw(rt, "cancel")).Cancel(t.Context()); err != nil {
				rt.Fatal(err)
			}
		}
	case 2:
		time.Sleep(time.Duration(rapid.IntRange(1, 5000).Draw(rt, "ms")) * time.Millisecond)
	case 3:
		k, change := rapid.SampledFrom(limits).Draw(rt, "limit"), c.PauseLimit
		if rapid.Bool().Draw(rt, "resume") {
			change = c.ResumeLimit
		}
		if err := change(t.Context(), k); err != nil && !errors.Is(err, stint.ErrNotFound) {
			rt.Fatal(err)
		}
	default:
		enqueue()
	}
}
