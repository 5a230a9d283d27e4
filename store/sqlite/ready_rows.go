package sqlite

import (
	"database/sql"
	"errors"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/internal/ready"
)

var _ ready.Rows = (*claims)(nil)

// choose chooses the runs that a claim takes.
func (cs *claims) choose(r *store.ClaimRequest, slots int) (x ready.Choice, err error) {
	ls := cs.lanes
	if err := ls.loadLanes(); err != nil {
		return x, err
	}
	var peers []ready.Peer
	if ls.Routed {
		if peers, err = cs.workers.peers(); err != nil {
			return x, err
		}
	}
	return ready.Choose(cs, &ls.Set, ls.View(r, peers), r, slots)
}

// Now implements ready.Rows.
func (cs *claims) Now() int64 { return cs.now }

const (
	// laneSQL reads the first runs of a lane after a position in it.
	laneSQL = `
SELECT rank, turn, id FROM stint_runs
WHERE lane = ? AND ` + stateQueued + ` AND limiter IS NULL AND (rank, turn, id) > (?, ?, ?)
ORDER BY rank, turn, id LIMIT ?`

	// headsSQL reads the first runs of many lanes, and whether others follow.
	headsSQL = `
SELECT j.value, r.rank, r.turn, r.id,
  EXISTS (SELECT 1 FROM stint_runs x WHERE x.lane = j.value AND x.` + stateQueued + ` AND x.limiter IS NULL ORDER BY x.rank, x.turn, x.id
  LIMIT 1 OFFSET 1)
FROM json_each(?) j CROSS JOIN stint_runs r ON r.id =
  (SELECT id FROM stint_runs x WHERE x.lane = j.value AND x.` + stateQueued + ` AND x.limiter IS NULL ORDER BY x.rank, x.turn, x.id
  LIMIT 1)`
)

// Next implements ready.Rows.
func (cs *claims) Next(l *ready.Lane, after ready.Position, n int) ([]ready.Position, error) {
	cs.lanes.headsRead++
	return rowsOf(cs, func(p *ready.Position) []any { return []any{&p.Rank, &p.Turn, &p.ID} }, laneSQL, l.ID, after.Rank, after.Turn,
		after.ID, n)
}

// Heads implements ready.Rows.
func (cs *claims) Heads(lanes []int64) ([]ready.Head, error) {
	cs.lanes.headsRead += len(lanes)
	return rowsOf(cs, func(h *ready.Head) []any { return []any{&h.Lane, &h.Rank, &h.Turn, &h.ID, &h.More} }, headsSQL,
		reading.JSONKeys(lanes))
}

// Due implements ready.Rows.
func (cs *claims) Due(l *ready.Lane) (at int64, ok bool, err error) {
	err = cs.one("SELECT "+dueTime+" FROM stint_runs WHERE limiter IS NULL AND lane = ? AND "+stateQueued+" ORDER BY rank, turn, id "+
		"LIMIT 1", []any{l.ID}, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return at, err == nil, err
}

// Busy implements ready.Rows.
func (cs *claims) Busy(worker int64) (n int, err error) {
	err = cs.one("SELECT count(*) FROM stint_runs WHERE worker = ? AND "+stateRunning, []any{worker}, &n)
	return n, err
}

// SuspectExecutes implements ready.Rows.
func (cs *claims) SuspectExecutes() (is bool, err error) {
	err = cs.one("SELECT EXISTS (SELECT 1 FROM stint_runs WHERE "+stateRunning+" AND crashes >= 2)", nil, &is)
	return is, err
}

// WakeAt implements ready.Rows.
func (cs *claims) WakeAt(at int64) { cs.timers.add(at) }
