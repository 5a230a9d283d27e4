package conn

import (
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	lib "modernc.org/sqlite/lib"
)

// The sync that is not SQLite's own is in place where it was asked for alone, and a sync that fails is an error.
func TestSyncDataMethod(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	c, other := openLogged(t, path), open(t, "file:"+path)
	run(t, other, "INSERT INTO t VALUES (NULL)")
	if !c.SyncData() {
		t.Fatal("SyncData: false")
	}
	for x, want := range map[*Conn]bool{c: true, other: false} {
		if x.SyncsData() != want {
			t.Errorf("%v, want %v", !want, want)
		}
	}
	f := &lib.TunixFile{Fh: -1}
	if rc := syncData(c.tls, uintptr(unsafe.Pointer(f)), lib.SQLITE_SYNC_NORMAL); rc != lib.SQLITE_IOERR_FSYNC {
		t.Errorf("a sync of no file: %d", rc)
	}
	runtime.KeepAlive(f)
}
