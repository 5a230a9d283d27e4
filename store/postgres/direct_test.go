package postgres

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"
)

// startDirect returns a running direct connection; what it hears is sent on the channel, and a zero notice
// where some may have been lost.
func startDirect(t *testing.T, s *settings) (*direct, chan notice, chan struct{}) {
	t.Helper()
	d, err := newDirect(t.Context(), s, &serverClock{})
	if err != nil {
		t.Fatal(err)
	}
	heard, revived := make(chan notice, 100), make(chan struct{}, 100)
	d.heard = func(n notice) { heard <- n }
	d.missed = func() { heard <- notice{} }
	d.revived = func(context.Context) error { revived <- struct{}{}; return nil }
	d.start()
	t.Cleanup(func() {
		if err := d.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d, heard, revived
}

func send(t *testing.T, s *settings, n notice) {
	t.Helper()
	if _, err := dial(t, s).Exec(t.Context(), "SELECT pg_notify($1, $2)", s.channel(), n.encode()); err != nil {
		t.Fatal(err)
	}
}

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came in 30 s")
		panic("unreachable")
	}
}

func TestNotices(t *testing.T) {
	s := newTables(t)
	d, heard, _ := startDirect(t, s)
	want := notice{From: "other", Lanes: []int64{1, 2}, Workers: []int64{3}, Ended: true, Timers: 4}
	send(t, s, notice{From: d.process.name, Ended: true}) // its own: not heard
	send(t, s, want)
	if got := receive(t, heard); !reflect.DeepEqual(got, want) {
		t.Errorf("heard %+v, want %+v", got, want)
	}
	if _, err := dial(t, s).Exec(t.Context(), "SELECT pg_notify($1, 'not ours')", s.channel()); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, heard); !got.All {
		t.Errorf("heard %+v for a text that is not ours, want All", got)
	}
}

func TestNoticeFits(t *testing.T) {
	n := notice{From: "p", Lanes: make([]int64, 5000), Timers: 7}
	text := n.encode()
	if len(text) > maxNotice || !strings.Contains(text, `"a":true`) || !strings.Contains(text, `"t":7`) {
		t.Errorf("5000 lanes are sent as %q", text[:min(len(text), 100)])
	}
}

// A connection that the server ends is replaced; the process stays in the table, with its lock.
func TestDirectReconnects(t *testing.T) {
	s := newTables(t)
	d, heard, _ := startDirect(t, s)
	other := join(t, s)
	var ended bool
	err := dial(t, s).QueryRow(t.Context(), `SELECT pg_terminate_backend(l.pid) FROM pg_locks l
		WHERE l.locktype = 'advisory' AND l.classid::bigint = (`+lockClass+`)::bigint & 4294967295 AND l.objid::bigint = $2`,
		s.Schema, d.process.number).Scan(&ended)
	if err != nil || !ended {
		t.Fatalf("terminate: %t, %v", ended, err)
	}
	if got := receive(t, heard); !reflect.DeepEqual(got, notice{}) {
		t.Errorf("heard %+v after a break, want that some may have been lost", got)
	}
	for locked, ctx := false, withinMinutes(t); !locked; { // the server lets go the old connection's lock, maybe after the first try
		err := dial(t, s).QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted
			AND classid::bigint = (`+lockClass+`)::bigint & 4294967295 AND objid::bigint = $2)`, s.Schema, d.process.number).Scan(&locked)
		if err != nil {
			t.Fatal(err)
		}
	}
	age(t, s, d.process, 3*time.Second) // only its lock shows that it lives, until the next beat
	if dead := deadOf(t, s, other); len(dead) != 0 {
		t.Errorf("dead: %v, but it has connected again", dead)
	}
	send(t, s, notice{From: "other", Ended: true})
	if got := receive(t, heard); !got.Ended {
		t.Errorf("heard %+v, want the notice after the break", got)
	}
}

// A process that others took for dead enters again, and says so.
func TestDirectRevives(t *testing.T) {
	s := newTables(t)
	d, _, revived := startDirect(t, s)
	if _, err := dial(t, s).Exec(t.Context(), qualify("DELETE FROM stint.processes WHERE name = $1", s.Schema), d.process.name); err != nil {
		t.Fatal(err)
	}
	receive(t, revived)
	var n int
	err := dial(t, s).QueryRow(t.Context(), qualify("SELECT count(*) FROM stint.processes WHERE name = $1", s.Schema), d.process.name).Scan(&n)
	if err != nil || n != 1 {
		t.Errorf("%d rows of the process, %v; want 1", n, err)
	}
}
