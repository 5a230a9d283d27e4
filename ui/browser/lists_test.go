package browser

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stint-dev/stint"
)

// A list counts what matches by itself, once.
func TestListIsCounted(t *testing.T) {
	d, base := served(t)
	n, err := d.c.CountMatching(t.Context(), stint.RunFilter{})
	if err != nil || n.Runs <= 50 {
		t.Fatalf("%+v runs, %v: want more than a page", n, err)
	}
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/runs"), chromedp.WaitReady("main h1"))
	appears(t, b, fmt.Sprintf(`document.getElementById("count").textContent == "%d runs"`, n.Runs))
	appears(t, b, connected)
	if _, err := d.mail.Enqueue(t.Context(), letter{To: "late@example.org"}); err != nil {
		t.Fatal(err)
	}
	appears(t, b, `document.querySelector("main tbody").textContent.includes("late@example.org")`)
	if got, want := eval[string](t, b, `document.getElementById("count").textContent`), fmt.Sprint(n.Runs, " runs"); got != want {
		t.Errorf("after a live update: %q, want %q, with when it was counted as its title", got, want)
	}
}

// A click on a row shows the run beside the list, j and k the next ones, Escape closes it, and a second click opens the run.
// Narrow windows open the run at once.
func TestRunBesideList(t *testing.T) {
	d, base := served(t)
	b := opened(t, 1440, "light")
	b.do(t, chromedp.Navigate(base+"/runs?task=charge-card"), chromedp.WaitReady("main h1"))
	appears(t, b, connected)
	const rows, title = `[...document.querySelectorAll("tr[data-beside]")]`, `document.querySelector("#aside h2 a")?.getAttribute("href")`
	ids := eval[[]string](t, b, rows+`.map((r) => r.dataset.beside)`)
	if len(ids) != 4 {
		t.Fatalf("%d rows, want those of 4 runs", len(ids))
	}
	b.do(t, chromedp.Click(`tr[data-beside] .c-task a`))
	appears(t, b, fmt.Sprintf(`%s?.endsWith("/runs/%s")`, title, ids[0]))
	for _, key := range []string{"j", "j", "k"} {
		b.do(t, chromedp.KeyEvent(key))
	}
	appears(t, b, fmt.Sprintf(`%s?.endsWith("/runs/%s") && location.search.includes("run=%s")`, title, ids[1], ids[1]))
	appears(t, b, fmt.Sprintf(`%s.filter((r) => r.classList.contains("on")).map((r) => r.dataset.beside).join() == %q`, rows, ids[1]))
	appears(t, b, connected)
	b.do(t, input.DispatchMouseEvent(input.MouseMoved, 700, 5)) // a list under the pointer holds still
	if _, err := d.flaky.Enqueue(t.Context(), "4242"); err != nil {
		t.Fatal(err)
	}
	appears(t, b, rows+`.length == 5 && document.getElementById("aside") != null`) // it stays while the list changes
	b.do(t, chromedp.KeyEvent(kb.Escape))
	appears(t, b, `document.getElementById("aside") == null && !location.search.includes("run=")`)
	b.do(t, chromedp.Click(`tr[data-beside="`+ids[2]+`"] .c-task a`))
	appears(t, b, fmt.Sprintf(`%s?.endsWith("/runs/%s")`, title, ids[2]))
	b.do(t, chromedp.Click(`tr[data-beside="`+ids[2]+`"] .c-task a`))
	appears(t, b, fmt.Sprintf(`location.pathname.endsWith("/runs/%s")`, ids[2]))

	b = opened(t, 390, "light")
	b.do(t, chromedp.Navigate(base+"/runs?task=charge-card"), chromedp.WaitReady("main h1"), chromedp.Click(`tr[data-beside="`+ids[2]+`"] .c-task a`))
	appears(t, b, fmt.Sprintf(`location.pathname.endsWith("/runs/%s")`, ids[2]))
}

// Columns are chosen in a menu and stay chosen; a list is saved as a view, and its link leads back to it.
func TestColumnsAndViews(t *testing.T) {
	_, base := served(t)
	b := opened(t, 1440, "light")
	const heads = `[...document.querySelectorAll("main thead th")].map((h) => h.textContent).join(" ")`
	b.do(t, chromedp.Navigate(base+"/runs?state=failed"), chromedp.WaitReady("main h1"),
		chromedp.Click(`//summary[contains(., "Columns")]`), chromedp.Click(`form.columns input[value=worker]`), chromedp.Click(`form.columns input[value=queue]`),
		chromedp.Click(`form.columns button[value=chosen]`))
	const chosen = " State Task Error, wait or input Metadata Attempt Took Worker Created ↓"
	appears(t, b, heads+` == "`+chosen+`"`)
	b.do(t, chromedp.Click(`//th/a[contains(., "Took")]`))
	appears(t, b, `document.getElementById("sorted")?.textContent.includes("by “Took”")`)
	b.do(t, chromedp.Click(`//summary[contains(., "Save view")]`), chromedp.SendKeys(`form.saver input[name=name]`, "slow failures"),
		chromedp.Click(`form.saver button`))
	appears(t, b, `document.querySelector(".views a[aria-current]")?.textContent == "slow failures"`)
	b.do(t, chromedp.Navigate(base+"/runs"), chromedp.WaitReady("main h1"))
	appears(t, b, heads+` == "`+chosen+`"`)
	appears(t, b, connected)
	b.do(t, chromedp.Click(`.views a`))
	appears(t, b, `location.search.includes("state=failed") && location.search.includes("sort=-took")`)
}
