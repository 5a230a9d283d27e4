package sqlite

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint/store"
)

// What dead processes counted stands in one row of each minute, and counts once.
func TestTalliesOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "dead.db")
		began := time.Now()
		open := func() *Store {
			t.Helper()
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		watcher := open()
		defer watcher.Close()
		for range 3 {
			s := open()
			w, err := s.Register(t.Context(), store.WorkerInfo{Name: "w"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Enqueue(t.Context(), time.Now(), []store.NewRun{{Task: "t", Queue: "q"}}); err != nil {
				t.Fatal(err)
			}
			got, err := s.Claim(t.Context(), store.ClaimRequest{Worker: w, Free: func() int { return 1 },
				Tasks: func(string) bool { return true }})
			if err != nil || len(got) != 1 {
				t.Fatalf("claimed %v, %v", got, err)
			}
			time.Sleep(3 * time.Second)
			s.Crash()
			if r, err := watcher.Recover(t.Context()); err != nil || r.Requeued != 1 {
				t.Fatalf("recovered %+v, %v", r, err)
			}
			if n, err := watcher.Act(t.Context(), time.Now(), store.Action{Kind: store.ActCancel}, store.Filter{}); err != nil || n != 1 {
				t.Fatalf("canceled %d, %v", n, err)
			}
		}
		list := store.CounterList{Span: time.Hour, Since: began, Of: store.PerTask}
		err := watcher.Read(t.Context(), &list)
		if all := list.Counters; err != nil || len(all) != 1 || all[0].Enqueued != 3 || all[0].Started != 3 {
			t.Errorf("counters are %+v, %v", all, err)
		}
		var rows []string
		err = watcher.view(t.Context(), func(q querier) (err error) {
			rows, err = column[string](q, "SELECT DISTINCT process FROM stint_counters WHERE task = 't' AND process <> ?", watcher.presence.name)
			return err
		})
		if err != nil || len(rows) != 1 || rows[0] != "" {
			t.Errorf("there are rows of %q, %v", rows, err)
		}
	})
}

// A store that is open and idle for days holds few counters in memory, and few rows.
func TestIdleCounters(t *testing.T) {
	for _, path := range []string{":memory:", filepath.Join(t.TempDir(), "idle.db")} {
		synctest.Test(t, func(t *testing.T) {
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for day := range 7 {
				for range 24 * 60 {
					time.Sleep(time.Minute)
					if err := s.do(t.Context(), func(*unit) error { return nil }); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.expireCounters(t.Context()); err != nil {
					t.Fatal(err)
				}
				var held, rows int
				err := s.do(t.Context(), func(u *unit) error {
					held = u.counters.Held()
					return u.one("SELECT count(*) FROM stint_counters", nil, &rows)
				})
				if err != nil {
					t.Fatal(err)
				}
				if held > 200 || rows > 3000 {
					t.Fatalf("%s: %d sums in memory and %d rows after %d days", path, held, rows, day+1)
				}
			}
		})
	}
}
