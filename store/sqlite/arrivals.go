package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// allows reports whether the limiter may admit a run with that limit now.
func (lim *limiter) allows(l *store.Limit, now time.Time) bool {
	if lim.paused {
		return false
	}
	if lim.rate {
		lim.bucket.Fill(now)
		return lim.bucket.Unlimited() || lim.bucket.Tokens-float64(lim.active) >= float64(l.Units)
	}
	return lim.active < lim.max && (!lim.inTurns() || lim.admitted == 0)
}

// admitOrWait returns 0 if all limiters admit the run, the limiter that it has to wait for, or -1 if
// that was stored already: the run was canceled, blocked or canceled others.
func (t *txn) admitOrWait(m *transition, need []*store.Limit) (int64, error) {
	limiters := make([]*limiter, len(need))
	for i, l := range need {
		lim, err := t.useLimiter(l, m.setBy)
		if errors.Is(err, store.ErrNotFound) {
			return -1, t.exec("UPDATE stint_runs SET "+stateBlocked+", limiter = NULL, error = ?2 WHERE id = ?1 AND "+stateQueued, m.key,
				failureJSON(store.KindCondition, err.Error()))
		}
		if err != nil {
			return 0, err
		}
		limiters[i] = lim
		if lim.strategy == store.StrategyCancelInProgress && !lim.rate {
			if err := t.exec("INSERT OR IGNORE INTO stint_members (limiter, run) VALUES (?, ?)", lim.id, m.key); err != nil {
				return 0, err
			}
		}
	}
	for i, lim := range limiters {
		if lim.allows(need[i], millis(t.now)) && lim.waiting == 0 {
			continue
		}
		switch {
		case lim.strategy == store.StrategyCancelNewest && m.after.lease == 0 && !lim.paused:
			_, err := t.cancel(m.key, t.now, failureJSON("canceled", fmt.Sprintf("concurrency limit %s is used up: %d at once", lim,
				lim.max)))
			return -1, err
		case lim.strategy == store.StrategyCancelInProgress:
			lim.waiting++
			t.touch(lim)
			t.countAdmitted(limiters[:i])
			if err := t.setLimiter(m.key, lim.id); err != nil {
				return 0, err
			}
			return -1, t.cancelOlder(lim)
		}
		lim.waiting++
		lim.recheck = true // those that waited before it may be admitted now
		t.touch(lim)
		t.countAdmitted(limiters[:i])
		return lim.id, nil
	}
	return 0, t.takeShares(m.key, m.after.flags, limiters, need)
}

// String returns the limiter's name, for messages.
func (lim *limiter) String() string {
	name := fmt.Sprintf("%q", lim.name)
	if lim.rate {
		return fmt.Sprintf("%q", lim.key)
	}
	if lim.key != "" {
		name += fmt.Sprintf(" (key %q)", lim.key)
	}
	return name
}

// takeShares counts an admitted run at its limiters. A workflow's run begins with that.
func (t *txn) takeShares(key, flags int64, limiters []*limiter, limits []*store.Limit) error {
	for i, lim := range limiters {
		t.touch(lim)
		switch {
		case lim.rate && flags&flagWorkflow != 0:
			lim.bucket.Tokens -= float64(limits[i].Units)
		case lim.rate:
			lim.active += int64(limits[i].Units)
		case flags&flagWorkflow != 0:
			lim.active++
		default:
			lim.active++
			lim.admitted++
		}
	}
	if flags&flagWorkflow == 0 {
		return nil
	}
	return t.forRun(key, func() error { return t.beginAdmitted(key) })
}

// beginAdmitted begins a workflow's run whose limiters have admitted it.
func (t *txn) beginAdmitted(key int64) error {
	var node int64
	err := t.one("UPDATE stint_runs SET "+stateRunning+", worker = 0, started_at = ?2, limiter = NULL WHERE id = ?1 RETURNING node",
		[]any{key, t.now}, &node)
	if err != nil {
		return err
	}
	if err := t.exec("DELETE FROM stint_transitions WHERE run = ?", key); err != nil { // it is counted already
		return err
	}
	return t.beginWorkflow(key, node, t.now)
}

// cancelOlder cancels all runs of a limiter but the max best: by priority, then the newest.
func (t *txn) cancelOlder(lim *limiter) error {
	if err := t.exec("DELETE FROM stint_members WHERE limiter = ? AND NOT EXISTS (SELECT 1 FROM stint_runs "+
		"WHERE id = run AND "+notEnded+")", lim.id); err != nil {
		return err
	}
	keys, err := column[int64](t, `SELECT r.id FROM stint_members m CROSS JOIN stint_runs r ON r.id = m.run
		WHERE m.limiter = ? AND r.`+sinceQueued+` AND r.`+upToWaiting+` AND r.cancel_at IS NULL ORDER BY r.priority DESC, r.id DESC
		LIMIT -1 OFFSET ?`, lim.id, lim.max)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, err := t.cancel(key, t.now, failureJSON("canceled", fmt.Sprintf("concurrency limit %s: a newer run came", lim))); err != nil {
			return err
		}
	}
	return nil
}

var errUnits = errors.New("it could never start")

// admitNewRun returns the value of the column limiter for a run that is about to be inserted. setBy
// is the key of the enqueue that the limits came with.
func (t *txn) admitNewRun(setBy int64, limits []store.Limit, flags int) (any, error) {
	if t.limiters.deferred {
		return 0, nil
	}
	limiters := make([]*limiter, len(limits))
	need := make([]*store.Limit, len(limits))
	for i := range limits {
		lim, err := t.useLimiter(&limits[i], setBy)
		if err != nil {
			return nil, err
		}
		limiters[i], need[i] = lim, &limits[i]
		if lim.rate && lim.bucket.Burst < limits[i].Units && !lim.bucket.Unlimited() {
			return nil, fmt.Errorf("rate limit %s: %d units, but its burst is %d: %w", lim, limits[i].Units, lim.bucket.Burst, errUnits)
		}
	}
	if flags&flagWorkflow != 0 {
		t.limiters.unadmitted = true // it begins once it is admitted
		return 0, nil
	}
	for _, lim := range limiters {
		if !lim.rate && lim.strategy >= store.StrategyCancelInProgress {
			t.limiters.unadmitted = true
			return 0, nil
		}
	}
	for i, lim := range limiters {
		if lim.allows(need[i], millis(t.now)) && lim.waiting == 0 {
			continue
		}
		lim.waiting++
		lim.recheck = true
		t.touch(lim)
		t.countAdmitted(limiters[:i])
		return lim.id, nil
	}
	return nil, t.takeShares(0, 0, limiters, need)
}

// Runs that have not come to their limiters, because they came in an app's transaction or in a
// bulk, have limiter 0, or their lane's negative number.
var (
	unadmittedAtSQL = selectDistinct("limiter", "stint_runs WHERE "+stateQueued+" AND limiter <= 0")

	unadmittedSQL = `SELECT id, state, limiter, flags, lease, limits, ` + enqueueKeySQL + ` FROM stint_runs r
WHERE limiter = ? AND ` + stateQueued + ` ORDER BY lane, rank, turn, id LIMIT ?`
)

// admitUnadmitted takes such runs to their limiters, a bounded number in a transaction.
func (t *txn) admitUnadmitted() error {
	c := t.limiters
	if !c.unadmitted {
		return nil
	}
	at, err := column[int64](t, unadmittedAtSQL)
	if err != nil {
		return err
	}
	c.unadmitted = false
	for _, limiter := range slices.Backward(at) {
		if limiter < 0 {
			if l, err := t.laneByID(-limiter); err != nil {
				return err
			} else if l == nil || l.staged {
				continue
			}
		}
		rows, err := rowsOf(t, func(m *transition) []any {
			return []any{&m.key, &m.after.state, &m.after.limiter, &m.after.flags, &m.after.lease, &m.limits, &m.setBy}
		}, unadmittedSQL, limiter, perAdmit)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := t.forRun(rows[i].key, func() error { return t.applyTransition(&rows[i]) }); err != nil {
				return err
			}
		}
		if len(rows) == perAdmit {
			c.unadmitted = true
			t.timers.add(t.now)
		}
	}
	return nil
}
