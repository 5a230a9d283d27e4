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
	err := os.Remove(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, p.file.Close())
}

// renew makes the file again if somebody has removed it, as a person may who tidies up,
// and reports whether it did. Others have taken this process for dead then.
func (p *presence) renew() (bool, error) {
	if _, err := os.Lstat(p.path); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	f, err := createLocked(p.path)
	if err != nil {
		return false, err
	}
	old := p.file
	p.file = f
	return true, old.Close()
}

// renew has others know that this process lives, should they have been led to think that
// it is dead. What it executed has gone to others by then, and comes back refused; but
// what its workers claim from now on must be seen to if it does die.
func (w *writer) renew() {
	again, err := w.s.me.renew()
	if err != nil {
		w.note(err)
	}
	if w.buried = w.buried || again; !w.buried {
		return
	}
	w.push(&op{done: make(chan struct{}), apply: func(t *txn) error {
		t.committed = append(t.committed, func() { w.buried = false })
		w.peers = nil
		for _, id := range w.watched() {
			if err := t.exec("UPDATE stint_workers SET ended_at = NULL WHERE id = ? AND lock = ?", id, w.s.me.name); err != nil {
				return err
			}
		}
		return nil
	}})
}

// watched are the workers of this store that have not been unregistered.
func (w *writer) watched() (ids []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, x := range w.watch {
		select {
		case <-x.closed:
		default:
			ids = append(ids, id)
		}
	}
	return ids
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
