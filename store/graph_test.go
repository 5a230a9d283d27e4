package store_test

import (
	"slices"
	"testing"

	"github.com/stint-dev/stint/store"
)

func TestAncestors(t *testing.T) {
	task := func(name string, parents ...int) store.GraphTask {
		return store.GraphTask{Name: name, Queue: "q", Parents: parents}
	}
	g, err := store.NewGraph(store.Graph{Workflow: "w", Tasks: []store.GraphTask{task("a"), task("b"), task("c", 0), task("d", 2, 0), task("e"),
		task("f", 3, 4)}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]int{nil, nil, {0}, {0, 2}, nil, {0, 2, 3, 4}} {
		if got := g.Ancestors(i); !slices.Equal(got, want) {
			t.Errorf("before %d: %v, want %v", i, got, want)
		}
	}
}
