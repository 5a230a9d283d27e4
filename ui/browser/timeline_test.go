package browser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// A drawnSpan is a row of a timeline as the browser draws it; From and To are parts of the whole.
type drawnSpan struct {
	Label, Note, Class, Took string
	From, To                 float64
}

const readTimeline = `[...document.querySelectorAll(".waterfall tbody tr")].map((row) => {
	const whole = row.querySelector("svg").getBoundingClientRect();
	const parts = [...row.querySelectorAll("rect")].map((r) => r.getBoundingClientRect());
	return { Label: row.querySelector("th bdi").textContent, Note: row.querySelector(".note")?.textContent ?? "",
		Class: [...row.querySelectorAll("rect")].map((r) => r.getAttribute("class")).join(" "), Took: row.querySelector(".figure").textContent,
		From: (Math.min(...parts.map((r) => r.left)) - whole.left) / whole.width, To: (Math.max(...parts.map((r) => r.right)) - whole.left) / whole.width };
})`

// failedOrder runs a task to its end, which is a failure, and serves the page.
func failedOrder(t *testing.T, fn func(context.Context, int) (int, error), opts ...stint.TaskOption) (
	*stint.Client, *stint.Run[int], *httptest.Server) {
	t.Helper()
	c := workedOn(t)
	task := stint.NewTask(c, "order", fn, opts...)
	server := working(t, c)
	run, err := task.Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(t.Context()); err == nil {
		t.Fatal("the run succeeded")
	}
	return c, run, server
}

// workedOn opens a database for working.
func workedOn(t *testing.T) *stint.Client {
	t.Helper()
	c, err := stint.Open(filepath.Join(t.TempDir(), "shop.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// working starts a worker and serves the page, until the test ends, when it also closes the client.
func working(t *testing.T, c *stint.Client) *httptest.Server {
	t.Helper()
	w, err := c.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.Run(ctx) }()
	t.Cleanup(func() { stop(); <-stopped; c.Close() })
	server := httptest.NewServer(ui.Handler(c, ui.WithLocalAccess()))
	t.Cleanup(server.Close)
	return server
}

// A timeline draws each call from its begin to its end: sleeps as long as they were, a compensation from its call on.
// The step that failed is there, with each try; the wait between attempts is a wait, and a failed attempt is red.
func TestTimeline(t *testing.T) {
	ok := func(context.Context) (int, error) { return 1, nil }
	c, run, server := failedOrder(t, func(ctx context.Context, _ int) (int, error) {
		stint.Step(ctx, "reserve", ok)
		stint.Compensate(ctx, "release", func(context.Context) error { return nil })
		stint.Sleep(ctx, 1500*time.Millisecond)
		_, err := stint.Step(ctx, "charge", func(context.Context) (int, error) {
			return 0, stint.RetryAfter(500*time.Millisecond, errors.New("card refused"))
		}, stint.WithRetries(1))
		return 0, err
	}, stint.WithRetries(1))
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(server.URL+"/runs/"+run.ID()), chromedp.WaitReady(".waterfall"))
	rows := eval[[]drawnSpan](t, b, readTimeline)
	var labels []string
	for _, r := range rows {
		labels = append(labels, strings.TrimSpace(r.Label+" "+r.Class))
	}
	want := "waits to start queued, attempt 1 failed, step reserve succeeded, sleep wait, step charge wait failed failed, try 1 failed, try 2 failed, " +
		"waits to try again wait, attempt 2 failed, step charge wait failed failed, try 1 failed, try 2 failed, compensation release succeeded"
	if got := strings.Join(labels, ", "); got != want {
		t.Fatalf("the timeline has\n%s\nwant\n%s", got, want)
	}
	checkSpans(t, c, run.ID(), rows)
	b.do(t, chromedp.Navigate(server.URL+"/runs/"+run.ID()+"?tab=journal"), chromedp.WaitReady("main h1"))
	journal := eval[string](t, b, `[...document.querySelectorAll("table")].find((x) => x.textContent.includes("ended attempt")).innerText`)
	for _, text := range []string{"ended attempt 1", "ended attempt 2", "charge (2 tries)", "card refused"} {
		if !strings.Contains(journal, text) {
			t.Errorf("the journal does not say %q:\n%s", text, journal)
		}
	}
}

// checkSpans compares a timeline with what the journal says.
func checkSpans(t *testing.T, c *stint.Client, id string, rows []drawnSpan) {
	t.Helper()
	info, err := c.GetRun(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := c.Journal(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	start, whole := info.Created, info.Finished.Sub(info.Created)
	check := func(row drawnSpan, from, to time.Time) {
		t.Helper()
		a, b := float64(from.Sub(start))/float64(whole), float64(to.Sub(start))/float64(whole)
		if math.Abs(row.From-a) > 0.01 || math.Abs(row.To-b) > 0.01 {
			t.Errorf("%s is drawn from %.3f to %.3f, want %.3f to %.3f", row.Label, row.From, row.To, a, b)
		}
	}
	failed := info.Timeline[2].Failed
	if len(failed) != 1 || len(failed[0].Tries) != 2 || len(entries) != 4 {
		t.Fatalf("%+v\n%+v", failed, entries)
	}
	check(rows[3], entries[1].Began, entries[1].Due)
	check(rows[4], failed[0].Began, failed[0].At)
	check(rows[6], failed[0].Tries[1].Began, failed[0].Tries[1].Ended)
	check(rows[7], info.Timeline[2].At, info.Timeline[3].At)
	check(rows[12], entries[2].Began, entries[2].At)
	if rows[3].Took != "1.5 s" || entries[2].Began.Before(info.Timeline[3].At) || rows[6].Note != "card refused" {
		t.Errorf("%+v, %+v", rows[3], entries[2])
	}
}

// A click on a span shows it beside the timeline, in place: its error and each try, its result, and the lines that were
// logged in its time. Dragging shows a part of the timeline. All of that is in the URL, and works without scripts.
func TestSpans(t *testing.T) {
	_, run, server := failedOrder(t, func(ctx context.Context, _ int) (int, error) {
		for _, name := range []string{"reserve", "pack"} {
			stint.Step(ctx, name, func(ctx context.Context) (string, error) {
				stint.Logger(ctx).Info("log of " + name)
				return "result of " + name, nil
			})
			stint.Sleep(ctx, 200*time.Millisecond)
		}
		return stint.Step(ctx, "charge", func(context.Context) (int, error) {
			return 0, stint.RetryAfter(time.Millisecond, errors.New("card refused"))
		}, stint.WithRetries(1))
	})
	const row = `[...document.querySelectorAll(".waterfall tbody tr")].find((r) => r.querySelector("bdi").textContent == %q)`
	const shown = `document.querySelector(".side").innerText`
	for _, scripts := range []bool{true, false} {
		b := opened(t, 1440, "light")
		b.do(t, emulation.SetScriptExecutionDisabled(!scripts), chromedp.Navigate(server.URL+"/runs/"+run.ID()), chromedp.WaitReady(".waterfall"))
		if scripts {
			appears(t, b, connected)
			b.do(t, chromedp.Evaluate("window.before = true", nil))
		}
		for _, span := range []struct{ label, want, not string }{
			{"step reserve", "log of reserve", "log of pack"}, {"step pack", "result of pack", "result of reserve"}, {"step charge", "card refused", "result"},
			{"try 2", "card refused", "Tries"}, {"attempt 1", "log of pack", "result of pack"},
		} {
			b.do(t, chromedp.Evaluate(fmt.Sprintf(row, span.label)+`.querySelector("a").click()`, nil))
			appears(t, b, fmt.Sprintf(`document.querySelector(".side header b")?.textContent == %q`, span.label))
			if text := eval[string](t, b, shown); !strings.Contains(text, span.want) || strings.Contains(text, span.not) {
				t.Errorf("scripts: %v: of %s is shown, without %q:\n%s", scripts, span.label, span.want, text)
			}
		}
		if !scripts {
			continue
		}
		if !eval[bool](t, b, "!!window.before") {
			t.Error("the page was loaded again")
		}
		b.do(t, chromedp.Evaluate("history.back()", nil))
		appears(t, b, `document.querySelector(".side header b").textContent == "try 2" && `+connected)
		const length = `Number(document.querySelector(".waterfall").dataset.ms)`
		all := eval[float64](t, b, length)
		var at []float64
		b.do(t, chromedp.Evaluate(fmt.Sprintf(`(({ left, top, width }) => [left, top + 5, width])(`+row+`.querySelector("svg").getBoundingClientRect())`, "attempt 1"), &at))
		b.do(t, chromedp.MouseEvent(input.MousePressed, at[0]+.4*at[2], at[1], chromedp.ButtonLeft),
			chromedp.MouseEvent(input.MouseReleased, at[0]+.6*at[2], at[1], chromedp.ButtonLeft))
		appears(t, b, `/zoom=\d+-\d+/.test(location.search) && document.querySelector(".waterfall thead a")?.textContent == "Show all"`)
		if part := eval[float64](t, b, length); math.Abs(part/all-.2) > .02 {
			t.Errorf("a fifth of %v ms is %v ms long", all, part)
		}
	}
}
