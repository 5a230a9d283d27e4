package conn

import (
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	lib "modernc.org/sqlite/lib"
)

// A hook is what SQLite gives back to committed: memory of SQLite.
type hook struct {
	frames int32 // in the log, as of the last commit
	limit  int32 // that begin a checkpoint
}

// AutoCheckpoint has a commit that leaves so many frames in the write-ahead log begin a checkpoint, as PRAGMA wal_autocheckpoint
// does, in whose place it comes.
func (c *Conn) AutoCheckpoint(frames int) error {
	if c.hook == 0 {
		if c.hook = libc.Xcalloc(c.tls, 1, types.Size_t(unsafe.Sizeof(hook{}))); c.hook == 0 {
			return errNoMemory
		}
	}
	object[hook](c.hook).limit = int32(frames)
	lib.Xsqlite3_wal_hook(c.tls, c.db, callback(committed), c.hook)
	return nil
}

// committed is the function that SQLite calls after a commit to the log. It ignores the result of the checkpoint, as SQLite's own
// hook does, because the next commit begins another.
func committed(tls *libc.TLS, arg, db, name uintptr, frames int32) int32 {
	h := object[hook](arg)
	if h.frames = frames; frames >= h.limit {
		lib.Xsqlite3_wal_checkpoint(tls, db, name)
	}
	return lib.SQLITE_OK
}

// Frames returns how many frames the log had after the last commit of the connection, those of other connections too. It is 0
// before the first commit.
func (c *Conn) Frames() int {
	if c.hook == 0 {
		return 0
	}
	return int(object[hook](c.hook).frames)
}

// LogSize returns the size of the file of the log in bytes.
func (c *Conn) LogSize() (int64, error) {
	f, m, err := c.log()
	if err != nil {
		return 0, err
	}
	size := c.words
	*object[int64](size) = 0
	rc := method[func(*libc.TLS, uintptr, uintptr) int32](m.FxFileSize)(c.tls, f, size)
	return *object[int64](size), c.check(rc)
}

// ExtendLog writes zeros to the file of the log, from its end on up to a size, and syncs them. The caller has begun a transaction
// that writes: then no other connection writes, restarts or truncates the log. It uses the file that SQLite has open.
//
// SQLite reads no further than the first frame that is not valid, and one whose page has the number 0 never is.
func (c *Conn) ExtendLog(to int64) error {
	f, m, err := c.log()
	if err != nil {
		return err
	}
	from, err := c.LogSize()
	if err != nil || from >= to {
		return err
	}
	const piece = 64 << 10
	zeros := libc.Xcalloc(c.tls, 1, piece)
	if zeros == 0 {
		return errNoMemory
	}
	defer c.free(zeros)
	write := method[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](m.FxWrite)
	for ; from < to; from += piece {
		if rc := write(c.tls, f, zeros, int32(min(piece, to-from)), from); rc != lib.SQLITE_OK {
			return c.check(rc)
		}
	}
	return c.check(method[syncMethod](m.FxSync)(c.tls, f, lib.SQLITE_SYNC_NORMAL))
}

type syncMethod = func(tls *libc.TLS, file uintptr, flags int32) int32

// log returns SQLite's open file of the log, and its methods.
func (c *Conn) log() (uintptr, *lib.Tsqlite3_io_methods, error) {
	rc := lib.Xsqlite3_file_control(c.tls, c.db, 0, lib.SQLITE_FCNTL_JOURNAL_POINTER, c.words)
	if rc != lib.SQLITE_OK {
		return 0, nil, c.check(rc)
	}
	f := c.word(0)
	if f == 0 || object[lib.Tsqlite3_file](f).FpMethods == 0 {
		return 0, nil, c.check(lib.SQLITE_NOTFOUND) // not open yet
	}
	return f, object[lib.Tsqlite3_io_methods](object[lib.Tsqlite3_file](f).FpMethods), nil
}

// object returns the object at an address of SQLite's memory.
func object[T any](p uintptr) *T { return (*T)(pointer(p)) }

// method returns the Go function that a function pointer of SQLite stands for, and callback the pointer of a function that is declared.
func method[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&struct{ uintptr }{p})) }

func callback[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f})) }
