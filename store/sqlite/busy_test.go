package sqlite

import (
	"database/sql"
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// A failed group's changes are tried one by one. If another program takes the write lock in between, those that are
// left wait for it as any change does.
func TestLockedBetweenChangesOfAFailedGroup(t *testing.T) {
	g := newFailedGroup(t, time.Minute)
	for !g.abandoned.state.CompareAndSwap(opQueued, opAbandoned) { // as when its context ends while it waits
		select {
		case <-g.abandoned.done:
			t.Fatalf("a change did not wait: %v", g.abandoned.err)
		default:
			runtime.Gosched()
		}
	}
	if err := g.lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if <-g.refused.done; !errors.Is(g.refused.err, errRefused) {
		t.Errorf("the change that failed: %v", g.refused.err)
	}
	if <-g.last.done; g.last.err != nil {
		t.Errorf("the change after it: %v", g.last.err)
	}
	before := g.applied
	if err := g.s.do(t.Context(), func(*unit) error { return nil }); err != nil {
		t.Error(err)
	}
	if g.applied != before {
		t.Error("a change that was abandoned while it waited was made")
	}
}

// They fail with ErrBusy once BusyTimeout has passed.
func TestLockedForLongBetweenChangesOfAFailedGroup(t *testing.T) {
	g := newFailedGroup(t, 100*time.Millisecond)
	defer g.lock.Rollback()
	for _, o := range []*op{g.refused, g.last, g.abandoned} {
		if <-o.done; !errors.Is(o.err, store.ErrBusy) {
			t.Errorf("%v, want ErrBusy", o.err)
		}
	}
}

var errRefused = errors.New("refused")

// A failedGroup has made its first change when newFailedGroup returns, and another program has taken the write lock.
type failedGroup struct {
	s                        *Store
	lock                     *sql.Tx
	refused, last, abandoned *op
	applied                  int // times that the change abandoned was applied
}

func newFailedGroup(t *testing.T, timeout time.Duration) *failedGroup {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.db")
	s, err := Open(path, Options{BusyTimeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), other.Close()); err != nil {
			t.Error(err)
		}
	})
	g := &failedGroup{s: s}
	change := func(apply func() error, after func()) *op {
		return &op{apply: func(*unit) error { return apply() }, after: after, done: make(chan struct{})}
	}
	fine := func() error { return nil }
	first := change(fine, func() {
		if g.lock, err = other.Begin(); err != nil {
			t.Error(err)
		}
	})
	g.refused = change(func() error { return errRefused }, nil)
	g.last = change(fine, nil)
	g.abandoned = change(func() error { g.applied++; return nil }, nil)
	s.w.mu.Lock()
	s.w.ops = append(s.w.ops, first, g.refused, g.last, g.abandoned)
	s.w.signal()
	s.w.mu.Unlock()
	if <-first.done; err != nil || first.err != nil {
		t.Fatal(err, first.err)
	}
	return g
}
