package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

var (
	_ store.Store    = (*follower)(nil)
	_ store.AppTx    = (*follower)(nil)
	_ store.Clock    = (*follower)(nil)
	_ store.Backuper = (*follower)(nil)
)

// Enqueue implements store.Store.
func (o *follower) Enqueue(ctx context.Context, now time.Time, runs []store.NewRun) ([]store.Enqueued, error) {
	return call(ctx, o, func(s store.Store) ([]store.Enqueued, error) { return s.Enqueue(ctx, now, runs) })
}

// Claim implements store.Store.
func (o *follower) Claim(ctx context.Context, r store.ClaimRequest) ([]store.Claimed, error) {
	return call(ctx, o, func(s store.Store) ([]store.Claimed, error) { return s.Claim(ctx, r) })
}

// Append implements store.Store.
func (o *follower) Append(ctx context.Context, now time.Time, c store.Call) (e store.Entry, stale bool, err error) {
	e, err = call(ctx, o, func(s store.Store) (e store.Entry, err error) {
		e, stale, err = s.Append(ctx, now, c)
		return e, err
	})
	return e, stale, err
}

// Record implements store.Store.
func (o *follower) Record(ctx context.Context, records []store.Record) ([]bool, error) {
	return call(ctx, o, func(s store.Store) ([]bool, error) { return s.Record(ctx, records) })
}

// Finish implements store.Store.
func (o *follower) Finish(ctx context.Context, now time.Time, outcomes []store.Outcome) ([]bool, error) {
	return call(ctx, o, func(s store.Store) ([]bool, error) { return s.Finish(ctx, now, outcomes) })
}

// Act implements store.Store. It selects runs by reading: where it finds none, it would not write, and not notice a move.
func (o *follower) Act(ctx context.Context, now time.Time, a store.Action, f store.Filter) (int, error) {
	return see(ctx, o, addingUp(func(s store.Store) (int, error) { return s.Act(ctx, now, a, f) }))
}

// Expire implements store.Store.
func (o *follower) Expire(ctx context.Context, done, failed time.Time) (int, error) {
	return call(ctx, o, addingUp(func(s store.Store) (int, error) { return s.Expire(ctx, done, failed) }))
}

// addingUp returns a function that counts what do has changed in all its calls: the file may move between two of the
// commits that a call makes, and the rest is changed in the database.
func addingUp(do func(store.Store) (int, error)) func(store.Store) (int, error) {
	total := 0
	return func(s store.Store) (int, error) {
		n, err := do(s)
		total += n
		return total, err
	}
}

// Get implements store.Store.
func (o *follower) Get(ctx context.Context, id store.ID) (*store.Run, error) {
	return see(ctx, o, func(s store.Store) (*store.Run, error) { return s.Get(ctx, id) })
}

// Workflow implements store.Store.
func (o *follower) Workflow(ctx context.Context, id store.ID, names []string) (*store.Graph, []store.WorkflowTask, error) {
	return see2(ctx, o, func(s store.Store) (*store.Graph, []store.WorkflowTask, error) { return s.Workflow(ctx, id, names) })
}

// List implements store.Store.
func (o *follower) List(ctx context.Context, f store.Filter, before store.ID, limit int) ([]store.Run, store.ID, error) {
	return see2(ctx, o, func(s store.Store) ([]store.Run, store.ID, error) { return s.List(ctx, f, before, limit) })
}

// Count implements store.Store.
func (o *follower) Count(ctx context.Context, f store.Filter, before store.ID) (int, store.ID, error) {
	return see2(ctx, o, func(s store.Store) (int, store.ID, error) { return s.Count(ctx, f, before) })
}

// Entries implements store.Store.
func (o *follower) Entries(ctx context.Context, id store.ID, after store.Address, limit int, notes bool) ([]store.Entry, bool, error) {
	return see2(ctx, o, func(s store.Store) ([]store.Entry, bool, error) { return s.Entries(ctx, id, after, limit, notes) })
}

// Logs implements store.Store.
func (o *follower) Logs(ctx context.Context, id store.ID, after int64, limit int) ([]store.Log, error) {
	return see(ctx, o, func(s store.Store) ([]store.Log, error) { return s.Logs(ctx, id, after, limit) })
}

// Chunks implements store.Store.
func (o *follower) Chunks(ctx context.Context, id store.ID, after int64, limit int) ([]store.Chunk, bool, error) {
	return see2(ctx, o, func(s store.Store) ([]store.Chunk, bool, error) { return s.Chunks(ctx, id, after, limit) })
}

// Await implements store.Store.
func (o *follower) Await(ctx context.Context, id store.ID, u store.Until) (store.Result, error) {
	return see(ctx, o, func(s store.Store) (store.Result, error) { return s.Await(ctx, id, u) })
}

// Recover implements store.Store.
func (o *follower) Recover(ctx context.Context) (store.Recovered, error) {
	return call(ctx, o, func(s store.Store) (store.Recovered, error) { return s.Recover(ctx) })
}

// Declare implements store.Store.
func (o *follower) Declare(ctx context.Context, now time.Time, ds []store.Declaration) error {
	return call0(ctx, o, func(s store.Store) error { return s.Declare(ctx, now, ds) })
}

// Publish implements store.Store.
func (o *follower) Publish(ctx context.Context, now time.Time, events []store.NewEvent) ([]store.ID, error) {
	return call(ctx, o, func(s store.Store) ([]store.ID, error) { return s.Publish(ctx, now, events) })
}

// Read implements store.Store.
func (o *follower) Read(ctx context.Context, q store.Query) error {
	return see0(ctx, o, func(s store.Store) error { return s.Read(ctx, q) })
}

// Change implements store.Store.
func (o *follower) Change(ctx context.Context, now time.Time, c store.Change) error {
	return call0(ctx, o, func(s store.Store) error { return s.Change(ctx, now, c) })
}

// Facts implements store.Store.
func (o *follower) Facts(ctx context.Context) (store.Facts, error) {
	return see(ctx, o, func(s store.Store) (store.Facts, error) { return s.Facts(ctx) })
}

// Check implements store.Store.
func (o *follower) Check(ctx context.Context) ([]string, error) {
	return see(ctx, o, func(s store.Store) ([]string, error) { return s.Check(ctx) })
}

// Register implements store.Workers.
func (o *follower) Register(ctx context.Context, w store.WorkerInfo) (int64, error) {
	return call(ctx, o, func(s store.Store) (int64, error) {
		id, err := s.Register(ctx, w)
		if err == nil {
			o.mu.Lock()
			o.workers[id] = true
			o.mu.Unlock()
		}
		return id, err
	})
}

// Unregister implements store.Workers.
func (o *follower) Unregister(ctx context.Context, worker int64) error {
	return call0(ctx, o, func(s store.Store) error {
		err := s.Unregister(ctx, worker)
		if err == nil {
			o.mu.Lock()
			delete(o.workers, worker)
			o.mu.Unlock()
		}
		return err
	})
}

// Watch implements store.Workers.
func (o *follower) Watch(ctx context.Context, worker int64) (store.Signals, error) {
	return call(ctx, o, func(s store.Store) (store.Signals, error) {
		o.mu.Lock()
		lost := o.lost[worker]
		delete(o.lost, worker)
		o.mu.Unlock()
		if lost {
			return store.Signals{Lost: true}, nil
		}
		return s.Watch(ctx, worker)
	})
}

// Changed implements store.Health. The database goes on from the number of the file.
func (o *follower) Changed(ctx context.Context, after uint64) (uint64, error) {
	return call(ctx, o, func(s store.Store) (uint64, error) {
		if _, file := s.(*sqlite.Store); file {
			n, err := s.Changed(ctx, after)
			o.mu.Lock()
			o.changes = max(o.changes, n)
			o.mu.Unlock()
			return n, err
		}
		o.mu.Lock()
		before := o.changes
		o.mu.Unlock()
		n, err := s.Changed(ctx, max(after, before)-before)
		return before + n, err
	})
}

// Healthy implements store.Health.
func (o *follower) Healthy() error {
	b := o.enter()
	defer b.calls.Done()
	err := b.Healthy()
	if errors.Is(err, store.ErrMoved) { // the next call goes there
		err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// Now implements store.Clock: the file has no clock but the machine's.
func (o *follower) Now() time.Time {
	b := o.enter()
	defer b.calls.Done()
	if c, ok := b.Store.(store.Clock); ok {
		return c.Now()
	}
	return time.Now()
}

// Backup implements store.Backuper.
func (o *follower) Backup(ctx context.Context, path string) error {
	return call0(ctx, o, func(s store.Store) error {
		if b, ok := s.(store.Backuper); ok {
			return b.Backup(ctx, path)
		}
		return fmt.Errorf("%w: a database of a server is backed up by its own tools, such as pg_dump", errors.ErrUnsupported)
	})
}

// inTx calls the store for a transaction of the app's. If that is the file's and the file has moved, it cannot be
// made in the database: the app must begin it anew.
func inTx[T any](ctx context.Context, o *follower, do func(store.AppTx) (T, error)) (T, error) {
	b := o.enter()
	v, err := do(b.Store.(store.AppTx))
	b.calls.Done()
	if again, e := o.follow(ctx, b, err); !again {
		err = e
	}
	if _, file := b.Store.(*sqlite.Store); !file && err != nil && strings.Contains(err.Error(), "to_regclass") {
		err = fmt.Errorf("%w: the app's transaction is on the file: begin it on the database: %w", store.ErrMoved, err)
	}
	return v, err
}

// EnqueueTx implements store.AppTx.
func (o *follower) EnqueueTx(ctx context.Context, now time.Time, tx store.Tx, runs []store.NewRun) ([]store.Enqueued, error) {
	return inTx(ctx, o, func(s store.AppTx) ([]store.Enqueued, error) { return s.EnqueueTx(ctx, now, tx, runs) })
}

// PublishTx implements store.AppTx.
func (o *follower) PublishTx(ctx context.Context, now time.Time, tx store.Tx, events []store.NewEvent) ([]store.ID, error) {
	return inTx(ctx, o, func(s store.AppTx) ([]store.ID, error) { return s.PublishTx(ctx, now, tx, events) })
}

// AppendTx implements store.AppTx.
func (o *follower) AppendTx(ctx context.Context, now time.Time, tx store.Tx, c store.Call) (e store.Entry, stale bool, err error) {
	e, err = inTx(ctx, o, func(s store.AppTx) (e store.Entry, err error) {
		e, stale, err = s.AppendTx(ctx, now, tx, c)
		return e, err
	})
	return e, stale, err
}

// BeginTx implements store.AppTx.
func (o *follower) BeginTx(ctx context.Context) (*sql.Tx, error) {
	return call(ctx, o, func(s store.Store) (*sql.Tx, error) { return s.(store.AppTx).BeginTx(ctx) })
}

// Unavailable implements store.AppTx: a transaction on the file that was refused since it has moved is repeated on
// the database.
func (o *follower) Unavailable(err error) bool {
	b := o.enter()
	defer b.calls.Done()
	return errors.Is(err, store.ErrMoved) || b.Store.(store.AppTx).Unavailable(err)
}
