package conn

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	lib "modernc.org/sqlite/lib"
)

// dataSync has the methods of SQLite's own files, with another sync.
var dataSync struct {
	sync.Mutex
	methods uintptr // SQLite's memory; 0: none yet
	below   uintptr // the methods that they were made of
}

// SyncData has the connection sync its log by fdatasync, as SQLite itself does where it is built for Linux with HAVE_FDATASYNC. The
// library in modernc.org/sqlite has fsync, which also stores the time of the last write: with the file system's journal, that is a
// second write to the disk for each commit that comes more than a tick of the kernel after the last one. fdatasync stores all that
// reading the data needs, as the size.
//
// It reports whether it did: the file must be one of SQLite's own VFS, and not of one that is above that.
func (c *Conn) SyncData() bool {
	rc := lib.Xsqlite3_file_control(c.tls, c.db, 0, lib.SQLITE_FCNTL_VFS_POINTER, c.words)
	if rc != lib.SQLITE_OK || c.word(0) == 0 || libc.GoString(object[lib.Tsqlite3_vfs](c.word(0)).FzName) != "unix" {
		return false
	}
	f, m, err := c.log()
	if err != nil {
		return false
	}
	ours := dataMethodsOver(c.tls, m)
	if ours != 0 {
		object[lib.Tsqlite3_file](f).FpMethods = ours
	}
	return ours != 0
}

// SyncsData reports whether the connection syncs its log by fdatasync.
func (c *Conn) SyncsData() bool {
	_, m, err := c.log()
	return err == nil && m.FxSync == callback(syncData)
}

func dataMethodsOver(tls *libc.TLS, m *lib.Tsqlite3_io_methods) uintptr {
	d := &dataSync
	d.Lock()
	defer d.Unlock()
	below := uintptr(unsafe.Pointer(m))
	if d.methods != 0 && d.methods == below { // it does already
		return below
	}
	if d.methods == 0 {
		if d.methods = libc.Xmalloc(tls, types.Size_t(unsafe.Sizeof(*m))); d.methods == 0 {
			return 0
		}
		d.below = below
		ours := object[lib.Tsqlite3_io_methods](d.methods)
		*ours = *m
		ours.FxSync = callback(syncData)
	}
	if d.below != below {
		return 0
	}
	return d.methods
}

func syncData(tls *libc.TLS, file uintptr, flags int32) int32 {
	f := object[lib.TunixFile](file)
	if f.FctrlFlags&lib.UNIXFILE_DIRSYNC != 0 { // a new file: its directory must be synced too
		return method[syncMethod](object[lib.Tsqlite3_io_methods](dataSync.below).FxSync)(tls, file, flags)
	}
	if err := unix.Fdatasync(int(f.Fh)); err != nil {
		return lib.SQLITE_IOERR_FSYNC
	}
	return lib.SQLITE_OK
}
