package stint_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
)

// What runs do is counted, of all and of each task, tasks of workflows among them.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := opened(t)
		slow := stint.NewTask(c, "slow", func(ctx context.Context, fail bool) (int, error) {
			time.Sleep(3 * time.Second)
			if fail {
				return 0, errors.New("no")
			}
			return 1, nil
		}, stint.WithRetries(1))
		w := stint.NewWorkflow[int](c, "flow")
		stint.AddTask(w, "a", func(ctx context.Context, n int) (int, error) { return n, nil })
		began := time.Now()
		stop := working(t, c)
		defer stop()
		slow.Run(t.Context(), false)
		slow.Run(t.Context(), true)
		if _, err := w.Run(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		counted := map[string]stint.Stats{}
		for _, per := range []bool{false, true} {
			for _, s := range must[[]stint.Stats](t)(c.Stats(t.Context(), stint.StatsFilter{Since: began, Span: time.Hour, PerTask: per})) {
				counted[s.Task] = s
			}
		}
		for task, want := range map[string][5]int64{"": {3, 4, 3, 1, 1}, "slow": {2, 3, 1, 1, 1}, "flow": {1, 0, 1, 0, 0}, "flow:a": {0, 1, 1, 0, 0}} {
			s := counted[task]
			if got := [5]int64{s.Enqueued, s.Started, s.Succeeded, s.Failed, s.Retried}; got != want {
				t.Errorf("%q: enqueued, started, succeeded, failed, retried: %v, want %v", task, got, want)
			}
		}
		s := counted["slow"]
		if d := s.Duration(1); d < 3*time.Second || d > 4500*time.Millisecond {
			t.Errorf("the longest took %v, want 3s", d)
		}
		if _, err := c.Stats(t.Context(), stint.StatsFilter{Span: time.Second}); err == nil {
			t.Error("statistics by the second")
		}
	})
}

// Once a minute it is noted how many runs of a queue are ready and running, and how far limits are used.
func TestStatsOfQueuesAndLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := opened(t)
		slow := stint.NewTask(c, "slow", func(context.Context, int) (int, error) { time.Sleep(5 * time.Minute); return 1, nil },
			stint.WithQueue("q"), stint.WithConcurrency(stint.Concurrency[int]{Max: 2, Strategy: stint.StrategyQueue}))
		began := time.Now()
		var last *stint.Run[int]
		for n := range 5 {
			last = enqueue(t, slow, n)
		}
		stop := working(t, c)
		defer stop()
		if _, err := last.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for span, spans := range map[time.Duration]int{time.Minute: 5, time.Hour: 1} {
			queues := must[[]stint.Stats](t)(c.Stats(t.Context(), stint.StatsFilter{Since: began, Span: span, PerQueue: true}))
			sum, n := stint.Stats{}, 0
			for _, s := range queues {
				if sum.Add(&s); s.Active > 0 {
					n++
				}
			}
			if sum.Enqueued != 5 || sum.Succeeded != 5 || sum.Active != 2 || n < spans || queues[0].Queue != "q" || queues[0].Task != "" {
				t.Errorf("by %v: %d enqueued, %d ended, %d active in %d spans, want 5, 5, 2 in %d", span, sum.Enqueued, sum.Ended(), sum.Active, n, spans)
			}
			limits := must[[]stint.Stats](t)(c.Stats(t.Context(), stint.StatsFilter{Since: began, Span: span, PerLimit: true}))
			if s := limits[0]; len(limits) < spans || s.Limit != (stint.LimitKey{Name: "slow"}) || s.Active != 2 || s.Max != 2 || s.Depth != 3 {
				t.Errorf("by %v: %d spans, the first: limit %+v has %d of %d and %d wait", span, len(limits), s.Limit, s.Active, s.Max, s.Depth)
			}
		}
		if _, err := c.Stats(t.Context(), stint.StatsFilter{PerQueue: true, PerLimit: true}); err == nil {
			t.Error("statistics of two kinds at once")
		}
	})
}

// Who waits for a change is told of one, also of another client's on the file.
func TestChanged(t *testing.T) {
	path := t.TempDir() + "/two.db"
	c, other := openedAt(t, path), openedAt(t, path)
	task := stint.NewTask[int, int](other, "x", nil)
	mark := must[uint64](t)(c.Changed(t.Context(), 0))
	run := enqueue(t, task, 1)
	for {
		mark = must[uint64](t)(c.Changed(t.Context(), mark))
		if _, err := c.GetRun(t.Context(), run.ID()); err == nil {
			break
		}
	}
	if n := must[map[stint.State]int](t)(c.CountRuns(t.Context())); n[stint.StateQueued] != 1 {
		t.Errorf("counted %v, want 1 queued", n)
	}
	if d := must[*stint.DatabaseInfo](t)(c.Database(t.Context())); d.Path != path && d.Server == nil || d.Size == 0 || d.Schema == 0 || d.Durability != "full" {
		t.Errorf("database: %+v", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Changed(ctx, 1<<62); !errors.Is(err, context.Canceled) {
		t.Errorf("Changed with a context that is done: %v", err)
	}
}
