package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/alert"
)

// An Action is what a request asks for.
type Action struct {
	Name  string // "view", or as the API names it: "runs.cancel", "queues.pause", ...
	Write bool   // it changes something
}

// An Option changes a handler.
type Option func(*config)

type config struct {
	base       string
	authorizer func(*http.Request, Action) error
	redact     func(Payload) json.RawMessage
	readOnly   bool
	title      string
	alerts     *alert.Alerts // nil: none
	backupDir  string        // "": the page makes no backups

	// Without authorize: who comes in. See access.go.
	token       string
	localAccess bool
}

// WithBasePath says where the handler is mounted: "/stint". The default is the root.
func WithBasePath(path string) Option {
	return func(c *config) { c.base = "/" + strings.Trim(path, "/"); c.base = strings.TrimSuffix(c.base, "/") }
}

// WithAuthorize asks f about each request, from wherever it comes. An error refuses it,
// with status 403; the user sees its text. A panic of f refuses it too, with status 500.
// Whoever f lets pass may see, and do, what the action says. WithToken and WithLocalAccess
// are without effect beside it.
func WithAuthorize(f func(*http.Request, Action) error) Option {
	return func(c *config) { c.authorizer = f }
}

// WithReadOnly refuses every action that changes something. It is on for a client
// stint.WithReadOnly.
func WithReadOnly() Option { return func(c *config) { c.readOnly = true } }

// WithBackupDir has the action "backup" write new files to a directory, and nowhere else.
// Without it the page and the API make no backups.
func WithBackupDir(dir string) Option { return func(c *config) { c.backupDir = dir } }

// WithTitle is what pages call the program. The default is the name of its database file.
func WithTitle(title string) Option { return func(c *config) { c.title = title } }

// WithAlerts shows the rules and sinks of alerts.
func WithAlerts(a *alert.Alerts) Option { return func(c *config) { c.alerts = a } }

// handler is everything that requests share.
type handler struct {
	config
	c    *stint.Client
	live *live
	// See bounds.go.
	sendBudget budget
	slots      chan struct{}
	names      struct { // see taskNames
		sync.Mutex
		all []string
		at  time.Time
	}
}

// maxBody is how large a request's body may be, in bytes.
const maxBody = 8 << 20

// Handler returns the web UI and the JSON API of a client. It refuses every request unless
// an option says who may come in: WithAuthorize, WithToken or WithLocalAccess. That holds
// for all that it serves, /healthz and /metrics too.
func Handler(c *stint.Client, opts ...Option) http.Handler {
	h := &handler{c: c, sendBudget: budget{max: maxSending}, slots: make(chan struct{}, maxWorking)}
	for _, o := range opts {
		o(&h.config)
	}
	h.readOnly = h.readOnly || c.ReadOnly()
	h.live = newLive(h)
	mux := http.NewServeMux()
	h.routePages(mux)
	h.routeAPI(mux)
	h.routeAssets(mux)
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.writeError(w, r, http.StatusForbidden, errors.New("a request of another site: send it from this page, or from a program without the headers Origin and Sec-Fetch-Site"))
	}))
	guarded := protection.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setSecurityHeaders(w.Header())
		if !h.admit(w, r) {
			return
		}
		if r.URL.Path == h.base {
			http.Redirect(w, r, h.base+"/", http.StatusMovedPermanently)
			return
		}
		if n := len(r.URL.RawQuery); n > maxQuery {
			h.writeError(w, r, http.StatusRequestURITooLong, fmt.Errorf("a query of %d bytes: want at most %d; actions on many runs take a body", n, maxQuery))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		http.StripPrefix(h.base, guarded).ServeHTTP(w, r)
	})
}

// setSecurityHeaders sets the headers of every response. No script and no style stands in a page
// itself, so none that a payload brings can run.
func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// authorize reports whether the request may do an action; if not, it has been answered.
func (h *handler) authorize(w http.ResponseWriter, r *http.Request, a Action) bool {
	if a.Write && h.readOnly {
		h.writeError(w, r, http.StatusForbidden, errors.New("this page is read-only"))
		return false
	}
	if h.authorizer == nil {
		return true
	}
	var refused error
	if !callApp("WithAuthorize", func() {
		if err := h.authorizer(r, a); err != nil {
			refused = errors.New(err.Error()) // whose own methods may panic
		}
	}) {
		h.writeError(w, r, http.StatusInternalServerError, errors.New("the program's WithAuthorize panicked: see its log"))
		return false
	}
	if refused != nil {
		h.writeError(w, r, http.StatusForbidden, refused)
	}
	return refused == nil
}

// statusOf is the HTTP status of an error of the client's.
func statusOf(err error) int {
	switch {
	case errors.Is(err, errTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, stint.ErrNotFound), errors.Is(err, errNoPage):
		return http.StatusNotFound
	case errors.Is(err, stint.ErrTaken), errors.Is(err, stint.ErrStarted):
		return http.StatusConflict
	case errors.Is(err, stint.ErrClosed), errors.Is(err, stint.ErrBusy), errors.Is(err, errOverloaded),
		errors.Is(err, stint.ErrFileGone), errors.Is(err, stint.ErrReplaced):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// writeError answers with an error: a page for people, problem details for programs.
func (h *handler) writeError(w http.ResponseWriter, r *http.Request, status int, err error) {
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryAfter)
	}
	if wantsHTML(r) {
		h.errorPage(w, status, err)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": err.Error()})
}

// wantsHTML reports whether a person asks, with a browser.
func wantsHTML(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}
