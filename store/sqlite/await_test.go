package sqlite

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint/store"
)

// A call that waits for an entry is told it by the commit that completes the entry: no connection reads it.
func TestAwaitedEntryIsNotReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, ok := t.Context(), failing(t)
		s, err := Open(filepath.Join(t.TempDir(), "a.db"), Options{})
		ok(err)
		defer s.Close()
		worker, err := s.Register(ctx, store.WorkerInfo{Name: "w"})
		ok(err)
		_, err = s.Enqueue(ctx, time.Now(), []store.NewRun{{Task: "t", Queue: "q"}})
		ok(err)
		runs, err := s.Claim(ctx, store.ClaimRequest{Worker: worker, Free: func() int { return 1 }, Tasks: func(string) bool { return true }})
		ok(err)
		wait := store.Entry{Address: store.Address{Seq: 1}, Kind: store.EntryEvent, Name: "e", Match: store.Match{Key: "e"}}
		_, _, err = s.Append(ctx, time.Now(), store.Call{ID: runs[0].ID, Lease: runs[0].Lease, Entry: wait})
		ok(err)

		told := make(chan store.Result, 2)
		for _, u := range []store.Until{{Entry: wait.Address}, {Chunk: 1}} {
			go func() {
				r, err := s.Await(ctx, runs[0].ID, u)
				if err != nil {
					t.Error(err)
				}
				told <- r
			}()
		}
		synctest.Wait() // both have read, and wait
		release := sync.OnceFunc(takeReaders(t, s))
		defer release()
		_, err = s.Publish(ctx, time.Now(), []store.NewEvent{{Key: "e", Payload: []byte("7")}})
		ok(err)
		_, err = s.Record(ctx, []store.Record{{ID: runs[0].ID, Lease: runs[0].Lease, Chunks: []store.Chunk{{Data: []byte("1")}}}})
		ok(err)
		synctest.Wait()
		if len(told) != 1 {
			t.Fatalf("%d calls have returned, want that for the entry, while the one for a chunk needs to read", len(told))
		}
		if r := <-told; r.State != store.Running || r.Entry == nil || !r.Entry.Done || string(r.Entry.Value) != "7" {
			t.Errorf("told %+v, want the entry", r)
		}
		release()
		<-told
	})
}

// takeReaders takes all connections for reading, until release is called.
func takeReaders(t *testing.T, s *Store) (release func()) {
	t.Helper()
	held := make(chan struct{})
	for range readConns {
		go func() {
			if err := s.view(context.Background(), func(querier) error { <-held; return nil }); err != nil {
				t.Error(err)
			}
		}()
	}
	synctest.Wait()
	return func() { close(held) }
}
