package ui

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

//go:embed templates assets
var files embed.FS

// A view is a page before it is written: the name of its template, and what that shows.
type view struct {
	Title string
	Name  string // of the template, and of the entry of the navigation
	Data  any
	Still bool // it does not change by itself

	h    *handler
	path string
}

// Nav is the navigation, in order.
func (v *view) Nav() [][2]string {
	return [][2]string{
		{"overview", "Overview"}, {"runs", "Runs"}, {"tasks", "Tasks"}, {"queues", "Queues"}, {"limits", "Limits"}, {"workers", "Workers"},
		{"schedules", "Schedules"}, {"events", "Events"}, {"alerts", "Alerts"}, {"health", "Health"},
	}
}

// Base is the path that links begin with.
func (v *view) Base() string { return v.h.base }

// ReadOnly says that nothing can be changed.
func (v *view) ReadOnly() bool { return v.h.readOnly }

// Live is where the browser hears of changes; empty for a page that has none.
func (v *view) Live() string {
	if v.Still {
		return ""
	}
	return v.h.base + "/live?url=" + url.QueryEscape(v.path)
}

// App is what the program is called.
func (v *view) App() string {
	if v.h.title != "" {
		return v.h.title
	}
	if d, err := v.h.c.Database(context.Background()); err == nil && d.Path != "" {
		return path.Base(d.Path)
	}
	return "stint"
}

// A pageFunc gathers what a page shows. arg is the rest of the path, if there is one.
type pageFunc func(h *handler, ctx context.Context, arg string, q url.Values) (*view, error)

// pages are named by the first part of their path.
var pages = map[string]pageFunc{
	"":          overviewPage,
	"runs":      runsPage,
	"tasks":     tasksPage,
	"queues":    queuesPage,
	"limits":    limitsPage,
	"workers":   workersPage,
	"schedules": schedulesPage,
	"events":    eventsPage,
	"alerts":    alertsPage,
	"health":    healthPage,
	"confirm":   confirmPage,
}

func (h *handler) routePages(mux *http.ServeMux) {
	mux.HandleFunc("GET /live", h.live.serve)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		if !h.may(w, r, Action{Name: "view"}) {
			return
		}
		v, err := h.find(r.Context(), r.URL)
		if err != nil {
			h.errorPage(w, statusOf(err), err)
			return
		}
		h.write(w, http.StatusOK, "base", v)
	})
}

// find gathers what the page at a URL shows.
func (h *handler) find(ctx context.Context, u *url.URL) (*view, error) {
	name, arg, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	f := pages[name]
	if f == nil {
		return nil, errNoPage
	}
	v, err := f(h, ctx, arg, u.Query())
	if err != nil {
		return nil, err
	}
	v.h, v.path = h, u.Path
	if u.RawQuery != "" {
		v.path += "?" + u.RawQuery
	}
	return v, nil
}

// renderMain is the content of a page, without what stands around it.
func (h *handler) renderMain(ctx context.Context, u *url.URL) ([]byte, error) {
	v, err := h.find(ctx, u)
	if err != nil {
		v = &view{Title: "Error", Name: "error", Data: err.Error(), h: h}
	}
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, v.Name, v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), err
}

func (h *handler) errorPage(w http.ResponseWriter, status int, err error) {
	h.write(w, status, "base", &view{Title: http.StatusText(status), Name: "error", Data: err.Error(), Still: true, h: h})
}

func (h *handler) write(w http.ResponseWriter, status int, name string, v *view) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, v); err != nil {
		http.Error(w, "stint: this page cannot be shown: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// templates are parsed once; base has the page that v.Name names in it.
var templates = func() *template.Template {
	t := template.New("").Funcs(funcs)
	t.Funcs(template.FuncMap{"main": func(v *view) (template.HTML, error) {
		var b bytes.Buffer
		err := t.ExecuteTemplate(&b, v.Name, v)
		return template.HTML(bytes.TrimSpace(b.Bytes())), err // made by a template, which escapes
	}})
	return template.Must(t.ParseFS(files, "templates/*.html"))
}()

func (h *handler) routeAssets(mux *http.ServeMux) {
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		panic(fmt.Sprintf("ui: %v", err)) // it is embedded
	}
	serve := http.StripPrefix("/assets/", http.FileServerFS(assets))
	mux.HandleFunc("GET /assets/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		serve.ServeHTTP(w, r)
	})
}

// at is a time as pages write it for readers without scripts.
func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05.000 MST")
}
