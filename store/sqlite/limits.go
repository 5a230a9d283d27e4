package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
)

// What a run has of a gate.
type hold uint8

const (
	holdsNothing hold = iota
	hasTurn           // of a concurrency limit: it waits at a later gate
	hasPassed         // it is ready
	holdsShare        // it has started
)

// What each hold counts for at a concurrency limit's gate.
var (
	headsOf  = [...]int64{hasTurn: 1, hasPassed: 1, holdsShare: 0}
	activeOf = [...]int64{hasTurn: 0, hasPassed: 1, holdsShare: 1}
)

// A standing is what of a run's row says what it holds.
type standing struct {
	state store.State
	gate  *int64
	flags int64
	lease int64
}

const flagResumed = 4

func (s *standing) ready() bool { return s.state == store.Queued && s.gate == nil }

// holds says what a run that stands so has of a limit's gate.
func (s *standing) holds(l *store.Limit) hold {
	resumed := s.flags&flagResumed != 0
	switch {
	case l.Rate() && (!s.ready() || resumed):
		return holdsNothing
	case s.ready() && resumed && !l.Release:
		return holdsShare
	case s.ready():
		return hasPassed
	case s.state == store.Queued && resumed && !l.Release: // it waits for a share that it gave up of another
		return holdsShare
	case s.state == store.Running, s.state == store.Waiting && s.lease > 0 && !l.Release:
		return holdsShare
	}
	return holdsNothing
}

// A moved is a run whose state has changed.
type moved struct {
	key           int64
	before, after standing
	limits        string
	used          int64 // key of the enqueue that its limits came with, if it wants to pass
}

// usedSQL is the key of the enqueue that a run's limits came with: of a workflow's task, the
// workflow's. A fork's are as old as what it was made of, so it sets nothing.
const usedSQL = "CASE WHEN r.flags & 8 THEN 0 WHEN r.node IS NULL OR r.flags & 2 THEN r.id ELSE r.parent END"

const movedSQL = `
SELECT m.run, m.state, m.gate, m.flags, m.lease, r.state, r.gate, r.flags, r.lease, r.limits,
  CASE WHEN r.state <> 3 OR m.state = 3 THEN 0 ELSE ` + usedSQL + ` END
FROM stint_moves m CROSS JOIN stint_runs r ON r.id = m.run ORDER BY m.run`

// reconcile brings the gates up to date with the states of their runs, and lets runs
// pass that now can.
func (t *txn) reconcile() error {
	used, err := t.gated()
	if !used || err != nil {
		return err
	}
	if err := t.nodes.flush(t); err != nil {
		return err
	}
	for first := true; ; first = false { // a run that passes, or is canceled, may move others
		rows, err := rowsOf(t, func(m *moved) []any {
			return []any{&m.key, &m.before.state, &m.before.gate, &m.before.flags, &m.before.lease,
				&m.after.state, &m.after.gate, &m.after.flags, &m.after.lease, &m.limits, &m.used}
		}, movedSQL)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			if err := t.exec("DELETE FROM stint_moves"); err != nil {
				return err
			}
		}
		for i := range rows {
			if err := t.of(rows[i].key, func() error { return t.adjust(&rows[i]) }); err != nil {
				return err
			}
		}
		if first { // after what has started took its units: figures of newcomers may cut them
			if err := t.admitNew(); err != nil {
				return err
			}
		}
		if err := t.pumpAll(); err != nil {
			return err
		}
		if err := t.nodes.flush(t); err != nil {
			return err
		}
		if len(rows) > 0 {
			continue
		}
		if again, err := t.checkGates(); !again || err != nil {
			return err
		}
	}
}

// Runs that nobody has led to their gates yet, because they came in an app's
// transaction, or in a bulk, stand at gate 0, or at their lane's number below it.
const (
	newGatesSQL = `
WITH RECURSIVE found (v) AS (
  SELECT (SELECT gate FROM stint_runs WHERE state = 3 AND gate <= 0 ORDER BY gate DESC LIMIT 1)
  UNION ALL
  SELECT (SELECT gate FROM stint_runs WHERE state = 3 AND gate < found.v ORDER BY gate DESC LIMIT 1) FROM found WHERE found.v IS NOT NULL)
SELECT v FROM found WHERE v IS NOT NULL`

	newRunsSQL = `SELECT id, state, gate, flags, lease, limits, ` + usedSQL + ` FROM stint_runs r WHERE gate = ? AND state = 3 ORDER BY lane, rank, turn, id LIMIT ?`
)

// admitNew leads such runs to their gates, so many in a transaction.
func (t *txn) admitNew() error {
	c := t.gates
	if !c.newcomers {
		return nil
	}
	at, err := column[int64](t, newGatesSQL)
	if err != nil {
		return err
	}
	c.newcomers = false
	for _, gate := range at {
		if gate < 0 {
			if l, err := t.laneByID(-gate); err != nil {
				return err
			} else if l == nil || l.staged {
				continue
			}
		}
		rows, err := rowsOf(t, func(m *moved) []any {
			return []any{&m.key, &m.after.state, &m.after.gate, &m.after.flags, &m.after.lease, &m.limits, &m.used}
		}, newRunsSQL, gate, perPump)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := t.of(rows[i].key, func() error { return t.adjust(&rows[i]) }); err != nil {
				return err
			}
		}
		if len(rows) == perPump {
			c.newcomers, t.newDue = true, t.now
		}
	}
	return nil
}

func (t *txn) limitsOf(text string) ([]store.Limit, error) {
	if ls, ok := t.gates.limits[text]; ok {
		return ls, nil
	}
	ls, err := store.DecodeLimits([]byte(text))
	if err == nil {
		if len(t.gates.limits) >= maxGates {
			clear(t.gates.limits)
		}
		t.gates.limits[text] = ls
	}
	return ls, err
}

// adjust does for one run what its change of state asks for.
func (t *txn) adjust(m *moved) error {
	limits, err := t.limitsOf(m.limits)
	if err != nil {
		return t.exec("UPDATE stint_runs SET state = 6, gate = NULL, error = ?2 WHERE id = ?1 AND state = 3", m.key, failureJSON(store.KindCondition, err.Error()))
	}
	if g := m.before.gate; m.before.state == store.Queued && g != nil && *g > 0 && (m.after.state != store.Queued || m.after.gate == nil || *m.after.gate != *g) {
		if err := t.unpark(*g); err != nil {
			return err
		}
	}
	wants := m.after.state == store.Queued && m.before.state != store.Queued
	turnsBefore, err := t.turns(&m.before, limits)
	if err != nil {
		return err
	}
	turnsAfter, err := t.turns(&m.after, limits)
	if err != nil {
		return err
	}
	var need []*store.Limit
	for i := range limits {
		l := &limits[i]
		before, after := m.before.holds(l), m.after.holds(l)
		if turnsBefore[l] {
			before = hasTurn
		}
		if turnsAfter[l] {
			after = hasTurn
		}
		if wants && !(m.after.flags&flagResumed != 0 && (l.Rate() || !l.Release)) {
			after, need = holdsNothing, append(need, l)
		}
		if err := t.shift(l, before, after, m.after.state == store.Running); err != nil {
			return err
		}
	}
	if !wants || len(need) == 0 && m.after.gate == nil {
		return nil
	}
	at, err := t.pass(m, need)
	if err != nil || at < 0 {
		return err
	}
	return t.place(m.key, at)
}

// shift changes what a gate has given to a run.
func (t *txn) shift(l *store.Limit, before, after hold, started bool) error {
	if before == after {
		return nil
	}
	g, err := t.gateOf(l)
	if errors.Is(err, store.ErrNotFound) {
		return nil // a rate limit that somebody deleted by hand
	}
	if err != nil {
		return err
	}
	t.touch(g)
	if g.rate {
		g.active = max(g.active-int64(l.Units), 0) // it had passed
		if g.open = true; started {                // who waits may be told when
			g.bucket.Fill(millis(t.now))
			g.bucket.Tokens -= float64(l.Units)
		}
		return nil
	}
	g.heads = max(g.heads+headsOf[after]-headsOf[before], 0)
	g.active = max(g.active+activeOf[after]-activeOf[before], 0)
	g.open = true
	return nil
}

// turns are the concurrency limits whose turn a run has that stands at the gate of a later one,
// whatever their strategies: these may change meanwhile.
func (t *txn) turns(s *standing, limits []store.Limit) (map[*store.Limit]bool, error) {
	if s.state != store.Queued || s.gate == nil || *s.gate <= 0 || len(limits) < 2 {
		return nil, nil
	}
	has := map[*store.Limit]bool{}
	for i := range limits {
		l := &limits[i]
		if s.flags&flagResumed != 0 && (l.Rate() || !l.Release) {
			continue
		}
		g, err := t.gateOf(l)
		if err != nil {
			return nil, err
		}
		if g.id == *s.gate {
			return has, nil
		}
		has[l] = !g.rate
	}
	return nil, nil
}

// inTurns reports whether the gate's keys take turns.
func (g *gate) inTurns() bool { return !g.rate && g.strategy == store.StrategyGroupRoundRobin }

// takeTurns counts a run that will stand at a later gate as one of these, and reports whether the
// keys of one take turns.
func (t *txn) takeTurns(gates []*gate) (some bool) {
	for _, g := range gates {
		if !g.rate {
			g.heads++
			t.touch(g)
			some = some || g.inTurns()
		}
	}
	return some
}

// place stores where a run stands: at a gate, or ready.
func (t *txn) place(key, gate int64) error {
	var at any
	if gate > 0 {
		at = gate
	} else if t.w != nil {
		t.w.recheck = true
	}
	return t.exec(standSQL, key, at)
}

func (t *txn) unpark(id int64) error {
	g, err := t.gateByID(id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil && g.parked > 0 {
		g.parked--
		t.touch(g)
	}
	return err
}

// lets reports whether a gate lets a run with that limit pass now.
func (g *gate) lets(l *store.Limit, now time.Time) bool {
	if g.paused {
		return false
	}
	if g.rate {
		g.bucket.Fill(now)
		return g.bucket.Unlimited() || g.bucket.Tokens-float64(g.active) >= float64(l.Units)
	}
	return g.active < g.max && (!g.inTurns() || g.heads == 0)
}

// pass lets a run through all gates, and returns 0; or has it wait at one, and returns
// that; or cancels it, and returns -1.
func (t *txn) pass(m *moved, need []*store.Limit) (int64, error) {
	gates := make([]*gate, len(need))
	for i, l := range need {
		g, err := t.useGate(l, m.used)
		if errors.Is(err, store.ErrNotFound) {
			return -1, t.exec("UPDATE stint_runs SET state = 6, gate = NULL, error = ?2 WHERE id = ?1 AND state = 3", m.key, failureJSON(store.KindCondition, err.Error()))
		}
		if err != nil {
			return 0, err
		}
		gates[i] = g
		if g.strategy == store.StrategyCancelInProgress && !g.rate {
			if err := t.exec("INSERT OR IGNORE INTO stint_members (gate, run) VALUES (?, ?)", g.id, m.key); err != nil {
				return 0, err
			}
		}
	}
	for i, g := range gates {
		if g.lets(need[i], millis(t.now)) && g.parked == 0 {
			continue
		}
		switch {
		case g.strategy == store.StrategyCancelNewest && m.after.lease == 0 && !g.paused:
			_, err := t.cancel(m.key, t.now, failureJSON("canceled", fmt.Sprintf("concurrency limit %s is used up: %d at once", g, g.max)))
			return -1, err
		case g.strategy == store.StrategyCancelInProgress:
			g.parked++
			t.touch(g)
			t.takeTurns(gates[:i])
			if err := t.place(m.key, g.id); err != nil {
				return 0, err
			}
			return -1, t.cancelOlder(g)
		}
		g.parked++
		g.open = true // those that waited before it may pass now
		t.touch(g)
		t.takeTurns(gates[:i])
		return g.id, nil
	}
	return 0, t.takeAll(m.key, m.after.flags, gates, need)
}

// String names a gate.
func (g *gate) String() string {
	name := fmt.Sprintf("%q", g.name)
	if g.rate {
		return fmt.Sprintf("%q", g.key)
	}
	if g.key != "" {
		name += fmt.Sprintf(" (key %q)", g.key)
	}
	return name
}

// takeAll takes a run's shares. A workflow's run begins with that.
func (t *txn) takeAll(key, flags int64, gates []*gate, limits []*store.Limit) error {
	for i, g := range gates {
		t.touch(g)
		switch {
		case g.rate && flags&flagFlow != 0:
			g.bucket.Tokens -= float64(limits[i].Units)
		case g.rate:
			g.active += int64(limits[i].Units)
		case flags&flagFlow != 0:
			g.active++
		default:
			g.active++
			g.heads++
		}
	}
	if flags&flagFlow == 0 {
		return nil
	}
	return t.of(key, func() error { return t.beginPassed(key) })
}

// beginPassed begins a workflow's run that has passed its gates.
func (t *txn) beginPassed(key int64) error {
	var node int64
	err := t.one("UPDATE stint_runs SET state = 4, worker = 0, started_at = ?2, gate = NULL WHERE id = ?1 RETURNING node", []any{key, t.now}, &node)
	if err != nil {
		return err
	}
	if err := t.exec("DELETE FROM stint_moves WHERE run = ?", key); err != nil { // taken already
		return err
	}
	return t.begin(key, node, t.now)
}

// cancelOlder cancels the runs of a gate that are not among its best: by priority, then
// the newest.
func (t *txn) cancelOlder(g *gate) error {
	if err := t.exec("DELETE FROM stint_members WHERE gate = ? AND NOT EXISTS (SELECT 1 FROM stint_runs WHERE id = run AND state < 7)", g.id); err != nil {
		return err
	}
	keys, err := column[int64](t, `SELECT r.id FROM stint_members m CROSS JOIN stint_runs r ON r.id = m.run
		WHERE m.gate = ? AND r.state >= 3 AND r.state <= 5 AND r.cancel_at IS NULL ORDER BY r.priority DESC, r.id DESC LIMIT -1 OFFSET ?`, g.id, g.max)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, err := t.cancel(key, t.now, failureJSON("canceled", fmt.Sprintf("concurrency limit %s: a newer run came", g))); err != nil {
			return err
		}
	}
	return nil
}

var errUnits = errors.New("it could never start")

// admit finds out where a new run stands, whose row is not there yet: what goes into its
// column gate. used is the key of the enqueue that the limits came with.
func (t *txn) admit(used int64, limits []store.Limit, flags int) (any, error) {
	if t.w == nil {
		return 0, nil // the writer does it, after the app's commit
	}
	gates := make([]*gate, len(limits))
	need := make([]*store.Limit, len(limits))
	for i := range limits {
		g, err := t.useGate(&limits[i], used)
		if err != nil {
			return nil, err
		}
		gates[i], need[i] = g, &limits[i]
		if g.rate && g.bucket.Burst < limits[i].Units && !g.bucket.Unlimited() {
			return nil, fmt.Errorf("rate limit %s: %d units, but its burst is %d: %w", g, limits[i].Units, g.bucket.Burst, errUnits)
		}
	}
	if flags&flagFlow != 0 {
		t.gates.newcomers = true // it begins when it has passed
		return 0, nil
	}
	for _, g := range gates {
		if !g.rate && g.strategy >= store.StrategyCancelInProgress {
			t.gates.newcomers = true
			return 0, nil
		}
	}
	for i, g := range gates {
		if g.lets(need[i], millis(t.now)) && g.parked == 0 {
			continue
		}
		g.parked++
		g.open = true
		t.touch(g)
		t.takeTurns(gates[:i])
		return g.id, nil
	}
	return nil, t.takeAll(0, 0, gates, need)
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
func (f *flow) taskLimits(place int) (any, []store.Limit, error) {
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
