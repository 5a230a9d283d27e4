package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/store"
)

// A transaction of the app's whose connection is cut while it commits says what became of it.
func TestAppCommitIsKnown(t *testing.T) {
	set := newTables(t)
	p, through := newProxy(t, set)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := open(ctx, through)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	insert := func(queue string) error {
		t.Helper()
		tx, err := s.BeginTx(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, qualify("INSERT INTO stint.queues (name) VALUES ($1)", set.Schema), queue); err != nil {
			t.Fatal(err)
		}
		return tx.Commit()
	}
	if err := insert("before"); err != nil { // also prepares the statements
		t.Fatal(err)
	}
	commit := []byte(s.app.process)
	var cut atomic.Bool
	p.set(func(b []byte) bool { return !bytes.Contains(b, commit) || cut.Swap(true) }, nil)
	if err := insert("never sent"); !errors.Is(err, store.ErrUnavailable) || !s.Unavailable(err) {
		t.Errorf("a commit that was never sent: %v; want ErrUnavailable", err)
	}
	if hasQueue(t, set, "never sent") {
		t.Error("the commit failed, and is there")
	}
	p.set(nil, nil)
	if err := insert("between"); err != nil {
		t.Fatal(err)
	}
	var sent, lost atomic.Bool
	p.set(func(b []byte) bool {
		if bytes.Contains(b, commit) {
			sent.Store(true)
		}
		return true
	}, func([]byte) bool { return !sent.Load() || lost.Swap(true) })
	if err := insert("answer lost"); err != nil {
		t.Errorf("a commit whose answer was lost: %v", err)
	}
	if !hasQueue(t, set, "answer lost") {
		t.Error("the commit was said to have gone through, and is not there")
	}
}

// Rows of the app's own that are there already do not mean that its transaction may be repeated.
func TestUnavailable(t *testing.T) {
	s := &Store{}
	for code, want := range map[string]bool{codeUniqueViolation: false, codeDeadlock: true, "53100": true, "57P01": true, codeReadOnly: true,
		codeNoPrivilege: false} {
		if got := s.Unavailable(&pgconn.PgError{Code: code}); got != want {
			t.Errorf("Unavailable of %s: %t, want %t", code, got, want)
		}
	}
}

// The transactions of a process that is taken for dead are ended, also one that executes a statement, and no others.
func TestTransactionsOfTheDeadAreEnded(t *testing.T) {
	set := newTables(t)
	ctx := withinMinutes(t)
	var stores [2]*Store
	var idle [2]*sql.Tx
	for i := range stores {
		s, err := Open(ctx, serverURL(t), set.Options)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if idle[i], err = s.BeginTx(ctx); err != nil {
			t.Fatal(err)
		}
		defer idle[i].Rollback()
		stores[i] = s
	}
	busy, err := stores[0].BeginTx(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Rollback()
	ended := make(chan error, 1)
	go func() {
		_, err := busy.ExecContext(ctx, "SELECT pg_sleep(600)")
		ended <- err
	}()
	dead := stores[0].direct.process.name
	c := dial(t, set)
	for is := false; !is; pause.For(ctx, time.Millisecond) {
		err := c.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name = $1 AND state = 'active')",
			appName(dead)).Scan(&is)
		if err != nil {
			t.Fatal(err)
		}
	}
	stores[1].endAppTx(ctx, dead)
	if err := receive(t, ended); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the statement of the dead: %v; want ErrUnavailable", err)
	}
	if _, err := idle[0].ExecContext(ctx, "SELECT 1"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the idle transaction of the dead: %v; want ErrUnavailable", err)
	}
	if _, err := idle[1].ExecContext(ctx, "SELECT 1"); err != nil {
		t.Errorf("the transaction of the living: %v", err)
	}
}
