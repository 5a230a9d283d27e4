package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A way is how a process connects to the server: by a URL, which may lead through a pooler.
//
// A pooler gives each transaction another connection (PgBouncer's transaction mode), so nothing that a session
// keeps is relied on there: no LISTEN, no session's lock, no SET, no named statements. What each transaction needs
// is set in it.
type way struct {
	*pgx.ConnConfig
	pooled bool
}

// planner are the settings of connections that change the database. Each of their statements has one plan
// that is right, by the indexes, whatever the tables' statistics say: they may be of a time when a table
// was empty, and then a join would read all of it.
var planner = map[string]string{"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "enable_bitmapscan": "off",
	"jit": "off", "plan_cache_mode": "force_generic_plan"}

// sessionSQL returns the statement that sets what the store's statements need, for the session or the transaction.
func (s *settings) sessionSQL(transaction bool) string {
	set := maps.Clone(planner)
	if s.Normal {
		set["synchronous_commit"] = "off"
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(set)) {
		all = append(all, fmt.Sprintf("set_config('%s', '%s', %t)", name, set[name], transaction))
	}
	if !s.Normal { // whatever the server's default is, what was acknowledged is on its disk
		all = append(all, fmt.Sprintf("set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' "+
			"ELSE current_setting('synchronous_commit') END, %t)", transaction))
	}
	return "SELECT " + strings.Join(all, ", ")
}

// connect opens a connection. Statements stay prepared on it, unless a pooler is between.
func (s *settings) connect(ctx context.Context, to *way) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, to.config())
	if err != nil {
		return nil, explain(err)
	}
	registerArrays(conn.TypeMap())
	if to.pooled {
		return conn, nil
	}
	if _, err := conn.Exec(ctx, s.sessionSQL(false)); err != nil {
		return nil, errors.Join(explain(err), conn.Close(context.WithoutCancel(ctx)))
	}
	return conn, nil
}

// config returns the configuration of a connection.
func (x *way) config() *pgx.ConnConfig {
	c := x.Copy()
	if x.pooled { // what a statement takes and returns is asked for once, and it is sent without a name
		c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	return c
}

// first opens the first connection to the server, and finds out which ways lead through poolers.
func (s *settings) first(ctx context.Context) (*pgx.Conn, error) {
	if err := s.probe(ctx, s.pool); err != nil {
		return nil, err
	}
	if s.direct != s.pool {
		if err := s.probe(ctx, s.direct); err != nil {
			return nil, fmt.Errorf("Options.Direct: %w", err)
		}
		if s.direct.pooled {
			return nil, fmt.Errorf("Options.Direct leads through a pooler: %w: it must be the URL of the server itself", ErrServer)
		}
	}
	return s.connect(ctx, s.direct)
}

// probe finds out whether a way leads through a pooler: then the process that serves the connection is not the one
// that the connection's cancel key names.
func (s *settings) probe(ctx context.Context, x *way) error {
	x.pooled = true // until it is known
	c, err := s.connect(ctx, x)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	var pid uint32
	err = c.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	x.pooled = err != nil || pid != c.PgConn().PID()
	return explain(err)
}
