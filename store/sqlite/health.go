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
		if !errors.Is(err, store.ErrBusy) && !isMisplaced(err) {
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

// Degraded implements store.Admin.
func (s *Store) Degraded(err error) bool {
	switch code(err) {
	case lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN:
		return true
	}
	return isBusy(err) || errors.Is(err, store.ErrBusy) || isMisplaced(err)
}
