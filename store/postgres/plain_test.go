package postgres

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
)

var oneRun = []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}

// A process whose clock is ahead has enqueued. What another enqueues after that comes after it, under the ID that it
// returns, though the process gave a lower key.
func TestMovedKeys(t *testing.T) {
	set := noTables(t)
	ahead, s := openStore(t, set), openStore(t, set)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var want []store.ID
	for range 3 {
		ahead.keys.from(ahead.Now().Add(time.Hour).UnixMilli() << keyBits)
		for _, x := range []*Store{ahead, s, s} {
			made, err := x.Enqueue(ctx, x.Now(), oneRun)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, made[0].ID)
		}
	}
	got, err := s.Claim(ctx, any1(len(want)))
	if err != nil || len(got) != len(want) {
		t.Fatalf("claimed %d runs, %v, want %d", len(got), err, len(want))
	}
	for i := range want {
		if got[i].ID != want[i] {
			t.Errorf("run %d is %s, want %s, in the order of the enqueues", i, got[i].ID, want[i])
		}
	}
}

// The answer to a plain group is lost, whose keys were moved: the IDs that it returns are those of its runs.
func TestMovedKeysOfALostAnswer(t *testing.T) {
	set := newTables(t)
	p, through := newProxy(t, set)
	through.direct = set.direct // what is cut is the writer's
	s, err := open(t.Context(), through)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ahead := openStore(t, set)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 { // learns the lane, and prepares the statements
		if _, err := s.Enqueue(ctx, s.Now(), oneRun); err != nil {
			t.Fatal(err)
		}
	}
	ahead.keys.from(ahead.Now().Add(time.Hour).UnixMilli() << keyBits)
	if _, err := ahead.Enqueue(ctx, ahead.Now(), oneRun); err != nil {
		t.Fatal(err)
	}
	marker := []byte("a marker")
	var sent, cut atomic.Bool
	p.set(func(b []byte) bool {
		if bytes.Contains(b, marker) {
			sent.Store(true)
		}
		return true
	}, func([]byte) bool { return !sent.Load() || cut.Swap(true) })
	made, err := s.Enqueue(ctx, s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: marker}})
	if err != nil {
		t.Fatal(err)
	}
	if !cut.Load() {
		t.Error("nothing was cut")
	}
	key, _ := s.ids.Key(made[0].ID)
	var input []byte
	err = dial(t, set).QueryRow(ctx, qualify("SELECT input FROM stint.runs WHERE id = $1", set.Schema), key).Scan(&input)
	if err != nil || !bytes.Equal(input, marker) {
		t.Errorf("the run that was returned: input %q, %v", input, err)
	}
}

// What a plain group assumes does not hold: it is decided again, and nothing of the first try is left.
func TestNotTheUsualCase(t *testing.T) {
	set := noTables(t)
	s := openStore(t, set)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.Enqueue(ctx, s.Now(), append(oneRun, oneRun...)); err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(ctx, any1(2))
	if err != nil || len(got) != 2 {
		t.Fatalf("claimed %d runs, %v, want 2", len(got), err)
	}
	lost, _ := s.ids.Key(got[0].ID)
	if _, err := dial(t, set).Exec(ctx, qualify("UPDATE stint.runs SET lease = 1 WHERE id = $1", set.Schema), lost); err != nil {
		t.Fatal(err)
	}
	outcomes := make([]store.Outcome, 2)
	for i, c := range got {
		outcomes[i] = store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Succeeded, Output: []byte("1"), Queue: c.Queue, Task: c.Task}
	}
	stale, err := s.Finish(ctx, s.Now(), outcomes)
	if err != nil || !stale[0] || stale[1] {
		t.Errorf("finish: stale %v, %v, want the first", stale, err)
	}
	states, err := pgx.CollectRows(query(t, dial(t, set), qualify("SELECT state FROM stint.runs ORDER BY id", set.Schema)), pgx.RowTo[int])
	if err != nil || len(states) != 2 || states[0] != int(store.Running) || states[1] != int(store.Succeeded) {
		t.Errorf("states %v, %v, want the first running, the second succeeded", states, err)
	}
}

func query(t *testing.T, c *pgx.Conn, text string) pgx.Rows {
	t.Helper()
	rows, err := c.Query(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// The epoch was changed unseen: new runs, which are inserted before it is tested, are undone, and inserted once.
func TestFreshRunsOfAnOldEpoch(t *testing.T) {
	set := noTables(t)
	s := openStore(t, set)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	enqueue := func(runs []store.NewRun) {
		t.Helper()
		if made, err := s.Enqueue(ctx, s.Now(), runs); err != nil || len(made) != len(runs) {
			t.Fatalf("enqueued %d runs, %v, want %d", len(made), err, len(runs))
		}
	}
	enqueue(oneRun) // learns the lane, and the epoch
	want := 1
	for _, n := range []int{1, 2, 1} {
		if _, err := dial(t, set).Exec(ctx, qualify("UPDATE stint.epoch SET n = n + 1", set.Schema)); err != nil {
			t.Fatal(err)
		}
		runs := append(oneRun, oneRun...)[:n]
		enqueue(runs)
		enqueue(runs)
		want += 2 * n
	}
	var runs, groups int
	count := qualify("SELECT (SELECT count(*) FROM stint.runs), (SELECT count(*) FROM stint.groups WHERE process = $1)", set.Schema)
	if err := dial(t, set).QueryRow(ctx, count, s.direct.process.name).Scan(&runs, &groups); err != nil {
		t.Fatal(err)
	}
	if runs != want || groups == 0 || groups > leftGroups {
		t.Errorf("%d runs and %d numbers of groups, want %d and at most %d", runs, groups, want, leftGroups)
	}
}

// The numbers of groups of one run are deleted in time.
func TestNumbersOfLoneGroups(t *testing.T) {
	set := noTables(t)
	s := openStore(t, set)
	for range 3 * leftGroups {
		if _, err := s.Enqueue(t.Context(), s.Now(), oneRun); err != nil {
			t.Fatal(err)
		}
	}
	var groups int
	count := qualify("SELECT count(*) FROM stint.groups WHERE process = $1", set.Schema)
	err := dial(t, set).QueryRow(t.Context(), count, s.direct.process.name).Scan(&groups)
	if err != nil || groups > leftGroups {
		t.Errorf("%d numbers of groups, %v, want at most %d", groups, err, leftGroups)
	}
}
