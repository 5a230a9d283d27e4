package sqlite

import (
	"context"
	"database/sql"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
)

// reader runs statements on the read connections, outside of the writer's transactions.
type reader struct {
	ctx context.Context
	s   *Store
}

// Query implements reading.Querier.
func (r reader) Query(text string, args ...any) (reading.Rows, error) {
	st, err := r.s.readStmt(r.ctx, text)
	if err != nil || st == nil {
		return rowsOrError(r.s.read.QueryContext(r.ctx, text, args...))
	}
	return rowsOrError(st.QueryContext(r.ctx, args...))
}

func (r reader) one(text string, args []any, into ...any) error {
	st, err := r.s.readStmt(r.ctx, text)
	if err != nil || st == nil {
		return r.s.read.QueryRowContext(r.ctx, text, args...).Scan(into...)
	}
	return st.QueryRowContext(r.ctx, args...).Scan(into...)
}

// keptStmts is the number of reading statements that stay prepared. Lists have any number of texts.
const keptStmts = 64

// readStmt returns the prepared statement with this text; nil: there are too many.
func (s *Store) readStmt(ctx context.Context, text string) (*sql.Stmt, error) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	if st := s.readStmts[text]; st != nil || len(s.readStmts) >= keptStmts {
		return st, nil
	}
	st, err := s.read.PrepareContext(ctx, text)
	if err == nil {
		s.readStmts[text] = st
	}
	return st, err
}

// view runs a function that reads: on a connection of its own, each statement in a snapshot; or, for a
// database in memory, in the writer.
func (s *Store) view(ctx context.Context, f func(querier) error) error {
	if err := s.hasMoved(); err != nil {
		return err
	}
	if s.read == nil {
		return s.doOp(ctx, &op{apply: func(u *unit) error { return f(u) }, reads: true, done: make(chan struct{})})
	}
	if s.opts.ReadOnly {
		if _, err := s.refresh(); err != nil {
			return err
		}
	}
	s.reading.RLock() // Close waits for readers
	defer s.reading.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	err := explain(f(reader{ctx, s}))
	if s.opts.ReadOnly && !s.isStill() {
		return errMoving
	}
	return err
}

// reads reads the store's tables.
func (s *Store) reads() *reading.Reader {
	return &reading.Reader{Dialect: &reading.SQLite, IDs: s.ids, Graphs: &s.graphs}
}
