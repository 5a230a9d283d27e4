//go:build unix

package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// However a file is asked for its identity, it is the same; that of a link is not its target's.
func TestIdentify(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	got, err := identify(path)
	want, serr := identifyByStat(path)
	if err != nil || serr != nil || got != want || got == (fileID{}) {
		t.Errorf("%+v, %v; by stat %+v, %v", got, err, want, serr)
	}
	if l, err := identify(link); err != nil || l == got {
		t.Errorf("the link is %+v, %v", l, err)
	}
	if _, err := identify(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
