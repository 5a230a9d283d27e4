// Package conn is a connection to SQLite below database/sql, for one goroutine at a time: it has no pool, no locks, and no
// context for each statement, which cost a writer of many small statements about a third of its time.
//
// It calls the library inside modernc.org/sqlite, so it and connections of that driver may have a file open in one process.
// Two SQLite libraries in a process would drop each other's locks.
package conn

import (
	"fmt"
	"strings"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	lib "modernc.org/sqlite/lib"
)

// A Conn is a connection. Its methods, and those of its statements, must not be called concurrently.
type Conn struct {
	tls       *libc.TLS
	db        uintptr
	words     uintptr // memory of SQLite for two words: what functions return by reference, and where empty texts are
	functions []uintptr
	hook      uintptr // 0: none
}

// wordSize is the size of a pointer of SQLite.
const wordSize = unsafe.Sizeof(uintptr(0))

// Open opens a database by its URI, as https://www.sqlite.org/uri.html describes, for reading and writing. No statement of the
// connection can damage the file on purpose (SQLITE_DBCONFIG_DEFENSIVE).
func Open(uri string) (*Conn, error) {
	c := &Conn{tls: libc.NewTLS()}
	if c.words = libc.Xcalloc(c.tls, 2, types.Size_t(wordSize)); c.words == 0 {
		c.tls.Close()
		return nil, errNoMemory
	}
	name, err := c.newString(uri)
	if err == nil {
		// The connection has one owner: it needs no mutex.
		flags := int32(lib.SQLITE_OPEN_READWRITE | lib.SQLITE_OPEN_URI | lib.SQLITE_OPEN_NOMUTEX | lib.SQLITE_OPEN_EXRESCODE)
		rc := lib.Xsqlite3_open_v2(c.tls, name, c.words, flags, 0)
		c.free(name)
		c.db = c.word(0)
		err = c.check(rc)
	}
	if err == nil {
		err = c.defend()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) defend() error {
	const slot = 8 // of an argument, on all platforms
	list := libc.Xmalloc(c.tls, 2*slot)
	if list == 0 {
		return errNoMemory
	}
	defer c.free(list)
	return c.check(lib.Xsqlite3_db_config(c.tls, c.db, lib.SQLITE_DBCONFIG_DEFENSIVE, libc.VaList(list, int32(1), uintptr(0))))
}

// Close closes the connection and its statements. A transaction that is open is rolled back.
func (c *Conn) Close() error {
	if c.tls == nil {
		return nil
	}
	var err error
	if c.db != 0 {
		for st := lib.Xsqlite3_next_stmt(c.tls, c.db, 0); st != 0; st = lib.Xsqlite3_next_stmt(c.tls, c.db, 0) {
			lib.Xsqlite3_finalize(c.tls, st)
		}
		err = c.check(lib.Xsqlite3_close_v2(c.tls, c.db))
	}
	for _, id := range c.functions {
		functions.Delete(id)
	}
	c.free(c.words)
	c.free(c.hook)
	c.tls.Close()
	c.tls, c.db = nil, 0
	return err
}

// Interrupt makes the statement that runs return an error with the code SQLITE_INTERRUPT. It may be called while others of the
// connection's methods run, but for Close.
func (c *Conn) Interrupt() {
	tls := libc.NewTLS() // c.tls is in use
	defer tls.Close()
	lib.Xsqlite3_interrupt(tls, c.db)
}

// Exec runs statements, one after another, and ignores the rows that they return.
func (c *Conn) Exec(script string) error {
	text, err := c.newString(script)
	if err != nil {
		return err
	}
	defer c.free(text)
	for rest := text; ; {
		st, next, err := c.prepare(rest, 0)
		if err != nil {
			return err
		}
		if st != 0 {
			err = (&Stmt{c: c, st: st}).run()
			lib.Xsqlite3_finalize(c.tls, st)
		}
		if err != nil || next == rest || *(*byte)(pointer(next)) == 0 {
			return err
		}
		rest = next
	}
}

// Prepare prepares one statement, for as long as the connection is open.
func (c *Conn) Prepare(text string) (*Stmt, error) {
	from, err := c.newString(text)
	if err != nil {
		return nil, err
	}
	defer c.free(from)
	st, rest, err := c.prepare(from, lib.SQLITE_PREPARE_PERSISTENT)
	if err != nil {
		return nil, err
	}
	if st == 0 || strings.TrimSpace(libc.GoString(rest)) != "" {
		lib.Xsqlite3_finalize(c.tls, st)
		return nil, fmt.Errorf("prepare %q: want one statement", text)
	}
	return &Stmt{c: c, st: st, text: text, params: int(lib.Xsqlite3_bind_parameter_count(c.tls, st))}, nil
}

// Query runs a statement that is needed once. The first row is read by Next.
func (c *Conn) Query(text string, args ...any) (*Rows, error) {
	s, err := c.Prepare(text)
	if err != nil {
		return nil, err
	}
	return s.queryOnce(args)
}

// prepare prepares the first statement of a text, 0 if there is none, and returns where the next one begins.
func (c *Conn) prepare(text uintptr, flags uint32) (st, rest uintptr, err error) {
	err = c.check(lib.Xsqlite3_prepare_v3(c.tls, c.db, text, -1, flags, c.words, c.words+wordSize))
	return c.word(0), c.word(1), err
}

// word returns a value that SQLite has returned by reference.
func (c *Conn) word(i uintptr) uintptr { return *(*uintptr)(pointer(c.words + i*wordSize)) }

// newString copies a text to SQLite's memory, with a byte 0 at its end.
func (c *Conn) newString(text string) (uintptr, error) {
	if strings.Contains(text, "\x00") {
		return 0, fmt.Errorf("text %q has a byte 0", text)
	}
	p, err := libc.CString(text)
	if err != nil {
		return 0, errNoMemory
	}
	return p, nil
}

func (c *Conn) free(p uintptr) { libc.Xfree(c.tls, p) }

// pointer returns a pointer to memory of SQLite, which Go's garbage collector neither moves nor frees.
func pointer(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// bytesAt returns n bytes of SQLite's memory, without a copy.
func bytesAt(p uintptr, n int) []byte { return unsafe.Slice((*byte)(pointer(p)), n) }
