package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stint-dev/stint/examples/internal/database"
)

// The test binary is the program if its arguments are those of a worker.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[3] == "-worker" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A worker is killed in the midst of its work: every run succeeds, and what the dead one had recorded stays.
func TestFleet(t *testing.T) {
	const runs = 200
	database.Empty(t, "fleet")
	var out strings.Builder
	if err := demo(t.Context(), filepath.Join(t.TempDir(), "fleet.db"), runs, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Log(out.String())
	var held, all, taken, kept, steps int
	for line := range strings.Lines(out.String()) {
		fmt.Sscanf(line, "killed bob, which was executing about %d runs", &held)
		fmt.Sscanf(line, "all %d runs succeeded; %d were taken over, of which %d", &all, &taken, &kept)
		var name string
		var n int
		if k, _ := fmt.Sscanf(line, "%s executed %d steps", &name, &n); k == 2 {
			steps += n
		}
	}
	if held == 0 || all != runs || steps != 3*runs {
		t.Errorf("%d runs of %d succeeded, with %d steps, want %d; %d were executing at the death", all, runs, steps, 3*runs, held)
	}
	if taken > held+8 || kept > taken { // a run may start between the look and the death
		t.Errorf("%d were taken over, of about %d; %d had recorded steps", taken, held, kept)
	}
}
