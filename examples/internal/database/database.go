// Package database opens what an example works on: a SQLite file, or a PostgreSQL database if the
// environment variable STINT_DATABASE_URL has its URL.
package database

import (
	"context"
	"errors"
	"os"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/postgres"
)

// URL returns the URL of the PostgreSQL database; "" means that a file is used.
func URL() string { return os.Getenv("STINT_DATABASE_URL") }

// Options returns how the example with that name uses a PostgreSQL database: each has its own schema.
func Options(example string) postgres.Options { return postgres.Options{Schema: "example_" + example} }

// Open opens the file at path, or the example's schema. An app that knows what it uses writes one of the two.
func Open(example, path string, opts ...stint.ClientOption) (*stint.Client, error) {
	if URL() == "" {
		return stint.Open(path, opts...)
	}
	s, err := postgres.Open(context.Background(), URL(), Options(example))
	if err != nil {
		return nil, err
	}
	return stint.New(s, opts...)
}

// Remove deletes the file at path, or the example's schema, while no program has it open.
func Remove(example, path string) error {
	if URL() != "" {
		return postgres.Drop(context.Background(), URL(), Options(example))
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Name returns what to tell a person of the database.
func Name(example, path string) string {
	if URL() != "" {
		return "schema " + Options(example).Schema + " of the PostgreSQL database"
	}
	return path
}

// Empty makes the example's schema empty before and after a test. The file of a test is new anyway.
func Empty(t interface {
	Error(...any)
	Cleanup(func())
}, example string) {
	drop := func() {
		if URL() == "" {
			return
		}
		if err := Remove(example, ""); err != nil {
			t.Error(err)
		}
	}
	drop()
	t.Cleanup(drop)
}
