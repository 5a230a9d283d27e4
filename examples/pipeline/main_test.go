package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func folder(t *testing.T, files map[string]string) string {
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The whole graph: a branch is skipped, a task is retried, the report is right.
func TestIndex(t *testing.T) {
	database.Empty(t, "pipeline")
	dir := folder(t, map[string]string{"a.txt": "durable tasks, durable graphs", "b.md": "durable tasks"})
	var out strings.Builder
	if err := index(t.Context(), ":memory:", dir, "", &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 text files, 0 pictures, 42 bytes; most used words: durable, tasks, graphs", "↷ images", "✓ publish (attempt 3)", "✓ report"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}

// Stopped and started again, the program continues the same run.
func TestResume(t *testing.T) {
	database.Empty(t, "pipeline")
	dir := folder(t, map[string]string{"a.txt": "word"})
	path := filepath.Join(t.TempDir(), "p.db")
	ctx, cancel := context.WithCancel(t.Context())
	var out strings.Builder
	stopping := writer(func(b []byte) {
		if strings.Contains(string(b), "✓ list") {
			cancel()
		}
	})
	if err := index(ctx, path, dir, "", stopping); !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped: %v", err)
	}
	if err := index(t.Context(), path, dir, "", &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "going on with run") || strings.Contains(out.String(), "· list") {
		t.Errorf("did not go on:\n%s", &out)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// A folder that does not exist fails the run, with an error that names the task.
func TestMissingFolder(t *testing.T) {
	database.Empty(t, "pipeline")
	var out strings.Builder
	err := index(t.Context(), ":memory:", filepath.Join(t.TempDir(), "none"), "", &out)
	var werr *stint.WorkflowError
	if !errors.As(err, &werr) || werr.Tasks["list"] == nil {
		t.Errorf("got %v, want the failure of task list", err)
	}
}
