package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"golang.org/x/time/rate"
)

// beyond are times that cannot be kept: too far for JSON, or for arithmetic on them.
func beyond() map[string]time.Time {
	now := time.Now()
	return map[string]time.Time{
		"milliseconds for seconds": time.Unix(now.UnixMilli(), 0), "nanoseconds for seconds": time.Unix(now.UnixNano(), 0),
		"year 10000": time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), "the last second": time.Unix(math.MaxInt64, 0),
		"the first second": time.Unix(math.MinInt64, 0), "year 0": time.Date(0, 12, 31, 23, 59, 59, 0, time.UTC),
	}
}

var lastTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// A time that cannot be kept is an error where it is given, by whatever way, and the
// first and the last that can be work.
func TestTimesThatCannotBeKept(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		ctx := t.Context()
		task := stint.NewTask(c, "task", double)
		flow := stint.NewWorkflow[int](c, "flow")
		stint.AddTask(flow, "a", double)
		due := func() *stint.Run[int] {
			return must[*stint.Run[int]](t)(task.Enqueue(ctx, 1, stint.WithDelay(time.Hour)))
		}
		ways := map[string]func(at time.Time) error{
			"WithRunAt": func(at time.Time) error { _, err := task.Enqueue(ctx, 1, stint.WithRunAt(at)); return err },
			"many":      func(at time.Time) error { _, err := task.EnqueueMany(ctx, []int{1}, stint.WithRunAt(at)); return err },
			"JSON": func(at time.Time) error {
				_, err := c.EnqueueJSON(ctx, "task", json.RawMessage("1"), stint.WithRunAt(at))
				return err
			},
			"Schedule":   func(at time.Time) error { _, err := task.Schedule(ctx, at, 1); return err },
			"workflow":   func(at time.Time) error { _, err := flow.Schedule(ctx, at, 1); return err },
			"Reschedule": func(at time.Time) error { return due().Reschedule(ctx, at) },
			"by ID":      func(at time.Time) error { return c.Reschedule(ctx, due().ID(), at) },
			"since":      func(at time.Time) error { _, err := c.ListRuns(ctx, stint.RunFilter{Since: at}); return err },
			"until":      func(at time.Time) error { _, err := c.ListRuns(ctx, stint.RunFilter{Until: at}); return err },
			"cancel": func(at time.Time) error {
				_, err := c.CancelRuns(ctx, stint.RunFilter{Tasks: []string{"no"}, Until: at})
				return err
			},
			"stats": func(at time.Time) error { _, err := c.Stats(ctx, stint.StatsFilter{Since: at}); return err },
			"ticks": func(at time.Time) error { _, err := stint.CronTicks("@daily", at, 1); return err },
		}
		for way, f := range ways {
			for what, at := range beyond() {
				says(t, f(at), "years 1 to 9999")
				if t.Failed() {
					t.Fatalf("%s: %s", way, what)
				}
			}
			for _, at := range []time.Time{{}, time.Unix(-1, 0), time.Now(), lastTime} {
				if err := f(at); err != nil && way != "ticks" {
					t.Errorf("%s(%v): %v", way, at, err)
				}
			}
		}
		for what, at := range beyond() {
			if err := stint.SleepUntil(ctx, at); err == nil || errors.Is(err, context.Canceled) {
				t.Errorf("SleepUntil(%s): %v", what, err)
			}
		}
		page := must[*stint.RunPage](t)(c.ListRuns(ctx, stint.RunFilter{Until: lastTime}))
		if b, err := json.Marshal(page); err != nil || len(page.Runs) == 0 {
			t.Errorf("%d runs as JSON: %s, %v", len(page.Runs), b, err)
		}
	})
}

// The longest durations saturate: what lasts for ever does, and nothing is due before.
func TestLongestDurations(t *testing.T) {
	const forever = time.Duration(math.MaxInt64)
	in(t, func(t *testing.T, c *stint.Client) {
		ctx := t.Context()
		var started atomic.Int32
		handler := func(ctx context.Context, how string) (int, error) {
			started.Add(1)
			info, _ := stint.Info(ctx)
			switch {
			case how == "retry after" && info.Attempt == 1:
				return 0, stint.RetryAfter(forever, errors.New("later"))
			case how == "policy" && info.Attempt == 1, how == "fails":
				return 0, errors.New("again")
			case how == "snooze":
				return 0, stint.Snooze(forever)
			case how == "sleep":
				return 0, stint.Sleep(ctx, forever)
			case how == "event":
				_, err := stint.WaitForEvent[int](ctx, "never", stint.WithWaitTimeout(forever))
				return 0, err
			case how == "extend":
				return 0, errors.Join(stint.ExtendTimeout(ctx, forever), stint.ExtendTimeout(ctx, forever), stint.Sleep(ctx, time.Minute))
			}
			return 0, nil
		}
		task := stint.NewTask(c, "task", handler, stint.WithRetries(1),
			stint.WithRetryBackoff(1e300, forever), stint.WithTimeout(forever), stint.WithScheduleTimeout(forever))
		policy := stint.NewTask(c, "policy", handler, stint.WithRetries(1),
			stint.WithRetryPolicy(func(int, error) time.Duration { return forever }))
		flow := stint.NewWorkflow[string](c, "flow", stint.WithTimeout(forever))
		stint.AddTask(flow, "a", handler, stint.WithWaitFor(stint.SleepFor(forever)))
		if err := task.Cron(ctx, "rarely", fmt.Sprintf("@every %dh", int64(forever/time.Hour)), "cron"); err != nil {
			t.Fatal(err)
		}
		working(t, c)
		waiting := map[string]*stint.Run[int]{
			"delay":    must[*stint.Run[int]](t)(task.Enqueue(ctx, "", stint.WithDelay(forever))),
			"at":       must[*stint.Run[int]](t)(task.Schedule(ctx, lastTime, "")),
			"debounce": must[*stint.Run[int]](t)(task.Enqueue(ctx, "", stint.WithDebounce("k", forever, forever))),
			"policy":   must[*stint.Run[int]](t)(policy.Enqueue(ctx, "policy")),
		}
		for _, how := range []string{"retry after", "fails", "snooze", "sleep", "event"} {
			waiting[how] = must[*stint.Run[int]](t)(task.Enqueue(ctx, how))
		}
		must[*stint.Run[stint.Outputs]](t)(flow.Enqueue(ctx, ""))
		key := must[*stint.Run[int]](t)(task.Enqueue(ctx, "", stint.WithIdempotencyKey("k", forever)))
		done := must[*stint.Run[int]](t)(task.Enqueue(ctx, "extend"))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := started.Load(); n != 9 { // of those that were due, and of one that slept a second
			t.Errorf("%d executions, want 9", n)
		}
		for how, r := range waiting {
			if s := must[*stint.RunInfo](t)(r.Info(ctx)).State; s != stint.StateScheduled && s != stint.StateWaiting {
				t.Errorf("%s: %v", how, s)
			}
		}
		if s := must[*stint.RunInfo](t)(done.Info(ctx)).State; s != stint.StateSucceeded {
			t.Errorf("a run that extended its timeout: %v", s)
		}
		if again := must[*stint.Run[int]](t)(task.Enqueue(ctx, "", stint.WithIdempotencyKey("k", forever))); again.ID() != key.ID() {
			t.Error("an idempotency key was forgotten")
		}
		if b, err := json.Marshal(must[*stint.RunPage](t)(c.ListRuns(ctx, stint.RunFilter{}))); err != nil {
			t.Errorf("runs as JSON: %s, %v", b, err)
		}
	})
}

// A retention of centuries keeps failed runs too.
func TestLongRetention(t *testing.T) {
	for _, d := range []time.Duration{time.Hour, 98 * 365 * 24 * time.Hour, 150 * 365 * 24 * time.Hour, math.MaxInt64} {
		in(t, func(t *testing.T, c *stint.Client) {
			task := stint.NewTask(c, "task", func(context.Context, int) (int, error) { return 0, errors.New("no") })
			stop := working(t, c)
			r := enqueue(t, task, 1)
			time.Sleep(5 * time.Hour)
			stop()
			if _, err := r.Info(t.Context()); (err == nil) != (d > time.Hour) {
				t.Errorf("WithRetention(%v): a failed run after 5 hours: %v", d, err)
			}
		}, stint.WithRetention(d))
	}
}

// Figures of rate limits that are no numbers, or whose sums would not be exact, are
// errors; one whose next unit comes after all time lets what waits wait.
func TestRateFigures(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		ctx := t.Context()
		var figures stint.RateLimit
		task := stint.NewTask(c, "task", double, stint.WithRateLimitFunc(func(int) stint.RateLimit { return figures }))
		for _, bad := range []stint.RateLimit{
			{Limit: rate.Limit(math.NaN()), Burst: 1}, {Limit: rate.Limit(math.Inf(1)), Burst: 1}, {Limit: rate.Limit(math.Inf(-1)), Burst: 1},
			{Limit: -1, Burst: 1}, {Limit: 1, Burst: math.MaxInt}, {Limit: 1, Burst: -1},
		} {
			says(t, c.SetRateLimit(ctx, "k", bad.Limit, bad.Burst), "want a limit of 0 or more", "burst of 1 to")
			figures = bad
			figures.Key = "k"
			_, err := task.Enqueue(ctx, 1)
			says(t, err, "want a limit of 0 or more")
		}
		figures = stint.RateLimit{Key: "k", Limit: rate.Inf, Burst: 1, Units: math.MaxInt}
		_, err := task.Enqueue(ctx, 1)
		says(t, err, "units")
		working(t, c)
		limits := []rate.Limit{5e-324, 1e-300, 1e-10, 0, rate.Every(math.MaxInt64)}
		want := map[*stint.Run[int]]stint.State{}
		var seconds []*stint.Run[int]
		for i, limit := range limits {
			figures = stint.RateLimit{Key: fmt.Sprint(i), Limit: limit, Burst: 1}
			first := must[*stint.Run[int]](t)(task.Enqueue(ctx, 1))
			seconds = append(seconds, must[*stint.Run[int]](t)(task.Enqueue(ctx, 2)))
			want[first], want[seconds[i]] = stint.StateSucceeded, stint.StateQueued
		}
		time.Sleep(100 * time.Hour) // once for all
		for r, want := range want {
			if info := must[*stint.RunInfo](t)(r.Info(ctx)); info.State != want {
				t.Errorf("%s: %v, want %v", info.Blocked, info.State, want)
			}
		}
		for i := range limits {
			if err := c.SetRateLimit(ctx, fmt.Sprint(i), rate.Inf, 1); err != nil { // a control: it is not lost
				t.Fatal(err)
			}
			must[int](t)(seconds[i].Wait(ctx))
		}
	})
}

// Of two runs the one of higher priority is first, whatever their priorities and times.
func TestExtremePriorities(t *testing.T) {
	for _, ageing := range []time.Duration{0, time.Millisecond, time.Minute, math.MaxInt64} {
		in(t, func(t *testing.T, c *stint.Client) {
			var order []int
			task := stint.NewTask(c, "task", func(_ context.Context, p int) (int, error) { order = append(order, p); return 0, nil })
			for _, p := range []int{-128, 0, 127, 2, -1} {
				enqueue(t, task, p, stint.WithPriority(p))
			}
			working(t, c, stint.WithSlots(1))
			time.Sleep(time.Second)
			synctest.Wait()
			if got := fmt.Sprint(order); got != "[127 2 0 -1 -128]" {
				t.Errorf("ageing %v: %v", ageing, got)
			}
		}, stint.WithPriorityAgeing(ageing))
	}
}

// Whatever time and duration an enqueue is given, it is an error or a run that can be shown.
func FuzzEnqueueTimes(f *testing.F) {
	for _, at := range beyond() {
		f.Add(at.Unix(), int64(math.MaxInt64), true)
	}
	f.Add(lastTime.Unix(), int64(math.MinInt64), false)
	c := openedAt(f, ":memory:")
	task := stint.NewTask(c, "task", double, stint.WithScheduleTimeout(math.MaxInt64))
	f.Fuzz(func(t *testing.T, sec, d int64, delayed bool) {
		opts := []stint.RunOption{stint.WithRunAt(time.Unix(sec, 0))}
		if delayed {
			opts = append(opts, stint.WithDelay(time.Duration(d)))
		}
		run, err := task.Enqueue(t.Context(), 1, opts...)
		if err != nil {
			return
		}
		info := infoOf(t, run)
		if _, err := json.Marshal(info); err != nil {
			t.Error(err)
		}
		at := time.Unix(sec, 0)
		if !delayed && at.Year() > 2100 && (info.State != stint.StateScheduled || !info.Scheduled.Equal(at)) {
			t.Errorf("WithRunAt(%v): %v, due %v", at, info.State, info.Scheduled)
		}
	})
}
