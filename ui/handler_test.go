package ui_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/internal/build"
	"github.com/stint-dev/stint/internal/selfcheck"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	selfcheck.Enable()
	goleak.VerifyTestMain(m, goleak.Cleanup(selfcheck.Exit))
}

// shop returns a client with a task, some of whose runs have ended.
type shop struct {
	t   *testing.T
	c   *stint.Client
	url string
	ids []string
}

func newShop(t *testing.T, opts ...ui.Option) *shop {
	t.Helper()
	s := newEmptyShop(t, opts...)
	task := stint.NewTask(s.c, "charge", func(ctx context.Context, cents int) (string, error) {
		if cents < 0 {
			return "", stint.NonRetryable(errors.New("less than nothing"))
		}
		return "secret receipt", stint.Stream(ctx, []byte("paid"))
	})
	s.work()
	for _, cents := range []int{100, -1, 987654} {
		r, err := task.Enqueue(t.Context(), cents)
		if err != nil {
			t.Fatal(err)
		}
		r.Wait(t.Context())
		s.ids = append(s.ids, r.ID())
	}
	return s
}

// newEmptyShop returns a client without tasks and without a worker.
func newEmptyShop(t *testing.T, opts ...ui.Option) *shop {
	t.Helper()
	c, err := stint.Open(filepath.Join(t.TempDir(), "shop.db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(ui.Handler(c, append([]ui.Option{ui.WithLocalAccess()}, opts...)...))
	t.Cleanup(func() {
		server.Close()
		c.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return &shop{t: t, c: c, url: server.URL}
}

// work runs a worker until the test ends.
func (s *shop) work(opts ...stint.WorkerOption) {
	s.t.Helper()
	w, err := s.c.NewWorker(opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	s.t.Cleanup(func() { stop(); <-done })
}

// ask makes a request, and returns the status and the body.
func (s *shop) ask(method, path, body string, header ...string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	got, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if csp := got.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		s.t.Errorf("%s %s: Content-Security-Policy %q", method, path, csp)
	}
	return got.StatusCode, string(text)
}

const asJSON = "application/json"

// Each route answers right and wrong requests with the right status.
func TestRoutes(t *testing.T) {
	s := newShop(t)
	id := s.ids[0]
	none := "01923b5c-7d3e-7000-8000-3f2a9c1b4d5e"
	for _, tt := range []struct {
		method, path, body string
		status             int
		has                string
	}{
		{"GET", "/", "", 200, "Overview"},
		{"GET", "/runs", "", 200, id},
		{"GET", "/runs?state=failed", "", 200, "less than nothing"},
		{"GET", "/runs?state=nonsense", "", 400, "nonsense"},
		{"GET", "/runs?since=yesterday", "", 400, "yesterday"},
		{"GET", "/runs?metadata=x", "", 400, "KEY=VALUE"},
		{"GET", "/runs?cursor=x", "", 404, ""},
		{"GET", "/runs?error=THAN", "", 200, s.ids[1]},
		{"GET", "/runs?id=" + id, "", 200, "secret receipt"},
		{"GET", "/runs/" + id, "", 200, "secret receipt"},
		{"GET", "/runs/" + none, "", 404, ""},
		{"GET", "/runs/x", "", 404, ""},
		{"GET", "/tasks", "", 200, "charge"},
		{"GET", "/tasks/charge", "", 200, "Run now"},
		{"GET", "/tasks/none", "", 404, ""},
		{"GET", "/queues", "", 200, "default"},
		{"GET", "/limits", "", 200, "Rates"},
		{"GET", "/workers", "", 200, "Slots"},
		{"GET", "/schedules", "", 200, "Crons"},
		{"GET", "/events", "", 200, "Publish an event"},
		{"GET", "/alerts", "", 200, "alert.New"},
		{"GET", "/api/alerts", "", 200, `"rules":[]`},
		{"POST", "/api/alerts/test", "", 404, "WithAlerts"},
		{"GET", "/health", "", 200, "can be written"},
		{"GET", "/health", "", 200, "stint <code>" + build.Version() + "</code>"},
		{"GET", "/api/health", "", 200, `"version":"` + build.Version() + `"`},
		{"GET", "/confirm?do=runs.delete&state=failed", "", 200, "Delete runs?"},
		{"GET", "/confirm?do=nothing", "", 404, ""},
		{"GET", "/nothing", "", 404, ""},
		{"GET", "/assets/style.css", "", 200, "--accent"},
		{"GET", "/assets/../handler.go", "", 307, ""}, // to a page that is not there
		{"GET", "/live?url=//evil.example", "", 400, ""},
		{"POST", "/runs", "", 405, ""},
		{"GET", "/api/runs", "", 200, id},
		{"GET", "/api/runs?limit=1", "", 200, `"next"`},
		{"GET", "/api/runs?limit=x", "", 400, "whole number"},
		{"GET", "/api/runs?limit=100000", "", 400, "limit"},
		{"GET", "/api/runs/" + id, "", 200, "secret receipt"},
		{"GET", "/api/runs/" + none, "", 404, "Not Found"},
		{"GET", "/api/runs/" + id + "/journal", "", 200, "entries"},
		{"GET", "/api/runs/" + id + "/logs", "", 200, "lines"},
		{"GET", "/api/runs/" + id + "/stream", "", 200, `"attempt":1,"execution":1,"text":"paid"}],"next":1`},
		{"GET", "/api/runs/" + none + "/stream", "", 404, ""},
		{"GET", "/api/tasks", "", 200, `"integer"`},
		{"GET", "/api/queues", "", 200, "default"},
		{"GET", "/api/workers", "", 200, "slots"},
		{"GET", "/api/limits", "", 200, "rates"},
		{"GET", "/api/crons", "", 200, "crons"},
		{"GET", "/api/events", "", 200, "events"},
		{"GET", "/api/stats?span=hour&per_task=1", "", 200, "stats"},
		{"GET", "/api/stats?per_queue=1", "", 200, "stats"},
		{"GET", "/api/stats?per_limit=1", "", 200, `{"stats":[]}`},
		{"GET", "/api/stats?per_limit=1&per_task=1", "", 400, "want one of"},
		{"GET", "/api/stats?span=week", "", 400, "week"},
		{"GET", "/api/health", "", 200, `"ok":true`},
		{"GET", "/api/openapi.json", "", 200, "openapi"},
		{"GET", "/api/nothing", "", 404, "openapi.json"},
		{"GET", "/metrics", "", 200, `stint_runs{state="queued"} 0`},
		{"GET", "/healthz", "", 200, "ok"},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "metadata": {"a": "b"}, "delay": "1h", "priority": 7, "key": "k"}`, 200, `"run"`},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "key": "k"}`, 200, `"existing":true`},
		{"POST", "/api/tasks/charge/runs", `{"input": "five"}`, 400, "int"},
		{"POST", "/api/tasks/charge/runs", `{}`, 400, "input is missing"},
		{"POST", "/api/tasks/charge/runs", `[`, 400, "JSON object"},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "delay": "soon"}`, 400, "delay"},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "at": "soon"}`, 400, "how long from now, like 90m or 7d"},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "at": "-90m"}`, 400, "how long from now"},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "at": "90m", "delay": "90m"}`, 400, "delay or at, not both"},
		{"GET", "/api/runs?since=7d&until=1d", "", 200, `"runs"`},
		{"GET", "/api/runs?since=-7d", "", 400, "how long ago"},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "key": ""}`, 400, "key is empty"},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "delay": ""}`, 400, "delay is empty"},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "at": "" }`, 400, "at is empty"},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "priority": ""}`, 400, "priority is empty"},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "metadata": ""}`, 400, "metadata is empty"},
		{"POST", "/api/tasks/charge/runs", `{"input": 5, "key": null, "delay": null, "metadata": {}}`, 200, `"run"`},
		{"POST", "/api/events", `{"key": "k", "payload": "", "scope": ""}`, 400, "scope is empty"},
		{"POST", "/api/events", `{"key": "k", "payload": ""}`, 200, `"event"`},
		{"POST", "/api/filters", `{"task": "charge", "scope": "s", "expr": ""}`, 400, "expr is empty"},
		{"POST", "/api/alerts/test", `{"sink": ""}`, 400, "sink is empty"},
		{"POST", "/api/backup", `{"path": ""}`, 400, "path is empty"},
		{"POST", "/api/limits.pause", `{"limit_name": "", "limit_key": "nobody's"}`, 404, ""},
		{"POST", "/api/runs/" + none + "/cancel", "", 404, ""},
		{"POST", "/api/runs/" + id + "/replay", "", 200, `"changed":1`},
		{"POST", "/api/runs/" + id + "/reschedule", `{"at": "2030-01-01T00:00:00Z"}`, 409, ""},
		{"POST", "/api/runs/" + id + "/restart", `{"step": "none"}`, 404, ""},
		{"POST", "/api/runs/" + id + "/fork", `{}`, 400, "step is missing"},
		{"POST", "/api/runs.delete", `{}`, 400, "name what to act on"},
		{"POST", "/api/runs.delete", `{"tasks": ["charge"], "all": true}`, 400, "tasks"},
		{"GET", "/api/runs?stat=failed", "", 400, "stat"},
		{"POST", "/api/runs.delete", `{"state": ["failed"]}`, 200, `"changed":1`},
		{"POST", "/api/runs.cancel", `{"all": true}`, 200, `"changed"`},
		{"POST", "/api/queues/default/pause", "", 200, "true"},
		{"POST", "/api/queues/default/resume", "", 200, "true"},
		{"POST", "/api/workers/nobody/pause", "", 404, ""},
		{"POST", "/api/limits/mail", `{"limit": 2.5, "burst": 5}`, 200, "true"},
		{"POST", "/api/limits/mail", `{"limit": "x"}`, 400, "limit"},
		{"POST", "/api/limits.pause", `{}`, 400, "missing"},
		{"POST", "/api/limits.pause", `{"limit_key": "nobody's"}`, 404, ""},
		{"POST", "/api/limits.pause", `{"limit_key": "mail"}`, 200, "true"},
		{"GET", "/api/limits", "", 200, `"paused":true`},
		{"GET", "/limits", "", 200, "<span>paused</span>"},
		{"POST", "/api/limits.resume", `{"limit_key": "mail"}`, 200, "true"},
		{"GET", "/runs?limit_name=charge&limit_key=k", "", 200, "at limit"},
		{"GET", "/api/webhooks", "", 200, `"webhooks":[]`},
		{"GET", "/api/filters", "", 200, `"filters":[]`},
		{"POST", "/api/filters", `{"task": "charge", "scope": "s", "expr": "true"}`, 400, "cel"},
		{"POST", "/api/filters", `{"task": "charge", "scope": "s", "expr": "true", "payload": "x"}`, 400, ""},
		{"POST", "/api/filters/7/delete", "", 404, ""},
		{"POST", "/api/filters/x/delete", "", 400, "whole number"},
		{"POST", "/api/crons/none/pause", "", 404, ""},
		{"POST", "/api/events", `{"key": "k", "payload": {"n": 1}}`, 200, `"event"`},
		{"POST", "/api/events", `{"payload": {}}`, 400, "key is missing"},
		{"POST", "/api/filters/test", `{"expr": "1", "payload": {}}`, 400, "cel"},
		{"POST", "/api/check", "", 200, `"problems":[]`},
		{"POST", "/api/backup", `{"path": "/nowhere/at/all.db"}`, 400, ""},
	} {
		status, text := s.ask(tt.method, tt.path, tt.body, "Content-Type", asJSON)
		if status != tt.status || !strings.Contains(text, tt.has) {
			t.Errorf("%s %s %s: %d, want %d with %q:\n%.300s", tt.method, tt.path, tt.body, status, tt.status, tt.has, text)
		}
		if strings.HasPrefix(tt.path, "/api") && status >= 400 {
			var problem struct{ Title, Detail string }
			if json.Unmarshal([]byte(text), &problem) != nil || problem.Detail == "" {
				t.Errorf("%s %s: no problem details: %s", tt.method, tt.path, text)
			}
		}
	}
}

// WithAuthorize is called for each action; without it only this machine has access.
func TestAuthorize(t *testing.T) {
	t.Run("none set", func(t *testing.T) {
		s := newShop(t)
		for _, header := range [][]string{{"X-Forwarded-For", "192.0.2.1"}, {"Forwarded", "for=192.0.2.1"}, {"Host", "evil.example"}} {
			if status, _ := s.ask("GET", "/api/runs", "", header...); status != 403 {
				t.Errorf("%v: %d, want 403", header, status)
			}
		}
	})
	t.Run("set", func(t *testing.T) {
		var asked []string
		s := newShop(t, ui.WithAuthorize(func(r *http.Request, a ui.Action) error {
			asked = append(asked, fmt.Sprint(a.Name, a.Write))
			if a.Write && r.Header.Get("X-User") != "ann" {
				return errors.New("only ann may")
			}
			return nil
		}))
		if status, _ := s.ask("GET", "/", "", "Host", "app.example"); status != 200 {
			t.Errorf("view: %d", status)
		}
		if status, text := s.ask("POST", "/api/queues/default/pause", ""); status != 403 || !strings.Contains(text, "only ann may") {
			t.Errorf("somebody: %d %s", status, text)
		}
		if status, _ := s.ask("POST", "/api/queues/default/pause", "", "X-User", "ann"); status != 200 {
			t.Errorf("ann: %d", status)
		}
		if got := strings.Join(asked, " "); got != "viewfalse queues.pausetrue queues.pausetrue" {
			t.Errorf("asked about %s", got)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		s := newShop(t, ui.WithReadOnly())
		if status, _ := s.ask("POST", "/api/runs/"+s.ids[0]+"/replay", ""); status != 403 {
			t.Errorf("a replay: %d, want 403", status)
		}
		if _, text := s.ask("GET", "/runs/"+s.ids[0], ""); strings.Contains(text, `method="post"`) {
			t.Error("there is a form")
		}
	})
}

// The page of a read-only client is read-only by itself.
func TestReadOnlyClient(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.db")
	c, err := stint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err = stint.Open(path, stint.WithReadOnly()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h := ui.Handler(c, ui.WithAuthorize(func(*http.Request, ui.Action) error { return nil }))
	for method, want := range map[string]int{"GET": 200, "POST": 403} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, map[string]string{"GET": "/queues", "POST": "/api/queues/default/pause"}[method], nil))
		if w.Code != want || method == "GET" && !strings.Contains(w.Body.String(), "This page is read-only") {
			t.Errorf("%s: %d, want %d\n%.300s", method, w.Code, want, w.Body)
		}
	}
}

// A page of another site cannot act in the name of the viewer.
func TestCrossSite(t *testing.T) {
	s := newShop(t)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		status, answer := s.ask("POST", "/api/queues/default/pause", "", header...)
		var problem struct{ Title, Detail string }
		if err := json.Unmarshal([]byte(answer), &problem); status != 403 || err != nil || !strings.Contains(problem.Detail, "another site") {
			t.Errorf("%v: %d %s, want 403 and problem details", header, status, answer)
		}
		if status, page := s.ask("POST", "/api/queues/default/pause", "", append(header, "Accept", "text/html")...); status != 403 || !strings.Contains(page, "<h1") {
			t.Errorf("%v, in a browser: %d %s, want 403 and a page", header, status, page)
		}
	}
	form := url.Values{"next": {"//evil.example/"}}.Encode()
	if status, text := s.ask("POST", "/api/queues/default/pause", form, "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html"); status != 200 {
		t.Errorf("next leads to another site: %d %s", status, text)
	}
}

// Payloads are shown as WithRedact returns them.
func TestRedact(t *testing.T) {
	s := newShop(t, ui.WithRedact(func(p ui.Payload) json.RawMessage {
		if p.Of == "output" || p.Of == "input" {
			return json.RawMessage(`"(hidden)"`)
		}
		return p.JSON
	}))
	for _, path := range []string{"/runs/" + s.ids[0], "/runs", "/tasks/charge", "/", "/confirm?do=runs.delete", "/api/runs", "/api/runs/" + s.ids[0]} {
		if _, text := s.ask("GET", path, ""); strings.Contains(text, "secret") || strings.Contains(text, "987654") {
			t.Errorf("%s shows a payload", path)
		}
	}
	if _, text := s.ask("GET", "/api/runs/"+s.ids[0], ""); !strings.Contains(text, "(hidden)") {
		t.Errorf("not hidden: %s", text)
	}
}

// A page is sent again when the database changes, and the stream ends with its viewer.
func TestLive(t *testing.T) {
	s := newShop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", s.url+"/live?url="+url.QueryEscape("/runs?task=charge"), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	lines := bufio.NewScanner(got.Body)
	lines.Buffer(nil, 1<<20)
	until := func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("the stream ended (%v) before %q", lines.Err(), text)
	}
	until("event: main")
	until(s.ids[2])
	run, err := s.c.EnqueueJSON(t.Context(), "charge", []byte("7"))
	if err != nil {
		t.Fatal(err)
	}
	until(run.ID())
}

// A server that shuts down does not wait for open pages.
func TestShutdown(t *testing.T) {
	s := newShop(t)
	server := httptest.NewServer(ui.Handler(s.c, ui.WithLocalAccess()))
	defer server.Close()
	got, err := http.Get(server.URL + "/live?url=/")
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if _, err := got.Body.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	go io.Copy(io.Discard, got.Body)
	if err := server.Config.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// An app mounts the page where it likes, behind its own login.
func TestMounted(t *testing.T) {
	s := newShop(t)
	page := ui.Handler(s.c, ui.WithBasePath("/admin/stint/"), ui.WithTitle("The Shop"), ui.WithAuthorize(func(r *http.Request, a ui.Action) error {
		if user, _, _ := r.BasicAuth(); a.Write && user != "ann" {
			return errors.New("only ann changes things")
		}
		return nil
	}))
	login := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, password, _ := r.BasicAuth(); password != "secret" {
				w.Header().Set("WWW-Authenticate", "Basic")
				http.Error(w, "log in", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	mux := http.NewServeMux()
	mux.Handle("/admin/stint/", login(page))
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, tt := range []struct {
		method, path, user, password string
		status                       int
		has                          string
	}{
		{"GET", "/admin/stint/", "", "", 401, "log in"},
		{"GET", "/admin/stint/", "bob", "secret", 200, `href="/admin/stint/runs"`},
		{"GET", "/admin/stint/runs", "bob", "secret", 200, "The Shop"},
		{"GET", "/admin/stint/assets/app.js", "bob", "secret", 200, "EventSource"},
		{"GET", "/admin/stint/api/queues", "bob", "secret", 200, "default"},
		{"POST", "/admin/stint/api/queues/default/pause", "bob", "secret", 403, "only ann"},
		{"POST", "/admin/stint/api/queues/default/pause", "ann", "secret", 200, "true"},
		{"GET", "/runs", "ann", "secret", 404, ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "shop.example.org"
		r.SetBasicAuth(tt.user, tt.password)
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(got.Body)
		got.Body.Close()
		if got.StatusCode != tt.status || !strings.Contains(string(text), tt.has) {
			t.Errorf("%s %s as %s: %d %.200s", tt.method, tt.path, tt.user, got.StatusCode, text)
		}
	}
}

// If the code of a run does not match its journal, both are shown side by side.
func TestDivergence(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	var id string
	for _, step := range []string{"old step", "new step"} {
		c, err := stint.Open(path, stint.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (int, error) {
			if _, err := stint.Step(ctx, step, func(context.Context) (int, error) { return 1, nil }); err != nil {
				return 0, err
			}
			return stint.WaitForEvent[int](ctx, "never")
		})
		w, err := c.NewWorker()
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		state := stint.StateWaiting
		if id == "" {
			run, err := task.Enqueue(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			id = run.ID()
		} else {
			state = stint.StateBlocked
			if _, err := c.Publish(t.Context(), "never", 1); err != nil {
				t.Fatal(err)
			}
		}
		for mark := uint64(0); ; {
			info, err := c.GetRun(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if info.State == state {
				break
			}
			if mark, err = c.Changed(t.Context(), mark); err != nil {
				t.Fatal(err)
			}
		}
		if state == stint.StateBlocked {
			answer := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost/runs/"+id, nil)
			r.RemoteAddr = "127.0.0.1:1"
			ui.Handler(c, ui.WithLocalAccess()).ServeHTTP(answer, r)
			for _, has := range []string{"The journal has", "<code>step &#34;old step&#34;</code>", "<code>step &#34;new step&#34;</code>"} {
				if !strings.Contains(answer.Body.String(), has) {
					t.Errorf("%q is not on the page:\n%s", has, answer.Body)
				}
			}
		}
		stop()
		<-done
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A large action on the page stops after a moment, shows its progress, and continues from there
// until it is done.
func TestPaced(t *testing.T) {
	s := newShop(t)
	var ins []int
	for range 1200 {
		ins = append(ins, 1)
	}
	if _, err := stint.NewTask[int, string](s.c, "later", nil).EnqueueMany(t.Context(), ins, stint.WithDelay(time.Hour)); err != nil {
		t.Fatal(err)
	}
	form := url.Values{"task": {"later"}, "state": {"scheduled"}, "paced": {"1"}}
	status, text := s.ask("POST", "/api/runs.cancel", form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html")
	for range 100 {
		rest := regexp.MustCompile(`name="cursor" value="([0-9a-f-]+)"`).FindStringSubmatch(text)
		if rest == nil {
			break
		}
		form.Set("cursor", rest[1])
		form.Set("done", regexp.MustCompile(`name="done" value="([0-9]+)"`).FindStringSubmatch(text)[1])
		status, text = s.ask("POST", "/api/runs.cancel", form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html")
	}
	if status != 200 || !strings.Contains(text, "1,200</b> runs were canceled") {
		t.Errorf("%d %s", status, text)
	}
	if n, err := s.c.CountRuns(t.Context()); err != nil || n[stint.StateScheduled] != 0 {
		t.Errorf("%v are left, %v", n, err)
	}
	form = url.Values{"id": s.ids, "paced": {"1"}}
	if status, text := s.ask("POST", "/api/runs.delete", form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html"); status != 200 || !strings.Contains(text, "3</b> runs were deleted") {
		t.Errorf("%d %s", status, text)
	}
}

// If a function of the program panics, nobody gets access, nothing is shown, and the program goes on.
func TestFunctionsThatPanic(t *testing.T) {
	for what, f := range map[string]func(){"panic": func() { panic("secret") }, "Goexit": runtime.Goexit} {
		s := newShop(t, ui.WithAuthorize(func(*http.Request, ui.Action) error { f(); return nil }))
		for _, path := range []string{"/runs", "/api/runs"} {
			if status, body := s.ask("GET", path, ""); status != http.StatusInternalServerError || strings.Contains(body, "secret") {
				t.Errorf("%s in WithAuthorize: GET %s = %d %s", what, path, status, body)
			}
		}
		s = newShop(t, ui.WithRedact(func(ui.Payload) json.RawMessage { f(); return nil }))
		status, body := s.ask("GET", "/api/runs", "")
		var page struct{ Runs []struct{ Input string } }
		if err := json.Unmarshal([]byte(body), &page); status != http.StatusOK || err != nil || len(page.Runs) == 0 || !strings.Contains(page.Runs[0].Input, "WithRedact panicked") {
			t.Errorf("%s in WithRedact: GET /api/runs = %d %v %s", what, status, err, body)
		}
		if status, body := s.ask("GET", "/runs", ""); status != http.StatusOK || !strings.Contains(body, "WithRedact panicked") {
			t.Errorf("%s in WithRedact: GET /runs = %d %s", what, status, body)
		}
	}
}
