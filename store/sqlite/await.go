package sqlite

import (
	"context"
	"slices"
	"sync"

	"github.com/stint-dev/stint/store"
)

// An await is one call of Await.
type await struct {
	until    store.Until
	signaled chan struct{} // capacity 1: read again
	ended    chan struct{} // closed: result has what it waits for, the run ended, or err
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

// maxOpen is how many runs the writer keeps of those that calls have enqueued one by one: who enqueues a run and waits for it need not
// read it first. A run is kept until it ends, somebody waits for it, or another connection has committed, which may have ended it.
//
// No end is missed. A call of Await is added, and finds its run here, under the same mutex under which an end of this store's is
// announced after its commit, and another's makes all who wait read (notifyAll): each either removes the run before that, or finds the
// call.
const maxOpen = 4096

// Await implements store.History.
//
// It reads when it is called, unless the run is known to be open, and after each change of the run. What the writer knows when it commits,
// the end of a run or the entry that u asks for, it tells instead.
func (s *Store) Await(ctx context.Context, id store.ID, u store.Until) (r store.Result, err error) {
	key, ok := s.ids.Key(id)
	if !ok {
		return r, nil
	}
	a := &await{until: u, signaled: make(chan struct{}, 1), ended: make(chan struct{})}
	isOpen, err := s.w.addAwait(key, a)
	if err != nil {
		return r, err
	}
	defer s.w.dropAwait(key, a)
	for over, ask := false, !isOpen || u != (store.Until{}); ; ask = true {
		done := false
		if ask {
			err = s.view(ctx, func(q querier) (err error) {
				r, done, err = s.reads().Result(q, key, u)
				return err
			})
		}
		if done || over || err != nil {
			return r, err
		}
		select {
		case <-a.signaled:
		case <-a.ended:
			if a.knows() {
				return *a.result, nil
			}
			if a.err != nil {
				return r, a.err
			}
			over = true
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// knows reports whether the result is all that is waited for. Else it is read once more: of a run that has ended, the entry may be
// wanted as it was at the end.
func (a *await) knows() bool {
	return a.result != nil && (a.until.Entry == (store.Address{}) || a.result.Entry != nil)
}

// addAwait adds a call of Await, and reports whether its run is known to be open.
func (w *writer) addAwait(key int64, a *await) (isOpen bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false, store.ErrClosed
	}
	if err := w.s.hasMoved(); err != nil {
		return false, err
	}
	if w.awaits[key] == nil {
		w.awaits[key] = map[*await]struct{}{}
	}
	w.awaits[key][a] = struct{}{}
	_, isOpen = w.open[key]
	delete(w.open, key)
	return isOpen, nil
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
	clear(w.open)
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
	resumed int     // of ended: those before were seen to
	changed []int64 // runs that have new chunks or entries
	met     []met
	cancels []cancelOf
	opened  []int64 // runs that a call has enqueued alone: see writer.open
}

// isAwaited reports whether a call waits for a run.
func (ss *signals) isAwaited(run int64) bool {
	if ss.writer == nil {
		return false
	}
	ss.writer.mu.Lock()
	defer ss.writer.mu.Unlock()
	return len(ss.writer.awaits[run]) > 0
}

// A met is an await and what it waits for.
type met struct {
	*await
	result store.Result
}

// flush reads the entries that calls of Await wait for, and that were done in the transaction: they need not read them again. What
// cannot be read, they find out.
func (ss *signals) flush() error {
	ss.met = ss.met[:0]
	if ss.writer == nil {
		return nil
	}
	slices.Sort(ss.changed)
	ss.changed = slices.Compact(ss.changed)
	for _, run := range ss.changed {
		for _, a := range ss.writer.entryAwaits(run) {
			if r, done, err := ss.s.reads().Result(ss, run, a.until); err == nil && done {
				ss.met = append(ss.met, met{a, r})
			}
		}
	}
	return nil
}

// entryAwaits returns the calls that wait for an entry of a run.
func (w *writer) entryAwaits(run int64) (all []*await) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a := range w.awaits[run] {
		if a.until.Entry != (store.Address{}) {
			all = append(all, a)
		}
	}
	return all
}

func (ss *signals) committed() {
	if ss.writer != nil {
		ss.writer.notify(ss)
	}
	ss.rolledBack()
}

func (ss *signals) rolledBack() {
	ss.ended, ss.resumed, ss.changed, ss.cancels, ss.opened = ss.ended[:0], 0, ss.changed[:0], ss.cancels[:0], ss.opened[:0]
	clear(ss.met)
	ss.met = ss.met[:0]
}

// notify signals the calls that wait for what a transaction has changed.
func (w *writer) notify(s *signals) {
	if len(s.ended)+len(s.changed)+len(s.cancels)+len(s.opened) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.open)+len(s.opened) > maxOpen {
		clear(w.open)
	}
	for _, key := range s.opened {
		w.open[key] = struct{}{}
	}
	for _, e := range s.ended {
		delete(w.open, e.key)
		for a := range w.awaits[e.key] {
			a.end(e.result, nil)
		}
	}
	for _, m := range s.met {
		m.end(&m.result, nil)
	}
	for _, id := range s.changed {
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
