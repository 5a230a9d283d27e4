package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
)

// An operation is something that the API does. Pages do it with forms, programs with
// JSON; both come to the same values.
type operation struct {
	Method, Path string
	Name         string // of its Action
	Summary      string
	Params       []string // of the query, or fields of the body; see params
	Result       any      // an example, for its type
	do           func(h *handler, ctx context.Context, in url.Values) (any, error)
}

func (o *operation) write() bool { return o.Method == http.MethodPost }

// A redirect is the result of an operation after which a person sees another page.
type redirect interface{ page() string }

func (h *handler) routeAPI(mux *http.ServeMux) {
	for i := range operations {
		o := &operations[i]
		mux.HandleFunc(o.Method+" "+o.Path, func(w http.ResponseWriter, r *http.Request) { h.operate(w, r, o) })
	}
	mux.HandleFunc("GET /api/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		if !h.may(w, r, Action{Name: "view"}) {
			return
		}
		text, _ := files.ReadFile("assets/openapi.json")
		w.Header().Set("Content-Type", "application/json")
		w.Write(text)
	})
	mux.HandleFunc("GET /metrics", h.metrics)
	mux.HandleFunc("GET /healthz", h.healthz)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		if h.may(w, r, Action{Name: "view"}) {
			h.refuse(w, r, http.StatusNotFound, fmt.Errorf("there is no %s %s; /api/openapi.json lists what there is", r.Method, r.URL.Path))
		}
	})
}

// operate does what a request asks, and answers.
func (h *handler) operate(w http.ResponseWriter, r *http.Request, o *operation) {
	if !h.may(w, r, Action{o.Name, o.write()}) {
		return
	}
	in, err := values(r)
	if err != nil {
		h.refuse(w, r, statusOf(err), err)
		return
	}
	if err := o.knows(in); err != nil {
		h.refuse(w, r, http.StatusBadRequest, err)
		return
	}
	for _, name := range pathNames(o.Path) {
		in.Set(name, unseg(r.PathValue(name)))
	}
	done := func() {}
	if !o.write() {
		if done, err = h.turn(r.Context()); err != nil {
			h.refuse(w, r, statusOf(err), err)
			return
		}
	}
	result, text, err := o.result(h, r.Context(), in)
	done()
	if err != nil {
		h.refuse(w, r, statusOf(err), err)
		return
	}
	if o.write() && wantsHTML(r) {
		h.after(w, r, o, in, result, text)
		return
	}
	h.send(w, http.StatusOK, "application/json", text)
}

// result is what an operation returns, and that as JSON: as a whole, so that no answer breaks
// off after a 200.
func (o *operation) result(h *handler, ctx context.Context, in url.Values) (any, []byte, error) {
	result, err := o.do(h, ctx, in)
	if err != nil {
		return nil, nil, err
	}
	text, err := encode(result)
	return result, text, err
}

// pageFields are what forms carry for the pages alone.
var pageFields = []string{"next", "done"}

// knows returns an error if there is a field that the operation does not have: to pass it
// by would do something else than what was meant.
func (o *operation) knows(in url.Values) error {
	for name := range in {
		if !slices.Contains(o.Params, name) && !(o.write() && slices.Contains(pageFields, name)) {
			return fmt.Errorf("there is no %.64q here; %s %s takes: %s", name, o.Method, o.Path, strings.Join(o.Params, ", "))
		}
	}
	return nil
}

// after shows a person what a form did: the page that it came from, or the result.
func (h *handler) after(w http.ResponseWriter, r *http.Request, o *operation, in url.Values, result any, text []byte) {
	if to, ok := result.(redirect); ok {
		http.Redirect(w, r, h.base+to.page(), http.StatusSeeOther)
		return
	}
	if count, ok := result.(wireCount); ok && in.Get("paced") != "" {
		if a, ok := bulkActionOf(o.Name); ok {
			h.write(w, http.StatusOK, h.progressPage(a, in, count))
			return
		}
	}
	if next, ok := h.inside(in.Get("next")); ok {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	h.write(w, http.StatusOK, &view{Title: o.Summary, Still: true, Main: all(el("h1", o.Summary), jsonTree(text, wholeTree), el("p", h.link("/", "To the overview")))})
}

// pathNames are the names in a pattern's braces.
func pathNames(pattern string) (names []string) {
	for part := range strings.SplitSeq(pattern, "/") {
		if strings.HasPrefix(part, "{") {
			names = append(names, strings.Trim(part, "{}"))
		}
	}
	return names
}

// raws are the fields that are JSON of the app's, whatever it is.
var raws = map[string]bool{"input": true, "payload": true}

// empties are the fields whose empty text says something: a limit may have an empty name or
// key, and a cursor that is empty is the beginning.
var empties = map[string]bool{"limit_name": true, "limit_key": true, "cursor": true}

// values reads what a request says: its query, or the form or the JSON object that is its
// body. In JSON, a list stands for a name with several values, and metadata is an object; a
// text that is empty is an error, and null is as if the field was left out. A form's fields
// that are empty are those that nobody filled in.
func values(r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		return r.URL.Query(), nil
	}
	if r.URL.RawQuery != "" {
		return nil, fmt.Errorf("?%s: POST takes its fields in the body", r.URL.RawQuery)
	}
	body, err := bodyOf(r)
	if err != nil {
		return nil, err
	}
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); {
	case kind == "application/json", len(body) == 0:
		return objectOf(body)
	case kind != "application/x-www-form-urlencoded":
		return nil, fmt.Errorf("the body: Content-Type %q: want application/json", r.Header.Get("Content-Type"))
	}
	if n := bytes.Count(body, []byte("&")); n >= maxValues {
		return nil, fmt.Errorf("the form: %w: %d values, want at most %d", errLarge, n+1, maxValues)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if r.ParseForm() != nil { // whose error quotes it
		return nil, errors.New("the form: want it URL-encoded")
	}
	return r.PostForm, nil
}

// errLarge is that a request's body has too much in it.
var errLarge = errors.New("too large")

// bodyOf reads a request's body.
func bodyOf(r *http.Request) ([]byte, error) {
	var b bytes.Buffer
	large := fmt.Errorf("the body: %w: want at most %d bytes", errLarge, maxBody)
	if r.ContentLength > maxBody {
		return nil, large
	}
	if r.ContentLength > 0 {
		b.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	_, err := b.ReadFrom(r.Body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, large
	}
	if err != nil {
		return nil, fmt.Errorf("the body: %w", err)
	}
	return b.Bytes(), nil
}

// objectOf reads the fields of a JSON object, which are few: so no more are kept than an
// operation may have.
func objectOf(body []byte) (url.Values, error) {
	in := url.Values{}
	if len(body) == 0 {
		return in, nil
	}
	want := func(err error) error { return fmt.Errorf("the body: want a JSON object: %w", err) }
	if !json.Valid(body) {
		var fields map[string]json.RawMessage
		return nil, want(jsonx.DecodeError(json.Unmarshal(body, &fields), body, reflect.TypeOf(fields)))
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, want(fmt.Errorf("it begins with %.1q", bytes.TrimSpace(body)))
	}
	for n := 1; d.More(); n++ {
		if n > maxFields {
			return nil, fmt.Errorf("the body: %w: more than %d fields", errLarge, maxFields)
		}
		t, err := d.Token()
		if err != nil {
			return nil, want(err)
		}
		name, _ := t.(string)
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, want(err)
		}
		delete(in, name) // of a field that is there twice the last counts
		if raws[name] {
			in.Set(name, string(raw))
			continue
		}
		if n := bytes.Count(raw, []byte(",")); n >= maxValues {
			return nil, fmt.Errorf("%s: %w: want at most %d values", text.Cut(name, 64), errLarge, maxValues)
		}
		if err := flatten(in, name, raw); err != nil {
			return nil, err
		}
		if string(bytes.TrimSpace(raw)) == `""` && !empties[name] {
			return nil, fmt.Errorf("%s is empty: name something, or leave it out", text.Cut(name, 64))
		}
	}
	return in, nil
}

// flatten puts a field of a JSON object where a form's field would be. A number keeps the
// digits that it is written with.
func flatten(in url.Values, name string, raw json.RawMessage) error {
	value, err := jsonx.Decode(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch v := value.(type) {
	case nil: // it is there, as is an empty list, and has nothing
		in[name] = []string{}
	case bool:
		in.Set(name, fmt.Sprint(v))
	case []any:
		in[name] = []string{}
		for _, x := range v {
			text, err := textOf(x)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			in.Add(name, text)
		}
	case map[string]any:
		in[name] = []string{}
		for k, x := range v {
			text, err := textOf(x)
			if err != nil {
				return fmt.Errorf("%s: %q: %w", name, k, err)
			}
			in.Add(name, pairOf(k, text))
		}
	default:
		text, err := textOf(v)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		in.Set(name, text)
	}
	return nil
}

// pairOf is a pair of metadata as filterOf reads it: KEY=VALUE, or if the key has a = in
// it, or could be taken for JSON, a JSON object.
func pairOf(k, v string) string {
	if !strings.Contains(k, "=") && !strings.HasPrefix(strings.TrimSpace(k), "{") {
		return k + "=" + v
	}
	b, _ := json.Marshal(map[string]string{k: v}) // texts always encode
	return string(b)
}

// textOf is a value of JSON, as a form would have it.
func textOf(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number, bool:
		return fmt.Sprint(v), nil
	}
	return "", errors.New("want a text, a number, true or false")
}

// need is a value that must be there.
func need(in url.Values, name string) (string, error) {
	if v := in.Get(name); v != "" {
		return v, nil
	}
	return "", fmt.Errorf("%s is missing", name)
}

// isTrue reads a field that is true or false.
func isTrue(in url.Values, name string) (bool, error) {
	switch v := in.Get(name); v {
	case "true", "1", "on":
		return true, nil
	case "", "false", "0":
		return false, nil
	default:
		return false, fmt.Errorf("%s %q: want true or false", name, v)
	}
}
