package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const referenceHead = `# The HTTP API

<!-- Written by TestOpenAPIReference from the table of operations: go test ./ui -run OpenAPI -update -->

The API is part of the page's handler. If the page is at ` + "`/stint/`, the API is at `/stint/api/`, and `/stint/api/openapi.json`" + ` describes it.
Who has access is said in [Security](security.md#who-may-see-the-page). The action in each section is the ` + "`Action.Name`" + ` that a function of
` + "`ui.WithAuthorize`" + ` gets.

A GET takes its parameters in the query; those that may have several values may be repeated. A POST takes them as the fields of a JSON object, with
` + "`Content-Type: application/json`" + `. A name in braces is part of the path. Times are RFC 3339, durations are like ` + "`90s` or `7d`" + `. A duration may
stand for a time: in ` + "`since` and `until`" + ` it is how long ago, in ` + "`at`" + ` how long from now. A field that is
` + "`\"\"`" + ` in a body is an error, except ` + "`limit_name`, `limit_key` and `cursor`" + `.

An answer with an error has ` + "`Content-Type: application/problem+json`" + ` and the fields title, status and detail. Lists go on with
` + "`next`" + `, which is the next call's ` + "`cursor`" + `, or with ` + "`after`" + `.

    curl -H "Authorization: Bearer $TOKEN" localhost:8080/stint/api/runs?state=failed
    curl -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"input": 7}' localhost:8080/stint/api/tasks/charge/runs

`

// docs/http-api.md lists the operations as they are.
func TestOpenAPIReference(t *testing.T) {
	const path = "../docs/http-api.md"
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, o := range operations {
		fmt.Fprintf(&b, "## %s %s\n\n%s. Action: `%s`.\n\n", o.Method, o.Path, o.Summary, o.Name)
		if len(o.Params) > 0 {
			fmt.Fprintf(&b, "Parameters: `%s`.\n\n", strings.Join(o.Params, "`, `"))
		}
		fmt.Fprintf(&b, "```text\n%s\n```\n\n", shapeOf(reflect.TypeOf(o.Result), ""))
	}
	want := []byte(strings.TrimRight(b.String(), "\n") + "\n")
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || !bytes.Equal(bytes.ReplaceAll(have, []byte("\r\n"), []byte("\n")), want) {
		t.Errorf("%s is not what the handlers do (%v): go test ./ui -run OpenAPI -update", path, err)
	}
}

// shapeOf returns the JSON of a type, with words for values.
func shapeOf(t reflect.Type, indent string) string {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "time"
	case t == reflect.TypeFor[json.RawMessage]():
		return "any JSON"
	}
	if isText(t) {
		return "string"
	}
	switch t.Kind() {
	case reflect.Interface:
		return "any JSON"
	case reflect.Pointer:
		return shapeOf(t.Elem(), indent) + " or null"
	case reflect.Slice:
		return "[" + shapeOf(t.Elem(), indent) + "]"
	case reflect.Map:
		return "{name: " + shapeOf(t.Elem(), indent) + "}"
	case reflect.Struct:
		var b strings.Builder
		b.WriteString("{\n")
		for _, f := range jsonFields(t) {
			fmt.Fprintf(&b, "%s  %s: %s\n", indent, f.name, shapeOf(f.Type, indent+"  "))
		}
		return b.String() + indent + "}"
	case reflect.String, reflect.Bool:
		return t.Kind().String()
	}
	return "number"
}

// The dashboard and the rules in docs/grafana ask for metrics that there are, and for all of them.
func TestDashboard(t *testing.T) {
	code, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`stint_[a-z0-9_]+`)
	known := name.FindAllString(string(code), -1)
	var asked []string
	for _, path := range []string{"../docs/grafana/stint.json", "../docs/grafana/rules.yml"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".json") && !json.Valid(text) {
			t.Errorf("%s is no JSON", path)
		}
		for _, m := range name.FindAllString(string(text), -1) {
			if !slices.Contains(known, m) {
				t.Errorf("%s: there is no metric %s", path, m)
			}
			asked = append(asked, m)
		}
	}
	for _, m := range known {
		if !slices.Contains(asked, m) {
			t.Errorf("docs/grafana does not show %s", m)
		}
	}
}
