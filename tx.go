package stint

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/store"
)

// A Tx is the app's own transaction: a *sql.Tx, a *sql.Conn, or an ORM's wrapper of one.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// WithTx enqueues inside the app's own transaction on the same database: the run exists if and
// only if that commits, and can start right after.
//
// On SQLite the transaction must be on the client's file, opened with modernc.org/sqlite. Begin it
// with BEGIN IMMEDIATE (_txlock=immediate in the DSN): SQLite refuses the first write of a
// deferred transaction that has read before if another has written since.
//
// On PostgreSQL it is a *sql.Tx of pgx's driver for database/sql, or a pgx.Tx in postgres.Tx, on
// the database with the store's tables.
//
// With Publish, the event exists if and only if the transaction commits, and starts and wakes runs
// right after.
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

func (o txOption) applyRun(c *runConfig) error { return o.set(&c.tx) }

func (o txOption) applyEvent(c *eventConfig) error { return o.set(&c.tx) }

// StepTx is like Step, for a function that changes rows of the app's own in the same database: on
// the same SQLite file, or in the PostgreSQL database. The changes and the record of the step are
// one commit, so they happen exactly once. If the database cannot be written, because the disk is
// full or another program has the file locked, fn is called again each second in a new
// transaction.
//
// Outside of a run it returns ErrDurable.
func StepTx[T any](ctx context.Context, name string, fn func(context.Context, *sql.Tx) (T, error), opts ...StepOption) (T, error) {
	var zero T
	e := executionOf(ctx)
	if e == nil {
		return zero, fmt.Errorf("%w: StepTx outside of a run", ErrDurable)
	}
	return Step(ctx, name, func(ctx context.Context) (out T, err error) {
		err = e.c.retryWhileUnavailable(ctx, func() (err error) {
			out, err = stepTxOnce(ctx, e, name, fn)
			return vet(err) // its methods are called to find out whether to retry
		})
		return out, apperror.Original(err)
	}, append(slices.Clone(opts), stepOption(func(c *stepConfig) error { c.tx = true; return nil }))...)
}

func stepTxOnce[T any](ctx context.Context, e *execution, name string, fn func(context.Context, *sql.Tx) (T, error)) (out T, err error) {
	var zero T
	tx, err := beginStepTx(ctx, name)
	if err != nil {
		return zero, NonRetryable(err)
	}
	defer tx.rollback()
	if out, err = fn(ctx, tx.Tx); err != nil {
		return zero, err
	}
	b, err := marshalAs(e.c, out)
	if err != nil {
		return zero, NonRetryable(errorf("stint: result of step %q: %w", name, err))
	}
	if ctx.Err() != nil { // too late, even if fn ignored ctx
		return zero, context.Cause(ctx)
	}
	return out, tx.commit(ctx, b)
}

// errNoRows is one of the errors that keep their identity when stored.
var errNoRows = sql.ErrNoRows

// A stepTx is the transaction of a StepTx.
type stepTx struct {
	*sql.Tx
	c    store.AppTx
	now  func() time.Time
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
	entry := p.entry // with its earlier tries
	entry.Done, entry.Due = true, time.Time{}
	if entry.Attempts++; entry.Attempts > 1 {
		addTry(&entry, p.began, e.c.now())
	}
	return &stepTx{tx, s, e.c.now, store.Call{ID: e.run.ID, Lease: e.run.Lease, Entry: entry}}, nil
}

// commit records the step in the transaction, and commits both.
func (t *stepTx) commit(ctx context.Context, value []byte) error {
	t.call.Entry.Value = value
	_, stale, err := t.c.AppendTx(ctx, t.now(), t.Tx, t.call)
	if err == nil && stale {
		err = store.ErrStale
	}
	if err != nil {
		return NonRetryable(wrapStoreErr("StepTx", err))
	}
	return t.Commit()
}

func (t *stepTx) rollback() { t.Rollback() } // does nothing after the commit
