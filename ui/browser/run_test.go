package browser

import (
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
