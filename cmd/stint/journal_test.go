package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// All of a journal of more than a page is printed: as a table with one header, as JSON, and in the
// format that ReplayJournal reads.
func TestLongJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "long.db")
	c, err := stint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	const n = 1100
	handler := func(ctx context.Context, _ int) (int, error) {
		for i := range n {
			if _, err := stint.Step(ctx, fmt.Sprintf("step-%d-", i), func(context.Context) (int, error) { return i, nil }); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}
	run, err := stint.NewTask(c, "steps", handler).Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := stinttest.Drain(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	table := must(t, "WHERE", "journal", path, run.ID())
	lines := must(t, `"Address"`, "journal", "-json", path, run.ID())
	exported := must(t, `"entries"`, "export", path, run.ID())
	for what, text := range map[string]string{"table": table, "JSON": lines, "export": exported} {
		at := 0
		for i := range n {
			if name := fmt.Sprintf("step-%d-", i); strings.Count(text, name) != 1 || strings.Index(text, name) < at {
				t.Fatalf("%s: %s is there %d times", what, name, strings.Count(text, name))
			} else {
				at = strings.Index(text, name)
			}
		}
	}
	if got := strings.Count(strings.TrimSpace(table), "\n"); got != n || strings.Count(table, "WHERE") != 1 {
		t.Errorf("the table has %d lines, %d headers", got+1, strings.Count(table, "WHERE"))
	}
	stinttest.Replay(t, []byte(exported), handler)
}
