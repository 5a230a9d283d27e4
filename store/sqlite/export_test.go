package sqlite

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stint-dev/stint/store"
)

// Crash makes s as if its process had been killed: nothing is given back, its locks
// are gone, and it answers nothing more.
func (s *Store) Crash() {
	s.sampler.Close()
	s.w.mu.Lock()
	s.w.closed = true
	for _, c := range s.w.claims.waiting {
		c.answer(nil, store.ErrClosed)
	}
	s.w.claims.waiting = nil
	s.w.crashed = true
	s.w.mu.Unlock()
	s.w.signal()
	<-s.w.done
	if s.presence.file != nil {
		s.presence.file.Close() // and leaves the name, as a kill does
		s.presence.file = nil
	}
	s.closeFiles()
}

// LimitPages lets the file grow to n pages, or to what it has.
func (s *Store) LimitPages(t testing.TB, n int) {
	t.Helper()
	err := s.do(context.Background(), func(u *unit) error { return u.exec(fmt.Sprintf("PRAGMA max_page_count = %d", n)) })
	if err != nil {
		t.Fatal(err)
	}
}

// Changes is how many rows the writer has changed.
func (s *Store) Changes(t testing.TB) (n int64) {
	t.Helper()
	if err := s.do(context.Background(), func(u *unit) error { return u.one("SELECT total_changes()", nil, &n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// texts returns the statements that the readers have prepared.
func (rs *readers) texts() (all []string) {
	for range readConns {
		c := <-rs.free
		if c != nil {
			all = slices.AppendSeq(all, maps.Keys(c.stmts))
		}
		rs.free <- c
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// forget makes the readers prepare all statements again.
func (rs *readers) forget() {
	for range readConns {
		c := <-rs.free
		if c != nil {
			for _, st := range c.stmts {
				st.Close()
			}
			clear(c.stmts)
		}
		rs.free <- c
	}
}
