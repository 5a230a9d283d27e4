package browser

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stint-dev/stint"
)

// A payload is a tree however deep it is; all of it is copied, and downloaded.
func TestDeepPayload(t *testing.T) {
	d, base := served(t)
	deep := strings.Repeat(`{"level":`, 40) + `"the bottom"` + strings.Repeat("}", 40)
	run, err := d.c.EnqueueJSON(t.Context(), "elsewhere", []byte(deep), stint.WithQueue("cold"))
	if err != nil {
		t.Fatal(err)
	}
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/runs/"+run.ID()+"?tab=input"), chromedp.WaitReady(".json"))
	appears(t, b, connected)
	if n := eval[int](t, b, `document.querySelectorAll(".json details").length`); n != 40 {
		t.Errorf("the tree has %d levels", n)
	}
	b.do(t, chromedp.Evaluate(`for (const d of document.querySelectorAll(".json details")) d.open = true`, nil))
	appears(t, b, `document.querySelector(".json .text").checkVisibility() && document.querySelector(".json .text").textContent == '"the bottom"'`)
	b.do(t, chromedp.Evaluate(`navigator.clipboard.writeText = async (text) => { window.copied = text; }`, nil), chromedp.Click("[data-copy-of]"))
	appears(t, b, fmt.Sprintf(`window.copied == %q`, deep))
	large := base + "/runs/" + d.runs["large"] + "?tab=input"
	b.do(t, chromedp.Navigate(large), chromedp.WaitReady("a[download]"))
	b.do(t, chromedp.Evaluate(`fetch(document.querySelector("a[download]").href).then((a) => a.text()).then((text) => { window.got = text.length; })`, nil))
	appears(t, b, fmt.Sprintf(`window.got == %d`, 1<<20+2))
}

// The palette finds runs by the beginning of an ID, by metadata and by queue.
func TestPaletteFindsRuns(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	const offered = `[...document.querySelectorAll("#palette li a")]`
	id := d.runs["slow"]
	for _, tt := range []struct{ typed, found, leads string }{
		{id[:18], "run " + id + " of resize-images", "/runs/" + id},
		{strings.ToUpper(id[:18]), "run " + id + " of resize-images", "/runs/" + id},
		{"tenant=acme", "runs with metadata tenant=acme", "/runs?metadata=tenant%3Dacme"},
		{"queue media", "runs in queue media", "/runs?queue=media"},
	} {
		b.do(t, chromedp.Navigate(base+"/"), chromedp.WaitReady("main h1"))
		appears(t, b, connected)
		b.do(t, palette, chromedp.WaitVisible("#palette"), chromedp.KeyEvent(tt.typed))
		appears(t, b, fmt.Sprintf(offered+`.some((a) => a.textContent == %q && a.href.endsWith(%q))`, tt.found, tt.leads))
		appears(t, b, fmt.Sprintf(`(() => { const all = `+offered+`; const at = all.findIndex((a) => a.textContent == %q);
			return at > 0 || all[0].getAttribute("aria-selected") == "true"; })()`, tt.found))
		for eval[string](t, b, offered+`.find((a) => a.getAttribute("aria-selected") == "true").textContent`) != tt.found {
			b.do(t, chromedp.KeyEvent(kb.ArrowDown))
		}
		b.do(t, chromedp.KeyEvent(kb.Enter))
		appears(t, b, fmt.Sprintf(`location.href.endsWith(%q)`, tt.leads))
	}
}

// Without scripts each page shows what it has, links lead on, a list is filtered, and a form does what it says.
func TestWithoutScripts(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, emulation.SetScriptExecutionDisabled(true), chromedp.Navigate(base+"/"), chromedp.WaitReady("main h1"))
	for _, step := range []struct{ click, leads string }{ // what it leads to is on no page before
		{`.rail a[title="Runs"]`, `location.pathname.endsWith("/runs")`}, {`.chips a[href*="state=failed"]`, `location.search == "?state=failed"`},
		{`tbody tr[data-url] .c-task a`, `location.pathname.includes("/runs/")`}, {`a[href*="tab=attempts"]`, `location.search == "?tab=attempts"`},
		{`.rail a[title="Queues"]`, `document.querySelector('form[action$="media/pause"]')`},
		{`form[action$="media/pause"] button`, `document.querySelector('form[action$="media/resume"]')`},
		{`form[action$="media/resume"] button`, `document.querySelector('form[action$="media/pause"]')`},
		{`.rail a[title="Tasks"]`, `location.pathname.endsWith("/tasks") && document.querySelector("main").innerText.includes("publish-site")`},
	} {
		b.do(t, chromedp.Click(step.click, chromedp.ByQuery))
		appears(t, b, `document.readyState == "complete" && `+step.leads)
	}
	b.do(t, chromedp.Navigate(base+"/runs"), chromedp.WaitReady("main h1"), chromedp.SendKeys(".query [name=q]", "state:failed task:charge-card"),
		chromedp.Click(".query button"))
	appears(t, b, `location.search == "?state=failed&task=charge-card" && document.querySelectorAll("tbody tr").length == 4`)
	for name, path := range pagesOf(d) {
		b.do(t, chromedp.Navigate(base+path), chromedp.WaitReady("main h1"))
		if n := eval[int](t, b, `[...document.querySelectorAll("main [data-scripted]")].filter((e) => e.checkVisibility()).length`); n > 0 {
			t.Errorf("%s shows %d things that do nothing without scripts", name, n)
		}
	}
}

// Attempts stand side by side: what each did, what the journal kept, and how it ended.
func TestAttemptsSideBySide(t *testing.T) {
	charged := 0
	_, run, server := failedOrder(t, func(ctx context.Context, _ int) (int, error) {
		if _, err := stint.Step(ctx, "reserve", func(context.Context) (int, error) { return 1, nil }); err != nil {
			return 0, err
		}
		stint.Sleep(ctx, 20*time.Millisecond) // an entry is of the attempt in whose milliseconds it began
		return stint.Step(ctx, "charge", func(context.Context) (int, error) {
			charged++
			return 0, stint.RetryAfter(20*time.Millisecond, fmt.Errorf("refused the %d. time", charged))
		})
	}, stint.WithRetries(1))
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(server.URL+"/runs/"+run.ID()), chromedp.WaitReady("main h1"), chromedp.Click(`a[href*="tab=attempts"]`))
	const row = `[...document.querySelector("main table").querySelectorAll("tr")].find((r) => r.cells[0].textContent == %q)?.innerText.replace(/\s+/g, " ")`
	for title, want := range map[string][]string{
		"": {"Attempt 1 Attempt 2"}, "Ended as": {"failed failed"}, "Error": {"refused the 1. time", "refused the 2. time"},
		"step reserve": {"from the journal"}, "step charge": {"refused the 1. time", "refused the 2. time"},
	} {
		for _, text := range want {
			appears(t, b, fmt.Sprintf(row+`?.includes(%q)`, title, text))
		}
	}
}

// A run that failed is compared with the last that succeeded: input, calls, result.
func TestCompareWithSuccess(t *testing.T) {
	c, failed, server := failedOrder(t, func(ctx context.Context, n int) (int, error) {
		if _, err := stint.Step(ctx, "reserve", func(context.Context) (int, error) { return n, nil }); err != nil || n == 1 {
			return 0, errors.Join(err, stint.NonRetryable(errors.New("no order 1")))
		}
		return stint.Step(ctx, "ship", func(context.Context) (int, error) { return 10 * n, nil })
	})
	good, err := c.EnqueueJSON(t.Context(), "order", []byte("7"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := good.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(server.URL+"/runs/"+failed.ID()), chromedp.WaitReady("main h1"), chromedp.Click(`a[href*="tab=compare"]`))
	for _, text := range []string{"Beside …" + good.ID()[28:], "no order 1", "step ship", "70"} {
		appears(t, b, fmt.Sprintf(`document.querySelector("main").innerText.includes(%q)`, text))
	}
}

// Equal tasks of a wide graph are one box that says how many they are and how they ended; it opens to all of them.
func TestFoldedGraph(t *testing.T) {
	c := workedOn(t)
	w := stint.NewWorkflow[int](c, "fan")
	first := stint.AddTask(w, "split", func(_ context.Context, n int) (int, error) { return n, nil })
	var parts []stint.AnyNode
	for i := range 40 {
		parts = append(parts, stint.AddTask(w, fmt.Sprintf("part-%02d", i), func(_ context.Context, n int) (int, error) {
			if i == 7 {
				return 0, stint.NonRetryable(errors.New("part 7 is torn"))
			}
			return n, nil
		}, stint.WithParents(first)))
	}
	stint.AddTask(w, "join", func(_ context.Context, n int) (int, error) { return n, nil }, stint.WithParents(parts...))
	server := working(t, c)
	run, err := w.Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(t.Context()); err == nil {
		t.Fatal("it did not fail")
	}
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(server.URL+"/runs/"+run.ID()), chromedp.WaitReady(".graph"))
	const boxes = `[...document.querySelectorAll(".graph a")].map((a) => a.textContent).join(" | ")`
	if got := eval[string](t, b, boxes); strings.Count(got, "|") > 4 || !strings.Contains(got, "×") || !strings.Contains(got, "1 failed") {
		t.Errorf("the boxes are %s", got)
	}
}

// On a phone of 390 px the tabs at the bottom lead on, what a run's page offers is within the window, and tables do not
// make the page wider.
func TestPhone(t *testing.T) {
	d, base := served(t)
	b := opened(t, 390, "dark")
	inWindow := func(what string) {
		t.Helper()
		appears(t, b, fmt.Sprintf(`(() => { const r = document.querySelector(%q)?.getBoundingClientRect(); return r && r.width > 0 && r.left >= 0 && r.right <= 390; })()`, what))
	}
	b.do(t, chromedp.Navigate(base+"/"), chromedp.WaitReady("main h1"))
	if high := eval[float64](t, b, `document.querySelector("header.top").getBoundingClientRect().height`); high > 110 {
		t.Errorf("the header takes %v px", high)
	}
	b.do(t, chromedp.Click(`.tabbar a[href$="/runs"]`))
	appears(t, b, `location.pathname.endsWith("/runs") && document.querySelector(".tabbar [aria-current]")?.textContent == "Runs"`)
	inWindow(".query [name=q]")
	b.do(t, chromedp.Click(`.tabbar summary`), chromedp.Click(`.tabbar .menu a[href$="/workers"]`))
	appears(t, b, `location.pathname.endsWith("/workers")`)
	b.do(t, chromedp.Navigate(base+"/runs/"+d.runs["failed"]), chromedp.WaitReady("main h1"))
	inWindow(`form[action$="/replay"] button`)
	inWindow(`.root .error`)
	for _, path := range []string{"/runs/" + d.runs["broken flow"], "/runs/" + d.runs["approved"], "/errors", "/tasks/send-mail", "/limits"} {
		b.do(t, chromedp.Navigate(base+path), chromedp.WaitReady("main h1"))
		if wide := eval[float64](t, b, `document.documentElement.scrollWidth`); wide > 390 {
			t.Errorf("%s is %v px wide", path, wide)
		}
	}
	b.do(t, chromedp.Navigate(base+"/runs/"+d.runs["broken flow"]), chromedp.WaitReady("main h1"))
	appears(t, b, `document.documentElement.classList.contains("scripts") && getComputedStyle(document.querySelector(".minimap")).display == "none"`)
}

// Runs that are ticked move to another queue, and rows are lower where the viewer wants so.
func TestMoveAndDensity(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/runs?queue=media&state=queued"), chromedp.WaitReady("main h1"))
	appears(t, b, connected)
	b.do(t, chromedp.Click("[data-all]"), chromedp.Click(`button[value="runs.move"]`))
	appears(t, b, `document.querySelector("h1").textContent == "Move runs to which queue?"`)
	b.do(t, chromedp.SetValue(`select[name=to]`, "cold"), chromedp.Click("main form button.primary"))
	appears(t, b, `document.querySelector("h1").textContent == "Move runs to queue cold?" && document.querySelector("#filter b").textContent == "1"`)
	b.do(t, chromedp.Click("main form button.primary"))
	appears(t, b, `document.querySelector("main [role=status]")?.textContent.includes("1 runs were moved")`)
	if info, err := d.c.GetRun(t.Context(), d.runs["held up"]); err != nil || info.Queue != "cold" {
		t.Errorf("%+v, %v", info, err)
	}
	const high = `document.querySelector("main tbody tr").getBoundingClientRect().height`
	b.do(t, chromedp.Navigate(base+"/runs"), chromedp.WaitReady("main tbody tr"))
	before := eval[float64](t, b, high)
	b.do(t, chromedp.Click(".hide summary"), chromedp.Click(`[data-set="density"]`))
	appears(t, b, fmt.Sprintf(high+` < %f`, before))
}
