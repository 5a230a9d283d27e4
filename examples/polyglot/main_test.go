package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each language's task gets what the one before it returns.
func TestRun(t *testing.T) {
	if _, err := tools(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for name, size := range map[string]int{"a": 1, "b": 2, "c": 6} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if err := run(t.Context(), options{db: filepath.Join(t.TempDir(), "p.db"), dir: dir, verbose: testing.Verbose()}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"sizes":[1,2,6]}`, `"median":2`, "3 files: median 2 bytes, mean 3 bytes ± 2.2 bytes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in\n%s", want, &out)
		}
	}
}

// A machine without Python and node is told which programs it lacks.
func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var out strings.Builder
	err := run(t.Context(), options{db: ":memory:", dir: "."}, &out)
	for _, want := range []string{"Python 3.10 or later", "Node.js 20 or later", "npm"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}

// A run that fails ends the program, with the error of the task.
func TestEmptyFolder(t *testing.T) {
	if _, err := tools(); err != nil {
		t.Skip(err)
	}
	var out strings.Builder
	if err := run(t.Context(), options{db: ":memory:", dir: t.TempDir()}, &out); err == nil || !strings.Contains(err.Error(), "has no files") {
		t.Errorf("error is %v, want that of task measure", err)
	}
}
