package sqlite

import (
	"errors"
	"fmt"

	"github.com/stint-dev/stint/store"
)

// recountSQL reads the runs that may stand at gates or hold something of one.
const recountSQL = `
SELECT id, state, gate, flags, lease, limits FROM stint_runs WHERE state = 3 AND limits IS NOT NULL
UNION ALL SELECT id, state, gate, flags, lease, limits FROM stint_runs WHERE state = 4 AND limits IS NOT NULL
UNION ALL SELECT id, state, gate, flags, lease, limits FROM stint_runs WHERE state > 4 AND state < 7 AND state = 5 AND limits IS NOT NULL`

// maxRecount is up to how many waiting runs the gates are checked when a file is opened:
// a tenth of a second.
const maxRecount = 50_000

// checkGates recounts once, after the file was opened, and reports whether gates may
// have become open by that.
func (t *txn) checkGates() (again bool, err error) {
	if t.w == nil || t.w.recounted {
		return false, nil
	}
	t.w.recounted = true
	var waiting int
	if err := t.one("SELECT coalesce(sum(parked), 0) FROM stint_gates", nil, &waiting); err != nil || waiting > maxRecount {
		return false, err
	}
	wrong, err := t.recount()
	return len(wrong) > 0, err
}

// recount computes from the runs what the gates should hold, sets right those that do
// not, and says which those were. There are none, unless somebody changed the file by
// other means.
func (t *txn) recount() (wrong []string, err error) {
	rows, err := rowsOf(t, func(m *moved) []any {
		return []any{&m.key, &m.after.state, &m.after.gate, &m.after.flags, &m.after.lease, &m.limits}
	}, recountSQL)
	if err != nil {
		return nil, err
	}
	type counts struct{ active, heads, parked int64 }
	want := map[*gate]*counts{}
	of := func(g *gate) *counts {
		if want[g] == nil {
			want[g] = &counts{}
		}
		return want[g]
	}
	ids, err := column[int64](t, "SELECT id FROM stint_gates")
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		g, err := t.gateByID(id)
		if err != nil {
			return nil, err
		}
		of(g)
	}
	for i := range rows {
		m := &rows[i]
		limits, err := t.limitsOf(m.limits)
		if err != nil {
			continue // it is blocked when it is met
		}
		turns, err := t.turns(&m.after, limits)
		if err != nil {
			return nil, err
		}
		for j := range limits {
			l := &limits[j]
			h := m.after.holds(l)
			if turns[l] {
				h = hasTurn
			}
			stands := m.after.state == store.Queued && m.after.gate != nil && *m.after.gate > 0
			if h == holdsNothing && !stands {
				continue
			}
			g, err := t.gateOf(l)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			c := of(g)
			if stands && *m.after.gate == g.id {
				c.parked++
			}
			units := int64(1)
			if l.Rate() {
				units = int64(l.Units)
			}
			if h == hasPassed || h == holdsShare {
				c.active += units
			}
			if !l.Rate() && (h == hasPassed || h == hasTurn) {
				c.heads++
			}
		}
	}
	for g, c := range want {
		if has := (counts{g.active, g.heads, g.parked}); has != *c {
			wrong = append(wrong, fmt.Sprintf("%s: has %+v, want %+v", g, has, *c))
			g.active, g.heads, g.parked, g.open = c.active, c.heads, c.parked, true
			t.touch(g)
		}
	}
	return wrong, nil
}
