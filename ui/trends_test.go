package ui_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// A task's page has its trends, its slowest runs and all of its definition; that of the queues has the backlog over time, and
// who works each.
func TestTrends(t *testing.T) {
	c, h := opened(t)
	task := stint.NewTask(c, "charge", func(_ context.Context, n int) (int, error) { return n, nil }, stint.WithQueue("money"),
		stint.WithRetries(4), stint.WithRetryBackoff(2, time.Minute), stint.WithScheduleTimeout(time.Hour),
		stint.WithConcurrency(stint.Concurrency[int]{Max: 3}), stint.WithOnFailure(func(context.Context, int, *stint.TaskError) error { return nil }))
	w, err := c.NewWorker(stint.WithQueues("money"), stint.WithName("till"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	defer func() { stop(); <-done }()
	for n := range 7 {
		if _, err := task.Run(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	counted := func() bool {
		all, err := c.Stats(ctx, stint.StatsFilter{Since: time.Now().Add(-time.Hour), PerTask: true})
		return err == nil && slices.ContainsFunc(all, func(s stint.Stats) bool { return s.Succeeded == 7 })
	}
	for mark := uint64(0); !counted(); { // counts are stored about once a second
		if mark, err = c.Changed(ctx, mark); err != nil {
			t.Fatal(err)
		}
	}
	for path, shows := range map[string][]string{
		"/tasks/charge": {"Runs that ended", "7 in all", "Duration", "Slowest runs", "4", "2ⁿ s after attempt n, at most 1 min",
			"Must start within", "On failure"},
		"/queues": {"Backlog", "Enqueued and started", "<bdi>money</bdi>", "<bdi>till</bdi>"},
	} {
		w, _ := asked(t, h, path, "Accept", "text/html")
		for _, text := range shows {
			if !strings.Contains(w.Body.String(), text) {
				t.Errorf("%s does not show %q", path, text)
			}
		}
	}
	w2, _ := asked(t, h, "/tasks/charge", "Accept", "text/html")
	_, slow, _ := strings.Cut(w2.Body.String(), "Slowest runs")
	slow, _, _ = strings.Cut(slow, "<h2>")
	if n := strings.Count(slow, `href="/runs/`); n != 5 {
		t.Errorf("%d of the slowest runs are listed, want 5", n)
	}
}
