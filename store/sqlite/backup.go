package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
)

// Backup implements store.Backuper, by VACUUM INTO: the copy is also compact.
func (s *Store) Backup(ctx context.Context, path string) error {
	if s.path == Memory {
		return errors.New("a database in memory has one connection, which is the engine's: open a file")
	}
	path, err := s.backupPath(path)
	if err != nil {
		return err
	}
	if s.opts.ReadOnly {
		if _, err := s.refresh(); err != nil {
			return err
		}
	}
	dsn := s.fileDSN(url.Values{"_pragma": {pragma("busy_timeout", readerBusy.Milliseconds())}})
	if s.opts.ReadOnly {
		s.reading.RLock() // without a log, the file must not change meanwhile
		defer s.reading.RUnlock()
		dsn = s.readOnlyDSN()
	}
	db, err := s.connect(dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) // SQLite would create it readable for all
	if err != nil {
		return err
	}
	err = f.Close()
	if err == nil {
		_, err = db.ExecContext(ctx, "VACUUM INTO ?", path)
	}
	if err == nil {
		err = s.at.check()
	}
	if err == nil && s.opts.ReadOnly && !s.isStill() {
		err = errMoving
	}
	if err != nil {
		return errors.Join(explain(err), os.Remove(path))
	}
	return nil
}

// backupPath resolves the path of a new copy. It refuses names with a meaning to SQLite: those of files beside
// the database, and those for which a log or journal was left behind, which would change the copy.
func (s *Store) backupPath(path string) (string, error) {
	if path == Memory {
		return "", fmt.Errorf("%q is no file: name one", path)
	}
	if err := checkPath(path); err != nil {
		return "", err
	}
	path, err := resolve(path)
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: syscall.EEXIST}
	}
	if filepath.Dir(path) == presenceDir(s.path) {
		return "", fmt.Errorf("%s is removed when the database is closed: name another directory", filepath.Dir(path))
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if path == s.path+suffix {
			return "", fmt.Errorf("%s is a name that belongs to the database: name another", path)
		}
		if _, err := os.Lstat(path + suffix); !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s is left over from another database, and would be taken for the copy's: remove it", path+suffix)
		}
	}
	return path, nil
}
