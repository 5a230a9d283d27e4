package sqlite

import "github.com/stint-dev/stint/store/internal/limits"

// recountSQL reads the runs that may wait for a limiter or occupy something of one.
const recountSQL = `
SELECT id, state, limiter, flags, lease, limits FROM stint_runs WHERE ` + stateQueued + ` AND limits IS NOT NULL
UNION ALL SELECT id, state, limiter, flags, lease, limits FROM stint_runs WHERE ` + stateRunning + ` AND limits IS NOT NULL
UNION ALL SELECT id, state, limiter, flags, lease, limits FROM stint_runs WHERE ` + afterRunning + ` AND ` + notEnded + `
  AND ` + stateWaiting + ` AND limits IS NOT NULL`

// maxRecount is the number of waiting runs up to which the limiters are checked when a file is opened: a
// tenth of a second.
const maxRecount = 50_000

// checkLimiters recounts once, after the file was opened, and reports whether limiters may admit runs by
// that.
func (lm *limiters) checkLimiters() (again bool, err error) {
	if lm.checked {
		return false, nil
	}
	lm.checked = true
	var waiting int
	const sum = "SELECT coalesce(sum(min(waiting, ?)), 0) FROM stint_limiters" // a sum of numbers changed by hand can overflow
	if err := lm.one(sum, []any{maxRecount + 1}, &waiting); err != nil || waiting > maxRecount {
		return false, err
	}
	wrong, err := lm.recount()
	return len(wrong) > 0, err
}

// recount computes the limiters' counts from the runs, corrects those that differ, and describes them.
// There are none, unless somebody changed the file by other means.
func (lm *limiters) recount() (wrong []string, err error) {
	rows, err := rowsOf(lm, func(x *transition) []any {
		return []any{&x.Run, &x.After.State, &x.After.Limiter, &x.afterFlags, &x.afterLease, &x.limits}
	}, recountSQL)
	if err != nil {
		return nil, err
	}
	ids, err := column[int64](lm, "SELECT id FROM stint_limiters")
	if err != nil {
		return nil, err
	}
	all := make([]*limits.Limiter, len(ids))
	for i, id := range ids {
		lim, err := lm.limiterByID(id)
		if err != nil {
			return nil, err
		}
		all[i] = &lim.Limiter
	}
	return limits.Recount(limiterRows{lm.unit}, all, lm.decodable(rows))
}
