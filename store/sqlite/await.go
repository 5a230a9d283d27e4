package sqlite

import (
	"context"
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

func (a *await) signal() { signal(a.signaled) }

// signal sends on a channel of capacity 1, unless that holds a signal already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (a *await) end(r *store.Result, err error) {
	a.once.Do(func() { a.result, a.err = r, err; close(a.ended) })
}

// Await implements store.History.
func (s *Store) Await(ctx context.Context, id store.ID, u store.Until) (r store.Result, err error) {
	read := func(q querier, key int64) (done bool, err error) {
		r, done, err = s.reads().Result(q, key, u)
		return done, err
	}
	end, err := s.await(ctx, id, read)
	switch {
	case end == nil:
	case u.Entry == (store.Address{}):
		r = *end
	default: // the entry as it was at the end
		key, _ := s.ids.Key(id)
		err = s.view(ctx, func(q querier) error { _, err := read(q, key); return err })
	}
	return r, err
}

// await returns once done reports true, now or after a change of the run. If the run ends
// meanwhile and the writer knows its result, await returns that.
func (s *Store) await(ctx context.Context, id store.ID, done func(q querier, key int64) (bool, error)) (*store.Result, error) {
	key, ok := s.ids.Key(id)
	if !ok {
		return nil, nil
	}
	a := &await{signaled: make(chan struct{}, 1), ended: make(chan struct{})}
	if !s.w.addAwait(key, a) {
		return nil, store.ErrClosed
	}
	defer s.w.dropAwait(key, a)
	for over := false; ; {
		ok := false
		err := s.view(ctx, func(q querier) (err error) {
			ok, err = done(q, key)
			return err
		})
		if ok || over || err != nil {
			return nil, err
		}
		select {
		case <-a.signaled:
		case <-a.ended:
			if a.err != nil || a.result != nil {
				return a.result, a.err
			}
			over = true // read its result
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (w *writer) addAwait(key int64, a *await) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	if w.awaits[key] == nil {
		w.awaits[key] = map[*await]struct{}{}
	}
	w.awaits[key][a] = struct{}{}
	return true
}

func (w *writer) dropAwait(key int64, a *await) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.awaits[key], a)
	if len(w.awaits[key]) == 0 {
		delete(w.awaits, key)
	}
}

// notifyAll makes all waiting calls read again: another process's commit may have what they
// wait for.
func (w *writer) notifyAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.awaits {
		for a := range m {
			a.signal()
		}
	}
	for _, x := range w.watch {
		x.signal()
	}
}

type cancelOf struct{ worker, run int64 }

// signals are what those who wait are told after the commit.
type signals struct {
	*unit
	passive
	writer  *writer // nil in an app's transaction
	ended   []ending
	resumed int // of ended: those before were seen to
	chunks  []int64
	cancels []cancelOf
}

func (ss *signals) committed() {
	if ss.writer != nil {
		ss.writer.notify(ss)
	}
	ss.rolledBack()
}

func (ss *signals) rolledBack() {
	ss.ended, ss.resumed, ss.chunks, ss.cancels = ss.ended[:0], 0, ss.chunks[:0], ss.cancels[:0]
}

// notify signals the calls that wait for what a transaction has changed.
func (w *writer) notify(s *signals) {
	if len(s.ended)+len(s.chunks)+len(s.cancels) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range s.ended {
		for a := range w.awaits[e.key] {
			a.end(e.result, nil)
		}
	}
	for _, id := range s.chunks {
		for a := range w.awaits[id] {
			a.signal()
		}
	}
	for _, c := range s.cancels {
		if x := w.watch[c.worker]; x != nil {
			x.signal()
		}
	}
}
