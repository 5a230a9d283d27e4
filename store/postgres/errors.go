package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stint-dev/stint/store"
)

// Errors of Open, Migrate and the functions that move a database, for errors.Is.
var (
	// ErrServer reports that the server cannot be used with its present settings, such as an old version or fsync off.
	ErrServer = errors.New("the server cannot be used")
	// ErrAccess reports that the server refuses the login, or that the role lacks a right that the store needs.
	ErrAccess = errors.New("the server refuses access")
	// ErrNewer reports that a later version of this library made the tables.
	ErrNewer = errors.New("the tables were made by a newer version of stint: upgrade the program")
	// ErrOlder reports that programs with an older version of this library have the tables open.
	ErrOlder = errors.New("programs of an older version of stint use what this migration drops")
	// ErrNoTables reports that the database has none of the store's tables, and Open may not create them.
	ErrNoTables = errors.New("it has none of stint's tables of this version")
)

// SQLSTATE codes, from appendix A of PostgreSQL's documentation.
const (
	codeUniqueViolation  = "23505"
	codeInvalidPassword  = "28P01"
	codeInvalidAuth      = "28000"
	codeUnknownDatabase  = "3D000"
	codeNoPrivilege      = "42501"
	codeTooMany          = "53300"
	codeDiskFull         = "53100"
	codeDeadlock         = "40P01"
	codeSerialization    = "40001"
	codeLockNotAvailable = "55P03"
	codeReadOnly         = "25006"
	classConnection      = "08"
	classResources       = "53"
	classIntervention    = "57P"
)

// code returns the SQLSTATE of an error of the server; "" for others.
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// hints say what errors of the server mean, and what to do about them.
var hints = map[string]struct {
	kind error
	do   string
}{
	codeInvalidPassword: {ErrAccess, "check the password in the URL, or PGPASSWORD"},
	codeInvalidAuth:     {ErrAccess, "check the user in the URL, and the server's pg_hba.conf"},
	codeNoPrivilege:     {ErrAccess, "grant this role USAGE of the schema, and SELECT, INSERT, UPDATE and DELETE of its tables"},
	codeUnknownDatabase: {ErrServer, "create it, or name another in the URL"},
	codeTooMany:         {store.ErrUnavailable, "raise max_connections, or use a pooler"},
	codeDiskFull:        {store.ErrUnavailable, "free space on the server's disk"},
	codeReadOnly: {store.ErrUnavailable,
		"the server is a standby, or was made read-only: name the primary (target_session_attrs=read-write)"},
}

// explain adds to an error what it means, and what to do about it.
func explain(err error) error {
	if hint, ok := hints[code(err)]; ok && !errors.Is(err, hint.kind) {
		return fmt.Errorf("%w: %w: %s", hint.kind, err, hint.do)
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" && !errors.Is(err, store.ErrUnavailable) {
		return fmt.Errorf("%w: %w: is the server running, and is its address right?", store.ErrUnavailable, err)
	}
	return err
}

// away reports whether an error of the server means that it cannot serve at present: it has no room on its disk, or no
// connections left, it is shutting down, or it is a standby by now.
func away(err error) bool {
	state := code(err)
	return len(state) == 5 && (state[:2] == classResources || state[:3] == classIntervention || state[:2] == classConnection ||
		state == codeReadOnly)
}

// broken reports whether an error means that the connection is lost, so that it is not known what
// became of the statements that were sent.
func broken(c interface{ IsClosed() bool }, err error) bool {
	var decided *decisionError
	if err == nil || errors.As(err, &decided) {
		return false
	}
	state := code(err)
	return c.IsClosed() || state == "" && !errors.Is(err, context.Canceled) ||
		len(state) == 5 && (state[:2] == classConnection || state[:3] == classIntervention)
}
