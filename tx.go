package stint

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
)

// A Tx is the app's own transaction: *sql.Tx, *sql.Conn, and what ORMs wrap fit.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// WithTx enqueues inside the app's own transaction on the same database: the run
// exists if and only if that commits, and starts promptly after, with no call of the
// app's. The transaction must be on the client's SQLite file, opened with
// modernc.org/sqlite. Begin it with BEGIN IMMEDIATE (_txlock=immediate in the DSN):
// SQLite refuses the first write of a deferred transaction that has read before if
// another has written since.
func WithTx(tx Tx) RunOption {
	return runOnly(func(c *runConfig) error {
		if tx == nil {
			return errors.New("stint: WithTx(nil): want a transaction")
		}
		c.tx = tx
		return nil
	})
}

func (c *Client) enqueue(ctx context.Context, now time.Time, tx store.Tx, runs []store.NewRun) ([]store.Enqueued, error) {
	if tx == nil {
		return c.store.Enqueue(ctx, now, runs)
	}
	s, ok := c.store.(store.TxEnqueuer)
	if !ok {
		return nil, fmt.Errorf("WithTx: %T cannot join the app's transactions", c.store)
	}
	return s.EnqueueTx(ctx, now, tx, runs)
}
