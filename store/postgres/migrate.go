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

// migrations returns the steps from one version to the next, for the schema of that name.
func migrations(name string) ([]string, error) {
	names, err := fs.Glob(schema, "schema/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	steps := make([]string, len(names))
	for i, file := range names {
		b, err := schema.ReadFile(file)
		if err != nil {
			return nil, err
		}
		steps[i] = qualify(string(b), name)
	}
	return steps, nil
}

// qualify returns a statement for the schema of that name.
func qualify(statement, name string) string { return strings.ReplaceAll(statement, "stint.", name+".") }

// Migrate creates the store's tables, or updates them to this version: for programs whose own role
// may not. The role of url becomes the owner of the tables, and needs the right to create a schema in
// the database, or one that exists with the right to create in it. Programs need USAGE of the schema,
// and SELECT, INSERT, UPDATE and DELETE of its tables.
func Migrate(ctx context.Context, url string, opts Options) error {
	s, err := newSettings(url, opts)
	if err != nil {
		return err
	}
	c, err := s.connect(ctx, s.direct)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	if err := s.check(ctx, c); err != nil {
		return err
	}
	return s.migrate(ctx, c)
}

// Version returns the version of the store's tables in the database, and the one that this program needs: what
// Migrate would do. have is 0 if there are no tables.
func Version(ctx context.Context, url string, opts Options) (have, want int, err error) {
	s, err := newSettings(url, opts)
	if err != nil {
		return 0, 0, err
	}
	steps, err := migrations(s.Schema)
	if err != nil {
		return 0, 0, err
	}
	c, err := s.connect(ctx, s.direct)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	have, err = s.version(ctx, c)
	return have, len(steps), err
}

// Drop deletes the schema that opts name, with every run and all else that is in it: for tests. It does
// nothing if there is none. No program may have the tables open.
func Drop(ctx context.Context, url string, opts Options) error {
	s, err := newSettings(url, opts)
	if err != nil {
		return err
	}
	c, err := s.connect(ctx, s.direct)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	_, err = c.Exec(ctx, "SET client_min_messages = warning; DROP SCHEMA IF EXISTS "+s.Schema+" CASCADE")
	return explain(err)
}

// migrate updates the tables to this version. Each step and its number are one commit; an advisory
// lock lets one process at a time migrate.
func (s *settings) migrate(ctx context.Context, c *pgx.Conn) error {
	steps, err := migrations(s.Schema)
	if err != nil {
		return err
	}
	for {
		have, err := s.version(ctx, c)
		switch {
		case err != nil:
			return err
		case have > len(steps):
			return fmt.Errorf("schema %s has version %d, this program knows %d: %w", s.Schema, have, len(steps), ErrNewer)
		case have == len(steps):
			return nil
		case s.ReadOnly:
			return fmt.Errorf("schema %s has version %d, this program needs %d: %w: open it once without ReadOnly, or run `stint migrate`",
				s.Schema, have, len(steps), ErrNoTables)
		}
		if err := s.migrateOne(ctx, c, steps); err != nil {
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

// version returns the version of the tables; 0: there are none.
func (s *settings) version(ctx context.Context, q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) (n int, err error) {
	var there bool
	err = q.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", s.Schema+".schema_version").Scan(&there)
	if err == nil && !there {
		return 0, nil
	}
	if err == nil {
		err = q.QueryRow(ctx, qualify("SELECT version FROM stint.schema_version", s.Schema)).Scan(&n)
	}
	if code(err) == codeNoPrivilege {
		err = fmt.Errorf("%w: grant this role USAGE of schema %s, and SELECT, INSERT, UPDATE and DELETE of its tables", err, s.Schema)
	}
	return n, explain(err)
}

// migrationLock is the key of the advisory lock of migrations, with the schema's hash.
const migrationLock = 0x5354

// migrateOne makes the next step, unless another process has made it meanwhile.
func (s *settings) migrateOne(ctx context.Context, c *pgx.Conn, steps []string) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", migrationLock, s.Schema); err != nil {
			return err
		}
		have, err := s.version(ctx, tx)
		if err != nil || have >= len(steps) {
			return err
		}
		step := steps[have]
		if have == 0 {
			var exists bool // creating it needs a right that its user may lack
			if err := tx.QueryRow(ctx, "SELECT to_regnamespace($1) IS NOT NULL", s.Schema).Scan(&exists); err != nil {
				return err
			}
			if !exists {
				step = "CREATE SCHEMA " + s.Schema + ";\n" + qualify(firstSQL, s.Schema) + step
			} else {
				step = qualify(firstSQL, s.Schema) + step
			}
		}
		if _, err := tx.Exec(ctx, step); err != nil {
			return fmt.Errorf("migration of schema %s to version %d: %w", s.Schema, have+1, err)
		}
		if have == 0 {
			if err := s.makeSecret(ctx, tx); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, qualify("UPDATE stint.schema_version SET version = $1", s.Schema), have+1)
		return err
	})
}

const firstSQL = `
CREATE TABLE stint.schema_version (version integer NOT NULL);
INSERT INTO stint.schema_version VALUES (0);
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
