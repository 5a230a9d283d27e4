package ui

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseQuery(t *testing.T) {
	const id = "01a2253d-5f16-7000-8000-000000000000"
	for text, want := range map[string]string{
		"":                               "",
		"state:failed":                   "state=failed",
		"state:failed,canceled  task:a":  "state=failed&state=canceled&task=a",
		"state:failed state:canceled":    "state=failed&state=canceled",
		`task:"send mail","a,b"`:         "task=a%2Cb&task=send+mail",
		"tenant:acme":                    "metadata=tenant%3Dacme",
		"tenant:acme,other":              "metadata=tenant%3Dacme&metadata=tenant%3Dother",
		"metadata:state=x":               "metadata=state%3Dx",
		`a=b:c`:                          "metadata=%7B%22a%3Db%22%3A%22c%22%7D",
		`error:"connection refused"`:     "error=connection+refused",
		"connection refused, at once":    "error=connection+refused%2C+at+once",
		"http://x":                       "metadata=http%3D%2F%2Fx",
		id:                               "id=" + id,
		"id:" + id:                       "id=" + id,
		"top state:running":              "state=running&top=1",
		"order:7 error:a:b":              "error=a%3Ab&metadata=order%3D7",
		`error:"with \"quotes\" and \\"`: `error=with+%22quotes%22+and+%5C`,
	} {
		q, err := parseQuery(text)
		for _, values := range q {
			if len(values) > 1 && strings.HasPrefix(values[0], "send") {
				slices.Sort(values)
			}
		}
		if got := q.Encode(); got != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"state:":          "no value after the colon",
		"state:failed,":   "no value after the colon",
		`task:"send`:      "has no end",
		"-state:failed":   "name those that it is to show",
		"tasks:a":         "write task:a",
		`state:failed ":`: "has no end",
	} {
		if q, err := parseQuery(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", text, q, err, want)
		}
	}
}

// What formatQuery writes is read as the same filter.
func TestQueryIsRead(t *testing.T) {
	value := rapid.OneOf(rapid.SampledFrom([]string{"a", "top", "-x", "a b", "a,b", `"`, `a"b`, `\`, "a:b", "x=y", "{", "ü\u202e", " a "}), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		q := url.Values{}
		for _, key := range []string{"state", "task", "queue", "parent", "event", "worker"} {
			for _, v := range rapid.SliceOfN(value, 0, 2).Draw(t, key) {
				if v != "" {
					q.Add(key, v)
				}
			}
		}
		if v := value.Draw(t, "error"); v != "" {
			q.Set("error", v)
		}
		metadata := rapid.MapOfN(value, value, 0, 3).Draw(t, "metadata")
		for _, k := range slices.Sorted(maps.Keys(metadata)) {
			q.Add("metadata", pairOf(k, metadata[k]))
		}
		text := formatQuery(q)
		got, err := parseQuery(text)
		if err != nil || !maps.EqualFunc(got, q, slices.Equal[[]string]) {
			t.Fatalf("%v: %s is read as %v, %v", q, text, got, err)
		}
	})
}
