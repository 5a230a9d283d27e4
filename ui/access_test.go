package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
)

// secret is in each field of a file. It must not be shown.
const secret = "CANARY-7f3a"

func guarded(t *testing.T) *stint.Client {
	t.Helper()
	c, err := stint.Open(filepath.Join(t.TempDir(), secret+".db"), stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.EnqueueJSON(t.Context(), secret, []byte(`"`+secret+`"`), stint.WithQueue(secret), stint.WithMetadata(map[string]string{secret: secret})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(t.Context(), secret, secret); err != nil {
		t.Fatal(err)
	}
	return c
}

// routes returns all paths that the handler knows and some that it does not, with every method.
func routes() (all [][2]string) {
	paths := []string{"", "/", "/live?url=/", "/logs.ndjson", "/payload.json", "/metrics", "/healthz", "/nothing", "/api/", "/api/nothing", "/api/openapi.json", "/assets/", "/assets/style.css", "/assets/app.js", "/assets/nothing", "//evil.example/", "/api/../runs", "/runs/x/y/z"}
	for _, p := range pages {
		paths = append(paths, "/"+p.name, "/"+p.name+"/x")
	}
	for _, o := range operations {
		path := o.Path
		for _, name := range pathNames(path) {
			path = strings.Replace(path, "{"+name+"}", secret, 1)
		}
		paths = append(paths, path)
	}
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"} {
			all = append(all, [2]string{method, path})
		}
	}
	return all
}

// A change changes a request that would have access.
type change func(*http.Request)

func header(name, value string) change {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = []string{value} }
}

// try makes a request like a program of this machine, with changes.
func try(t *testing.T, h http.Handler, method, path, body string, changes ...change) *httptest.ResponseRecorder {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // live pages end at once
	if !strings.HasPrefix(path, "/live") {
		ctx = t.Context()
	}
	r := httptest.NewRequestWithContext(ctx, method, "http://localhost:8080/x", strings.NewReader(body))
	u, err := url.ParseRequestURI("http://localhost:8080" + path)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = u.Path, u.RawPath, u.RawQuery
	r.RemoteAddr = "127.0.0.1:50000"
	r.Header.Set("Content-Type", "application/json")
	for _, c := range changes {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// holds returns everything that a request could change, as text.
func holds(t *testing.T, c *stint.Client, backups string) string {
	t.Helper()
	runs, err1 := c.ListRuns(t.Context(), stint.RunFilter{})
	queues, err2 := c.ListQueues(t.Context())
	events, err3 := c.ListEvents(t.Context(), stint.EventFilter{})
	limits, err4 := c.ListRateLimits(t.Context())
	filters, err5 := c.ListFilters(t.Context(), "")
	crons, err6 := c.ListCrons(t.Context())
	files, err7 := os.ReadDir(backups)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(runs, queues, events, limits, filters, crons, files)
}

// Every route, with every method, refuses a request without access, tells nothing and does nothing.
func TestEveryRouteAsks(t *testing.T) {
	token := NewToken()
	deny := WithAuthorize(func(*http.Request, Action) error { return errors.New("nobody may") })
	for _, tt := range []struct {
		name    string
		opts    []Option
		changes []change
	}{
		{"no option", nil, nil},
		{"no token", []Option{WithToken(token)}, nil},
		{"another token", []Option{WithToken(token)}, []change{header("Authorization", "Bearer "+NewToken())}},
		{"through a proxy", []Option{WithToken(token)}, []change{header("Authorization", "Bearer "+token), header("X-Forwarded-For", "")}},
		{"a proxy, for local access", []Option{WithLocalAccess()}, []change{header("Forwarded", "")}},
		{"another host's name", []Option{WithLocalAccess()}, []change{func(r *http.Request) { r.Host = "evil.example" }}},
		{"another machine", []Option{WithLocalAccess()}, []change{func(r *http.Request) { r.RemoteAddr = "192.0.2.1:80" }}},
		{"denied", []Option{deny}, nil},
		{"denied, local and with a token", []Option{deny, WithLocalAccess(), WithToken(token)}, []change{header("Authorization", "Bearer "+token)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := guarded(t)
			backups := t.TempDir()
			h := Handler(c, append(tt.opts, WithBackupDir(backups))...)
			before := holds(t, c, backups)
			for _, route := range routes() {
				for _, accept := range []string{"", "text/html"} {
					w := try(t, h, route[0], route[1], `{"all": true, "force": true, "input": 1, "key": "k", "path": "x.db"}`, append(tt.changes, header("Accept", accept))...)
					body := w.Body.String()
					redirects := w.Code/100 == 3 && strings.HasPrefix(w.Header().Get("Location"), "/") && !strings.HasPrefix(w.Header().Get("Location"), "//")
					if w.Code != http.StatusForbidden && !(redirects && tt.opts != nil) || strings.Contains(body, secret) {
						t.Errorf("%s %s: %d %q: %.200s", route[0], route[1], w.Code, w.Header().Get("Location"), body)
					}
				}
			}
			if after := holds(t, c, backups); after != before {
				t.Errorf("it held %s, and now %s", before, after)
			}
		})
	}
}

// A request with a header that proxies add, whatever its value, is not local.
func TestForwarded(t *testing.T) {
	h := Handler(guarded(t), WithLocalAccess())
	if w := try(t, h, "GET", "/healthz", ""); w.Code != http.StatusOK {
		t.Fatalf("a local request: %d %s", w.Code, w.Body)
	}
	for _, name := range append(proxyHeaders, "X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Proto", "X-Forwarded-Server", "X-Forwarded", "X-Forwarded-By") {
		for _, value := range []string{"", "127.0.0.1", "x"} {
			if w := try(t, h, "GET", "/healthz", "", header(name, value)); w.Code != http.StatusForbidden {
				t.Errorf("%s: %q: %d", name, value, w.Code)
			}
		}
		if w := try(t, h, "GET", "/healthz", "", func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = nil }); w.Code != http.StatusForbidden {
			t.Errorf("%s, empty: %d", name, w.Code)
		}
	}
	for host, want := range map[string]int{"localhost": 200, "LOCALHOST:1": 200, "127.0.0.1:8080": 200, "[::1]:8080": 200, "127.1.2.3": 200,
		"localhost.evil.example": 403, "evil.example:8080": 403, "127.0.0.1.nip.io": 403, "": 403, "0.0.0.0": 403, "192.0.2.1": 403} {
		if w := try(t, h, "GET", "/healthz", "", func(r *http.Request) { r.Host = host }); w.Code != want {
			t.Errorf("host %q: %d, want %d", host, w.Code, want)
		}
	}
}

// The token in the URL becomes a cookie, which gives a browser access.
func TestToken(t *testing.T) {
	token := NewToken()
	h := Handler(guarded(t), WithToken(token), WithBasePath("/stint"))
	w := try(t, h, "GET", "/stint/runs?state=failed&token="+token, "", header("Accept", "text/html"))
	if got := w.Header().Get("Location"); w.Code != http.StatusSeeOther || got != "/stint/runs?state=failed" {
		t.Errorf("%d, to %q", w.Code, got)
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || cookies[0].Path != "/stint/" || cookies[0].Domain != "" {
		t.Fatalf("cookies %v", cookies)
	}
	with := func(c *http.Cookie) change { return func(r *http.Request) { r.AddCookie(c) } }
	for name, ways := range map[string][]change{"cookie": {with(cookies[0])}, "bearer": {header("Authorization", "bearer "+token)},
		"two cookies": {with(&http.Cookie{Name: cookies[0].Name, Value: "old"}), with(cookies[0])}} {
		for _, path := range []string{"/stint/", "/stint/runs", "/stint/assets/app.js", "/stint/api/openapi.json", "/stint/api/runs", "/stint/metrics", "/stint/healthz"} {
			if w := try(t, h, "GET", path, "", ways...); w.Code != http.StatusOK {
				t.Errorf("%s, %s: %d", name, path, w.Code)
			}
		}
		if w := try(t, h, "POST", "/stint/api/queues/"+secret+"/pause", "", ways...); w.Code != http.StatusOK {
			t.Errorf("%s: pause: %d %s", name, w.Code, w.Body)
		}
	}
	for name, c := range map[string]*http.Cookie{"no value": {Name: cookies[0].Name}, "another": {Name: cookies[0].Name, Value: NewToken()},
		"a part": {Name: cookies[0].Name, Value: token[:63]}, "another name": {Name: "stint", Value: token}} {
		if w := try(t, h, "GET", "/stint/api/runs", "", with(c)); w.Code != http.StatusForbidden {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	for _, path := range []string{"/stint/?token=", "/stint/?token=" + token[1:], "/stint/?token=x&token=" + token} {
		if w := try(t, h, "GET", path, ""); w.Code != http.StatusForbidden || len(w.Result().Cookies()) != 0 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := try(t, h, "POST", "/stint/api/queues/x/pause?token="+token, ""); w.Code != http.StatusForbidden {
		t.Errorf("a POST with the token in its URL: %d", w.Code)
	}
	for _, path := range []string{"//evil.example/", "/stint//evil.example", "/other", "/stint/%09/evil.example", `/stint/..//evil.example`, "/%5Cevil.example"} {
		w := try(t, h, "GET", path+"?token="+token, "")
		if to := w.Header().Get("Location"); !strings.HasPrefix(to, "/stint/") || strings.HasPrefix(to, "//") {
			t.Errorf("%s leads to %q", path, to)
		}
	}
	if one, other := NewToken(), NewToken(); one == other || len(one) != 64 {
		t.Error("tokens are alike, or short")
	}
	for _, short := range []string{"", "secret"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("WithToken(%q) is taken", short)
				}
			}()
			WithToken(short)
		}()
	}
}

// After a form a browser is redirected only to a page of this handler.
func TestNoOpenRedirect(t *testing.T) {
	for _, base := range []string{"", "/stint"} {
		h := &handler{config: config{base: base}}
		for next, want := range map[string]string{
			base + "/":                          base + "/",
			base + "/runs?state=failed&x=//y":   base + "/runs?state=failed&x=//y",
			base + "/tasks/a%2Fb":               base + "/tasks/a%2Fb",
			base + "/runs/../queues":            base + "/queues",
			base + "/queues/":                   base + "/queues/",
			"":                                  "",
			"runs":                              "",
			"//evil.example":                    "",
			"///evil.example":                   "",
			"/\t/evil.example":                  "",
			"/%09/evil.example":                 "",
			"/%0a/evil.example":                 "",
			"/\n/evil.example":                  "",
			"/\\evil.example":                   "",
			"/%5cevil.example":                  "",
			`\\evil.example`:                    "",
			"https://evil.example" + base + "/": "",
			"https:/evil.example":               "",
			"https:evil.example":                "",
			"javascript:alert(1)":               "",
			" //evil.example":                   "",
			"\x00//evil.example":                "",
			"//user@evil.example/":              "",
			"http:" + base + "/":                "",
			"/\u00a0/evil":                      "?", // not a space that browsers pass by
		} {
			got, ok := h.localPath(next)
			if want == "?" {
				continue
			}
			if got != want || ok != (want != "") {
				t.Errorf("base %q: %q leads to %q, %v, want %q", base, next, got, ok, want)
			}
		}
	}
	if got, ok := (&handler{config: config{base: "/stint"}}).localPath("/stint/../evil"); ok {
		t.Errorf("outside of the base: %q", got)
	}
	if got, ok := (&handler{config: config{base: "/stint"}}).localPath("/stinted/"); ok {
		t.Errorf("beside the base: %q", got)
	}
}

// A backup is a new file in the program's backup directory; without one there are no backups.
func TestBackupDir(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	c := guarded(t)
	post := func(h http.Handler, path string) int {
		return try(t, h, "POST", "/api/backup", fmt.Sprintf(`{"path": %q}`, path)).Code
	}
	none := Handler(c, WithLocalAccess())
	if code := post(none, filepath.Join(outside, "a.db")); code != http.StatusBadRequest {
		t.Errorf("without a directory: %d", code)
	}
	h := Handler(c, WithLocalAccess(), WithBackupDir(dir))
	for _, path := range []string{filepath.Join(outside, "a.db"), "../a.db", "..", ".", "/", "sub/a.db", `sub\a.db`, "a.db-wal", "a.db-journal", "a.db-shm", "a.db-stint-0", ".hidden",
		"file:a.db", "a.db?mode=ro", "a b.db", "a\x00.db", "-a.db", filepath.Join(dir, "..", filepath.Base(outside), "a.db"), filepath.Join(dir, "sub", "a.db"), strings.Repeat("a", 101)} {
		if code := post(h, path); code != http.StatusBadRequest {
			t.Errorf("%q: %d", path, code)
		}
	}
	for _, path := range []string{"a.db", filepath.Join(dir, "b.db"), "c-2026.bak"} {
		if code := post(h, path); code != http.StatusOK {
			t.Errorf("%q: %d", path, code)
		}
		if code := post(h, path); code == http.StatusOK {
			t.Errorf("%q is written over", path)
		}
	}
	for where, want := range map[string]int{dir: 3, outside: 0} {
		if files, err := os.ReadDir(where); err != nil || len(files) != want {
			t.Errorf("%d files in %s, want %d, %v", len(files), where, want, err)
		}
	}
	for _, has := range []struct {
		h    http.Handler
		text string
	}{{none, "WithBackupDir"}, {h, `action="/api/backup"`}} {
		page, _ := io.ReadAll(try(t, has.h, "GET", "/health", "").Body)
		if !strings.Contains(string(page), has.text) {
			t.Errorf("no %q on the page", has.text)
		}
	}
}
