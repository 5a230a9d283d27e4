package postgres

import (
	"cmp"

	"github.com/jackc/pgx/v5"
)

// A relation is a table of a set, with the statements that read and write it.
type relation[K comparable, R any] struct {
	*table[K, R]
	*statements[R]
	keyOf func(*R) K
	keyed func(K) R // a row with that key
}

// newRelation returns a relation whose keys are ordered by a function.
func newRelation[K comparable, R any](s *statements[R], order func(a, b K) int, keyOf func(*R) K, keyed func(K) R) *relation[K, R] {
	return &relation[K, R]{newTable[K, R](order), s, keyOf, keyed}
}

// byNumber returns a relation whose key is one number.
func byNumber[R any](s *statements[R], field func(*R) *int64) *relation[int64, R] {
	return newRelation(s, cmp.Compare[int64], func(r *R) int64 { return *field(r) }, func(k int64) (r R) {
		*field(&r) = k
		return r
	})
}

// A part of a set is read and written together with the others.
type part interface {
	// fetch queues the statements that read what was asked for, and reports whether there are any.
	fetch(s *settings, b *pgx.Batch) bool
	// flush queues the statements that write what was changed.
	flush(s *settings, b *pgx.Batch)
	// reset undoes the changes since the last settle, before which all were written.
	reset()
	settle()
	// renew forgets all: another group begins.
	renew()
}

func (r *relation[K, R]) fetch(s *settings, b *pgx.Batch) bool {
	keys := r.misses()
	if len(keys) == 0 {
		return false
	}
	b.Queue(s.sql(r.selects), arguments(r.changes[:r.keys], r.rowsWith(keys))...).Query(func(rows pgx.Rows) error {
		if err := r.take(rows, nil, func(K) {}); err != nil {
			return err
		}
		r.absent(keys)
		return nil
	})
	return true
}

func (r *relation[K, R]) rowsWith(keys []K) []*R {
	rows := make([]*R, len(keys))
	for i, k := range keys {
		row := r.keyed(k)
		rows[i] = &row
	}
	return rows
}

// take adds rows that were read, after other columns, and calls each with their keys.
func (r *relation[K, R]) take(rows pgx.Rows, before []any, each func(K)) error {
	defer rows.Close()
	for rows.Next() {
		var row R
		into := before
		for i := range r.reads {
			into = append(into, r.reads[i].into(&row))
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if r.complete != nil {
			r.complete(&row)
		}
		k := r.keyOf(&row)
		r.read(k, row)
		each(k)
	}
	return rows.Err()
}

func (r *relation[K, R]) flush(s *settings, b *pgx.Batch) {
	insert, update, remove := r.written()
	if len(remove) > 0 {
		b.Queue(s.sql(r.deletes), arguments(r.changes[:r.keys], r.rowsWith(remove))...)
	}
	if len(update) > 0 {
		b.Queue(s.sql(r.updates), arguments(r.changes, update)...)
	}
	if len(insert) > 0 {
		b.Queue(s.sql(r.inserts), arguments(r.writes, insert)...)
	}
}

// related holds the rows of a relation by something else than their key: those that the database has.
// Whether they still are, and which rows of the set are too, is for its user to tell.
type related[I, K comparable, R any] struct {
	*list[I, K]
	to        *relation[K, R]
	statement string // reads rows for the array of its argument, which it returns first
}

// newRelated returns rows that meet a condition on t, where u.i is the index, locked in an order.
func newRelated[I, K comparable, R any](to *relation[K, R], name, kind, condition string) *related[I, K, R] {
	return &related[I, K, R]{newList[I, K](), to, "SELECT u.i, r.* FROM unnest($1::" + kind + "[]) AS u (i) CROSS JOIN LATERAL (SELECT " +
		joined(to.reads, (*column[R]).read) + " FROM stint." + name + " t WHERE " + condition + ") r"}
}

func (l *related[I, K, R]) fetch(s *settings, b *pgx.Batch) bool {
	asked := l.misses()
	if len(asked) == 0 {
		return false
	}
	b.Queue(s.sql(l.statement), asked).Query(func(rows pgx.Rows) error {
		for _, i := range asked {
			l.known[i] = nil
		}
		var i I
		return l.to.take(rows, []any{&i}, func(k K) { l.known[i] = append(l.known[i], k) })
	})
	return true
}

func (l *related[I, K, R]) flush(*settings, *pgx.Batch) {}
func (l *related[I, K, R]) reset()                      {}
func (l *related[I, K, R]) settle()                     { clear(l.known) }
func (l *related[I, K, R]) renew()                      { l.known, l.asked = emptied(l.known), emptied(l.asked) }
