package sqlite_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// stamp returns the highest stamp of a lane.
func stamp(t *testing.T, db *sql.DB) (n int64) {
	t.Helper()
	if err := db.QueryRow("SELECT coalesce(max(stamp), 0) FROM stint_lanes").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *peer) enqueue() {
	p.Helper()
	if _, err := p.Enqueue(p.Context(), time.Now(), []store.NewRun{{Task: "t", Queue: "q"}}); err != nil {
		p.Fatal(err)
	}
}

// presences returns the paths of the files of the stores that have the file open.
func presences(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, ".test.db-stint", "[0-9a-f]*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A store that is alone does not stamp lanes. One that opens the file, or whose presence somebody removes, still
// hears of each run.
func TestStampsForOthersAlone(t *testing.T) {
	dir := t.TempDir()
	p := openPeer(t, dir)
	db, err := sql.Open("sqlite", filepath.Join(dir, "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	mine := presences(t, dir)
	runs := 0
	untilStamped := func(want bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for {
			before := stamp(t, db)
			p.enqueue()
			runs++
			if (stamp(t, db) != before) == want {
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("stamps lanes: want %v for long", want)
			}
		}
	}
	untilStamped(true)
	untilStamped(false)
	another := openPeer(t, dir)
	drain := func() {
		for ; runs > 0; runs-- {
			another.succeed()
		}
	}
	drain()
	for range 30 { // the other waits for each
		untilStamped(true)
		drain()
	}
	theirs := presences(t, dir)
	theirs = slices.DeleteFunc(theirs, func(name string) bool { return name == mine[0] })
	for range 8 {
		if err := os.Remove(theirs[0]); err != nil {
			t.Fatal(err)
		}
		for alone := false; !alone && len(presences(t, dir)) == 1; runs++ {
			before := stamp(t, db)
			p.enqueue()
			alone = stamp(t, db) == before
		}
		drain()
		for len(presences(t, dir)) == 1 { // it is recreated
			p.enqueue()
			runs++
		}
	}
	if err := another.Close(); err != nil {
		t.Fatal(err)
	}
	untilStamped(false)
}

// No key is given twice, also after the newest run was deleted and the clock set back.
func TestKeysOfTheDeleted(t *testing.T) {
	dir := t.TempDir()
	p := openPeer(t, dir)
	p.enqueue()
	last := p.succeed().ID
	if n, err := p.Act(t.Context(), time.Now(), store.Action{Kind: store.ActDelete}, store.Filter{}); err != nil || n != 1 {
		t.Fatalf("deleted %d, %v", n, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = openPeer(t, dir)
	made, err := p.Enqueue(t.Context(), time.Now().Add(-time.Hour), []store.NewRun{{Task: "t", Queue: "q"}})
	if err != nil {
		t.Fatal(err)
	}
	if made[0].ID.String() <= last.String() {
		t.Errorf("the next run is %s, not after %s", made[0].ID, last)
	}
}
