package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// Counts of limiters that somebody changed by hand are set right when the file is opened.
func TestRecount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.db")
	open := func() (*sqlite.Store, int64) {
		s, err := sqlite.Open(path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		w, err := s.Register(t.Context(), store.WorkerInfo{Name: "w"})
		if err != nil {
			t.Fatal(err)
		}
		return s, w
	}
	s, _ := open()
	limit := []store.Limit{{Name: "n", Key: "k", Max: 2, Strategy: store.StrategyQueue}}
	runs := make([]store.NewRun, 5)
	for i := range runs {
		runs[i] = store.NewRun{Task: "t", Queue: "q", Input: []byte("1"), Limits: limit}
	}
	if _, err := s.Enqueue(t.Context(), time.Now(), runs); err != nil {
		t.Fatal(err)
	}
	check := func(s *sqlite.Store, active, waiting int) {
		t.Helper()
		var list store.LimitList
		err := s.Read(t.Context(), &list)
		if got := list.Limits; err != nil || len(got) != 1 || got[0].Active != active || got[0].Waiting != waiting {
			t.Fatalf("%+v, %v: want %d active, %d waiting", got, err, active, waiting)
		}
	}
	check(s, 2, 3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("UPDATE stint_limiters SET active = 17, admitted = 0, waiting = 40"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	s, w := open()
	defer s.Close()
	check(s, 2, 3)
	got, err := s.Claim(t.Context(), store.ClaimRequest{Worker: w, Free: func() int { return 10 },
		Tasks: func(string) bool { return true }})
	if err != nil || len(got) != 2 {
		t.Fatalf("%d runs, %v: want 2", len(got), err)
	}
	check(s, 2, 3)
	if _, err := s.Finish(t.Context(), time.Now(), []store.Outcome{{ID: got[0].ID, Lease: got[0].Lease, To: store.Succeeded}}); err != nil {
		t.Fatal(err)
	}
	check(s, 2, 2)
}

// Counts whose sum is no number do not fail what the file is opened for (R8).
func TestHugeCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.db")
	run := func(key string) store.NewRun {
		return store.NewRun{Task: "t", Queue: "q", Input: []byte("1"),
			Limits: []store.Limit{{Name: "n", Key: key, Max: 1, Strategy: store.StrategyQueue}}}
	}
	for _, keys := range [][]string{{"a", "a", "b", "b"}, {"c"}} {
		s, err := sqlite.Open(path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if _, err := s.Enqueue(t.Context(), time.Now(), []store.NewRun{run(key)}); err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("UPDATE stint_limiters SET waiting = 1 << 62"); err != nil {
			t.Fatal(err)
		}
		db.Close()
	}
}
