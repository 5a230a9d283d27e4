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
//
// Of Publish, likewise: the event exists if and only if the transaction commits, and
// starts and wakes what it does promptly after.
func WithTx(tx Tx) TxOption { return txOption{tx} }

// A TxOption is an option of runs and events.
type TxOption interface {
	RunOption
	EventOption
}

type txOption struct{ tx Tx }

func (o txOption) set(tx *store.Tx) error {
	if o.tx == nil {
		return errors.New("stint: WithTx(nil): want a transaction")
	}
	*tx = o.tx
	return nil
}

func (o txOption) applyRun(c *runConfig) error     { return o.set(&c.tx) }
func (o txOption) applyEvent(c *eventConfig) error { return o.set(&c.tx) }

// errNoRows is one of the errors that are known again after they were stored.
var errNoRows = sql.ErrNoRows

// A stepTx is the transaction of a StepTx.
type stepTx struct {
	*sql.Tx
	c    store.AppTx
	call store.Call
}

func beginStepTx(ctx context.Context, name string) (*stepTx, error) {
	e := executionOf(ctx)
	s, ok := e.c.store.(store.AppTx)
	if !ok {
		return nil, fmt.Errorf("stint: StepTx: %T has no transactions for the app", e.c.store)
	}
	tx, err := s.BeginTx(ctx)
	if err != nil {
		return nil, wrapStoreErr("StepTx", err)
	}
	p := ctx.Value(stepKey{}).(*stepRef)
	return &stepTx{tx, s, store.Call{ID: e.run.ID, Lease: e.run.Lease, Entry: store.Entry{Address: p.at, Kind: store.EntryStep, Name: name, Done: true}}}, nil
}

// commit records the step in the transaction, and commits both.
func (t *stepTx) commit(ctx context.Context, value []byte) error {
	t.call.Entry.Value = value
	_, stale, err := t.c.AppendTx(ctx, time.Now(), t.Tx, t.call)
	if err == nil && stale {
		err = store.ErrStale
	}
	if err != nil {
		return NonRetryable(wrapStoreErr("StepTx", err))
	}
	return t.Commit()
}

func (t *stepTx) rollback() { t.Rollback() } // does nothing after the commit

func (c *Client) enqueue(ctx context.Context, now time.Time, tx store.Tx, runs []store.NewRun) (got []store.Enqueued, err error) {
	end := c.traceRuns(ctx, runs)
	defer func() { end(err) }()
	if tx == nil {
		return c.store.Enqueue(ctx, now, runs)
	}
	s, ok := c.store.(store.AppTx)
	if !ok {
		return nil, fmt.Errorf("WithTx: %T cannot join the app's transactions", c.store)
	}
	err = guarded(func() (err error) { // its methods may be the app's
		got, err = s.EnqueueTx(ctx, now, tx, runs)
		return err
	})
	return got, err
}

// BeginTx stands here for the type that it names; the rest is in readonly.go.
func (readOnlyStore) BeginTx(context.Context) (*sql.Tx, error) { return nil, store.ErrReadOnly }
