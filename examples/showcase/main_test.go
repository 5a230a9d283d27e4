package main

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// After the first day there is something of everything that the page shows.
func TestShowcase(t *testing.T) {
	database.Empty(t, "showcase")
	path := filepath.Join(t.TempDir(), "showcase.db")
	var out strings.Builder
	if err := show(t.Context(), path, "", &out); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"succeeded", "failed", "scheduled", "canceled"} {
		if !strings.Contains(out.String(), "runs "+state) {
			t.Errorf("no run is %s:\n%s", state, out.String())
		}
	}
	c, err := database.Open("showcase", path, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	newShop(c)
	names, err := c.Names(t.Context())
	if err != nil || len(names.Tasks) < 20 {
		t.Errorf("%d tasks, %v", len(names.Tasks), err)
	}
	whole := find(t, c, stint.RunFilter{Tasks: []string{"publish-site"}, States: []stint.State{stint.StateSucceeded}})
	if info, err := c.GetRun(t.Context(), whole); err != nil || len(info.Tasks) != layers*wide {
		t.Errorf("the workflow has %d tasks, %v", len(info.Tasks), err)
	}
	durable := find(t, c, stint.RunFilter{Tasks: []string{"fulfil-order"}, States: []stint.State{stint.StateSucceeded}})
	if journal, err := c.Journal(t.Context(), durable); err != nil || len(journal) < 40 {
		t.Errorf("the journal has %d entries, %v", len(journal), err)
	}
	if page, err := c.ListErrors(t.Context(), stint.ErrorFilter{}); err != nil || len(page.Groups) < 4 {
		t.Errorf("%d kinds of errors, %v", len(page.Groups), err)
	}
}

// find returns the ID of the newest run that a filter selects.
func find(t *testing.T, c *stint.Client, f stint.RunFilter) string {
	t.Helper()
	page, err := c.ListRuns(t.Context(), f)
	if err != nil || len(page.Runs) == 0 {
		t.Fatalf("no run of %v: %v", f.Tasks, err)
	}
	return page.Runs[0].ID
}
