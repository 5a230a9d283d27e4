package hatchet_test

import (
	"go/parser"
	"go/token"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// The server is an adapter over stint's public API: it imports no store, and nothing that is for stores.
func TestImports(t *testing.T) {
	const stint = "github.com/stint-dev/stint"
	allowed := []string{stint, stint + "/cel", stint + "/hatchet/internal/wire"}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if path.Ext(f.Name()) != ".go" || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			if name := strings.Trim(i.Path.Value, `"`); strings.HasPrefix(name, stint) && !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s", f.Name(), name)
			}
		}
	}
}
