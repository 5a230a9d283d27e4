// Package pg is what the benchmarks on PostgreSQL share: the server of STINT_DATABASE_URL, a schema for each library,
// a snapshot that is held, and a network that takes time.
package pg

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
)

// Notes are the settings in force, of every library.
const Notes = "[PostgreSQL, fsync=on, synchronous_commit=on]"

// URL returns the server's.
func URL() string { return os.Getenv("STINT_DATABASE_URL") }

// Reset drops the schema, and writes what the server has not yet written, so that a case does not pay for the one before.
func Reset(ctx context.Context, schema string) error {
	if URL() == "" {
		return fmt.Errorf("set STINT_DATABASE_URL to the URL of a PostgreSQL server whose fsync is on")
	}
	c, err := pgx.Connect(ctx, URL())
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, "drop schema if exists "+schema+" cascade"); err != nil {
		return err
	}
	_, _ = c.Exec(ctx, "checkpoint") // as well as the role may
	return nil
}

// Hold keeps a snapshot open until release is called: the server removes no row that was alive then.
func Hold(ctx context.Context) (release func(), err error) {
	c, err := pgx.Connect(ctx, URL())
	if err != nil {
		return nil, err
	}
	if _, err := c.Exec(ctx, "begin isolation level repeatable read; select count(*) from pg_class"); err != nil {
		c.Close(ctx)
		return nil, err
	}
	return func() { c.Close(ctx) }, nil
}
