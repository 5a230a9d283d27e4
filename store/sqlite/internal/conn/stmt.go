package conn

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	lib "modernc.org/sqlite/lib"
)

// A Stmt is a prepared statement.
type Stmt struct {
	c      *Conn
	st     uintptr
	text   string
	params int
	values uintptr // memory of SQLite with the texts and blobs that are bound
	room   int     // its size
	reads  int     // how many times it was begun
	active bool    // there may be more rows
}

// keptRoom is how much memory a statement keeps for the values of its next execution.
const keptRoom = 64 << 10

// Exec runs the statement with arguments, and returns how many rows it has changed. Rows that it returns are ignored.
func (s *Stmt) Exec(args ...any) (changed int64, err error) {
	if s.active {
		other, err := s.c.Prepare(s.text)
		if err != nil {
			return 0, err
		}
		defer other.Close()
		return other.Exec(args...)
	}
	if err := s.bind(args); err != nil {
		return 0, err
	}
	if err := s.run(); err != nil {
		return 0, err
	}
	return lib.Xsqlite3_changes64(s.c.tls, s.c.db), nil
}

// Query runs the statement with arguments. The first row is read by Next.
func (s *Stmt) Query(args ...any) (*Rows, error) {
	if s.active { // inside of a loop over its rows
		other, err := s.c.Prepare(s.text)
		if err != nil {
			return nil, err
		}
		return other.queryOnce(args)
	}
	if err := s.bind(args); err != nil {
		return nil, err
	}
	s.active = true
	s.reads++
	return &Rows{s: s, read: s.reads}, nil
}

// queryOnce is Query, and Close after the last row.
func (s *Stmt) queryOnce(args []any) (*Rows, error) {
	rows, err := s.Query(args...)
	if err != nil {
		s.Close()
		return nil, err
	}
	rows.own = true
	return rows, nil
}

// Close ends the statement.
func (s *Stmt) Close() {
	lib.Xsqlite3_finalize(s.c.tls, s.st)
	s.c.free(s.values)
	s.st, s.values, s.room = 0, 0, 0
}

// run steps to the end.
func (s *Stmt) run() error {
	for {
		if more, err := s.step(); !more {
			return err
		}
	}
}

// step reads a row, and reports whether there was one. After the last one, or an error, the statement can be executed again.
func (s *Stmt) step() (bool, error) {
	rc := lib.Xsqlite3_step(s.c.tls, s.st)
	if rc == lib.SQLITE_ROW {
		return true, nil
	}
	var err error
	if rc != lib.SQLITE_DONE {
		err = s.c.check(rc)
	}
	s.reset()
	return false, err
}

func (s *Stmt) reset() {
	lib.Xsqlite3_reset(s.c.tls, s.st) // its result is that of the last step
	s.active = false
	if s.room > keptRoom {
		lib.Xsqlite3_clear_bindings(s.c.tls, s.st)
		s.c.free(s.values)
		s.values, s.room = 0, 0
	}
}

// bind sets the statement's parameters. Texts and blobs are copied to memory that is the statement's: SQLite makes no copy of
// its own, and reads them until the next reset.
func (s *Stmt) bind(args []any) error {
	if len(args) != s.params {
		return fmt.Errorf("%q has %d parameters, got %d arguments", s.text, s.params, len(args))
	}
	args, size, err := plainAll(args)
	if err != nil {
		return err
	}
	if err := s.reserve(size); err != nil {
		return err
	}
	at := s.values
	for i, a := range args {
		tls, p, rc := s.c.tls, int32(i+1), int32(0)
		switch v := a.(type) {
		case nil:
			rc = lib.Xsqlite3_bind_null(tls, s.st, p)
		case int64:
			rc = lib.Xsqlite3_bind_int64(tls, s.st, p, v)
		case int:
			rc = lib.Xsqlite3_bind_int64(tls, s.st, p, int64(v))
		case bool:
			n := int64(0)
			if v {
				n = 1
			}
			rc = lib.Xsqlite3_bind_int64(tls, s.st, p, n)
		case float64:
			rc = lib.Xsqlite3_bind_double(tls, s.st, p, v)
		case string:
			from := s.c.words // an empty text must be somewhere, or it is NULL
			if v != "" {
				from = at
				copy(bytesAt(at, len(v)), v)
			}
			rc = lib.Xsqlite3_bind_text(tls, s.st, p, from, int32(len(v)), 0)
			at += uintptr(len(v))
		case []byte:
			switch {
			case v == nil:
				rc = lib.Xsqlite3_bind_null(tls, s.st, p)
			case len(v) == 0:
				rc = lib.Xsqlite3_bind_zeroblob(tls, s.st, p, 0)
			default:
				copy(bytesAt(at, len(v)), v)
				rc = lib.Xsqlite3_bind_blob(tls, s.st, p, at, int32(len(v)), 0)
			}
			at += uintptr(len(v))
		}
		if err := s.c.check(rc); err != nil {
			return err
		}
	}
	return nil
}

// reserve makes room for values of so many bytes.
func (s *Stmt) reserve(size int) error {
	if size <= s.room {
		return nil
	}
	if size > math.MaxInt32 {
		return fmt.Errorf("arguments of %d bytes are too large for SQLite", size)
	}
	room := max(size, 2*s.room, 256)
	p := libc.Xmalloc(s.c.tls, types.Size_t(room))
	if p == 0 {
		return errNoMemory
	}
	s.c.free(s.values) // it is bound still, but not read before all parameters are bound again
	s.values, s.room = p, room
	return nil
}

// plainAll returns the arguments as values that bind knows, and how many bytes their texts and blobs have.
func plainAll(args []any) (_ []any, size int, err error) {
	cloned := false
	for i := 0; i < len(args); i++ {
		switch v := args[i].(type) {
		case nil, int64, int, bool, float64:
		case string:
			size += len(v)
		case []byte:
			size += len(v)
		default:
			x, err := plain(v)
			if err != nil {
				return nil, 0, fmt.Errorf("argument %d: %w", i+1, err)
			}
			if !cloned {
				args, cloned = slices.Clone(args), true
			}
			args[i] = x
			i-- // which is counted
		}
	}
	return args, size, nil
}

// plain returns the value of a named type, or what a pointer points to, as one that bind knows.
func plain(a any) (any, error) {
	switch v := reflect.ValueOf(a); v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return int64(v.Uint()), nil
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.Float32, reflect.Float64:
		return v.Float(), nil
	case reflect.String:
		return v.String(), nil
	case reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		return v.Elem().Interface(), nil
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Bytes(), nil
		}
	}
	return nil, fmt.Errorf("no value of SQLite for %T", a)
}

// Rows are the result of a query. They must be closed, or read to their end.
type Rows struct {
	s    *Stmt
	read int  // of s
	own  bool // s is only theirs
	done bool
	err  error
}

// Next reads a row, and reports whether there was one.
func (r *Rows) Next() bool {
	if r.done {
		return false
	}
	more, err := r.s.step()
	if !more {
		r.end()
		r.err = err
	}
	return more
}

// Err returns the error that ended the loop over Next, if one did.
func (r *Rows) Err() error { return r.err }

// Close ends the query.
func (r *Rows) Close() error {
	r.end()
	return nil
}

func (r *Rows) end() {
	if r.done {
		return
	}
	r.done = true
	if r.s.active && r.read == r.s.reads {
		r.s.reset()
	}
	if r.own {
		r.s.Close()
	}
}
