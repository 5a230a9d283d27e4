package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"time"

	"github.com/stint-dev/stint/store"
)

// EnqueueTx implements store.TxEnqueuer. tx must be of modernc.org/sqlite and have
// this store's file as its main database. If the transaction was begun deferred and
// has read before, SQLite may refuse its first write with SQLITE_BUSY; begin it with
// BEGIN IMMEDIATE (_txlock=immediate in the DSN) to be spared that.
func (s *Store) EnqueueTx(ctx context.Context, now time.Time, tx store.Tx, runs []store.NewRun) ([]store.Enqueued, error) {
	a := appTx{ctx, tx}
	var path string
	if err := a.one("SELECT file FROM pragma_database_list WHERE name = 'main'", nil, &path); err != nil {
		return nil, fmt.Errorf("the app's transaction: %w", err)
	}
	if s.path == Memory || !sameFile(path, s.path) {
		return nil, fmt.Errorf("the app's transaction is on %q, this store on %q: they must be one file", path, s.path)
	}
	t := &txn{querier: a, s: s, execN: a.execN, lanes: &laneCache{}, now: now.UnixMilli(), newDue: never}
	if err := t.one(lastKeySQL, nil, &t.lastKey); err != nil {
		return nil, fmt.Errorf("the app's transaction: %w", err)
	}
	out, err := t.enqueue(t.now, runs, nil)
	if err != nil {
		return nil, fmt.Errorf("the app's transaction: %w", err)
	}
	s.w.hurry()
	return out, nil
}

func sameFile(a, b string) bool {
	ra, errA := filepath.EvalSymlinks(a)
	rb, errB := filepath.EvalSymlinks(b)
	return errA == nil && errB == nil && ra == rb
}

// appTx runs statements in the app's transaction.
type appTx struct {
	ctx context.Context
	tx  store.Tx
}

func (a appTx) execN(text string, args ...any) (int64, error) {
	r, err := a.tx.ExecContext(a.ctx, text, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (a appTx) query(text string, args ...any) (*sql.Rows, error) {
	return a.tx.QueryContext(a.ctx, text, args...)
}

func (a appTx) one(text string, args []any, into ...any) error {
	rows, err := a.query(text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return err
		}
		return sql.ErrNoRows
	}
	if err := rows.Scan(into...); err != nil {
		return err
	}
	return rows.Close()
}
