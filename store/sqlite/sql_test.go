package sqlite

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Numbers of states are written in one file: who changes a condition finds all that depend on it.
func TestNoBareStates(t *testing.T) {
	bare := regexp.MustCompile(`\bstate\s*(=|<>|<=?|>=?)\s*\d`)
	for sample, want := range map[string]bool{"r.state = 4 AND": true, "SET state=10,": true, "state = ?3": false, "state <> 'x'": false} {
		if bare.MatchString(sample) != want {
			t.Fatalf("%q: want %t", sample, want)
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	literals := 0
	for _, name := range files {
		if name == "sql.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				literals++
				if bare.MatchString(lit.Value) {
					t.Errorf("%s: %s: use the constants of sql.go", fset.Position(lit.Pos()), lit.Value)
				}
			}
			return true
		})
	}
	if literals < 500 {
		t.Errorf("%d string literals in %d files: did the test find them?", literals, len(files))
	}
}
