package jsonx

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

// Schema returns the JSON Schema (https://json-schema.org/draft/2020-12) of the JSON that
// encoding/json writes for a type. A type that encodes itself may be anything.
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

// schemaOf returns the schema of t. within has the structs around it, as a type may contain itself.
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

// promoted reports whether the field at index is a field of t's own JSON object: the structs it
// is embedded in have no JSON name.
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
