package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint/internal/commits"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/limits"
	"github.com/stint-dev/stint/store/sqlite/internal/conn"
)

// The writer changes the database, in groups: its goroutine does, or the caller of a change that finds it idle (lead), never both at once.
//
// It takes every change that is queued, applies them in one BEGIN IMMEDIATE, starts
// what the waiting workers can start, commits, and answers everybody. Under load the
// groups grow by themselves; a lone change commits at once. Two invariants:
//
//   - An answer is given after the commit that holds the change, never before (R1).
//   - A change that fails leaves its neighbours alone: the group is rolled back and
//     each change is tried in a transaction of its own. So changes are written to be
//     run twice. Savepoints would cost three statements a change; failure is rare.
//
// That claims ride in the commit of the enqueue or finish that made room for them is
// why a run starts one fsync after it was enqueued, and a drain needs one fsync for
// finishing a group and starting the next.
type writer struct {
	s    *Store
	conn *conn.Conn            // the store closes it; nil if it is read-only
	stmt map[string]*statement // prepared for the connection's life, by text

	signaled chan struct{} // capacity 1: there is something to look at
	done     chan struct{}

	turn sync.Mutex // who has it commits: the goroutine, or a caller that finds it idle (lead)

	mu        sync.Mutex
	ops       []*op
	queued    bool // a change came since the writer looked
	closed    bool
	crashed   bool                          // by a test: nothing is given back on close
	fastUntil time.Time                     // poll fast until then: an app's transaction is about to commit
	awaits    map[int64]map[*await]struct{} // by run
	open      map[int64]struct{}            // runs that have not ended: see maxOpen
	watch     map[int64]*watch              // by worker

	health  atomic.Pointer[error]
	changes commits.Counter

	// Guarded by turn.
	wakesAt  time.Time // the goroutine looks again then, unless it is signaled
	released bool      // the goroutine has ended
	version  int64     // PRAGMA data_version at the last look
	lastKey  int64     // highest run key in the file
	*unit
	lockedSince       time.Time
	polled            time.Time     // last look at the file
	polledWorld       time.Duration // worldTime then
	pollBackoff       time.Duration // see pace
	presencesChecked  time.Time     // last look for other stores
	shared            bool          // another store has the file open
	sole              bool          // none has: presences were looked at after the last commit of another was noticed
	lastForeignCommit time.Time     // last commit of another that was noticed
	changed           bool          // all changes of this group were applied
	fired             int64         // rows changed by this connection, as of the last commit that left something due
	observer          *sql.Conn     // of a read-only store, which notices commits by it
	misplaced         bool          // the file was not at its path when that was last looked at
	reviveUntil       time.Time     // this process's presence was removed: others may take it for dead until then
	unseen            bool          // it could not be recreated: another may stamp no lanes
	prefill           prefill
}

const (
	never    = limits.Never
	maxGroup = 2048 // changes a commit
)

const (
	opQueued = iota
	opTaken
	opAbandoned
)

type op struct {
	apply func(*unit) error
	after func() // by the writer, after the commit; nil: nothing
	reads bool   // it changes nothing

	appends *appending // apply does what this says, which may be done for many together (appendTogether); nil: something else
	err     error
	alone   bool // the group that it was in has failed
	made    bool // appendTogether has made the change, in the transaction that is under way
	state   atomic.Int32
	done    chan struct{}
}

func newWriter(s *Store, c *conn.Conn) *writer {
	w := &writer{
		s: s, conn: c, stmt: map[string]*statement{},
		signaled: make(chan struct{}, 1), done: make(chan struct{}),
		awaits: map[int64]map[*await]struct{}{}, open: map[int64]struct{}{}, watch: map[int64]*watch{},
		version: -1,
	}
	w.unit = newUnit(&txn{querier: w, s: s, execN: w.execN}, &s.graphs)
	w.signals.writer, w.events.publisher, w.lanes.sole = w, &s.publisher, &w.sole
	return w
}

// do has the writer apply a change, and returns once it is committed or refused. If
// ctx ends while the change still waits for its turn, nothing was changed.
func (s *Store) do(ctx context.Context, apply func(*unit) error) error {
	return s.doOp(ctx, &op{apply: apply, done: make(chan struct{})})
}

func (s *Store) doOp(ctx context.Context, o *op) error {
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	if err := errors.Join(ctx.Err(), s.hasMoved()); err != nil {
		return err
	}
	if !s.w.push(o) {
		return store.ErrClosed
	}
	s.w.lead()
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		if o.state.CompareAndSwap(opQueued, opAbandoned) {
			return ctx.Err()
		}
		<-o.done // being committed: wait for the truth
		return o.err
	}
}

func (w *writer) push(o *op) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.ops, w.queued = append(w.ops, o), true
	return true
}

// lead commits a group in the goroutine of a caller that has just queued a change, if the writer is idle: a lone change is spared two
// hand-overs between goroutines. What is left, the writer's goroutine does.
func (w *writer) lead() {
	if !w.turn.TryLock() {
		return // endTurn sees to it
	}
	more := false
	defer func() { w.endTurn(more) }()
	if w.released {
		return
	}
	w.commitGroup()
	w.mu.Lock()
	more = len(w.ops) > 0 || w.closed
	w.mu.Unlock()
	now := time.Now()
	more = more || w.claimsMayFind() || w.logIsShort() || now.Add(w.sleep(now)).Before(w.wakesAt)
}

// endTurn gives the turn back. If there is more to do, or somebody queued something since the last look, it signals the goroutine:
// whoever finds the turn taken relies on it, and signals nobody.
//
// Nothing is forgotten: it is queued under mu before TryLock fails, so before the Unlock here, and what is queued is read under mu after
// that.
func (w *writer) endTurn(more bool) {
	w.turn.Unlock()
	w.mu.Lock()
	more = more || w.queued || w.claims.unseen
	w.mu.Unlock()
	if more {
		w.signal()
	}
}

func (w *writer) signal() { signal(w.signaled) }

// close stops the goroutine after everything queued is answered. It reports false if
// another call did.
func (w *writer) close() bool {
	w.mu.Lock()
	first := !w.closed
	w.closed = true
	for _, c := range w.claims.waiting {
		c.answer(nil, store.ErrClosed)
	}
	w.claims.waiting = nil
	for _, m := range w.awaits {
		for a := range m {
			a.end(nil, store.ErrClosed)
		}
	}
	for _, x := range w.watch {
		x.close()
	}
	w.changes.Add(1)
	w.signal()
	w.mu.Unlock()
	<-w.done
	return first
}

func (w *writer) run() {
	defer close(w.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-w.signaled:
		case <-timer.C:
		}
		d, stop := w.work()
		if stop {
			return
		}
		timer.Reset(d)
	}
}

// work does all that there is to do, and returns how long the goroutine may sleep then. It reports whether the store was closed.
func (w *writer) work() (d time.Duration, stop bool) {
	w.turn.Lock()
	defer w.endTurn(false)
	w.poll()
	for !w.stopping() && w.commitGroup() {
		w.poll()
	}
	if w.stopping() {
		w.release()
		w.released = true
		return 0, true
	}
	w.fillLog()
	now := time.Now()
	d = w.sleep(now)
	w.wakesAt = now.Add(d)
	return d, false
}

// stopping reports whether the store was closed, and everything queued before is answered.
func (w *writer) stopping() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed && len(w.ops) == 0
}

// release gives back what this store's workers still have, on Close.
func (w *writer) release() {
	if w.crashed {
		return
	}
	w.counters.Last()
	w.inTx(func(u *unit) error { // or others do it
		_, err := u.workers.release(w.s.presence.name, false)
		return err
	})
}

func (o *op) answer(err error) {
	if err == nil && o.after != nil {
		o.after()
	}
	o.err = err
	close(o.done)
}

// dequeue removes a group from the queue, less what was abandoned.
func (w *writer) dequeue() []*op {
	w.mu.Lock()
	w.queued = false
	n := min(len(w.ops), maxGroup)
	if n > 0 && w.ops[0].alone {
		n = 1
	}
	ops := slices.Clone(w.ops[:n])
	w.ops = append(w.ops[:0], w.ops[n:]...)
	w.mu.Unlock()
	return slices.DeleteFunc(ops, func(o *op) bool { return !o.state.CompareAndSwap(opQueued, opTaken) })
}

// requeue puts changes that were not committed back where they were in the queue, alone: each to a group of its own.
func (w *writer) requeue(ops []*op, alone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range ops {
		o.alone = o.alone || alone
		o.state.Store(opQueued)
	}
	w.ops = slices.Insert(w.ops, 0, ops...)
}

// cannotBegin handles a write lock that was not to be had. Changes wait for it until
// BusyTimeout has passed since it was first refused.
func (w *writer) cannotBegin(err error, now time.Time) bool {
	if isBusy(err) {
		if w.lockedSince.IsZero() {
			w.lockedSince = now
		}
		w.mu.Lock()
		closed := w.closed
		w.mu.Unlock()
		if now.Sub(w.lockedSince) < w.s.opts.BusyTimeout && !closed {
			return true // SQLite itself waited busyPoll
		}
		err = fmt.Errorf("%w (waited %v): %w", store.ErrBusy, w.s.opts.BusyTimeout, err)
	}
	if errors.Is(err, store.ErrMoved) {
		w.refuseClaims(err)
	}
	w.lockedSince = time.Time{}
	w.setHealth(err)
	for _, o := range w.dequeue() {
		o.answer(explain(err))
	}
	w.timers.next = max(w.timers.next, now.Add(time.Second).UnixMilli()) // no spinning
	w.counters.Postpone(now.UnixMilli())
	return false
}
