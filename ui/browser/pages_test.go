package browser

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Every page, in light and dark, wide and narrow, runs nothing that a payload brings,
// makes no error, has no serious accessibility issue, and fits its window.
func TestPages(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe.min.js")
	if err != nil {
		t.Fatalf("%v: axe.sh fetches it", err)
	}
	d, base := served(t)
	for _, look := range []struct {
		wide   int64
		scheme string
	}{{1440, "light"}, {1440, "dark"}, {360, "light"}} {
		b := opened(t, look.wide, look.scheme)
		var complaints []string
		chromedp.ListenTarget(b.Context, func(e any) {
			switch e := e.(type) {
			case *runtime.EventExceptionThrown:
				complaints = append(complaints, e.ExceptionDetails.Error())
			case *log.EventEntryAdded:
				if e.Entry.Level == log.LevelError {
					complaints = append(complaints, e.Entry.Text)
				}
			}
		})
		pages := pagesOf(d)
		var names []string
		for name := range pages {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			t.Run(fmt.Sprintf("%s-%d-%s", name, look.wide, look.scheme), func(t *testing.T) {
				complaints = nil
				b.do(t, chromedp.Navigate(base+pages[name]), chromedp.WaitReady("main h1"), chromedp.Evaluate(string(axe), nil))
				if title := eval[string](t, b, "document.title"); title == "owned" || title == "" {
					t.Errorf("title %q", title)
				}
				if n := eval[int](t, b, `document.querySelectorAll("main img, main script, [onerror], [style]").length`); n > 0 {
					t.Errorf("%d elements that no page of ours has", n)
				}
				// A phone's innerWidth grows with the page, so this is not compared with it.
				if over := eval[int64](t, b, "document.documentElement.scrollWidth") - look.wide; over > 0 {
					t.Errorf("wider than the window by %d", over)
				}
				for _, v := range violations(t, b) {
					t.Errorf("accessibility: %s", v)
				}
				for _, c := range complaints {
					t.Errorf("the browser complains: %s", c)
				}
			})
		}
	}
}

// violations are what axe-core finds that is serious or worse.
func violations(t *testing.T, b *browser) (all []string) {
	t.Helper()
	var found string
	b.do(t, chromedp.Evaluate(`axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations.filter(v => v.impact == "serious" || v.impact == "critical").map(v => v.id + ": " + v.help + ": " + v.nodes.slice(0, 3).map(n => n.html + " " + (n.any[0]?.message ?? "")).join(" | "))))`,
		&found, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	if err := json.Unmarshal([]byte(found), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// The first page shows within 150 ms.
func TestFirstPage(t *testing.T) {
	_, base := served(t)
	b := opened(t, 1440, "light")
	best := time.Hour
	for range 5 {
		b.do(t, chromedp.Navigate(base+"/"), chromedp.WaitReady("main h1"))
		shown := eval[float64](t, b, `performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart`)
		best = min(best, time.Duration(shown*float64(time.Millisecond)))
	}
	t.Logf("first paint after %v", best)
	if best > 150*time.Millisecond {
		t.Errorf("the first page shows after %v, want 150ms", best)
	}
}
