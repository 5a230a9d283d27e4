package browser

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stint-dev/stint/ui"
)

var (
	shots = flag.String("shots", "", "write screenshots of every page to this `directory`")
	plain = flag.Bool("plain", false, "with harmless texts")
	at    = flag.String("at", "", "of the server at this `URL`, rather than of a demo")
)

// served is a demo behind a prefix, as an app would mount it.
func served(t *testing.T, opts ...ui.Option) (*demo, string) {
	t.Helper()
	d := newDemo(t)
	mux := http.NewServeMux()
	mux.Handle("/stint/", ui.Handler(d.c, append([]ui.Option{ui.WithBasePath("/stint"), ui.WithLocalAccess(), ui.WithAlerts(d.alerts)}, opts...)...))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return d, s.URL + "/stint"
}

// pagesOf are all pages of a demo, by name.
func pagesOf(d *demo) map[string]string {
	return map[string]string{
		"overview": "/", "runs": "/runs", "failed": "/runs?state=failed", "beside": "/runs?task=charge-card&run=" + d.runs["failed"], "sorted": "/runs?sort=-took&cols=took&cols=worker&cols=id&cols=ended", "count": "/count?state=failed", "run": "/runs/" + d.runs["hostile"], "failed-run": "/runs/" + d.runs["failed"], "workflow": "/runs/" + d.runs["broken flow"],
		"journal": "/runs/" + d.runs["approved"] + "?tab=journal", "span": "/runs/" + d.runs["approved"] + "?tab=timeline&span=e3", "logs": "/runs/" + d.runs["hostile"] + "?tab=logs", "stream": "/runs/" + d.runs["hostile"] + "?tab=stream", "input": "/runs/" + d.runs["hostile"] + "?tab=input", "attempts": "/runs/" + d.runs["failed"] + "?tab=attempts", "compare": "/runs/" + d.runs["broken flow"] + "?tab=compare", "order-attempts": "/runs/" + d.runs["approved"] + "?tab=attempts", "node": "/runs/" + d.runs["broken flow"] + "?span=ttest", "flow-timeline": "/runs/" + d.runs["broken flow"] + "?tab=timeline&span=ttest",
		"durable": "/runs/" + d.runs["approved"], "waiting": "/runs/" + d.runs["order"], "running": "/runs/" + d.runs["slow"], "large": "/runs/" + d.runs["large"], "odd": "/runs/" + d.runs["odd task"],
		"tasks": "/tasks", "task": "/tasks/send-mail", "workflow-task": "/tasks/publish-site", "queues": "/queues", "queue": "/queues/media", "held-up": "/runs/" + d.runs["held up"], "at-limit": "/runs?limit_name=" + url.QueryEscape(hostile) + "&limit_key=" + url.QueryEscape(hostile) + "&state=queued", "limits": "/limits", "workers": "/workers",
		"errors": "/errors", "errors-hour": "/errors?since=1h", "errors-muted": "/errors?show=muted", "error": "/errors/" + d.errorOf("charge-card"),
		"logs-all": "/logs", "schedules": "/schedules", "events": "/events", "alerts": "/alerts", "health": "/health", "confirm": "/confirm?do=runs.cancel&state=waiting",
	}
}

// TestScreenshots writes pictures for people, if -shots names a directory for them.
func TestScreenshots(t *testing.T) {
	if *shots == "" {
		return
	}
	if *plain {
		hostile = "gift wrap"
	}
	base, pages := *at, map[string]string{"overview": "/", "runs": "/runs", "errors": "/errors", "tasks": "/tasks", "queues": "/queues", "limits": "/limits", "workers": "/workers", "schedules": "/schedules", "events": "/events", "alerts": "/alerts", "health": "/health"}
	if *at == "" {
		var d *demo
		d, base = served(t)
		pages = pagesOf(d)
	}
	for _, look := range []struct {
		name   string
		wide   int64
		scheme string
	}{{"light", 1440, "light"}, {"dark", 1440, "dark"}, {"narrow", 360, "light"}} {
		b := opened(t, look.wide, look.scheme)
		for name, path := range pages {
			var png []byte
			b.do(t, chromedp.Navigate(base+path), chromedp.WaitReady("main"), chromedp.FullScreenshot(&png, 100))
			if err := os.WriteFile(filepath.Join(*shots, fmt.Sprintf("%s-%s.png", name, look.name)), png, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
