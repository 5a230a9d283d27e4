package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint/store"
)

// The writer is the one goroutine that changes the database (group commit).
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
	conn *sql.Conn
	stmt map[string]*statement // prepared for the connection's life, by text

	signaled chan struct{} // capacity 1: there is something to look at
	done     chan struct{}

	mu        sync.Mutex
	ops       []*op
	closed    bool
	crashed   bool                          // by a test: nothing is given back on close
	fastUntil time.Time                     // poll fast until then: an app's transaction is about to commit
	awaits    map[int64]map[*await]struct{} // by run
	watch     map[int64]*watch              // by worker

	health  atomic.Pointer[error]
	changes changes

	// Owned by the goroutine.
	version int64 // PRAGMA data_version at the last look
	lastKey int64 // highest run key in the file
	*participants
	lockedSince       time.Time
	polled            time.Time     // last look at the file
	polledWorld       time.Duration // worldTime then
	pollBackoff       time.Duration // see pace
	presencesChecked  time.Time     // last look for other stores
	shared            bool          // another store has the file open
	lastForeignCommit time.Time     // last commit of another that was noticed
	changed           bool          // all changes of this group were applied
	misplaced         bool          // the file was not at its path when that was last looked at
	presumedDead      bool          // others took this process for dead; see checkPresences
}

const (
	never    = int64(1)<<62 - 1
	maxGroup = 2048 // changes a commit
)

const (
	opQueued = iota
	opTaken
	opAbandoned
)

type op struct {
	apply func(*txn) error
	after func() // by the writer, after the commit; nil: nothing
	reads bool   // it changes nothing
	err   error
	state atomic.Int32
	done  chan struct{}
}

// txn is one transaction: the writer's, or an app's own (tx.go).
type txn struct {
	querier
	s     *Store
	execN func(text string, args ...any) (int64, error)
	*participants
	now     int64         // milliseconds
	lastKey int64         // highest run key in the file, with those given here
	took    time.Duration // the commit
}

// flush has every participant write what it has left for the end.
func (t *txn) flush() error {
	for _, p := range t.all {
		if err := p.flush(t); err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) exec(text string, args ...any) error {
	_, err := t.execN(text, args...)
	return err
}

type cancelOf struct{ worker, run int64 }

func newWriter(s *Store, conn *sql.Conn) *writer {
	w := &writer{
		s: s, conn: conn, stmt: map[string]*statement{}, participants: newParticipants(&s.graphs),
		signaled: make(chan struct{}, 1), done: make(chan struct{}),
		awaits: map[int64]map[*await]struct{}{}, watch: map[int64]*watch{},
		version: -1,
	}
	w.signals.writer, w.events.publisher = w, &s.publisher
	return w
}

// do has the writer apply a change, and returns once it is committed or refused. If
// ctx ends while the change still waits for its turn, nothing was changed.
func (s *Store) do(ctx context.Context, apply func(*txn) error) error {
	return s.doOp(ctx, &op{apply: apply, done: make(chan struct{})})
}

func (s *Store) doOp(ctx context.Context, o *op) error {
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.w.push(o) {
		return store.ErrClosed
	}
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
	w.ops = append(w.ops, o)
	w.signal()
	return true
}

func (w *writer) signal() {
	select {
	case w.signaled <- struct{}{}:
	default:
	}
}

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
	w.changes.add(1)
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
		w.poll()
		for w.commitGroup() {
			w.poll()
		}
		w.mu.Lock()
		stop := w.closed && len(w.ops) == 0
		w.mu.Unlock()
		if stop {
			w.release()
			return
		}
		timer.Reset(w.sleep(time.Now()))
	}
}

// release gives back what this store's workers still have, on Close.
func (w *writer) release() {
	if w.crashed {
		w.conn.Close()
		return
	}
	w.counters.last = true
	w.inTx(func(t *txn) error { return t.releaseLock(w.s.presence.name, false, &store.Recovered{}) }) // or others do it
	for _, st := range w.stmt {
		st.Close()
	}
	w.conn.Close()
}

// commitGroup commits one group, and reports whether there may be more to do at once.
func (w *writer) commitGroup() bool {
	w.mu.Lock()
	pending := len(w.ops) > 0
	claim := len(w.claims.waiting) > 0 && (w.claims.arrived || w.claims.recheck)
	w.mu.Unlock()
	now := time.Now()
	due := min(w.timers.next, w.counters.due()) <= now.UnixMilli()
	if !pending && !due && !claim {
		return false
	}
	t, err := w.beginTx()
	if err != nil {
		return w.cannotBegin(err, now)
	}
	w.lockedSince = time.Time{}
	ops := w.dequeue()
	t.now = time.Now().UnixMilli() // no earlier than what a change says of itself, or a run would start before the end that let it
	claimed, err := w.tryCommit(t, ops)
	if err != nil {
		w.setHealth(err)
		if w.changed && code(err) == 0 { // what is due has failed, or a claim
			w.timers.next = max(w.timers.next, now.Add(time.Second).UnixMilli()) // no spinning
			w.commitOneByOne(ops)
			w.health.Store(&err)
		} else if len(ops) == 1 {
			ops[0].answer(explain(err))
		} else {
			w.commitOneByOne(ops)
		}
		return len(ops) > 0 // a failing claim waits for the next change or timer
	}
	misplaced := w.s.at.check()                        // after the commit: nothing is acknowledged that went with the file
	if len(ops)+len(claimed) > 0 || misplaced != nil { // something was written
		w.setHealth(misplaced)
	}
	w.counters.calls(len(ops) + len(claimed))
	if due || len(claimed) > 0 || slices.ContainsFunc(ops, func(o *op) bool { return !o.reads }) {
		w.changes.add(len(ops) + claimedRuns(claimed))
	}
	for _, o := range ops {
		o.answer(misplaced)
	}
	for _, c := range claimed {
		c.answer(c.got, nil)
	}
	return true
}

// maxDamages is how many damaged runs one group may meet.
const maxDamages = 1000

// tryCommit applies a group in a transaction that was begun and commits it, or leaves all
// as it was. Damage that it meets is put aside.
func (w *writer) tryCommit(t *txn, ops []*op) (claimed []*claim, err error) {
	for tries := 0; ; tries++ {
		claimed = nil
		err = guarded(func() (err error) {
			if claimed, err = w.apply(t, ops); err == nil {
				err = w.commit(t)
			}
			return err
		})
		if err == nil {
			return claimed, nil
		}
		w.rollback()
		w.returnClaims(claimed)
		if tries == maxDamages || !w.quarantine(err) {
			return nil, err
		}
		if t, err = w.beginTx(); err != nil {
			return nil, err
		}
	}
}

// apply runs the changes of a group, then lets the waiting claims have what is ready.
func (w *writer) apply(t *txn, ops []*op) ([]*claim, error) {
	w.changed = false
	if err := t.refreshLanes(); err != nil {
		return nil, err
	}
	for _, o := range ops {
		if err := t.change(o); err != nil {
			return nil, err
		}
	}
	w.changed = true
	if err := t.fireTimers(); err != nil {
		return nil, err
	}
	if err := t.follow(); err != nil {
		return nil, err
	}
	return w.serveClaims(t)
}

// follow does what follows from the runs that ended, and from those that changed their
// state at the limiters of their limits.
func (t *txn) follow() error {
	if err := t.insertAll(&firedSQL, 6, t.events.started); err != nil {
		return err
	}
	t.events.started = t.events.started[:0]
	for ended := -1; ended != len(t.signals.ended); {
		ended = len(t.signals.ended)
		if err := t.resumeWaiters(); err != nil {
			return err
		}
		if err := t.workflows.nodes.flush(t); err != nil {
			return err
		}
		if err := t.reconcile(); err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) change(o *op) error {
	if err := o.apply(t); err != nil {
		return err
	}
	return t.workflows.nodes.flush(t)
}

// commitOneByOne tries each change of a failed group alone.
func (w *writer) commitOneByOne(ops []*op) {
	for _, o := range ops {
		err := w.commitAlone(o)
		for tries := 0; err != nil && tries < maxDamages && w.quarantine(err); tries++ {
			err = w.commitAlone(o)
		}
		if err == nil {
			err = w.s.at.check()
		}
		w.setHealth(err)
		if !o.reads {
			w.changes.add(1)
		}
		o.answer(explain(err))
	}
	w.claims.recheck = true
}

func (w *writer) commitAlone(o *op) error {
	return w.inTx(func(t *txn) error {
		if err := t.change(o); err != nil {
			return err
		}
		return t.follow()
	})
}

// inTx makes a change in a transaction of its own, or leaves all as it was.
func (w *writer) inTx(change func(*txn) error) error {
	t, err := w.beginTx()
	if err != nil {
		return err
	}
	err = guarded(func() error {
		if err := t.refreshLanes(); err != nil {
			return err
		}
		if err := change(t); err != nil {
			return err
		}
		return w.commit(t)
	})
	if err != nil {
		w.rollback()
	}
	return err
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
	n := min(len(w.ops), maxGroup)
	ops := slices.Clone(w.ops[:n])
	w.ops = append(w.ops[:0], w.ops[n:]...)
	w.mu.Unlock()
	return slices.DeleteFunc(ops, func(o *op) bool { return !o.state.CompareAndSwap(opQueued, opTaken) })
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
	w.lockedSince = time.Time{}
	w.setHealth(err)
	for _, o := range w.dequeue() {
		o.answer(explain(err))
	}
	w.timers.next = max(w.timers.next, now.Add(time.Second).UnixMilli()) // no spinning
	w.counters.stored = max(w.counters.stored, now.UnixMilli())
	return false
}

func (w *writer) beginTx() (*txn, error) {
	if err := w.s.at.check(); err != nil { // a log that the next file has taken over must not get ours
		return nil, err
	}
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	if err := w.refresh(); err != nil {
		w.rollback()
		return nil, err
	}
	return &txn{querier: w, s: w.s, execN: w.execN, participants: w.participants, lastKey: w.lastKey, now: time.Now().UnixMilli()}, nil
}

func (w *writer) commit(t *txn) error {
	if err := t.follow(); err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := t.verify(); err != nil {
		return err
	}
	began := time.Now()
	if err := w.exec("COMMIT"); err != nil {
		return err
	}
	w.lastKey, t.took = t.lastKey, time.Since(began)
	for _, p := range w.all {
		p.committed(t)
	}
	return nil
}

func (w *writer) rollback() {
	w.exec("ROLLBACK") // fails if SQLite has rolled back by itself, which is as well
	for _, p := range w.all {
		p.rolledBack()
	}
}

// prepared returns the statement with this text, which is prepared once, to be executed
// with these arguments: what that does to lanes is noted.
func (w *writer) prepared(text string, args []any) (*statement, error) {
	st := w.stmt[text]
	if st == nil {
		s, err := w.conn.PrepareContext(context.Background(), text)
		if err != nil {
			return nil, fmt.Errorf("prepare %q: %w", text, err)
		}
		st = &statement{s, effectOf(text)}
		w.stmt[text] = st
	}
	w.lanes.noteEffect(&st.effect, args)
	return st, nil
}

func (w *writer) exec(text string) error {
	_, err := w.execN(text)
	return err
}

// execN runs a statement and returns how many rows it changed.
func (w *writer) execN(text string, args ...any) (int64, error) {
	st, err := w.prepared(text, args)
	if err != nil {
		return 0, err
	}
	r, err := st.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (w *writer) query(text string, args ...any) (*sql.Rows, error) {
	st, err := w.prepared(text, args)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(context.Background(), args...)
}

// one scans the single row of a statement; sql.ErrNoRows if there is none.
func (w *writer) one(text string, args []any, into ...any) error {
	st, err := w.prepared(text, args)
	if err != nil {
		return err
	}
	return st.QueryRowContext(context.Background(), args...).Scan(into...)
}

// A querier runs statements that read: the writer inside a transaction, or a reader.
type querier interface {
	query(text string, args ...any) (*sql.Rows, error)
	one(text string, args []any, into ...any) error
}

// rowsOf scans every row of a statement, and closes them.
func rowsOf[T any](q querier, fields func(*T) []any, text string, args ...any) ([]T, error) {
	rows, err := q.query(text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var v T
		if err := rows.Scan(fields(&v)...); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// column is rowsOf for a statement with one column.
func column[T any](q querier, text string, args ...any) ([]T, error) {
	return rowsOf(q, func(v *T) []any { return []any{v} }, text, args...)
}
