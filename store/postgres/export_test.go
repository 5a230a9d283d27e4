package postgres

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stint-dev/stint/store/sqlite"
)

// A file, and a database of a server, that are exported and imported tell the same, and what waited goes on.
func TestExportOfEveryKind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.db")
	x := newShop(t, openedFile(t, path))
	x.fill(t)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	s := openedFile(t, path)
	before := dump(t, s, true)
	exported := exportOf(t, s)
	s.Close()

	imported := filepath.Join(dir, "imported.db")
	importAll(t, exported, imported)
	s = openedFile(t, imported)
	same(t, before, dump(t, s, true))
	if again := exportOf(t, s); rowsOf(again) != rowsOf(exported) {
		t.Errorf("the export of what was imported differs: %d and %d bytes", len(exported), len(again))
	}
	s.Close()

	opts := newTarget(t)
	move(t, path, opts)
	p, err := Open(t.Context(), serverURL(t), opts) // a snapshot is made while programs work
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	copied := filepath.Join(dir, "copied.db")
	r, err := Snapshot(t.Context(), serverURL(t), copied, MoveOptions{Options: opts})
	if err != nil || len(r.Problems) > 0 {
		t.Fatal(err, r.Problems)
	}
	s = openedFile(t, copied)
	same(t, before, dump(t, s, true))
	exported = exportOf(t, s)
	s.Close()
	last := filepath.Join(dir, "last.db")
	importAll(t, exported, last)
	s = openedFile(t, last)
	same(t, before, dump(t, s, true))
	x = newShop(t, s)
	defer x.Close()
	x.goesOn(t)
}

func exportOf(t *testing.T, s *sqlite.Store) string {
	t.Helper()
	var b bytes.Buffer
	tables, err := s.Export(t.Context(), &b)
	if err != nil || tables["runs"] == 0 {
		t.Fatal(err, tables)
	}
	return b.String()
}

// rowsOf returns an export without its first line, which has the time.
func rowsOf(exported string) string {
	_, rows, _ := strings.Cut(exported, "\n")
	return rows
}

func importAll(t *testing.T, exported, path string) {
	t.Helper()
	if _, problems, err := sqlite.Import(t.Context(), strings.NewReader(exported), path); err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
}
