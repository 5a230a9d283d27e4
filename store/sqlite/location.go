package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/stint-dev/stint/store"
)

// A location is the path of the database's file, and the identity of the file that was opened. It is nil
// for a database in memory.
type location struct {
	path    string // absolute; no part of it is a symbolic link
	db, log fileID
}

// find records which file is at the path, before anything opens it.
func (l *location) find() (err error) {
	l.db, err = identify(l.path)
	return err
}

// findLog records which file is the write-ahead log. It exists once a connection has read, and stays while
// one is open.
func (l *location) findLog() (err error) {
	l.log, err = identify(l.path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// check returns store.ErrFileGone or store.ErrReplaced if the file, or its log, is no longer the one that
// was opened: who opens the path next would not see what is written. It costs two calls of lstat, about a
// microsecond. It ignores other errors of lstat.
func (l *location) check() error {
	if l == nil {
		return nil
	}
	for _, f := range []struct {
		path string
		want fileID
	}{{l.path, l.db}, {l.path + "-wal", l.log}} {
		if f.want == (fileID{}) {
			continue
		}
		got, err := identify(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: %s: put it back, or close this and open the path anew", store.ErrFileGone, f.path)
		case err == nil && got != f.want:
			return fmt.Errorf("%w: %s: put the first one back, or close this and open the path anew", store.ErrReplaced, f.path)
		}
	}
	return nil
}

func isMisplaced(err error) bool {
	return errors.Is(err, store.ErrFileGone) || errors.Is(err, store.ErrReplaced)
}

// Names that other libraries do not take for plain paths.
var (
	dsnScheme = regexp.MustCompile(`(?i)^(file|sqlite3?):(//)?`)
	dsnOption = regexp.MustCompile(`(?i)[?&](_[a-z_]+|mode|cache|immutable|nolock|psow|vfs|modeof)=`)
)

// checkPath refuses a name that is probably not meant as a path: a file with that name would be created.
func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("empty path: name a file")
	case path == Memory || !dsnScheme.MatchString(path) && !dsnOption.MatchString(path) && !strings.HasPrefix(path, Memory):
		return nil
	}
	rest, options, _ := strings.Cut(dsnScheme.ReplaceAllString(path, ""), "?")
	if plain, err := url.PathUnescape(rest); err == nil {
		rest = plain
	}
	if rest == "" || strings.HasPrefix(rest, Memory) || strings.Contains(options, "mode=memory") {
		return fmt.Errorf("%q is a DSN, not a path: write %q, a database of its own that nothing else can open", path, Memory)
	}
	return fmt.Errorf("%q is a DSN, not a path: write %q; SQLite's options are set by stint itself", path, rest)
}

// resolve makes a path absolute and follows its symbolic links, also those to a file that does not exist.
// Two paths of one file resolve to one, except for hard links. Those are not refused: whoever plants one
// could lock the program out.
func resolve(path string) (string, error) {
	if !filepath.IsAbs(path) {
		wd, err := os.Getwd()
		if err != nil {
			return "", err
		}
		path = wd + string(filepath.Separator) + path // not cleaned: link/.. may be elsewhere
	}
	for range 40 {
		dir, base := filepath.Split(path)
		if base == "" || base == "." || base == ".." {
			return filepath.EvalSymlinks(path)
		}
		real, err := filepath.EvalSymlinks(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("directory %s does not exist: make it first: %w", filepath.Clean(dir), fs.ErrNotExist)
		}
		if err != nil {
			return "", err
		}
		path = filepath.Join(real, base)
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return path, nil // opening it reports what is wrong
		}
		to, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			to = real + string(filepath.Separator) + to
		}
		path = to
	}
	return "", errors.New("too many symbolic links")
}

// create creates the file if it is missing, readable only for its owner, unlike SQLite. It follows no
// symbolic link.
func create(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.IsDir():
		return errors.New("is a directory: name a file in it")
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("is not a regular file but %v: name another", info.Mode().Type())
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was faster
	}
	if err != nil {
		return err
	}
	return f.Close()
}
