package sqlite

import (
	"time"
)

// How often the file is polled for commits of other processes. A process that is alone on it
// polls only to notice the presence of another soon.
const (
	pollAlone      = 200 * time.Millisecond
	pollBackoffMax = 10 * time.Minute // under a fake clock
	pollShared     = 10 * time.Millisecond
	pollBusy       = time.Millisecond // another has committed not long ago, and claims wait
	busyFor        = 50 * time.Millisecond
	pollPending    = 2 * time.Millisecond // an app's transaction with our rows is about to commit
	fastFor        = 2 * time.Second
	presencesEvery = 100 * time.Millisecond // for stores that opened the file or died
)

// sleep returns how long the goroutine may sleep unless it is signaled.
func (w *writer) sleep(now time.Time) time.Duration {
	d := w.pollEvery(now) - now.Sub(w.polled)
	if due := min(w.timers.next, w.counters.DueAt()); due != never {
		d = min(d, time.UnixMilli(due).Sub(now))
	}
	return max(d, 0)
}

func (w *writer) pollEvery(now time.Time) time.Duration {
	w.mu.Lock()
	fast, waits := now.Before(w.fastUntil), len(w.claims.waiting) > 0
	w.mu.Unlock()
	switch {
	case w.s.path == Memory:
		return time.Hour
	case w.shared && waits && now.Sub(w.lastForeignCommit) < busyFor:
		return pollBusy
	case fast:
		return pollPending
	case w.shared:
		return pollShared
	}
	return max(pollAlone, w.pollBackoff)
}

// adaptPolling polls rarely under a fake clock (synctest), where a month would mean millions of polls. Such a clock is told from the
// machine's by half: on a machine that has much else to do, an instant of a fake clock may be a tenth of the time that it passes over.
func (w *writer) adaptPolling(now time.Time) {
	world := worldTime()
	passed, ours := world-w.polledWorld, now.Sub(w.polled)
	w.polledWorld = world
	if w.polled.IsZero() || passed < 0 || passed > ours/2 { // the first time, there is nothing to compare with
		w.pollBackoff = 0
	} else {
		w.pollBackoff = min(max(2*w.pollBackoff, 2*pollAlone), pollBackoffMax)
	}
}

// poll checks, if it is time to, whether other processes opened the file, died or committed.
func (w *writer) poll() {
	now := time.Now()
	if now.Sub(w.polled) < w.pollEvery(now) {
		return
	}
	if w.s.path == Memory {
		w.polled = now
		return
	}
	w.adaptPolling(now)
	w.polled = now
	if err := w.s.at.check(); err != nil || w.misplaced {
		w.misplaced = err != nil
		w.setHealth(err)
		if err != nil {
			return
		}
	}
	if now.Sub(w.presencesChecked) >= presencesEvery {
		w.presencesChecked = now
		w.checkPresences()
	}
	if err := w.refresh(); err != nil && !isBusy(err) {
		w.setHealth(err)
	}
}

// checkPresences finds out whether other processes have the file open, and recreates this
// process's presence if somebody removed it.
func (w *writer) checkPresences() {
	company, removed := w.s.presence.scan()
	if w.shared = company; company {
		signal(w.s.presencesChanged)
	}
	w.sole = !company && !removed
	if removed {
		err := w.s.presence.renew()
		if err == nil || !w.unseen {
			w.lanes.forget() // without it another may have stamped no lanes
			w.version = -2   // looks again
		}
		if w.unseen = err != nil; err != nil {
			w.s.presence.rescan() // tries again
			w.setHealth(err)
			return
		}
		w.reviveUntil = time.Now().Add(reviveFor)
	}
	if time.Now().Before(w.reviveUntil) {
		w.revive()
	}
}

// reviveFor is how long another process that has not found this one's presence may take until it
// commits what follows from that.
const reviveFor = 2 * time.Second

// revive marks this process's workers as living again. Their runs have gone to others by then,
// and their outcomes are refused; but what they claim from now on must be recovered if the
// process does die.
func (w *writer) revive() {
	var lost []int64
	w.push(&op{done: make(chan struct{}), after: func() { w.signalLost(lost) }, apply: func(u *unit) error {
		lost = nil
		w.workers.forget()
		for _, id := range w.watched() {
			n, err := u.execN("UPDATE stint_workers SET ended_at = NULL WHERE id = ? AND lock = ? AND ended_at IS NOT NULL", id,
				w.s.presence.name)
			if err != nil {
				return err
			}
			if n > 0 {
				lost = append(lost, id)
			}
		}
		return nil
	}})
	w.signal()
}

// signalLost makes Watch report that workers were taken for dead.
func (w *writer) signalLost(workers []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range workers {
		w.watch[id].lost = true
		w.watch[id].signal()
	}
}

// takeLost reports whether a worker was taken for dead since the last call.
func (w *writer) takeLost(x *watch) (lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost, x.lost = x.lost, false
	return lost
}

// watched returns the workers of this store that are registered.
func (w *writer) watched() (ids []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, x := range w.watch {
		select {
		case <-x.closed:
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

// lastKeySQL reads the highest key ever assigned: of runs and events, and of those that were deleted (keepLastKey).
const lastKeySQL = "SELECT max(coalesce((SELECT max(id) FROM stint_runs), 0), coalesce((SELECT max(id) FROM stint_events), 0), " +
	"coalesce((SELECT CAST(CAST(value AS TEXT) AS INTEGER) FROM stint_meta WHERE key = 'last_key'), 0))"

// refresh drops what the writer has cached if another connection has committed since the last
// call.
func (w *writer) refresh() error {
	if err := w.s.hasMoved(); err != nil {
		return err
	}
	var v int64
	if err := w.one("PRAGMA data_version", nil, &v); err != nil {
		return err
	}
	if v == w.version {
		return nil
	}
	first := w.version == -1
	w.version = v
	w.sole = w.s.path == Memory
	w.s.presence.rescan()
	if err := w.checkMoved(); err != nil {
		w.version = -2
		return err
	}
	if err := w.one(lastKeySQL, nil, &w.lastKey); err != nil {
		w.version = -2
		return err
	}
	for _, p := range w.all {
		p.outdated()
	}
	if w.unseen {
		w.lanes.forget()
	}
	if !first {
		w.lastForeignCommit = w.polled
		w.changes.Add(1)
		w.notifyAll()
	}
	return nil
}

// pollFast polls often for a while: an app's transaction with our rows is about to commit.
func (w *writer) pollFast() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fastUntil = time.Now().Add(fastFor)
	w.signal()
}
