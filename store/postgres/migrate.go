package postgres

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed schema/*.sql
var schema embed.FS // schema/0001.sql makes version 1; a released file never changes

// A migration brings the tables from one version to the next. Releases run side by side while they are
// deployed, so it either expands, with what older programs need not know, or contracts: drops what only
// they needed. Its file begins with "-- oldest N".
type migration struct {
	statements string
	oldest     int // the oldest version of a program that can use the tables after it
}

// migrations returns the migrations of the schema of that name; number i leads to version i + 1.
func migrations(name string) ([]migration, error) {
	names, err := fs.Glob(schema, "schema/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	all := make([]migration, len(names))
	for i, file := range names {
		b, err := schema.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if _, err := fmt.Sscanf(string(b), "-- oldest %d\n", &all[i].oldest); err != nil {
			return nil, fmt.Errorf("%s: want \"-- oldest N\" in its first line: %w", file, err)
		}
		all[i].statements = qualify(string(b), name)
	}
	return all, nil
}

// contracts reports whether migration i drops what older programs need.
func (s *settings) contracts(i int) bool {
	return i > 0 && s.migrations[i].oldest > s.migrations[i-1].oldest
}

// knows is the version of the tables that this program was written for.
func (s *settings) knows() int { return len(s.migrations) }

// needs is the oldest version of the tables that this program can use: it does without the last
// contractions.
func (s *settings) needs() int {
	n := s.knows()
	for n > 1 && s.contracts(n-1) {
		n--
	}
	return n
}

// qualify returns a statement for the schema of that name.
func qualify(statement, name string) string { return strings.ReplaceAll(statement, "stint.", name+".") }

// Migrate creates the store's tables, or updates them to this version. Call it where the roles of programs may not do that
// themselves. The role of url becomes the owner of the tables. It needs the right to create a schema in the database, or
// the right to create tables in a schema that exists. The roles of programs need USAGE of the schema, and SELECT, INSERT,
// UPDATE and DELETE of its tables.
//
// Programs of the previous release go on working while the new release is deployed. An update first adds what the new
// release needs. It drops what only older programs need once none of them has the tables open; until then Migrate
// returns ErrOlder.
func Migrate(ctx context.Context, url string, opts Options) error {
	s, err := newSettings(url, opts)
	if err != nil {
		return err
	}
	c, err := s.first(ctx)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	if err := s.check(ctx, c); err != nil {
		return err
	}
	return s.migrate(ctx, c, s.knows())
}

// Version returns three versions of the store's tables: have is that of the database, needs is the oldest with which this
// program works, and knows is the one to which Migrate would update the database. have is 0 if there are no tables, and more
// than knows if a newer program has updated them.
func Version(ctx context.Context, url string, opts Options) (have, needs, knows int, err error) {
	s, err := newSettings(url, opts)
	if err != nil {
		return 0, 0, 0, err
	}
	c, err := s.first(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	v, err := s.version(ctx, c)
	return v.number, s.needs(), s.knows(), err
}

// Drop deletes the schema opts.Schema with everything in it, such as all runs: it is meant for tests. It does nothing if
// there is no such schema. No program may have the tables open.
func Drop(ctx context.Context, url string, opts Options) error {
	s, err := newSettings(url, opts)
	if err != nil {
		return err
	}
	c, err := s.first(ctx)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	_, err = c.Exec(ctx, "SET client_min_messages = warning; DROP SCHEMA IF EXISTS "+s.Schema+" CASCADE")
	return explain(err)
}

// migrate updates the tables to this version, of which the caller needs one. Each migration and its
// number are one commit; an advisory lock lets one process at a time migrate.
func (s *settings) migrate(ctx context.Context, c *pgx.Conn, needs int) error {
	for {
		have, err := s.version(ctx, c)
		switch {
		case err != nil:
			return err
		case have.oldest > s.knows():
			return fmt.Errorf("schema %s has version %d, this program knows %d: %w", s.Schema, have.number, s.knows(), ErrNewer)
		case have.number >= s.knows(): // more, if a newer program has expanded them
			return nil
		case s.ReadOnly && have.number >= needs:
			return nil
		case s.ReadOnly:
			return fmt.Errorf("schema %s has version %d, this program needs %d: %w: open it once without ReadOnly, or run `stint migrate`",
				s.Schema, have.number, needs, ErrNoTables)
		}
		if err := s.migrateOne(ctx, c); err != nil {
			if have.number >= needs && (code(err) == codeNoPrivilege || errors.Is(err, ErrOlder)) {
				return nil // another time, or `stint migrate`
			}
			return s.explainMigration(err)
		}
	}
}

func (s *settings) explainMigration(err error) error {
	if code(err) == codeNoPrivilege {
		return fmt.Errorf("%w: %w: this role may not create or change its tables: let their owner run `stint migrate URL`",
			ErrNoTables, err)
	}
	return err
}

// A version says which programs can use the tables.
type version struct {
	number int // 0: there are none
	oldest int // version of a program
}

// version returns the version of the tables.
func (s *settings) version(ctx context.Context, q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) (v version, err error) {
	var there bool
	// Not to_regclass: what a session has looked up without finding it is remembered until it locks some table.
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = 'schema_version')`, s.Schema).Scan(&there)
	if err == nil && there {
		err = q.QueryRow(ctx, qualify("SELECT version, oldest FROM stint.schema_version", s.Schema)).Scan(&v.number, &v.oldest)
	}
	return v, explain(err)
}

// migrationLock is the key of the advisory lock of migrations, with the schema's hash.
const migrationLock = 0x5354

// migrateOne makes the next migration, unless another process has made it meanwhile.
func (s *settings) migrateOne(ctx context.Context, c *pgx.Conn) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", migrationLock, s.Schema); err != nil {
			return err
		}
		have, err := s.version(ctx, tx)
		if err != nil || have.number >= s.knows() {
			return err
		}
		if have.number == 0 {
			if err := s.createSchema(ctx, tx); err != nil {
				return err
			}
		}
		m := s.migrations[have.number]
		// First, so that no older program enters meanwhile: it locks the row (enter).
		_, err = tx.Exec(ctx, qualify("UPDATE stint.schema_version SET version = $1, oldest = $2", s.Schema), have.number+1, m.oldest)
		if err == nil && s.contracts(have.number) {
			err = s.olderPrograms(ctx, tx, m.oldest)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, m.statements); err != nil {
			return fmt.Errorf("migration of schema %s to version %d: %w", s.Schema, have.number+1, err)
		}
		if have.number == 0 {
			return s.makeSecret(ctx, tx)
		}
		return nil
	})
}

// olderPrograms returns ErrOlder if a process lives that cannot do without what a contraction drops.
func (s *settings) olderPrograms(ctx context.Context, tx pgx.Tx, oldest int) error {
	var host string
	var pid int64
	var knows, more int
	err := tx.QueryRow(ctx, qualify(`SELECT host, pid, version, count(*) OVER () - 1 FROM stint.processes
		WHERE version < $1 AND beat_at > clock_timestamp() - $2::interval ORDER BY number LIMIT 1`, s.Schema), oldest, s.deadSilent).
		Scan(&host, &pid, &knows, &more)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("process %d of host %s knows version %d, and %d others: %w: it is made once they have ended",
			pid, host, knows, more, ErrOlder)
	}
	return err
}

// createSchema creates the schema, which needs a right that its user may lack, unless it exists.
func (s *settings) createSchema(ctx context.Context, tx pgx.Tx) error {
	var exists bool
	if err := tx.QueryRow(ctx, "SELECT to_regnamespace($1) IS NOT NULL", s.Schema).Scan(&exists); err != nil {
		return err
	}
	create := qualify(firstSQL, s.Schema)
	if !exists {
		create = "CREATE SCHEMA " + s.Schema + ";\n" + create
	}
	_, err := tx.Exec(ctx, create)
	return err
}

const firstSQL = `
CREATE TABLE stint.schema_version (version integer NOT NULL, oldest integer NOT NULL);
INSERT INTO stint.schema_version VALUES (0, 0);
`

// makeSecret stores the secret of the database's IDs.
func (s *settings) makeSecret(ctx context.Context, tx pgx.Tx) error {
	secret := make([]byte, 16)
	rand.Read(secret)
	_, err := tx.Exec(ctx, qualify("INSERT INTO stint.meta (key, value) VALUES ('secret', $1)", s.Schema), secret)
	return err
}

// secret reads the secret of the database's IDs.
func (s *settings) secret(ctx context.Context, c *pgx.Conn) (secret []byte, err error) {
	err = c.QueryRow(ctx, qualify("SELECT value FROM stint.meta WHERE key = 'secret'", s.Schema)).Scan(&secret)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && len(secret) != 16 {
		err = fmt.Errorf("schema %s has lost its secret: restore a backup", s.Schema)
	}
	return secret, explain(err)
}
