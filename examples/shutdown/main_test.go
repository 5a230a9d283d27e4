package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Stopped in the middle, the program ends within its drain timeout; started again, it
// goes on with the same runs and has lost no attempt.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		database.Empty(t, "shutdown")
		path := filepath.Join(t.TempDir(), "shutdown.db")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var out strings.Builder
		began := time.Now()
		if err := count(ctx, path, "", 10*time.Second, &out); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 8*time.Second {
			t.Errorf("stopped after %v, want about 7s", d)
		}
		if out.String() != "stopping; start again to go on\n" {
			t.Errorf("printed %q", &out)
		}
		out.Reset()
		if err := count(t.Context(), path, "", 10*time.Second, &out); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "counted <nil>"); n != 10 {
			t.Errorf("%d counts, want 10:\n%s", n, &out)
		}
		c, err := database.Open("shutdown", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		page, err := c.ListRuns(t.Context(), stint.RunFilter{})
		if err != nil || len(page.Runs) != 10 {
			t.Fatalf("%d runs, %v", len(page.Runs), err)
		}
		for _, r := range page.Runs {
			if r.Attempt != 1 {
				t.Errorf("run %s has attempt %d, want 1", r.ID, r.Attempt)
			}
		}
	})
}
