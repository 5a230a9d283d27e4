package ui_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// text returns the words of a page, or of a part of it.
func (s *shop) text(path string, part *regexp.Regexp) string {
	s.t.Helper()
	status, page := s.ask("GET", path, "", "Accept", "text/html")
	if status != 200 {
		s.t.Fatalf("%s: %d %s", path, status, page)
	}
	if part != nil {
		page = part.FindString(page)
	}
	return strings.Join(strings.Fields(markup.ReplaceAllString(page, " ")), " ")
}

// counted waits until the overview counts n runs that ended: statistics are stored after the runs.
func (s *shop) counted(n string) {
	s.t.Helper()
	for !strings.Contains(s.text("/", nil), n+" runs ended") {
		if err := s.t.Context().Err(); err != nil {
			s.t.Fatal(err)
		}
	}
}

var (
	markup    = regexp.MustCompile(`<[^>]*>`)
	attention = regexp.MustCompile(`(?s)<ul class="need">(.*?)</ul>`)
)

// The overview begins with what needs a person.
func TestNeedsAttention(t *testing.T) {
	s := newShop(t)
	quiet := stint.NewTask(s.c, "quiet", func(context.Context, int) (int, error) { return 0, nil })
	if _, err := quiet.Run(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	first, err := quiet.Enqueue(t.Context(), 1, stint.WithQueue("cold"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.c.PauseQueue(t.Context(), "cold"); err != nil {
		t.Fatal(err)
	}
	if _, err := quiet.Enqueue(t.Context(), 1, stint.WithQueue("cold")); err != nil {
		t.Fatal(err)
	}
	s.counted("5")
	text := s.text("/", attention)
	for _, want := range []string{"charge fails: 1 of 3 runs · less than nothing", "Replay 1… Show errors", "Queue cold is paused ·", "Open queues"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	if strings.Contains(text, "quiet") {
		t.Errorf("a task without failures: %q", text)
	}
	_, page := s.ask("GET", "/", "", "Accept", "text/html")
	if want := `/confirm?do=runs.replay&amp;since=1h0m0s&amp;state=failed&amp;task=charge"`; !strings.Contains(page, want) {
		t.Errorf("no %q in %s", want, page)
	}
}

// A workflow whose task fails needs attention once, as the task; not at all if the error is muted.
func TestWorkflowNeedsAttentionOnce(t *testing.T) {
	s := newEmptyShop(t)
	w := stint.NewWorkflow[int](s.c, "ship")
	stint.AddTask(w, "label", func(context.Context, int) (int, error) { return 0, stint.NonRetryable(errors.New("printer is off")) })
	s.work()
	run, err := w.Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	run.Wait(t.Context())
	s.counted("2")
	text := s.text("/", attention)
	if n := strings.Count(text, " fails: "); n != 1 || !strings.Contains(text, "ship:label fails: 1 of 1 runs · printer is off") {
		t.Errorf("want the task alone: %q", text)
	}
	page, err := s.c.ListErrors(t.Context(), stint.ErrorFilter{})
	if err != nil || len(page.Groups) != 1 {
		t.Fatal(page, err)
	}
	if err := s.c.MuteErrors(t.Context(), page.Groups[0].ID, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, text := s.ask("GET", "/", "", "Accept", "text/html"); strings.Contains(text, " fails: ") {
		t.Errorf("its error is muted: %s", around(text, " fails: "))
	}
}

// A queue that no worker serves is told, and that there is no worker at all.
func TestUnservedQueueNeedsAttention(t *testing.T) {
	s := newEmptyShop(t)
	if text := s.text("/", nil); strings.Contains(text, "Needs attention") || !strings.Contains(text, "Nothing needs you.") {
		t.Errorf("nothing has run: %q", text)
	}
	task := stint.NewTask(s.c, "render", func(context.Context, int) (int, error) { return 0, nil }, stint.WithQueue("gpu"))
	if _, err := task.Enqueue(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if text := s.text("/", attention); !strings.Contains(text, "No worker is running · 1 ready in queue gpu") {
		t.Errorf("no worker: %q", text)
	}
	mail := stint.NewTask(s.c, "mail", func(context.Context, int) (int, error) { return 0, nil }, stint.WithQueue("mail"))
	s.work(stint.WithQueues("mail"))
	if _, err := mail.Run(t.Context(), 1); err != nil { // the worker is there
		t.Fatal(err)
	}
	if text := s.text("/", attention); !strings.Contains(text, "No worker serves queue gpu · 1 ready") {
		t.Errorf("a worker of another queue: %q", text)
	}
}

// The time range is in the URL, and the links to other pages keep it.
func TestTimeRange(t *testing.T) {
	s := newShop(t)
	s.counted("3")
	for path, want := range map[string][]string{
		"/":          {"<span>Last 1 hour</span>", "3 runs ended in the last hour", `<a href="/runs"`},
		"/?since=6h": {"<span>Last 6 hours</span>", "3 runs ended in the last 6 hours", `href="/runs?since=6h"`, `href="?since=168h"`},
		"/runs":      {"<span>All time</span>", `href="?since=15m"`},
		"/runs?state=failed&since=24h": {"<span>Last 24 hours</span>", `href="?since=1h&amp;state=failed"`, `href="?state=failed"`,
			`<input type="hidden" name="state" value="failed">`},
		"/tasks?since=2026-01-01T10:00&until=2026-01-01T11:00": {"<span>Chosen time</span>",
			`href="/?since=2026-01-01T10%3A00&amp;until=2026-01-01T11%3A00"`},
		"/workers?since=6h": {`href="/tasks?since=6h"`},
	} {
		status, page := s.ask("GET", path, "", "Accept", "text/html")
		for _, w := range want {
			if status != 200 || !strings.Contains(page, w) {
				t.Errorf("%s: %d, no %q in %s", path, status, w, page)
			}
		}
		if has := strings.Contains(page, `class="pop range"`); has == strings.HasPrefix(path, "/workers") {
			t.Errorf("%s: a menu of ranges %v", path, has)
		}
	}
	if status, _ := s.ask("GET", "/?since=yesterday", "", "Accept", "text/html"); status != 400 {
		t.Errorf("since=yesterday: %d, want 400", status)
	}
}

// The query field leads to a URL with the fields of a filter, and shows the filter of the list.
func TestQueryField(t *testing.T) {
	s := newShop(t)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for q, want := range map[string]string{
		"state:failed task:charge": "/runs?state=failed&task=charge", "": "/runs",
		`error:"less than" tenant:acme top`: "/runs?error=less+than&metadata=tenant%3Dacme&top=1",
	} {
		r, err := client.Get(s.url + "/runs?q=" + url.QueryEscape(q))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if got := r.Header.Get("Location"); r.StatusCode != http.StatusSeeOther || got != want {
			t.Errorf("%s: %d, to %s, want %s", q, r.StatusCode, got, want)
		}
	}
	defer client.CloseIdleConnections()
	if status, page := s.ask("GET", "/runs?q=state:failed&since=1h", ""); status != 303 || !strings.Contains(page, "/runs?since=1h&amp;state=failed") {
		t.Errorf("with a time range: %d %s", status, page)
	}
	_, page := s.ask("GET", "/runs?state=failed&task=charge", "", "Accept", "text/html")
	if want := `name="q" value="state:failed task:charge"`; !strings.Contains(page, want) {
		t.Errorf("no %s in %s", want, page)
	}
	for q, want := range map[string]string{"state:bad": "bad", "-state:failed": "cannot leave runs out", `task:"a`: "has no end"} {
		status, page := s.ask("GET", "/runs?q="+url.QueryEscape(q), "", "Accept", "text/html")
		if status != 400 || !strings.Contains(page, want) {
			t.Errorf("%s: %d %s, want 400 with %q", q, status, page, want)
		}
	}
	live, err := client.Get(s.url + "/live?url=" + url.QueryEscape("/runs?q=top"))
	if err != nil {
		t.Fatal(err)
	}
	defer live.Body.Close()
	line := make([]byte, len("event: main"))
	if _, err := io.ReadFull(live.Body, line); string(line) != "event: main" || err != nil {
		t.Errorf("live updates of what is no page: %q, %v", line, err)
	}
}

// The list of runs has a chart of those that ended, as far as the statistics know what the filter selects.
func TestEndedChart(t *testing.T) {
	s := newShop(t)
	s.counted("3")
	ended := regexp.MustCompile(`aria-label="Runs that ended, (per [^"]*): at most [0-9]+, ([0-9]+) in all"`)
	for query, want := range map[string]string{
		"":                                     "per 20 min, 3",
		"since=1h":                             "per minute, 3",
		"since=1h&state=failed":                "per minute, 1",
		"since=1h&state=succeeded&task=charge": "per minute, 2",
		"since=1h&task=other":                  "per minute, 0",
		"since=720h&queue=default":             "per 8 h, 3",
		"state=running":                        "", "metadata=a%3Db": "", "error=nothing": "",
	} {
		_, page := s.ask("GET", "/runs?"+query, "", "Accept", "text/html")
		if got := ended.FindStringSubmatch(page); (got != nil) != (want != "") || got != nil && got[1]+", "+got[2] != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}
