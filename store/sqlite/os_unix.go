//go:build unix

package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

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
	early := filepath.Join(filepath.Dir(path), ".new-"+filepath.Base(path))
	f, err := os.OpenFile(early, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = lock(f); err == nil {
		err = os.Rename(early, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(early))
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
