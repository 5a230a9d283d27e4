package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/stint-dev/stint/internal/moving"
)

// readMark returns a moving.Error if the file, which may have no tables of stint, has moved.
func (s *Store) readMark(q querier) error {
	var tables int
	err := q.one("SELECT count(*) FROM sqlite_schema WHERE name = 'stint_meta'", nil, &tables)
	if err != nil || tables == 0 {
		return err
	}
	return s.checkMark(q)
}

func (s *Store) movedTo(m *moving.Mark) error {
	return &moving.Error{From: s.path, Mark: *m, Process: s.presence.name}
}

// hasMoved returns a moving.Error once the store knows that its file has moved.
func (s *Store) hasMoved() error {
	if e := s.moved.Load(); e != nil {
		return e
	}
	return nil
}

// Moved returns a store.ErrMoved if the file has moved. Other calls notice that when they write, or a moment later:
// a read may still return what the file had before.
func (s *Store) Moved(ctx context.Context) error { return s.view(ctx, s.checkMark) }

// checkMoved looks for a mark. The writer calls it in the transaction in which it sees another's commit, so that
// it changes nothing after the mark.
func (w *writer) checkMoved() error { return w.noteMoved(w.s.checkMark(w)) }

// checkMark looks for the mark of a move, and returns a store.ErrMoved if there is one.
func (s *Store) checkMark(q querier) error {
	var value []byte
	err := q.one(moving.MarkSQL, nil, &value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := moving.Decode(value)
	if err != nil {
		return err
	}
	return s.movedTo(m)
}

// noteMoved makes every call from now on return err, if it is a moving.Error, and those that wait too. It returns
// err.
func (w *writer) noteMoved(err error) error {
	var e *moving.Error
	if !errors.As(err, &e) {
		return err
	}
	w.s.moved.Store(e) // before the others are signaled: they look again
	w.refuseClaims(err)
	w.changes.Add(1)
	w.notifyAll()
	if w.s.presencesChanged != nil {
		signal(w.s.presencesChanged)
	}
	return err
}

// IsBusy reports whether an error of SQLite means that another program has the file locked.
func IsBusy(err error) bool { return isBusy(err) }

// refuseClaims answers the claims that wait.
func (w *writer) refuseClaims(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.claims.waiting {
		c.answer(nil, err)
	}
	w.claims.waiting = nil
}
