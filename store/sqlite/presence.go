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

// A presence is the file that a store keeps locked while it is open, in a directory beside
// the database: ".app.db-stint/<32 hex digits>". Whoever can lock it knows that its owner is
// dead. The directory is the database's alone, so that it costs the same to look into
// whatever else lies beside; it goes when the last store closes.
//
// It is never the database file itself: closing any descriptor of that would drop SQLite's
// own locks.
type presence struct {
	dir  string
	mark string // what the names of all who have this very file open begin with
	name string // kept in stint_workers.lock
	file *os.File
	db   fs.FileInfo // whose rights the files have

	// Of the writer's goroutine; see look.
	modified, scanned time.Time
	seen              bool
}

// presenceName is what a name is, in a row and in the directory. Anything else there is not
// ours: it is neither opened nor removed.
var presenceName = regexp.MustCompile(`^[0-9a-f]{32}$`)

const earlyName = ".new-" // before it is locked

// markOf is the first half of a presence's name: a digest of a secret that the file holds
// and of the file's inode. A copy has the secret and another inode, so that it does not take
// those who work on the original for its own, also where it was put in its place. The device
// is left out: two views of one file system may number it differently.
func markOf(secret []byte, file fileID) string {
	sum := sha256.Sum256(append(append([]byte{}, secret...), fmt.Sprint(file.inode)...))
	return hex.EncodeToString(sum[:8])
}

// presenceDir is where the presences of a database are.
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

// create makes the file, and the directory. Others may remove that as they leave, or what
// they take for left over, while this is at it.
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

// checkDir returns an error if what is at the directory's path is something else.
func (p *presence) checkDir() error {
	info, err := os.Lstat(p.dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is in the way: it must be a directory: move it elsewhere", p.dir)
	}
	return err
}

// sweep removes what those have left who died while they made their presence.
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
	os.Remove(p.dir) // which the last one can
	return err
}

// others lists the other presences in the directory.
func (p *presence) others() (names []string) {
	if p.checkDir() != nil {
		return nil
	}
	entries, _ := os.ReadDir(p.dir)
	for _, e := range entries {
		if n := e.Name(); n != p.name && presenceName.MatchString(n) {
			names = append(names, n)
		}
	}
	return names
}

const (
	coarseTime = 2 * time.Second  // the least time between two changes that a directory's time surely tells apart
	scanEvery  = 10 * time.Second // though the directory has not changed, where no time is kept
)

// scan reports whether other stores have the file open, or had when they died, and whether
// this store's own presence was removed. The directory is read only when it has changed.
func (p *presence) scan() (company, removed bool) {
	now := time.Unix(0, worldTime().Nanoseconds())
	var modified time.Time
	if info, err := os.Lstat(p.dir); err == nil {
		modified = info.ModTime()
	}
	if modified.Equal(p.modified) && !modified.IsZero() && now.Sub(modified) > coarseTime && now.Sub(p.scanned).Abs() < scanEvery {
		return p.seen, false
	}
	p.modified, p.scanned, p.seen = modified, now, false
	for _, n := range p.others() {
		p.seen = p.seen || strings.HasPrefix(n, p.mark)
	}
	_, err := os.Lstat(p.path(p.name))
	return p.seen, errors.Is(err, fs.ErrNotExist)
}

// renew makes the file again if somebody has removed it, as a person may who tidies up.
// Others have taken this process for dead then.
func (p *presence) renew() error {
	old := p.file
	if err := p.create(); err != nil {
		return err
	}
	return old.Close()
}

// isDead reports whether the store of that presence is gone, or has another file open.
func (p *presence) isDead(name string) (bool, error) {
	if !presenceName.MatchString(name) || !strings.HasPrefix(name, p.mark) {
		return true, nil // it never had this file open: this is a copy, or a row changed by hand
	}
	return p.lock(name)
}

// lock reports whether it could lock a file of the directory for a moment, or it is missing.
// What is not a regular file with one name is not touched.
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

// remove removes what a dead store left.
func (p *presence) remove(name string) {
	if presenceName.MatchString(name) {
		if locked, err := p.lock(name); locked && err == nil {
			os.Remove(p.path(name))
		}
	}
}
