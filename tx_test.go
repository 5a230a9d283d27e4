package stint_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/sqlite"
)

// app opens a database as an app does, with a table of its own, where a client has opened it.
func app(t *testing.T, path string) *sql.DB {
	t.Helper()
	if serverURL == "" {
		return appFile(t, path)
	}
	at := must[*url.URL](t)(url.Parse(serverURL))
	q := at.Query()
	q.Set("search_path", schemaOf(path))
	at.RawQuery = q.Encode()
	return withOrders(t, "pgx", at.String(), "GENERATED ALWAYS AS IDENTITY")
}

// appFile opens a file as an app does, for statements that only SQLite takes.
func appFile(t *testing.T, path string) *sql.DB {
	t.Helper()
	ofFile(t)
	return withOrders(t, "sqlite", "file:"+path+"?_pragma=busy_timeout(300000)&_txlock=immediate", "")
}

func withOrders(t *testing.T, driver, name, numbered string) *sql.DB {
	t.Helper()
	db := must[*sql.DB](t)(sql.Open(driver, name))
	t.Cleanup(func() { db.Close() })
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS orders (id INTEGER " + numbered + " PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	return db
}

// A run enqueued in the app's transaction exists if and only if that commits, and
// starts promptly after, with no call of the app's.
func TestWithTx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "app.db")
		c := openedAt(t, path)
		db := app(t, path)
		started := make(chan int, 10)
		task := stint.NewTask(c, "t", func(_ context.Context, n int) (int, error) { started <- n; return n, nil })
		working(t, c)

		tx := beginTx(t, db)
		run := enqueue(t, task, 1, stint.WithTx(tx))
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if _, err := run.Info(t.Context()); err == nil {
			t.Error("the run is there after the rollback")
		}

		for i, opts := range [][]stint.RunOption{
			nil,
			{stint.WithMetadata(map[string]string{"k": "v"}), stint.WithQueue("new"), stint.WithPriority(5)},
			{stint.WithIdempotencyKey("k", time.Hour)},
		} {
			tx = beginTx(t, db)
			if _, err := tx.Exec("INSERT INTO orders DEFAULT VALUES"); err != nil {
				t.Fatal(err)
			}
			run = enqueue(t, task, 10+i, append(opts, stint.WithTx(tx))...)
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			committed := time.Now()
			if n := <-started; n != 10+i {
				t.Errorf("run %d started", n)
			}
			if d := time.Since(committed); d > 10*time.Millisecond {
				t.Errorf("started %v after the commit", d)
			}
			output(t, run)
		}
		tx = beginTx(t, db)
		defer tx.Rollback()
		many := enqueueMany(t, task, []int{1, 2}, stint.WithTx(tx), stint.WithIdempotencyKey("k", time.Hour))
		if !many[0].Existing() || many[0].ID() != run.ID() {
			t.Error("the key of an earlier run is not known inside the transaction")
		}
	})
}

// A file's first runs with limits come in the app's transaction, one at once and one later.
func TestWithTxLimits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	c := openedAt(t, path)
	db := app(t, path)
	var busy atomic.Int32
	task := stint.NewTask(c, "t", func(ctx context.Context, n int) (int, error) {
		if busy.Add(1) > 1 {
			t.Error("two at once")
		}
		defer busy.Add(-1)
		if info, _ := stint.Info(ctx); n == 2 && info.Attempt == 1 {
			return 0, errors.New("not yet")
		}
		return n, nil
	}, stint.WithConcurrency(stint.Concurrency[int]{Max: 1}), stint.WithRetries(1), stint.WithRetryBackoff(1, time.Millisecond))
	working(t, c)
	if _, err := stint.NewTask(c, "before", double).Run(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	tx := beginTx(t, db)
	runs := enqueueMany(t, task, []int{1, 2, 3}, stint.WithTx(tx))
	runs = append(runs, enqueue(t, task, 4, stint.WithTx(tx), stint.WithDelay(10*time.Millisecond)))
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for i, r := range runs {
		if got, err := r.Wait(ctx); err != nil || got != i+1 {
			t.Errorf("run %d: %d, %v", i+1, got, err)
		}
	}
}

func TestWithTxOfAnotherFile(t *testing.T) {
	ofFile(t)
	db := appFile(t, filepath.Join(t.TempDir(), "other.db"))
	tx := beginTx(t, db)
	defer tx.Rollback()
	for _, c := range []*stint.Client{opened(t), openedAt(t, ":memory:")} {
		if _, err := stint.NewTask(c, "t", double).Enqueue(t.Context(), 1, stint.WithTx(tx)); err == nil {
			t.Error("enqueued in a transaction on another file")
		}
	}
}

// The app's own *sql.DB names the file; the store makes its own connections to it.
func TestNewOnTheAppsDatabase(t *testing.T) {
	ofFile(t)
	path := filepath.Join(t.TempDir(), "app.db")
	db := appFile(t, path)
	db.SetMaxOpenConns(1)
	s, err := sqlite.New(db, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := stint.New(s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	task := stint.NewTask(c, "t", double)
	working(t, c)
	tx := beginTx(t, db)
	run := enqueue(t, task, 4, stint.WithTx(tx))
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, err := run.Wait(t.Context()); err != nil || got != 8 {
		t.Errorf("Wait = %d, %v", got, err)
	}
	mem := must[*sql.DB](t)(sql.Open("sqlite", ":memory:"))
	defer mem.Close()
	if _, err := sqlite.New(mem, sqlite.Options{}); err == nil {
		t.Error("New took a database in memory, which it cannot share")
	}
}

// The app's own long write transaction delays calls, which honour their contexts, while it lasts; it
// does not fail them, and nothing is lost.
func TestBusyNeighbour(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	c := openedAt(t, path)
	db := appFile(t, path)
	task := stint.NewTask(c, "t", double)
	tx := beginTx(t, db)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := task.Enqueue(ctx, 1); err != context.DeadlineExceeded && !isDeadline(err) {
		t.Errorf("Enqueue: %v, want the context's error", err)
	}
	done := make(chan error, 1)
	go func() { _, err := task.Enqueue(t.Context(), 2); done <- err }()
	if _, err := c.ListRuns(t.Context(), stint.RunFilter{}); err != nil {
		t.Errorf("a reader is blocked: %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("Enqueue after the app's commit: %v", err)
	}
	page := listRuns(t, c, stint.RunFilter{})
	if len(page.Runs) != 1 || string(page.Runs[0].Input) != "2" {
		t.Errorf("%d runs: the one whose call gave up is there too", len(page.Runs))
	}
}
