package ui

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

//go:embed assets
var files embed.FS

// A view is the content of a page, without what all pages have.
type view struct {
	Title string
	Main  node
	Still bool   // not updated live
	Up    string // the path that Esc opens; "": none
	Bare  bool   // without the rail and the bar at the top, for visitors without access

	timeRange *timeRange // that the page covers; nil: its contents have no time
	AllTime   bool       // without a range that was chosen it covers all time

	path       string       // with its query
	redirect   string       // the path to show instead
	cookie     *http.Cookie // to set with redirect
	rangeQuery url.Values
	openErrors string // how many errors were seen in the range; "": none
}

// A pageFunc makes a page. arg is the path after the page's name, or "".
type pageFunc func(h *handler, ctx context.Context, arg string, q url.Values) (*view, error)

// pages are found by name, the first segment of the path. Those with a title are in the rail, by section,
// and on phones the tabs at the bottom.
var pages = []struct {
	name, title, section, icon string
	tab                        bool
	make                       pageFunc
}{
	{"", "Overview", "Observe", "overview", true, overviewPage},
	{"runs", "Runs", "Observe", "runs", true, runsPage},
	{"errors", "Errors", "Observe", "errors", true, errorsPage},
	{"logs", "Logs", "Observe", "menu", false, logsPage},
	{"tasks", "Tasks", "Build", "tasks", false, tasksPage},
	{"schedules", "Schedules", "Build", "schedules", false, schedulesPage},
	{"events", "Events", "Build", "events", false, eventsPage},
	{"queues", "Queues", "Operate", "queues", true, queuesPage},
	{"limits", "Limits", "Operate", "limits", false, limitsPage},
	{"workers", "Workers", "Operate", "workers", false, workersPage},
	{"alerts", "Alerts", "Operate", "alerts", false, alertsPage},
	{"health", "Health", "Operate", "health", false, healthPage},
	{"confirm", "", "", "", false, confirmPage},
	{"count", "", "", "", false, countPage},
}

func (h *handler) routePages(mux *http.ServeMux) {
	mux.HandleFunc("GET /live", h.live.serve)
	mux.HandleFunc("GET /logs.ndjson", h.downloadLogs)
	mux.HandleFunc("GET /payload.json", h.downloadPayload)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if !h.authorize(w, r, Action{Name: "view"}) {
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			h.writeError(w, r, http.StatusMethodNotAllowed, fmt.Errorf("%s %s is not served; forms post to /api/", r.Method, r.URL.Path))
			return
		}
		done, err := h.acquireSlot(r.Context())
		if err != nil {
			h.writeError(w, r, statusOf(err), err)
			return
		}
		v, err := h.makePage(r.Context(), remembered(r, r.URL))
		var text []byte
		if err == nil && v.redirect == "" {
			over, _ := rangeOf(r.URL.Query(), time.Now()) // makePage has read it
			v.openErrors, err = h.openErrors(r.Context(), over)
		}
		if err == nil && v.redirect == "" {
			text, err = h.render(v)
		}
		done()
		if err != nil {
			h.writeErrorPage(w, statusOf(err), err)
			return
		}
		if v.redirect != "" {
			if v.cookie != nil {
				http.SetCookie(w, v.cookie)
			}
			http.Redirect(w, r, h.base+v.redirect, http.StatusSeeOther)
			return
		}
		h.send(w, http.StatusOK, "text/html; charset=utf-8", text)
	})
}

// makePage returns the page at a URL.
func (h *handler) makePage(ctx context.Context, u *url.URL) (*view, error) {
	escaped := u.EscapedPath() // a name may contain a slash
	name, arg, _ := strings.Cut(strings.Trim(escaped, "/"), "/")
	arg, err := url.PathUnescape(arg)
	if err != nil {
		return nil, errNoPage
	}
	for _, p := range pages {
		if p.name != name {
			continue
		}
		v, err := p.make(h, ctx, unescapeSegment(arg), u.Query())
		if err != nil {
			return nil, err
		}
		r, err := rangeOf(u.Query(), time.Now())
		if err != nil {
			return nil, err
		}
		v.rangeQuery = r.query
		v.path = escaped
		if u.RawQuery != "" {
			v.path += "?" + u.RawQuery
		}
		return v, nil
	}
	return nil, errNoPage
}

// renderMain returns the content of a page as HTML, without what all pages have.
func (h *handler) renderMain(ctx context.Context, u *url.URL) ([]byte, error) {
	done, err := h.acquireSlot(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	v, err := h.makePage(ctx, u)
	if err == nil && v.redirect != "" {
		err = errNoPage
	}
	if err != nil {
		v = h.errorView("Error", err)
	}
	text, renderErr := renderNode(v.Main)
	if errors.Is(renderErr, errPageTooLarge) {
		text, renderErr = renderNode(h.errorView("Error", renderErr).Main)
	}
	if renderErr != nil {
		return nil, renderErr
	}
	return text, err
}

func (h *handler) errorView(title string, err error) *view {
	return &view{Title: title, Still: true, Main: group(
		el("h1", title), el("p.error", err), el("p", h.link("/", "To the overview")))}
}

func (h *handler) writeErrorPage(w http.ResponseWriter, status int, err error) {
	v := h.errorView(http.StatusText(status), err)
	v.Bare = status == http.StatusForbidden
	h.writePage(w, status, v)
}

func (h *handler) writePage(w http.ResponseWriter, status int, v *view) {
	text, err := h.render(v)
	if err != nil {
		http.Error(w, "stint: this page cannot be shown: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h.send(w, status, "text/html; charset=utf-8", text)
}

// render returns a whole page as HTML.
func (h *handler) render(v *view) ([]byte, error) { return renderNode(h.document(v)) }

// renderNode returns a node as HTML, or errPageTooLarge.
func renderNode(n node) ([]byte, error) {
	var b pageBuffer
	err := n.Render(&b)
	return b.Bytes(), err
}

// appName returns the program's name.
func (h *handler) appName() string {
	if h.title != "" {
		return h.title
	}
	if known := h.known.Load(); known != nil {
		return *known
	}
	d, err := h.c.Database(context.Background())
	if err != nil {
		return "stint"
	}
	name := "stint"
	if d.Server != nil {
		name = d.Server.Database
	} else if d.Path != "" {
		name = path.Base(d.Path)
	}
	h.known.Store(&name) // it asks a server once
	return name
}

func (h *handler) routeAssets(mux *http.ServeMux) {
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		panic(fmt.Sprintf("ui: %v", err)) // impossible: it is embedded
	}
	serve := http.StripPrefix("/assets/", http.FileServerFS(assets))
	mux.HandleFunc("GET /assets/", func(w http.ResponseWriter, r *http.Request) {
		if !h.authorize(w, r, Action{Name: "view"}) {
			return
		}
		w.Header().Set("Cache-Control", "private, max-age=3600")
		serve.ServeHTTP(w, r)
	})
}
