package browser

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/alert"
)

// text is what the main part of a page says.
func text(t *testing.T, b *browser, url string) string {
	t.Helper()
	b.do(t, chromedp.Navigate(url), chromedp.WaitReady("main h1"))
	return eval[string](t, b, `document.querySelector("main").innerText`)
}

// until waits until a run is as ok says.
func until(t *testing.T, c *stint.Client, id string, ok func(*stint.RunInfo) bool) {
	t.Helper()
	for mark := uint64(0); ; {
		info, err := c.GetRun(t.Context(), id)
		if err == nil && ok(info) {
			return
		}
		if err == nil {
			mark, err = c.Changed(t.Context(), mark)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Workers that were given no names have different ones: each lists only its own runs, and is paused by itself.
func TestWorkersOfOneProcess(t *testing.T) {
	c := workedOn(t)
	hold := make(chan struct{})
	task := stint.NewTask(c, "held", func(ctx context.Context, _ int) (int, error) {
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return 0, ctx.Err()
	})
	server := working(t, c)
	idle, err := c.NewWorker(stint.WithQueues("other"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { defer close(stopped); idle.Run(ctx) }()
	t.Cleanup(func() { close(hold); stop(); <-stopped })
	run, err := task.Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	until(t, c, run.ID(), func(r *stint.RunInfo) bool { return r.State == stint.StateRunning })
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(server.URL+"/workers"), chromedp.WaitReady("main h1"))
	const sections = `[...document.querySelectorAll("main section")].map((s) => s.querySelector("h2").innerText.split(" ")[0] + ": " + ` +
		`s.querySelectorAll("tbody tr").length + (s.innerText.includes("paused") ? " paused" : "")).join(", ")`
	appears(t, b, `document.querySelectorAll("main section").length == 2`)
	names := map[string]string{}
	for part := range strings.SplitSeq(eval[string](t, b, sections), ", ") {
		name, has, _ := strings.Cut(part, ": ")
		names[has] = name
	}
	if len(names) != 2 || names["0"] == "" || names["1"] == "" || names["0"] == names["1"] {
		t.Fatalf("the workers, by the number of their runs: %v", names)
	}
	if err := c.PauseWorker(t.Context(), names["0"]); err != nil {
		t.Fatal(err)
	}
	appears(t, b, fmt.Sprintf(`(%s).includes("%s: 0 paused") && (%s).includes("%s: 1") && !(%s).includes("1 paused")`,
		sections, names["0"], sections, names["1"], sections))
}

// A stream's tab shows its end, however long it is, and what each attempt has streamed under a heading.
func TestStreamTail(t *testing.T) {
	c := workedOn(t)
	task := stint.NewTask(c, "talk", func(ctx context.Context, _ int) (int, error) {
		info, _ := stint.Info(ctx)
		for i := range 1500 {
			if err := stint.Stream(ctx, fmt.Appendf(nil, "token %d of attempt %d\n", i, info.Attempt)); err != nil {
				return 0, err
			}
		}
		if info.Attempt == 1 {
			return 0, stint.RetryAfter(time.Millisecond, errors.New("cut off"))
		}
		return 0, nil
	}, stint.WithRetries(1))
	server := working(t, c)
	run, err := task.Enqueue(t.Context(), 1)
	if err == nil {
		_, err = run.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	b := opened(t, 1440, "light")
	all := text(t, b, server.URL+"/runs/"+run.ID()+"?tab=stream")
	last := 0
	for _, part := range []string{"Attempt 1", "token 1499 of attempt 1", "Attempt 2", "token 1499 of attempt 2"} {
		i := strings.Index(all[last:], part)
		if i < 0 {
			t.Fatalf("the page does not show %q where it should", part)
		}
		last += i
	}
}

// The page of alerts does not say that there are none when it only was given none.
func TestAlertsNotGiven(t *testing.T) {
	c := workedOn(t)
	if _, err := alert.New(c, alert.Config{Rules: []alert.Rule{{Name: "payments fail", Task: "charge"}}}); err != nil {
		t.Fatal(err)
	}
	server := working(t, c)
	b := opened(t, 1440, "light")
	if got := text(t, b, server.URL+"/alerts"); !strings.Contains(got, "though the program may have some") || !strings.Contains(got, "ui.WithAlerts") {
		t.Errorf("the page says:\n%s", got)
	}
}

// One-time schedules stand apart from retries that wait.
func TestRetriesAreNoSchedules(t *testing.T) {
	c := workedOn(t)
	task := stint.NewTask(c, "charge", func(context.Context, int) (int, error) {
		return 0, stint.RetryAfter(time.Hour, errors.New("try later"))
	}, stint.WithRetries(1))
	later := stint.NewTask(c, "remind", func(context.Context, int) (int, error) { return 0, nil })
	server := working(t, c)
	run, err := task.Enqueue(t.Context(), 1)
	if err == nil {
		_, err = later.Schedule(t.Context(), time.Now().Add(3*time.Hour), 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, c, run.ID(), func(r *stint.RunInfo) bool { return r.State == stint.StateScheduled && r.Executions == 1 })
	b := opened(t, 1440, "light")
	_, once, _ := strings.Cut(text(t, b, server.URL+"/schedules"), "One-time")
	once, again, _ := strings.Cut(once, "Retries that wait")
	if !strings.Contains(once, "remind") || strings.Contains(once, "charge") || !strings.Contains(again, "charge") || strings.Contains(again, "remind") {
		t.Errorf("one-time:\n%s\nretries:\n%s", once, again)
	}
}

// A failed workflow says why in its header, and a run that waits for an event says until when, not that it is due.
func TestHeadersSayWhy(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	if got := text(t, b, base+"/runs/"+d.runs["broken flow"]); !strings.Contains(got, "2 tests failed") || strings.Contains(got, "did not start") {
		t.Errorf("a failed workflow says:\n%s", got)
	}
	got := text(t, b, base+"/runs/"+d.runs["order"])
	if !strings.Contains(got, "order:approved") || strings.Contains(got, "Due in") {
		t.Errorf("a run that waits says:\n%s", got)
	}
	const facts = `[...document.querySelectorAll(".factline dt")].map((x) => x.textContent + " " + x.nextElementSibling.textContent).join("; ")`
	for name, want := range map[string]bool{"order": true, "held up": false, "later": false} {
		text(t, b, base+"/runs/"+d.runs[name])
		if got := eval[string](t, b, facts); strings.Contains(got, "Attempt 1") != want || strings.Contains(got, "Attempt 0") {
			t.Errorf("the run %s says: %s", name, got)
		}
	}
}

// The overview begins with what needs a person: a task that fails, and a queue that is paused.
func TestAttentionFirst(t *testing.T) {
	_, base := served(t)
	b := opened(t, 1440, "light")
	all := text(t, b, base+"/")
	before, _, found := strings.Cut(all, "Runs that ended")
	if !found {
		t.Fatalf("the overview has no chart of runs that ended:\n%s", all)
	}
	for _, part := range []string{"charge-card", "cold"} {
		if !strings.Contains(before, part) {
			t.Errorf("before the charts the overview does not say %q:\n%s", part, before)
		}
	}
}

// Quantiles are between the bounds of what was counted: of one run that took about 30 seconds, p50 is 30 s.
func TestQuantilesOfOne(t *testing.T) {
	c := workedOn(t)
	task := stint.NewTask(c, "slow", func(context.Context, int) (int, error) { return 0, nil })
	server := working(t, c)
	if _, err := task.Run(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	db := fileOf(t, c)
	var err error
	for mark := uint64(0); ; { // counts are stored after a while
		if mark, err = c.Changed(t.Context(), mark); err != nil {
			t.Fatal(err)
		}
		done, err := db.ExecContext(t.Context(), "UPDATE stint_counters SET durations = '66:1' WHERE task = 'slow' AND durations <> ''")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := done.RowsAffected(); err != nil || n > 0 {
			break
		}
	}
	b := opened(t, 1440, "light")
	if got := text(t, b, server.URL+"/tasks"); !strings.Contains(got, "30 s") {
		t.Errorf("the page of tasks says:\n%s", got)
	}
}
