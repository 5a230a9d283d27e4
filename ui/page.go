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

	g "maragu.dev/gomponents"
)

//go:embed assets
var files embed.FS

// A view is a page, but for what stands around it on all.
type view struct {
	Title string
	Main  node
	Still bool   // it does not change by itself
	Up    string // where Esc leads; "": nowhere
	Bare  bool   // for who may not come in: it names nothing
	path  string // with its query
}

// A pageFunc makes a page. arg is the rest of the path, if there is one.
type pageFunc func(h *handler, ctx context.Context, arg string, q url.Values) (*view, error)

// pages are named by the first part of their path, and stand in the navigation if they
// have a title.
var pages = []struct {
	name, title string
	make        pageFunc
}{
	{"", "Overview", overviewPage},
	{"runs", "Runs", runsPage},
	{"tasks", "Tasks", tasksPage},
	{"queues", "Queues", queuesPage},
	{"limits", "Limits", limitsPage},
	{"workers", "Workers", workersPage},
	{"schedules", "Schedules", schedulesPage},
	{"events", "Events", eventsPage},
	{"alerts", "Alerts", alertsPage},
	{"health", "Health", healthPage},
	{"confirm", "", confirmPage},
}

func (h *handler) routePages(mux *http.ServeMux) {
	mux.HandleFunc("GET /live", h.live.serve)
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
		v, err := h.makePage(r.Context(), r.URL)
		var text []byte
		if err == nil {
			text, err = h.render(v)
		}
		done()
		if err != nil {
			h.errorPage(w, statusOf(err), err)
			return
		}
		h.send(w, http.StatusOK, "text/html; charset=utf-8", text)
	})
}

// makePage makes the page at a URL.
func (h *handler) makePage(ctx context.Context, u *url.URL) (*view, error) {
	escaped := u.EscapedPath() // a name may have a slash in it
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
		v.path = escaped
		if u.RawQuery != "" {
			v.path += "?" + u.RawQuery
		}
		return v, nil
	}
	return nil, errNoPage
}

// renderMain is the content of a page, without what stands around it.
func (h *handler) renderMain(ctx context.Context, u *url.URL) ([]byte, error) {
	done, err := h.acquireSlot(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	v, err := h.makePage(ctx, u)
	if err != nil {
		v = h.errorView("Error", err)
	}
	text, renderErr := rendered(v.Main)
	if errors.Is(renderErr, errPageTooLarge) {
		text, renderErr = rendered(h.errorView("Error", renderErr).Main)
	}
	if renderErr != nil {
		return nil, renderErr
	}
	return text, err
}

func (h *handler) errorView(title string, err error) *view {
	return &view{Title: title, Still: true, Main: group(el("h1", title), el("p.error", err), el("p", h.link("/", "To the overview")))}
}

func (h *handler) errorPage(w http.ResponseWriter, status int, err error) {
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

// render is a whole page.
func (h *handler) render(v *view) ([]byte, error) { return rendered(h.around(v)) }

// rendered is what a node is written as, or errLargePage.
func rendered(n node) ([]byte, error) {
	var b pageBuffer
	err := n.Render(&b)
	return b.Bytes(), err
}

// app is what the program is called.
func (h *handler) app() string {
	if h.title != "" {
		return h.title
	}
	if d, err := h.c.Database(context.Background()); err == nil && d.Path != "" {
		return path.Base(d.Path)
	}
	return "stint"
}

// around is a whole page.
func (h *handler) around(v *view) node {
	if v.Bare {
		return group(g.Raw("<!doctype html>"), el("html", attr("lang", "en"), el("head", el("meta", attr("charset", "utf-8")), el("title", v.Title)), el("body", el("main", v.Main))))
	}
	app := h.app()
	live := when(!v.Still && v.path != "", attr("data-live", h.base+"/live?url="+url.QueryEscape(v.path)))
	script := func(name string) node { return el("script", attr("src", h.base+"/assets/"+name), attr("defer")) }
	return group(g.Raw("<!doctype html>"), el("html", attr("lang", "en"), attr("data-base", h.base), live,
		el("head",
			el("meta", attr("charset", "utf-8")),
			el("meta", attr("name", "viewport"), attr("content", "width=device-width, initial-scale=1")),
			el("title", v.Title+" · "+app),
			el("link", attr("rel", "icon"), attr("href", h.base+"/assets/icon.svg")),
			el("link", attr("rel", "stylesheet"), attr("href", h.base+"/assets/style.css")),
			script("idiomorph.js"), script("app.js")),
		el("body",
			el("a.skip", attr("href", "#main"), "Skip to content"),
			el("div.banner", attr("id", "lost"), attr("role", "status"), attr("hidden"), "The live connection is lost. What you see may be old; this page is trying to connect again."),
			el("header", el("span.app", app), h.navigation(v),
				el("button", attr("type", "button"), attr("id", "open-palette"), attr("aria-keyshortcuts", "/"), "Go to… ", el("kbd", "/"))),
			el("main", attr("id", "main"), attr("tabindex", "-1"), when(v.Up != "", attr("data-up", h.base+v.Up)), v.Main),
			el("footer", "Live: changes show as they are committed.", when(h.readOnly, " This page is read-only."), " Keys: ", el("kbd", "/"), " go to, ", el("kbd", "j"), " ", el("kbd", "k"), " move in a list, ", el("kbd", "Enter"), " open, ", el("kbd", "Esc"), " back."),
			el("dialog", attr("id", "palette"), attr("aria-label", "Go to"),
				el("input", attr("type", "search"), attr("aria-label", "A page, a task, a run's ID"), attr("placeholder", "A page, a task, a run's ID"), attr("autocomplete", "off")),
				el("ul", attr("role", "listbox"), attr("aria-label", "Found"))))))
}

func (h *handler) navigation(v *view) node {
	here, _, _ := strings.Cut(strings.Trim(v.path, "/"), "/")
	here, _, _ = strings.Cut(here, "?")
	var links []any
	for _, p := range pages {
		if p.title != "" {
			links = append(links, h.link("/"+p.name, p.title, when(p.name == here && v.path != "", attr("aria-current", "page"))))
		}
	}
	return el("nav", append(links, attr("aria-label", "Pages"))...)
}

func (h *handler) routeAssets(mux *http.ServeMux) {
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		panic(fmt.Sprintf("ui: %v", err)) // it is embedded
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
