package store_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stint-dev/stint/store"
)

var update = flag.Bool("update", false, "write docs/design/states.md anew")

// docs/design/states.md shows the states and transitions that there are.
func TestStatesPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# The states of a run\n\nMade from `store.Transitions` by `go test ./store -update`. " +
		"In tests each change that a store makes is looked up in it.\n\n")
	b.WriteString("```mermaid\nstateDiagram-v2\n    [*] --> scheduled\n    [*] --> queued\n    [*] --> running\n    [*] --> waiting\n")
	for _, tr := range store.Transitions {
		if !tr.From.Terminal() {
			fmt.Fprintf(&b, "    %v --> %v\n", tr.From, tr.To)
		}
	}
	b.WriteString("```\n\nFrom a state in which it has ended a run comes only by a replay.\n\n| from | to | when |\n| --- | --- | --- |\n")
	for _, tr := range store.Transitions {
		fmt.Fprintf(&b, "| %v | %v | %s |\n", tr.From, tr.To, tr.When)
	}
	const page = "../docs/design/states.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != b.String() {
		t.Errorf("%s is not what store.Transitions says (%v): run go test ./store -update", page, err)
	}
}

// A run leaves a state in which it has ended only to run again, and no transition is listed twice.
func TestTransitions(t *testing.T) {
	seen := map[[2]store.State]bool{}
	for _, tr := range store.Transitions {
		at := [2]store.State{tr.From, tr.To}
		if seen[at] || tr.From == tr.To || tr.When == "" {
			t.Errorf("%v to %v: listed twice, or says nothing", tr.From, tr.To)
		}
		seen[at] = true
		if again := []store.State{store.Queued, store.Running}; tr.From.Terminal() && !slices.Contains(again, tr.To) {
			t.Errorf("%v to %v is no replay", tr.From, tr.To)
		}
		if !store.Legal(tr.From, tr.To) {
			t.Errorf("%v to %v is not legal", tr.From, tr.To)
		}
	}
	if store.Legal(store.Succeeded, store.Failed) || store.Legal(store.Scheduled, store.Succeeded) {
		t.Error("all is legal")
	}
}
