package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/postgres"
	"github.com/stint-dev/stint/store/sqlite"
)

// Environment variables that name a database for commands without DATABASE. The first that is set counts.
const (
	fileVariable     = "STINT_DB"
	databaseVariable = "STINT_DATABASE_URL"
)

// A database is what a command works on: a SQLite file, or a schema of a PostgreSQL database.
type database struct {
	path    string // of a file
	url     string // of a server; then path is empty
	options postgres.Options
	from    string // what names it, such as $STINT_DB; "": an argument
}

// findDatabase returns the database that a command works on, and its other arguments. -db names it; without, the first
// argument does. If an environment variable names one, the first argument does only if it is a URL or a SQLite file.
func findDatabase(args []string, o *options) (d database, rest []string, err error) {
	name := o.db
	switch d.from = "-db"; {
	case name != "":
	case os.Getenv(fileVariable) != "":
		name, d.from = os.Getenv(fileVariable), "$"+fileVariable
	default:
		name, d.from = os.Getenv(databaseVariable), "$"+databaseVariable
	}
	if len(args) > 0 && o.db == "" && (name == "" || strings.Contains(args[0], "://") || isSQLite(args[0])) {
		name, args, d.from = args[0], args[1:], ""
	}
	switch {
	case name == "":
		return d, nil, usagef("stint: name a file, or the URL of a PostgreSQL database, here, with -db, or in $%s or $%s",
			fileVariable, databaseVariable)
	case isURL(name):
		d.url, d.options.Schema = name, o.schema
	case strings.Contains(name, "://"):
		scheme, _, _ := strings.Cut(name, "://")
		return d, nil, usagef("stint: a URL with %s: want the path of a SQLite file, or postgres://user@host/database", scheme)
	case o.schema != defaultSchema && !slices.ContainsFunc(args, isURL): // of move
		return d, nil, usagef("stint: -schema is for PostgreSQL: %s is a file", name)
	default:
		d.path = name
	}
	return d, args, nil
}

// isSQLite reports whether there is a SQLite file at path.
func isSQLite(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	const magic = "SQLite format 3\x00" // https://sqlite.org/fileformat2.html
	head := make([]byte, len(magic))
	_, err = io.ReadFull(f, head)
	return err == nil && string(head) == magic
}

// open opens the database. No command makes tables, or changes those of another version in a server's
// database, where other programs may need them as they are.
func (d *database) open(ctx context.Context, readOnly bool, opts ...stint.ClientOption) (*stint.Client, error) {
	if readOnly {
		opts = append(opts, stint.WithReadOnly())
	}
	if d.url != "" {
		have, needs, _, err := postgres.Version(ctx, d.url, d.options)
		if err != nil {
			return nil, fmt.Errorf("stint: %w", err)
		}
		if have < needs {
			return nil, d.outdated(have, needs)
		}
		d.options.ReadOnly = readOnly
		s, err := postgres.Open(ctx, d.url, d.options)
		if err != nil {
			return nil, fmt.Errorf("stint: %w", err)
		}
		return stint.New(s, opts...)
	}
	if _, err := os.Stat(d.path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("stint: %s does not exist", d.path) // Open would make it
	}
	if !readOnly {
		if err := checkFile(d.path); err != nil {
			return nil, err
		}
	}
	return stint.Open(d.path, opts...)
}

func (d *database) outdated(have, want int) error {
	if have == 0 {
		return fmt.Errorf("stint: schema %s has none of stint's tables: name another with -schema, or make them with `stint migrate`",
			d.options.Schema)
	}
	return fmt.Errorf("stint: schema %s has version %d, this command needs %d: run `stint migrate`, or the command of that version",
		d.options.Schema, have, want)
}

// checkFile returns an error if a file has none of stint's tables. Open would create them: if the
// path is a typo, in another program's database.
func checkFile(path string) error {
	c, err := stint.Open(path, stint.WithReadOnly())
	switch {
	case err == nil:
		return c.Close()
	case errors.Is(err, sqlite.ErrNoTables):
		return err
	}
	return nil // Open returns it again, or succeeds where a reader cannot
}

// migrate makes or updates the tables of a PostgreSQL database.
func migrate(ctx context.Context, s *session) error {
	if s.db.url == "" {
		return usagef("stint: %s is a file: whoever opens it updates it; migrate is for PostgreSQL", s.db.path)
	}
	have, _, want, err := postgres.Version(ctx, s.db.url, s.db.options)
	if err == nil && !s.dryRun {
		err = postgres.Migrate(ctx, s.db.url, s.db.options)
	}
	if err != nil {
		return fmt.Errorf("stint: %w", err)
	}
	if s.format() != asTable {
		return json.NewEncoder(s.out).Encode(map[string]any{"schema": s.db.options.Schema, "from": have, "to": want, "dry_run": s.dryRun})
	}
	switch {
	case have >= want:
		_, err = fmt.Fprintf(s.out, "schema %s has version %d: nothing to do\n", s.db.options.Schema, have)
	case s.dryRun:
		_, err = fmt.Fprintf(s.out, "schema %s would be updated from version %d to %d\n", s.db.options.Schema, have, want)
	case have == 0:
		_, err = fmt.Fprintf(s.out, "schema %s: the tables of version %d were created\n", s.db.options.Schema, want)
	default:
		_, err = fmt.Fprintf(s.out, "schema %s was updated from version %d to %d\n", s.db.options.Schema, have, want)
	}
	return err
}
