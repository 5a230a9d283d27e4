package stint_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// surroundings is the program that snippets of the docs are parts of: it declares what they do not.
const surroundings = `package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/alert"
	"github.com/stint-dev/stint/cel"
	"github.com/stint-dev/stint/store/postgres"
	"github.com/stint-dev/stint/ui"
	"github.com/stint-dev/stint/webhook"
	"golang.org/x/time/rate"
)

type (
	Order   struct{}
	Account struct{ Tenant string }
	Click   struct{ User string }
	Issue   struct{ Priority int }
	user    struct{ Admin bool }
)

var (
	ctx    context.Context
	client *stint.Client
	mux    *http.ServeMux
	secret string
	poolerURL, serverURL string
	issue  Issue
	o      Order
	r      interface{ Mount(string, http.Handler) } // chi
	g      interface{ Any(string, func()) }
	gin    struct{ WrapH func(http.Handler) func() }
)

func chargeCard(context.Context, Order) (string, error)          { panic("") }
func packGoods(context.Context, Order) (int, error)              { panic("") }
func syncAccount(context.Context, Account) (int, error)          { panic("") }
func triage(context.Context, Issue) (int, error)                 { panic("") }
func send(ctx context.Context, user, what string) (string, error) { panic("") }
func userOf(*http.Request) *user                                 { panic("") }
func login(http.Handler) http.Handler                            { panic("") }
func handle(ctx context.Context, input []byte) ([]byte, error)    { panic("") }
`

// A snippet is a block of Go in a document.
type snippet struct {
	at   string // file and line
	code string
}

// Every block of Go in the docs compiles: a whole file as it is, declarations and statements as
// parts of a program that has what is around them. A line "…" stands for code that is left out.
func TestSnippetsCompile(t *testing.T) {
	exports := exportsOf(t)
	for _, s := range snippets(t) {
		if err := s.compile(exports); err != nil {
			t.Errorf("%s: %v\n%s", s.at, err, s.code)
		}
	}
	bad := []snippet{{"a call", `client.Publish(ctx, "k", issue, stint.WithMetadata("tenant", "acme"))`}, {"a function", "func f() int {\n}"}, {"a file", "package p\nvar x int = \"\""}}
	for _, s := range bad {
		if s.compile(exports) == nil {
			t.Errorf("%s that is wrong compiles", s.at)
		}
	}
}

// Names of the package that the docs' text mentions exist.
func TestDocsNames(t *testing.T) {
	pkg, err := importer.ForCompiler(token.NewFileSet(), "gc", exportsOf(t)).Import(module)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\bstint\.([A-Z]\w*)`)
	eachDoc(t, func(path string, text string) {
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			if pkg.Scope().Lookup(m[1]) == nil && !strings.HasPrefix(m[1], "Test") {
				t.Errorf("%s: there is no %s", path, m[0])
			}
		}
	})
}

// Every Go file that the docs name exists, by its path or by its name alone, and has the function
// or method that is named before it: `(*Store).Finish` (`store/sqlite/finish.go`).
func TestDocsFiles(t *testing.T) {
	byName := map[string][]string{}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		byName[filepath.Base(path)] = append(byName[filepath.Base(path)], "/"+filepath.ToSlash(path))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("(?:`(?:\\(\\*?(\\w+)\\)\\.|\\w+\\.)(\\w+)`\\s+\\()?`([\\w./-]+\\.go)`")
	eachDoc(t, func(doc, text string) {
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			receiver, function, file := m[1], m[2], m[3]
			declared := `(?m)^func ` + function + `\b`
			if receiver != "" {
				declared = `(?m)^func \(\w+ \*?` + receiver + `\b[^)]*\) ` + function + `\b`
			}
			there, has := false, function == ""
			for _, path := range byName[filepath.Base(file)] { // a name alone may be that of several
				if !strings.HasSuffix(path, "/"+file) {
					continue
				}
				code, err := os.ReadFile("." + path)
				if err != nil {
					t.Fatal(err)
				}
				there, has = true, has || regexp.MustCompile(declared).Match(code)
			}
			if !there {
				t.Errorf("%s: there is no file %s", doc, file)
			} else if !has {
				t.Errorf("%s: %s has no %s", doc, file, function)
			}
		}
	})
}

// docs/design/layout.md names every file of the root, and every package of internal and store/internal.
func TestDocsLayout(t *testing.T) {
	page, err := os.ReadFile("docs/design/layout.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if named := strings.Contains(string(page), "`"+f+"`"); !named && !strings.HasSuffix(f, "_test.go") && f != "doc.go" {
			t.Errorf("it does not name %s", f)
		}
	}
	for _, pattern := range []string{"internal/*", "store/internal/*"} {
		packages, err := filepath.Glob(pattern)
		if err != nil || len(packages) < 10 {
			t.Fatalf("%s: %d packages, %v", pattern, len(packages), err)
		}
		for _, p := range packages {
			if !strings.Contains(string(page), "**"+filepath.Base(p)+"**") {
				t.Errorf("it does not name the package %s", filepath.ToSlash(p))
			}
		}
	}
}

// Every test that the docs name exists.
func TestDocsTests(t *testing.T) {
	tests := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)`)
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(code, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`(?:[\\w/]+\\.)?(Test[A-Z]\\w*)`")
	eachDoc(t, func(doc, text string) {
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			if !tests[m[1]] {
				t.Errorf("%s: there is no %s", doc, m[1])
			}
		}
	})
}

// docs/SUMMARY.md, the order of the site, has every document under docs exactly once.
func TestDocsSummary(t *testing.T) {
	summary, err := os.ReadFile("docs/SUMMARY.md")
	if err != nil {
		t.Fatal(err)
	}
	eachDoc(t, func(doc, _ string) {
		name, ok := strings.CutPrefix(filepath.ToSlash(doc), "docs/")
		if n := strings.Count(string(summary), "]("+name+")"); ok && name != "SUMMARY.md" && n != 1 {
			t.Errorf("docs/SUMMARY.md has %s %d times, want once", name, n)
		}
	})
}

// eachDoc calls f with every document of the module.
func eachDoc(t *testing.T, f func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil {
			f(path, string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// snippets returns the fenced blocks of Go in the docs. Go in an indented block would not be
// checked: it is an error.
func snippets(t *testing.T) (all []snippet) {
	eachDoc(t, func(path, text string) {
		if path == "docs/hatchet.md" { // of another module, whose tests hold it
			return
		}
		inside, fenced := false, false
		for i, line := range strings.Split(text, "\n") {
			switch {
			case strings.HasPrefix(line, "```"):
				if fenced = !fenced; fenced && line == "```go" {
					inside, all = true, append(all, snippet{at: fmt.Sprintf("%s:%d", path, i+2)})
				} else {
					inside = false
				}
			case inside:
				all[len(all)-1].code += line + "\n"
			case !fenced && strings.HasPrefix(line, "    ") && regexp.MustCompile(`stint\.[A-Z]|client\.[A-Z]`).MatchString(line):
				t.Errorf("%s:%d: Go that is not in a ```go block", path, i+1)
			}
		}
	})
	if len(all) < 8 {
		t.Errorf("%d snippets: want those of docs", len(all))
	}
	return all
}

// compile returns the first error of a snippet's types. What is only not used is none.
func (s snippet) compile(exports importer.Lookup) (first error) {
	code := regexp.MustCompile(`(?m)^\s*…$`).ReplaceAllString(s.code, `panic("left out")`)
	fset := token.NewFileSet()
	files := make([]*ast.File, 1, 2)
	var err error
	if strings.HasPrefix(code, "package ") {
		files[0], err = parser.ParseFile(fset, s.at, code, 0)
	} else {
		head := surroundings[:strings.Index(surroundings, "type (")]
		if files[0], err = parser.ParseFile(fset, s.at, head+code, 0); err != nil {
			files[0], err = parser.ParseFile(fset, s.at, head+"func _() {\n"+code+"}", 0)
		}
		around, bad := parser.ParseFile(fset, "surroundings", surroundings, 0)
		if bad != nil {
			return bad
		}
		files = append(files, around)
	}
	if err != nil {
		return err
	}
	cfg := types.Config{Importer: importer.ForCompiler(fset, "gc", exports), Error: func(err error) {
		if e, ok := err.(types.Error); first == nil && !(ok && e.Soft) {
			first = err
		}
	}}
	cfg.Check("main", fset, files, nil)
	return first
}

// exportsOf returns where the compiled packages are that snippets import.
func exportsOf(t *testing.T) importer.Lookup {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".", "./ui", "./alert", "./cel", "./store/postgres", "./stinttest", "./webhook", "golang.org/x/time/rate",
		"testing/synctest", "os/signal", "net/http/httptest").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			files[path] = file
		}
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
}
