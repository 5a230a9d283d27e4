package postgres

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
)

// A finisher commits the ends of runs from which nothing follows, or what is usual in a workflow, on a connection of its
// own, while the writer commits the next claims: a worker would else wait for two commits, one after the other. One
// goroutine owns it.
//
// Its groups are plain ones (plain.go), and no others: what is not goes on to the writer, as if it had come there.
// So it needs none of what the writer remembers, but the epoch's number, which its group tests. To the server it is one
// more process, and the locks that keep processes apart keep it apart from the writer. That no order of the two is
// lost needs no more: a caller who has its answer is committed, and two calls that are under way at once may take
// effect in either order.
//
// It has groups of its own, so that what became of each is found out as of the writer's (commit.go). A server that has
// lost groups of either takes no ends until the process has queued its runs (failover.go): each group of the
// finisher tests that the last one of the writer, which its runs may follow from, is there.
type finisher struct {
	s        *Store
	name     string        // of its groups
	signaled chan struct{} // capacity 1
	done     chan struct{}
	life     context.Context
	end      context.CancelFunc

	mu      sync.Mutex
	changes []*change
	closed  bool

	// Owned by the goroutine.
	conn *pgx.Conn // nil: there is none
	unit *unit
	n    int64 // of the last group
}

// endsName is the name that a process's finisher has in stint.groups.
func endsName(process string) string { return process + "/ends" }

// newFinisher returns a finisher; nil if the store polls: it takes what another connection commits for others' commits.
func newFinisher(s *Store) *finisher {
	if s.settings.polls() {
		return nil
	}
	f := &finisher{s: s, name: endsName(s.direct.process.name), signaled: make(chan struct{}, 1), done: make(chan struct{}),
		unit: newUnit(s, 0)}
	f.life, f.end = context.WithCancel(context.Background())
	go f.run()
	return f
}

// takes reports whether outcomes may be committed by the finisher.
func (f *finisher) takes(outcomes []store.Outcome) bool {
	if f == nil {
		return false
	}
	for i := range outcomes {
		if o := &outcomes[i]; !f.s.endsPlainly(o) || o.Lease&leaseLimited != 0 || len(o.Follow) > 0 {
			return false
		}
	}
	return true
}

// push makes the finisher commit a change, and reports false if the store is closed.
func (f *finisher) push(c *change) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.changes = append(f.changes, c)
	signal(f.signaled)
	return true
}

// run commits until the finisher is closed and everything that was queued is answered, or goes on to the writer.
func (f *finisher) run() {
	defer close(f.done)
	for range f.signaled {
		f.mu.Lock()
		group, stop := f.changes, f.closed
		f.changes = nil
		f.mu.Unlock()
		group = slices.DeleteFunc(group, func(c *change) bool { return !c.state.CompareAndSwap(changeQueued, changeTaken) })
		if len(group) > 0 && !f.commit(f.life, group) {
			f.s.w.takeOver(group)
		}
		if stop {
			break
		}
	}
	if f.conn != nil {
		f.drop()
	}
}

// close stops the goroutine after everything queued is answered or goes on to the writer.
func (f *finisher) close() {
	if f == nil {
		return
	}
	f.mu.Lock()
	f.closed = true
	signal(f.signaled)
	f.mu.Unlock()
	defer time.AfterFunc(closeWait, f.end).Stop()
	<-f.done
	f.end()
}

// commit commits a group and answers it, or leaves the database as it was and reports false.
func (f *finisher) commit(ctx context.Context, group []*change) bool {
	if f.s.w.health.Load() != nil || f.connect(ctx) != nil {
		return false
	}
	writers, ok := f.s.acks.follow()
	e := f.s.w.known.Load()
	if !ok || e == nil {
		return false
	}
	u := f.unit
	u.renew(f.s.clock.Now().UnixMilli())
	u.limited = e.limits
	u.assuming = true
	plain := u.tryAll(group)
	u.assuming = false
	rest := &pgx.Batch{}
	if plain {
		u.flushKnown(rest)
	}
	if !plain || rest.Len() > 0 || u.newEpoch || len(u.assumed.fresh) > 0 {
		return false
	}
	f.n++
	b := &pgx.Batch{}
	lone := !f.s.settings.pool.pooled // as a batch of the writer
	if !lone {
		f.s.settings.begin(b, lockWaitShort, lockWaitShort)
	}
	f.s.w.lockEpoch(b)
	b.Queue(f.s.sql(assumeFollowsSQL), e.n, f.s.direct.process.name, writers)
	u.flushAssumed(b)
	u.flushErrors(b)
	b.Queue(f.s.sql(groupSQL), f.name, f.n)
	if !lone {
		b.Queue("COMMIT")
	}
	since := time.Now()
	if err := f.conn.SendBatch(ctx, b).Close(); err != nil {
		return f.failed(ctx, group, err)
	}
	u.took = time.Since(since)
	f.committed(group)
	return true
}

// assumeFollowsSQL asserts that what the process remembers holds, and that the last group of the writer is there.
var assumeFollowsSQL = "SELECT " + assert("e.n = $1 AND ($3 = 0 OR EXISTS ("+
	"SELECT 1 FROM stint.groups g WHERE g.process = $2 AND g.n >= $3))") + " FROM stint.epoch e"

// failed does what follows from an error of a group. It reports whether the group was answered.
func (f *finisher) failed(ctx context.Context, group []*change, err error) bool {
	f.unit.forgetFlows(true)
	if !broken(f.conn, err) {
		rollBack(ctx, f.conn)
		if away(err) {
			f.drop() // the next may lead to another server
		}
		return false
	}
	f.drop()
	if pgconn.SafeToRetry(err) { // nothing was sent
		return false
	}
	f.s.setHealth(&unavailableError{err})
	for _, c := range group {
		c.state.Store(changeUnknown)
	}
	for f.connect(ctx) != nil && ctx.Err() == nil { // which looks for lost groups, before another group's number is entered
		pause.For(ctx, reconnectMax/10)
	}
	done, unknown := f.s.settings.wasCommitted(ctx, f.name, f.n)
	for _, c := range group {
		c.state.Store(changeTaken)
	}
	switch {
	case unknown != nil: // the store closes
		for _, c := range group {
			c.err = &unavailableError{errors.Join(err, unknown)}
			close(c.done)
		}
		return true
	case !done:
		return false
	}
	f.s.setHealth(nil)
	f.committed(group)
	return true
}

// committed tells of a group that was committed, and answers it.
func (f *finisher) committed(group []*change) {
	u, w := f.unit, f.s.w
	f.s.acks.acknowledge(&f.s.acks.ends, f.n)
	u.forgetFlows(false)
	w.ended(counted{u.counted, len(group), u.now, u.took}, u.told.lanes)
	f.s.awaits.tell(&u.told)
	f.s.notifier.add(&u.told)
	f.s.commits.Add(len(group))
	for _, c := range group {
		close(c.done)
	}
}

func (f *finisher) connect(ctx context.Context) (err error) {
	if f.conn != nil && !f.conn.IsClosed() {
		return nil
	}
	if f.conn, err = f.s.settings.connect(ctx, f.s.settings.pool); err != nil {
		return err
	}
	if err = f.s.settings.limitWaits(ctx, f.conn, lockWaitShort); err == nil { // the writer waits longer
		err = f.s.checkEnd(ctx, f.conn)
	}
	if err != nil {
		f.drop()
	}
	return err
}

func (f *finisher) drop() {
	f.conn.Close(context.Background())
	f.conn = nil
}

// counted is what a group of the finisher has counted.
type counted struct {
	runs  map[count.Name]*count.Counts
	calls int
	now   int64
	took  time.Duration
}

// takeOver makes the writer commit changes that the finisher could not, before those that came since.
func (w *writer) takeOver(group []*change) {
	for _, c := range group {
		c.state.Store(changeQueued)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(slices.Clone(group), w.changes...)
	signal(w.signaled)
}

// ended notes that the finisher has committed ends: they are to be counted, and claims may be served that waited for
// them, or for the tasks that have started in lanes.
func (w *writer) ended(c counted, lanes lanesFrom) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready.addAll(lanes)
	w.recheck = w.recheck || len(lanes) > 0
	w.endsCounted = append(w.endsCounted, c)
	w.madeRoom = w.madeRoom || len(w.claims) > 0
	signal(w.signaled)
}

// countEnds adds what the finisher has counted to the process's counters. No transaction is open.
func (w *writer) countEnds() {
	w.mu.Lock()
	all := w.endsCounted
	w.endsCounted = nil
	w.mu.Unlock()
	for _, c := range all {
		for name, n := range c.runs {
			w.counters.Of(name.Queue, name.Task).Add(n)
		}
		w.s.sampler.Touch()
		w.counters.Calls(c.calls)
		w.counters.Commit(c.now, c.took)
	}
}
