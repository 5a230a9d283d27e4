// Package postgres is a stint store in a PostgreSQL database, with pgx. Any number of processes on
// any number of machines may share it. They need nothing but the server.
package postgres

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// MinVersion is the oldest major version of PostgreSQL that the store works with.
const MinVersion = 15

// Options change how a store is opened. The zero value is the default.
type Options struct {
	// Schema is the database's schema with the store's tables: a lower case name of letters, digits
	// and _, at most 50. Open creates it if it is missing. Default "stint".
	Schema string
	// Direct is the URL of the server itself. Set it if the URL of Open is that of a pooler that gives each transaction
	// another connection, such as PgBouncer in its transaction mode. The store opens one connection to Direct, which
	// listens for the commits of other processes and shows them that this one lives. Without Direct, a store
	// behind such a pooler polls.
	Direct string
	// NoNotify makes the store poll for the commits of other processes, every 20 ms, instead of listening for them. A
	// store that cannot listen polls in any case.
	NoNotify bool
	// Normal acknowledges a commit before the server has written it to its disk, so a crash of the server may lose
	// the last commits. By default a commit is on disk when it is acknowledged, and Open refuses a server with
	// fsync off.
	Normal bool
	// ReadOnly opens the database for reading: the store starts no timers and recovers no runs, and every change returns
	// store.ErrReadOnly. The tables must exist.
	ReadOnly bool
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,49}$`)

// settings are the connection settings of an opened store.
type settings struct {
	Options
	pool    *way
	direct  *way      // the same, unless Options.Direct names another
	follows *followed // the move that the process follows; nil: none
	bubble  bool      // the program is in a bubble of synctest; see inBubble
	texts   sync.Map  // statements, as written: for the schema

	migrations []migration // more in tests

	silentAfter, deadSilent time.Duration // shorter in tests
}

// sql returns a statement for the schema. It is one of the package's: each is remembered.
func (s *settings) sql(text string) string {
	if t, ok := s.texts.Load(text); ok {
		return t.(string)
	}
	t := qualify(text, s.Schema)
	s.texts.Store(text, t)
	return t
}

// inBubble reports whether the program's clock is that of a test in a bubble of testing/synctest, which
// begins with the year 2000. Then that clock decides and not the server's, as the test expects, and the
// store polls: a connection that listens would stop the bubble's time.
func inBubble() bool { return time.Now().Year() < 2020 }

// polls reports whether the store polls for what others commit, because it cannot listen.
func (s *settings) polls() bool { return s.direct.pooled || s.bubble || s.NoNotify }

// connectTimeout is the time that a connection may take to be established, if the URL does not say.
const connectTimeout = 10 * time.Second

func newSettings(url string, opts Options) (*settings, error) {
	if opts.Schema == "" {
		opts.Schema = "stint"
	}
	if !schemaName.MatchString(opts.Schema) {
		return nil, fmt.Errorf("schema %q: want at most 50 lower case letters, digits and _, not beginning with a digit", opts.Schema)
	}
	s := &settings{Options: opts, bubble: inBubble(), silentAfter: silentAfter, deadSilent: deadSilent}
	if s.bubble { // its clock stands still while the server's goes on, so the beats of the living may be old
		s.deadSilent = time.Hour
	}
	var err error
	if s.migrations, err = migrations(s.Schema); err != nil {
		return nil, err
	}
	if s.pool, err = parse(url); err != nil {
		return nil, err
	}
	s.direct = s.pool
	if opts.Direct != "" {
		if s.direct, err = parse(opts.Direct); err != nil {
			return nil, fmt.Errorf("Options.Direct: %w", err)
		}
	}
	return s, nil
}

func parse(url string) (*way, error) {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, explain(err)
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "stint"
	}
	return &way{ConnConfig: c}, nil
}

// A server is what decides whether a server can keep what the store promises.
type server struct {
	version           int // major
	encoding          string
	fsync, wholePages bool // it survives a crash of its machine
	standby           bool
}

// check returns an error if the server cannot keep what the store promises.
func (s *settings) check(ctx context.Context, c *pgx.Conn) error {
	var v server
	err := c.QueryRow(ctx, `SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'),
		current_setting('fsync')::bool, current_setting('full_page_writes')::bool, pg_is_in_recovery()`).
		Scan(&v.version, &v.encoding, &v.fsync, &v.wholePages, &v.standby)
	if err != nil {
		return explain(err)
	}
	return s.judge(&v)
}

func (s *settings) judge(v *server) error {
	switch {
	case v.version < MinVersion:
		return fmt.Errorf("PostgreSQL %d: %w: want %d or newer: upgrade the server", v.version, ErrServer, MinVersion)
	case v.encoding != "UTF8":
		return fmt.Errorf("database with encoding %s: %w: create one with ENCODING 'UTF8'", v.encoding, ErrServer)
	case v.standby && !s.ReadOnly:
		return fmt.Errorf("the server is a standby: %w: name the primary (target_session_attrs=read-write), or set ReadOnly", ErrServer)
	case !s.Normal && !s.ReadOnly && (!v.fsync || !v.wholePages):
		return fmt.Errorf("the server has fsync or full_page_writes off: %w: it may lose what it acknowledged: "+
			"set both on, or open with Normal", ErrServer)
	}
	return nil
}

// perProcess is the number of connections that a process opens.
const perProcess = 7

// checkConnections returns an error if the server has too few connections left for this process. A pooler has its own.
func (s *settings) checkConnections(ctx context.Context, c *pgx.Conn) error {
	if s.pool.pooled {
		return nil
	}
	var most, ofRole, ofDatabase int // -1: any number
	var used, byRole, inDatabase int
	err := c.QueryRow(ctx, `SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
		(SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
		(SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
		count(*), count(*) FILTER (WHERE usename = current_user), count(*) FILTER (WHERE datname = current_database())
		FROM pg_stat_activity WHERE backend_type = 'client backend'`).
		Scan(&most, &ofRole, &ofDatabase, &used, &byRole, &inDatabase)
	if err != nil {
		return explain(err)
	}
	for _, x := range []struct {
		most, used int
		raise      string
	}{
		{most, used, "max_connections"}, {ofRole, byRole, "the role's CONNECTION LIMIT"},
		{ofDatabase, inDatabase, "the database's CONNECTION LIMIT"},
	} {
		if x.most >= 0 && x.most-x.used < perProcess-1 { // one is this
			return fmt.Errorf("%d of %d connections are in use: %w: a process needs %d: raise %s, or use a pooler",
				x.used, x.most, ErrServer, perProcess, x.raise)
		}
	}
	return nil
}
