package conn

import (
	"database/sql"
	"errors"
	"fmt"
	"reflect"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Scan copies the row to what into points to. It converts nothing: an integer goes to an integer, a bool (0 or 1) or a float; a
// text or a blob to a string or bytes; and NULL to a pointer, bytes, an interface or a sql.Scanner, and nowhere else.
func (r *Rows) Scan(into ...any) error {
	if r.done {
		return errors.New("Scan: there is no row")
	}
	s := r.s
	if n := int(lib.Xsqlite3_column_count(s.c.tls, s.st)); n != len(into) {
		return fmt.Errorf("row of %q has %d columns, scanned into %d", s.text, n, len(into))
	}
	for i, d := range into {
		if err := s.scan(int32(i), d); err != nil {
			name := libc.GoString(lib.Xsqlite3_column_name(s.c.tls, s.st, int32(i)))
			return fmt.Errorf("column %q: %w", name, err)
		}
	}
	return nil
}

// scan copies a column of the row. The usual kinds have a case each: they need no reflection.
func (s *Stmt) scan(i int32, into any) (err error) {
	kind := lib.Xsqlite3_column_type(s.c.tls, s.st, i)
	switch d := into.(type) {
	case *int64:
		*d, err = s.integer(i, kind)
	case *int:
		var n int64
		if n, err = s.integer(i, kind); err == nil && int64(int(n)) != n {
			err = fmt.Errorf("%d is out of range", n)
		}
		*d = int(n)
	case **int64:
		if *d = nil; kind != lib.SQLITE_NULL {
			n, err := s.integer(i, kind)
			if err != nil {
				return err
			}
			*d = &n
		}
	case *bool:
		*d, err = s.boolean(i, kind)
	case *string:
		var b []byte
		b, err = s.bytes(i, kind)
		*d = string(b)
	case *[]byte:
		if *d = nil; kind != lib.SQLITE_NULL {
			var b []byte
			if b, err = s.bytes(i, kind); err == nil {
				*d = append(make([]byte, 0, len(b)), b...)
			}
		}
	case *float64:
		*d, err = s.float(i, kind)
	case sql.Scanner:
		return d.Scan(s.value(i, kind))
	default:
		return s.reflect(i, kind, reflect.ValueOf(into))
	}
	return err
}

// reflect copies a column to what a pointer to a named type, a small integer, another pointer, or an interface points to.
func (s *Stmt) reflect(i, kind int32, to reflect.Value) error {
	if to.Kind() != reflect.Pointer || to.IsNil() {
		return fmt.Errorf("cannot scan into %v: want a pointer", to.Type())
	}
	v := to.Elem()
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := s.integer(i, kind)
		if err == nil && v.OverflowInt(n) {
			err = fmt.Errorf("%d is out of range", n)
		}
		if err != nil {
			return err
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := s.integer(i, kind)
		if err == nil && (n < 0 || v.OverflowUint(uint64(n))) {
			err = fmt.Errorf("%d is out of range", n)
		}
		if err != nil {
			return err
		}
		v.SetUint(uint64(n))
	case reflect.Pointer:
		if kind == lib.SQLITE_NULL {
			v.SetZero()
			return nil
		}
		x := reflect.New(v.Type().Elem())
		if err := s.scan(i, x.Interface()); err != nil {
			return err
		}
		v.Set(x)
	case reflect.Interface:
		if x := s.value(i, kind); x == nil {
			v.SetZero()
		} else {
			v.Set(reflect.ValueOf(x))
		}
	default:
		plain := map[reflect.Kind]any{reflect.Bool: new(bool), reflect.String: new(string), reflect.Slice: new([]byte),
			reflect.Float64: new(float64)}[v.Kind()]
		if plain == nil || !reflect.TypeOf(plain).Elem().ConvertibleTo(v.Type()) {
			return fmt.Errorf("cannot scan into %v", to.Type())
		}
		if err := s.scan(i, plain); err != nil {
			return err
		}
		v.Set(reflect.ValueOf(plain).Elem().Convert(v.Type()))
	}
	return nil
}

func (s *Stmt) integer(i, kind int32) (int64, error) {
	if kind != lib.SQLITE_INTEGER {
		return 0, mismatch(kind, "an integer")
	}
	return lib.Xsqlite3_column_int64(s.c.tls, s.st, i), nil
}

func (s *Stmt) boolean(i, kind int32) (bool, error) {
	n, err := s.integer(i, kind)
	if err == nil && n>>1 != 0 {
		err = fmt.Errorf("%d is neither 0 nor 1", n)
	}
	return n == 1, err
}

func (s *Stmt) float(i, kind int32) (float64, error) {
	if kind != lib.SQLITE_FLOAT && kind != lib.SQLITE_INTEGER {
		return 0, mismatch(kind, "a number")
	}
	return lib.Xsqlite3_column_double(s.c.tls, s.st, i), nil
}

// bytes returns a text or a blob in SQLite's memory, until the next step.
func (s *Stmt) bytes(i, kind int32) ([]byte, error) {
	if kind != lib.SQLITE_TEXT && kind != lib.SQLITE_BLOB {
		return nil, mismatch(kind, "a text or a blob")
	}
	p := lib.Xsqlite3_column_blob(s.c.tls, s.st, i) // of a text too: it is UTF-8
	n := lib.Xsqlite3_column_bytes(s.c.tls, s.st, i)
	if p == 0 || n == 0 {
		return nil, nil
	}
	return bytesAt(p, int(n)), nil
}

// value returns a column as an int64, float64, string, []byte or nil.
func (s *Stmt) value(i, kind int32) any {
	switch kind {
	case lib.SQLITE_INTEGER:
		return lib.Xsqlite3_column_int64(s.c.tls, s.st, i)
	case lib.SQLITE_FLOAT:
		return lib.Xsqlite3_column_double(s.c.tls, s.st, i)
	case lib.SQLITE_TEXT:
		b, _ := s.bytes(i, kind)
		return string(b)
	case lib.SQLITE_BLOB:
		b, _ := s.bytes(i, kind)
		return append([]byte{}, b...)
	}
	return nil
}

var kindNames = map[int32]string{lib.SQLITE_INTEGER: "an integer", lib.SQLITE_FLOAT: "a float", lib.SQLITE_TEXT: "a text",
	lib.SQLITE_BLOB: "a blob", lib.SQLITE_NULL: "NULL"}

func mismatch(kind int32, want string) error {
	return fmt.Errorf("is %s, want %s", kindNames[kind], want)
}
