package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
)

// An app's transaction that holds a lock, on an idempotency key for instance, may stay open for as long as it
// likes. Only the changes that need the lock wait for it: a group does not, but is committed in parts, and what
// is left then is tried again alone.

const (
	// lockWait is how long a group waits for a lock: other processes hold theirs for one commit.
	lockWait = 200 * time.Millisecond
	// lockWaitShort is that while changes are known to be blocked.
	lockWaitShort = 10 * time.Millisecond
	// blockedMin and blockedMax bound the pause between attempts of blocked changes, which doubles.
	blockedMin = 10 * time.Millisecond
	blockedMax = 500 * time.Millisecond
	// shortFor is how long changes are taken for blocked after a lock was met.
	shortFor = 2 * time.Second
	// closeWait is how long Close waits for a lock.
	closeWait = 5 * time.Second
)

// blocked are the changes that wait for a lock which somebody else holds, in the order in which they are tried.
// Each attempt is short, and there is one in a pause, so that they hold up nothing.
type blocked struct {
	changes []*change
	claims  bool      // claims are blocked too
	met     time.Time // when a lock was last met
	pause   time.Duration
	next    time.Time // when the first is tried
	timers  time.Time // until when the timers wait, because one of them is blocked
}

// isLocked reports whether an error means that somebody else held a lock for too long.
func isLocked(err error) bool { return code(err) == codeLockNotAvailable }

// begin queues the beginning of a group's transaction.
func (w *writer) begin(b *pgx.Batch) {
	wait := lockWait
	if w.hurries() {
		wait = lockWaitShort
	}
	w.s.settings.begin(b, wait, lockWait)
}

// hurries reports whether the writer waits for locks a short time only, since it has met some that are held.
func (w *writer) hurries() bool { return time.Since(w.blocked.met) < shortFor }

// beginsItself reports whether a batch need not begin and commit a transaction: the server takes one that is sent at once for a
// transaction, and the connection has all that its statements need.
func (w *writer) beginsItself() bool { return !w.s.settings.pool.pooled && !w.hurries() }

// rollBack ends a transaction that has failed, unless the server has.
func rollBack(ctx context.Context, c *pgx.Conn) {
	if c.PgConn().TxStatus() != 'I' {
		c.Exec(ctx, "ROLLBACK")
	}
}

// begin queues the beginning of a transaction on a connection that waits for locks for so long (limitWaits).
func (s *settings) begin(b *pgx.Batch, wait, usual time.Duration) {
	b.Queue("BEGIN")
	if s.pool.pooled { // else the connection has all but another wait
		b.Queue(s.sessionSQL(true))
		b.Queue(fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d", s.frozenAfter().Milliseconds()))
	}
	if wait != usual || s.pool.pooled {
		b.Queue(fmt.Sprintf("SET LOCAL lock_timeout = %d", wait.Milliseconds()))
	}
}

// frozenAfter is how long a transaction of the writer may do nothing until the server ends it: its program is frozen, or
// its machine is lost, and others wait for what it has locked. A living program decides in milliseconds.
func (s *settings) frozenAfter() time.Duration { return s.silentAfter / 2 }

// limitWaits sets on a connection that commits groups how long one waits for a lock, and when the server ends a transaction.
func (s *settings) limitWaits(ctx context.Context, c *pgx.Conn, wait time.Duration) error {
	if s.pool.pooled { // begin does it
		return nil
	}
	_, err := c.Exec(ctx, fmt.Sprintf("SET lock_timeout = %d; SET idle_in_transaction_session_timeout = %d",
		wait.Milliseconds(), s.frozenAfter().Milliseconds()))
	return err
}

// meetsLock notes that a group met a lock that somebody else holds, and makes its claims, or its only change, wait.
func (w *writer) meetsLock(group []*change, claims []*claim) {
	x := &w.blocked
	x.met = time.Now()
	if len(group) > 1 {
		return
	}
	x.pause = min(max(2*x.pause, blockedMin), blockedMax)
	x.next = x.met.Add(x.pause)
	x.claims = x.claims || len(claims) > 0
	for _, c := range group {
		c.err = nil
		if c.timers {
			x.timers = x.next
		} else {
			c.isBlocked.Store(true)
			c.state.Store(changeQueued)
			x.changes = append(x.changes, c)
		}
	}
}

// tryBlocked tries the first of the blocked changes if it is time to, and reports whether it did.
func (w *writer) tryBlocked(ctx context.Context) bool {
	x := &w.blocked
	if len(x.changes) == 0 && !x.claims || time.Now().Before(x.next) {
		return false
	}
	w.recheckClaims(x.claims)
	x.claims = false
	if len(x.changes) == 0 {
		return true
	}
	c := x.changes[0]
	x.changes = x.changes[1:]
	if !c.state.CompareAndSwap(changeQueued, changeTaken) {
		return true
	}
	before := x.next
	w.commitGroup(ctx, []*change{c}, nil)
	if x.next.Equal(before) { // it was not blocked again: others that waited for the same lock may go on
		x.pause, x.next = 0, time.Time{}
	}
	return true
}

// recheckClaims makes the claims that wait be served again, if some do.
func (w *writer) recheckClaims(some bool) {
	if some {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.recheck = true
	}
}

// failBlocked answers the blocked changes of a store that closes: nothing of them is changed.
func (w *writer) failBlocked() {
	for _, c := range w.blocked.changes {
		if c.state.CompareAndSwap(changeQueued, changeTaken) {
			c.err = store.ErrClosed
			close(c.done)
		}
	}
	w.blocked.changes = nil
}

// idleAfter is how long a transaction of an app may be idle, with locks on the store's tables, until Facts tells
// of it.
const idleAfter = 5 * time.Second

// idleSQL reads the transactions that have changed the store's tables and wait for their programs.
const idleSQL = `
SELECT a.pid, a.application_name, coalesce(a.usename, ''), extract(epoch FROM clock_timestamp() - a.state_change)::bigint
FROM pg_stat_activity a WHERE a.state LIKE 'idle in transaction%' AND a.state_change < clock_timestamp() - $2::interval
  AND a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND EXISTS (SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.pid = a.pid AND l.mode IN ('RowShareLock', 'RowExclusiveLock') AND c.relnamespace = to_regnamespace($1))
ORDER BY a.state_change LIMIT 10`

// idle describes the transactions that hold up others.
func (s *settings) idle(ctx context.Context, c *pgx.Conn) (warnings []string, err error) {
	rows, err := c.Query(ctx, idleSQL, s.Schema, idleAfter)
	if err != nil {
		return nil, err
	}
	var pid, seconds int64
	var app, user string
	_, err = pgx.ForEachRow(rows, []any{&pid, &app, &user, &seconds}, func() error {
		warnings = append(warnings, fmt.Sprintf("a transaction of %q (user %s, pid %d) has locks here and is idle for %v: what needs them "+
			"waits: end it, or set idle_in_transaction_session_timeout", app, user, pid, time.Duration(seconds)*time.Second))
		return nil
	})
	return warnings, err
}
