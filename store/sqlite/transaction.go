package sqlite

import (
	"cmp"
	"database/sql"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/sqlite/internal/conn"
)

// txn runs the statements of one transaction: the writer's, or an app's own (tx.go).
type txn struct {
	querier
	s       *Store
	execN   func(text string, args ...any) (int64, error)
	now     int64         // milliseconds
	lastKey int64         // highest run key in the file, with those given here
	took    time.Duration // the commit
	apart   bool          // each statement changes one run: see errSomeLeft
}

func (t *txn) exec(text string, args ...any) error {
	_, err := t.execN(text, args...)
	return err
}

// nextKey returns the next run key: the time, or the last key plus one if the clock did not advance, so
// that keys follow the order of enqueueing (R5).
func (t *txn) nextKey(now int64) int64 {
	t.lastKey = max(now<<keys.SeqBits, t.lastKey+1)
	return t.lastKey
}

// A querier runs statements that read: the writer inside a transaction, or a reader.
type querier interface {
	reading.Querier
	one(text string, args []any, into ...any) error // sql.ErrNoRows if there is no row
}

// rowsOf scans every row of a statement, and closes them.
func rowsOf[T any](q querier, fields func(*T) []any, text string, args ...any) ([]T, error) {
	return reading.All(q, fields, text, args...)
}

// column is rowsOf for a statement with one column.
func column[T any](q querier, text string, args ...any) ([]T, error) {
	return reading.Column[T](q, text, args...)
}

// rowsOrError returns rows as reading.Rows, or nil with the error.
func rowsOrError[R reading.Rows](rows R, err error) (reading.Rows, error) {
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// onConn returns a querier for a connection, which prepares each statement anew.
func onConn(c *conn.Conn) querier { return unprepared{c} }

type unprepared struct{ *conn.Conn }

// Query implements reading.Querier.
func (u unprepared) Query(text string, args ...any) (reading.Rows, error) {
	return rowsOrError(u.Conn.Query(text, args...))
}

func (u unprepared) one(text string, args []any, into ...any) error {
	return queryOne(u, text, args, into)
}

// queryOne is one of a querier, by its Query.
func queryOne(q reading.Querier, text string, args, into []any) error {
	rows, err := q.Query(text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return cmp.Or(rows.Err(), sql.ErrNoRows)
	}
	if err := rows.Scan(into...); err != nil {
		return err
	}
	return rows.Close()
}

// prepared returns the statement with this text, which is prepared once, to be executed
// with these arguments: what that does to lanes is noted.
func (w *writer) prepared(text string, args []any) (*statement, error) {
	st := w.stmt[text]
	if st == nil {
		s, err := w.conn.Prepare(text)
		if err != nil {
			return nil, fmt.Errorf("prepare %q: %w", text, err)
		}
		st = &statement{s, effectOf(text)}
		w.stmt[text] = st
	}
	w.lanes.noteEffect(&st.effect, args)
	return st, nil
}

func (w *writer) exec(text string) error {
	_, err := w.execN(text)
	return err
}

// execN runs a statement and returns how many rows it changed.
func (w *writer) execN(text string, args ...any) (int64, error) {
	st, err := w.prepared(text, args)
	if err != nil {
		return 0, err
	}
	return st.Exec(args...)
}

// Query implements reading.Querier.
func (w *writer) Query(text string, args ...any) (reading.Rows, error) {
	st, err := w.prepared(text, args)
	if err != nil {
		return nil, err
	}
	return rowsOrError(st.Query(args...))
}

// one scans the single row of a statement; sql.ErrNoRows if there is none.
func (w *writer) one(text string, args []any, into ...any) error {
	return queryOne(w, text, args, into)
}
