package sqlite

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/stint-dev/stint/store"
)

// perAdmit is how many runs that wait for a limiter one transaction looks at.
const perAdmit = 256

// admitAll admits runs that wait for limiters which may admit some now.
func (t *txn) admitAll() error {
	if err := t.openDueLimiters(); err != nil {
		return err
	}
	for {
		var open []*limiter
		for _, lim := range t.limiters.dirty {
			if lim.recheck {
				open = append(open, lim)
			}
		}
		if len(open) == 0 {
			return nil
		}
		// Where few wait first: of runs that wait for a share of many and for their own
		// key's, these are the ones whose key has just come free.
		slices.SortStableFunc(open, func(a, b *limiter) int { return cmp.Compare(a.waiting, b.waiting) })
		for _, lim := range open {
			lim.recheck = false
			if err := t.admitWaiting(lim); err != nil {
				return err
			}
		}
	}
}

// openDueLimiters marks the limiters that may admit runs by now, for admitAll.
func (t *txn) openDueLimiters() error {
	if t.timers.next > t.now {
		return nil
	}
	ids, err := column[int64](t, "SELECT id FROM stint_limiters WHERE wake_at IS NOT NULL AND wake_at <= ? ORDER BY wake_at LIMIT ?",
		t.now, perTimers)
	if err != nil {
		return err
	}
	for _, id := range ids {
		lim, err := t.limiterByID(id)
		if err != nil {
			return err
		}
		lim.recheck = true
		t.touch(lim)
	}
	return nil
}

// admitWaiting admits the runs that wait for a limiter, in order, as many as it allows. One that has
// to wait for another of its limiters moves there.
func (t *txn) admitWaiting(lim *limiter) error {
	lim.wakeAt = never
	if err := t.recall(lim); err != nil {
		return err
	}
	for looked := 0; lim.waiting > 0; looked++ {
		if looked == perAdmit {
			lim.wakeAt = t.now // the next transaction continues
			break
		}
		if lim.paused || !lim.rate && !lim.allows(nil, millis(t.now)) {
			break
		}
		if passed, err := t.admitHead(lim); err != nil {
			return err
		} else if passed {
			continue
		}
		m, err := t.firstWaiting(lim.id)
		if errors.Is(err, sql.ErrNoRows) {
			lim.waiting = 0
			break
		}
		if err != nil {
			return err
		}
		limits, err := t.limitsOf(m.limits)
		if err != nil {
			return err
		}
		var stop bool
		err = t.forRun(m.key, func() (err error) {
			stop, err = t.tryAdmit(lim, m, limits)
			return err
		})
		if err != nil || stop {
			return err
		}
	}
	t.touch(lim)
	if lim.wakeAt != never {
		t.timers.add(lim.wakeAt)
	}
	return nil
}

const (
	// admittedSQL reads the admitted runs that have not started, the last first.
	admittedSQL = `
SELECT id, state, limiter, flags, lease, limits FROM stint_runs WHERE limiter IS NULL AND ` + stateQueued + ` AND limits IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM stint_transitions WHERE run = id) ORDER BY lane DESC, rank DESC, turn DESC, id DESC`

	// setFirstSQL makes a run the first that waits for a limiter.
	setFirstSQL = `UPDATE stint_runs SET limiter = ?2, rank = min(rank, coalesce(
  (SELECT x.rank - 1 FROM stint_runs x WHERE x.limiter = ?2 AND x.` + stateQueued + ` AND x.lane = stint_runs.lane
  ORDER BY x.rank LIMIT 1), rank)) WHERE id = ?1`
)

// overdrawn reports whether lim has admitted more runs that have not started than it allows.
func (lim *limiter) overdrawn() bool {
	if lim.rate {
		return !lim.bucket.Unlimited() && float64(lim.active) > lim.bucket.Tokens
	}
	return lim.admitted > 0 && lim.active > lim.max
}

// recall moves the runs that lim has admitted, and that have not started, back to it if its settings
// were lowered below what it has promised them (R4). Those that may start are admitted again at
// once, in order.
func (t *txn) recall(lim *limiter) error {
	lowered := lim.lowered
	if lim.lowered = false; !lowered || !lim.overdrawn() {
		return nil
	}
	rows, err := rowsOf(t, func(m *transition) []any {
		return []any{&m.key, &m.before.state, &m.before.limiter, &m.before.flags, &m.before.lease, &m.limits}
	}, admittedSQL)
	if err != nil {
		return err
	}
	set := setLimiterSQL
	if lim.inTurns() {
		set = setFirstSQL // its turn gave it a rank behind those that wait
	}
	for i := range rows {
		m := &rows[i]
		limits, err := t.limitsOf(m.limits)
		if err != nil {
			continue // it is blocked when it is met
		}
		at := slices.IndexFunc(limits, func(l store.Limit) bool { return l.Rate() == lim.rate && l.Name == lim.name && l.Key == lim.key })
		if at < 0 || m.before.holds(&limits[at]) != isAdmitted {
			continue
		}
		m.after = m.before
		m.after.limiter = &lim.id
		lim.waiting++
		err = t.forRun(m.key, func() error {
			if err := t.exec(set, m.key, lim.id); err != nil {
				return err
			}
			return t.applyTransition(m)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// waitingLanesSQL reads the lanes of the runs that wait for a limiter. Nearly always there is one.
var waitingLanesSQL = selectDistinct("lane", "stint_runs WHERE limiter = ?1 AND "+stateQueued)

// firstWaiting reads the next run that waits for a limiter.
func (t *txn) firstWaiting(limiter int64) (first *transition, err error) {
	lanes, err := column[int64](t, waitingLanesSQL, limiter)
	if err != nil {
		return nil, err
	}
	var at position
	for _, lane := range lanes {
		var p position
		var m transition
		err := t.one("SELECT rank, turn, id, flags, limits, "+enqueueKeySQL+" FROM stint_runs r WHERE limiter = ? AND lane = ? "+
			"AND "+stateQueued+" ORDER BY rank, turn, id LIMIT 1",
			[]any{limiter, lane}, &p.rank, &p.turn, &m.key, &m.after.flags, &m.limits, &m.setBy)
		if err != nil {
			return nil, err
		}
		if p.id = m.key; first == nil || comparePositions(p, at) < 0 {
			first, at = &m, p
		}
	}
	if first == nil {
		return nil, sql.ErrNoRows
	}
	return first, nil
}

// tryAdmit admits the first run that waits for lim, or moves it to another of its limiters. stop
// reports that it still has to wait for lim.
func (t *txn) tryAdmit(lim *limiter, m *transition, limits []store.Limit) (stop bool, err error) {
	key, flags := m.key, m.after.flags
	var limiters []*limiter
	var need []*store.Limit
	now := millis(t.now)
	for i := range limits {
		l := &limits[i]
		if flags&flagResumed != 0 && (l.Rate() || !l.Release) {
			continue
		}
		x, err := t.useLimiter(l, m.setBy)
		if err != nil {
			return false, err
		}
		if x == lim && !lim.allows(l, now) {
			if at := lim.bucket.Ready(float64(lim.active) + float64(l.Units)); lim.rate && !at.IsZero() {
				lim.wakeAt = max(ceilMillis(at), t.now+1)
				t.timers.add(lim.wakeAt)
			}
			t.touch(lim)
			return true, nil
		}
		limiters, need = append(limiters, x), append(need, l)
	}
	at := slices.Index(limiters, lim)
	if at < 0 {
		return false, fmt.Errorf("it waits at %s, which is none of its limiters", lim)
	}
	for i, x := range limiters {
		switch {
		case i < at && !x.rate && x.active < x.max && !x.paused, i == at, (i > at || x.rate) && x.allows(need[i], now) &&
			(!x.rate || x.waiting == 0):
			continue
		}
		return false, t.moveToLimiter(key, limiters, at, i)
	}
	lim.waiting--
	for _, x := range limiters[:at] {
		if !x.rate {
			x.admitted-- // takeShares counts it
		}
	}
	if err := t.takeShares(key, flags, limiters, need); err != nil || flags&flagWorkflow != 0 {
		return false, err
	}
	t.claims.recheck = true
	if lim.inTurns() {
		return false, t.exec(nextTurnSQL, key, t.now, t.nextKey(t.now), nil)
	}
	return false, t.exec(setLimiterSQL, key, nil)
}

// moveToLimiter moves a run from the limiter that it waits for to another of its limiters. Those
// before that count it as admitted.
func (t *txn) moveToLimiter(key int64, limiters []*limiter, from, to int) error {
	limiters[from].waiting--
	x := limiters[to]
	x.waiting++
	x.recheck = x.recheck || x.rate
	t.touch(x)
	if from < to && t.countAdmitted(limiters[from:to]) {
		return t.exec(nextTurnSQL, key, t.now, t.nextKey(t.now), x.id)
	}
	for i := to; i < from; i++ {
		if lim := limiters[i]; !lim.rate {
			lim.admitted = max(lim.admitted-1, 0)
			lim.recheck = true
			t.touch(lim)
		}
	}
	return t.exec(setLimiterSQL, key, x.id)
}

// Making a run ready, or changing the limiter that it waits for. If keys take turns, the run goes
// behind those of other keys whose turn came before.
const (
	setLimiterSQL = "UPDATE stint_runs SET limiter = ?2 WHERE id = ?1"

	turnSet = `UPDATE stint_runs SET limiter = ?4, rank = max(?2, ` + dueTime + `) - ` + dueTime + ` + rank,
  due_at = max(?2, ` + dueTime + `), turn = ?3 WHERE `
	nextTurnSQL = turnSet + "id = ?1"

	// onlyHeadSQL picks the first run that waits for a limiter, if all that wait for it are in one
	// lane and the run has no other limit, and is neither a workflow's nor resumed.
	onlyHeadSQL = `id = (SELECT id FROM stint_runs r WHERE limiter = ?1 AND ` + stateQueued + `
    AND NOT EXISTS (SELECT 1 FROM stint_runs x WHERE x.limiter = ?1 AND x.` + stateQueued + ` AND x.lane > r.lane)
    ORDER BY lane, rank, turn, id LIMIT 1) AND flags & 6 = 0 AND instr(limits, '},{') = 0 AND lane = ?`
	admitHeadSQL     = "UPDATE stint_runs SET limiter = NULL WHERE " + onlyHeadSQL + "2"
	admitHeadTurnSQL = turnSet + onlyHeadSQL + "5"

	waitingLaneSQL = "SELECT lane FROM stint_runs WHERE limiter = ? AND " + stateQueued + " ORDER BY lane LIMIT 1"
)

// admitHead is the usual case of tryAdmit, in one statement. The lane is known from the limiter, or
// probably that of the last admitted run.
func (t *txn) admitHead(lim *limiter) (passed bool, err error) {
	if lim.rate {
		return false, nil // its row says how many units it needs
	}
	lane := lim.lane
	if lane == 0 {
		lane = t.limiters.lane
	}
	n, err := t.admitHeadIn(lim, lane)
	if n == 0 && err == nil && lim.lane == 0 {
		err = t.one(waitingLaneSQL, []any{lim.id}, &lim.lane)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		if err == nil && lim.lane != lane {
			lane = lim.lane
			n, err = t.admitHeadIn(lim, lane)
		}
	}
	if err != nil || n == 0 {
		lim.lane = 0 // others may wait in other lanes now
		return false, err
	}
	lim.lane, t.limiters.lane = lane, lane
	lim.waiting--
	lim.active++
	lim.admitted++
	t.touch(lim)
	t.claims.recheck = true
	return true, nil
}

// admitHeadIn admits the first run that waits for a limiter, if all that wait are in this lane.
func (t *txn) admitHeadIn(lim *limiter, lane int64) (int64, error) {
	switch {
	case lane == 0:
		return 0, nil
	case lim.strategy == store.StrategyGroupRoundRobin:
		return t.execN(admitHeadTurnSQL, lim.id, t.now, t.nextKey(t.now), nil, lane)
	}
	return t.execN(admitHeadSQL, lim.id, lane)
}
