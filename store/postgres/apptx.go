package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// An appDB makes the transactions of BeginTx. They are those of pgx's stdlib, but their Commit says what became
// of them when the connection is lost meanwhile, as a group's does, and errors of a lost connection are
// store.ErrUnavailable: the transaction may be repeated.
type appDB struct {
	driver.Connector
	set     *settings
	process string // of their groups
	life    context.Context
	stop    context.CancelFunc
	db      *sql.DB

	mu   sync.Mutex
	n    int64   // of the last group
	over []int64 // groups of which it is known what became
}

func newAppDB(s *settings, process string) *appDB {
	c := s.pool.config()
	c.RuntimeParams["application_name"] = appName(process)
	a := &appDB{Connector: stdlib.GetConnector(*c), set: s, process: process + "/app"}
	a.life, a.stop = context.WithCancel(context.Background())
	a.db = sql.OpenDB(a)
	return a
}

// appName is the application_name of the connections that a process opens for BeginTx.
func appName(process string) string { return "stint app " + process }

// endAppTx ends the transactions of BeginTx of a process that has died, also one that waits for a lock: it may be frozen, or
// its machine lost, and they hold locks on runs that others are to take over. Where the role may not, whoever needs the locks
// waits.
func (s *Store) endAppTx(ctx context.Context, process string) {
	s.view(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
			AND application_name = $1 AND state <> 'idle'`, appName(process))
		return err
	})
}

func (a *appDB) close() {
	a.stop()
	a.db.Close()
}

// Connect implements driver.Connector.
func (a *appDB) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := a.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	of, ok := c.(*stdlib.Conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("postgres: pgx made a %T", c), c.Close())
	}
	return &appConn{of, a}, nil
}

// next returns the number of a new group, and those that are of no use any more.
func (a *appDB) next() (n int64, over []int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n++
	over, a.over = a.over, nil
	if over == nil {
		over = []int64{}
	}
	return a.n, over
}

func (a *appDB) known(groups ...int64) {
	a.mu.Lock()
	a.over = append(a.over, groups...)
	a.mu.Unlock()
}

// An appConn is a connection of an appDB.
type appConn struct {
	*stdlib.Conn
	a *appDB
}

// check marks the errors of a connection that is lost.
func (c *appConn) check(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil && c.Conn.Conn().IsClosed() {
		return &unavailableError{err}
	}
	return err
}

// BeginTx implements driver.ConnBeginTx.
func (c *appConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, c.check(ctx, err)
	}
	return &appEnd{tx, ctx, c}, nil
}

// ExecContext implements driver.ExecerContext.
func (c *appConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	r, err := c.Conn.ExecContext(ctx, query, args)
	return r, c.check(ctx, err)
}

// QueryContext implements driver.QueryerContext.
func (c *appConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	r, err := c.Conn.QueryContext(ctx, query, args)
	if rows, ok := r.(*stdlib.Rows); ok && err == nil {
		return &appDriverRows{rows, ctx, c}, nil
	}
	return r, c.check(ctx, err)
}

// appDriverRows are rows of a connection that may be lost meanwhile.
type appDriverRows struct {
	*stdlib.Rows
	ctx context.Context
	c   *appConn
}

// Next implements driver.Rows.
func (r *appDriverRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if err == io.EOF { // no more
		return err
	}
	return r.c.check(r.ctx, err)
}

// An appEnd ends a transaction of an appConn.
type appEnd struct {
	driver.Tx
	ctx context.Context
	c   *appConn
}

// appGroupSQL is as groupSQL, for groups that are not committed one after another.
const appGroupSQL = `
WITH old AS (DELETE FROM stint.groups WHERE process = $1 AND n = ANY ($3::bigint[]))
INSERT INTO stint.groups (process, n) VALUES ($1, $2)`

// Commit implements driver.Tx. An error says that the transaction was not committed, and never will be.
func (t *appEnd) Commit() error {
	a := t.c.a
	n, over := a.next()
	b := &pgx.Batch{}
	b.Queue(qualify(appGroupSQL, a.set.Schema), a.process, n, over)
	b.Queue("COMMIT")
	conn := t.c.Conn.Conn()
	err := conn.SendBatch(t.ctx, b).Close()
	switch {
	case err == nil:
		a.known(n)
		return nil
	case !conn.IsClosed():
		a.known(over...)
		return errors.Join(err, t.Tx.Rollback())
	}
	committed, resolved := a.set.wasCommitted(a.life, a.process, n)
	a.known(append(over, n)...)
	if committed {
		return nil
	}
	return &unavailableError{errors.Join(err, resolved)}
}
