package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/entries"
	"github.com/stint-dev/stint/store/internal/event"
)

var _ store.AppTx = (*Store)(nil)

// EnqueueTx implements store.AppTx. tx must be of pgx's stdlib, or Tx of a pgx.Tx, in this store's database.
func (s *Store) EnqueueTx(ctx context.Context, now time.Time, tx store.Tx, runs []store.NewRun) (out []store.Enqueued, err error) {
	if err := s.prepareTx(ctx, runs); err != nil {
		return nil, err
	}
	err = s.inAppTx(ctx, now, tx, func(u *unit) error {
		out, err = u.enqueue(u.now, runs)
		return err
	})
	return out, err
}

// prepareTx commits what runs refer to, so that an app's open transaction holds no lock on it.
func (s *Store) prepareTx(ctx context.Context, runs []store.NewRun) error {
	return s.do(ctx, func(u *unit) error {
		var missed error
		for i := range runs {
			n := &runs[i]
			if _, err := u.lane(laneName(n)); err != nil {
				missed = err
			}
			if n.Graph != nil {
				if _, err := u.storeGraph(n.Graph); err != nil {
					missed = err
				}
			}
			if len(n.Limits)+len(n.TaskLimits) > 0 {
				u.useLimits()
			}
		}
		return missed
	})
}

// PublishTx implements store.AppTx. What follows from the events is done after the app's commit.
func (s *Store) PublishTx(ctx context.Context, now time.Time, tx store.Tx, events []store.NewEvent) (ids []store.ID, err error) {
	err = s.inAppTx(ctx, now, tx, func(u *unit) error {
		ids = make([]store.ID, len(events))
		for i := range events {
			key, err := event.PublishLater(eventRows{u}, u.now, &events[i])
			if err != nil {
				return err
			}
			ids[i] = s.ids.ID(key)
		}
		return nil
	})
	return ids, err
}

// AppendTx implements store.AppTx.
func (s *Store) AppendTx(ctx context.Context, now time.Time, tx store.Tx, c store.Call) (e store.Entry, stale bool, err error) {
	key, ok := s.ids.Key(c.ID)
	if !ok {
		return c.Entry, true, nil
	}
	err = s.inAppTx(ctx, now, tx, func(u *unit) error {
		call := c
		e, stale, err = entries.Append(entryRows{u}, key, &call, nil, now)
		return err
	})
	return e, stale, err
}

// BeginTx implements store.AppTx.
func (s *Store) BeginTx(ctx context.Context) (*sql.Tx, error) {
	if s.settings.ReadOnly {
		return nil, store.ErrReadOnly
	}
	s.appMu.Lock()
	defer s.appMu.Unlock()
	if s.app == nil {
		s.app = newAppDB(s.settings, s.direct.process.name)
	}
	tx, err := s.app.db.BeginTx(ctx, nil)
	return tx, explain(err)
}

// Unavailable implements store.AppTx.
func (s *Store) Unavailable(err error) bool {
	var connect *pgconn.ConnectError
	return unavailable(err) || errors.As(err, &connect) || conflicted(err) || away(err)
}

// inAppTx makes a change in the app's transaction.
func (s *Store) inAppTx(ctx context.Context, now time.Time, tx store.Tx, change func(*unit) error) error {
	if s.settings.ReadOnly {
		return store.ErrReadOnly
	}
	if s.isClosed() {
		return store.ErrClosed
	}
	var a sender = &appTx{ctx: ctx, tx: tx}
	if p, ok := tx.(pgxTx); ok {
		a = p.Tx
	}
	var there bool
	var xid int64
	b := &pgx.Batch{}
	b.Queue("SELECT to_regclass($1) IS NOT NULL, pg_current_xact_id()::text::bigint", s.settings.Schema+".schema_version").
		QueryRow(func(r pgx.Row) error { return r.Scan(&there, &xid) })
	err := a.SendBatch(ctx, b).Close()
	if err != nil {
		return fmt.Errorf("the app's transaction: %w", err)
	}
	if !there {
		return fmt.Errorf("the app's transaction is on a database that has no schema %s: it must be this store's", s.settings.Schema)
	}
	u := newUnit(s, now.UnixMilli())
	u.deferred = true
	err = u.until(ctx, a, func() error { return change(u) })
	if err == nil {
		b = &pgx.Batch{}
		u.flush(b)
		err = a.SendBatch(ctx, b).Close()
	}
	if err != nil {
		return fmt.Errorf("the app's transaction: %w", explain(err))
	}
	s.xids.add(xid, &u.told)
	return nil
}

// appTx sends batches in the app's transaction, a statement at a time.
type appTx struct {
	ctx context.Context
	tx  store.Tx
}

// SendBatch implements sender.
func (a *appTx) SendBatch(_ context.Context, b *pgx.Batch) pgx.BatchResults {
	r := &appResults{a: a, queries: b.QueuedQueries}
	return r
}

// appResults are the results of a batch. Close runs its statements.
type appResults struct {
	a       *appTx
	queries []*pgx.QueuedQuery
	next    int
}

func (r *appResults) take() *pgx.QueuedQuery {
	q := r.queries[r.next]
	r.next++
	return q
}

// Exec implements pgx.BatchResults.
func (r *appResults) Exec() (pgconn.CommandTag, error) {
	q := r.take()
	_, err := r.a.tx.ExecContext(r.a.ctx, q.SQL, q.Arguments...)
	return pgconn.CommandTag{}, err
}

// Query implements pgx.BatchResults.
func (r *appResults) Query() (pgx.Rows, error) {
	q := r.take()
	rows, err := r.a.tx.QueryContext(r.a.ctx, q.SQL, q.Arguments...)
	if err != nil {
		return noRows{err: err}, err
	}
	return appRows{Rows: rows}, nil
}

// QueryRow implements pgx.BatchResults.
func (r *appResults) QueryRow() pgx.Row {
	rows, err := r.Query()
	return appRow{rows, err}
}

// Close implements pgx.BatchResults.
func (r *appResults) Close() error {
	for r.next < len(r.queries) {
		var err error
		if q := r.queries[r.next]; q.Fn != nil {
			err = q.Fn(r)
		} else {
			_, err = r.Exec()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Tx implements pgx.BatchResults.
func (r *appResults) Tx() pgx.Tx { return nil }

// appRows are rows of database/sql as those of pgx.
type appRows struct{ *sql.Rows }

func (r appRows) Close()                                       { r.Rows.Close() }
func (r appRows) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (r appRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r appRows) Values() ([]any, error)                       { return nil, errors.ErrUnsupported }
func (r appRows) RawValues() [][]byte                          { return nil }
func (r appRows) Conn() *pgx.Conn                              { return nil }
func (r appRows) TypeMap() *pgtype.Map                         { return nil }

// noRows are those of a query that failed: pgx calls what reads them all the same.
type noRows struct {
	appRows
	err error
}

func (noRows) Close()              {}
func (noRows) Next() bool          { return false }
func (r noRows) Err() error        { return r.err }
func (r noRows) Scan(...any) error { return r.err }

type appRow struct {
	rows pgx.Rows
	err  error
}

// Scan implements pgx.Row.
func (r appRow) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	return r.rows.Scan(into...)
}

// Tx returns a transaction of pgx as WithTx takes it.
func Tx(tx pgx.Tx) store.Tx { return pgxTx{tx} }

type pgxTx struct{ pgx.Tx }

var errPgxRows = errors.New("postgres: rows of a pgx.Tx are read by the store alone")

// ExecContext implements store.Tx.
func (t pgxTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tag, err := t.Exec(ctx, query, args...)
	return result(tag.RowsAffected()), err
}

// QueryContext implements store.Tx: the store reads rows of a pgx.Tx by itself.
func (t pgxTx) QueryContext(context.Context, string, ...any) (*sql.Rows, error) {
	return nil, errPgxRows
}

type result int64

// LastInsertId implements sql.Result.
func (result) LastInsertId() (int64, error) { return 0, errors.ErrUnsupported }

// RowsAffected implements sql.Result.
func (r result) RowsAffected() (int64, error) { return int64(r), nil }
