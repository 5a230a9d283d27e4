package disk

import (
	"database/sql"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func rows(t *testing.T, path string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var whole string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&whole); err != nil || whole != "ok" {
		t.Fatalf("integrity_check: %s, %v", whole, err)
	}
	db.QueryRow("SELECT count(*) FROM t").Scan(&n) // 0 before there is a table
	return n
}

// With synchronous=FULL what was committed is in every image of the disk; with OFF not,
// so that the images do lose what may be lost.
func TestImages(t *testing.T) {
	for _, c := range []struct {
		sync  string
		loses bool
	}{{"FULL", false}, {"OFF", true}} {
		dir := t.TempDir()
		path := filepath.Join(dir, "a.db")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		rec := Record(dir)
		db, err := sql.Open("sqlite", "file:"+path+
			"?_pragma=journal_mode(wal)&_pragma=wal_autocheckpoint(8)&_pragma=synchronous("+c.sync+")")
		if err != nil {
			t.Fatal(err)
		}
		db.SetMaxOpenConns(1)
		var commits []int
		for _, q := range append([]string{"CREATE TABLE t (x)"}, make([]string, 60)...) {
			if q == "" {
				q = "INSERT INTO t VALUES (randomblob(3000))"
			}
			if _, err := db.Exec(q); err != nil {
				t.Fatal(err)
			}
			commits = append(commits, rec.Len())
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		ops := rec.Stop()
		rng, d, lost := rand.New(rand.NewPCG(1, 2)), NewDisk(), 0
		for cut := range ops {
			d.Forward(ops, cut)
			image := t.TempDir()
			if err := d.Image(image, rng); err != nil {
				t.Fatal(err)
			}
			if c.loses { // it may be damaged as well
				if fi, err := os.Stat(filepath.Join(image, "a.db-wal")); cut > commits[10] && (err != nil || fi.Size() == 0) {
					lost++
				}
				continue
			}
			acknowledged := 0
			for _, n := range commits[1:] {
				if n <= cut {
					acknowledged++
				}
			}
			if n := rows(t, filepath.Join(image, "a.db")); n < acknowledged {
				t.Errorf("cut at %d of %d: %d rows, %d were acknowledged", cut, len(ops), n, acknowledged)
			}
		}
		if len(ops) < 200 || c.loses && lost == 0 {
			t.Errorf("%s: %d operations, %d images have lost something", c.sync, len(ops), lost)
		}
	}
}

// What is refused is an error for SQLite, and not done.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE t (x)"); err != nil {
		t.Fatal(err)
	}
	stop := Watch(dir, func(op Op) Answer {
		if op.Kind == Write {
			return Full
		}
		return OK
	})
	if _, err := db.Exec("INSERT INTO t VALUES (1)"); err == nil {
		t.Error("a full disk took a row")
	}
	stop()
	if _, err := db.Exec("INSERT INTO t VALUES (1)"); err != nil {
		t.Error(err)
	}
	if n := rows(t, path); n != 1 {
		t.Errorf("%d rows", n)
	}
}
