package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
)

// rawFields are the fields whose value is any JSON.
var rawFields = map[string]bool{"input": true, "payload": true}

// emptyAllowed are the fields that may be "": a limit may have an empty name or key, and an
// empty cursor is the beginning.
var emptyAllowed = map[string]bool{"limit_name": true, "limit_key": true, "cursor": true}

// requestValues reads the fields of a request: the query of a GET; of a POST the body, a form or
// a JSON object. In JSON, a list gives a field several values, metadata is an object, an empty
// string is an error, and null counts as left out. In a form, empty fields are allowed: they are
// those that the user did not fill in.
func requestValues(r *http.Request) (url.Values, error) {
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
		return nil, fmt.Errorf("the form: %w: %d values, want at most %d", errTooLarge, n+1, maxValues)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if r.ParseForm() != nil { // its error would quote the body
		return nil, errors.New("the form: want it URL-encoded")
	}
	return r.PostForm, nil
}

// errTooLarge is the error for a body of too many bytes, fields or values.
var errTooLarge = errors.New("too large")

// bodyOf reads a request's body.
func bodyOf(r *http.Request) ([]byte, error) {
	var b bytes.Buffer
	large := fmt.Errorf("the body: %w: want at most %d bytes", errTooLarge, maxBody)
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

// objectOf reads the fields of a JSON object, at most maxFields, so that a large body cannot
// make a large map.
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
			return nil, fmt.Errorf("the body: %w: more than %d fields", errTooLarge, maxFields)
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
		delete(in, name) // the last of two equal fields counts
		if rawFields[name] {
			in.Set(name, string(raw))
			continue
		}
		if n := bytes.Count(raw, []byte(",")); n >= maxValues {
			return nil, fmt.Errorf("%s: %w: want at most %d values", text.Cut(name, 64), errTooLarge, maxValues)
		}
		if err := flatten(in, name, raw); err != nil {
			return nil, err
		}
		if string(bytes.TrimSpace(raw)) == `""` && !emptyAllowed[name] {
			return nil, fmt.Errorf("%s is empty: name something, or leave it out", text.Cut(name, 64))
		}
	}
	return in, nil
}

// flatten adds a field of a JSON object to in, as a form would. Numbers keep their digits.
func flatten(in url.Values, name string, raw json.RawMessage) error {
	value, err := jsonx.Decode(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch v := value.(type) {
	case nil: // present without a value, like an empty list
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

// pairOf returns a pair of metadata in the form that filterOf reads: KEY=VALUE, or a JSON object
// if the key contains = or begins like JSON.
func pairOf(k, v string) string {
	if !strings.Contains(k, "=") && !strings.HasPrefix(strings.TrimSpace(k), "{") {
		return k + "=" + v
	}
	b, _ := json.Marshal(map[string]string{k: v}) // never fails
	return string(b)
}

// textOf returns a JSON value as a form would send it.
func textOf(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number, bool:
		return fmt.Sprint(v), nil
	}
	return "", errors.New("want a text, a number, true or false")
}

// requiredParam returns a field's value, or an error if it is missing or empty.
func requiredParam(in url.Values, name string) (string, error) {
	if v := in.Get(name); v != "" {
		return v, nil
	}
	return "", fmt.Errorf("%s is missing", name)
}

// boolParam reads a field that is true or false [false].
func boolParam(in url.Values, name string) (bool, error) {
	switch v := in.Get(name); v {
	case "true", "1", "on":
		return true, nil
	case "", "false", "0":
		return false, nil
	default:
		return false, fmt.Errorf("%s %q: want true or false", name, v)
	}
}

func intParam(in url.Values, name string, none int) (int, error) {
	text := in.Get(name)
	if text == "" {
		return none, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q: want a whole number", name, text)
	}
	return n, nil
}

// agoParam reads a time (2026-01-31T12:00:00Z), or how long ago it was (90m, 7d). The zero time if there is none.
func agoParam(in url.Values, name string) (time.Time, error) { return timeParam(in, name, -1, "ago") }

// dueParam reads a time (2026-01-31T12:00:00Z), or how long from now it is (90m, 7d). The zero time if there is none.
func dueParam(in url.Values, name string) (time.Time, error) {
	return timeParam(in, name, 1, "from now")
}

func timeParam(in url.Values, name string, sign int, direction string) (time.Time, error) {
	text := in.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := parseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(time.Duration(sign) * d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %q: want a time like 2026-01-31T12:00:00Z, or how long %s, like 90m or 7d", name, text, direction)
}

// parseDuration reads a duration as package time does, or whole days (7d).
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(text)
}
