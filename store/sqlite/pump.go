package sqlite

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/stint-dev/stint/store"
)

// perPump is how many runs that wait at a gate are looked at in one transaction.
const perPump = 256

// pumpAll lets runs pass at the gates that may have become open.
func (t *txn) pumpAll() error {
	if err := t.dueGates(); err != nil {
		return err
	}
	for {
		var open []*gate
		for _, g := range t.gates.dirty {
			if g.open {
				open = append(open, g)
			}
		}
		if len(open) == 0 {
			return nil
		}
		// Where few wait first: of runs that wait for a share of many and for their own
		// key's, these are the ones whose key has just come free.
		slices.SortStableFunc(open, func(a, b *gate) int { return cmp.Compare(a.parked, b.parked) })
		for _, g := range open {
			g.open = false
			if err := t.pump(g); err != nil {
				return err
			}
		}
	}
}

// dueGates opens the gates whose time has come.
func (t *txn) dueGates() error {
	if t.w == nil || t.w.nextDue > t.now {
		return nil
	}
	ids, err := column[int64](t, "SELECT id FROM stint_gates WHERE wake_at IS NOT NULL AND wake_at <= ? ORDER BY wake_at LIMIT ?", t.now, promoteAt)
	if err != nil {
		return err
	}
	for _, id := range ids {
		g, err := t.gateByID(id)
		if err != nil {
			return err
		}
		g.open = true
		t.touch(g)
	}
	return nil
}

// pump lets the runs that wait at a gate pass, in order, as far as they can. One that
// must wait for another of its gates waits there from now on.
func (t *txn) pump(g *gate) error {
	g.wakeAt = never
	if err := t.recall(g); err != nil {
		return err
	}
	for looked := 0; g.parked > 0; looked++ {
		if looked == perPump {
			g.wakeAt = t.now // and on, after others had their turn
			break
		}
		if g.paused || !g.rate && !g.lets(nil, millis(t.now)) {
			break
		}
		if passed, err := t.passAlone(g); err != nil {
			return err
		} else if passed {
			continue
		}
		m, err := t.firstParked(g.id)
		if errors.Is(err, sql.ErrNoRows) {
			g.parked = 0
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
		err = t.of(m.key, func() (err error) {
			stop, err = t.tryPass(g, m, limits)
			return err
		})
		if err != nil || stop {
			return err
		}
	}
	t.touch(g)
	if g.wakeAt != never {
		t.newDue = min(t.newDue, g.wakeAt)
	}
	return nil
}

const (
	// readySQL reads the runs that have passed all their gates and not started, the last first.
	readySQL = `
SELECT id, state, gate, flags, lease, limits FROM stint_runs WHERE gate IS NULL AND state = 3 AND limits IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM stint_moves WHERE run = id) ORDER BY lane DESC, rank DESC, turn DESC, id DESC`

	// firstSQL makes a run the first of those that wait at a gate.
	firstSQL = `UPDATE stint_runs SET gate = ?2, rank = min(rank, coalesce(
  (SELECT x.rank - 1 FROM stint_runs x WHERE x.gate = ?2 AND x.state = 3 AND x.lane = stint_runs.lane ORDER BY x.rank LIMIT 1), rank)) WHERE id = ?1`
)

// overdrawn reports whether more runs that have not started have passed g than it allows.
func (g *gate) overdrawn() bool {
	if g.rate {
		return !g.bucket.Unlimited() && float64(g.active) > g.bucket.Tokens
	}
	return g.heads > 0 && g.active > g.max
}

// recall moves the runs that have passed g, and have not started, back to it if its figures were
// lowered below what it promised them (R4). Those that may start pass again at once, in order.
func (t *txn) recall(g *gate) error {
	lowered := g.lowered
	if g.lowered = false; !lowered || !g.overdrawn() {
		return nil
	}
	rows, err := rowsOf(t, func(m *moved) []any {
		return []any{&m.key, &m.before.state, &m.before.gate, &m.before.flags, &m.before.lease, &m.limits}
	}, readySQL)
	if err != nil {
		return err
	}
	stand := standSQL
	if g.inTurns() {
		stand = firstSQL // its turn came, and gave it a rank behind those that wait
	}
	for i := range rows {
		m := &rows[i]
		limits, err := t.limitsOf(m.limits)
		if err != nil {
			continue // it is blocked when it is met
		}
		at := slices.IndexFunc(limits, func(l store.Limit) bool { return l.Rate() == g.rate && l.Name == g.name && l.Key == g.key })
		if at < 0 || m.before.holds(&limits[at]) != hasPassed {
			continue
		}
		m.after = m.before
		m.after.gate = &g.id
		g.parked++
		err = t.of(m.key, func() error {
			if err := t.exec(stand, m.key, g.id); err != nil {
				return err
			}
			return t.adjust(m)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// parkedLanesSQL skips from lane to lane of the runs that wait at a gate. Nearly always
// there is one.
const parkedLanesSQL = `
WITH RECURSIVE found (v) AS (
  SELECT (SELECT lane FROM stint_runs WHERE gate = ?1 AND state = 3 ORDER BY lane LIMIT 1)
  UNION ALL
  SELECT (SELECT lane FROM stint_runs WHERE gate = ?1 AND state = 3 AND lane > found.v ORDER BY lane LIMIT 1) FROM found WHERE found.v IS NOT NULL)
SELECT v FROM found WHERE v IS NOT NULL`

// firstParked reads the run that waits at a gate and is next.
func (t *txn) firstParked(gate int64) (first *moved, err error) {
	lanes, err := column[int64](t, parkedLanesSQL, gate)
	if err != nil {
		return nil, err
	}
	var at place
	for _, lane := range lanes {
		var p place
		var m moved
		err := t.one("SELECT rank, turn, id, flags, limits, "+usedSQL+" FROM stint_runs r WHERE gate = ? AND lane = ? AND state = 3 ORDER BY rank, turn, id LIMIT 1",
			[]any{gate, lane}, &p.rank, &p.turn, &m.key, &m.after.flags, &m.limits, &m.used)
		if err != nil {
			return nil, err
		}
		if p.id = m.key; first == nil || comparePlace(p, at) < 0 {
			first, at = &m, p
		}
	}
	if first == nil {
		return nil, sql.ErrNoRows
	}
	return first, nil
}

// tryPass lets the first run that waits at g pass, or moves it to another gate of its;
// stop says that it must wait at g.
func (t *txn) tryPass(g *gate, m *moved, limits []store.Limit) (stop bool, err error) {
	key, flags := m.key, m.after.flags
	var gates []*gate
	var need []*store.Limit
	now := millis(t.now)
	for i := range limits {
		l := &limits[i]
		if flags&flagResumed != 0 && (l.Rate() || !l.Release) {
			continue
		}
		x, err := t.useGate(l, m.used)
		if err != nil {
			return false, err
		}
		if x == g && !g.lets(l, now) {
			if at := g.bucket.Ready(float64(g.active) + float64(l.Units)); g.rate && !at.IsZero() {
				g.wakeAt = max(ceilMillis(at), t.now+1)
				t.newDue = min(t.newDue, g.wakeAt)
			}
			t.touch(g)
			return true, nil
		}
		gates, need = append(gates, x), append(need, l)
	}
	at := slices.Index(gates, g)
	if at < 0 {
		return false, fmt.Errorf("it waits at %s, which is none of its gates", g)
	}
	for i, x := range gates {
		switch {
		case i < at && !x.rate && x.active < x.max && !x.paused, i == at, (i > at || x.rate) && x.lets(need[i], now) && (!x.rate || x.parked == 0):
			continue
		}
		return false, t.standElsewhere(key, gates, at, i)
	}
	g.parked--
	for _, x := range gates[:at] {
		if !x.rate {
			x.heads-- // takeAll counts it
		}
	}
	if err := t.takeAll(key, flags, gates, need); err != nil || flags&flagFlow != 0 {
		return false, err
	}
	if t.w != nil {
		t.w.recheck = true
	}
	if g.inTurns() {
		return false, t.exec(nextTurnSQL, key, t.now, t.nextKey(t.now), nil)
	}
	return false, t.exec(standSQL, key, nil)
}

// standElsewhere moves a run from the gate at which it stands to another of its gates. It
// has its turn at those before.
func (t *txn) standElsewhere(key int64, gates []*gate, from, to int) error {
	gates[from].parked--
	x := gates[to]
	x.parked++
	x.open = x.open || x.rate
	t.touch(x)
	if from < to && t.takeTurns(gates[from:to]) {
		return t.exec(nextTurnSQL, key, t.now, t.nextKey(t.now), x.id)
	}
	for i := to; i < from; i++ {
		if g := gates[i]; !g.rate {
			g.heads = max(g.heads-1, 0)
			g.open = true
			t.touch(g)
		}
	}
	return t.exec(standSQL, key, x.id)
}

// Making a run ready, or standing elsewhere; of a limit whose keys take turns, behind those of other keys whose
// turn came before.
const (
	standSQL = "UPDATE stint_runs SET gate = ?2 WHERE id = ?1"

	turnSet = `UPDATE stint_runs SET gate = ?4, rank = max(?2, coalesce(due_at, id >> 20)) - coalesce(due_at, id >> 20) + rank,
  due_at = max(?2, coalesce(due_at, id >> 20)), turn = ?3 WHERE `
	nextTurnSQL = turnSet + "id = ?1"

	// aloneSQL picks the first run that waits at a gate, if all that wait there are in that
	// lane and the run has no other limit, and is neither a workflow's nor resumed.
	aloneSQL = `id = (SELECT id FROM stint_runs r WHERE gate = ?1 AND state = 3
    AND NOT EXISTS (SELECT 1 FROM stint_runs x WHERE x.gate = ?1 AND x.state = 3 AND x.lane > r.lane)
    ORDER BY lane, rank, turn, id LIMIT 1) AND flags & 6 = 0 AND instr(limits, '},{') = 0 AND lane = ?`
	readyAloneSQL = "UPDATE stint_runs SET gate = NULL WHERE " + aloneSQL + "2"
	turnAloneSQL  = turnSet + aloneSQL + "5"

	parkedLaneSQL = "SELECT lane FROM stint_runs WHERE gate = ? AND state = 3 ORDER BY lane LIMIT 1"
)

// passAlone is the usual case of tryPass, in one statement: which lane that is, is known of
// the gate, or as good as known of the last one.
func (t *txn) passAlone(g *gate) (passed bool, err error) {
	if g.rate {
		return false, nil // how many units, its row says
	}
	lane := g.lane
	if lane == 0 {
		lane = t.gates.lane
	}
	n, err := t.passIn(g, lane)
	if n == 0 && err == nil && g.lane == 0 {
		err = t.one(parkedLaneSQL, []any{g.id}, &g.lane)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		if err == nil && g.lane != lane {
			lane = g.lane
			n, err = t.passIn(g, lane)
		}
	}
	if err != nil || n == 0 {
		g.lane = 0 // others wait there too by now, maybe
		return false, err
	}
	g.lane, t.gates.lane = lane, lane
	g.parked--
	g.active++
	g.heads++
	t.touch(g)
	if t.w != nil {
		t.w.recheck = true
	}
	return true, nil
}

// passIn lets the first run that waits at a gate pass, if it is alone in that lane.
func (t *txn) passIn(g *gate, lane int64) (int64, error) {
	switch {
	case lane == 0:
		return 0, nil
	case g.strategy == store.StrategyGroupRoundRobin:
		return t.execN(turnAloneSQL, g.id, t.now, t.nextKey(t.now), nil, lane)
	}
	return t.execN(readyAloneSQL, g.id, lane)
}
