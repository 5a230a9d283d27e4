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

// noFollow makes open refuse a symbolic link, and not wait for the other end of a pipe.
const noFollow = unix.O_NOFOLLOW | unix.O_NONBLOCK

// A fileID identifies a file as long as it exists.
type fileID struct{ device, inode uint64 }

func identifyByStat(path string) (fileID, error) {
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		return fileID{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return fileID{uint64(s.Dev), uint64(s.Ino)}, nil
}

// singleName reports whether a file has one name: another may be that of a database, whose locks closing
// the file would drop.
func singleName(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && s.Nlink == 1
}

// share sets a file's rights and, if root creates it, the owner of the database as its owner, who could not
// use it otherwise. SQLite does the same with its log.
func share(path string, db fs.FileInfo, rights fs.FileMode) error {
	if s, ok := db.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := os.Lchown(path, int(s.Uid), int(s.Gid)); err != nil {
			return err
		}
	}
	return os.Chmod(path, rights)
}

// lock locks f until it is closed. The kernel releases the lock when the process dies, however it dies, but
// not while it is stopped.
func lock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// createLocked creates a file that is locked before others can see it: if they could lock it, they would
// take its owner for dead.
func createLocked(path string) (*os.File, error) {
	early := filepath.Join(filepath.Dir(path), earlyName+filepath.Base(path))
	f, err := os.OpenFile(early, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	locked, err := lock(f)
	if err == nil && !locked {
		err = fs.ErrExist // another process checks whether it was left behind: try again
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

// worldTime returns the machine's time, which a testing/synctest bubble does not replace.
func worldTime() time.Duration {
	var tv unix.Timeval
	if unix.Gettimeofday(&tv) != nil {
		return 0
	}
	return time.Duration(tv.Nano())
}
