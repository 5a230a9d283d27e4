package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// Check finds what was done to a file by hand, and changes nothing.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "check.db")
	s, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	limit := []store.Limit{{Name: "n", Key: "k", Max: 2, Strategy: store.StrategyQueue}}
	runs := []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1"), Limits: limit}, {Task: "t", Queue: "q", Input: []byte("1"),
		Key: "key", KeyTTL: store.UntilDone}}
	if _, err := s.Enqueue(t.Context(), time.Now(), runs); err != nil {
		t.Fatal(err)
	}
	check := func(want ...string) {
		t.Helper()
		for range 2 {
			got, err := sqlite.Check(t.Context(), path)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%q, %v: want %q", got, err, want)
			}
		}
	}
	check() // also while it is in use
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range []struct{ do, undo, found string }{
		{"UPDATE stint_limiters SET active = 17", "UPDATE stint_limiters SET active = 1",
			`limit "n" (key "k"): has {active:17 admitted:1 waiting:0}, want {active:1 admitted:1 waiting:0}`},
		{"UPDATE stint_keys SET run = 1", "UPDATE stint_keys SET run = (SELECT max(id) FROM stint_runs)",
			"1 keys of runs that are not there"},
		{"UPDATE stint_runs SET lane = lane + 9", "UPDATE stint_runs SET lane = lane - 9", ""},
	} {
		if _, err := db.Exec(c.do); err != nil {
			t.Fatal(err)
		}
		got, err := sqlite.Check(t.Context(), path)
		if err != nil || len(got) == 0 || c.found != "" && !slices.Contains(got, c.found) {
			t.Errorf("after %s: %q, %v", c.do, got, err)
		}
		if _, err := db.Exec(c.undo); err != nil {
			t.Fatal(err)
		}
		check()
	}
	if _, err := sqlite.Check(t.Context(), filepath.Join(dir, "none.db")); err == nil {
		t.Error("checked a file that is not there")
	}
}
