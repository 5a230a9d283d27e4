package doctest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program is a whole program of a page whose output the page shows.
type program struct {
	block
	name string // its package here
	want string
}

// programs returns the blocks of Go that are programs with a block "text" after them.
func programs(t *testing.T) (all []program) {
	for _, p := range mustPages(t) {
		blocks := p.blocks()
		for i, b := range blocks {
			if b.info == "go" && strings.HasPrefix(b.text, "package main\n") && i+1 < len(blocks) && blocks[i+1].info == "text" {
				all = append(all, program{b, fmt.Sprintf("p%d", len(all)), blocks[i+1].text})
			}
		}
	}
	return all
}

// Programs of the docs print what is shown below them. All are built into one binary, which takes the number of one: to link each
// would take a second.
func TestPrograms(t *testing.T) {
	skipShort(t)
	all := programs(t)
	binary := buildPrograms(t, all)
	for _, p := range all {
		if p.page == startPage {
			t.Run(startPage, func(t *testing.T) { start(t, binary, p) })
			continue
		}
		t.Run(fmt.Sprintf("%s:%d", filepath.Base(p.page), p.line), func(t *testing.T) {
			t.Parallel()
			var errs bytes.Buffer
			cmd := exec.CommandContext(t.Context(), binary, p.name)
			cmd.Dir, cmd.Stderr = t.TempDir(), &errs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s%s", err, out, errs.String())
			}
			if !matches(p.want, string(out)) {
				t.Errorf("prints\n%s\nwant\n%s\nstandard error:\n%s", out, p.want, errs.String())
			}
		})
	}
}

// buildPrograms builds a binary of all programs.
func buildPrograms(t *testing.T, all []program) string {
	t.Helper()
	files := map[string]string{}
	var imports, cases strings.Builder
	for _, p := range all {
		code := strings.Replace(p.text, "package main\n", "package "+p.name+"\n", 1)
		code = strings.Replace(code, "(time.Second) // some work", "(50 * time.Millisecond)", 1)
		files[p.name+"/main.go"] = strings.Replace(code, "\nfunc main() {", "\nfunc Main() {", 1)
		fmt.Fprintf(&imports, "%q\n", "github.com/stint-dev/stint/internal/doctest/programs/"+p.name)
		fmt.Fprintf(&cases, "case %q: %s.Main()\n", p.name, p.name)
		if formatted, err := format.Source([]byte(p.text)); err != nil || string(formatted) != p.text {
			t.Errorf("%s:%d is not gofmt-ed (%v)", p.page, p.line, err)
		}
	}
	files["main.go"] = "package main\nimport (\n\"os\"\n" + imports.String() + ")\nfunc main() {\nswitch os.Args[1] {\n" + cases.String() + "}\n}\n"
	binary, pkg, overlay := overlaid(t, files)
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", binary, pkg).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// overlaid returns the arguments of a build of files that belong to this module for the compiler alone: nothing is written there.
func overlaid(t *testing.T, files map[string]string) (binary, pkg, overlay string) {
	t.Helper()
	dir := t.TempDir()
	pkg, err := filepath.Abs("programs")
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for name, code := range files {
		path := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(pkg, filepath.FromSlash(name))] = path
	}
	spec, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, spec, 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "built.exe"), pkg, overlay
}

// Tests of the docs pass: each block is a package of its own.
func TestTests(t *testing.T) {
	skipShort(t)
	found := 0
	for _, p := range mustPages(t) {
		for _, b := range p.blocks() {
			if b.info != "go" || !strings.HasPrefix(b.text, "package ") || !strings.Contains(b.text, "(t *testing.T) {") {
				continue
			}
			found++
			if formatted, err := format.Source([]byte(b.text)); err != nil || string(formatted) != b.text {
				t.Errorf("%s:%d is not gofmt-ed (%v)", p.path, b.line, err)
			}
			binary, pkg, overlay := overlaid(t, map[string]string{"docs_test.go": b.text})
			if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, pkg).CombinedOutput(); err != nil {
				t.Fatalf("%s:%d: %v\n%s", p.path, b.line, err, out)
			}
			cmd := exec.CommandContext(t.Context(), binary)
			cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "STINT_DATABASE_URL=")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %v\n%s", p.path, b.line, err, out)
			}
		}
	}
	if found == 0 {
		t.Error("the docs have no tests")
	}
}

const startPage = "docs/start.md"

// start kills the first program of the docs in the middle and runs it again, twice: it prints what the page says.
func start(t *testing.T, binary string, p program) {
	var shown []string // the blocks after the program
	for _, b := range (page{startPage, mustRead(t, startPage)}).blocks() {
		if b.info == "text" {
			shown = append(shown, b.text)
		}
	}
	if len(shown) != 3 {
		t.Fatalf("%d outputs are shown, want that of the start, of the killed program and of the last", len(shown))
	}
	if lines := strings.Split(p.text, "\n"); !strings.Contains(lines[19], "ui.Handler") {
		t.Errorf("line 20 of the first program does not mount the page, but is %q", lines[19])
	}
	dir := t.TempDir()
	first := exec.CommandContext(t.Context(), binary, p.name)
	first.Dir = dir
	pipe, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		printed.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "number 4 ") {
			first.Process.Kill()
		}
	}
	if err := first.Wait(); err == nil {
		t.Fatal("the program was not killed")
	}
	again := func() string {
		cmd := exec.CommandContext(t.Context(), binary, p.name)
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	second := again()
	all := shown[0] + shown[1]
	if !strings.HasPrefix(all, printed.String()[:strings.Index(printed.String(), "number 4")]) {
		t.Errorf("the first start printed\n%s", printed.String())
	}
	if !strings.HasSuffix(all, second) || !strings.Contains(second, "number 6 of 10") || strings.Contains(second, "number 3 of 10") {
		t.Errorf("the second start printed\n%s", second)
	}
	if third := again(); third != shown[2] {
		t.Errorf("the third start printed\n%s", third)
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// skipShort skips a test of programs of their own: the race detector, for which tests are short, does not see them.
func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds programs")
	}
}
