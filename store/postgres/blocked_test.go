package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/postgres"
)

// beginApp begins a transaction of an app, which is rolled back after the test unless it ends before.
func beginApp(t *testing.T, url string) pgx.Tx {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// An app's transaction that stays open with an idempotency key holds up those who enqueue with that key, and
// nobody else; a call that gives up is told why. Once it commits, they find its run.
func TestOpenTransactionBlocksItsKeyOnly(t *testing.T) {
	url, schema := newSchema(t)
	c := newClient(t, url, schema)
	echo := stint.NewTask(c, "echo", func(_ context.Context, in string) (string, error) { return in, nil })
	work(t, c)
	ctx := within(t)
	tx := beginApp(t, url)
	key := stint.WithIdempotencyKey("k", time.Hour)
	first, err := echo.Enqueue(ctx, "first", stint.WithTx(postgres.Tx(tx)), key)
	if err != nil {
		t.Fatal(err)
	}
	var blocked, others sync.WaitGroup
	for range 5 {
		blocked.Go(func() {
			r, err := echo.Enqueue(ctx, "second", key)
			if err != nil || r.ID() != first.ID() || !r.Existing() {
				t.Errorf("enqueued with the key: %v, %v; want the run of the transaction", r, err)
			}
		})
	}
	for i := range 50 { // they go into groups with those
		others.Go(func() {
			for j := range 4 {
				want := fmt.Sprint(i, j)
				if got, err := echo.Run(ctx, want); got != want || err != nil {
					t.Errorf("run: %q, %v", got, err)
				}
			}
		})
	}
	others.Wait()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := echo.Enqueue(short, "third", key); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "lock") {
		t.Errorf("a call that gives up: %v; want DeadlineExceeded, and that it waited for a lock", err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	blocked.Wait()
	if got, err := first.Wait(ctx); got != "first" || err != nil {
		t.Errorf("the transaction's run: %q, %v", got, err)
	}
}

// A store that closes does not wait for an app's transaction: what needs its lock was not done.
func TestCloseWithBlockedCall(t *testing.T) {
	url, schema := newSchema(t)
	s, err := postgres.Open(t.Context(), url, postgres.Options{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t)
	tx := beginApp(t, url)
	run := []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1"), Key: "k", KeyTTL: time.Hour}}
	if _, err := s.EnqueueTx(ctx, s.Now(), postgres.Tx(tx), run); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := s.Enqueue(ctx, s.Now(), run)
		failed <- err
	}()
	waitUntil(t, url, "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%"+schema+"%')")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, store.ErrClosed) {
		t.Errorf("the blocked call: %v; want ErrClosed", err)
	}
}

// waitUntil waits until a query returns true.
func waitUntil(t *testing.T, url, query string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for ctx := within(t); ; {
		var ok bool
		if err := conn.QueryRow(ctx, query).Scan(&ok); err != nil {
			t.Fatal(err)
		}
		if ok {
			return
		}
	}
}

// Facts tells of an app's transaction that is idle and has locks, and of no others.
func TestFactsTellOfIdleTransactions(t *testing.T) {
	url, schema := newSchema(t)
	s, err := postgres.Open(t.Context(), url, postgres.Options{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := within(t)
	tx, idle := beginApp(t, url), beginApp(t, url)
	if _, err := s.EnqueueTx(ctx, s.Now(), postgres.Tx(tx), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Exec(ctx, "SELECT 1"); err != nil { // it has no locks here
		t.Fatal(err)
	}
	var f store.Facts
	for len(f.Warnings) == 0 {
		if f, err = s.Facts(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if want := fmt.Sprintf("pid %d", tx.Conn().PgConn().PID()); len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], want) {
		t.Errorf("warnings %q, want one of %s", f.Warnings, want)
	}
}
