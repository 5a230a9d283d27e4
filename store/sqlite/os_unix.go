//go:build unix

package sqlite

import (
	"errors"
	"os"
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

// worldTime is the machine's clock, which a testing/synctest bubble does not replace.
func worldTime() time.Duration {
	var tv unix.Timeval
	if unix.Gettimeofday(&tv) != nil {
		return 0
	}
	return time.Duration(tv.Nano())
}
