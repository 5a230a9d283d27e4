package sqlite

import (
	"errors"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A nameWatch is told by the kernel, by inotify, if the files of a location get other names or lose theirs, or a directory on their
// path does; and by the table of mounts, if one may hide them. The kernel tells it before the call that does it returns. To ask
// whether there was anything is one call of poll for both, half a microsecond, where the files themselves cost two of statx, two
// microseconds.
type nameWatch struct {
	fds     [2]unix.PollFd // of inotify, and of the table of mounts
	open    bool
	useless bool // it cannot be had here
}

const (
	// The number of a file's links is one of its attributes.
	fileEvents = unix.IN_MOVE_SELF | unix.IN_DELETE_SELF | unix.IN_ATTRIB | unix.IN_DONT_FOLLOW
	dirEvents  = unix.IN_MOVE_SELF | unix.IN_DELETE_SELF | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW
)

// toldOf are the file systems whose changes are all made by this kernel, and told. Directories may be on overlayFS too.
var toldOf = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC}

const overlayFS = unix.OVERLAYFS_SUPER_MAGIC

// changed reports whether the names may have changed since renew.
func (w *nameWatch) changed() bool {
	for {
		n, err := unix.Poll(w.fds[:], 0)
		if !errors.Is(err, unix.EINTR) {
			return n != 0 || err != nil
		}
	}
}

// renew watches from now on, and reports whether it can: if not, the files must be looked at each time.
func (w *nameWatch) renew(l *location) bool {
	w.close()
	if w.useless {
		return false
	}
	events, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil { // too many, or a sandbox
		w.useless = true
		return false
	}
	mounts, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(events)
		w.useless = true
		return false
	}
	w.fds = [2]unix.PollFd{{Fd: int32(events), Events: unix.POLLIN}, {Fd: int32(mounts), Events: unix.POLLPRI}}
	w.open = true
	if !w.add(l) {
		w.close()
		return false
	}
	return true
}

// add watches the files, and all directories on their path.
func (w *nameWatch) add(l *location) bool {
	if !w.addOne(l.path, fileEvents) || l.log != (fileID{}) && !w.addOne(l.path+"-wal", fileEvents) {
		return false
	}
	for dir := filepath.Dir(l.path); w.addOne(dir, dirEvents, overlayFS); dir = filepath.Dir(dir) {
		if dir == "/" {
			return true
		}
	}
	return false
}

func (w *nameWatch) addOne(path string, events uint32, also ...int64) bool {
	if _, err := unix.InotifyAddWatch(int(w.fds[0].Fd), path, events); err != nil {
		return false // it is gone, or there are too many
	}
	var s unix.Statfs_t
	if unix.Statfs(path, &s) != nil {
		return false
	}
	if fs := int64(uint32(s.Type)); !slices.Contains(toldOf, fs) && !slices.Contains(also, fs) {
		w.useless = true
		return false
	}
	return true
}

func (w *nameWatch) close() {
	if w.open {
		unix.Close(int(w.fds[0].Fd))
		unix.Close(int(w.fds[1].Fd))
		w.open = false
	}
}
