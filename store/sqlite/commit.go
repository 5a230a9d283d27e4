package sqlite

import (
	"errors"
	"slices"
	"time"

	"github.com/stint-dev/stint/store/internal/damage"
)

// commitGroup commits one group, and reports whether there may be more to do at once.
func (w *writer) commitGroup() bool {
	w.mu.Lock()
	pending := len(w.ops) > 0
	w.queued = false
	w.mu.Unlock()
	claim := w.claimsMayFind()
	now := time.Now()
	due := min(w.timers.next, w.counters.DueAt()) <= now.UnixMilli()
	if !pending && !due && !claim {
		return false
	}
	u, err := w.beginTx()
	if err != nil {
		return w.cannotBegin(err, now)
	}
	ops := w.dequeue()
	u.now = time.Now().UnixMilli() // no earlier than what a change says of itself, or a run would start before the end that let it
	claimed, err := w.tryCommit(u, ops)
	if isBusy(err) {
		w.requeue(ops, false)
		return w.cannotBegin(err, now)
	}
	w.lockedSince = time.Time{}
	if err != nil {
		w.setHealth(err)
		if w.changed && code(err) == 0 { // what is due has failed, or a claim
			w.timers.next = max(w.timers.next, now.Add(time.Second).UnixMilli()) // no spinning
			w.commitOneByOne(ops, now)
			w.health.Store(&err)
		} else if len(ops) == 1 {
			ops[0].answer(explain(err))
		} else {
			w.commitOneByOne(ops, now)
		}
		return len(ops) > 0 // a failing claim waits for the next change or timer
	}
	misplaced := w.s.at.check()                        // after the commit: nothing is acknowledged that went with the file
	if len(ops)+len(claimed) > 0 || misplaced != nil { // something was written
		w.setHealth(misplaced)
	}
	if w.timers.next <= u.now && len(ops)+len(claimed) == 0 {
		w.postponeStuck(now)
	}
	w.counters.Calls(len(ops) + len(claimed))
	if due || len(claimed) > 0 || slices.ContainsFunc(ops, func(o *op) bool { return !o.reads }) {
		w.changes.Add(len(ops) + claimedRuns(claimed))
	}
	for _, o := range ops {
		o.answer(misplaced)
	}
	for _, c := range claimed {
		c.answer(c.got, nil)
	}
	return true
}

// postponeStuck makes what is due wait for a second if the last group has done nothing about it: rows that somebody
// changed by hand may stay due.
func (w *writer) postponeStuck(now time.Time) {
	before := w.fired
	if err := w.one("SELECT total_changes()", nil, &w.fired); err == nil && w.fired == before {
		w.timers.next = now.Add(time.Second).UnixMilli()
	}
}

// tryCommit applies a group in a transaction that was begun and commits it, or leaves all
// as it was. Damage that it meets is put aside.
func (w *writer) tryCommit(u *unit, ops []*op) (claimed []*claim, err error) {
	defer func() { w.apart = false }()
	for tries := 0; ; tries++ {
		claimed = nil
		err = damage.Guard(func() (err error) {
			if claimed, err = w.apply(u, ops); err == nil {
				err = w.commit(u)
			}
			return err
		})
		if err == nil {
			return claimed, nil
		}
		w.rollback()
		w.returnClaims(claimed)
		if errors.Is(err, errSomeLeft) {
			w.apart = true
		} else if tries == damage.MaxRuns || !w.quarantine(err) {
			return nil, err
		}
		if u, err = w.beginTx(); err != nil {
			return nil, err
		}
	}
}

// apply runs the changes of a group, then lets the waiting claims have what is ready.
func (w *writer) apply(u *unit, ops []*op) ([]*claim, error) {
	w.changed = false
	if err := u.lanes.refreshLanes(); err != nil {
		return nil, err
	}
	if err := u.journals.appendTogether(ops); err != nil {
		return nil, err
	}
	for _, o := range ops {
		if o.made {
			continue
		}
		if err := u.change(o); err != nil {
			return nil, err
		}
	}
	w.changed = true
	if err := u.timers.fireTimers(); err != nil {
		return nil, err
	}
	if err := u.follow(); err != nil {
		return nil, err
	}
	return w.serveClaims(u)
}

// follow does what follows from the runs that ended, and from those that changed their
// state at the limiters of their limits.
func (u *unit) follow() error {
	if err := u.insertAll(&firedSQL, 6, u.events.started); err != nil {
		return err
	}
	u.events.started = u.events.started[:0]
	for ended := -1; ended != len(u.signals.ended); {
		ended = len(u.signals.ended)
		if err := u.journals.resumeWaiters(); err != nil {
			return err
		}
		if err := u.workflows.nodes.flush(u); err != nil {
			return err
		}
		if err := u.limiters.reconcile(); err != nil {
			return err
		}
	}
	return nil
}

func (u *unit) change(o *op) error {
	if err := o.apply(u); err != nil {
		return err
	}
	return u.workflows.nodes.flush(u)
}

// commitOneByOne tries each change of a failed group alone. Another program may take the write lock in between: what
// is left waits for it in the queue.
func (w *writer) commitOneByOne(ops []*op, now time.Time) {
	for i, o := range ops {
		err := w.commitAlone(o)
		for tries := 0; err != nil && tries < damage.MaxRuns && w.quarantine(err); tries++ {
			err = w.commitAlone(o)
		}
		if isBusy(err) {
			w.requeue(ops[i:], true)
			w.cannotBegin(err, now)
			break
		}
		if err == nil {
			err = w.s.at.check()
		}
		w.setHealth(err)
		if !o.reads {
			w.changes.Add(1)
		}
		o.answer(explain(err))
	}
	w.claims.recheck = true
}

func (w *writer) commitAlone(o *op) error {
	w.apart = true
	defer func() { w.apart = false }()
	return w.inTx(func(u *unit) error {
		if err := u.change(o); err != nil {
			return err
		}
		return u.follow()
	})
}

// inTx makes a change in a transaction of its own, or leaves all as it was.
func (w *writer) inTx(change func(*unit) error) error {
	u, err := w.beginTx()
	if err != nil {
		return err
	}
	err = damage.Guard(func() error {
		if err := u.lanes.refreshLanes(); err != nil {
			return err
		}
		if err := change(u); err != nil {
			return err
		}
		return w.commit(u)
	})
	if err != nil {
		w.rollback()
	}
	return err
}

func (w *writer) beginTx() (*unit, error) {
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
	w.txn.lastKey, w.now = w.lastKey, time.Now().UnixMilli()
	return w.unit, nil
}

func (w *writer) commit(u *unit) error {
	if err := u.follow(); err != nil {
		return err
	}
	if err := u.flushAll(); err != nil {
		return err
	}
	if err := u.lanes.verify(); err != nil {
		return err
	}
	began := time.Now()
	if err := w.exec("COMMIT"); err != nil {
		return err
	}
	w.lastKey, u.took = u.lastKey, time.Since(began)
	for _, p := range w.all {
		p.committed()
	}
	return nil
}

func (w *writer) rollback() {
	w.exec("ROLLBACK") // fails if SQLite has rolled back by itself, which is as well
	for _, p := range w.all {
		p.rolledBack()
	}
}
