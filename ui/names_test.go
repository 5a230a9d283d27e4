package ui_test

import (
	"context"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
)

var (
	links   = regexp.MustCompile(`href="([^"]*)"`)
	actions = regexp.MustCompile(`action="([^"]*)"`)
	heading = regexp.MustCompile(`<h1>(.*?)</h1>`)
	tags    = regexp.MustCompile(`<[^>]*>`)
)

// browsed returns a path as a browser requests it: with escaped dots decoded and steps of dots
// resolved.
func browsed(t *testing.T, ref string) string {
	t.Helper()
	ref = regexp.MustCompile(`(?i)%2e`).ReplaceAllString(html.UnescapeString(ref), ".")
	u, err := (&url.URL{Path: "/"}).Parse(ref)
	if err != nil {
		t.Fatalf("the link %q: %v", ref, err)
	}
	return u.String()
}

// Whatever the name of a task, a queue, a cron, a worker or a limit, it has a page, and the forms
// about it act on it.
func TestEveryNameHasItsPage(t *testing.T) {
	s := newShop(t)
	names := []string{"plain", "trailing/", "/leading", "a/b//c", ".", "..", "...", "~.", "~..", "~~.", "/", "//", "~/", "%2F", "a%2e%2e", "?q=1&a#b", " a b ", "a;b,c=d+e", "漢字/é", `back\slash`, "../../runs", "runs"}
	for _, name := range names {
		stint.NewTask(s.c, name, func(context.Context, int) (int, error) { return 0, nil }, stint.WithQueue(name))
		if _, err := s.c.EnqueueJSON(t.Context(), name, json.RawMessage("1")); err != nil {
			t.Fatal(err)
		}
		if err := s.c.SetRateLimit(t.Context(), name, 1, 1); err != nil {
			t.Fatal(err)
		}
		if err := s.c.PauseQueue(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	pages := map[string]bool{}
	_, list := s.ask("GET", "/tasks", "", "Accept", "text/html")
	for _, link := range links.FindAllStringSubmatch(list, -1) {
		path := browsed(t, link[1])
		if !strings.HasPrefix(path, "/tasks/") {
			continue
		}
		status, text := s.ask("GET", path, "", "Accept", "text/html")
		title := heading.FindStringSubmatch(text)
		if status != 200 || title == nil {
			t.Errorf("%s: status %d, heading %q", path, status, title)
			continue
		}
		name := html.UnescapeString(tags.ReplaceAllString(title[1], ""))
		if name == "charge" || pages[name] {
			continue
		}
		pages[name] = true
		form := actions.FindStringSubmatch(text)
		if form == nil {
			t.Errorf("the page of %q has no form", name)
		} else if status, text := s.ask("POST", browsed(t, form[1]), `{"input": 7}`, "Content-Type", "application/json"); status != 200 || !strings.Contains(text, `"run"`) {
			t.Errorf("a run of %q: %d %s", name, status, text)
		}
	}
	for _, name := range names {
		if !pages[name] {
			t.Errorf("no link leads to the page of %q", name)
		}
	}
	for _, name := range names {
		page, err := s.c.ListRuns(t.Context(), stint.RunFilter{Tasks: []string{name}})
		if err != nil || len(page.Runs) != 2 {
			t.Errorf("%q has %d runs, %v: want 2", name, len(page.Runs), err)
		}
	}
	for _, page := range []string{"/queues", "/limits"} {
		_, text := s.ask("GET", page, "", "Accept", "text/html")
		for _, form := range actions.FindAllStringSubmatch(text, -1) {
			path, body := browsed(t, form[1]), `{}`
			if strings.HasPrefix(path, "/api/limits") {
				body = `{"limit": "2", "burst": 2}`
			}
			if strings.HasSuffix(path, "limits.pause") || strings.HasSuffix(path, "limits.resume") {
				continue
			}
			if status, text := s.ask("POST", path, body, "Content-Type", "application/json"); status != 200 {
				t.Errorf("POST %s: %d %s", path, status, text)
			}
		}
	}
	queues, err := s.c.ListQueues(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queues {
		if q.Paused && q.Name != stint.DefaultQueue { // that was not paused before
			t.Errorf("the form of the queue %q did not resume it", q.Name)
		}
	}
	limits, err := s.c.ListRateLimits(t.Context())
	if err != nil || len(limits) != len(names) {
		t.Fatalf("%d limits, %v: want %d", len(limits), err, len(names))
	}
	for _, l := range limits {
		if l.Limit != 2 {
			t.Errorf("the form of the limit %q did not set it: %+v", l.Key, l)
		}
	}
}
