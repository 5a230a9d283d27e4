package conn

import (
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

const frame = 4096 + 24

// openLogged opens a file with a write-ahead log, which has a table t.
func openLogged(t testing.TB, path string) *Conn {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	c := open(t, "file:"+path)
	run(t, c, "PRAGMA journal_mode = wal; PRAGMA synchronous = FULL")
	if err := c.AutoCheckpoint(1000); err != nil {
		t.Fatal(err)
	}
	run(t, c, "CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY) STRICT")
	return c
}

func extend(t testing.TB, c *Conn, to int64) {
	t.Helper()
	run(t, c, "BEGIN IMMEDIATE")
	if err := c.ExtendLog(to); err != nil {
		t.Fatal(err)
	}
	run(t, c, "ROLLBACK")
}

func logSize(t testing.TB, path string, c *Conn) int64 {
	t.Helper()
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.LogSize(); err != nil || got != info.Size() {
		t.Errorf("LogSize %d, %v; the file has %d", got, err, info.Size())
	}
	return info.Size()
}

// image copies a database and its log to a new directory, as a process that is killed leaves them.
func image(t testing.TB, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "image.db")
	for _, end := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + end)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+end, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// sum checks a file, and returns the sum of its numbers and how many there are.
func sum(t testing.TB, path string) (total, count int) {
	t.Helper()
	c := open(t, "file:"+path)
	var ok string
	err := errors.Join(one(c, "PRAGMA integrity_check", nil, &ok),
		one(c, "SELECT CAST(total(n) AS INTEGER), count(*) FROM t", nil, &total, &count))
	if err != nil || ok != "ok" {
		t.Fatal(ok, err)
	}
	return total, count
}

// Zeros after the last frame are not frames: commits overwrite them, and whoever recovers the log ends there. That is so at any
// place in the log, also where a frame is cut, and after the log has begun anew.
func TestExtendLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	c := openLogged(t, path)
	n := 0
	for round := range 3 {
		for _, more := range []int64{1, 23, 24, 25, frame, frame + 1, 200_000} {
			size := logSize(t, path, c)
			extend(t, c, size+more)
			if got := logSize(t, path, c); got != size+more {
				t.Fatalf("%d bytes, want %d", got, size+more)
			}
			for range 3 {
				if total, count := sum(t, image(t, path)); total != n*(n+1)/2 || count != n {
					t.Fatalf("round %d, %d more: the image has %d numbers, want %d", round, more, count, n)
				}
				n++
				run(t, c, "INSERT INTO t VALUES (NULL)")
			}
		}
		frames := c.Frames()
		run(t, c, []string{"PRAGMA wal_checkpoint(RESTART)", "PRAGMA wal_checkpoint(TRUNCATE)", "SELECT 1"}[round])
		n++
		run(t, c, "INSERT INTO t VALUES (NULL)")
		if round < 2 && c.Frames() >= frames {
			t.Errorf("%d frames, and %d after the log began anew", frames, c.Frames())
		}
	}
	if before := logSize(t, path, c); true {
		extend(t, c, before-1)
		if got := logSize(t, path, c); got != before {
			t.Errorf("a smaller size changed %d bytes to %d", before, got)
		}
	}
}

// A commit after the file was extended leaves its size as it is; without, each makes it larger.
func TestExtendedLogIsOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	c := openLogged(t, path)
	before := logSize(t, path, c)
	run(t, c, "INSERT INTO t VALUES (NULL)")
	if got := logSize(t, path, c); got <= before {
		t.Fatalf("%d bytes, and %d before the commit", got, before)
	}
	extend(t, c, 1<<20)
	for range 100 {
		run(t, c, "INSERT INTO t VALUES (NULL)")
	}
	if got := logSize(t, path, c); got != 1<<20 || c.Frames() < 100 {
		t.Errorf("%d bytes and %d frames", got, c.Frames())
	}
}

// Connections of database/sql write while another extends the log and checkpoints truncate it: nothing is lost.
func TestExtendLogAmongWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	c := openLogged(t, path)
	run(t, c, "PRAGMA busy_timeout = 30000")
	uri := url.URL{Scheme: "file", Opaque: path, RawQuery: "_pragma=busy_timeout(30000)&_pragma=synchronous(1)"}
	db, err := sql.Open("sqlite", uri.String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var wg sync.WaitGroup
	const each = 200
	for g := range 3 {
		wg.Go(func() {
			for i := range each {
				_, err := db.Exec("INSERT INTO t VALUES (NULL)")
				if g == 0 && i%10 == 0 {
					_, e := db.Exec("PRAGMA wal_checkpoint(" + []string{"TRUNCATE", "RESTART"}[i/10%2] + ")")
					err = errors.Join(err, e)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 2 * each {
		size, err := c.LogSize()
		if err != nil {
			t.Error(err)
		}
		extend(t, c, size+int64(i%7)*10_000)
		if i%2 == 0 {
			run(t, c, "INSERT INTO t VALUES (NULL)")
		}
	}
	wg.Wait()
	if total, count := sum(t, image(t, path)); count != 4*each || total != count*(count+1)/2 {
		t.Errorf("%d numbers with the sum %d, want %d", count, total, 4*each)
	}
}

// A commit that leaves many frames writes the log back, and the next begins it anew.
func TestAutoCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	c := openLogged(t, path)
	if err := c.AutoCheckpoint(20); err != nil {
		t.Fatal(err)
	}
	most := 0
	for range 100 {
		run(t, c, "INSERT INTO t VALUES (NULL)")
		most = max(most, c.Frames())
	}
	if most < 20 || most > 25 {
		t.Errorf("up to %d frames, want 20", most)
	}
}

// The log is synced by fdatasync on Linux, and by no connection that was not asked to.
func TestSyncData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	c := openLogged(t, path)
	for range 2 {
		if got := c.SyncData(); got != (runtime.GOOS == "linux") {
			t.Errorf("SyncData %v on %s", got, runtime.GOOS)
		}
	}
	run(t, c, "INSERT INTO t VALUES (NULL)")
	other := open(t, "file:"+path)
	run(t, other, "INSERT INTO t VALUES (NULL)")
	run(t, c, "PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES (NULL)")
	if _, count := sum(t, image(t, path)); count != 3 {
		t.Errorf("%d numbers, want 3", count)
	}
	if open(t, memory).SyncData() {
		t.Error("a database in memory has no log")
	}
}
