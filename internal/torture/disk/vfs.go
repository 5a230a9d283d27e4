// Package disk is a layer between SQLite and its files: it shows what is written, can refuse or delay it, and builds
// what a disk may hold after a power cut.
//
// It becomes the default VFS of the process that imports it, on top of the previous one. It passes operations on
// files that are not watched through.
package disk

import (
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// A Kind is a kind of operation on a file.
type Kind uint8

// The kinds.
const (
	Write    Kind = iota + 1
	Truncate      // to Offset
	Sync
	Create
	Delete
)

// An Op is one operation on a file.
type Op struct {
	Kind   Kind
	File   string // base name
	Offset int64
	Data   []byte // to write; valid during the call
}

// An Answer lets an Op happen (OK), or refuses it with a SQLite result code.
type Answer int32

// Answers.
const (
	OK       Answer = lib.SQLITE_OK
	IOError  Answer = lib.SQLITE_IOERR
	Full     Answer = lib.SQLITE_FULL
	ReadOnly Answer = lib.SQLITE_READONLY
)

var watched struct {
	sync.RWMutex
	byDir map[string]func(Op) Answer
}

// Watch calls f before each Op on a file of a directory, one at a time for each file, until stop is called.
func Watch(dir string, f func(Op) Answer) (stop func()) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		panic(err)
	}
	watched.Lock()
	defer watched.Unlock()
	watched.byDir[dir] = f
	return func() {
		watched.Lock()
		defer watched.Unlock()
		delete(watched.byDir, dir)
	}
}

func ask(path string, op Op) Answer {
	watched.RLock()
	f := watched.byDir[filepath.Dir(path)]
	watched.RUnlock()
	if f == nil || strings.HasSuffix(path, "-shm") {
		return OK
	}
	op.File = filepath.Base(path)
	return f(op)
}

// The functions of SQLite's that are passed through to.
type (
	openFunc     = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32
	deleteFunc   = func(tls *libc.TLS, vfs, name uintptr, syncDir int32) int32
	closeFunc    = func(tls *libc.TLS, file uintptr) int32
	writeFunc    = func(tls *libc.TLS, file, buf uintptr, n int32, offset int64) int32
	truncateFunc = func(tls *libc.TLS, file uintptr, size int64) int32
	syncFunc     = func(tls *libc.TLS, file uintptr, flags int32) int32
)

// at is the C object at an address.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// function is the Go function that a C pointer stands for, as modernc.org/libc has them,
// and pointer the other way.
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&struct{ uintptr }{p})) }

func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f})) }

// under is the VFS that there was.
var under uintptr

// A file is an open file of SQLite's.
type file struct {
	path    string
	methods *lib.Tsqlite3_io_methods // as they were
}

var files struct {
	sync.RWMutex
	open    map[uintptr]*file
	methods map[uintptr]uintptr // ours, by what they replace
}

func init() {
	watched.byDir = map[string]func(Op) Answer{}
	files.open, files.methods = map[uintptr]*file{}, map[uintptr]uintptr{}
	tls := libc.NewTLS()
	lib.Xsqlite3_initialize(tls)
	under = lib.Xsqlite3_vfs_find(tls, 0)
	ours := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_vfs{})))
	v := at[lib.Tsqlite3_vfs](ours)
	*v = *at[lib.Tsqlite3_vfs](under)
	name, err := libc.CString("disk")
	if err != nil {
		panic(err)
	}
	v.FzName, v.FpNext = name, 0
	v.FxOpen, v.FxDelete = pointer[openFunc](open), pointer[deleteFunc](remove)
	if rc := lib.Xsqlite3_vfs_register(tls, ours, 1); rc != lib.SQLITE_OK {
		panic("disk: SQLite refuses the VFS")
	}
}

func opened(p uintptr) *file {
	files.RLock()
	defer files.RUnlock()
	return files.open[p]
}

func open(tls *libc.TLS, _, name, p uintptr, flags int32, out uintptr) int32 {
	path := ""
	if name != 0 {
		path = libc.GoString(name)
	}
	if flags&lib.SQLITE_OPEN_CREATE != 0 && flags&lib.SQLITE_OPEN_MAIN_DB == 0 {
		if a := ask(path, Op{Kind: Create}); a != OK {
			return lib.SQLITE_CANTOPEN
		}
	}
	rc := function[openFunc](at[lib.Tsqlite3_vfs](under).FxOpen)(tls, under, name, p, flags, out)
	f := at[lib.Tsqlite3_file](p)
	if rc != lib.SQLITE_OK || f.FpMethods == 0 {
		return rc
	}
	files.Lock()
	defer files.Unlock()
	files.open[p] = &file{path, at[lib.Tsqlite3_io_methods](f.FpMethods)}
	ours := files.methods[f.FpMethods]
	if ours == 0 {
		ours = libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_io_methods{})))
		m := at[lib.Tsqlite3_io_methods](ours)
		*m = *at[lib.Tsqlite3_io_methods](f.FpMethods)
		m.FxClose, m.FxWrite = pointer[closeFunc](shut), pointer[writeFunc](write)
		m.FxTruncate, m.FxSync = pointer[truncateFunc](truncate), pointer[syncFunc](syncFile)
		files.methods[f.FpMethods] = ours
	}
	f.FpMethods = ours
	return rc
}

func remove(tls *libc.TLS, _, name uintptr, syncDir int32) int32 {
	if a := ask(libc.GoString(name), Op{Kind: Delete}); a != OK {
		return int32(a)
	}
	return function[deleteFunc](at[lib.Tsqlite3_vfs](under).FxDelete)(tls, under, name, syncDir)
}

func shut(tls *libc.TLS, p uintptr) int32 {
	f := opened(p)
	files.Lock()
	delete(files.open, p)
	files.Unlock()
	return function[closeFunc](f.methods.FxClose)(tls, p)
}

func write(tls *libc.TLS, p, buf uintptr, n int32, offset int64) int32 {
	f := opened(p)
	if a := ask(f.path, Op{Kind: Write, Offset: offset, Data: unsafe.Slice(at[byte](buf), n)}); a != OK {
		return int32(a)
	}
	return function[writeFunc](f.methods.FxWrite)(tls, p, buf, n, offset)
}

func truncate(tls *libc.TLS, p uintptr, size int64) int32 {
	f := opened(p)
	if a := ask(f.path, Op{Kind: Truncate, Offset: size}); a != OK {
		return int32(a)
	}
	return function[truncateFunc](f.methods.FxTruncate)(tls, p, size)
}

func syncFile(tls *libc.TLS, p uintptr, flags int32) int32 {
	f := opened(p)
	if a := ask(f.path, Op{Kind: Sync}); a != OK {
		return int32(a)
	}
	return function[syncFunc](f.methods.FxSync)(tls, p, flags)
}
