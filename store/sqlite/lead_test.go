package sqlite_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// Callers commit in their own goroutines until the store is closed, and none after that: what was acknowledged is there.
func TestCallersCommitUntilClose(t *testing.T) {
	for range 25 {
		path := t.TempDir() + "/t.db"
		s, err := sqlite.Open(path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		acknowledged := 0
		begun := make(chan struct{}, 1)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					_, err := s.Enqueue(context.Background(), time.Now(), []store.NewRun{{Task: "t", Queue: "q"}})
					if err != nil {
						if !errors.Is(err, store.ErrClosed) {
							t.Error(err)
						}
						return
					}
					mu.Lock()
					acknowledged++
					mu.Unlock()
					select {
					case begun <- struct{}{}:
					default:
					}
				}
			})
		}
		<-begun
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if s, err = sqlite.Open(path, sqlite.Options{}); err != nil {
			t.Fatal(err)
		}
		all, _, err := s.List(t.Context(), store.Filter{}, store.ID{}, 1<<20)
		if err != nil || len(all) != acknowledged {
			t.Errorf("%d runs, %v; want the %d that were acknowledged", len(all), err, acknowledged)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
