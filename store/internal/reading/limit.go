package reading

import (
	"time"

	"github.com/stint-dev/stint/store"
)

// queues reads a store.QueueList.
func (r *Reader) queues(q Querier, name string) (all []store.QueueInfo, err error) {
	type row struct {
		store.QueueInfo
		oldest *int64
	}
	text := `
SELECT name, paused,
  coalesce((SELECT CAST(sum((SELECT count(*) FROM (SELECT 1 FROM stint_runs r WHERE r.limiter IS NULL AND r.lane = l.id
  AND r.` + isQueued + ` LIMIT ?1) x)) AS bigint)
    FROM stint_lanes l WHERE l.queue = q.name AND ` + r.Visible + `), 0),
  (SELECT count(*) FROM stint_runs r CROSS JOIN stint_lanes l WHERE l.id = r.lane AND r.` + isRunning + ` AND r.worker > 0
  AND l.queue = q.name),
  (SELECT min((SELECT ` + dueTime + ` FROM stint_runs r WHERE r.limiter IS NULL AND r.lane = l.id
  AND r.` + isQueued + ` ORDER BY r.rank, r.turn LIMIT 1))
    FROM stint_lanes l WHERE l.queue = q.name AND ` + r.Visible + `)
FROM stint_queues q`
	args := []any{store.MaxCount}
	if name == "" {
		text += " ORDER BY name"
	} else {
		text, args = text+" WHERE name = ?2", append(args, name)
	}
	rows, err := All(q, func(i *row) []any { return []any{&i.Name, &i.Paused, &i.Ready, &i.Running, &i.oldest} }, text, args...)
	for _, row := range rows {
		row.Oldest = optionalTime(row.oldest)
		if name != "" && err == nil {
			row.Priorities, err = r.priorities(q, name)
		}
		all = append(all, row.QueueInfo)
	}
	return all, err
}

func (r *Reader) priorities(q Querier, queue string) (map[int8]int, error) {
	type row struct {
		priority int8
		n        int
	}
	rows, err := All(q, func(r *row) []any { return []any{&r.priority, &r.n} }, `
SELECT priority, count(*) FROM (SELECT r.priority FROM stint_lanes l CROSS JOIN stint_runs r WHERE r.lane = l.id
  AND l.queue = ? AND `+r.Visible+` AND r.limiter IS NULL AND r.`+isQueued+` LIMIT ?) x GROUP BY priority`, queue, store.MaxCount)
	counts := map[int8]int{}
	for _, r := range rows {
		counts[r.priority] = r.n
	}
	return counts, err
}

type limiterRow struct {
	store.LimitInfo
	id       int64
	rate     bool
	max      int
	at, wake int64
}

func (r *limiterRow) fields() []any {
	return []any{&r.id, &r.rate, &r.Name, &r.Key, &r.max, &r.Strategy, &r.Active, &r.Waiting, &r.PerSecond, &r.Tokens, &r.at, &r.wake,
		&r.Paused}
}

// info returns the present state of a limiter.
func (r *limiterRow) info(now time.Time) store.LimitInfo {
	info := r.LimitInfo
	if !r.rate {
		info.Max = r.max
		return info
	}
	b := store.Bucket{PerSecond: r.PerSecond, Burst: r.max, Tokens: r.Tokens, At: time.UnixMicro(r.at)}
	b.Fill(now)
	info.Units, info.Burst, info.Tokens = 1, r.max, b.Tokens
	if r.wake > 0 {
		info.ReadyAt = millis(r.wake)
	}
	return info
}

const limitersSQL = "SELECT id, rate, name, key, max, strategy, active, waiting, per_second, tokens, at, coalesce(wake_at, 0), paused " +
	"FROM stint_limiters WHERE "

// limits reads a store.LimitList.
func limits(q Querier, now time.Time, rates bool) ([]store.LimitInfo, error) {
	rows, err := All(q, (*limiterRow).fields, limitersSQL+"rate = ? ORDER BY rate, name, key LIMIT ?", rates, store.MaxLimits)
	infos := make([]store.LimitInfo, len(rows))
	for i := range rows {
		infos[i] = rows[i].info(now)
	}
	return infos, err
}

// limitersOf returns the limiters that runs wait for, by their numbers.
func (r *Reader) limitersOf(q Querier, now time.Time, runs []runRow) (map[int64]store.LimitInfo, error) {
	var ids []int64
	for i := range runs {
		if l := runs[i].limiter; l != nil {
			ids = append(ids, *l)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := All(q, (*limiterRow).fields, limitersSQL+"id "+r.OfKeys, r.Keys(ids))
	infos := map[int64]store.LimitInfo{}
	for i := range rows {
		infos[rows[i].id] = rows[i].info(now)
	}
	return infos, err
}
