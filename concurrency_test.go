package stint_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"golang.org/x/time/rate"
)

// A job names its tenant and itself.
type job struct {
	Tenant string
	N      int
}

func (j job) tenant() string { return j.Tenant }

// A gauge counts the handlers of each key that execute at once, and the order of starts.
type gauge struct {
	mu     sync.Mutex
	now    map[string]int
	most   map[string]int
	starts []string
	at     []time.Time
}

func newGauge() *gauge { return &gauge{now: map[string]int{}, most: map[string]int{}} }

func (g *gauge) enter(key, what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now[key]++
	g.most[key] = max(g.most[key], g.now[key])
	g.starts, g.at = append(g.starts, what), append(g.at, time.Now())
}

func (g *gauge) leave(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now[key]--
}

// work enters, takes a time, and leaves.
func (g *gauge) work(d time.Duration) func(context.Context, job) (int, error) {
	return func(ctx context.Context, j job) (int, error) {
		g.enter(j.Tenant, fmt.Sprint(j.Tenant, j.N))
		defer g.leave(j.Tenant)
		select {
		case <-time.After(d):
			return j.N, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func jobs(tenants ...string) (all []job) {
	n := map[string]int{}
	for _, t := range tenants {
		n[t]++
		all = append(all, job{t, n[t]})
	}
	return all
}

// in runs a test in a bubble, on a database in memory and on a file.
func in(t *testing.T, f func(t *testing.T, c *stint.Client), opts ...stint.ClientOption) {
	if serverURL != "" {
		t.Run("server", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, opened(t, opts...)) })
		})
		return
	}
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, openedAt(t, ":memory:", opts...)) })
	})
	t.Run("file", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, opened(t, opts...)) })
	})
}

// Queue: a key has at most Max at once, and what waits starts in order.
func TestConcurrencyQueue(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newGauge()
		task := stint.NewTask(c, "t", g.work(time.Second), stint.WithConcurrency(stint.Concurrency[job]{Key: job.tenant, Max: 2}))
		runs := enqueueMany(t, task, jobs("a", "a", "a", "a", "a", "b", "b", "c"))
		began := time.Now()
		working(t, c)
		synctest.Wait()
		info := infoOf(t, runs[2])
		if info.State != stint.StateQueued || info.Blocked != `concurrency limit "t" (key "a"): 2 at once` {
			t.Errorf("%v, blocked by %q", info.State, info.Blocked)
		}
		list := must[[]stint.ConcurrencyInfo](t)(c.ListConcurrency(t.Context()))
		if len(list) != 3 || list[0] != (stint.ConcurrencyInfo{Name: "t", Key: "a", Max: 2, Active: 2, Waiting: 3}) {
			t.Errorf("%+v", list)
		}
		for _, r := range runs {
			output(t, r)
		}
		if d := time.Since(began); d < 3*time.Second || d > 3500*time.Millisecond {
			t.Errorf("took %v, want 3s", d)
		}
		if g.most["a"] != 2 || g.most["b"] != 2 {
			t.Errorf("at once: %v", g.most)
		}
		if i, j := slices.Index(g.starts, "a3"), slices.Index(g.starts, "a5"); i > j {
			t.Errorf("order of starts: %v", g.starts)
		}
		if list := must[[]stint.ConcurrencyInfo](t)(c.ListConcurrency(t.Context())); len(list) != 0 {
			t.Errorf("left: %+v", list)
		}
	})
}

// GroupRoundRobin: keys take turns, whatever the backlog of one.
func TestConcurrencyRoundRobin(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newGauge()
		task := stint.NewTask(c, "t", g.work(time.Second),
			stint.WithConcurrency(stint.Concurrency[job]{Key: job.tenant, Max: 2, Strategy: stint.StrategyGroupRoundRobin}))
		runs := enqueueMany(t, task, jobs("a", "a", "a", "a", "b", "b", "c", "c"))
		working(t, c, stint.WithSlots(1))
		for _, r := range runs {
			output(t, r)
		}
		if got := strings.Join(g.starts, " "); got != "a1 b1 c1 a2 b2 c2 a3 a4" {
			t.Errorf("starts: %s", got)
		}
	})
}

// CancelNewest: the newcomer is canceled at once, with the reason; what runs is untouched.
func TestConcurrencyCancelNewest(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newGauge()
		task := stint.NewTask(c, "t", g.work(time.Second), stint.WithConcurrency(stint.Concurrency[job]{Key: job.tenant, Max: 1, Strategy: stint.StrategyCancelNewest}))
		first := enqueue(t, task, job{"a", 1})
		second := enqueue(t, task, job{"a", 2})
		other := enqueue(t, task, job{"b", 3})
		if _, err := second.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) || !strings.Contains(err.Error(), `"t" (key "a")`) {
			t.Errorf("the newcomer: %v", err)
		}
		working(t, c)
		for i, r := range []*stint.Run[int]{first, other} {
			if _, err := r.Wait(t.Context()); err != nil {
				t.Errorf("run %d: %v", i, err)
			}
		}
		if _, err := task.Run(t.Context(), job{"a", 4}); err != nil {
			t.Errorf("after the first has ended: %v", err)
		}
	})
}

// CancelInProgress: the oldest of the key are canceled to make room for the newest.
func TestConcurrencyCancelInProgress(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newGauge()
		task := stint.NewTask(c, "t", g.work(time.Minute), stint.WithConcurrency(stint.Concurrency[job]{Key: job.tenant, Max: 2, Strategy: stint.StrategyCancelInProgress}))
		working(t, c)
		enqueue := func(n int, opts ...stint.RunOption) *stint.Run[int] {
			r := enqueue(t, task, job{"a", n}, opts...)
			synctest.Wait()
			return r
		}
		one, two := enqueue(1), enqueue(2)
		three := enqueue(3)
		if _, err := one.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("the oldest: %v", err)
		}
		high := enqueue(4, stint.WithPriority(stint.PriorityHigh))
		if _, err := two.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("the next oldest: %v", err)
		}
		five := enqueue(5)
		if _, err := three.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
			t.Errorf("the oldest of low priority: %v", err)
		}
		for _, r := range []*stint.Run[int]{high, five} {
			if _, err := r.Wait(t.Context()); err != nil {
				t.Errorf("one that was to stay: %v", err)
			}
		}
		if g.most["a"] > 2 {
			t.Errorf("%d at once", g.most["a"])
		}
	})
}

// Several limits: a run starts when all let it, and one that cannot holds no share.
func TestConcurrencySeveral(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		perTenant, all := newGauge(), newGauge()
		task := stint.NewTask(c, "t", func(ctx context.Context, j job) (int, error) {
			all.enter("", "")
			defer all.leave("")
			return perTenant.work(time.Second)(ctx, j)
		}, stint.WithConcurrency(stint.Concurrency[job]{Key: job.tenant, Max: 1}), stint.WithConcurrency(stint.Concurrency[job]{Name: "shared", Max: 3}))
		other := stint.NewTask(c, "other", func(ctx context.Context, j job) (int, error) {
			all.enter("", "")
			defer all.leave("")
			return perTenant.work(time.Second)(ctx, j)
		}, stint.WithConcurrency(stint.Concurrency[job]{Name: "shared", Max: 3}))
		runs := enqueueMany(t, task, jobs("a", "a", "a", "a", "b", "c", "d", "e"))
		runs = append(runs, enqueueMany(t, other, jobs("x", "y"))...)
		began := time.Now()
		working(t, c)
		for _, r := range runs {
			output(t, r)
		}
		if all.most[""] != 3 || perTenant.most["a"] != 1 {
			t.Errorf("at once: %v in all, %v", all.most, perTenant.most)
		}
		if d := time.Since(began); d > 5500*time.Millisecond { // 10 runs, 3 at once, a's one by one; which of two shares came first is chance
			t.Errorf("took %v, want 4s or 5s", d)
		}
	})
}

// A retry that waits holds no share; a run that waits in a durable call does, unless
// ReleaseWhileWaiting; one that is canceled, or whose worker goes, gives it back.
func TestConcurrencyHolds(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		limit := stint.WithConcurrency(stint.Concurrency[job]{Name: "one", Max: 1})
		released := stint.WithConcurrency(stint.Concurrency[job]{Name: "one", Max: 1, ReleaseWhileWaiting: true})
		quick := stint.NewTask(c, "quick", func(context.Context, job) (time.Time, error) { return time.Now(), nil }, limit)
		retried := stint.NewTask(c, "retried", func(ctx context.Context, _ job) (int, error) {
			if info, _ := stint.Info(ctx); info.Attempt == 1 {
				return 0, stint.RetryAfter(time.Hour, errors.New("later"))
			}
			return 1, nil
		}, limit, stint.WithRetries(1))
		sleeps := func(ctx context.Context, _ job) (int, error) { return 1, stint.Sleep(ctx, time.Hour) }
		holds, releases := stint.NewTask(c, "holds", sleeps, limit), stint.NewTask(c, "releases", sleeps, released)
		working(t, c)
		for _, tc := range []struct {
			task *stint.Task[job, int]
			want time.Duration
		}{{retried, 0}, {holds, time.Hour}, {releases, 0}} {
			began := time.Now()
			r := enqueue(t, tc.task, job{})
			synctest.Wait()
			time.Sleep(time.Second)
			at := runTask(t, quick, job{})
			if d := at.Sub(began).Truncate(time.Minute); d != tc.want {
				t.Errorf("%s: another started after %v, want %v", tc.task.Name(), d, tc.want)
			}
			if _, err := r.Wait(t.Context()); err != nil {
				t.Errorf("%s: %v", tc.task.Name(), err)
			}
		}
		held := enqueue(t, holds, job{})
		synctest.Wait()
		next := enqueue(t, quick, job{})
		if err := held.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		if at := output(t, next); time.Since(at) > time.Second {
			t.Errorf("started at %v", at)
		}
		if list := must[[]stint.ConcurrencyInfo](t)(c.ListConcurrency(t.Context())); len(list) != 0 {
			t.Errorf("left: %+v", list)
		}
	})
}

// A limit of a workflow counts its runs; one of its task, that task's.
func TestConcurrencyWorkflow(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g, inner := newGauge(), newGauge()
		w := stint.NewWorkflow[job](c, "w", stint.WithConcurrency(stint.Concurrency[job]{Key: job.tenant, Max: 1}))
		a := stint.AddTask(w, "a", g.work(time.Second))
		stint.AddTask(w, "b", func(ctx context.Context, j job) (int, error) { return inner.work(time.Second)(ctx, job{"all", j.N}) },
			stint.WithParents(a), stint.WithConcurrency(stint.Concurrency[job]{Max: 1}))
		runs := enqueueMany(t, w, jobs("x", "x", "y"))
		working(t, c)
		synctest.Wait()
		if info := infoOf(t, runs[1]); info.State != stint.StateQueued || !strings.Contains(info.Blocked, `"w" (key "x")`) {
			t.Errorf("%v, blocked by %q", info.State, info.Blocked)
		}
		for _, r := range runs {
			output(t, r)
		}
		if g.most["x"] != 1 || inner.most["all"] != 1 {
			t.Errorf("at once: %v, %v", g.most, inner.most)
		}
		if list := must[[]stint.ConcurrencyInfo](t)(c.ListConcurrency(t.Context())); len(list) != 0 {
			t.Errorf("left: %+v", list)
		}
	})
}

// A limit that is paused lets nothing start, by whoever, until it is resumed.
func TestPauseLimit(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newGauge()
		task := stint.NewTask(c, "t", g.work(time.Second), stint.WithConcurrency(stint.Concurrency[job]{Key: func(j job) string { return j.Tenant }, Max: 2}), stint.WithRateLimit("api", 1))
		if err := c.SetRateLimit(t.Context(), "api", 1000, 1000); err != nil {
			t.Fatal(err)
		}
		working(t, c)
		held := enqueueMany(t, task, jobs("a", "b"))
		synctest.Wait()
		key, rate := stint.LimitKey{Name: "t", Key: "a"}, stint.LimitKey{Key: "api"}
		if err := c.PauseLimit(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		waits := enqueueMany(t, task, jobs("a", "a", "b"))
		for _, r := range append(held, waits[2]) { // what runs goes on, and other keys do
			output(t, r)
		}
		if info := infoOf(t, waits[0]); info.State != stint.StateQueued || info.Blocked != `concurrency limit "t" (key "a") is paused` {
			t.Errorf("%v, blocked by %q", info.State, info.Blocked)
		}
		page := listRuns(t, c, stint.RunFilter{LimitKey: &key, States: []stint.State{stint.StateQueued}})
		if len(page.Runs) != 2 || page.Runs[0].ID != waits[1].ID() {
			t.Errorf("who waits for it: %+v", page.Runs)
		}
		if l := must[[]stint.ConcurrencyInfo](t)(c.ListConcurrency(t.Context())); len(l) != 1 || !l[0].Paused || l[0].Waiting != 2 {
			t.Errorf("limits %+v", l)
		}
		if err := errors.Join(c.PauseLimit(t.Context(), rate), c.ResumeLimit(t.Context(), key)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if info := infoOf(t, waits[0]); info.Blocked != `rate limit "api" is paused` {
			t.Errorf("blocked by %q", info.Blocked)
		}
		if l := must[[]stint.RateLimitInfo](t)(c.ListRateLimits(t.Context())); len(l) != 1 || !l[0].Paused {
			t.Errorf("limits %+v", l)
		}
		if err := c.ResumeLimit(t.Context(), rate); err != nil {
			t.Fatal(err)
		}
		for _, r := range waits {
			output(t, r)
		}
		if err := c.PauseLimit(t.Context(), stint.LimitKey{Key: "none"}); !errors.Is(err, stint.ErrNotFound) {
			t.Errorf("a rate that is not there: %v", err)
		}
	})
}

// R4: in any window of time t, starts are at most burst + limit × t; and as many.
func TestRateLimit(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		if err := c.SetRateLimit(t.Context(), "api", rate.Every(100*time.Millisecond), 3); err != nil {
			t.Fatal(err)
		}
		g := newGauge()
		task := stint.NewTask(c, "t", g.work(0), stint.WithRateLimit("api", 1))
		free := stint.NewTask(c, "free", g.work(0))
		runs := enqueueMany(t, task, jobs(strings.Split(strings.Repeat("a ", 23), " ")[:23]...))
		working(t, c)
		runTask(t, free, job{"free", 0}) // is not held up
		synctest.Wait()
		info := infoOf(t, runs[3])
		if info.State != stint.StateQueued || !strings.HasPrefix(info.Blocked, `rate limit "api": until `) {
			t.Errorf("%v, blocked by %q", info.State, info.Blocked)
		}
		if l := must[[]stint.RateLimitInfo](t)(c.ListRateLimits(t.Context())); len(l) != 1 || l[0].Waiting != 20 || l[0].Burst != 3 || l[0].Tokens >= 1 {
			t.Errorf("%+v", l)
		}
		for _, r := range runs {
			output(t, r)
		}
		var at []time.Time
		for i, s := range g.starts {
			if s != "free0" {
				at = append(at, g.at[i])
			}
		}
		checkRate(t, at, rate.Every(100*time.Millisecond), 3)
		if d := at[22].Sub(at[0]); d > 2050*time.Millisecond {
			t.Errorf("20 waited %v, want 2s", d)
		}
		if err := c.SetRateLimit(t.Context(), "api", rate.Inf, 1); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range 20 {
			runTask(t, task, job{"b", 1})
		}
		if d := time.Since(began); d > 50*time.Millisecond {
			t.Errorf("without a limit 20 took %v", d)
		}
	})
}

// checkRate fails the test if starts were above a rate.
func checkRate(t *testing.T, at []time.Time, limit rate.Limit, burst int) {
	t.Helper()
	for i := range at {
		for j := i; j < len(at); j++ {
			if n, most := j-i+1, float64(burst)+float64(limit)*at[j].Sub(at[i]).Seconds(); float64(n) > most+1e-9 {
				t.Errorf("%d starts in %v: want at most %.2f", n, at[j].Sub(at[i]), most)
				return
			}
		}
	}
}

// Dynamic rates have a key, units and figures of each run's own; each attempt takes.
func TestRateLimitFunc(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newGauge()
		task := stint.NewTask(c, "t", func(ctx context.Context, j job) (int, error) {
			g.enter(j.Tenant, j.Tenant)
			defer g.leave(j.Tenant)
			if info, _ := stint.Info(ctx); j.N < 0 && info.Attempt == 1 {
				return 0, errors.New("once more")
			}
			return 0, nil
		}, stint.WithRetries(1), stint.WithRateLimitFunc(func(j job) stint.RateLimit {
			return stint.RateLimit{Key: j.Tenant, Units: max(j.N, 1), Limit: 1, Burst: 4}
		}))
		working(t, c)
		began := time.Now()
		for range 2 {
			runTask(t, task, job{"a", 2})
		}
		if d := time.Since(began); d > 100*time.Millisecond {
			t.Errorf("the burst took %v", d)
		}
		runTask(t, task, job{"b", 4}) // a key of its own
		runTask(t, task, job{"a", 3})
		if d := time.Since(began); d < 3*time.Second || d > 3100*time.Millisecond {
			t.Errorf("3 units were there after %v, want 3s", d)
		}
		runTask(t, task, job{"a", -1}) // two attempts, a unit each
		if d := time.Since(began); d < 5*time.Second || d > 5100*time.Millisecond {
			t.Errorf("two attempts after %v, want 5s", d)
		}
		says(t, errOf(task.Enqueue(t.Context(), job{"c", 5})), "5 units", "burst is 4")
	})
}

// A run that goes on after a wait in a durable call takes no units again.
func TestRateLimitOfWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openedAt(t, ":memory:", stint.WithMaxResident(0))
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			for range 3 {
				if err := stint.Sleep(ctx, time.Minute); err != nil {
					return 0, err
				}
			}
			return 1, nil
		}, stint.WithRateLimitFunc(func(int) stint.RateLimit {
			return stint.RateLimit{Key: "k", Limit: rate.Every(24 * time.Hour), Burst: 1}
		}))
		working(t, c)
		began := time.Now()
		runTask(t, task, 1)
		if d := time.Since(began); d > 4*time.Minute {
			t.Errorf("took %v, want 3m", d)
		}
	})
}

func TestLimitsBadInput(t *testing.T) {
	c := openedAt(t, ":memory:")
	double := func(_ context.Context, n int) (int, error) { return 2 * n, nil }
	for name, o := range map[string]stint.TaskOption{
		"max 0":         stint.WithConcurrency(stint.Concurrency[int]{Max: 0}),
		"negative":      stint.WithConcurrency(stint.Concurrency[int]{Max: -1}),
		"strategy":      stint.WithConcurrency(stint.Concurrency[int]{Max: 1, Strategy: 9}),
		"another input": stint.WithConcurrency(stint.Concurrency[string]{Max: 1}),
		"no units":      stint.WithRateLimit("k", 0),
		"no key":        stint.WithRateLimit("", 1),
		"nil function":  stint.WithRateLimitFunc[int](nil),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			stint.NewTask(c, "bad "+name, double, o)
		}()
	}
	panics := stint.NewTask(c, "panics", double, stint.WithConcurrency(stint.Concurrency[int]{Max: 1, Key: func(int) string { panic("oh") }}))
	says(t, errOf(panics.Enqueue(t.Context(), 1)), "concurrency key function", "oh")
	long := stint.NewTask(c, "long", double, stint.WithConcurrency(stint.Concurrency[int]{Max: 1, Key: func(int) string { return strings.Repeat("x", 300) }}))
	says(t, errOf(long.Enqueue(t.Context(), 1)), "300 bytes", "255")
	unknown := stint.NewTask(c, "unknown", double, stint.WithRateLimit("nobody", 1))
	says(t, errOf(unknown.Enqueue(t.Context(), 1)), `"nobody"`, "SetRateLimit")
	zero := stint.NewTask(c, "zero", double, stint.WithRateLimitFunc(func(n int) stint.RateLimit { return stint.RateLimit{Key: "z", Limit: rate.Limit(n)} }))
	says(t, errOf(zero.Enqueue(t.Context(), 1)), `"z"`, "burst of 0")
	for _, err := range []error{c.SetRateLimit(t.Context(), "k", 1, 0), c.SetRateLimit(t.Context(), "k", -1, 1), c.SetRateLimit(t.Context(), "", 1, 1)} {
		if err == nil {
			t.Error("SetRateLimit took it")
		}
	}
	if err := c.SetRateLimit(t.Context(), "small", 1, 2); err != nil {
		t.Fatal(err)
	}
	over := stint.NewTask(c, "over", double, stint.WithRateLimit("small", 3))
	says(t, errOf(over.Enqueue(t.Context(), 1)), "3 units", "burst is 2", "never start")
}

func errOf[T any](_ T, err error) error { return err }
