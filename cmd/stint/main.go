// The stint command shows what a stint database holds and acts on it, also while programs have it
// open.
//
//	stint runs -state failed app.db
//	stint run app.db 01923b5c-7d3e-7000-8000-3f2a9c1b4d5e
//	stint enqueue app.db send-mail '{"to": "ann@example.org"}'
//	stint doctor app.db
//	stint ui postgres://app@db.example.org/app
//
// A database is a SQLite file, or a PostgreSQL URL as of libpq; without one, -db, $STINT_DB or $STINT_DATABASE_URL names
// it. To keep a password out of the shell's history, use PGPASSWORD or ~/.pgpass.
//
// With -o json it prints what the HTTP API of the page answers, with -o ndjson the same an object a line. The exit status
// is 0, 1 if something failed, or 2 if the command was used wrongly. docs/command.md lists the commands and flags.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	_ "github.com/stint-dev/stint/cel" // filters of triggers, for publish
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := runCommand(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, printableLines(err.Error()))
		stop()
		os.Exit(exitCode(err))
	}
}

// A usageError reports that the command was used wrongly: nothing was done.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// wrongUse makes err a usageError.
func wrongUse(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

// usagef returns a usageError.
func usagef(format string, args ...any) error { return wrongUse(fmt.Errorf(format, args...)) }

// exitCode returns the exit status for an error.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if wrong := (*usageError)(nil); errors.As(err, &wrong) {
		return 2
	}
	return 1
}
