package postgres

import (
	"testing"

	"github.com/stint-dev/stint/store"
)

// A server that has lost the last commits, as a standby that became the server may, takes no outcome of what executed
// before: it may follow from what is gone, a child that is not there for instance.
func TestOutcomesOfLostCommits(t *testing.T) {
	set := newTables(t)
	ctx := withinMinutes(t)
	p, through := newProxy(t, set)
	s, err := open(ctx, through)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	worker, err := s.Register(ctx, store.WorkerInfo{Name: "w", Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Enqueue(ctx, s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	request := any1(1)
	request.Worker = worker
	old, err := s.Claim(ctx, request)
	if err != nil || len(old) != 1 {
		t.Fatalf("claimed %v, %v", old, err)
	}
	if _, err := dial(t, set).Exec(ctx, qualify("DELETE FROM stint.groups WHERE process = $1", set.Schema), s.direct.process.name); err != nil {
		t.Fatal(err) // as if the last commits were gone
	}
	p.refuse(true)
	p.refuse(false)
	var stale []bool
	for stale == nil { // it finds out with the first, and may say that the server is away
		stale, err = s.Finish(ctx, s.Now(), []store.Outcome{{ID: old[0].ID, Lease: old[0].Lease, To: store.Failed, Queue: "q", Task: "t"}})
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		if err != nil {
			stale = nil
		}
	}
	if !stale[0] {
		t.Fatal("the outcome was taken")
	}
	again, err := s.Claim(ctx, request)
	if err != nil || len(again) != 1 || again[0].ID != old[0].ID || again[0].Lease == old[0].Lease {
		t.Errorf("claimed again: %v, %v; want the run with another lease", again, err)
	}
}
