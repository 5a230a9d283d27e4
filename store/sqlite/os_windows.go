package sqlite

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// lock takes f for as long as it stays open. The kernel lets go when the process
// dies, however it dies, and not while it is merely stopped.
func lock(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}

// worldTime is the machine's clock, which a testing/synctest bubble does not replace.
func worldTime() time.Duration {
	var ft windows.Filetime
	windows.GetSystemTimeAsFileTime(&ft)
	return time.Duration(ft.Nanoseconds())
}
