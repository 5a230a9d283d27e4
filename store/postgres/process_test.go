package postgres

import (
	"context"
	"slices"
	"testing"
	"time"
)

func join(t *testing.T, s *settings) *process {
	t.Helper()
	p, err := s.join(t.Context(), dial(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// age makes the last beat of a process so old.
func age(t *testing.T, s *settings, p *process, by time.Duration) {
	t.Helper()
	_, err := dial(t, s).Exec(t.Context(), qualify("UPDATE stint.processes SET beat_at = clock_timestamp() - $2::interval WHERE name = $1", s.Schema),
		p.name, by)
	if err != nil {
		t.Fatal(err)
	}
}

func deadOf(t *testing.T, s *settings, me *process) []string {
	t.Helper()
	names, err := s.dead(t.Context(), dial(t, s), me)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestProcesses(t *testing.T) {
	s := newTables(t)
	me, other := join(t, s), join(t, s)
	if me.number == other.number || me.name == other.name {
		t.Fatalf("two processes have one number or name: %+v, %+v", me, other)
	}
	if d := deadOf(t, s, me); len(d) != 0 {
		t.Errorf("dead: %v, but all live", d)
	}
	age(t, s, other, 3*time.Second) // it holds its lock: it is slow
	if d := deadOf(t, s, me); len(d) != 0 {
		t.Errorf("dead: %v, but its lock is held", d)
	}
	if alive, err := s.beat(t.Context(), other); !alive || err != nil {
		t.Errorf("beat: %t, %v", alive, err)
	}
	other.conn.Close(context.Background()) // it dies
	if d := deadOf(t, s, me); len(d) != 0 {
		t.Errorf("dead: %v, but its beat is young", d)
	}
	age(t, s, other, 3*time.Second)
	if d := deadOf(t, s, me); !slices.Equal(d, []string{other.name}) {
		t.Errorf("dead: %v, want %s", d, other.name)
	}
	other.conn = dial(t, s)
	if err := s.leave(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if alive, err := s.beat(t.Context(), other); alive || err != nil {
		t.Errorf("beat of a process that was removed: %t, %v; want false", alive, err)
	}
	if next := join(t, s); next.number != other.number {
		t.Errorf("the next process has number %d, want the free %d", next.number, other.number)
	}
}

// A machine that is lost keeps its lock until the server notices; its beat tells before.
func TestSilentProcessIsDead(t *testing.T) {
	s := newTables(t)
	me, other := join(t, s), join(t, s)
	age(t, s, other, 16*time.Second)
	if d := deadOf(t, s, me); !slices.Equal(d, []string{other.name}) {
		t.Errorf("dead: %v, want %s", d, other.name)
	}
	if d := deadOf(t, s, other); len(d) != 0 {
		t.Errorf("dead: %v, but %s beats", d, me.name)
	}
}

// Two schemas of one database know nothing of each other.
func TestProcessesOfSchemas(t *testing.T) {
	a, b := newTables(t), newTables(t)
	p, q := join(t, a), join(t, b)
	if p.number != q.number {
		t.Errorf("the first processes of two schemas have numbers %d and %d, want the same", p.number, q.number)
	}
	age(t, a, p, time.Hour)
	if d := deadOf(t, b, q); len(d) != 0 {
		t.Errorf("dead: %v, of another schema", d)
	}
}
