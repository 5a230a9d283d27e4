package ui

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// An operation is a call of the API. Pages make it with a form, programs with JSON; both are
// read into the same url.Values.
type operation struct {
	Method, Path string
	Name         string // of its Action
	Summary      string
	Params       []string // fields of the query, or of the body
	Result       any      // a value of the type that do returns
	do           operationFunc
}

type operationFunc func(h *handler, ctx context.Context, in url.Values) (any, error)

func (o *operation) write() bool { return o.Method == http.MethodPost }

// A redirect is a result that browsers show by another page.
type redirect interface{ page() string }

func (h *handler) routeAPI(mux *http.ServeMux) {
	for i := range operations {
		o := &operations[i]
		mux.HandleFunc(o.Method+" "+o.Path, func(w http.ResponseWriter, r *http.Request) { h.serveOperation(w, r, o) })
	}
	mux.HandleFunc("GET /api/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		if !h.authorize(w, r, Action{Name: "view"}) {
			return
		}
		text, _ := files.ReadFile("assets/openapi.json")
		w.Header().Set("Content-Type", "application/json")
		w.Write(text)
	})
	mux.HandleFunc("GET /metrics", h.metrics)
	mux.HandleFunc("GET /healthz", h.healthz)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		if h.authorize(w, r, Action{Name: "view"}) {
			err := fmt.Errorf("there is no %s %s; /api/openapi.json lists what there is", r.Method, r.URL.Path)
			h.writeError(w, r, http.StatusNotFound, err)
		}
	})
}

// serveOperation reads a request, does the operation, and answers.
func (h *handler) serveOperation(w http.ResponseWriter, r *http.Request, o *operation) {
	if !h.authorize(w, r, Action{o.Name, o.write()}) {
		return
	}
	in, err := requestValues(r)
	if err != nil {
		h.writeError(w, r, statusOf(err), err)
		return
	}
	if err := o.checkFields(in); err != nil {
		h.writeError(w, r, http.StatusBadRequest, err)
		return
	}
	for _, name := range pathNames(o.Path) {
		in.Set(name, unescapeSegment(r.PathValue(name)))
	}
	if o.Path == streamPath && wantsEvents(r) {
		h.followStream(w, r, in)
		return
	}
	done := func() {}
	if !o.write() {
		if done, err = h.acquireSlot(r.Context()); err != nil {
			h.writeError(w, r, statusOf(err), err)
			return
		}
	}
	result, text, err := o.result(h, r.Context(), in)
	done()
	if err != nil {
		h.writeError(w, r, statusOf(err), err)
		return
	}
	if o.write() && wantsHTML(r) {
		h.answerForm(w, r, o, in, result, text)
		return
	}
	h.send(w, http.StatusOK, "application/json", text)
}

// result does the operation and encodes its result. All of it is encoded before the answer
// begins, so that an error never follows a status 200.
func (o *operation) result(h *handler, ctx context.Context, in url.Values) (any, []byte, error) {
	result, err := o.do(h, ctx, in)
	if err != nil {
		return nil, nil, err
	}
	text, err := encode(result)
	return result, text, err
}

// pageOnlyFields are fields of forms that only pages read.
var pageOnlyFields = []string{"next", "done"}

// checkFields returns an error if the request has a field that the operation does not know: to
// ignore it would do something other than what the caller meant.
func (o *operation) checkFields(in url.Values) error {
	for name := range in {
		if !slices.Contains(o.Params, name) && !(o.write() && slices.Contains(pageOnlyFields, name)) {
			return fmt.Errorf("there is no %.64q here; %s %s takes: %s", name, o.Method, o.Path, strings.Join(o.Params, ", "))
		}
	}
	return nil
}

// answerForm answers a form: with the page that it names as next, or with the result.
func (h *handler) answerForm(w http.ResponseWriter, r *http.Request, o *operation, in url.Values, result any, text []byte) {
	if to, ok := result.(redirect); ok {
		http.Redirect(w, r, h.base+to.page(), http.StatusSeeOther)
		return
	}
	if count, ok := result.(wireCount); ok && in.Get("paced") != "" {
		if a, ok := bulkActionOf(o.Name); ok {
			h.writePage(w, http.StatusOK, h.progressPage(a, in, count))
			return
		}
	}
	if next, ok := h.localPath(in.Get("next")); ok {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	h.writePage(w, http.StatusOK, &view{Title: o.Summary, Still: true, Main: group(
		el("h1", o.Summary), jsonTree(text, wholeTree), el("p", h.link("/", "To the overview")))})
}

// pathNames returns the names in a pattern's braces.
func pathNames(pattern string) (names []string) {
	for part := range strings.SplitSeq(pattern, "/") {
		if strings.HasPrefix(part, "{") {
			names = append(names, strings.Trim(part, "{}"))
		}
	}
	return names
}
