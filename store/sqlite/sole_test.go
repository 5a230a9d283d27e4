package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
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
	p.enqueueTask("t")
}

func (p *peer) enqueueTask(name string) {
	p.Helper()
	if _, err := p.Enqueue(p.Context(), time.Now(), []store.NewRun{{Task: name, Queue: "q"}}); err != nil {
		p.Fatal(err)
	}
}

// untilUnstamped enqueues runs of a task until one does not stamp its lane, and returns how many.
func (p *peer) untilUnstamped(db *sql.DB, task string) (n int) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	for ; ctx.Err() == nil; n++ {
		before := stamp(p.T, db)
		if p.enqueueTask(task); stamp(p.T, db) == before {
			return n + 1
		}
	}
	p.Fatal("stamps lanes for long")
	return n
}

func testDB(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
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
	db := testDB(t, dir)
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

// A store that cannot read the directory of presences, which has another's, stamps all the same.
func TestStampsForOthersUnseen(t *testing.T) {
	dir := t.TempDir()
	p, another := openPeer(t, dir), openPeer(t, dir)
	db := testDB(t, dir)
	p.enqueue()
	another.succeed() // it has read all lanes
	place := filepath.Join(dir, ".test.db-stint")
	if err := os.Rename(place, place+"-away"); err != nil {
		t.Skip(err) // not while files there are open
	}
	if err := os.WriteFile(place, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for ctx.Err() == nil { // it looks several times
		before := stamp(t, db)
		if p.enqueue(); stamp(t, db) == before {
			t.Fatal("did not stamp the lane that another reads")
		}
	}
	another.succeed()
}

// A store that cannot recreate its presence still hears of each run.
func TestRunsWithoutPresence(t *testing.T) {
	dir := t.TempDir()
	p := openPeer(t, dir)
	db := testDB(t, dir)
	p.enqueueTask("other")
	p.succeed() // it knows its lanes from now on, and when it has stamped them
	p.untilUnstamped(db, "other")
	runs := p.untilUnstamped(db, "t")
	mine := presences(t, dir)[0]
	another := openPeer(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	claim := func(ctx context.Context, task string, free int) int {
		got, _ := another.Claim(ctx, store.ClaimRequest{Worker: another.worker, Free: func() int { return free },
			Tasks: func(name string) bool { return name == task }})
		return len(got)
	}
	if got := claim(ctx, "t", runs+1); got != runs { // it has seen the lane empty
		t.Fatalf("claimed %d runs, want %d", got, runs)
	}
	before := loaded(t, db)
	for _, name := range presences(t, dir) {
		if name == mine {
			continue
		}
		inTheWay := filepath.Join(filepath.Dir(name), ".new-"+filepath.Base(name))
		if err := errors.Join(os.Mkdir(inTheWay, 0o700), os.Remove(name)); err != nil {
			t.Fatal(err)
		}
	}
	waiting, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { claim(waiting, "none", 1) })
	for loaded(t, db) == before && ctx.Err() == nil { // it has not noticed
	}
	stop()
	wg.Wait()
	p.untilUnstamped(db, "other") // it takes itself for the only one
	p.enqueue()
	if got := claim(ctx, "t", 2); got != 1 {
		t.Fatalf("claimed %d runs, want 1", got)
	}
}

// loaded changes when a store has read all lanes.
func loaded(t *testing.T, db *sql.DB) (mark string) {
	t.Helper()
	if err := db.QueryRow("SELECT hex(value) FROM stint_meta WHERE key = 'loaded'").Scan(&mark); err != nil {
		t.Fatal(err)
	}
	return mark
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
