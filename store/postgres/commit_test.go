package postgres

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// commitGroup commits a group that inserts a queue, as the writer does: all in one round trip.
func commitGroup(ctx context.Context, s *settings, c *pgx.Conn, n int64, queue string) error {
	b := &pgx.Batch{}
	b.Queue(qualify(groupSQL, s.Schema), "p", n)
	b.Queue(qualify("INSERT INTO stint.queues (name) VALUES ($1)", s.Schema), queue)
	return c.SendBatch(ctx, b).Close()
}

func hasQueue(t *testing.T, s *settings, queue string) (has bool) {
	t.Helper()
	err := dial(t, s).QueryRow(t.Context(), qualify("SELECT EXISTS (SELECT 1 FROM stint.queues WHERE name = $1)", s.Schema), queue).Scan(&has)
	if err != nil {
		t.Fatal(err)
	}
	return has
}

// A connection is cut before the commit is sent, and after it; what the store finds out is what the
// server did.
func TestWasCommitted(t *testing.T) {
	marker := []byte("queue-name")
	for _, c := range []struct {
		name      string
		cut       func(p *proxy)
		committed bool
	}{
		{"never sent", func(p *proxy) {
			p.set(func(b []byte) bool { return !bytes.Contains(b, marker) }, nil)
		}, false},
		{"answer lost", func(p *proxy) {
			var commits atomic.Bool
			p.set(func(b []byte) bool {
				if bytes.Contains(b, marker) {
					commits.Store(true)
				}
				return true
			}, func([]byte) bool { return !commits.Load() })
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTables(t)
			p, through := newProxy(t, s)
			conn := dial(t, through)
			if err := commitGroup(t.Context(), through, conn, 1, "before"); err != nil { // also prepares the statements
				t.Fatal(err)
			}
			c.cut(p)
			err := commitGroup(t.Context(), through, conn, 2, string(marker))
			if err == nil || !broken(conn, err) {
				t.Fatalf("the commit was cut: %v; want a broken connection", err)
			}
			p.set(nil, nil)
			got, err := s.wasCommitted(t.Context(), "p", 2)
			if got != c.committed || err != nil {
				t.Errorf("wasCommitted: %t, %v; want %t", got, err, c.committed)
			}
			if has := hasQueue(t, s, string(marker)); has != got {
				t.Errorf("its change is there: %t, but wasCommitted: %t", has, got)
			}
		})
	}
}

// A transaction that goes on after its client was cut off is waited for, or ended; then its late commit
// is refused.
func TestLateCommitIsRefused(t *testing.T) {
	s := newTables(t)
	conn := dial(t, s)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), qualify(groupSQL, s.Schema), "p", 7); err != nil {
		t.Fatal(err)
	}
	got, err := s.wasCommitted(t.Context(), "p", 7) // the transaction is idle, and holds the row
	if got || err != nil {
		t.Errorf("wasCommitted: %t, %v; want false", got, err)
	}
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("the late commit went through")
	}
	if err := commitGroup(t.Context(), s, dial(t, s), 7, "late"); code(err) != codeUniqueViolation {
		t.Errorf("the same group once more: %v; want a duplicate", err)
	}
	if hasQueue(t, s, "late") {
		t.Error("the refused group changed something")
	}
}

// A server that is away is waited for, and the wait ends with the context.
func TestWasCommittedWaits(t *testing.T) {
	s := newTables(t)
	p, through := newProxy(t, s)
	refuse := func([]byte) bool { return false }
	p.set(refuse, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := through.wasCommitted(ctx, "p", 1); err == nil {
		t.Error("no error from a server that is away")
	}
	var wg sync.WaitGroup
	var got bool
	var err error
	wg.Go(func() { got, err = through.wasCommitted(t.Context(), "p", 1) })
	p.set(nil, nil) // it is back
	wg.Wait()
	if got || err != nil {
		t.Errorf("wasCommitted: %t, %v; want false", got, err)
	}
}

// A process may commit more groups than fit 32 bits: a thousand a second are as many in a month.
func TestManyGroups(t *testing.T) {
	s := openStore(t, noTables(t))
	ctx := withinMinutes(t)
	ends := begun(t, ctx, s, 1)
	const many = 1 << 40
	if err := s.do(ctx, func(*unit) error { s.w.n = many; return nil }); err != nil {
		t.Fatal(err)
	}
	finish(t, ctx, s, ends)
	err := s.doBy(ctx, s.finisher.push, func(*unit) error { s.finisher.n = many; return nil })
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		finish(t, ctx, s, begun(t, ctx, s, 2))
	}
	if n := groupsOfEnds(s); n < many {
		t.Errorf("the last ends were group %d, want one above %d", n, many)
	}
}
