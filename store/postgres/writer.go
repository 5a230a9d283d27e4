package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/limits"
)

// maxGroup is the number of changes that one commit may hold.
const maxGroup = 2048

// A change is one call's part of a group.
type change struct {
	apply  func(*unit) error
	timers bool // it is fireTimers
	err    error
	state  atomic.Int32
	done   chan struct{}

	isBlocked atomic.Bool // it waits, or waited, for a lock
}

const (
	changeQueued = iota
	changeTaken
	changeAbandoned
	changeUnknown // the connection broke while it was committed, and the server is away
)

// The writer gathers the changes of the process into groups, and commits each with as few round trips as
// it can. One goroutine owns it.
//
//   - An answer is given after the commit that holds the change, never before (R1).
//   - A change that fails leaves its neighbours alone: the group is decided again without it.
//   - If the connection breaks while a group commits, the writer finds out what became of it (commit.go).
type writer struct {
	s        *Store
	signaled chan struct{} // capacity 1
	done     chan struct{}

	mu       sync.Mutex
	changes  []*change
	closed   bool
	noClaims bool     // the store is about to close
	claims   []*claim // that wait, oldest first

	endsCounted []counted // by the finisher

	health atomic.Pointer[error]
	known  atomic.Pointer[epoch] // as of the last group, for others; nil: it is not known

	ready   lanesFrom // that may have ready runs
	next    int64     // when a row's time comes, in milliseconds
	recheck bool      // claims may be served

	oldEpoch bool      // another process has changed what is remembered
	madeRoom bool      // the finisher has ended runs while claims waited
	again    time.Time // when claims are served again that met runs which others hold; zero: there are none

	// Owned by the goroutine.
	conn        *pgx.Conn // nil: it broke
	unit        *unit
	blocked     blocked
	damaged     []error      // of runs that were claimed
	spare       []claimedRow // empty: memory for what a claim reads
	epoch       epoch
	counters    count.Set
	lanes       laneSet
	n           int64 // of the last group
	pollBackoff time.Duration
	others      int64     // sum of the numbers of other processes' groups, under a fake clock
	seen        snapshot  // the server's transactions at the last poll
	own         []int64   // the transactions of this process since then
	looked      time.Time // when it last looked at all of the database's lanes and times
	whole       time.Time // when it last looked at lanes from their starts, which took lookCost
	lookCost    time.Duration
	partial     bool // it has looked only from the marks on since
	requeues    bool // it queues the process's runs, because the server has lost groups
	ownPause    time.Duration
	ownAfter    time.Time // when timers and counts are tried again, which failed

	life context.Context // of what it does
	end  context.CancelFunc
}

func newWriter(s *Store) *writer {
	w := &writer{s: s, signaled: make(chan struct{}, 1), done: make(chan struct{}), ready: lanesFrom{}, epoch: epoch{n: -1}}
	w.lanes.reset(nil)
	w.unit = newUnit(s, 0)
	w.life, w.end = context.WithCancel(context.Background())
	return w
}

// do has the writer apply a change, and returns once it is committed or refused. If ctx ends while the
// change waits for its turn, nothing was changed.
func (s *Store) do(ctx context.Context, apply func(*unit) error) error {
	return s.doBy(ctx, s.w.push, apply)
}

// doBy does the work of do. push hands the change to who commits it.
func (s *Store) doBy(ctx context.Context, push func(*change) bool, apply func(*unit) error) error {
	if s.settings.ReadOnly {
		return store.ErrReadOnly
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &change{apply: apply, done: make(chan struct{})}
	if !push(c) {
		return store.ErrClosed
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return c.giveUp(ctx.Err())
	}
}

// giveUp returns once a change is committed or refused, whose caller waits no longer, or that will not be soon.
func (c *change) giveUp(why error) error {
	for {
		if c.state.CompareAndSwap(changeQueued, changeAbandoned) {
			if c.isBlocked.Load() {
				return fmt.Errorf("waiting for a lock that another transaction holds (see Facts): %w", why)
			}
			return why
		}
		if c.state.Load() == changeUnknown {
			return fmt.Errorf("the server is away, and it is not known yet whether this was committed: %w", why)
		}
		select {
		case <-c.done: // it was being committed: that is the truth
			return c.err
		case <-time.After(giveUpEvery):
		}
	}
}

// giveUpEvery is how often a caller looks that waits no longer.
const giveUpEvery = 50 * time.Millisecond

func (w *writer) push(c *change) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.changes = append(w.changes, c)
	signal(w.signaled)
	return true
}

// signal sends on a channel of capacity 1, unless that holds a signal already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *writer) take() []*change {
	w.mu.Lock()
	n := min(len(w.changes), maxGroup)
	group := slices.Clone(w.changes[:n])
	w.changes = append(w.changes[:0], w.changes[n:]...)
	w.mu.Unlock()
	return slices.DeleteFunc(group, func(c *change) bool { return !c.state.CompareAndSwap(changeQueued, changeTaken) })
}

// run commits until the writer is closed and everything that was queued is answered.
func (w *writer) run() {
	defer close(w.done)
	ctx := w.life
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		called := false // a call is to see what others have committed before it
		select {
		case <-w.signaled:
			called = true
		case <-timer.C:
		}
		if w.s.settings.polls() {
			w.poll(ctx, called)
		} else if time.Since(w.looked) >= lookEvery {
			w.look(ctx)
		}
		w.mu.Lock()
		if !w.again.IsZero() && time.Until(w.again) <= 0 {
			w.again, w.recheck = time.Time{}, true
		}
		w.mu.Unlock()
		for !w.stopping() && w.commitSome(ctx) {
		}
		w.mu.Lock()
		wait := time.Until(w.looked.Add(w.every()))
		if !w.again.IsZero() {
			wait = min(wait, time.Until(w.again))
		}
		if w.next != limits.Never {
			wait = min(wait, max(time.Duration(w.next-w.s.clock.Now().UnixMilli())*time.Millisecond, time.Until(w.blocked.timers),
				time.Until(w.ownAfter)))
		}
		if len(w.blocked.changes) > 0 || w.blocked.claims {
			wait = min(wait, time.Until(w.blocked.next))
		}
		if due := w.counters.DueAt(); due != limits.Never {
			wait = min(wait, max(time.Duration(due-w.s.clock.Now().UnixMilli())*time.Millisecond, time.Until(w.ownAfter)))
		}
		w.mu.Unlock()
		if w.stopping() {
			w.failBlocked()
			w.countEnds()
			w.counters.Last()
			w.commitGroup(ctx, nil, nil)
			if w.conn != nil {
				w.conn.Close(ctx)
			}
			return
		}
		timer.Reset(max(wait, time.Millisecond))
	}
}

// stopping reports whether the store was closed, and everything queued before is answered.
func (w *writer) stopping() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed && len(w.changes) == 0
}

// endClaims answers the claims that wait, and takes no more.
func (w *writer) endClaims() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noClaims = true
	for _, c := range w.claims {
		c.answer(nil, store.ErrClosed)
	}
	w.claims = nil
}

// close stops the goroutine after everything queued is answered. It does not wait for a server that is away.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	signal(w.signaled)
	w.mu.Unlock()
	defer time.AfterFunc(closeWait, w.end).Stop()
	<-w.done
	w.end()
}

func (w *writer) connect(ctx context.Context) (err error) {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	if w.conn, err = w.s.settings.connect(ctx, w.s.settings.pool); err != nil {
		return err
	}
	if err = w.s.settings.limitWaits(ctx, w.conn, lockWait); err == nil {
		err = w.s.checkEnd(ctx, w.conn)
	}
	if err != nil {
		w.drop()
	}
	return err
}

func (w *writer) drop() {
	w.conn.Close(context.Background())
	w.conn = nil
}
