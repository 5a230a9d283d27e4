//go:build unix

package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// noFollow has an open refuse a symbolic link, and not wait for a pipe's other end.
const noFollow = unix.O_NOFOLLOW | unix.O_NONBLOCK

// A fileID tells files apart as long as they exist.
type fileID struct{ device, inode uint64 }

// identify returns which file is at a path. It follows no symbolic link.
func identify(path string) (fileID, error) {
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		return fileID{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return fileID{uint64(s.Dev), uint64(s.Ino)}, nil
}

// singleName reports whether a file has one name: what has more may be a link to a database,
// whose locks go when it is closed.
func singleName(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && s.Nlink == 1
}

// share gives a file rights, and where root made it, the owner of the database, who could
// not use it otherwise. SQLite does the same with its log.
func share(path string, db fs.FileInfo, rights fs.FileMode) error {
	if s, ok := db.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := os.Lchown(path, int(s.Uid), int(s.Gid)); err != nil {
			return err
		}
	}
	return os.Chmod(path, rights)
}

// lock takes f for as long as it stays open. The kernel lets go when the process
// dies, however it dies, and not while it is merely stopped.
func lock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// createLocked makes a file that is locked from the moment at which others see it: one
// that they could lock would be taken for a dead owner's.
func createLocked(path string) (*os.File, error) {
	early := filepath.Join(filepath.Dir(path), earlyName+filepath.Base(path))
	f, err := os.OpenFile(early, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	locked, err := lock(f)
	if err == nil && !locked {
		err = fs.ErrExist // somebody looks whether it was left over: try again
	}
	if err == nil {
		err = os.Rename(early, path)
	}
	if err != nil {
		os.Remove(early)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// worldTime is the machine's clock, which a testing/synctest bubble does not replace.
func worldTime() time.Duration {
	var tv unix.Timeval
	if unix.Gettimeofday(&tv) != nil {
		return 0
	}
	return time.Duration(tv.Nano())
}
