package sqlite

import (
	"context"
	"fmt"
	"net/url"

	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/sqlite/internal/conn"
	lib "modernc.org/sqlite/lib"
)

// readers are the connections of a file for reading, of which a view has one at a time.
type readers struct {
	s    *Store
	uri  string
	free chan *readConn // those that no view has; nil stands for one that is not open yet
}

// A readConn is a connection for reading, and the statements that are prepared there.
type readConn struct {
	*conn.Conn
	stmts map[string]*conn.Stmt // by text, at most keptStmts
}

const (
	readConns = 4
	keptStmts = 64
)

// newReaders returns the readers of s's file, as options of a URI say.
func newReaders(s *Store, q url.Values) *readers {
	rs := &readers{s: s, uri: s.fileDSN(q), free: make(chan *readConn, readConns)}
	for range readConns {
		rs.free <- nil
	}
	return rs
}

// use calls f with a connection that only it has. It waits for one until ctx is done.
func (rs *readers) use(ctx context.Context, f func(querier) error) error {
	var c *readConn
	select {
	case c = <-rs.free:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { rs.free <- c }()
	if c == nil {
		opened, err := rs.open()
		if err != nil {
			return err
		}
		c = &readConn{opened, map[string]*conn.Stmt{}}
	}
	if ctx.Done() == nil {
		return f(reader{ctx, c})
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { c.Interrupt(); close(interrupted) })
	err := f(reader{ctx, c})
	if !stop() {
		<-interrupted // or it would interrupt the next view
	}
	if ctx.Err() != nil && code(err) == lib.SQLITE_INTERRUPT {
		return ctx.Err()
	}
	return err
}

func (rs *readers) open() (*conn.Conn, error) {
	return rs.s.openConn(rs.uri, fmt.Sprintf("PRAGMA busy_timeout = %d; PRAGMA query_only = 1; PRAGMA trusted_schema = 0",
		readerBusy.Milliseconds()))
}

// close closes the connections, which no view has.
func (rs *readers) close() (err error) {
	for range readConns {
		if c := <-rs.free; c != nil {
			if e := c.Close(); e != nil {
				err = e
			}
		}
	}
	return err
}

// reader runs the statements of one view.
type reader struct {
	ctx context.Context
	c   *readConn
}

// Query implements reading.Querier.
func (r reader) Query(text string, args ...any) (reading.Rows, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	st := r.c.stmts[text]
	if st == nil && len(r.c.stmts) >= keptStmts {
		return rowsOrError(r.c.Query(text, args...))
	}
	if st == nil {
		var err error
		if st, err = r.c.Prepare(text); err != nil {
			return nil, err
		}
		r.c.stmts[text] = st
	}
	return rowsOrError(st.Query(args...))
}

func (r reader) one(text string, args []any, into ...any) error {
	return queryOne(r, text, args, into)
}
