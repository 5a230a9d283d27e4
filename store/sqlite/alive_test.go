package sqlite

import (
	"path/filepath"
	"sync"
	"testing"
)

// A presence is locked from the moment at which others see it: one who looks all the
// time never takes the owner for dead.
func TestPresenceIsBornLocked(t *testing.T) {
	db := filepath.Join(t.TempDir(), "a.db")
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				names, _ := filepath.Glob(db + "-stint-*")
				for _, n := range names {
					if d, err := dead(db, n); d && err == nil {
						bury(db, n)
					}
				}
			}
		})
	}
	for range 2000 {
		p, err := newPresence(db)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.close(); err != nil {
			t.Fatalf("the owner was taken for dead: %v", err)
		}
	}
	close(done)
	wg.Wait()
}
