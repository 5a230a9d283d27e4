package stint_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stint-dev/stint/store"
)

const module = "github.com/stint-dev/stint"

// Imports point one way. docs/design/layout.md says why.
func TestImports(t *testing.T) {
	never := []struct{ from, to, why string }{
		{"/store", "", "a store knows no handler and no worker"},
		{"/store", "net/http", "a store serves nobody"},
		{"/store/internal", "database/sql", "decisions know no database"},
		{"/store/internal", module + "/store/sqlite", "decisions know no database"},
		{"/store/internal", module + "/store/postgres", "decisions know no database"},
		{"/store/internal", "sync", "decisions have no goroutine"},
		{"/store/internal", "context", "decisions do no I/O"},
		{"/store", module + "/store/sqlite", "the contract knows no store"},
		{"/store", module + "/store/postgres", "the contract knows no store"},
		{"", module + "/store/postgres", "who keeps a file links no driver of a server"},
		{"", "database/sql", "SQL is the store's; enqueue.go names the types"},
		{"/ui", module + "/store", "a page that needs a row shows that Client lacks a method"},
		{"/ui", "html/template", "it calls methods by name, so the linker keeps every exported one: 4 MiB"},
		{"/ui", "text/template", "likewise"},
		{"/alert", module + "/store", "alerts see what the app sees"},
		{"/cmd", module + "/store", "a command sees what the app sees"},
		{"", module + "/ui", "who wants no page links none"},
		{"/webhook", "", "the root uses it for the verifiers' former names"},
		{"/internal/journal", module + "/store", "replay is a function of the journal alone"},
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		for _, n := range never {
			from, to := module+n.from, n.to
			if to == "" {
				to = module
			}
			inside := fields[0] == from || n.from != "" && strings.HasPrefix(fields[0], from+"/")
			if from == module && to == "database/sql" && onlyEnqueue(t) {
				continue
			}
			if fields[0] == module+"/store/postgres" && to == module+"/store/sqlite" {
				continue // Follow and Move hold a file; the root links it in any case
			}
			if inside && slices.Contains(fields[1:], to) {
				t.Errorf("%s imports %s: %s", fields[0], to, n.why)
			}
		}
		for _, to := range fields[1:] {
			checkPostgres(t, fields[0], to)
		}
	}
}

// checkPostgres reports an import of the PostgreSQL driver outside of its store, and one of a part of the module
// that a store does not know.
func checkPostgres(t *testing.T, from, to string) {
	t.Helper()
	const postgres = module + "/store/postgres"
	if strings.HasPrefix(to, "github.com/jackc/") && from != postgres {
		t.Errorf("%s imports %s: the driver is the store's", from, to)
	}
	known := to == module+"/store" || to == module+"/store/sqlite" || strings.HasPrefix(to, module+"/store/internal/") ||
		strings.HasPrefix(to, module+"/internal/")
	if from == postgres && strings.HasPrefix(to, module) && !known {
		t.Errorf("%s imports %s: a store knows the contract, and what stores share", from, to)
	}
}

// A program on a file links no driver of a server, whatever else of the library it imports, and none links what parses the
// command's flags.
func TestProgramsLinkWhatTheyUse(t *testing.T) {
	deps := func(packages ...string) string {
		out, err := exec.Command("go", append([]string{"list", "-deps"}, packages...)...).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		return string(out)
	}
	const driver = "github.com/jackc/"
	if got := deps(".", "./store/sqlite", "./ui", "./alert", "./cel", "./webhook", "./examples/hello"); strings.Contains(got, driver) {
		t.Errorf("a program on a file depends on %s", driver)
	}
	if got := deps("./store/postgres"); !strings.Contains(got, driver) { // the control
		t.Errorf("the store does not depend on %s", driver)
	}
	const cli = "github.com/urfave/cli/"
	if got := deps(".", "./store/...", "./ui", "./alert", "./cel", "./webhook", "./stinttest", "./examples/..."); strings.Contains(got, cli) {
		t.Errorf("a program that uses the library depends on %s, which is the command's", cli)
	}
	if got := deps("./cmd/stint"); !strings.Contains(got, cli) { // the control
		t.Errorf("the command does not depend on %s", cli)
	}
}

// onlyEnqueue reports whether enqueue.go, whose signatures need it, is the only file of the root package
// that names database/sql.
func onlyEnqueue(t *testing.T) bool {
	files, _ := filepath.Glob("*.go")
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") || f == "enqueue.go" {
			continue
		}
		if src, err := os.ReadFile(f); err != nil || bytes.Contains(src, []byte(`"database/sql"`)) {
			t.Errorf("%s names database/sql (%v)", f, err)
			return false
		}
	}
	return true
}

// generated is the line by which Go tells what a tool has written.
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// eachFile calls f with every Go file of the repository, of all its modules, that is not generated.
func eachFile(t *testing.T, f func(path string, src []byte)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		src, err := os.ReadFile(path)
		if err == nil && !generated.Match(src) {
			f(path, src)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Bounds of the source.
const (
	maxRootFiles = 30  // without tests
	maxLines     = 500 // of a file
	maxFuncLines = 60
	maxColumns   = 140 // a tab counts as 4
)

// Decisions of the store are given their time.
func TestDecisionsHaveNoClock(t *testing.T) {
	eachFile(t, func(path string, src []byte) {
		if !strings.HasPrefix(path, "store/internal/") || strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, call := range []string{"time.Now(", "time.Since(", "time.Until(", "time.After", "time.NewTimer("} {
			if bytes.Contains(src, []byte(call)) {
				t.Errorf("%s calls %s)", path, call)
			}
		}
	})
}

// A file does what its name says, and fits a head. So does a function, and a line a screen.
func TestFileSize(t *testing.T) {
	rootFiles := 0
	eachFile(t, func(path string, src []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		if filepath.Dir(path) == "." {
			rootFiles++
		}
		if n := bytes.Count(src, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, more than %d", path, n, maxLines)
		}
		checkFuncs(t, path, src)
		checkColumns(t, path, src)
	})
	if rootFiles > maxRootFiles {
		t.Errorf("the root package has %d files, more than %d", rootFiles, maxRootFiles)
	}
}

// ownClock counts the uses of this process's clock in the root package: they measure how long something lasts in
// this process, or tell it to a person. All other instants are of Client.now, the store's clock.
var ownClock = map[string]int{"client.go": 2, "durable.go": 3, "event.go": 1, "execution.go": 4, "record.go": 2}

var readsClock = regexp.MustCompile(`\btime\.(Now|Since|Until)\(`)

func TestInstantsAreOfTheStore(t *testing.T) {
	eachFile(t, func(path string, src []byte) {
		if filepath.Dir(path) != "." || strings.HasSuffix(path, "_test.go") {
			return
		}
		code := regexp.MustCompile(`//.*`).ReplaceAll(src, nil)
		if n := len(readsClock.FindAll(code, -1)); n != ownClock[path] {
			t.Errorf("%s reads this process's clock %d times, want %d: see Client.now", path, n, ownClock[path])
		}
	})
}

func checkFuncs(t *testing.T, path string, src []byte) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1; n > maxFuncLines {
			t.Errorf("%s: %s has %d lines, more than %d", path, f.Name.Name, n, maxFuncLines)
		}
	}
}

func checkColumns(t *testing.T, path string, src []byte) {
	t.Helper()
	for i, line := range strings.Split(string(src), "\n") {
		if n := utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    ")); n > maxColumns {
			t.Errorf("%s:%d has %d columns, more than %d", path, i+1, n, maxColumns)
		}
	}
}

// Every exported name of a package that users import is documented.
func TestDocs(t *testing.T) {
	eachFile(t, func(path string, src []byte) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "bench/") || strings.HasPrefix(path, "examples/") {
			return
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			t.Error(err)
			return
		}
		for _, d := range file.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s: %s has no doc comment", fset.Position(d.Pos()), name)
			}
			for _, doc := range exportedDocs(d) {
				if odd := oddForm.FindString(plainText(doc.Text())); odd != "" {
					t.Errorf("%s: %q: write it in plain English, subject first", fset.Position(doc.Pos()), odd)
				}
			}
		}
	})
}

// oddForm matches what a doc comment must not be written like: "X has Y do", "what is", "that
// there is not".
var oddForm = regexp.MustCompile(`(?i)\bhas ((a|an|the|its|each|only|no|all) ([\w']+ ){1,3}|([\w']+s|f|fn) )` +
	`(be|call|called|carry|come|count|do|end|follow|gather|go|leave|look|make|pass|return|run|start|stay|stop|stored|take|tell|tick|wait|work|worked)\b` +
	`|\bthere (is|are|was|were) not\b|\bthat there (is|are)\b|\bwhat (is|are)\b|\bis such that\b`)

// plainText returns a doc comment in one line.
func plainText(doc string) string { return strings.Join(strings.Fields(doc), " ") }

func TestOddForm(t *testing.T) {
	for _, odd := range []string{"WithBatchKey has only runs gather for which key gives the same.", "PauseLimit has no run pass a limit.",
		"ErrNotFound for a rate limit that there is not.", "A standing is what of a row says what is held.", "pace has looks go on."} {
		if !oddForm.MatchString(odd) {
			t.Errorf("passes: %s", odd)
		}
	}
	for _, plain := range []string{"The error is ErrTaken if a cron has the name.", "It has at most 4 KiB.", "A run that has ended does not change."} {
		if odd := oddForm.FindString(plain); odd != "" {
			t.Errorf("%q is refused in: %s", odd, plain)
		}
	}
}

// exportedDocs returns the doc comments of the exported names that d declares.
func exportedDocs(d ast.Decl) (docs []*ast.CommentGroup) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && exportedReceiver(d) {
			docs = append(docs, d.Doc)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					docs = append(docs, d.Doc, s.Doc)
				}
			case *ast.ValueSpec:
				if s.Names[0].IsExported() {
					docs = append(docs, d.Doc, s.Doc)
				}
			}
		}
	}
	return slices.DeleteFunc(docs, func(doc *ast.CommentGroup) bool { return doc == nil })
}

func undocumented(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !wellKnown[d.Name.Name] {
			names = append(names, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
					names = append(names, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

// wellKnown are methods whose name says it all.
var wellKnown = map[string]bool{"Error": true, "Unwrap": true, "String": true}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	x := d.Recv.List[0].Type
	if s, ok := x.(*ast.StarExpr); ok {
		x = s.X
	}
	switch g := x.(type) {
	case *ast.IndexExpr:
		x = g.X
	case *ast.IndexListExpr:
		x = g.X
	}
	id, ok := x.(*ast.Ident)
	return ok && id.IsExported()
}

// The contract has few verbs, and what Read and Change take is known to all that implement them: a type switch
// that forgets one is no error of the compiler.
func TestContractIsKnown(t *testing.T) {
	if n := reflect.TypeFor[store.Store]().NumMethod(); n > 30 {
		t.Errorf("store.Store has %d methods, want at most 30", n)
	}
	known := map[string][]string{
		"query":  {"store/internal/reading/query.go", "store/storetest/model_lists.go"},
		"change": {"store/internal/changing/changing.go", "store/storetest/model_lists.go"},
	}
	for method, files := range known {
		source, err := os.ReadFile(map[string]string{"query": "store/read.go", "change": "store/change.go"}[method])
		if err != nil {
			t.Fatal(err)
		}
		types := regexp.MustCompile(`(?m)^func \(\*(\w+)\) `+method+`\(\)`).FindAllSubmatch(source, -1)
		if len(types) < 7 {
			t.Errorf("%d types have the method %s", len(types), method)
		}
		for _, file := range files {
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range types {
				if !bytes.Contains(code, []byte("*store."+string(m[1]))) {
					t.Errorf("%s does not know *store.%s", file, m[1])
				}
			}
		}
	}
}

// A test waits for what it waits for; it sleeps only where time is virtual.
func TestNoSleepInTests(t *testing.T) {
	eachFile(t, func(path string, src []byte) {
		if strings.HasSuffix(path, "_test.go") && path != "rules_test.go" && bytes.Contains(src, []byte("time.Sleep(")) && !bytes.Contains(src, []byte("synctest.Test(")) && !bytes.Contains(src, []byte("	in(t, func(")) {
			t.Errorf("%s sleeps outside of a synctest bubble", path)
		}
	})
}
