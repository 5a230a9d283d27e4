package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// noFollow is 0: on Windows only administrators may create links.
const noFollow = 0

// A fileID is empty: Windows does not remove or replace a file that SQLite has open.
type fileID struct{ device, inode uint64 }

func identify(path string) (fileID, error) { return fileID{}, nil }

func singleName(fs.FileInfo) bool { return true }

func share(string, fs.FileInfo, fs.FileMode) error { return nil }

// lock locks f until it is closed. The kernel releases the lock when the process dies, however it dies, but
// not while it is stopped.
func lock(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}

// createLocked creates a locked file. Others may lock it first, to see whether its owner is dead, but
// cannot remove it: it is open.
func createLocked(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	locked := false
	for range 1000 {
		if locked, err = lock(f); locked || err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err == nil && !locked {
		err = errors.New("the file that says that this process lives is locked by another: " + path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// worldTime returns the machine's time, which a testing/synctest bubble does not replace.
func worldTime() time.Duration {
	var ft windows.Filetime
	windows.GetSystemTimeAsFileTime(&ft)
	return time.Duration(ft.Nanoseconds())
}
