package sqlite

import (
	"fmt"

	"github.com/stint-dev/stint/internal/selfcheck"
)

// verifySQL reads the first runs of the lanes with ready runs, up to so many.
var verifySQL = distinctValues("lane", "stint_runs WHERE limiter IS NULL AND "+stateQueued) + `
SELECT r.lane, r.rank, r.turn, r.id FROM found CROSS JOIN stint_runs r ON r.id =
  (SELECT id FROM stint_runs x WHERE x.lane = found.v AND x.` + stateQueued + ` AND x.limiter IS NULL ORDER BY x.rank, x.turn, x.id LIMIT 1)
LIMIT ?`

// verify reports, in tests, lanes with ready runs that claims would not find, or would find too late.
func (ls *lanes) verify() error {
	if !selfcheck.Enabled() || !ls.loaded {
		return nil
	}
	type head struct {
		lane int64
		position
	}
	heads, err := rowsOf(ls, func(h *head) []any { return []any{&h.lane, &h.rank, &h.turn, &h.id} }, verifySQL, 500)
	if err != nil {
		return err
	}
	for _, h := range heads {
		l := ls.byID[h.lane]
		if l == nil || !l.ready || comparePositions(l.bound, h.position) > 0 {
			selfcheck.Report(fmt.Sprintf("run %d is ready at %+v, and of its lane %d is known: %+v", h.id, h.position, h.lane, l))
			continue
		}
		for worker, v := range ls.views {
			if _, wanted := v.groupOf(ls, l); wanted != (v.entries[l] != nil || v.waits[l] != nil) {
				selfcheck.Report(fmt.Sprintf("run %d is ready, and that lane %d is in the view of worker %d: %t", h.id, h.lane, worker,
					v.entries[l] != nil))
			}
		}
	}
	return nil
}
