package conn

import (
	"sync"
	"sync/atomic"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// functions are the functions of all connections, by the number that SQLite gives back to call: it keeps no Go pointers.
var (
	functions    sync.Map // uintptr: func(args []any) any
	lastFunction atomic.Uintptr
)

// Function adds a function to the connection, which statements call by its name with so many arguments. An argument is an
// int64, float64, string, []byte or nil; the result is a bool, or nil. Its result depends on its arguments alone.
func (c *Conn) Function(name string, args int, f func(args []any) any) error {
	text, err := c.newString(name)
	if err != nil {
		return err
	}
	defer c.free(text)
	id := lastFunction.Add(1)
	functions.Store(id, f)
	c.functions = append(c.functions, id)
	const flags = lib.SQLITE_UTF8 | lib.SQLITE_DETERMINISTIC
	return c.check(lib.Xsqlite3_create_function(c.tls, c.db, text, int32(args), flags, id, callback(call), 0, 0))
}

// call is what SQLite calls for each function.
func call(tls *libc.TLS, ctx uintptr, n int32, argv uintptr) {
	f, ok := functions.Load(lib.Xsqlite3_user_data(tls, ctx))
	if !ok {
		lib.Xsqlite3_result_error_code(tls, ctx, lib.SQLITE_MISUSE)
		return
	}
	args := make([]any, n)
	for i := range args {
		args[i] = argument(tls, *(*uintptr)(pointer(argv + uintptr(i)*wordSize)))
	}
	switch r := f.(func([]any) any)(args).(type) {
	case bool:
		v := int32(0)
		if r {
			v = 1
		}
		lib.Xsqlite3_result_int(tls, ctx, v)
	default:
		lib.Xsqlite3_result_null(tls, ctx)
	}
}

func argument(tls *libc.TLS, v uintptr) any {
	kind := lib.Xsqlite3_value_type(tls, v)
	switch kind {
	case lib.SQLITE_INTEGER:
		return lib.Xsqlite3_value_int64(tls, v)
	case lib.SQLITE_FLOAT:
		return lib.Xsqlite3_value_double(tls, v)
	case lib.SQLITE_NULL:
		return nil
	}
	var b []byte
	p := lib.Xsqlite3_value_blob(tls, v)
	if n := lib.Xsqlite3_value_bytes(tls, v); n > 0 {
		b = bytesAt(p, int(n))
	}
	if kind == lib.SQLITE_TEXT {
		return string(b)
	}
	return append([]byte{}, b...)
}
