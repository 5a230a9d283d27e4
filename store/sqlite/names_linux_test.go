package sqlite

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// Commits and a backup's reads leave the names as they are, so the files are not looked at.
func TestNamesAreUnchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := nameCheck{at: s.at}
	defer c.close()
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	if c.names.useless {
		return // a file system that is not told of
	}
	if _, err := s.Enqueue(t.Context(), time.Now(), []store.NewRun{{Task: "t", Queue: "q"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(path + "-wal"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".txt", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !c.inPlace || c.names.changed() {
		t.Error("a commit, a read and a file beside count as changes of the names")
	}
}
