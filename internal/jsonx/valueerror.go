package jsonx

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A ValueError is why a value could not be decoded or encoded. Its text says which type it
// was, and where, but nothing of the value, which may be a secret: what packages like
// encoding/json, time and strconv say quotes it. Err is what they said, for errors.Is and
// errors.As.
type ValueError struct {
	Type    reflect.Type
	Path    string // of fields: "card.numbers[3]"; "": the whole value
	Problem string
	Err     error
}

func (e *ValueError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("type %v: %s", e.Type, e.Problem)
	}
	return fmt.Sprintf("type %v at %s: %s", e.Type, e.Path, e.Problem)
}

func (e *ValueError) Unwrap() error { return e.Err }

// DecodeError makes a ValueError of the error with which text was not decoded into a t. If
// text is JSON, parts of it are decoded again, by encoding/json, for the path; that calls
// methods of t and its fields once more. With a text of nil the path is as far as err has it.
func DecodeError(err error, text []byte, t reflect.Type) *ValueError {
	e := &ValueError{Type: t, Err: err}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) && !json.Valid(text) {
		e.Problem = fmt.Sprintf("JSON syntax error at byte %d", syntax.Offset)
		return e
	}
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		e.Type, e.Path = wrong.Type, wrong.Field
	}
	if text != nil {
		if at, path := locate(text, t, maxPath); path != "" {
			e.Type, e.Path = at, strings.TrimPrefix(path, ".")
		}
	}
	e.Problem = decodeProblem(err)
	return e
}

// EncodeError is like DecodeError, for the error with which a t was not encoded. Err itself
// is returned if its text is of encoding/json and has no part of the value.
func EncodeError(err error, t reflect.Type) error {
	var of *json.MarshalerError
	var unsupported *json.UnsupportedTypeError
	var value *json.UnsupportedValueError // NaN, an infinity, a cycle
	switch {
	case errors.As(err, &of):
		return &ValueError{Type: of.Type, Err: err, Problem: fmt.Sprintf("its own method failed with a %T", of.Err)}
	case errors.As(err, &unsupported), errors.As(err, &value):
		return err
	}
	return &ValueError{Type: t, Err: err, Problem: fmt.Sprintf("encoding failed with a %T", err)}
}

func decodeProblem(err error) string {
	var wrong *json.UnmarshalTypeError
	var noTime *time.ParseError
	var noNumber *strconv.NumError
	switch {
	case errors.As(err, &wrong):
		kind, literal, _ := strings.Cut(wrong.Value, " ") // "number 300": one that does not fit
		if literal != "" {
			return "has a JSON " + kind + " that it cannot hold"
		}
		return "has a JSON " + kind
	case errors.As(err, &noTime):
		return "has a text that is no time"
	case errors.As(err, &noNumber) && errors.Is(err, strconv.ErrRange):
		return "has a number that it cannot hold"
	case errors.As(err, &noNumber):
		return "has a text that is no number"
	}
	return fmt.Sprintf("decoding failed with a %T", err)
}

// maxPath is the number of parts of a path that are looked for: each costs that the text is read twice.
const maxPath = 10

var (
	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// locate returns the type and the path of the first innermost part of text that does not
// decode as the part of a t that it stands for. Path is "" if that is text as a whole.
func locate(text []byte, t reflect.Type, parts int) (reflect.Type, string) {
	for t.Kind() == reflect.Pointer && !decodesItself(t) {
		t = t.Elem()
	}
	if parts == 0 || decodesItself(t) {
		return t, ""
	}
	d := json.NewDecoder(bytes.NewReader(text))
	opens, err := d.Token()
	if err != nil {
		return t, ""
	}
	switch {
	case opens == json.Delim('{') && t.Kind() == reflect.Struct:
		for d.More() {
			key, _ := d.Token()
			f, ok := fieldOf(t, fmt.Sprint(key))
			var part json.RawMessage
			switch {
			case ok && !f.quoted:
				if at, path, ok := locatePart(d, f.typ, "."+f.name, parts); ok {
					return at, path
				}
			case d.Decode(&part) != nil:
				return t, ""
			case ok && json.Unmarshal(fmt.Appendf(nil, "{%q:%s}", f.name, part), reflect.New(t).Interface()) != nil:
				return f.typ, "." + f.name
			}
		}
	case opens == json.Delim('{') && t.Kind() == reflect.Map:
		for d.More() {
			d.Token() // a key is of the value, too
			if at, path, ok := locatePart(d, t.Elem(), "[*]", parts); ok {
				return at, path
			}
		}
	case opens == json.Delim('[') && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array):
		for i := 0; d.More(); i++ {
			if at, path, ok := locatePart(d, t.Elem(), fmt.Sprintf("[%d]", i), parts); ok {
				return at, path
			}
		}
	}
	return t, ""
}

// locatePart reads the next value of d, and looks into it if it does not decode as a t.
func locatePart(d *json.Decoder, t reflect.Type, name string, parts int) (at reflect.Type, path string, found bool) {
	var part json.RawMessage
	if d.Decode(&part) != nil || json.Unmarshal(part, reflect.New(t).Interface()) == nil {
		return nil, "", false
	}
	at, path = locate(part, t, parts-1)
	return at, name + path, true
}

// decodesItself reports whether encoding/json calls a method to decode a t.
func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(unmarshaler) || p.Implements(textUnmarshaler)
}

// A field is one of a struct's, as encoding/json sees it.
type field struct {
	name   string
	typ    reflect.Type
	quoted bool // it is read from a text: `json:",string"`
}

// fieldOf returns the field of t that a key of a JSON object is for.
func fieldOf(t reflect.Type, key string) (found field, ok bool) {
	for _, f := range reflect.VisibleFields(t) {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" && opts == "" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		if name == key || !ok && strings.EqualFold(name, key) {
			found, ok = field{name, f.Type, strings.Contains(opts, "string")}, true
			if name == key {
				return found, true
			}
		}
	}
	return found, ok
}
