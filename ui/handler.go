package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/alert"
)

// An Action says what a request wants to do.
type Action struct {
	Name  string // "view", "metrics", "healthz", or an action of the API: "runs.cancel", "queues.pause", ...
	Write bool   // whether it changes something
}

// An Option configures a handler.
type Option func(*config)

type config struct {
	base       string
	authorizer func(*http.Request, Action) error
	redact     func(Payload) json.RawMessage
	readOnly   bool
	title      string
	alerts     *alert.Alerts // nil: none
	backupDir  string        // "": no backups

	// Who has access if authorizer is nil. See access.go.
	token       string
	localAccess bool
}

// WithBasePath sets the path at which the handler is mounted, such as "/stint". The default
// is the root, "/".
func WithBasePath(path string) Option {
	return func(c *config) { c.base = "/" + strings.Trim(path, "/"); c.base = strings.TrimSuffix(c.base, "/") }
}

// WithAuthorize calls f for each request, from any machine. If f returns an error, the request
// is refused with status 403, and the user sees the error's text; if f panics, with status 500.
// Otherwise the request may do the action. WithToken and WithLocalAccess then have no effect.
func WithAuthorize(f func(*http.Request, Action) error) Option {
	return func(c *config) { c.authorizer = f }
}

// WithReadOnly refuses every action that changes something. It is always on for a client that
// was opened with stint.WithReadOnly.
func WithReadOnly() Option { return func(c *config) { c.readOnly = true } }

// WithBackupDir sets the directory to which the action "backup" writes new files. Without it
// the page and the API make no backups.
func WithBackupDir(dir string) Option { return func(c *config) { c.backupDir = dir } }

// WithTitle sets the program's name on pages. The default is the name of its database file.
func WithTitle(title string) Option { return func(c *config) { c.title = title } }

// WithAlerts adds the rules and sinks of a to the page and the API.
func WithAlerts(a *alert.Alerts) Option { return func(c *config) { c.alerts = a } }

// handler holds what all requests share.
type handler struct {
	config
	c    *stint.Client
	live *live
	// See bounds.go.
	sendBudget budget
	slots      chan struct{}
	known      atomic.Pointer[string] // the cache of appName
	names      struct {               // the cache of taskNames
		sync.Mutex
		all []string
		at  time.Time
	}
}

// maxBody limits a request's body, in bytes.
const maxBody = 8 << 20

// Handler returns the web UI and the JSON API of a client. It refuses every request, also for
// /healthz and /metrics, unless WithAuthorize, WithToken or WithLocalAccess says who has access.
func Handler(c *stint.Client, opts ...Option) http.Handler {
	h := &handler{c: c, sendBudget: budget{max: maxUnsent}, slots: make(chan struct{}, maxRendering)}
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
		h.writeError(w, r, http.StatusForbidden, errCrossSite)
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
			err := fmt.Errorf("a query of %d bytes: want at most %d; actions on many runs take a body", n, maxQuery)
			h.writeError(w, r, http.StatusRequestURITooLong, err)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		http.StripPrefix(h.base, guarded).ServeHTTP(w, r)
	})
}

var errCrossSite = errors.New("a request of another site: send it from this page, " +
	"or from a program without the headers Origin and Sec-Fetch-Site")

// setSecurityHeaders sets the headers of every response. Pages have no inline scripts or
// styles, and the policy forbids them, so a payload cannot bring any.
func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
		"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// authorize reports whether the request may do an action. If not, it has answered the request.
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
			refused = errors.New(err.Error()) // here, since methods of err may panic
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

// statusOf returns the HTTP status for an error of the client.
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

// writeError answers with an error: a page for browsers, problem details (RFC 9457) for programs.
func (h *handler) writeError(w http.ResponseWriter, r *http.Request, status int, err error) {
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryAfter)
	}
	if wantsHTML(r) {
		h.writeErrorPage(w, status, err)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": err.Error(),
	})
}

// wantsHTML reports whether a browser made the request.
func wantsHTML(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}
