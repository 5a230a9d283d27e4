package browser

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// appears waits until a JavaScript condition holds on the page.
func appears(t *testing.T, b *browser, js string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.Context, patience)
	defer cancel()
	for {
		var ok bool
		err := chromedp.Run(b.Context, chromedp.Evaluate(`!!(`+js+`)`, &ok)) // fails while a page gives way to the next
		if ok && err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("it does not come to be that %s (%v); the page says:\n%s", js, err, eval[string](t, b, `document.body.innerText.slice(0, 2000)`))
		}
		b.do(t, chromedp.Sleep(5*time.Millisecond))
	}
}

const connected = `document.documentElement.dataset.connection == "live"`

var pixels = flag.Int("pixels", 5, "the `number` of runs of which TestCommitToPixel says how soon they are seen")

// A change is on an open page by itself, without a reload. How soon it is on a page at rest is logged, and not judged: the
// machine is part of that.
func TestCommitToPixel(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/runs"), chromedp.WaitReady("main h1"))
	appears(t, b, connected)
	b.do(t, chromedp.Evaluate(`window.before = true; window.seen = {}; window.last = 0;
		source.addEventListener("main", () => { window.last = performance.now(); });
		new MutationObserver(() => requestAnimationFrame(() => {
			for (const row of document.querySelectorAll("main tbody tr[id]")) window.seen[row.id] ??= Date.now();
		})).observe(document.querySelector("main"), { childList: true, subtree: true });`, nil))
	var took []int64 // ms
	for range *pixels {
		appears(t, b, `performance.now() - window.last > 1500 && (refill(), budget > 0)`) // after much at once, a page rests
		run, err := d.mail.Enqueue(t.Context(), letter{To: "live@example.org"})
		if err != nil {
			t.Fatal(err)
		}
		committed := time.Now().UnixMilli()
		appears(t, b, fmt.Sprintf(`window.seen["r%s"]`, run.ID()))
		took = append(took, eval[int64](t, b, fmt.Sprintf(`window.seen["r%s"]`, run.ID()))-committed)
		appears(t, b, fmt.Sprintf(`document.getElementById("r%s")?.textContent.includes("succeeded")`, run.ID()))
	}
	slices.Sort(took)
	t.Logf("from the commit of a run to the frame with its row: p50 %d ms, p95 %d ms", took[len(took)/2], took[len(took)*95/100])
	if !eval[bool](t, b, "!!window.before") {
		t.Error("the page was loaded again")
	}
}

// What the viewer has open, typed or focused stays while the page changes.
func TestFocusStays(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/events"))
	appears(t, b, connected)
	b.do(t, chromedp.SendKeys(`.filters input[name=key]`, "half a wo"))
	b.do(t, chromedp.Evaluate(`document.querySelector("main details").open = true`, nil))
	if _, err := d.c.Publish(t.Context(), "order:approved", map[string]any{"id": 7}); err != nil {
		t.Fatal(err)
	}
	appears(t, b, fmt.Sprintf(`[...document.querySelectorAll("main tbody a")].some((a) => a.href.endsWith("/runs/%s"))`, d.runs["order"]))
	if got := eval[string](t, b, `document.activeElement.name + "=" + document.activeElement.value`); got != "key=half a wo" {
		t.Errorf("the focus is at %q", got)
	}
	if !eval[bool](t, b, `document.querySelector("main details").open`) {
		t.Error("what was open has closed")
	}
}

// A lost connection shows, and what was missed appears when it is back.
func TestLostConnection(t *testing.T) {
	d := newDemo(t)
	gate := &listener{}
	server := httptest.NewUnstartedServer(ui.Handler(d.c, ui.WithLocalAccess()))
	gate.Listener = server.Listener
	server.Listener = gate
	server.Start()
	t.Cleanup(server.Close)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(server.URL+"/runs"), chromedp.WaitReady("main h1"))
	appears(t, b, connected)
	gate.cut(true)
	appears(t, b, `!document.getElementById("lost").hidden`)
	run, err := d.mail.Enqueue(t.Context(), letter{To: "missed@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	gate.cut(false)
	appears(t, b, fmt.Sprintf(`document.getElementById("r%s") && document.getElementById("lost").hidden`, run.ID()))
}

// A listener can cut its connections, and refuse more.
type listener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	off   bool
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		c.Close()
	} else {
		l.conns = append(l.conns, c)
	}
	return c, nil
}

func (l *listener) cut(off bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = off
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// palette presses Ctrl-K. A slash would do for a person; a driver's stands in the field also.
var palette = chromedp.KeyEvent("k", chromedp.KeyModifiers(input.ModifierCtrl))

// All can be done with the keyboard: lists, the palette, buttons.
func TestKeyboard(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/runs?task=resize-images&state=running"))
	appears(t, b, connected)
	b.do(t, chromedp.KeyEvent("j"), chromedp.KeyEvent(kb.Enter))
	appears(t, b, fmt.Sprintf(`location.pathname.endsWith("/runs/%s") && document.querySelector("h1").textContent.includes("running") && `+connected, d.runs["slow"]))
	b.do(t, chromedp.KeyEvent(kb.Escape))
	appears(t, b, `location.pathname.endsWith("/runs") && `+connected)
	b.do(t, palette, chromedp.WaitVisible("#palette"), chromedp.KeyEvent("queues"), chromedp.KeyEvent(kb.Enter))
	appears(t, b, `location.pathname.endsWith("/queues") && `+connected)
	b.do(t, palette, chromedp.WaitVisible("#palette"), chromedp.KeyEvent(d.runs["slow"]), chromedp.KeyEvent(kb.Enter))
	appears(t, b, `location.pathname.includes("/runs/") && `+connected)
	b.do(t, chromedp.Focus(`form[action$="/cancel"] button`), chromedp.KeyEvent(kb.Enter))
	appears(t, b, `document.querySelector("h1").textContent.includes("canceled")`)
}

// What forms do is done.
func TestActions(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	click := func(path, button, then string) {
		t.Helper()
		b.do(t, chromedp.Navigate(base+path), chromedp.WaitReady("main h1"), chromedp.Evaluate("window.before = true", nil), chromedp.Click(button, chromedp.ByQuery))
		appears(t, b, "!window.before && ("+then+")")
	}
	h1 := func(text string) string {
		return fmt.Sprintf(`document.readyState == "complete" && document.querySelector("h1").textContent.includes(%q)`, text)
	}
	click("/runs/"+d.runs["mail"], `form[action$="/replay"] button`, h1("succeeded"))
	click("/queues", `form[action$="media/pause"] button`, `document.querySelector("main").textContent.includes("paused")`)
	click("/queues", `form[action$="media/resume"] button`, `document.querySelector('form[action$="media/pause"]')`)
	click("/workers", `form[action$="worker-1/pause"] button`, `document.querySelector("main").textContent.includes("paused")`)
	click("/workers", `form[action$="worker-1/resume"] button`, `document.querySelector('form[action$="worker-1/pause"]')`)
	click("/schedules", `form[action$="/trigger"] button`, h1("send-mail"))
	b.do(t, chromedp.Navigate(base+"/tasks/send-mail"))
	appears(t, b, connected)
	b.do(t, chromedp.SendKeys(`[data-field=to]`, "form@example.org"), chromedp.SendKeys(`[data-field=times]`, "3"), chromedp.Click(`form[data-compose] button`))
	appears(t, b, h1("succeeded")+` && document.querySelector(".json").textContent.includes("form@example.org") && document.querySelector(".json").textContent.includes("3")`)
	b.do(t, chromedp.Navigate(base+"/events"), chromedp.WaitReady("main h1"), chromedp.SendKeys(`form[action$="/api/events"] [name=key]`, "new:event"), chromedp.Click(`form[action$="/api/events"] button`))
	appears(t, b, `document.querySelector("tbody")?.textContent.includes("new:event")`)
	b.do(t, chromedp.Navigate(base+"/events"), chromedp.WaitReady("main h1"), chromedp.SendKeys(`form[action$="/filters/test"] [name=expr]`, "input.amount > 100"), chromedp.Click(`form[action$="/filters/test"] button`))
	appears(t, b, `document.querySelector("main").textContent.includes("matches") && document.querySelector("main").textContent.includes("true")`)
	b.do(t, chromedp.Navigate(base+"/runs?state=failed&task=charge-card"))
	appears(t, b, connected)
	b.do(t, chromedp.Click(`button[value="runs.replay"]`)) // nothing is ticked
	appears(t, b, h1("Bad Request")+` && document.querySelector("main").textContent.includes("no run is selected")`)
	b.do(t, chromedp.Navigate(base+"/runs?state=failed&task=charge-card"))
	appears(t, b, connected)
	b.do(t, chromedp.Click(`a[href*="do=runs.delete"]`))
	appears(t, b, h1("Delete runs?")+` && document.getElementById("filter").textContent.includes("4 of the runs that match will be deleted: all runs of task \"charge-card\", in state failed")`)
	b.do(t, chromedp.Navigate(base+"/runs?state=failed&task=charge-card"))
	appears(t, b, connected)
	b.do(t, chromedp.Click(`[data-all]`), chromedp.Click(`button[value="runs.delete"]`))
	appears(t, b, h1("Delete runs?"))
	b.do(t, chromedp.Click(`main form button.danger`))
	appears(t, b, h1("Done")+` && document.querySelector("main [role=status]").textContent.includes("4 runs were deleted")`)
	page, err := d.c.ListRuns(t.Context(), stint.RunFilter{Tasks: []string{"charge-card"}})
	if err != nil || len(page.Runs) != 0 {
		t.Errorf("%d runs are left of those that were deleted, %v", len(page.Runs), err)
	}
	click("/limits", `form[action$="limits.pause"] button`, `document.querySelector("main").textContent.includes("paused")`)
	click("/limits", `form[action$="limits.resume"] button`, `document.querySelector('form[action$="limits.pause"]')`)
	click("/events", `form[action$="/delete"] button`, `!document.querySelector('form[action$="/delete"]')`)
	click("/alerts", `form[action$="/alerts/test"] button`, `document.querySelectorAll("tr[data-url]").length > 0`)
	click("/health", `form[action$="/check"] button`, `document.querySelector("main").textContent.includes("problems")`)
}

// From the overview a person comes to an error, mutes it, and replays what failed so.
func TestErrors(t *testing.T) {
	d, base := served(t)
	id := d.errorOf("charge-card")
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/errors"))
	appears(t, b, connected)
	b.do(t, chromedp.Click(fmt.Sprintf("#e%s .fp", id)))
	appears(t, b, `location.pathname.startsWith("/stint/errors/") && document.readyState == "complete" && document.querySelector("h1").textContent == "charge-card"`)
	b.do(t, chromedp.Click(`form[action$="/mute"] button`))
	appears(t, b, `document.querySelector("main").textContent.includes("It is muted until")`)
	b.do(t, chromedp.Navigate(base+"/errors"))
	appears(t, b, connected+fmt.Sprintf(` && !document.getElementById("e%s")`, id))
	b.do(t, chromedp.Click(`.chips a[href*="show=muted"]`))
	appears(t, b, fmt.Sprintf(`document.getElementById("e%s")`, id))
	b.do(t, chromedp.Navigate(base+"/errors/"+id), chromedp.WaitReady("main h1"), chromedp.Click(`form[action$="/unmute"] button`))
	appears(t, b, `document.querySelector("main").textContent.includes("Mute it:")`)
	b.do(t, chromedp.Click(`a[href*="do=runs.replay"]`))
	appears(t, b, `document.querySelector("h1").textContent.includes("Replay runs?")`)
	b.do(t, chromedp.Click(`main form button.primary`))
	appears(t, b, `document.querySelector("main [role=status]")?.textContent.includes("runs were replayed")`)
}

// A paused page stays as it is until it is live again.
func TestPause(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/runs"), chromedp.WaitReady("main h1"))
	appears(t, b, connected)
	b.do(t, chromedp.KeyEvent("p"))
	appears(t, b, `document.documentElement.dataset.connection == "paused" && document.getElementById("live").textContent == "Paused"`)
	run, err := d.mail.Enqueue(t.Context(), letter{To: "paused@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	there := fmt.Sprintf(`document.getElementById("r%s")`, run.ID())
	if eval[bool](t, b, "!!"+there) {
		t.Error("a paused page changes")
	}
	b.do(t, chromedp.Click("#live"))
	appears(t, b, connected+" && "+there)
}

// The query field suggests what there is; Tab takes it, Enter shows the list.
func TestQueryField(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	const first = `document.querySelector("#suggestions:not([hidden]) [aria-selected=true]")?.textContent`
	b.do(t, chromedp.Navigate(base+"/runs"), chromedp.WaitReady("main h1"), chromedp.SendKeys(".query [name=q]", "st"))
	appears(t, b, first+` == "state"`)
	run, err := d.mail.Enqueue(t.Context(), letter{To: "meanwhile@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	appears(t, b, fmt.Sprintf(`document.getElementById("r%s")`, run.ID())) // the list changes meanwhile
	b.do(t, chromedp.KeyEvent(kb.Tab))
	appears(t, b, `document.querySelector(".query [name=q]").value == "state:" && `+first+` == "scheduled"`)
	b.do(t, chromedp.KeyEvent("fa"))
	appears(t, b, first+` == "failed"`)
	b.do(t, chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent("task:cha"))
	appears(t, b, first+` == "charge-card"`)
	b.do(t, chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	appears(t, b, `location.search == "?state=failed&task=charge-card" && document.querySelectorAll("tbody tr").length == 4`)
	appears(t, b, `document.querySelector(".query [name=q]").value == "state:failed task:charge-card"`)
}

// Theme, density and exact times are kept by the browser, also for pages that are opened later.
func TestDisplay(t *testing.T) {
	_, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/runs"), chromedp.WaitReady("main h1"), chromedp.Click(".hide summary"),
		chromedp.Click(`[data-theme-set="dark"]`), chromedp.Click(`[data-set="times"]`))
	appears(t, b, `/^\d\d:\d\d:\d\d\.\d{3}$|\d{4}/.test(document.querySelector("main time").textContent)`)
	b.do(t, chromedp.Navigate(base+"/tasks"), chromedp.WaitReady("main h1"))
	appears(t, b, `document.documentElement.dataset.theme == "dark" && document.querySelector("[data-set=times]").checked`)
	if got := eval[string](t, b, "getComputedStyle(document.body).backgroundColor"); got != "rgb(16, 17, 19)" {
		t.Errorf("the dark theme's ground is %s", got)
	}
	b.do(t, chromedp.Click(".hide summary"), chromedp.Click(`[data-theme-set=""]`), chromedp.Reload(), chromedp.WaitReady("main h1"))
	if got := eval[string](t, b, "getComputedStyle(document.body).backgroundColor"); got != "rgb(251, 251, 250)" {
		t.Errorf("the ground as the system wants it is %s", got)
	}
}

// Pointing at a chart reads all of them, and dragging over one chooses the time for all pages.
func TestCharts(t *testing.T) {
	_, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/"), chromedp.WaitReady(".plot"))
	var at []float64
	b.do(t, chromedp.Evaluate(`{ const r = document.querySelector(".plot").getBoundingClientRect(); [r.left, r.top + 50, r.width] }`, &at))
	point := func(kind input.MouseType, place float64) chromedp.Action {
		return chromedp.MouseEvent(kind, at[0]+place*at[2], at[1], chromedp.ButtonLeft)
	}
	b.do(t, chromedp.MouseEvent(input.MouseMoved, at[0]+.99*at[2], at[1]))
	appears(t, b, `document.querySelectorAll(".cursor.on").length == 4 && document.querySelectorAll(".tip:not([hidden])").length == 1`)
	appears(t, b, `/^\d\d:\d\d\s*succeeded\d+\s*failed\d+\s*canceled\d+/.test(document.querySelector(".tip:not([hidden])").textContent)`)
	b.do(t, point(input.MousePressed, .5), point(input.MouseMoved, .8), point(input.MouseReleased, .8))
	appears(t, b, `new URLSearchParams(location.search).get("since") && document.querySelector(".range summary")?.textContent == "Chosen time"`)
	q := `new URLSearchParams(location.search)`
	if minutes := eval[float64](t, b, `(new Date(`+q+`.get("until")) - new Date(`+q+`.get("since"))) / 60000`); minutes < 2 || minutes > 6 {
		t.Errorf("dragging over 0.3 of a chart of 12 minutes chose %v minutes", minutes)
	}
	b.do(t, chromedp.Click(`.rail a[title="Tasks"]`), chromedp.WaitReady("main h1"))
	appears(t, b, `location.pathname.endsWith("/tasks") && document.querySelector(".range summary").textContent == "Chosen time"`)
}
