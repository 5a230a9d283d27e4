package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/moving"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/event"
	"github.com/stint-dev/stint/store/internal/reading"
)

// EnqueueTx implements store.AppTx. tx must be of modernc.org/sqlite and have
// this store's file as its main database. If the transaction was begun deferred and
// has read before, SQLite may refuse its first write with SQLITE_BUSY; begin it with
// BEGIN IMMEDIATE (_txlock=immediate in the DSN) to be spared that.
func (s *Store) EnqueueTx(ctx context.Context, now time.Time, tx store.Tx, runs []store.NewRun) (out []store.Enqueued, err error) {
	err = s.inAppTx(ctx, now, tx, func(u *unit) (err error) {
		out, err = u.runs.enqueue(u.now, runs, nil)
		return err
	})
	return out, err
}

// PublishTx implements store.AppTx. The writer does what follows from the events after
// the app's commit.
func (s *Store) PublishTx(ctx context.Context, now time.Time, tx store.Tx, events []store.NewEvent) (ids []store.ID, err error) {
	err = s.inAppTx(ctx, now, tx, func(u *unit) error {
		ids = make([]store.ID, len(events))
		for i := range events {
			key, err := event.PublishLater(u.events, u.now, &events[i])
			if err != nil {
				return err
			}
			ids[i] = s.ids.ID(key)
		}
		return nil
	})
	return ids, err
}

// BeginTx implements store.AppTx.
func (s *Store) BeginTx(ctx context.Context) (*sql.Tx, error) {
	if s.opts.ReadOnly {
		return nil, store.ErrReadOnly
	}
	if s.path == Memory {
		return nil, errors.New("a database in memory has one connection, which is the engine's: open a file")
	}
	if err := s.hasMoved(); err != nil {
		return nil, err
	}
	s.appMu.Lock()
	defer s.appMu.Unlock()
	if s.app == nil {
		sync := "FULL"
		if s.opts.Normal {
			sync = "NORMAL"
		}
		db, err := s.connect(s.fileDSN(url.Values{
			"_txlock": {"immediate"},
			"_pragma": {pragma("busy_timeout", s.opts.BusyTimeout.Milliseconds()), pragma("synchronous", sync)},
		}))
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(1)
		s.app = db
	}
	tx, err := s.app.BeginTx(ctx, nil)
	return tx, explain(err)
}

// AppendTx implements store.AppTx.
func (s *Store) AppendTx(ctx context.Context, now time.Time, tx store.Tx, c store.Call) (e store.Entry, stale bool, err error) {
	err = s.inAppTx(ctx, now, tx, func(u *unit) error {
		e, stale, err = u.journals.call(u.now, &c, nil)
		return err
	})
	return e, stale, err
}

// inAppTx makes a change inside the app's transaction.
func (s *Store) inAppTx(ctx context.Context, now time.Time, tx store.Tx, change func(*unit) error) error {
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	if err := s.hasMoved(); err != nil {
		return err
	}
	u := s.appUnit(ctx, now, tx)
	var path string
	var ours bool
	err := u.one("SELECT file, "+errorHas+"('', '') FROM pragma_database_list WHERE name = 'main'", nil, &path, &ours)
	if err != nil && strings.Contains(err.Error(), errorHas) { // no such function
		return errors.New("the app's transaction is of another SQLite library, which drops the locks of this one on the same file: " +
			"open the app's database with modernc.org/sqlite, or give the store a file of its own")
	}
	if err != nil {
		return fmt.Errorf("the app's transaction: %w", err)
	}
	if s.path == Memory || !sameFile(path, s.path) {
		return fmt.Errorf("the app's transaction is on %q, this store on %q: they must be one file", path, s.path)
	}
	if err := s.at.check(); err != nil {
		return err
	}
	if err := u.one(lastKeySQL, nil, &u.lastKey); err != nil {
		return fmt.Errorf("the app's transaction: %w", err)
	}
	if err = change(u); err == nil {
		err = u.flushAll()
	}
	if moving.IsFenced(err) {
		return fmt.Errorf("the app's transaction: %w: %w", store.ErrMoved, err)
	}
	if err != nil {
		return fmt.Errorf("the app's transaction: %w", err)
	}
	s.w.pollFast()
	return nil
}

// appUnit returns the unit of the transaction tx.
func (s *Store) appUnit(ctx context.Context, now time.Time, tx store.Tx) *unit {
	a := &appTx{ctx: ctx, tx: tx}
	u := newAppUnit(&txn{querier: a, s: s, execN: a.execN, now: now.UnixMilli()})
	a.lanes = u.lanes
	return u
}

func sameFile(a, resolved string) bool {
	real, err := resolve(a)
	return err == nil && real == resolved
}

// appTx runs statements in the app's transaction.
type appTx struct {
	ctx   context.Context
	tx    store.Tx
	lanes *lanes
}

func (a *appTx) note(text string, args []any) {
	e := effectOf(text)
	a.lanes.noteEffect(&e, args)
}

func (a *appTx) execN(text string, args ...any) (int64, error) {
	a.note(text, args)
	r, err := a.tx.ExecContext(a.ctx, text, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// Query implements reading.Querier.
func (a *appTx) Query(text string, args ...any) (reading.Rows, error) {
	a.note(text, args)
	return rowsOrError(a.tx.QueryContext(a.ctx, text, args...))
}

func (a *appTx) one(text string, args []any, into ...any) error {
	return queryOne(a, text, args, into)
}
