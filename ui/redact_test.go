package ui_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/ui"
	"golang.org/x/time/rate"
)

const canary = "S3CR3T4111"

// secret returns the canary of a field.
func secret(field string) string { return canary + "." + field + "." }

// secretFields are the fields into which newVault puts a canary.
var secretFields = []string{
	"input", "output", "error", "cause", "panic", "message", "attribute", "stream", "progress", "metadata", "step", "step error", "waited", "match",
	"event", "event metadata", "scope", "filter", "expression", "cron", "key", "limit key", "rate key", "scheduled", "task error", "condition", "child",
}

type card struct{ Number string }

// panicsOfS3CR3T4111 puts its name into a stack.
func panicsOfS3CR3T4111() { panic(secret("panic")) }

// newVault returns a client with a canary in every field that may hold data of the app, and runs in
// every state. It returns the IDs of all runs.
func newVault(t *testing.T) (c *stint.Client, ids []string) {
	t.Helper()
	store.RegisterFilters(func(string) (store.Predicate, []string, error) {
		return func(*store.NewEvent, []byte) bool { return true }, nil, nil
	})
	t.Cleanup(func() { store.RegisterFilters(nil) })
	c, err := stint.Open(filepath.Join(t.TempDir(), "vault.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ok := func(id string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if id != "" {
			ids = append(ids, id)
		}
	}
	start := func(task *stint.Task[card, card], field string, opts ...stint.RunOption) {
		t.Helper()
		r, err := task.Enqueue(t.Context(), card{secret(field)}, opts...)
		ok(r.ID(), err)
	}
	child := stint.NewTask(c, "child", func(_ context.Context, in card) (card, error) { return in, nil })
	durable := stint.NewTask(c, "durable", func(ctx context.Context, in card) (card, error) {
		stint.Logger(ctx).Info(secret("message"), "card", secret("attribute"))
		err := errors.Join(stint.Stream(ctx, []byte(secret("stream"))), stint.Progress(ctx, 1, 2), stint.ProgressMessage(ctx, secret("progress")))
		if err != nil {
			return in, err
		}
		stint.Step(ctx, "step", func(context.Context) (card, error) { return card{secret("step")}, nil })
		stint.Step(ctx, "fails", func(context.Context) (card, error) {
			return card{}, stint.NonRetryable(errors.New(secret("step error")))
		})
		child.Run(ctx, card{secret("child")})
		stint.Go(ctx, "branch", func(ctx context.Context) (card, error) { return in, stint.Sleep(ctx, time.Millisecond) }).Wait(ctx)
		stint.Version(ctx, "change")
		stint.WaitForEvent[card](ctx, "wanted")
		return card{secret("output")}, nil
	})
	fails := stint.NewTask(c, "fails", func(context.Context, card) (card, error) {
		return card{}, fmt.Errorf("%s: %w", secret("error"), errors.New(secret("cause")))
	}, stint.WithRetries(1), stint.WithRetryBackoff(1, time.Millisecond))
	panics := stint.NewTask(c, "panics", func(context.Context, card) (card, error) { panicsOfS3CR3T4111(); return card{}, nil })
	waits := stint.NewTask(c, "waits", func(ctx context.Context, _ card) (card, error) {
		return stint.WaitForEvent[card](ctx, "never", stint.WithMatch("card", secret("match")))
	}, stint.WithConcurrency(stint.Concurrency[card]{Name: "one", Key: func(card) string { return secret("limit key") }, Max: 1}),
		stint.WithRateLimitFunc(func(card) stint.RateLimit { return stint.RateLimit{Key: secret("rate key"), Limit: rate.Inf, Burst: 9} }))
	stint.NewTask(c, "triggered", func(_ context.Context, in card) (card, error) { return in, nil }, stint.WithEvents("paid"))
	flow := stint.NewWorkflow[card](c, "flow")
	stint.AddTask(flow, "bad", func(context.Context, card) (card, error) {
		return card{}, stint.NonRetryable(errors.New(secret("task error")))
	})
	stint.AddTask(flow, "late", func(_ context.Context, in card) (card, error) { return in, nil },
		stint.WithWaitFor(stint.UserEvent("never", stint.WithMatch("card", secret("condition")))))
	working(t, c)

	start(durable, "input", stint.WithIdempotencyKey(secret("key"), time.Hour), stint.WithMetadata(map[string]string{"card": secret("metadata")}))
	until(t, c, func() bool { return stateOf(t, c, ids[0]) == stint.StateWaiting && blockedBy(t, c, ids[0], "wanted") })
	_, err = c.Publish(t.Context(), "wanted", card{secret("waited")})
	ok("", err)
	start(fails, "input")
	start(panics, "input")
	start(waits, "input")
	until(t, c, func() bool { return stateOf(t, c, ids[3]) == stint.StateWaiting })
	start(waits, "input")
	start(child, "scheduled", stint.WithDelay(24*time.Hour))
	f, err := flow.Enqueue(t.Context(), card{secret("input")})
	ok(f.ID(), err)
	ok("", child.Cron(t.Context(), "yearly", "@yearly", card{secret("cron")}))
	_, err = c.CreateFilter(t.Context(), stint.TriggerFilter{Task: "triggered", Scope: secret("scope"), Expression: "'" + secret("expression") + "' != ''", Payload: card{secret("filter")}})
	ok("", err)
	_, err = c.Publish(t.Context(), "paid", card{secret("event")}, stint.WithScope(secret("scope")), stint.WithMetadata(map[string]string{"card": secret("event metadata")}))
	ok("", err)
	for _, id := range ids[:3] {
		until(t, c, func() bool { return stateOf(t, c, id).Terminal() })
	}
	page, err := c.ListRuns(t.Context(), stint.RunFilter{})
	ok("", err)
	ids = nil
	for _, r := range page.Runs {
		ids = append(ids, r.ID)
	}
	return c, ids
}

// working runs a worker until the test ends.
func working(t *testing.T, c *stint.Client) {
	t.Helper()
	w, err := c.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
}

// until waits until a condition is true. It checks after each change of the database.
func until(t *testing.T, c *stint.Client, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for n := uint64(0); ; {
		var err error
		if n, err = c.Changed(ctx, n); err != nil {
			t.Fatal(err)
		}
		if is() {
			return
		}
	}
}

func stateOf(t *testing.T, c *stint.Client, id string) stint.State {
	t.Helper()
	info, err := c.GetRun(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return info.State
}

func blockedBy(t *testing.T, c *stint.Client, id, what string) bool {
	t.Helper()
	info, err := c.GetRun(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(info.Blocked, what)
}

// walk requests everything that a handler serves: every page that is linked, its live content, and
// every GET of the API, for each run. It returns the answers by path.
func (s *shop) walk() map[string]string {
	s.t.Helper()
	answers := map[string]string{}
	links := regexp.MustCompile(`(?:href|data-url)="([^"]*)"`)
	todo := []string{"/", "/metrics", "/healthz", "/nothing", "/logs", "/logs.ndjson", "/logs?text=" + canary[:3], "/runs?error=" + canary[:3], "/runs?state=" + "no"}
	for _, id := range s.ids {
		todo = append(todo, "/payload.json?of=input&id="+id, "/payload.json?of=output&id="+id, "/runs/"+id, "/runs/"+id+"?text="+canary[:3]) // what is asked for is the asker's
		for _, tab := range []string{"timeline", "journal", "logs", "stream", "input", "attempts"} {
			todo = append(todo, "/runs/"+id+"?tab="+tab)
		}
	}
	var spec struct {
		Paths map[string]map[string]json.RawMessage
	}
	if _, text := s.ask("GET", "/api/openapi.json", ""); json.Unmarshal([]byte(text), &spec) != nil || len(spec.Paths) < 30 {
		s.t.Fatalf("openapi.json: %.200s", text)
	}
	for path, methods := range spec.Paths {
		switch {
		case methods["get"] == nil:
		case strings.Contains(path, "{id}"):
			for _, id := range s.ids {
				todo = append(todo, strings.Replace(path, "{id}", id, 1))
			}
		default:
			todo = append(todo, path)
		}
	}
	for len(todo) > 0 && len(answers) < 800 {
		path := todo[0]
		todo = todo[1:]
		if _, had := answers[path]; had || strings.HasPrefix(path, "/assets/") {
			continue
		}
		header := []string{"Accept", "text/html"}
		if strings.HasPrefix(path, "/api/") {
			header = nil
		}
		_, text := s.ask("GET", path, "", header...)
		answers[path] = text
		for _, m := range links.FindAllStringSubmatch(text, -1) {
			if to := html.UnescapeString(m[1]); (strings.HasPrefix(to, "/") || strings.HasPrefix(to, "?")) && !strings.Contains(to, "zoom=") { // a part of what is shown without
				page, _, _ := strings.Cut(path, "?")
				todo = append(todo, strings.Replace(to, "?", map[bool]string{true: page + "?", false: "?"}[strings.HasPrefix(to, "?")], 1))
			}
		}
		if page, _, query := strings.Cut(path, "?"); !query && strings.Contains(text, "data-live") {
			answers["live "+page] = s.live(page)
		}
	}
	return answers
}

// live returns the first content that is sent to an open page.
func (s *shop) live(page string) string {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", s.url+"/live?url="+url.QueryEscape(page), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer got.Body.Close()
	var b strings.Builder
	lines := bufio.NewScanner(got.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() && lines.Text() != "" {
		b.WriteString(lines.Text() + "\n")
	}
	if !strings.Contains(b.String(), "<h1") {
		s.t.Errorf("live %s: %.200q", page, b.String())
	}
	return b.String()
}

// serve serves a client's handler with options.
func serve(t *testing.T, c *stint.Client, ids []string, opts ...ui.Option) *shop {
	server := httptest.NewServer(ui.Handler(c, append([]ui.Option{ui.WithLocalAccess()}, opts...)...))
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		server.CloseClientConnections()
		server.Close()
	})
	return &shop{t: t, c: c, url: server.URL, ids: ids}
}

// around returns the surroundings of a text in another.
func around(text, what string) string {
	i := strings.Index(text, what)
	return text[max(i-120, 0):min(i+80, len(text))]
}

// With WithRedact, no answer of any kind has data of the app from any field; without it, each field
// is in some answer.
func TestRedactEverywhere(t *testing.T) {
	log := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	defer slog.SetDefault(log)
	c, ids := newVault(t)

	open := serve(t, c, ids).walk()
	var api, pages strings.Builder
	for path, text := range open {
		if strings.HasPrefix(path, "/api/") {
			api.WriteString(text)
		} else {
			pages.WriteString(html.UnescapeString(text))
		}
	}
	for _, field := range secretFields {
		if !strings.Contains(api.String(), secret(field)) {
			t.Errorf("without redaction, the API does not show: %s", field)
		}
		if !strings.Contains(pages.String(), secret(field)) && field != "event metadata" {
			t.Errorf("without redaction, no page shows: %s", field)
		}
	}
	if !strings.Contains(pages.String(), "panicsOf"+canary) {
		t.Error("without redaction, no page shows the stack")
	}

	for name, redact := range map[string]func(ui.Payload) json.RawMessage{
		"hides":    func(ui.Payload) json.RawMessage { return nil },
		"replaces": func(ui.Payload) json.RawMessage { return json.RawMessage(`"masked"`) },
		"panics":   func(p ui.Payload) json.RawMessage { panic(string(p.JSON)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c, ids, ui.WithRedact(redact))
			hidden := s.walk()
			for path, text := range hidden {
				if strings.Contains(text, canary) {
					t.Errorf("GET %s: …%s…", path, around(text, canary))
				}
			}
			if len(hidden) < 100 {
				t.Errorf("%d answers alone", len(hidden))
			}
		})
	}
}

// Actions do not show hidden values either, to programs or to people.
func TestRedactActions(t *testing.T) {
	c, ids := newVault(t)
	s := serve(t, c, ids, ui.WithRedact(func(ui.Payload) json.RawMessage { return nil }))
	var spec struct {
		Paths map[string]map[string]json.RawMessage
	}
	_, text := s.ask("GET", "/api/openapi.json", "")
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		t.Fatal(err)
	}
	n := 0
	for path, methods := range spec.Paths {
		if methods["post"] == nil || path == "/api/runs/{id}/delete" {
			continue
		}
		path = strings.NewReplacer("{task}", "fails", "{cron}", "yearly", "{queue}", "default", "{filter}", "1").Replace(path)
		for _, id := range ids[:min(len(ids), 1+10*strings.Count(path, "{id}"))] {
			for _, accept := range []string{"text/html", "application/json"} {
				n++
				if _, text := s.ask("POST", strings.Replace(path, "{id}", id, 1), `{}`, "Content-Type", asJSON, "Accept", accept); strings.Contains(text, canary) {
					t.Errorf("POST %s: …%s…", path, around(text, canary))
				}
			}
		}
	}
	if n < 60 {
		t.Errorf("%d requests alone", n)
	}
}

// A redactor gets each kind by its name, and texts as JSON strings; what it returns unchanged is shown
// unchanged.
func TestRedactKinds(t *testing.T) {
	c, ids := newVault(t)
	kinds := make(chan ui.Payload, 1<<16)
	s := serve(t, c, ids, ui.WithRedact(func(p ui.Payload) json.RawMessage { kinds <- p; return p.JSON }))
	same := s.walk()
	close(kinds)
	got := map[string]bool{}
	for p := range kinds {
		if got[p.Of] = true; p.Name == "" && p.Of != "limit_key" {
			t.Errorf("%s has no name: %s", p.Of, p.JSON)
		}
		if !json.Valid(p.JSON) {
			t.Errorf("%s is no JSON: %s", p.Of, p.JSON)
		}
	}
	for _, of := range strings.Fields("input output journal event filter cron log error stack blocked progress message stream metadata key limit_key scope expression") {
		if !got[of] {
			t.Errorf("no payload is of %s", of)
		}
	}
	all := ""
	for _, text := range same {
		all += text
	}
	for _, field := range secretFields {
		if !strings.Contains(html.UnescapeString(all), secret(field)) {
			t.Errorf("what is left as it is is not shown: %s", field)
		}
	}
	if status, text := s.ask("GET", "/api/runs?error=S", ""); status != http.StatusBadRequest || !strings.Contains(text, "WithRedact") {
		t.Errorf("errors that may be hidden are searched: %d %.200s", status, text)
	}
}
