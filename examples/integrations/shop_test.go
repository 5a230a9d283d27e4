package integrations

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/sqlite"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1")) // of its prepared statements
}

// An Order is a row of the app's.
type Order struct {
	ID   int64  `bun:",pk,autoincrement"`
	Item string `bun:",notnull"`
}

// A shop has its orders and its tasks in one file.
type shop struct {
	db      *sql.DB
	client  *stint.Client
	confirm *stint.Task[int64, string]
}

const makeOrders = "CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT NOT NULL)"

func newShop(t *testing.T, opts ...stint.ClientOption) *shop {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.Exec(makeOrders); err != nil {
		t.Fatal(err)
	}
	st, err := sqlite.New(db, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := stint.New(st, append([]stint.ClientOption{stint.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &shop{db: db, client: client}
	s.confirm = stint.NewTask(client, "confirm", func(ctx context.Context, id int64) (item string, err error) {
		stint.Logger(ctx).Info("confirming", "order", id)
		err = s.db.QueryRowContext(ctx, "SELECT item FROM orders WHERE id = ?", id).Scan(&item)
		return item, err
	})
	return s
}

// work runs a worker until the test ends.
func (s *shop) work(t *testing.T) {
	t.Helper()
	w, err := s.client.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

var errChanged = errors.New("the customer has changed their mind")

// A place places an order and enqueues its confirmation in one transaction of a library's, which it rolls back if fail is
// not nil.
type place func(ctx context.Context, item string, fail error) (*stint.Run[string], error)

// inOneTransaction checks that an order and its confirmation exist together or not at all.
func (s *shop) inOneTransaction(t *testing.T, f place) {
	t.Helper()
	s.work(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	run, err := f(ctx, "tea", nil)
	if err != nil {
		t.Fatal(err)
	}
	if item, err := run.Wait(ctx); err != nil || item != "tea" { // started by the commit
		t.Errorf("the task of a committed order returns %q, %v", item, err)
	}
	if _, err := f(ctx, "milk", errChanged); !errors.Is(err, errChanged) {
		t.Errorf("an order that is rolled back: %v", err)
	}
	page, err := s.client.ListRuns(ctx, stint.RunFilter{})
	if err != nil || len(page.Runs) != 1 {
		t.Errorf("%d runs, %v; want that of the committed order", len(page.Runs), err)
	}
	var n int
	if err := s.db.QueryRow("SELECT count(*) FROM orders").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d orders, %v; want the committed one", n, err)
	}
}
