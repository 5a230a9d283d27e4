package conn

import (
	"errors"
	"fmt"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// An Error is an error of SQLite.
type Error struct {
	code int
	text string
}

// Error implements error.
func (e *Error) Error() string { return e.text }

// Code returns SQLite's extended result code.
func (e *Error) Code() int { return e.code }

var errNoMemory = errors.New("SQLite has no memory")

// check returns the error of a result code, with what the connection says of it.
func (c *Conn) check(rc int32) error {
	if rc == lib.SQLITE_OK {
		return nil
	}
	text := libc.GoString(lib.Xsqlite3_errstr(c.tls, rc))
	if c.db != 0 {
		if more := libc.GoString(lib.Xsqlite3_errmsg(c.tls, c.db)); more != text {
			text += ": " + more
		}
	}
	return &Error{int(rc), fmt.Sprintf("%s (%d)", text, rc)}
}
