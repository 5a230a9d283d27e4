package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
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

// A process that was taken for dead, because somebody removed its lock file, is seen to
// live again: what it claims from then on comes back when it does die.
func TestBuriedAlive(t *testing.T) {
	for name, soon := range map[string]bool{"dies before it has noticed": true, "dies later": false} {
		t.Run(name, func(t *testing.T) { buriedAlive(t, soon) })
	}
}

func buriedAlive(t *testing.T, soon bool) {
	path := filepath.Join(t.TempDir(), "a.db")
	open := func() *Store {
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := open(), open()
	defer b.Close()
	w, err := a.Register(t.Context(), time.Now(), store.WorkerInfo{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	watching.Go(func() { a.Watch(ctx, w) })
	run := []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}
	if _, err := a.Enqueue(t.Context(), time.Now(), run); err != nil {
		t.Fatal(err)
	}
	claim := func() {
		t.Helper()
		got, err := a.Claim(t.Context(), store.ClaimRequest{Worker: w, Free: func() int { return 1 }, Tasks: func(string) bool { return true }})
		if err != nil || len(got) != 1 {
			t.Fatalf("claimed %v, %v", got, err)
		}
	}
	recovered := func() {
		t.Helper()
		if r, err := b.Recover(t.Context()); err != nil || r.Requeued != 1 {
			t.Fatalf("recovered %+v, %v: want 1 run", r, err)
		}
	}
	claim()
	if err := os.Remove(a.me.path); err != nil {
		t.Fatal(err)
	}
	recovered()
	for lives := soon; !lives; {
		all, err := b.Living(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lives = len(all) == 1
	}
	claim()
	a.Crash()
	recovered()
}
