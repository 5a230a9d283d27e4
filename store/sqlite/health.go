package sqlite

import (
	"errors"

	"github.com/stint-dev/stint/store"
	lib "modernc.org/sqlite/lib"
)

// setHealth records whether the database can be written.
func (w *writer) setHealth(err error) {
	switch code(err) {
	case lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_CORRUPT:
		err = explain(err)
	default:
		if !errors.Is(err, store.ErrBusy) && !errors.Is(err, store.ErrMoved) && !isMisplaced(err) {
			w.health.Store(nil)
			return
		}
	}
	w.health.Store(&err)
}

// Healthy returns nil, or why the last change could not be written.
func (s *Store) Healthy() error {
	if e := s.w.health.Load(); e != nil {
		return *e
	}
	return nil
}

// Unavailable implements store.AppTx.
func (s *Store) Unavailable(err error) bool { return errors.Is(explain(err), store.ErrUnavailable) }

// unavailable makes an error of SQLite a store.ErrUnavailable.
type unavailable struct{ error }

func (e unavailable) Unwrap() error { return e.error }

// Is makes the error a store.ErrUnavailable.
func (unavailable) Is(target error) bool { return target == store.ErrUnavailable }
