package sqlite

import (
	"context"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
)

// view runs a function that reads: on a connection of its own, each statement in a snapshot; or, for a
// database in memory, in the writer.
func (s *Store) view(ctx context.Context, f func(querier) error) error {
	if err := s.hasMoved(); err != nil {
		return err
	}
	if s.readers == nil {
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
	err := explain(s.readers.use(ctx, f))
	if s.opts.ReadOnly && !s.isStill() {
		return errMoving
	}
	return err
}

// reads reads the store's tables.
func (s *Store) reads() *reading.Reader {
	return &reading.Reader{Dialect: &reading.SQLite, IDs: s.ids, Graphs: &s.graphs}
}
