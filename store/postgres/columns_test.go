package postgres

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

type columnsRow struct {
	run, place, ended, flags int64
	cause, next              int64 // cause -1: none
}

var testTable = newStatements("joins", 2, "FOR UPDATE",
	number("run", func(r *columnsRow) *int64 { return &r.run }),
	number("place", func(r *columnsRow) *int64 { return &r.place }),
	number("ended", func(r *columnsRow) *int64 { return &r.ended }),
	number("flags", func(r *columnsRow) *int64 { return &r.flags }).isFixed(),
	number("cause", func(r *columnsRow) *int64 { return &r.cause }).orNull("-1"),
	computed("t.ended + 1", func(r *columnsRow) *int64 { return &r.next }))

// Rows come back from the database as they were written, NULL where they say so.
func TestStatements(t *testing.T) {
	s := newTables(t)
	c := dial(t, s)
	exec := func(text string, args ...any) {
		t.Helper()
		if _, err := c.Exec(t.Context(), qualify(text, s.Schema), args...); err != nil {
			t.Fatal(err)
		}
	}
	read := func(keys ...*columnsRow) []columnsRow {
		t.Helper()
		var all []columnsRow
		err := pgx.BeginFunc(t.Context(), c, func(tx pgx.Tx) error {
			rows, err := tx.Query(t.Context(), qualify(testTable.selects, s.Schema), arguments(testTable.changes[:2], keys)...)
			if err != nil {
				return err
			}
			r := newRelation(testTable, nil, func(r *columnsRow) [2]int64 { return [2]int64{r.run, r.place} }, nil)
			return r.take(rows, nil, func(k [2]int64) {
				row, _ := r.get(k)
				all = append(all, *row)
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	a, b, none := &columnsRow{1, 2, 3, 4, -1, 4}, &columnsRow{1, 3, 0, 0, 0, 1}, &columnsRow{run: 9, place: 9}
	exec(testTable.inserts, arguments(testTable.writes, []*columnsRow{a, b})...)
	var nulls int
	if err := c.QueryRow(t.Context(), qualify("SELECT count(*) FROM stint.joins WHERE cause IS NULL", s.Schema)).Scan(&nulls); err != nil {
		t.Fatal(err)
	}
	if nulls != 1 {
		t.Errorf("%d rows have no cause, want 1", nulls)
	}
	// In the order in which they are asked for: they are locked so.
	same := cmp.AllowUnexported(columnsRow{})
	if got, want := read(b, none, a), []columnsRow{*b, *a}; !cmp.Equal(got, want, same) {
		t.Errorf("read %v, want %v", got, want)
	}
	a.ended, a.cause, b.cause, a.next = 8, 5, -1, 9
	fixed := a.flags
	a.flags = 100 // an update leaves it
	exec(testTable.updates, arguments(testTable.changes, []*columnsRow{a, b, none})...)
	a.flags = fixed
	if got, want := read(a, b), []columnsRow{*a, *b}; !cmp.Equal(got, want, same) {
		t.Errorf("read %v after an update, want %v", got, want)
	}
	exec(testTable.deletes, arguments(testTable.changes[:2], []*columnsRow{b})...)
	if got, want := read(a, b), []columnsRow{*a}; !cmp.Equal(got, want, same) {
		t.Errorf("read %v after a delete, want %v", got, want)
	}
}
