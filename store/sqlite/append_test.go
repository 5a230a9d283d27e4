package sqlite

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// R2: of entries that are recorded together, none is of an execution that is not current, and none replaces one that is done. All others
// are recorded, each with its own value.
func TestR2RecordedTogether(t *testing.T) {
	const n, odd = 11, 7
	for _, tt := range []struct {
		name   string
		before func(c *store.Call) *store.Call // what is recorded before the odd call
		change func(c *store.Call)
		stale  bool
		value  string // of the odd call
	}{
		{name: "usual", value: "7"},
		{name: "late", change: func(c *store.Call) { c.Lease++ }, stale: true},
		{name: "unknown", change: func(c *store.Call) { c.ID[15]++ }, stale: true},
		{name: "done before", before: func(c *store.Call) *store.Call { c.Entry.Value = []byte("0"); return c }, value: "0"},
		{name: "pending", before: func(c *store.Call) *store.Call { c.Entry.Done, c.Entry.Value = false, nil; return c }, value: "7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, runs := executing(t, n)
			ok := failing(t)
			began := time.UnixMilli(time.Now().UnixMilli() - 1000)
			call := func(i int) store.Call {
				return store.Call{ID: runs[i].ID, Lease: runs[i].Lease, Entry: store.Entry{Address: store.Address{Seq: 1}, Kind: store.EntryStep,
					Name: "step", Done: true, Value: []byte{'0' + byte(i%10)}, Attempts: 1, Began: began}}
			}
			if tt.before != nil {
				c := call(odd)
				_, _, err := s.Append(t.Context(), time.Now(), *tt.before(&c))
				ok(err)
			}
			now := time.UnixMilli(time.Now().UnixMilli())
			got, stale := make([]store.Entry, n), make([]bool, n)
			inOneGroup(t, s, n, func(i int) (err error) {
				c := call(i)
				if i == odd && tt.change != nil {
					tt.change(&c)
				}
				got[i], stale[i], err = s.Append(t.Context(), now, c)
				return err
			})
			s.w.turn.Lock()
			if s.w.stmt[recordListSQL[0]] == nil {
				t.Error("none were recorded together")
			}
			s.w.endTurn(false)
			for i := range n {
				want := string('0' + rune(i%10))
				if i == odd {
					want = tt.value
				}
				if stale[i] != (i == odd && tt.stale) || !stale[i] && string(got[i].Value) != want {
					t.Errorf("call %d: stale is %t, value %q, want %q", i, stale[i], got[i].Value, want)
				}
				all, _, err := s.Entries(t.Context(), runs[i].ID, store.Address{}, 10, false)
				ok(err)
				if want == "" {
					if len(all) > 0 {
						t.Errorf("run %d: %+v, want no entries", i, all)
					}
				} else if len(all) != 1 || string(all[0].Value) != want || !all[0].Began.Equal(began) || !all[0].Done ||
					tt.before == nil && !all[0].At.Equal(now) {
					t.Errorf("run %d: %+v, want %q", i, all, want)
				}
			}
		})
	}
}

// inOneGroup has n calls of the store made in one group.
func inOneGroup(t *testing.T, s *Store, n int, call func(int) error) {
	t.Helper()
	w := s.w
	w.turn.Lock()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := call(i); err != nil {
				t.Error(err)
			}
		})
	}
	for queued := 0; queued < n; runtime.Gosched() {
		w.mu.Lock()
		queued = len(w.ops)
		w.mu.Unlock()
	}
	w.endTurn(true)
	wg.Wait()
}
