package stint_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"golang.org/x/time/rate"
)

// A call is a run whose input brings the figures of the rate "api".
type call struct {
	Limit float64 // a second
	Burst int
	Units int
}

var (
	slowly = call{Limit: 1.0 / 3600, Burst: 1}
	fast   = call{Limit: 1000, Burst: 1000}
	middle = call{Limit: 50, Burst: 50}
)

func (k call) rate() stint.RateLimit {
	return stint.RateLimit{Key: "api", Units: k.Units, Limit: rate.Limit(k.Limit), Burst: k.Burst}
}

func apiRate() stint.TaskOption { return stint.WithRateLimitFunc(call.rate) }

func calls(k call, n int) []call { return slices.Repeat([]call{k}, n) }

// callTask counts starts, each of which takes a time.
func callTask(c *stint.Client, g *meter, d time.Duration, opts ...stint.TaskOption) *stint.Task[call, int] {
	return stint.NewTask(c, "call", func(ctx context.Context, _ call) (int, error) {
		g.enter("call", "call")
		defer g.leave("call")
		time.Sleep(d)
		return 1, nil
	}, append([]stint.TaskOption{apiRate()}, opts...)...)
}

// A meter is a gauge that knows how many starts it has told of.
type meter struct {
	gauge
	told int
}

func newMeter() *meter { return &meter{gauge: gauge{now: map[string]int{}, most: map[string]int{}}} }

// after waits, and fails the test unless so many have started since it told last.
func (g *meter) after(t *testing.T, d time.Duration, least, most int, what string) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.starts) - g.told; n < least || n > most {
		t.Errorf("%s: %d starts in %v, want %d to %d", what, n, d, least, most)
	}
	g.told = len(g.starts)
}

// What waits at 1/h starts when a newer run brings 1,000/s, and that run too.
func TestRateFiguresRaised(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newMeter()
		task := callTask(c, g, 0)
		working(t, c)
		enqueueMany(t, task, calls(slowly, 5))
		g.after(t, time.Minute, 1, 1, "at 1/h")
		enqueue(t, task, fast)
		g.after(t, 50*time.Millisecond, 5, 5, "raised to 1,000/s")
		enqueueMany(t, task, calls(fast, 100)) // equal figures change nothing
		g.after(t, time.Second, 100, 100, "at 1,000/s")
	})
}

// What waits at 50/s goes on at 1/h when a newer run says so, however many may have started.
func TestRateFiguresLowered(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newMeter()
		task := callTask(c, g, 0)
		working(t, c)
		enqueueMany(t, task, calls(middle, 300))
		g.after(t, time.Second, 90, 101, "at 50/s")
		enqueue(t, task, slowly)
		g.after(t, time.Hour-time.Second, 0, 1, "lowered to 1/h")
		g.after(t, 3*time.Hour, 3, 4, "at 1/h")
		enqueue(t, task, middle)
		g.after(t, time.Second, 45, 51, "raised to 50/s again")
		if l := must[[]stint.RateLimitInfo](t)(c.ListRateLimits(t.Context())); len(l) != 1 || l[0].Limit != 50 || l[0].Burst != 50 {
			t.Errorf("limits %+v", l)
		}
	})
}

// Runs that were promised their units, but lack a slot, are not promised them any more.
func TestRateFiguresLoweredPromised(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newMeter()
		task := callTask(c, g, 10*time.Millisecond)
		working(t, c, stint.WithSlots(2))
		enqueueMany(t, task, calls(call{Limit: 500, Burst: 500}, 400))
		g.after(t, 15*time.Millisecond, 2, 6, "two slots")
		enqueue(t, task, slowly)
		g.after(t, 30*time.Minute, 0, 1, "lowered to 1/h")
		g.after(t, 2*time.Hour, 2, 2, "at 1/h")
		enqueue(t, task, fast)
		g.after(t, 10*time.Second, 390, 399, "raised")
		if err := c.SetRateLimit(t.Context(), "api", 10, 10); err != nil {
			t.Fatal(err)
		}
		enqueueMany(t, task, calls(fast, 100))
		g.after(t, 2*time.Second, 28, 30, "SetRateLimit's figures hold over those of uses")
	})
}

// So SetRateLimit does, on what it promised before.
func TestSetRateLimitLowersPromised(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newMeter()
		task := stint.NewTask(c, "t", g.work(10*time.Millisecond), stint.WithRateLimit("api", 1))
		set := func(limit rate.Limit, burst int) {
			t.Helper()
			if err := c.SetRateLimit(t.Context(), "api", limit, burst); err != nil {
				t.Fatal(err)
			}
		}
		set(100, 100)
		working(t, c, stint.WithSlots(2))
		enqueueMany(t, task, make([]job, 90))
		g.after(t, 15*time.Millisecond, 2, 6, "two slots")
		set(rate.Every(time.Hour), 1)
		g.after(t, 30*time.Minute, 0, 1, "lowered")
		set(rate.Inf, 1)
		g.after(t, 10*time.Second, 83, 90, "no limit")
	})
}

// Of the figures of one call the last hold, in a small bulk and in a large one.
func TestRateFiguresOfOneCall(t *testing.T) {
	for name, n := range map[string]int{"a few": 60, "a bulk": 6000} {
		t.Run(name, func(t *testing.T) {
			if n > 1000 && testing.Short() {
				t.Skip()
			}
			in(t, func(t *testing.T, c *stint.Client) {
				g := newMeter()
				task := callTask(c, g, 0)
				working(t, c, stint.WithSlots(50))
				enqueueMany(t, task, append(calls(call{Limit: 1e5, Burst: 1e5}, n), slowly))
				g.after(t, 30*time.Minute, 1, 1, "the last is slow")
				enqueueMany(t, task, append(calls(slowly, 5), call{Limit: 1e5, Burst: 1e5}))
				g.after(t, time.Minute, n+6, n+6, "the last is fast")
			})
		})
	}
}

// Batches take of the rate for each run.
func TestRateFiguresOfBatch(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newMeter()
		task := stint.NewBatchTask(c, "batch", func(_ context.Context, all []call) ([]int, error) {
			for range all {
				g.enter("", "")
			}
			return make([]int, len(all)), nil
		}, apiRate())
		working(t, c)
		enqueueMany(t, task, calls(slowly, 5))
		g.after(t, time.Minute, 1, 1, "at 1/h")
		enqueue(t, task, fast)
		g.after(t, time.Second, 5, 5, "raised")
		enqueueMany(t, task, append(calls(fast, 100), slowly))
		g.after(t, time.Second, 0, 1, "lowered")
	})
}

// The tasks of a workflow bring figures as new as its enqueue.
func TestRateFiguresOfWorkflow(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newMeter()
		work := func(context.Context, call) (int, error) { g.enter("", ""); return 1, nil }
		wf := stint.NewWorkflow[call](c, "flow")
		first := stint.AddTask(wf, "first", work, apiRate())
		stint.AddTask(wf, "second", work, stint.WithParents(first), apiRate())
		task := callTask(c, g, 0)
		working(t, c)
		var flows []*stint.Run[stint.Outputs]
		for range 3 {
			flows = append(flows, enqueue(t, wf, slowly))
		}
		g.after(t, time.Minute, 1, 1, "at 1/h")
		enqueue(t, task, fast)
		g.after(t, time.Second, 6, 6, "raised, and second tasks that begin later bring nothing back")
		for _, f := range flows {
			output(t, f)
		}
		enqueue(t, wf, slowly)
		g.after(t, time.Minute, 1, 1, "a newer workflow lowers it")
		enqueue(t, wf, fast)
		g.after(t, time.Second, 3, 3, "and raises it")
	})
}

// Nor do the next attempts of old runs, and runs that become due.
func TestRateFiguresOfRetries(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newMeter()
		task := stint.NewTask(c, "call", func(ctx context.Context, k call) (int, error) {
			g.enter("", "")
			if info, _ := stint.Info(ctx); k == slowly && info.Attempt < 3 {
				return 0, stint.RetryAfter(time.Second, context.DeadlineExceeded)
			}
			return 1, nil
		}, apiRate(), stint.WithRetries(3))
		working(t, c)
		enqueue(t, task, slowly, stint.WithDelay(time.Minute))
		enqueue(t, task, slowly)
		enqueue(t, task, fast)
		g.after(t, 2*time.Minute, 7, 7, "three attempts of two, and one")
		enqueue(t, task, slowly, stint.WithDelay(time.Minute)) // the newest
		g.after(t, 30*time.Minute, 1, 2, "one that is due later, and is the newest")
	})
}

// A debounced enqueue is as new as itself, not as the run that it changes.
func TestRateFiguresOfDebounce(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newMeter()
		task := callTask(c, g, 0)
		working(t, c)
		enqueue(t, task, fast, stint.WithDebounce("k", time.Minute, time.Hour))
		enqueueMany(t, task, calls(slowly, 5))
		enqueue(t, task, fast, stint.WithDebounce("k", time.Minute, time.Hour))
		g.after(t, 30*time.Second, 1, 1, "at 1/h")
		g.after(t, time.Minute, 5, 5, "when the debounced run is due")
	})
}

// The figures hold after the file was opened again, and for another client.
func TestRateFiguresKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s.db")
		g := newMeter()
		c := openedAt(t, path)
		task := callTask(c, g, 0)
		enqueueMany(t, task, calls(slowly, 5))
		enqueue(t, task, middle)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		a, b := openedAt(t, path), openedAt(t, path)
		one, other := callTask(a, g, 0), callTask(b, g, 0)
		working(t, a)
		working(t, b)
		g.after(t, time.Second, 6, 6, "opened again")
		enqueueMany(t, one, calls(slowly, 10))
		g.after(t, time.Minute, 0, 1, "one lowers it") // two clients of a file look at it a hundred times a second
		enqueue(t, other, middle)
		g.after(t, 10*time.Second, 10, 11, "the other raises it")
	})
}

// A concurrency limit is as the newest enqueue has it: an old release's runs that wait do
// not bring their figures back.
func TestConcurrencyFiguresOfNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s.db")
		g := newMeter()
		a, b := openedAt(t, path), openedAt(t, path)
		limit := func(n int) stint.TaskOption { return stint.WithConcurrency(stint.Concurrency[job]{Max: n}) }
		one := stint.NewTask(a, "t", g.work(5*time.Second), limit(1))
		five := stint.NewTask(b, "t", g.work(5*time.Second), limit(5))
		working(t, a, stint.WithSlots(3))
		enqueueMany(t, one, make([]job, 30))
		g.after(t, time.Second, 1, 1, "Max 1")
		enqueue(t, five, job{})
		g.after(t, time.Second, 2, 2, "Max 5, and three slots")
		g.after(t, 25*time.Second, 15, 15, "and as they end")
		enqueue(t, one, job{})
		g.after(t, 7500*time.Millisecond, 0, 1, "Max 1 again: what had passed, and lacked a slot, waits")
		g.after(t, 25*time.Second, 5, 5, "one after another")
	})
}

// A key that was paused, and resumed, before its first run comes has the figures of the run that
// comes, also if that waited at a rate meanwhile.
func TestFiguresOfPausedKey(t *testing.T) {
	for name, paused := range map[string]bool{"paused": true, "not paused": false} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, c *stint.Client) {
				g, key := newMeter(), stint.LimitKey{Name: "call", Key: "k"}
				task := callTask(c, g, 0, stint.WithConcurrency(stint.Concurrency[call]{Key: func(call) string { return "k" }, Max: 1}))
				working(t, c)
				enqueueMany(t, task, calls(slowly, 3))
				g.after(t, time.Minute, 1, 1, "at 1/h")
				if paused {
					if err := c.PauseLimit(t.Context(), key); err != nil {
						t.Fatal(err)
					}
					g.after(t, 2*time.Hour, 0, 0, "paused")
					if err := c.ResumeLimit(t.Context(), key); err != nil {
						t.Fatal(err)
					}
				}
				g.after(t, 3*time.Hour, 2, 2, "then")
			})
		})
	}
}

// The newest Max of a key holds though all its runs wait at a rate when it comes.
func TestConcurrencyFiguresBeforeRate(t *testing.T) {
	for name, most := range map[string][2]int{"raised": {1, 3}, "lowered": {3, 1}, "equal": {2, 2}} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, c *stint.Client) {
				g := newMeter()
				keyed := func(name string, n int) *stint.Task[call, int] {
					work := g.work(2 * time.Minute)
					return stint.NewTask(c, name, func(ctx context.Context, _ call) (int, error) { return work(ctx, job{}) }, apiRate(), stint.WithConcurrency(stint.Concurrency[call]{Name: "shared", Max: n}))
				}
				older, newer := keyed("older", most[0]), keyed("newer", most[1])
				working(t, c)
				enqueue(t, callTask(c, g, 0), slowly)
				enqueueMany(t, older, calls(slowly, 5))
				enqueueMany(t, newer, calls(slowly, 5))
				g.after(t, time.Minute, 1, 1, "at 1/h")
				if err := c.SetRateLimit(t.Context(), "api", rate.Inf, 1); err != nil {
					t.Fatal(err)
				}
				g.after(t, time.Minute, most[1], most[1], "no rate")
				g.after(t, 2*time.Minute, most[1], most[1], "the next")
			})
		})
	}
}

// A key whose strategy changed while its runs waited at a rate, and changes back, is not stuck.
func TestStrategyChangesBeforeRate(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		g := newMeter()
		with := func(name string, s stint.Strategy) *stint.Task[call, int] {
			return stint.NewTask(c, name, func(context.Context, call) (int, error) {
				g.enter(name, name)
				return 1, nil
			}, apiRate(), stint.WithConcurrency(stint.Concurrency[call]{Name: "shared", Max: 2, Strategy: s}))
		}
		turns, queue := with("turns", stint.StrategyGroupRoundRobin), with("queue", stint.StrategyQueue)
		working(t, c)
		enqueueMany(t, turns, calls(slowly, 4))
		enqueueMany(t, queue, calls(slowly, 4))
		g.after(t, time.Minute, 1, 1, "at 1/h")
		enqueue(t, turns, fast)
		g.after(t, time.Minute, 8, 8, "raised")
		if left, err := c.ListConcurrency(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("left %+v, %v", left, err)
		}
		if found, err := c.Check(t.Context()); err != nil || len(found) > 0 {
			t.Errorf("Check: %q, %v", found, err)
		}
	})
}
