package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/store"
)

// readers is the number of connections that read.
const readers = 2

// newReaders returns the connections that read.
func newReaders(ctx context.Context, s *settings) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, err
	}
	c.ConnConfig = s.pool.config()
	c.MaxConns, c.MinConns = readers, 0
	if s.bubble { // where every connection was idle for long
		c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	}
	return pgxpool.NewWithConfig(ctx, c)
}

// view runs a function that reads, on a connection of its own.
func (s *Store) view(ctx context.Context, f func(c *pgx.Conn) error) error {
	c, err := s.read.Acquire(ctx)
	if err != nil {
		if s.isClosed() {
			return store.ErrClosed
		}
		return s.asUnavailable(ctx, err, true)
	}
	defer c.Release()
	err = f(c.Conn())
	return s.asUnavailable(ctx, err, c.Conn().IsClosed() || away(err))
}

// asUnavailable explains an error of something that reads: a server that is away, or cannot serve at present, is
// store.ErrUnavailable.
func (s *Store) asUnavailable(ctx context.Context, err error, is bool) error {
	if err = explain(err); err != nil && is && ctx.Err() == nil {
		return &unavailableError{err}
	}
	return err
}

// Await implements store.History.
func (s *Store) Await(ctx context.Context, id store.ID, until store.Until) (store.Result, error) {
	key, ok := s.ids.Key(id)
	if !ok {
		return store.Result{}, nil
	}
	a := &await{until: until, signaled: make(chan struct{}, 1), ended: make(chan struct{})}
	if !s.awaits.add(key, a) {
		return store.Result{}, store.ErrClosed
	}
	defer s.awaits.drop(key, a)
	over := false
	for {
		r, done, err := s.result(ctx, key, until)
		lost := unavailable(err) // it is waited for, as the run is
		if !lost && (done || over || err != nil) {
			return r, err
		}
		var again <-chan time.Time
		if lost {
			again = time.After(lookEvery)
		}
		select {
		case <-a.signaled:
		case <-a.ended:
			if a.err != nil {
				return store.Result{}, a.err
			}
			if a.result != nil && until == (store.Until{}) {
				return *a.result, nil
			}
			over = true // read its result
			if lost {
				pause.For(ctx, reconnectMin)
			}
		case <-again:
		case <-ctx.Done():
			return store.Result{}, ctx.Err()
		}
	}
}

// result reads a run's result, and reports whether Await may return it.
func (s *Store) result(ctx context.Context, key int64, until store.Until) (r store.Result, done bool, err error) {
	if err := s.askForEnds(ctx); err != nil {
		return r, false, err
	}
	if until == (store.Until{}) {
		r, there, err := s.gather.ends.get(ctx, key)
		return r, err == nil && (!there || r.State.Terminal()), err
	}
	err = s.view(ctx, func(c *pgx.Conn) error {
		var state int16
		var there bool
		err := c.QueryRow(ctx, s.sql(`SELECT state, flags & 2 <> 0, CASE WHEN state = 7 THEN output END,
			$2 > 0 AND EXISTS (SELECT 1 FROM stint.chunks WHERE run = $1 AND seq >= $2) FROM stint.runs WHERE id = $1`), key, until.Chunk).
			Scan(&state, &r.Workflow, &r.Output, &there)
		if errors.Is(err, pgx.ErrNoRows) {
			done = true
			return nil
		}
		if err != nil {
			return err
		}
		r.State = store.State(state)
		done = r.State.Terminal() || there
		if until.Entry == (store.Address{}) {
			return nil
		}
		e, err := s.entryAt(ctx, c, key, until.Entry)
		r.Entry = e
		done = done || until.Met(e)
		return err
	})
	return r, done, err
}

// entryAt reads an entry; nil: there is none.
func (s *Store) entryAt(ctx context.Context, c *pgx.Conn, run int64, at store.Address) (*store.Entry, error) {
	k := entryKey{run, at.Scope, int64(at.Seq)}
	e := newEntries()
	rows, err := c.Query(ctx, s.sql(entryStatements.selects), arguments(entryStatements.changes[:3], e.rowsWith([]entryKey{k}))...)
	if err != nil {
		return nil, err
	}
	if err := e.take(rows, nil, func(entryKey) {}); err != nil {
		return nil, err
	}
	if e.entries[k] == nil {
		return nil, nil
	}
	entry := e.entries[k].now.entry()
	return &entry, nil
}

// recoverEvery is how often a process looks for dead ones.
const recoverEvery = 500 * time.Millisecond
