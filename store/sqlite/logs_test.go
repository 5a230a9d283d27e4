package sqlite_test

import (
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// Log lines that would be deleted at once are not written.
func TestLogsBeyondTheLast(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	w, err := s.Register(t.Context(), store.WorkerInfo{Name: "w"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Enqueue(t.Context(), time.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(t.Context(), store.ClaimRequest{Worker: w, Free: func() int { return 1 }, Tasks: func(string) bool { return true }})
	if err != nil || len(got) != 1 {
		t.Fatalf("%d runs, %v", len(got), err)
	}
	const others = 100 // rows that the engine keeps for itself
	for _, c := range []struct{ lines, changes int64 }{
		{10, 10}, // control
		{store.MaxLogs, store.MaxLogs + 10},
		{3 * store.MaxLogs, 2 * store.MaxLogs},
	} {
		before := s.Changes(t)
		record := []store.Record{{ID: got[0].ID, Lease: got[0].Lease, Logs: make([]store.Log, c.lines)}}
		if _, err := s.Record(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		if n := s.Changes(t) - before; n < c.changes || n > c.changes+others {
			t.Errorf("%d lines changed %d rows, want %d", c.lines, n, c.changes)
		}
	}
}
