package jsonx_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stint-dev/stint/internal/jsonx"
)

func TestEmbed(t *testing.T) {
	for payload, want := range map[string]string{
		`{"a": 1}`: `{"a": 1}`, "null": "null", `9007199254740993`: `9007199254740993`, "": "",
		"{": `"(not JSON: {)"`, "1 2": `"(not JSON: 1 2)"`, `say "x"`: `"(not JSON: say \"x\")"`,
		"\xff": `"(not JSON: ` + "\ufffd" + `)"`, "\"\xff\"": "\"\ufffd\"", "\x00": `"(not JSON: \u0000)"`,
	} {
		if got := string(jsonx.Embed([]byte(payload))); got != want {
			t.Errorf("%q is %s, want %s", payload, got, want)
		}
	}
	if got := jsonx.Embed([]byte(strings.Repeat("é", 1<<20))); len(got) > 2048 || !strings.Contains(string(got), "cut") {
		t.Errorf("a long one is %d bytes: %.100s", len(got), got)
	}
}

// Whatever a payload is, what it is embedded as makes no document unreadable, and JSON stays.
func FuzzEmbed(f *testing.F) {
	for _, s := range []string{"", "{", `{"a":1}`, "\xff", "\"\xff\"", strings.Repeat("[", 20000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got := jsonx.Embed(payload)
		b, err := json.Marshal(map[string]any{"x": got, "y": 1})
		if err != nil || !json.Valid(b) || !utf8.Valid(b) {
			t.Fatalf("%q becomes %q: %v", payload, got, err)
		}
		if json.Valid(payload) && utf8.Valid(payload) && string(got) != string(payload) {
			t.Fatalf("%q becomes %q", payload, got)
		}
	})
}
