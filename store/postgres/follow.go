package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/moving"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// Follow opens the file at path. When Move or `stint move` moves the file to the database at url, the store goes on in that
// database at once, in the middle of its work: calls that wait go on waiting there, running handlers keep their runs, and
// nothing is done twice. If the file has moved already, Follow opens the database. If there is no file, Follow opens the
// database if that has the store's tables, and else creates the file.
//
// The app's own tables do not move. WithTx with a transaction on the file returns an error once the file has moved.
func Follow(path, url string) (store.Store, error) { return FollowWith(path, url, Options{}) }

// FollowWith is like Follow, with options for the database. Its Normal and ReadOnly apply to the file too.
func FollowWith(path, url string, opts Options) (store.Store, error) {
	set, err := newSettings(url, opts)
	if err != nil {
		return nil, fmt.Errorf("postgres: follow %s: %w", path, err)
	}
	f := &follower{set: set, url: url, workers: map[int64]bool{}}
	s, err := f.open(path)
	if err != nil {
		return nil, fmt.Errorf("postgres: follow %s: %w", path, err)
	}
	f.now = &backend{Store: s}
	return f, nil
}

// A follower is a store in a file, and later in a database.
type follower struct {
	set *settings // to look at the database
	url string

	switching sync.Mutex // one call does it
	mu        sync.Mutex
	now       *backend
	closed    bool
	closing   sync.WaitGroup // of the file, by the goroutine of leave
	changes   uint64         // the highest number that Changed has returned for the file
	workers   map[int64]bool // that were registered
	lost      map[int64]bool // those that the database took for dead before they came
}

// A backend is a store with the calls that use it.
type backend struct {
	store.Store
	calls sync.WaitGroup
}

// openTimeout is how long opening the database may take.
const openTimeout = 30 * time.Second

func (f *follower) open(path string) (store.Store, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		there, err := f.set.hasTables(ctx)
		if err != nil {
			return nil, fmt.Errorf("there is no such file, and the server cannot be asked whether it has moved: %w", err)
		}
		if there {
			return open(ctx, f.set)
		}
	}
	s, err := sqlite.Open(path, sqlite.Options{Normal: f.set.Normal, ReadOnly: f.set.ReadOnly})
	var moved *moving.Error
	if errors.As(err, &moved) {
		return f.openMoved(ctx, moved, nil)
	}
	return s, err
}

// hasTables reports whether the database has the store's tables.
func (s *settings) hasTables(ctx context.Context) (bool, error) {
	c, err := s.first(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	v, err := s.version(ctx, c)
	return v.number > 0, err
}

// followed is what a process brings that has followed a move.
type followed struct {
	*moving.Error
	workers []int64
	lost    bool // it came after it was taken for dead
}

func (f *follower) openMoved(ctx context.Context, moved *moving.Error, workers []int64) (*Store, error) {
	set, err := newSettings(f.url, f.set.Options)
	if err != nil {
		return nil, err
	}
	set.follows = &followed{Error: moved, workers: workers}
	s, err := open(ctx, set)
	if err != nil {
		return nil, fmt.Errorf("%s has moved to %s, which cannot be opened: %w", moved.From, moved.To, err)
	}
	if set.follows.lost {
		f.mu.Lock()
		f.lost = maps.Clone(f.workers)
		f.mu.Unlock()
	}
	return s, nil
}

// admit opens the database to a process that has entered it, unless a move has it. Who follows the move finishes
// it: by the mark in the file all is copied.
func (s *settings) admit(ctx context.Context, p *process) error {
	if s.follows != nil {
		if !s.ReadOnly {
			if err := s.finishMove(ctx, p.conn, s.follows.Token); err != nil {
				return err
			}
		}
		return s.takeOver(ctx, p)
	}
	return s.isOpen(ctx, p.conn)
}

// isOpen returns an error if a move has the database, or it has moved.
func (s *settings) isOpen(ctx context.Context, c *pgx.Conn) error {
	state, err := s.moveState(ctx, c)
	if err != nil || state == nil {
		return err
	}
	return s.closed(state)
}

// takeOver makes the workers that the process had in the file its own here.
func (s *settings) takeOver(ctx context.Context, p *process) error {
	if s.ReadOnly || s.follows.Process == "" {
		return nil
	}
	err := pgx.BeginFunc(ctx, p.conn, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, qualify("DELETE FROM stint.processes WHERE name = $1", s.Schema), s.follows.Process)
		if err != nil {
			return err
		}
		s.follows.lost = tag.RowsAffected() == 0
		_, err = tx.Exec(ctx, qualify("UPDATE stint.workers SET process = $1, ended_at = NULL WHERE id = ANY($2) OR process = $3 "+
			"AND ended_at IS NULL", s.Schema), p.name, s.follows.workers, s.follows.Process)
		if err == nil {
			_, err = tx.Exec(ctx, "SELECT pg_advisory_xact_lock"+epochLock, s.Schema)
		}
		if err == nil {
			_, err = tx.Exec(ctx, qualify("UPDATE stint.epoch SET n = n + 1", s.Schema))
		}
		return err
	})
	return explain(err)
}

// enter returns the store to call, which stays open until the call has left it.
func (f *follower) enter() *backend {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now.calls.Add(1)
	return f.now
}

// follow opens the database after a call on b returned err, if that says that the file has moved, and reports
// whether to call again.
func (f *follower) follow(ctx context.Context, b *backend, err error) (again bool, _ error) {
	var moved *moving.Error
	if !errors.As(err, &moved) {
		return false, err
	}
	if _, file := b.Store.(*sqlite.Store); !file {
		return false, err
	}
	f.switching.Lock()
	defer f.switching.Unlock()
	f.mu.Lock()
	gone, closed, workers := f.now != b, f.closed, slices.Collect(maps.Keys(f.workers))
	f.mu.Unlock()
	if closed {
		return false, store.ErrClosed
	}
	if gone {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s, err := f.openMoved(ctx, moved, workers)
	if err != nil {
		return false, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = &backend{Store: s}
	f.closing.Go(func() {
		b.calls.Wait() // each of them returns that the file has moved
		b.Close()
	})
	return true, nil
}

// Close implements store.Store.
func (f *follower) Close() error {
	f.switching.Lock() // not while the database is being opened
	defer f.switching.Unlock()
	f.mu.Lock()
	b := f.now
	f.closed = true
	f.mu.Unlock()
	err := b.Close()
	f.closing.Wait()
	return err
}

// call calls the store, and the database again if it was told that the file has moved.
func call[T any](ctx context.Context, f *follower, do func(store.Store) (T, error)) (T, error) {
	for {
		b := f.enter()
		v, err := do(b.Store)
		b.calls.Done()
		again, err := f.follow(ctx, b, err)
		if !again {
			return v, err
		}
	}
}

// see is call for a method that reads: it returns what the database has from the moment on that the file has moved.
func see[T any](ctx context.Context, f *follower, do func(store.Store) (T, error)) (T, error) {
	return call(ctx, f, func(s store.Store) (v T, err error) {
		if file, ok := s.(*sqlite.Store); ok {
			if err := file.Moved(ctx); err != nil {
				return v, err
			}
		}
		return do(s)
	})
}

// see0 is see for methods without results.
func see0(ctx context.Context, f *follower, do func(store.Store) error) error {
	_, err := see(ctx, f, func(s store.Store) (struct{}, error) { return struct{}{}, do(s) })
	return err
}

// see2 is see for methods with two results.
func see2[T, U any](ctx context.Context, f *follower, do func(store.Store) (T, U, error)) (v T, u U, err error) {
	v, err = see(ctx, f, func(s store.Store) (v T, err error) {
		v, u, err = do(s)
		return v, err
	})
	return v, u, err
}

// call0 is call for methods without results.
func call0(ctx context.Context, f *follower, do func(store.Store) error) error {
	_, err := call(ctx, f, func(s store.Store) (struct{}, error) { return struct{}{}, do(s) })
	return err
}
