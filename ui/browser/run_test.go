package browser

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
)

// The event that a run waits for is published from its page, and the run goes on.
func TestPublishAwaited(t *testing.T) {
	d, base := served(t)
	b := opened(t, 390, "light")
	b.do(t, chromedp.Navigate(base+"/runs/"+d.runs["order"]), chromedp.WaitReady(`form[action$="/api/events"]`))
	appears(t, b, connected+` && document.querySelector("[name=payload]").value.includes('"id": 7')`)
	b.do(t, chromedp.Click(`main summary`), chromedp.Click(`form[action$="/api/events"] button`))
	appears(t, b, `document.querySelector("h1").textContent.includes("succeeded") && !document.querySelector("[name=payload]")`)
}

// A click on a task of the graph shows it beside the graph, in place; the path to the failure is lit.
func TestGraphNodes(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/runs/"+d.runs["broken flow"]), chromedp.WaitReady(".graph"))
	appears(t, b, connected)
	lit := `[...document.querySelectorAll(".graph .failing title")].map((x) => x.textContent.replace(/,.*/, "")).join() + " " + getComputedStyle(document.querySelector(".edge.lit")).stroke`
	if got, want := eval[string](t, b, lit), "build succeeded,test failed rgb(191, 45, 40)"; got != want {
		t.Errorf("lit is %q, want %q", got, want)
	}
	b.do(t, chromedp.Evaluate("window.before = true", nil))
	for name, want := range map[string]string{"test": "2 tests failed", "build": "Output", "pack": "canceled"} {
		b.do(t, chromedp.Click(fmt.Sprintf(`//*[@class="graph"]//*[local-name()="a"][contains(@href, "span=t%s")]`, name), chromedp.BySearch))
		appears(t, b, fmt.Sprintf(`document.querySelector(".side header b").textContent == %q && document.querySelector(".side").innerText.includes(%q)`, name, want))
		appears(t, b, fmt.Sprintf(`document.querySelector(".graph .chosen text").textContent == %q`, name))
	}
	if !eval[bool](t, b, "!!window.before") {
		t.Error("the page was loaded again")
	}
}

// The page of logs follows what all runs log, by the level that was chosen.
func TestLogsFollow(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/logs"), chromedp.WaitReady(".loglist"))
	appears(t, b, connected)
	if _, err := d.mail.Enqueue(t.Context(), letter{To: "followed@example.org"}); err != nil {
		t.Fatal(err)
	}
	appears(t, b, `document.querySelector(".loglist li").textContent.includes("followed@example.org")`)
	b.do(t, chromedp.Evaluate(`navigator.clipboard.writeText = async (text) => { window.copied = text; }`, nil), chromedp.Click("[data-copy-of]"))
	appears(t, b, `JSON.parse(window.copied?.trim().split("\n").at(-1) ?? "{}").attrs?.to == "followed@example.org"`)
	b.do(t, chromedp.Evaluate("scrollTo(0, 0)", nil), chromedp.SetValue("[name=level]", "ERROR"), chromedp.Click("form.filters button"), chromedp.WaitReady(".loglist"))
	appears(t, b, `location.search.includes("level=ERROR") && [...document.querySelectorAll(".loglist li")].every((x) => x.textContent.includes("declined"))`)
}
