package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// A presence is the file that a store keeps locked while it is open, beside the
// database: "app.db-stint-<uuid>". Whoever can lock it knows that its owner is dead.
// It is never the database file itself: closing any descriptor of that would drop
// SQLite's own POSIX locks.
type presence struct {
	name string // base name; kept in stint_workers.lock
	path string
	file *os.File
}

func newPresence(db string) (*presence, error) {
	path := db + "-stint-" + strings.ReplaceAll(uuid.NewString(), "-", "")
	f, err := createLocked(path)
	if err != nil {
		return nil, err
	}
	return &presence{filepath.Base(path), path, f}, nil
}

func (p *presence) close() error {
	if p.file == nil {
		return nil
	}
	return errors.Join(os.Remove(p.path), p.file.Close())
}

// dead reports whether the owner of a presence beside db is gone.
func dead(db, name string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(filepath.Dir(db), filepath.Base(name)), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return lock(f)
}

// bury removes what a dead owner left.
func bury(db, name string) {
	os.Remove(filepath.Join(filepath.Dir(db), filepath.Base(name)))
}
