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

// A view is the content of a page, without header, navigation and footer.
type view struct {
	Title string
	Main  node
	Still bool   // not updated live
	Up    string // the path that Esc opens; "": none
	Bare  bool   // without header and navigation, for visitors without access
	path  string // with its query
}

// A pageFunc makes a page. arg is the path after the page's name, or "".
type pageFunc func(h *handler, ctx context.Context, arg string, q url.Values) (*view, error)

// pages are found by name, the first segment of the path. Those with a title are in the
// navigation.
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
			h.writeErrorPage(w, statusOf(err), err)
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
		v.path = escaped
		if u.RawQuery != "" {
			v.path += "?" + u.RawQuery
		}
		return v, nil
	}
	return nil, errNoPage
}

// renderMain returns the content of a page as HTML, without header, navigation and footer.
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

// document returns a whole page: v with header, navigation and footer.
func (h *handler) document(v *view) node {
	doctype, charset := g.Raw("<!doctype html>"), el("meta", attr("charset", "utf-8"))
	if v.Bare {
		return group(doctype, el("html", attr("lang", "en"), el("head", charset, el("title", v.Title)), el("body", el("main", v.Main))))
	}
	app := h.appName()
	live := when(!v.Still && v.path != "", attr("data-live", h.base+"/live?url="+url.QueryEscape(v.path)))
	script := func(name string) node { return el("script", attr("src", h.base+"/assets/"+name), attr("defer")) }
	return group(doctype, el("html", attr("lang", "en"), attr("data-base", h.base), live,
		el("head", charset,
			el("meta", attr("name", "viewport"), attr("content", "width=device-width, initial-scale=1")),
			el("title", v.Title+" · "+app),
			el("link", attr("rel", "icon"), attr("href", h.base+"/assets/icon.svg")),
			el("link", attr("rel", "stylesheet"), attr("href", h.base+"/assets/style.css")),
			script("idiomorph.js"), script("app.js")),
		el("body",
			el("a.skip", attr("href", "#main"), "Skip to content"),
			el("div.banner", attr("id", "lost"), attr("role", "status"), attr("hidden"),
				"The live connection is lost, so this page may be out of date. It is reconnecting."),
			el("header", el("span.app", app), h.navigation(v),
				el("button", attr("type", "button"), attr("id", "open-palette"), attr("aria-keyshortcuts", "/"),
					"Go to… ", el("kbd", "/"))),
			el("main", attr("id", "main"), attr("tabindex", "-1"), when(v.Up != "", attr("data-up", h.base+v.Up)), v.Main),
			h.footer(), palette())))
}

func (h *handler) footer() node {
	key := func(name string) node { return el("kbd", name) }
	return el("footer", "Live: changes show as they are committed.", when(h.readOnly, " This page is read-only."),
		" Keys: ", key("/"), " go to, ", key("j"), " ", key("k"), " move in a list, ", key("Enter"), " open, ", key("Esc"), " back.")
}

// palette is the dialog that the key / opens: app.js fills it with pages, tasks and runs.
func palette() node {
	const hint = "A page, a task, a run's ID"
	return el("dialog", attr("id", "palette"), attr("aria-label", "Go to"),
		el("input", attr("type", "search"), attr("aria-label", hint), attr("placeholder", hint), attr("autocomplete", "off")),
		el("ul", attr("role", "listbox"), attr("aria-label", "Found")))
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
