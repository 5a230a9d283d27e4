package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stint-dev/stint/examples/internal/database"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Without limits the service refuses calls; with them the small tenants are done long before the
// greedy one, and nothing is refused.
func TestFairness(t *testing.T) {
	database.Empty(t, "fairness")
	path := filepath.Join(t.TempDir(), "fair.db")
	refusals := map[bool]int{}
	for _, limited := range []bool{false, true} {
		var out strings.Builder
		if err := demo(t.Context(), path, "", limited, &out); err != nil {
			t.Fatal(err)
		}
		http.DefaultClient.CloseIdleConnections()
		t.Log(out.String())
		done := map[string]float64{}
		refused := 0
		for line := range strings.Lines(out.String()) {
			var name string
			var calls int
			var after float64
			if n, _ := fmt.Sscanf(line, "  %s %d calls, done after %f s", &name, &calls, &after); n == 3 {
				done[name] = after
			}
			fmt.Sscanf(line, "  the service refused %d calls", &refused)
		}
		if len(done) != 3 {
			t.Fatalf("no report in %q", out.String())
		}
		refusals[limited] = refused
		if limited && (done["small"] > done["greedy"]/1.5 || done["tiny"] > done["greedy"]/1.5) {
			t.Errorf("done %v", done)
		}
	}
	if refusals[false] < 20 || refusals[true] > refusals[false]/20 { // a machine with other work may deliver starts late, and together
		t.Errorf("refused %v", refusals)
	}
}
