package sqlite

import (
	"slices"
	"time"
)

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
