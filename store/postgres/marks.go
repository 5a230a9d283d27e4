package postgres

import (
	"cmp"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store/internal/ready"
)

// A mark says from where on a lane may have ready runs, as far as the process knows: all before were taken. While
// somebody holds an old snapshot, what has left a lane stays in its index, and a search from the start walks all of it.
type mark struct {
	lane int64
	ready.Position
}

// marks returns the marks of the lanes that the writer knows, in the order of lanes.
func (s *laneSet) marks() (all []mark) {
	for id, l := range s.ByID {
		if at := l.Bound(); at.Compare(ready.Start) > 0 {
			all = append(all, mark{id, at})
		}
	}
	slices.SortFunc(all, func(a, b mark) int { return cmp.Compare(a.lane, b.lane) })
	return all
}

// readyLanesSQL reads the lanes that have ready runs, and the first run of each: those between the lanes that have marks by
// one search of the index each; and those that have marks, also if they have no ready runs.
const readyLanesSQL = `
WITH RECURSIVE found (lane, rank, turn, id, until) AS (
  SELECT n.*, u.until FROM unnest($1::bigint[], $2::bigint[]) AS u (after, until) CROSS JOIN LATERAL (
    SELECT lane, rank, turn, id FROM stint.runs
    WHERE state = 3 AND limiter IS NULL AND lane > u.after AND lane < u.until ORDER BY lane, rank, turn, id LIMIT 1) n
  UNION ALL
  SELECT n.*, found.until FROM found CROSS JOIN LATERAL (SELECT lane, rank, turn, id FROM stint.runs
    WHERE state = 3 AND limiter IS NULL AND lane > found.lane AND lane < found.until ORDER BY lane, rank, turn, id LIMIT 1) n)
SELECT l.id, l.queue, l.task, l.suspect, l.route, f.rank, f.turn, f.id, true FROM found f JOIN stint.lanes l ON l.id = f.lane
UNION ALL
SELECT l.id, l.queue, l.task, l.suspect, l.route, coalesce(n.rank, u.rank), coalesce(n.turn, u.turn), coalesce(n.id, u.id), n.id IS NOT NULL
FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) AS u (lane, rank, turn, id) JOIN stint.lanes l ON l.id = u.lane
LEFT JOIN LATERAL (SELECT rank, turn, id FROM stint.runs t
  WHERE t.lane = u.lane AND t.state = 3 AND t.limiter IS NULL AND (t.rank, t.turn, t.id) >= (u.rank, u.turn, u.id)
  ORDER BY t.rank, t.turn, t.id LIMIT 1) n ON true`

// A readyLane is a lane that has ready runs, or had.
type readyLane struct {
	laneRow
	first ready.Position // of its ready runs
	some  bool           // it has some; else first is its mark
}

// queueReadyLanes queues the statement that reads the lanes that have ready runs, and those with marks.
func (s *Store) queueReadyLanes(b *pgx.Batch, marks []mark, to *[]readyLane) {
	after, until := []int64{math.MinInt64}, []int64(nil)
	var lanes, ranks, turns, runs []int64
	for _, m := range marks {
		after, until = append(after, m.lane), append(until, m.lane)
		lanes, ranks, turns, runs = append(lanes, m.lane), append(ranks, m.Rank), append(turns, m.Turn), append(runs, m.ID)
	}
	until = append(until, math.MaxInt64)
	b.Queue(s.sql(readyLanesSQL), after, until, lanes, ranks, turns, runs).Query(func(rows pgx.Rows) (err error) {
		*to, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (l readyLane, err error) {
			return l, r.Scan(&l.id, &l.queue, &l.task, &l.suspect, &l.route, &l.first.Rank, &l.first.Turn, &l.first.ID, &l.some)
		})
		return err
	})
}
