package jsonx

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"time"
)

// Plain reports whether encoding/json calls no method to encode or decode a t: neither on t
// nor on what it is made of. nil is the type of an untyped nil.
func Plain(t reflect.Type) bool {
	if t == nil {
		return true
	}
	if known, ok := plainTypes.Load(t); ok {
		return known.(bool)
	}
	plain := isPlain(t, map[reflect.Type]bool{})
	plainTypes.Store(t, plain)
	return plain
}

var plainTypes sync.Map // reflect.Type to bool

var ownJSON = []reflect.Type{
	reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler](),
	reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](),
}

// isPlain reports whether encoding/json finds no method on t, nor on what it is made of. A
// value in an interface may have any. seen are types that are being looked at.
func isPlain(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return true
	}
	seen[t] = true
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[json.RawMessage](), reflect.TypeFor[json.Number]():
		return true
	}
	for _, m := range ownJSON {
		if t.Implements(m) || reflect.PointerTo(t).Implements(m) {
			return false
		}
	}
	switch t.Kind() {
	case reflect.Interface:
		return false
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return isPlain(t.Elem(), seen)
	case reflect.Map:
		return isPlain(t.Key(), seen) && isPlain(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if strings.Contains(f.Tag.Get("json"), "omitzero") || !isPlain(f.Type, seen) { // omitzero calls a method IsZero
				return false
			}
		}
	}
	return true
}
