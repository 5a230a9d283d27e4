package sqlite

import (
	"database/sql"
	"errors"

	"github.com/stint-dev/stint/store"
)

// A holding is what a run occupies of a limiter.
type holding uint8

const (
	holdsNothing holding = iota
	holdsTurn            // of a concurrency limit: it waits for a later limiter
	isAdmitted           // it is ready
	holdsShare           // it has started
)

// What each holding adds to the counts of a concurrency limit's limiter.
var (
	admittedOf = [...]int64{holdsTurn: 1, isAdmitted: 1, holdsShare: 0}
	activeOf   = [...]int64{holdsTurn: 0, isAdmitted: 1, holdsShare: 1}
)

// A limitState holds the columns that decide which limits a run occupies.
type limitState struct {
	state   store.State
	limiter *int64
	flags   int64
	lease   int64
}

const flagResumed = 4

func (s *limitState) ready() bool { return s.state == store.Queued && s.limiter == nil }

// holds returns what a run in this state occupies of a limit's limiter.
func (s *limitState) holds(l *store.Limit) holding {
	resumed := s.flags&flagResumed != 0
	switch {
	case l.Rate() && (!s.ready() || resumed):
		return holdsNothing
	case s.ready() && resumed && !l.Release:
		return holdsShare
	case s.ready():
		return isAdmitted
	case s.state == store.Queued && resumed && !l.Release: // it waits for another share, which it gave up
		return holdsShare
	case s.state == store.Running, s.state == store.Waiting && s.lease > 0 && !l.Release:
		return holdsShare
	}
	return holdsNothing
}

// A transition is a run whose state has changed.
type transition struct {
	key           int64
	before, after limitState
	limits        string
	setBy         int64 // key of the enqueue that its limits came with, if it has to be admitted
}

// enqueueKeySQL is the key of the enqueue that a run's limits came with: for a workflow's task, the
// workflow's. A fork has the limits of an older run, so it sets nothing.
const enqueueKeySQL = "CASE WHEN r.flags & 8 THEN 0 WHEN r.node IS NULL OR r.flags & 2 THEN r.id ELSE r.parent END"

const transitionsSQL = `
SELECT m.run, m.state, m.limiter, m.flags, m.lease, r.state, r.limiter, r.flags, r.lease, r.limits,
  CASE WHEN r.` + notQueued + ` OR m.` + stateQueued + ` THEN 0 ELSE ` + enqueueKeySQL + ` END
FROM stint_transitions m CROSS JOIN stint_runs r ON r.id = m.run ORDER BY m.run`

// reconcile updates the limiters after changes of their runs' states, and admits runs that may be
// admitted now.
func (t *txn) reconcile() error {
	used, err := t.usesLimits()
	if !used || err != nil {
		return err
	}
	if err := t.workflows.nodes.flush(t); err != nil {
		return err
	}
	for first := true; ; first = false { // an admitted or a canceled run may change others
		rows, err := rowsOf(t, func(m *transition) []any {
			return []any{&m.key, &m.before.state, &m.before.limiter, &m.before.flags, &m.before.lease,
				&m.after.state, &m.after.limiter, &m.after.flags, &m.after.lease, &m.limits, &m.setBy}
		}, transitionsSQL)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			if err := t.exec("DELETE FROM stint_transitions"); err != nil {
				return err
			}
		}
		for i := range rows {
			if err := t.forRun(rows[i].key, func() error { return t.applyTransition(&rows[i]) }); err != nil {
				return err
			}
		}
		if first { // after the started runs took their units: settings of new runs may cut them
			if err := t.admitUnadmitted(); err != nil {
				return err
			}
		}
		if err := t.admitAll(); err != nil {
			return err
		}
		if err := t.workflows.nodes.flush(t); err != nil {
			return err
		}
		if len(rows) > 0 {
			continue
		}
		if again, err := t.checkLimiters(); !again || err != nil {
			return err
		}
	}
}

func (t *txn) limitsOf(text string) ([]store.Limit, error) {
	if ls, ok := t.limiters.limits[text]; ok {
		return ls, nil
	}
	ls, err := store.DecodeLimits([]byte(text))
	if err == nil {
		if len(t.limiters.limits) >= maxLimiters {
			clear(t.limiters.limits)
		}
		t.limiters.limits[text] = ls
	}
	return ls, err
}

// applyTransition updates the limiters of one run, and takes it to them if it was queued.
func (t *txn) applyTransition(m *transition) error {
	limits, err := t.limitsOf(m.limits)
	if err != nil {
		return t.exec("UPDATE stint_runs SET "+stateBlocked+", limiter = NULL, error = ?2 WHERE id = ?1 AND "+stateQueued, m.key,
			failureJSON(store.KindCondition, err.Error()))
	}
	if g := m.before.limiter; m.before.state == store.Queued && g != nil && *g > 0 && (m.after.state != store.Queued ||
		m.after.limiter == nil || *m.after.limiter != *g) {
		if err := t.leaveLimiter(*g); err != nil {
			return err
		}
	}
	wants := m.after.state == store.Queued && m.before.state != store.Queued
	turnsBefore, err := t.admittedAt(&m.before, limits)
	if err != nil {
		return err
	}
	turnsAfter, err := t.admittedAt(&m.after, limits)
	if err != nil {
		return err
	}
	var need []*store.Limit
	for i := range limits {
		l := &limits[i]
		before, after := m.before.holds(l), m.after.holds(l)
		if turnsBefore[l] {
			before = holdsTurn
		}
		if turnsAfter[l] {
			after = holdsTurn
		}
		if wants && !(m.after.flags&flagResumed != 0 && (l.Rate() || !l.Release)) {
			after, need = holdsNothing, append(need, l)
		}
		if err := t.updateCounts(l, before, after, m.after.state == store.Running); err != nil {
			return err
		}
	}
	if !wants || len(need) == 0 && m.after.limiter == nil {
		return nil
	}
	at, err := t.admitOrWait(m, need)
	if err != nil || at < 0 {
		return err
	}
	return t.setLimiter(m.key, at)
}

// updateCounts changes what a run occupies of a limiter.
func (t *txn) updateCounts(l *store.Limit, before, after holding, started bool) error {
	if before == after {
		return nil
	}
	lim, err := t.limiterOf(l)
	if errors.Is(err, store.ErrNotFound) {
		return nil // a rate limit that somebody deleted by hand
	}
	if err != nil {
		return err
	}
	t.touch(lim)
	if lim.rate {
		lim.active = max(lim.active-int64(l.Units), 0) // the run was admitted
		if lim.recheck = true; started {               // admitWaiting computes when the next one may start
			lim.bucket.Fill(millis(t.now))
			lim.bucket.Tokens -= float64(l.Units)
		}
		return nil
	}
	lim.admitted = max(lim.admitted+admittedOf[after]-admittedOf[before], 0)
	lim.active = max(lim.active+activeOf[after]-activeOf[before], 0)
	lim.recheck = true
	return nil
}

// admittedAt returns the concurrency limits before the one that a run waits for. They count it as
// admitted, whatever their strategies: these may change meanwhile.
func (t *txn) admittedAt(s *limitState, limits []store.Limit) (map[*store.Limit]bool, error) {
	if s.state != store.Queued || s.limiter == nil || *s.limiter <= 0 || len(limits) < 2 {
		return nil, nil
	}
	has := map[*store.Limit]bool{}
	for i := range limits {
		l := &limits[i]
		if s.flags&flagResumed != 0 && (l.Rate() || !l.Release) {
			continue
		}
		lim, err := t.limiterOf(l)
		if err != nil {
			return nil, err
		}
		if lim.id == *s.limiter {
			return has, nil
		}
		has[l] = !lim.rate
	}
	return nil, nil
}

// inTurns reports whether the limiter's keys take turns.
func (lim *limiter) inTurns() bool { return !lim.rate && lim.strategy == store.StrategyGroupRoundRobin }

// countAdmitted counts a run that waits for a later limiter as admitted by these, and reports whether
// the keys of one of them take turns.
func (t *txn) countAdmitted(limiters []*limiter) (some bool) {
	for _, lim := range limiters {
		if !lim.rate {
			lim.admitted++
			t.touch(lim)
			some = some || lim.inTurns()
		}
	}
	return some
}

// setLimiter stores the limiter that a run waits for, or 0: it is ready.
func (t *txn) setLimiter(key, limiter int64) error {
	var at any
	if limiter > 0 {
		at = limiter
	} else {
		t.claims.recheck = true
	}
	return t.exec(setLimiterSQL, key, at)
}

func (t *txn) leaveLimiter(id int64) error {
	lim, err := t.limiterByID(id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil && lim.waiting > 0 {
		lim.waiting--
		t.touch(lim)
	}
	return err
}
