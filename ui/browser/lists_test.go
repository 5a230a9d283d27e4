package browser

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
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
