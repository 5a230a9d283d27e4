package sqlite_test

import (
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// A peer is one of several stores on a file, with a worker.
type peer struct {
	*testing.T
	store.Store
	worker int64
}

func openPeer(t *testing.T, dir string) *peer {
	t.Helper()
	p := &peer{T: t, Store: open(t, dir)}
	t.Cleanup(func() { p.Close() })
	var err error
	if p.worker, err = p.Register(t.Context(), store.WorkerInfo{Name: "w", Slots: 1}); err != nil {
		t.Fatal(err)
	}
	return p
}

// succeed claims a run, ends it well, and returns what it was given.
func (p *peer) succeed() store.Claimed {
	p.Helper()
	got, err := p.Claim(p.Context(), store.ClaimRequest{Worker: p.worker, Free: func() int { return 1 },
		Tasks: func(string) bool { return true }})
	if err != nil || len(got) != 1 {
		p.Fatalf("claimed %d runs, %v", len(got), err)
	}
	c := got[0]
	stale, err := p.Finish(p.Context(), time.Now(), []store.Outcome{{ID: c.ID, Lease: c.Lease, To: store.Succeeded, Parent: c.Parent,
		Node: c.Node}})
	if err != nil || stale[0] {
		p.Fatalf("finished: stale %v, %v", stale, err)
	}
	return c
}

// Attempts of a workflow's tasks go on also where the store that starts a task has neither
// ended nor replayed the workflow.
func TestReplayByAnotherStore(t *testing.T) {
	for what, another := range map[string]bool{"the same store": false, "another": true} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			p := openPeer(t, dir)
			by := p
			if another {
				by = openPeer(t, dir)
			}
			graph, err := store.NewGraph(store.Graph{Workflow: "w", Tasks: []store.GraphTask{{Name: "a", Queue: "q"},
				{Name: "b", Queue: "q", Parents: []int{0}}}})
			if err != nil {
				t.Fatal(err)
			}
			made, err := p.Enqueue(t.Context(), time.Now(), []store.NewRun{{Task: "w", Queue: "q", Graph: graph}})
			if err != nil {
				t.Fatal(err)
			}
			p.succeed()  // a
			by.succeed() // b
			replay, one := store.Action{Kind: store.ActReplay}, store.Filter{IDs: []store.ID{made[0].ID}}
			if n, err := by.Act(t.Context(), time.Now(), replay, one); err != nil || n == 0 {
				t.Fatalf("replayed %d, %v", n, err)
			}
			p.succeed()
			if b := p.succeed(); b.Attempt != 2 {
				t.Errorf("b is at attempt %d, want 2", b.Attempt)
			}
		})
	}
}
