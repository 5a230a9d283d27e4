package sqlite

import (
	"github.com/stint-dev/stint/internal/selfcheck"
	"github.com/stint-dev/stint/store/internal/ready"
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
		ready.Position
	}
	heads, err := rowsOf(ls, func(h *head) []any { return []any{&h.lane, &h.Rank, &h.Turn, &h.ID} }, verifySQL, 500)
	if err != nil {
		return err
	}
	for _, h := range heads {
		if wrong := ls.Check(h.lane, h.Position); wrong != "" {
			selfcheck.Report(wrong)
		}
	}
	return nil
}
