// Package reading has the part of the stores on SQLite and PostgreSQL that only reads: lists, pages, counts
// and journals. Their tables correspond one to one. Its statements are in the SQL that both take, with what
// must differ in a Dialect. They name the tables as SQLite does, stint_runs, and have the placeholders ? and
// ?1: see Rewrite.
package reading

import (
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
)

// A Querier runs statements that read, in a transaction or each on its own. Rows are closed before the next
// statement.
type Querier interface {
	Query(text string, args ...any) (Rows, error)
}

// Rows are the result of a statement. *sql.Rows implements it.
type Rows interface {
	Next() bool
	Scan(into ...any) error
	Err() error
	Close() error
}

// A Reader reads one database.
type Reader struct {
	*Dialect
	IDs    keys.IDs
	Graphs Graphs
}

// Graphs is a cache of stored graphs, which never change.
type Graphs interface {
	Get(id int64) *store.Graph // nil: not known
	Put(id int64, g *store.Graph)
}

// ErrDamaged reports rows that no store has written.
var ErrDamaged = errors.New("was changed by other means")

// never is after all times and keys.
const never = int64(1<<63 - 1)

// All scans every row of a statement.
func All[T any](q Querier, fields func(*T) []any, text string, args ...any) ([]T, error) {
	rows, err := q.Query(text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var v T
		if err := rows.Scan(fields(&v)...); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// Column is All for a statement with one column.
func Column[T any](q Querier, text string, args ...any) ([]T, error) {
	return All(q, func(v *T) []any { return []any{v} }, text, args...)
}

// page is All for a page of a list: at least one row, at most limit, and fewer rather than more than
// store.MaxPageBytes. more reports whether there are others: the query's limit has to be limit+1. It reads
// one row that it does not return.
func page[T any](
	q Querier, limit int, fields func(*T) []any, size func(*T) int, text string, args ...any,
) (page []T, more bool, err error) {
	rows, err := q.Query(text, args...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for bytes := 0; rows.Next(); {
		var v T
		if len(page) == limit {
			return page, true, nil
		}
		if err := rows.Scan(fields(&v)...); err != nil {
			return nil, false, err
		}
		if bytes += size(&v); bytes > store.MaxPageBytes && len(page) > 0 {
			return page, true, nil
		}
		page = append(page, v)
	}
	return page, false, rows.Err()
}

// one scans the first row of a statement, and reports whether there is one.
func one(q Querier, text string, args []any, into ...any) (bool, error) {
	rows, err := q.Query(text, args...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	if !rows.Next() {
		return false, rows.Err()
	}
	if err := rows.Scan(into...); err != nil {
		return false, err
	}
	return true, rows.Close()
}

// Graph returns a stored graph; ErrDamaged if there is none, or it cannot be read.
func Graph(q Querier, cache Graphs, id int64) (*store.Graph, error) {
	if g := cache.Get(id); g != nil {
		return g, nil
	}
	var text []byte
	switch found, err := one(q, "SELECT shape FROM stint_graphs WHERE id = ?", []any{id}, &text); {
	case err != nil:
		return nil, fmt.Errorf("graph %d: %w", id, err)
	case !found:
		return nil, fmt.Errorf("graph %d is missing: the database %w", id, ErrDamaged)
	}
	g, err := store.ParseGraph(text)
	if err != nil {
		return nil, fmt.Errorf("graph %d %w: %w", id, ErrDamaged, err)
	}
	cache.Put(id, g)
	return g, nil
}

func (r *Reader) graph(q Querier, id int64) (*store.Graph, error) { return Graph(q, r.Graphs, id) }

// graphs calls f with each stored graph.
func (r *Reader) graphs(q Querier, f func(id int64, g *store.Graph)) error {
	ids, err := Column[int64](q, "SELECT id FROM stint_graphs ORDER BY id")
	if err != nil {
		return err
	}
	for _, id := range ids {
		g, err := r.graph(q, id)
		if err != nil {
			return err
		}
		f(id, g)
	}
	return nil
}

func millis(ms int64) time.Time { return clock.FromMillis(ms) }

func optionalTime(ms *int64) time.Time {
	if ms == nil {
		return time.Time{}
	}
	return millis(*ms)
}

func notFound(id store.ID) error { return fmt.Errorf("run %s: %w", id, store.ErrNotFound) }
