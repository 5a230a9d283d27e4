package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// A presence is locked from the moment at which others see it: one who looks all the
// time never takes the owner for dead.
func TestPresenceIsBornLocked(t *testing.T) {
	db := filepath.Join(t.TempDir(), "a.db")
	if err := create(db); err != nil {
		t.Fatal(err)
	}
	at := &location{path: db}
	if err := at.find(); err != nil {
		t.Fatal(err)
	}
	looker, err := newPresence(at, nil)
	if err != nil {
		t.Fatal(err)
	}
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
				looker.sweep()
				others, _ := looker.others()
				for _, n := range others {
					if d, err := looker.isDead(n); d && err == nil {
						looker.remove(n)
					}
				}
			}
		})
	}
	for range 2000 {
		p, err := newPresence(at, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(p.path(p.name)); err != nil {
			t.Fatalf("the owner was taken for dead: %v", err)
		}
		if err := p.close(); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
	if err := looker.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(looker.dir); !os.IsNotExist(err) {
		t.Errorf("the directory was left: %v", err)
	}
}

// A process that was taken for dead, because somebody removed its lock file, is seen to
// live again: what it claims from then on comes back when it does die.
func TestBuriedAlive(t *testing.T) {
	for name, soon := range map[string]bool{"dies before it has noticed": true, "dies later": false} {
		t.Run(name, func(t *testing.T) { presumedDead(t, soon) })
	}
}

// takenForDead removes a's presence, and reports whether b then recovers a run of a.
func takenForDead(t *testing.T, a, b *Store) bool {
	if err := os.Remove(a.presence.path(a.presence.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	r, err := b.Recover(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return r.Requeued == 1
}

func presumedDead(t *testing.T, soon bool) {
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
	w, err := a.Register(t.Context(), store.WorkerInfo{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	signals := make(chan store.Signals, 1)
	watching.Go(func() {
		sig, _ := a.Watch(ctx, w)
		signals <- sig
	})
	run := []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}
	if _, err := a.Enqueue(t.Context(), time.Now(), run); err != nil {
		t.Fatal(err)
	}
	claim := func() {
		t.Helper()
		got, err := a.Claim(t.Context(), store.ClaimRequest{Worker: w, Free: func() int { return 1 },
			Tasks: func(string) bool { return true }})
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
	for !takenForDead(t, a, b) { // until b looks before a has recreated the file
	}
	for lives := soon; !lives; {
		var list store.WorkerList
		failing(t)(b.Read(t.Context(), &list))
		lives = len(list.Workers) == 1
	}
	if !soon {
		if sig := <-signals; !sig.Lost || len(sig.Cancel) > 0 {
			t.Errorf("told %+v, want that it was taken for dead", sig)
		}
	}
	claim()
	a.Crash()
	recovered()
}

// One that did not find the presence may commit what follows from that when the presence is there again: the
// worker learns it all the same.
func TestTakenForDeadLate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	w, err := a.Register(t.Context(), store.WorkerInfo{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	signals := make(chan store.Signals, 1)
	go func() {
		sig, _ := a.Watch(t.Context(), w)
		signals <- sig
	}()
	lock := a.presence.path(a.presence.name)
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	for _, err := os.Stat(lock); err != nil; _, err = os.Stat(lock) {
		runtime.Gosched()
	}
	err = b.do(t.Context(), func(u *unit) error {
		_, err := u.workers.release(a.presence.name, true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if sig := <-signals; !sig.Lost {
		t.Errorf("told %+v, want that it was taken for dead", sig)
	}
	var list store.WorkerList
	if err := b.Read(t.Context(), &list); err != nil || len(list.Workers) != 1 {
		t.Errorf("%d workers, %v", len(list.Workers), err)
	}
}

// While nobody comes or goes the directory is not read, and other files beside the database
// do not matter. Who comes is seen at the next look, and what a killed process left is not
// company for the next file at that path.
func TestPresenceLooksWhenSomethingChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	open := func() *Store {
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a := open()
	defer a.Close()
	p, err := newPresence(a.at, []byte("another file at that path"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	old := time.Now().Add(-time.Hour)
	look := func() (bool, bool) {
		if err := os.Chtimes(p.dir, old, old); err != nil {
			t.Fatal(err)
		}
		before := p.scanned
		company, removed := p.scan()
		if removed {
			t.Error("its own file is there")
		}
		return company, !p.scanned.Equal(before)
	}
	if company, read := look(); company || !read {
		t.Errorf("the first look: company %v, read %v", company, read)
	}
	if err := os.WriteFile(path+"-stint-0", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if company, read := look(); company || read {
		t.Errorf("nothing has changed: company %v, read %v", company, read)
	}
	b, err := newPresence(a.at, []byte("another file at that path"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	old = old.Add(time.Minute)
	if company, read := look(); !company || !read {
		t.Errorf("another came: company %v, read %v", company, read)
	}
}
