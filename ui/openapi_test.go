package ui

import (
	"bytes"
	"encoding"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write assets/openapi.json anew")

// The OpenAPI file matches the handlers: it is generated from the same table.
func TestOpenAPI(t *testing.T) {
	want, err := json.MarshalIndent(openAPI(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if bytes.Contains(want, []byte(`"": {`)) {
		t.Error("a field without a name is described")
	}
	if *update {
		if err := os.WriteFile("assets/openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, _ := os.ReadFile("assets/openapi.json"); !bytes.Equal(have, want) {
		t.Error("assets/openapi.json is not what the handlers do: go test ./ui -run OpenAPI -update")
	}
}

type object = map[string]any

func openAPI() object {
	paths := object{}
	for _, o := range operations {
		item, ok := paths[o.Path].(object)
		if !ok {
			item = object{}
			paths[o.Path] = item
		}
		var params []object
		for _, name := range pathNames(o.Path) {
			params = append(params, object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}})
		}
		op := object{"operationId": strings.Trim(strings.NewReplacer("/api/", "", "/", ".", "{", "", "}", "").Replace(strings.ToLower(o.Method)+"."+o.Path), "."), "summary": o.Summary}
		if o.write() {
			fields := object{}
			for _, p := range o.Params {
				fields[p] = paramSchema(p)
			}
			op["requestBody"] = object{"content": object{"application/json": object{"schema": object{"type": "object", "properties": fields}}}}
		} else {
			for _, p := range o.Params {
				param := object{"name": p, "in": "query", "schema": object{"type": "string"}}
				if p == "since" || p == "until" {
					param["description"] = "a time, RFC 3339, or how long ago it was, like 90m or 7d"
				}
				params = append(params, param)
			}
		}
		if params != nil {
			op["parameters"] = params
		}
		problem := object{"description": "why not", "content": object{"application/problem+json": object{"schema": object{"type": "object", "properties": object{
			"title": object{"type": "string"}, "status": object{"type": "integer"}, "detail": object{"type": "string"}}}}}}
		op["responses"] = object{"200": object{"description": "done", "content": object{"application/json": object{"schema": schemaOf(reflect.TypeOf(o.Result))}}}, "default": problem}
		item[strings.ToLower(o.Method)] = op
	}
	return object{"openapi": "3.1.0", "info": object{"title": "stint", "version": "1"}, "paths": paths}
}

func paramSchema(name string) object {
	switch name {
	case "id", "task", "queue", "state":
		return object{"type": "array", "items": object{"type": "string"}}
	case "metadata":
		return object{"type": "object", "additionalProperties": object{"type": "string"}}
	case "input", "payload":
		return object{}
	case "at":
		return object{"type": "string", "description": "a time, RFC 3339, or how long from now it is, like 90m or 7d"}
	case "since", "until":
		return object{"type": "string", "description": "a time, RFC 3339, or how long ago it was, like 90m or 7d"}
	case "all", "top":
		return object{"type": "boolean"}
	case "limit":
		return object{"type": "number"}
	case "burst", "priority":
		return object{"type": "integer"}
	}
	return object{"type": "string"}
}

// isText reports whether package json writes a value of the type as a string; a pointer has its own answer, for null.
func isText(t reflect.Type) bool {
	return t.Kind() != reflect.Pointer && t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

// A jsonField is a field of a JSON object.
type jsonField struct {
	name string
	reflect.StructField
}

// jsonFields returns the fields of a struct's JSON: those of embedded structs are among them, as package json writes them.
func jsonFields(t reflect.Type) (all []jsonField) {
	for f := range t.Fields() {
		switch name, _, _ := strings.Cut(f.Tag.Get("json"), ","); {
		case name == "-":
		case name == "" && f.Anonymous:
			all = append(all, jsonFields(f.Type)...)
		case name == "":
			all = append(all, jsonField{f.Name, f})
		default:
			all = append(all, jsonField{name, f})
		}
	}
	return all
}

func schemaOf(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return object{}
	}
	if isText(t) {
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Interface:
		return object{}
	case reflect.Pointer:
		return object{"anyOf": []object{schemaOf(t.Elem()), {"type": "null"}}}
	case reflect.Slice:
		return object{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Struct:
		fields := object{}
		for _, f := range jsonFields(t) {
			fields[f.name] = schemaOf(f.Type)
		}
		return object{"type": "object", "properties": fields}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	}
	return object{"type": "integer"}
}
