package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// What a run has of a limiter.
type holding uint8

const (
	holdsNothing holding = iota
	holdsTurn            // of a concurrency limit: it waits at a later limiter
	isAdmitted           // it is ready
	holdsShare           // it has started
)

// What each hold counts for at a concurrency limit's limiter.
var (
	admittedOf = [...]int64{holdsTurn: 1, isAdmitted: 1, holdsShare: 0}
	activeOf   = [...]int64{holdsTurn: 0, isAdmitted: 1, holdsShare: 1}
)

// A limitState is what of a run's row says what it holds.
type limitState struct {
	state   store.State
	limiter *int64
	flags   int64
	lease   int64
}

const flagResumed = 4

func (s *limitState) ready() bool { return s.state == store.Queued && s.limiter == nil }

// holds says what a run that stands so has of a limit's limiter.
func (s *limitState) holds(l *store.Limit) holding {
	resumed := s.flags&flagResumed != 0
	switch {
	case l.Rate() && (!s.ready() || resumed):
		return holdsNothing
	case s.ready() && resumed && !l.Release:
		return holdsShare
	case s.ready():
		return isAdmitted
	case s.state == store.Queued && resumed && !l.Release: // it waits for a share that it gave up of another
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
	setBy         int64 // key of the enqueue that its limits came with, if it wants to pass
}

// enqueueKeySQL is the key of the enqueue that a run's limits came with: of a workflow's task, the
// workflow's. A fork's are as old as what it was made of, so it sets nothing.
const enqueueKeySQL = "CASE WHEN r.flags & 8 THEN 0 WHEN r.node IS NULL OR r.flags & 2 THEN r.id ELSE r.parent END"

const transitionsSQL = `
SELECT m.run, m.state, m.limiter, m.flags, m.lease, r.state, r.limiter, r.flags, r.lease, r.limits,
  CASE WHEN r.` + notQueued + ` OR m.` + stateQueued + ` THEN 0 ELSE ` + enqueueKeySQL + ` END
FROM stint_transitions m CROSS JOIN stint_runs r ON r.id = m.run ORDER BY m.run`

// reconcile brings the limiters up to date with the states of their runs, and lets runs
// pass that now can.
func (t *txn) reconcile() error {
	used, err := t.usesLimits()
	if !used || err != nil {
		return err
	}
	if err := t.workflows.nodes.flush(t); err != nil {
		return err
	}
	for first := true; ; first = false { // a run that passes, or is canceled, may move others
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
		if first { // after what has started took its units: settings of new ones may cut them
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

// Runs that nobody has led to their limiters yet, because they came in an app's
// transaction, or in a bulk, stand at limiter 0, or at their lane's number below it.
var (
	unadmittedAtSQL = selectDistinct("limiter", "stint_runs WHERE "+stateQueued+" AND limiter <= 0")

	unadmittedSQL = `SELECT id, state, limiter, flags, lease, limits, ` + enqueueKeySQL + ` FROM stint_runs r
WHERE limiter = ? AND ` + stateQueued + ` ORDER BY lane, rank, turn, id LIMIT ?`
)

// admitUnadmitted leads such runs to their limiters, so many in a transaction.
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

// applyTransition does for one run what its change of state asks for.
func (t *txn) applyTransition(m *transition) error {
	limits, err := t.limitsOf(m.limits)
	if err != nil {
		return t.exec("UPDATE stint_runs SET "+stateBlocked+", limiter = NULL, error = ?2 WHERE id = ?1 AND "+stateQueued, m.key, failureJSON(store.KindCondition, err.Error()))
	}
	if g := m.before.limiter; m.before.state == store.Queued && g != nil && *g > 0 && (m.after.state != store.Queued || m.after.limiter == nil || *m.after.limiter != *g) {
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

// updateCounts changes what a limiter has given to a run.
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
		lim.active = max(lim.active-int64(l.Units), 0) // it had passed
		if lim.recheck = true; started {               // who waits may be told when
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

// admittedAt are the concurrency limits whose turn a run has that stands at the limiter of a later one,
// whatever their strategies: these may change meanwhile.
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

// countAdmitted counts a run that will stand at a later limiter as one of these, and reports whether the
// keys of one take turns.
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

// setLimiter stores where a run stands: at a limiter, or ready.
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

// allows reports whether a limiter lets a run with that limit pass now.
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

// admitOrWait lets a run through all limiters, and returns 0; or has it wait at one, and returns
// that; or cancels it, and returns -1.
func (t *txn) admitOrWait(m *transition, need []*store.Limit) (int64, error) {
	limiters := make([]*limiter, len(need))
	for i, l := range need {
		lim, err := t.useLimiter(l, m.setBy)
		if errors.Is(err, store.ErrNotFound) {
			return -1, t.exec("UPDATE stint_runs SET "+stateBlocked+", limiter = NULL, error = ?2 WHERE id = ?1 AND "+stateQueued, m.key, failureJSON(store.KindCondition, err.Error()))
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
			_, err := t.cancel(m.key, t.now, failureJSON("canceled", fmt.Sprintf("concurrency limit %s is used up: %d at once", lim, lim.max)))
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
		lim.recheck = true // those that waited before it may pass now
		t.touch(lim)
		t.countAdmitted(limiters[:i])
		return lim.id, nil
	}
	return 0, t.takeShares(m.key, m.after.flags, limiters, need)
}

// String names a limiter.
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

// takeShares takes a run's shares. A workflow's run begins with that.
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

// beginAdmitted begins a workflow's run that has passed its limiters.
func (t *txn) beginAdmitted(key int64) error {
	var node int64
	err := t.one("UPDATE stint_runs SET "+stateRunning+", worker = 0, started_at = ?2, limiter = NULL WHERE id = ?1 RETURNING node", []any{key, t.now}, &node)
	if err != nil {
		return err
	}
	if err := t.exec("DELETE FROM stint_transitions WHERE run = ?", key); err != nil { // taken already
		return err
	}
	return t.beginWorkflow(key, node, t.now)
}

// cancelOlder cancels the runs of a limiter that are not among its best: by priority, then
// the newest.
func (t *txn) cancelOlder(lim *limiter) error {
	if err := t.exec("DELETE FROM stint_members WHERE limiter = ? AND NOT EXISTS (SELECT 1 FROM stint_runs WHERE id = run AND "+notEnded+")", lim.id); err != nil {
		return err
	}
	keys, err := column[int64](t, `SELECT r.id FROM stint_members m CROSS JOIN stint_runs r ON r.id = m.run
		WHERE m.limiter = ? AND r.`+sinceQueued+` AND r.`+upToWaiting+` AND r.cancel_at IS NULL ORDER BY r.priority DESC, r.id DESC LIMIT -1 OFFSET ?`, lim.id, lim.max)
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

// admitNewRun finds out where a new run stands, whose row is not there yet: what goes into its
// column limiter. setBy is the key of the enqueue that the limits came with.
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
		t.limiters.unadmitted = true // it begins when it has passed
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

// keepTaskLimits stores the limits of a workflow run's tasks.
func (t *txn) keepTaskLimits(run int64, limits map[int][]store.Limit) error {
	for place, ls := range limits {
		stored, err := t.storedLimits(ls)
		if err == nil && stored != nil {
			err = t.exec("INSERT INTO stint_task_limits (run, place, limits) VALUES (?, ?, ?)", run, place, stored)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// taskLimits are the limits of a task of a workflow's run, as they are stored.
func (f *workflowRun) taskLimits(place int) (any, []store.Limit, error) {
	if place >= len(f.Tasks) || !f.Tasks[place].Limited {
		return nil, nil, nil
	}
	var text string
	err := f.t.one("SELECT limits FROM stint_task_limits WHERE run = ? AND place = ?", []any{f.key, place}, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	ls, err := f.t.limitsOf(text)
	return text, ls, err
}
