package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// A run whose row somebody has broken by hand is blocked, with an explanation, and holds
// up nothing else (R8).
func TestR8DamagedRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w, err := s.Register(t.Context(), store.WorkerInfo{Name: "w"})
	if err != nil {
		t.Fatal(err)
	}
	runs := make([]store.NewRun, 3)
	for i := range runs {
		runs[i] = store.NewRun{Task: "t", Queue: "q", Input: []byte{'0' + byte(i)}}
	}
	made, err := s.Enqueue(t.Context(), time.Now(), runs)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(1000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("UPDATE stint_runs SET node = -1 WHERE CAST(input AS TEXT) = '1'"); err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(t.Context(), store.ClaimRequest{Worker: w, Free: func() int { return 10 },
		Tasks: func(string) bool { return true }})
	if err != nil || len(got) != 2 || string(got[0].Input) != "0" || string(got[1].Input) != "2" {
		t.Fatalf("claimed %v, %v", got, err)
	}
	r, err := s.Get(t.Context(), made[1].ID)
	if err != nil || r.State != store.Blocked || !strings.Contains(string(r.Error), `"kind":"damaged"`) {
		t.Errorf("the damaged run is %v: %s, %v", r.State, r.Error, err)
	}
}

// A cron whose row somebody has changed by hand says so, and holds up neither other crons nor timers (R8).
func TestR8DamagedCron(t *testing.T) {
	for _, catchUp := range []int64{-1, 256, 1 << 62} {
		path := filepath.Join(t.TempDir(), "a.db")
		s, err := sqlite.Open(path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"damaged", "whole"} {
			c := store.Cron{Name: name, Spec: "@hourly", CatchUp: store.CatchUpLatest,
				Template: store.Template{Run: store.NewRun{Task: name, Queue: "q", Input: []byte("1")}}}
			if _, err := s.ChangeCron(t.Context(), time.Now(), store.CronChange{Kind: store.CronSet, Cron: c}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		changeByHand(t, path, "UPDATE stint_crons SET next_at = 1")
		changeByHand(t, path, "UPDATE stint_crons SET catch_up = ? WHERE name = 'damaged'", catchUp)
		if s, err = sqlite.Open(path, sqlite.Options{}); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w, err := s.Register(t.Context(), store.WorkerInfo{Name: "w"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Claim(t.Context(), store.ClaimRequest{Worker: w, Free: func() int { return 10 },
			Tasks: func(string) bool { return true }})
		if err != nil || len(got) != 1 || got[0].Task != "whole" {
			t.Fatalf("catch-up %d: claimed %v, %v", catchUp, got, err)
		}
		all, _, err := s.Crons(t.Context(), "", 10)
		if err != nil || len(all) != 2 || !strings.Contains(all[0].Error, "catch-up") || all[1].Error != "" {
			t.Errorf("catch-up %d: crons %v, %v", catchUp, all, err)
		}
	}
}

// changeByHand executes a statement on a file that no store has open.
func changeByHand(t *testing.T, path, query string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatal(err)
	}
}
