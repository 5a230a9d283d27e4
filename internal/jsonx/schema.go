package jsonx

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

// Schema describes the JSON of a type, as encoding/json writes it, in the terms of
// JSON Schema (https://json-schema.org/draft/2020-12). A type that writes its own JSON
// may be anything.
func Schema(t reflect.Type) json.RawMessage {
	if t == nil {
		return json.RawMessage(`{}`)
	}
	b, _ := json.Marshal(schemaOf(t, nil)) // maps, strings and lists of them
	return b
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// schemaOf describes t. within are the structs around it, for a type that holds itself.
func schemaOf(t reflect.Type, within []reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage](), t.Implements(jsonMarshaler), reflect.PointerTo(t).Implements(jsonMarshaler):
		return map[string]any{}
	case t.Implements(textMarshaler), reflect.PointerTo(t).Implements(textMarshaler):
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string", "contentEncoding": "base64"}
		}
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), within)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem(), within)}
	case reflect.Pointer:
		return schemaOf(t.Elem(), within)
	case reflect.Struct:
		return structSchema(t, within)
	}
	return map[string]any{}
}

func structSchema(t reflect.Type, within []reflect.Type) map[string]any {
	for _, w := range within {
		if w == t {
			return map[string]any{}
		}
	}
	within = append(within[:len(within):len(within)], t)
	properties, required := map[string]any{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" && opts == "" || len(f.Index) > 1 && !promoted(t, f.Index) || f.Anonymous && name == "" &&
			indirect(f.Type).Kind() == reflect.Struct {
			continue
		}
		if name == "" {
			name = f.Name
		}
		s := schemaOf(f.Type, within)
		if strings.Contains(opts, "string") {
			s = map[string]any{"type": "string"}
		}
		properties[name] = s
		if !strings.Contains(opts, "omit") && f.Type.Kind() != reflect.Pointer {
			required = append(required, name)
		}
	}
	s := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// promoted reports whether the field at index is one of t's JSON object itself: what it
// is embedded in has no name of its own.
func promoted(t reflect.Type, index []int) bool {
	for i := 1; i < len(index); i++ {
		if t.FieldByIndex(index[:i]).Tag.Get("json") != "" {
			return false
		}
	}
	return true
}

func indirect(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}
