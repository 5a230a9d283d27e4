package sqlite

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// Pages of a run's children have each of them once, in their order, from either end.
func TestPagesOfChildren(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "children.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ok := failing(t)
	var g store.Graph
	g.Workflow = "w"
	for i := range 25 {
		g.Tasks = append(g.Tasks, store.GraphTask{Name: fmt.Sprint("t", i), Queue: "q"})
	}
	graph, err := store.NewGraph(g)
	ok(err)
	n := store.NewRun{Task: "w", Queue: "q", Graph: graph}
	runs, err := s.Enqueue(t.Context(), time.Now(), []store.NewRun{n, n})
	ok(err)
	for _, oldest := range []bool{false, true} {
		for _, limit := range []int{1, 10, 24, 25, 26} {
			var names []string
			f, before := store.Filter{Parent: runs[0].ID, Oldest: oldest}, store.ID{}
			for pages := 0; ; pages++ {
				page, next, err := s.List(t.Context(), f, before, limit)
				ok(err)
				for _, r := range page {
					names = append(names, r.Task)
				}
				if before = next; next == (store.ID{}) {
					break
				}
				if len(page) != limit || pages > 25 {
					t.Fatalf("page %d has %d runs, want %d", pages, len(page), limit)
				}
			}
			if !oldest {
				slices.Reverse(names)
			}
			for i, name := range names {
				if want := fmt.Sprint("w:t", i); name != want {
					t.Errorf("limit %d, oldest %t: run %d is of %q, want %q", limit, oldest, i, name, want)
				}
			}
			if len(names) != 25 {
				t.Errorf("limit %d, oldest %t: %d runs, want 25", limit, oldest, len(names))
			}
		}
	}
}
