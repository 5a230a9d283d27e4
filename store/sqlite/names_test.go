package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stint-dev/stint/store"
)

// Whatever happens to the names of a file and of the directories on its path, the check of the writer says what a look at the files
// does, at once; also once all is in place again.
func TestNameCheck(t *testing.T) {
	link := func(from, to string) func(dir string) error {
		return func(dir string) error { return os.Link(filepath.Join(dir, from), filepath.Join(dir, to)) }
	}
	move := func(from, to string) func(dir string) error {
		return func(dir string) error { return os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)) }
	}
	remove := func(name string) func(dir string) error {
		return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
	}
	type changes = []func(dir string) error
	for name, tt := range map[string]struct {
		do   changes
		want error
	}{
		"nothing":            {nil, nil},
		"removed":            {changes{remove("a/b/t.db")}, store.ErrFileGone},
		"log removed":        {changes{remove("a/b/t.db-wal")}, store.ErrFileGone},
		"moved":              {changes{move("a/b/t.db", "t.db")}, store.ErrFileGone},
		"replaced":           {changes{move("other", "a/b/t.db")}, store.ErrReplaced},
		"log replaced":       {changes{move("other", "a/b/t.db-wal")}, store.ErrReplaced},
		"directory moved":    {changes{move("a/b", "a/c")}, store.ErrFileGone},
		"its parent moved":   {changes{move("a", "c")}, store.ErrFileGone},
		"moved and back":     {changes{move("a/b/t.db", "t.db"), move("t.db", "a/b/t.db")}, nil},
		"another link":       {changes{link("a/b/t.db", "t.db")}, nil},
		"by a link, removed": {changes{link("a/b/t.db", "t.db"), remove("a/b/t.db")}, store.ErrFileGone},
		"parents exchanged": {changes{move("a", "c"),
			func(dir string) error { return os.MkdirAll(filepath.Join(dir, "a/b"), 0o700) },
			move("c/b/t.db", "a/b/t.db"), move("c/b/t.db-wal", "a/b/t.db-wal"), move("a/b", "a/d")}, store.ErrFileGone},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(t.TempDir())
			path := filepath.Join(dir, "a/b/t.db")
			err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700))
			for _, f := range []string{path, path + "-wal", filepath.Join(dir, "other")} {
				err = errors.Join(err, os.WriteFile(f, nil, 0o600))
			}
			at := &location{path: path}
			if err := errors.Join(err, at.find(), at.findLog()); err != nil {
				t.Fatal(err)
			}
			c := nameCheck{at: at}
			defer c.close()
			for i, do := range append(changes{func(string) error { return nil }}, tt.do...) {
				if err := do(dir); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if got, want := c.check(), at.check(); (got == nil) != (want == nil) || got != nil && got.Error() != want.Error() {
						t.Errorf("after change %d: %v, want %v", i, got, want)
					}
				}
			}
			if err := c.check(); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}
