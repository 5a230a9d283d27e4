package sqlite

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/stint-dev/stint/store/sqlite/internal/conn"
)

//go:embed schema/*.sql
var schema embed.FS // schema/0001.sql makes version 1; a released file never changes

// ErrNewer reports a file with a schema of a later version of this library.
var ErrNewer = errors.New("file was made by a newer version of stint: upgrade the program")

// ErrNoTables reports a file that was opened read-only and has no tables of stint: it is empty, or another
// program's.
var ErrNoTables = errors.New("has none of stint's tables: name another file, or open it once without ReadOnly, which adds them")

func migrations() ([]string, error) {
	names, err := fs.Glob(schema, "schema/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	steps := make([]string, len(names))
	for i, name := range names {
		b, err := schema.ReadFile(name)
		if err != nil {
			return nil, err
		}
		steps[i] = string(b)
	}
	return steps, nil
}

// migrate updates c's file to the newest schema. The version is in a table of stint's, because
// user_version belongs to the app that may share the file.
func migrate(c *conn.Conn) error {
	steps, err := migrations()
	if err != nil {
		return err
	}
	if have, err := version(onConn(c)); err == nil && have == len(steps) {
		return nil // the common case takes no write lock
	}
	for done := false; !done; {
		if done, err = migrateOne(c, steps); err != nil {
			return err
		}
	}
	return nil
}

// migrateOne updates the file by one version, or reports that it is the newest. A step and its number are
// one commit, and the number is read under the write lock, so processes that open one file at once run
// each step once.
func migrateOne(c *conn.Conn, steps []string) (done bool, err error) {
	if err := c.Exec("BEGIN IMMEDIATE"); err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			c.Exec("ROLLBACK")
		}
	}()
	have, err := version(onConn(c))
	switch {
	case err != nil:
		return false, err
	case have < 0:
		return false, fmt.Errorf("schema %d: no version of stint made this: restore a backup", have)
	case have > len(steps):
		return false, fmt.Errorf("schema %d, this program knows %d: %w", have, len(steps), ErrNewer)
	case have == len(steps):
		return true, c.Exec("COMMIT")
	}
	step := steps[have]
	if have == 0 {
		step = "CREATE TABLE stint_schema (version INTEGER NOT NULL) STRICT;\nINSERT INTO stint_schema VALUES (0);\n" + step
	}
	if err := c.Exec(step); err != nil {
		return false, fmt.Errorf("migration to schema %d: %w", have+1, err)
	}
	if err := c.Exec(fmt.Sprintf("UPDATE stint_schema SET version = %d", have+1)); err != nil {
		return false, err
	}
	return false, c.Exec("COMMIT")
}

// version returns the schema's version; 0 for a file without tables of stint.
func version(q querier) (n int, err error) {
	if err := q.one("SELECT count(*) FROM sqlite_schema WHERE name = 'stint_schema'", nil, &n); err != nil || n == 0 {
		return 0, err
	}
	err = q.one("SELECT version FROM stint_schema", nil, &n)
	return n, err
}
