package ui_test

import (
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stint-dev/stint"
)

// odd has characters that change the direction of their neighbours, are invisible, or end an attribute.
const odd = "a\u202eb\u2066c\u200bd\x01e\x00f\"'<g>\u2028h"

// No page's source has a character that is invisible or changes the direction of its neighbours, in a
// text or an attribute; a value that comes back with a form is unchanged.
func TestOddTexts(t *testing.T) {
	s := newShop(t)
	stint.NewTask[string, string](s.c, odd, nil)
	run, err := s.c.EnqueueJSON(t.Context(), odd, jsonOf(odd), stint.WithQueue(odd), stint.WithMetadata(map[string]string{odd: odd}), stint.WithIdempotencyKey(odd, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.c.Publish(t.Context(), odd, odd, stint.WithScope(odd)); err != nil {
		t.Fatal(err)
	}
	if err := s.c.SetRateLimit(t.Context(), odd, 1, 1); err != nil {
		t.Fatal(err)
	}
	q := url.Values{"task": {odd}, "queue": {odd}, "metadata": {odd + "=" + odd}}
	for _, path := range []string{"/", "/runs", "/runs?" + q.Encode(), "/runs?error=" + url.QueryEscape(odd), "/runs/" + run.ID(), "/tasks", "/tasks/" + url.PathEscape(odd), "/queues", "/limits",
		"/workers", "/schedules", "/events", "/alerts", "/health", "/confirm?do=runs.cancel&" + q.Encode(), "/" + url.PathEscape(odd)} {
		_, text := s.ask("GET", path, "", "Accept", "text/html")
		for _, r := range "\u202e\u2066\u200b\x01\x00\u2028" {
			if i := strings.IndexRune(text, r); i >= 0 {
				t.Errorf("%s has %U: %q", path, r, text[max(i-80, 0):i+10])
			}
		}
	}
	_, text := s.ask("GET", "/confirm?do=runs.cancel&"+q.Encode(), "", "Accept", "text/html")
	for name, want := range map[string]string{"task": odd, "queue": odd, "metadata": odd + "=" + odd} {
		got := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(text)
		if got == nil || html.UnescapeString(strings.ReplaceAll(got[1], "&#x0;", "\x00")) != want {
			t.Errorf("%s comes back as %q, want %q", name, got, want)
		}
	}
}

var metric = regexp.MustCompile(`^([a-z_0-9]+(\{([a-z]+="([^"\\\n]|\\["\\n])*",?)+\})? [0-9.eE+-]+|# (HELP|TYPE) .*)$`)

// Metrics are in the format of Prometheus, which is UTF-8, whatever the names.
func TestMetricsFormat(t *testing.T) {
	s := newShop(t)
	for _, name := range []string{odd, "new\nline", `back\slash`, `qu"ote`, "漢字"} {
		if _, err := s.c.EnqueueJSON(t.Context(), name, jsonOf(1), stint.WithQueue(name)); err != nil {
			t.Fatal(err)
		}
	}
	status, text := s.ask("GET", "/metrics", "")
	if status != 200 || !utf8.ValidString(text) || !strings.HasSuffix(text, "\n") {
		t.Errorf("%d, UTF-8 %v", status, utf8.ValidString(text))
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if !metric.MatchString(line) {
			t.Errorf("a bad line: %q", line)
		}
	}
	if !strings.Contains(text, `new\nline`) || !strings.Contains(text, "漢字") {
		t.Errorf("a queue is not there: %s", text)
	}
}
