package postgres

import (
	"sync"

	"github.com/stint-dev/stint/store"
)

// An await is one call of Await.
type await struct {
	signaled chan struct{} // capacity 1: read again
	ended    chan struct{} // closed: the run ended, or err
	once     sync.Once
	result   *store.Result // nil: not known
	err      error
}

func (a *await) end(r *store.Result, err error) {
	a.once.Do(func() { a.result, a.err = r, err; close(a.ended) })
}

// awaits are the calls of Await that wait, by run.
type awaits struct {
	mu     sync.Mutex
	closed bool
	byRun  map[int64]map[*await]struct{}
}

func (x *awaits) add(run int64, a *await) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	if x.byRun == nil {
		x.byRun = map[int64]map[*await]struct{}{}
	}
	if x.byRun[run] == nil {
		x.byRun[run] = map[*await]struct{}{}
	}
	x.byRun[run][a] = struct{}{}
	return true
}

func (x *awaits) drop(run int64, a *await) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byRun[run], a)
	if len(x.byRun[run]) == 0 {
		delete(x.byRun, run)
	}
}

// tell ends the calls for runs that have ended, and makes others read again.
func (x *awaits) tell(t *told) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range t.ended {
		for a := range x.byRun[e.run] {
			a.end(e.result, nil)
		}
	}
	for _, run := range t.chunks {
		for a := range x.byRun[run] {
			signal(a.signaled)
		}
	}
}

func (x *awaits) signalAll() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, all := range x.byRun {
		for a := range all {
			signal(a.signaled)
		}
	}
}

func (x *awaits) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	for _, all := range x.byRun {
		for a := range all {
			a.end(nil, store.ErrClosed)
		}
	}
}
