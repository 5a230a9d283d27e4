package stint_test

import (
	"context"
	"database/sql"
	"flag"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stint-dev/stint"
	_ "modernc.org/sqlite"
	"pgregory.net/rapid"
)

// opened opens a client on a new file, which is checked when the test ends: no
// corruption, and nothing left running.
func opened(t testing.TB, opts ...stint.ClientOption) *stint.Client {
	t.Helper()
	return openedAt(t, filepath.Join(t.TempDir(), "test.db"), opts...)
}

func openedAt(t testing.TB, path string, opts ...stint.ClientOption) *stint.Client {
	t.Helper()
	c, err := stint.Open(path, append([]stint.ClientOption{stint.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if path != ":memory:" {
			checkFile(t, path)
		}
	})
	return c
}

// checkFile fails the test if the file is damaged.
func checkFile(t testing.TB, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity_check: %q, %v", verdict, err)
	}
}

// working starts a worker, which is stopped and waited for when the test ends, or
// when the returned function is called.
func working(t testing.TB, c *stint.Client, opts ...stint.WorkerOption) (stop func()) {
	t.Helper()
	w, err := c.NewWorker(opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Errorf("Worker.Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// checkRandom checks a property of so many random programs, of a quarter in short runs, or of as
// many as -rapid.checks says.
func checkRandom(t *testing.T, programs int, property func(*rapid.T)) {
	t.Helper()
	if testing.Short() {
		programs /= 4
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set(strconv.Itoa(programs))
		defer f.Value.Set(f.DefValue)
	}
	rapid.Check(struct{ testing.TB }{t}, property) // a bubble's t has no subtests
}
