package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stint-dev/stint/store"
)

// commitTries is how often a group is tried that meets deadlocks, before its changes are tried alone.
const commitTries = 5

// commitGroup commits changes and serves claims, and answers them.
func (w *writer) commitGroup(ctx context.Context, group []*change, claims []*claim) {
	plain := true
	damaged := map[int64]bool{}
	for tries := 1; ; tries++ {
		was, err := w.tryCommit(ctx, group, claims, plain)
		for _, c := range claims {
			if err != nil {
				c.got = nil
			}
		}
		switch {
		case err == nil:
			w.quarantineClaimed(ctx)
		case was && !unavailable(err) && !isLocked(err): // something was not as assumed
			plain = false
			continue
		case isDamage(err) && w.quarantine(ctx, err, damaged):
			for _, c := range group {
				c.err = nil
			}
			tries--
			continue
		case isLocked(err) && len(group) < 2:
			w.requeue(claims)
			w.meetsLock(group, claims)
			return
		case retriable(err) && !isLocked(err) && tries < commitTries:
			for _, c := range group {
				c.err = nil
			}
			continue
		case len(group) > 1 && !unavailable(err):
			w.requeue(claims)
			w.recheckClaims(len(claims) > 0)
			if isLocked(err) {
				w.meetsLock(group, claims)
			}
			for _, c := range group {
				c.err = nil
			}
			w.commitGroup(ctx, group[:len(group)/2], nil)
			w.commitGroup(ctx, group[len(group)/2:], nil)
			return
		default:
			for _, c := range group {
				c.err = explain(err)
			}
		}
		break
	}
	for _, c := range group {
		close(c.done)
	}
	w.requeue(claims)
}

// pauseOwn makes timers and counts that failed, because the server is away for instance, wait for a pause, which doubles.
func (w *writer) pauseOwn(failed bool) {
	if !failed {
		w.ownPause, w.ownAfter = 0, time.Time{}
		return
	}
	w.ownPause = min(max(2*w.ownPause, reconnectMin), reconnectMax)
	w.ownAfter = time.Now().Add(w.ownPause)
}

// requeue answers the claims that got runs, and makes the others wait again, before those that came since.
func (w *writer) requeue(claims []*claim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []*claim
	for _, c := range claims {
		switch {
		case len(c.got) > 0 || c.withdrawn:
			c.answer(c.got, nil)
		case w.noClaims:
			c.answer(nil, store.ErrClosed)
		default:
			left = append(left, c)
		}
	}
	w.claims = append(left, w.claims...)
}

// commitSome commits a group, and reports whether there may be more to do at once.
func (w *writer) commitSome(ctx context.Context) bool {
	w.countEnds()
	tried := w.tryBlocked(ctx)
	group := w.take()
	w.mu.Lock()
	now := w.s.clock.Now().UnixMilli()
	paused := time.Now().Before(w.ownAfter)
	due := w.next <= now && !paused && !time.Now().Before(w.blocked.timers)
	w.outdated(w.oldEpoch)
	w.oldEpoch = false
	w.recheck = w.recheck || w.madeRoom && w.lanes.Any()
	w.madeRoom = false
	var claims []*claim
	if w.recheck || len(group) > 0 { // claims ride in the commit that made room or work for them
		claims, w.claims = w.claims, nil // until they are back, none can be withdrawn
		w.recheck = false
	}
	w.mu.Unlock()
	if len(group) == 0 && len(claims) == 0 && !due && (paused || w.counters.DueAt() > now) {
		return tried
	}
	timers := &change{apply: (*unit).fireTimers, timers: true, done: make(chan struct{})}
	if due {
		group = append(group, timers)
	}
	w.commitGroup(ctx, group, claims)
	stuck := false // rows that another process sees to, or that somebody changed by hand, may stay due
	if due {
		alone := len(group) == 1 && len(claims) == 0 && !w.unit.wrote
		w.looked = time.Time{} // the next time is to be read
		w.look(ctx)
		stuck = alone && w.next <= now
	}
	if !paused {
		w.pauseOwn(timers.err != nil || stuck || w.counters.DueAt() <= now)
	}
	return true
}

// tryCommit decides and commits a group, and serves claims, or leaves the database as it was. If plain
// allows, it assumes what is usual, and need not read before it writes; was reports whether it has assumed
// anything.
func (w *writer) tryCommit(ctx context.Context, group []*change, claims []*claim, plain bool) (was bool, err error) {
	if err := w.connect(ctx); err != nil {
		err = &unavailableError{err}
		w.s.setHealth(err)
		return false, err
	}
	if err := w.requeueOwn(ctx); err != nil {
		return false, err
	}
	u := w.unit
	u.renew(w.s.clock.Now().UnixMilli())
	was, sent, err := w.tryGroup(ctx, u, group, claims, plain)
	u.forgetFlows(err != nil)
	if err == nil {
		if sent { // else the server was not asked
			w.s.setHealth(nil)
		}
		w.lanes.Commit()
		w.committed(u, len(group)+len(claims))
		return was, nil
	}
	w.lanes.Rollback()
	w.counters.Rollback()
	switch {
	case !broken(w.conn, err):
		rollBack(ctx, w.conn)
		if away(err) {
			w.drop() // the next may lead to another server
			err = &unavailableError{explain(err)}
			w.s.setHealth(err)
		}
	case sent && !pgconn.SafeToRetry(err): // else nothing was sent
		return was, w.lostCommit(ctx, u, group, claims, err)
	default:
		w.drop()
		err = &unavailableError{err}
		w.s.setHealth(err)
	}
	return was, err
}

// tryGroup does the work of tryCommit. sent reports whether the commit was sent.
func (w *writer) tryGroup(ctx context.Context, u *unit, group []*change, claims []*claim, plain bool) (was, sent bool, err error) {
	w.n++
	u.limited = w.epoch.limits
	s := &serving{w: w, u: u, b: &pgx.Batch{}, careful: !plain, claimsOnly: len(group) == 0 && !w.s.settings.polls()}
	plain = u.foresee(group) && plain && w.epoch.n >= 0
	if s.lone = plain && w.beginsItself(); !s.lone {
		w.begin(s.b)
	}
	switch {
	case !plain:
		if s.b, err = w.read(ctx, u, s.b, group); err != nil {
			return false, false, err
		}
	case len(u.assumed.fresh) == 0: // else their statement takes the lock, and the test follows it
		w.lockEpoch(s.b)
		w.assumeEpoch(s.b)
	}
	s.began = s.b.Len()
	if plain {
		u.flushAssumed(s.b)
	} else {
		u.flushKnown(s.b)
	}
	sent, err = w.write(ctx, s, claims)
	return !s.careful, sent, err
}

// read decides a group with the rows that it needs, which it locks. It returns the batch that goes on.
func (w *writer) read(ctx context.Context, u *unit, b *pgx.Batch, group []*change) (*pgx.Batch, error) {
	var n, last int64
	var limited bool
	w.queueEpoch(b, &n, &limited, &last)
	u.queueFetch(b)
	if err := w.send(ctx, b); err != nil {
		return nil, err
	}
	if err := w.refresh(ctx, n, limited); err != nil {
		return nil, err
	}
	u.limited = w.epoch.limits
	u.after(last)
	return &pgx.Batch{}, u.decide(ctx, w.conn, group)
}

// write writes what a group has decided, serves claims, and commits.
func (w *writer) write(ctx context.Context, s *serving, claims []*claim) (sent bool, err error) {
	u, b := s.u, s.b
	if err := w.counters.Store(counterRows{w.s, b, w.s.settings.polls() && w.lookCost < pollEvery}, u.now); err != nil {
		return false, err
	}
	if err := w.touch(ctx, u); err != nil {
		return false, err
	}
	s.later = b.Len() == s.began && !u.wrote && !w.s.settings.pool.pooled // the connection to a pooler may outlive a crash of the server
	if err := s.serveClaims(ctx, claims); err != nil {
		return false, err
	}
	b = s.b
	some := b.Len() > s.began || u.wrote
	if s.lone && !some && s.claimsOnly { // none of them starts a run, so what is remembered need not hold: a look finds out if it does not
		return false, nil
	}
	if some {
		u.wrote = true // else it needs no transaction ID, which others would take for a change
		u.flushErrors(b)
		switch {
		case u.grouped:
		case s.later:
			b.Queue(w.s.sql(laterGroupSQL), w.s.direct.process.name, w.n)
		default:
			b.Queue(w.s.sql(groupSQL), w.s.direct.process.name, w.n)
		}
		if w.s.settings.polls() {
			b.Queue("SELECT pg_current_xact_id()::text::bigint").QueryRow(func(r pgx.Row) error { return r.Scan(&u.xid) })
		}
	}
	if !s.lone {
		b.Queue("COMMIT")
	}
	since := time.Now()
	if err := w.send(ctx, b); err != nil {
		return true, err
	}
	u.took = time.Since(since)
	for _, c := range claims {
		if c.pending == nil {
			continue
		}
		x, all, graphs := c.pending.choice, *c.pending.got, c.pending.graphs
		c.pending = nil
		w.arrived(x, all)
		got := w.startTasks(all, graphs)
		if w.give(u, c, got); len(got) == 0 && x.Only == nil {
			w.claimAgain()
		}
		w.reuse(all)
	}
	return true, nil
}

func (w *writer) send(ctx context.Context, b *pgx.Batch) error {
	return w.conn.SendBatch(ctx, b).Close()
}

// committed tells of a group that was committed.
func (w *writer) committed(u *unit, calls int) {
	w.countGroup(u, calls)
	for id, g := range u.newGraphs {
		w.s.graphs.Put(id, g)
	}
	for _, e := range u.lanes.entries {
		if e.now != nil {
			w.s.lanes.put(*e.now)
		}
	}
	if u.newEpoch {
		u.told.epoch = true
		w.outdated(true)
	}
	w.mu.Lock()
	w.recheck = w.recheck || len(u.told.lanes) > 0 || u.newEpoch
	w.next = min(w.next, u.told.wakeAt)
	w.mu.Unlock()
	w.s.awaits.tell(&u.told)
	w.s.notifier.add(&u.told)
	if u.wrote {
		w.s.acks.acknowledge(&w.s.acks.writer, w.n)
		w.s.commits.Add(calls)
		w.own = append(w.own, u.xid)
	}
	for _, c := range u.told.cancels {
		w.s.watches.signal([]int64{c.worker})
	}
}

// lostCommit finds out what became of a group whose commit was sent, and whose connection was lost.
func (w *writer) lostCommit(ctx context.Context, u *unit, group []*change, claims []*claim, lost error) error {
	w.drop()
	w.s.setHealth(&unavailableError{lost})
	for _, c := range group {
		c.state.Store(changeUnknown)
	}
	w.connectAgain(ctx)
	done, err := w.s.settings.wasCommitted(ctx, w.s.direct.process.name, w.n)
	for _, c := range group {
		c.state.Store(changeTaken)
	}
	switch {
	case err != nil:
		return &unavailableError{errors.Join(lost, err)}
	case !done:
		return &unavailableError{lost}
	}
	w.committed(u, 0)
	for err := w.readBack(ctx, u, claims); err != nil; err = w.readBack(ctx, u, claims) {
		select { // they were given: others wait for the server too
		case <-time.After(reconnectMax):
		case <-ctx.Done():
			return err
		}
	}
	w.s.setHealth(nil)
	return nil
}

// retriable reports whether a group failed because of others that ran at the same time. Another may have inserted a
// row meanwhile that was not there when the group was decided.
func retriable(err error) bool { return conflicted(err) || code(err) == codeUniqueViolation }

// conflicted reports whether any transaction failed because of others that ran at the same time.
func conflicted(err error) bool {
	switch code(err) {
	case codeDeadlock, codeSerialization, codeLockNotAvailable:
		return true
	}
	return false
}

// unavailable reports whether the server cannot write at present.
func unavailable(err error) bool {
	var u *unavailableError
	return errors.As(err, &u)
}

// An unavailableError is an error of a server that cannot write at present.
type unavailableError struct{ err error }

func (e *unavailableError) Error() string        { return e.err.Error() }
func (e *unavailableError) Unwrap() error        { return e.err }
func (e *unavailableError) Is(target error) bool { return target == store.ErrUnavailable }
