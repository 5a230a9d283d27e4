package sqlite

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A presence is the file that a store locks while it is open, in a directory beside the database:
// ".app.db-stint/<32 hex digits>". If another process can lock it, its owner is dead. The directory has
// only these files, so that reading it costs the same whatever else is beside the database; the last store
// to close removes it.
//
// It is never the database file: closing any descriptor of that would drop SQLite's own locks.
type presence struct {
	dir  string
	mark string // prefix of the names of all stores that have the same file open
	name string // in stint_workers.lock
	file *os.File
	db   fs.FileInfo // the files have its rights

	// Of the writer's goroutine; see scan.
	modified, scanned time.Time
	seen              bool
}

// presenceName matches a presence's name, in a row and in the directory. Anything else there is neither
// opened nor removed.
var presenceName = regexp.MustCompile(`^[0-9a-f]{32}$`)

const earlyName = ".new-" // before it is locked

// markOf returns the first half of a presence's name: a digest of the file's secret and its inode. A copy has
// the same secret but another inode, so it does not take the original's processes for its own, not even if it
// replaces the original. The device is left out: two views of one file system may number it differently.
func markOf(secret []byte, file fileID) string {
	sum := sha256.Sum256(append(append([]byte{}, secret...), fmt.Sprint(file.inode)...))
	return hex.EncodeToString(sum[:8])
}

// presenceDir returns the directory of a database's presences.
func presenceDir(db string) string {
	return filepath.Join(filepath.Dir(db), "."+filepath.Base(db)+"-stint")
}

func newPresence(at *location, secret []byte) (*presence, error) {
	db, err := os.Lstat(at.path)
	if err != nil {
		return nil, err
	}
	half := make([]byte, 8)
	rand.Read(half)
	p := &presence{dir: presenceDir(at.path), mark: markOf(secret, at.db), db: db}
	p.name = p.mark + hex.EncodeToString(half)
	if err := p.create(); err != nil {
		return nil, err
	}
	p.sweep()
	return p, nil
}

func (p *presence) path(name string) string { return filepath.Join(p.dir, name) }

// create creates the file and the directory. It retries, because others may remove the directory as they
// close, or a file that they take for left behind.
func (p *presence) create() error {
	for tries := 0; ; tries++ {
		f, err := p.tryCreate()
		if err == nil {
			p.file = f
			return nil
		}
		if tries == 100 || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

func (p *presence) tryCreate() (*os.File, error) {
	rights := p.db.Mode().Perm() & 0o666
	err := os.Mkdir(p.dir, 0o700)
	if err == nil {
		err = share(p.dir, p.db, rights|rights>>2&0o111)
	} else if errors.Is(err, fs.ErrExist) {
		err = p.checkDir()
	}
	if err != nil {
		return nil, err
	}
	f, err := createLocked(p.path(p.name))
	if err != nil {
		return nil, err
	}
	if err := share(f.Name(), p.db, rights); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// checkDir returns an error if the directory's path is not a directory.
func (p *presence) checkDir() error {
	info, err := os.Lstat(p.dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is in the way: it must be a directory: move it elsewhere", p.dir)
	}
	return err
}

// sweep removes the files of stores that died in create.
func (p *presence) sweep() {
	entries, _ := os.ReadDir(p.dir)
	for _, e := range entries {
		name, early := strings.CutPrefix(e.Name(), earlyName)
		if !early || !presenceName.MatchString(name) {
			continue
		}
		if locked, err := p.lock(e.Name()); locked && err == nil {
			os.Remove(p.path(e.Name()))
		}
	}
}

func (p *presence) close() error {
	if p.file == nil {
		return nil
	}
	err := os.Remove(p.path(p.name))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, p.file.Close())
	os.Remove(p.dir) // succeeds for the last store
	return err
}

// others returns the other presences in the directory. With an error there may be more.
func (p *presence) others() (names []string, err error) {
	if err := p.checkDir(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(p.dir)
	for _, e := range entries {
		if n := e.Name(); n != p.name && presenceName.MatchString(n) {
			names = append(names, n)
		}
	}
	return names, err
}

const (
	coarseTime = 2 * time.Second  // after this time another change certainly changes the directory's time
	scanEvery  = 10 * time.Second // for file systems that do not keep the directory's time
)

// scan reports whether other stores have the file open, or had it when they died, and whether this store's
// presence was removed. It reads the directory only if that has changed. If it cannot, others may be there.
func (p *presence) scan() (company, removed bool) {
	now := time.Unix(0, worldTime().Nanoseconds())
	var modified time.Time
	if info, err := os.Lstat(p.dir); err == nil {
		modified = info.ModTime()
	}
	if modified.Equal(p.modified) && !modified.IsZero() && now.Sub(modified) > coarseTime && now.Sub(p.scanned).Abs() < scanEvery {
		return p.seen, false
	}
	others, err := p.others()
	p.modified, p.scanned, p.seen = modified, now, err != nil
	if err != nil {
		p.rescan()
	}
	for _, n := range others {
		p.seen = p.seen || strings.HasPrefix(n, p.mark)
	}
	_, err = os.Lstat(p.path(p.name))
	return p.seen, errors.Is(err, fs.ErrNotExist)
}

// rescan makes the next scan read the directory.
func (p *presence) rescan() { p.modified = time.Time{} }

// renew recreates a deleted presence file, so that other processes see this one alive. They may have taken
// it for dead.
func (p *presence) renew() error {
	old := p.file
	if err := p.create(); err != nil {
		return err
	}
	return old.Close()
}

// isDead reports whether a presence's store is dead, or has another file open.
func (p *presence) isDead(name string) (bool, error) {
	if !presenceName.MatchString(name) || !strings.HasPrefix(name, p.mark) {
		return true, nil // it never had this file open: this is a copy, or a row changed by hand
	}
	return p.lock(name)
}

// lock reports whether it could lock a file of the directory for a moment, or the file is missing. It touches
// only regular files with one name.
func (p *presence) lock(name string) (bool, error) {
	path := p.path(name)
	before, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err == nil {
		err = p.checkDir()
	}
	if err == nil && (!before.Mode().IsRegular() || !singleName(before)) {
		err = fmt.Errorf("%s is not what stint made there: remove it", path)
	}
	if err != nil {
		return false, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|noFollow, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if after, err := f.Stat(); err != nil || !os.SameFile(before, after) {
		return false, err // it is being replaced
	}
	return lock(f)
}

// remove removes the presence of a dead store.
func (p *presence) remove(name string) {
	if presenceName.MatchString(name) {
		if locked, err := p.lock(name); locked && err == nil {
			os.Remove(p.path(name))
		}
	}
}
