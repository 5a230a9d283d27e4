package sqlite

import (
	"errors"
	"fmt"

	"github.com/stint-dev/stint/store"
)

// recountSQL reads the runs that may stand at limiters or hold something of one.
const recountSQL = `
SELECT id, state, limiter, flags, lease, limits FROM stint_runs WHERE ` + stateQueued + ` AND limits IS NOT NULL
UNION ALL SELECT id, state, limiter, flags, lease, limits FROM stint_runs WHERE ` + stateRunning + ` AND limits IS NOT NULL
UNION ALL SELECT id, state, limiter, flags, lease, limits FROM stint_runs WHERE ` + afterRunning + ` AND ` + notEnded + ` AND ` + stateWaiting + ` AND limits IS NOT NULL`

// maxRecount is up to how many waiting runs the limiters are checked when a file is opened:
// a tenth of a second.
const maxRecount = 50_000

// checkLimiters recounts once, after the file was opened, and reports whether limiters may
// have become open by that.
func (t *txn) checkLimiters() (again bool, err error) {
	if t.limiters.checked {
		return false, nil
	}
	t.limiters.checked = true
	var waiting int
	if err := t.one("SELECT coalesce(sum(waiting), 0) FROM stint_limiters", nil, &waiting); err != nil || waiting > maxRecount {
		return false, err
	}
	wrong, err := t.recount()
	return len(wrong) > 0, err
}

// recount computes from the runs what the limiters should hold, sets right those that do
// not, and says which those were. There are none, unless somebody changed the file by
// other means.
func (t *txn) recount() (wrong []string, err error) {
	rows, err := rowsOf(t, func(m *transition) []any {
		return []any{&m.key, &m.after.state, &m.after.limiter, &m.after.flags, &m.after.lease, &m.limits}
	}, recountSQL)
	if err != nil {
		return nil, err
	}
	type counts struct{ active, admitted, waiting int64 }
	want := map[*limiter]*counts{}
	of := func(lim *limiter) *counts {
		if want[lim] == nil {
			want[lim] = &counts{}
		}
		return want[lim]
	}
	ids, err := column[int64](t, "SELECT id FROM stint_limiters")
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		lim, err := t.limiterByID(id)
		if err != nil {
			return nil, err
		}
		of(lim)
	}
	for i := range rows {
		m := &rows[i]
		limits, err := t.limitsOf(m.limits)
		if err != nil {
			continue // it is blocked when it is met
		}
		turns, err := t.admittedAt(&m.after, limits)
		if err != nil {
			return nil, err
		}
		for j := range limits {
			l := &limits[j]
			h := m.after.holds(l)
			if turns[l] {
				h = holdsTurn
			}
			stands := m.after.state == store.Queued && m.after.limiter != nil && *m.after.limiter > 0
			if h == holdsNothing && !stands {
				continue
			}
			lim, err := t.limiterOf(l)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			c := of(lim)
			if stands && *m.after.limiter == lim.id {
				c.waiting++
			}
			units := int64(1)
			if l.Rate() {
				units = int64(l.Units)
			}
			if h == isAdmitted || h == holdsShare {
				c.active += units
			}
			if !l.Rate() && (h == isAdmitted || h == holdsTurn) {
				c.admitted++
			}
		}
	}
	for lim, c := range want {
		if has := (counts{lim.active, lim.admitted, lim.waiting}); has != *c {
			wrong = append(wrong, fmt.Sprintf("%s: has %+v, want %+v", lim, has, *c))
			lim.active, lim.admitted, lim.waiting, lim.recheck = c.active, c.admitted, c.waiting, true
			t.touch(lim)
		}
	}
	return wrong, nil
}
