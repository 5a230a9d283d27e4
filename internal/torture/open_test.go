//go:build unix

package main

import (
	"bytes"
	"compress/gzip"
	"database/sql"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint/internal/torture/disk"
	"github.com/stint-dev/stint/store/sqlite"
)

var update = flag.Bool("update", false, "make the file of the present schema in testdata anew; never for one that was released")

// A file that is made while its disk fails, at each operation in turn, is made by the next
// who opens it.
func TestOpenInterrupted(t *testing.T) {
	for failing := 1; ; failing++ {
		dir := t.TempDir()
		path := filepath.Join(dir, "a.db")
		done := 0
		stop := disk.Watch(dir, func(disk.Op) disk.Answer {
			if done++; done >= failing {
				return disk.IOError
			}
			return disk.OK
		})
		s, err := sqlite.Open(path, sqlite.Options{})
		stop()
		if err == nil { // all it needs was done
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if failing < 10 {
				t.Errorf("made by %d operations", failing)
			}
			return
		}
		if s, err = sqlite.Open(path, sqlite.Options{}); err != nil {
			t.Fatalf("after a failure at operation %d: %v", failing, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if problems, err := sqlite.Check(t.Context(), path); err != nil || len(problems) > 0 {
			t.Errorf("after a failure at operation %d: %q, %v", failing, problems, err)
		}
	}
}

// Many who open a new file at once find it made, once.
func TestOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := sqlite.Open(path, sqlite.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if problems, err := sqlite.Check(t.Context(), path); err != nil || len(problems) > 0 {
		t.Errorf("%q, %v", problems, err)
	}
}

// A file of each schema, as a killed program left it, is opened, brought up to date, and
// worked to its end; then it has the schema that a new file has.
func TestUpgrade(t *testing.T) {
	schemas, err := filepath.Glob("../../store/sqlite/schema/*.sql")
	if err != nil || len(schemas) == 0 {
		t.Fatalf("%d schemas, %v", len(schemas), err)
	}
	fileOf := func(schema string) string {
		return "testdata/schema-" + strings.TrimSuffix(filepath.Base(schema), ".sql") + ".db.gz"
	}
	if *update {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(killedFile(t))
		z.Close()
		if err := os.WriteFile(fileOf(schemas[len(schemas)-1]), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, schema := range schemas {
		f := fileOf(schema)
		path := filepath.Join(t.TempDir(), "shop.db")
		unpack(t, f, path)
		v, _, err := drain(t.Context(), path)
		if err != nil || v.err() != nil {
			t.Errorf("%s: %v, %v", f, err, v.err())
		}
		if problems, err := sqlite.Check(t.Context(), path); err != nil || len(problems) > 0 {
			t.Errorf("%s: %q, %v", f, problems, err)
		}
		fresh := filepath.Join(t.TempDir(), "fresh.db")
		if v, _, err := drain(t.Context(), fresh); err != nil || v.err() != nil {
			t.Fatal(err, v.err())
		}
		if d := cmp.Diff(schemaOf(t, fresh), schemaOf(t, path)); d != "" {
			t.Errorf("%s has come to another schema than a new file has (-want +got); was a released migration edited?\n%s", f, d)
		}
	}
}

func unpack(t *testing.T, from, to string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// schemaOf is all but the trigger, which the first limit makes.
func schemaOf(t *testing.T, path string) (all []string) {
	t.Helper()
	err := inDatabase(path, func(db *sql.DB) error {
		return rowsOf(db, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND type <> 'trigger' "+
			"ORDER BY name", func(scan func(...any) error) error {
			all = append(all, "")
			return scan(&all[len(all)-1])
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
