package imports_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	imports "github.com/stint-dev/stint/import"
)

func TestReadMapping(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map.json")
	read := func(text string) (*imports.Mapping, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return imports.ReadMapping(path)
	}
	m, err := read(`{"kinds": {"email": "send-mail", "raw": {"task": "take", "bytes": true}, "old": {"skip": true}}, "queues": {"a": "b"}}`)
	if err != nil || m.Kinds["email"].Task != "send-mail" || !m.Kinds["raw"].Bytes || !m.Kinds["old"].Skip || m.Queues["a"] != "b" {
		t.Errorf("%+v, %v", m, err)
	}
	for text, want := range map[string]string{`{"kind": {}}`: "unknown field", `{"kinds": {"a": {}}}`: "want a task's name",
		`{"kinds": {"a": {"task": "b", "skip": true}}}`: "want a task's name", `{"kinds": {"a": {"tasc": "b"}}}`: "unknown field"} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
