package sqlite

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// Of all statements only those that are named here do to lanes what is not known: others
// would have the lanes loaded anew each time.
func TestEffectsAreKnown(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "effects.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	useAll(t, s)
	failing(t)(s.Change(t.Context(), time.Now(), &store.PauseChange{Queue: "q", Paused: true}))
	known := []string{
		"WHERE id IN (SELECT value FROM json_each(?)) RETURNING id", // through readying
		"paused = 1", "paused = 0", "DELETE FROM stint_lanes",
	}
	changing := 0
	for text, st := range s.w.stmt {
		if st.effect.kind != effectNone {
			changing++
		}
		if st.effect.kind == effectAny && !slices.ContainsFunc(known, func(k string) bool { return strings.Contains(text, k) }) {
			t.Errorf("not known which lanes it changes: %s", text)
		}
	}
	if changing < 20 {
		t.Errorf("only %d statements change lanes", changing)
	}
}

func TestEffectOf(t *testing.T) {
	for _, tt := range []struct {
		text string
		want effectKind
	}{
		{"SELECT id FROM stint_runs WHERE state = 3", effectNone},
		{"DELETE FROM stint_runs WHERE id = ?", effectNone},
		{"INSERT INTO stint_attempts (run) SELECT id FROM stint_runs", effectNone},
		{claimSQL, effectNone},
		{claimLaneSQL, effectNone},
		{startSQL, effectNone},
		{startListSQL[0], effectNone},
		{endListSQL[1], effectNone},
		{endSQL, effectKey},
		{retrySQL, effectKey},
		{setLimiterSQL, effectKey},
		{setLaneSQL, effectKey},
		{forkSQL, effectKey},
		{fullSQL, effectLanes},
		{nodeFullSQL, effectLanes},
		{plainRows.texts[0], effectLanes},
		{admitFirstSQL, effectLanes},
		{admitFirstTurnSQL, effectLanes},
		{"UPDATE stint_lanes SET stamp = ? WHERE id = ?", effectNone},
		{"UPDATE stint_runs SET state = 3", effectAny},
		{"UPDATE stint_runs\nSET state = 3 WHERE worker = ?1", effectAny},
		{"UPDATE OR IGNORE stint_runs SET lane = 2 WHERE id > ?1", effectAny},
		{"UPDATE stint_runs SET state = 3 WHERE id = ?1 OR worker = ?2", effectAny},
		{"UPDATE stint_runs SET state = CASE WHEN (SELECT 1 WHERE id = ?1) THEN 3 ELSE 4 END", effectAny},
		{"UPDATE stint_runs SET state = 33 WHERE worker = ?1", effectAny},
		{"INSERT INTO stint_runs SELECT * FROM other", effectAny},
		{"DELETE FROM stint_lanes", effectAny},
		{"UPDATE stint_queues SET paused = 1", effectAny},
	} {
		if got := effectOf(tt.text).kind; got != tt.want {
			t.Errorf("effect %d, want %d, of %s", got, tt.want, tt.text)
		}
	}
	if got := effectOf(plainRows.texts[1]).lanes; !slices.Equal(got, []int{1, 5, 9, 13, 17, 21, 25, 29}) {
		t.Errorf("lanes of eight rows are the arguments %v", got)
	}
	done := []any{int64(1), int64(1), int64(store.Succeeded)}
	c := newLanes(nil)
	e := effectOf(endSQL)
	if c.noteEffect(&e, done); len(c.keys) > 0 || c.any {
		t.Error("a run that ends is taken for one that is ready")
	}
	done[2] = int64(store.Queued)
	if c.noteEffect(&e, done); len(c.keys) != 1 {
		t.Error("a run that is queued is not noted")
	}
}

// Statements of a form that nobody foresaw, here or of another connection, are found to
// have made runs ready; what is rolled back is not.
func TestEffectOfUnknownStatements(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.db")
	b := newBacklog(t, path)
	later := tenants(100, store.NewRun{Task: "t", Queue: "q", RunAt: time.Now().Add(time.Hour)})
	b.enqueue(store.NewRun{Task: "t", Queue: "first"})
	b.drain(1, 10)
	b.enqueue(later...)
	const text = "UPDATE stint_runs SET state = 3 WHERE state = 2 AND id % 2 = "
	err := b.s.do(t.Context(), func(x *unit) error {
		if err := x.exec(text + "0"); err != nil {
			return err
		}
		return store.ErrNotFound
	})
	if err == nil {
		t.Fatal("a change that fails was made")
	}
	failing(t)(b.s.do(t.Context(), func(x *unit) error { return x.exec(text + "0") }))
	b.drain(50, 1000)
	other, err := Open(path, Options{Normal: true})
	failing(t)(err)
	defer other.Close()
	failing(t)(other.do(t.Context(), func(x *unit) error { return x.exec(text + "1") }))
	b.drain(50, 1000)
}
