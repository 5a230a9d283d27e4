package postgres

import (
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/failed"
)

// What a group adds to the groups of errors, an array a column. All processes may add to the same rows. They are
// locked in the order of their keys, which is that of the arrays, and nothing is locked after them: who has one never
// waits for who waits for it.
const (
	addErrorsSQL = `
INSERT INTO stint.error_groups AS g (id, task, text, sample, run, first_at, last_at, count)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
ON CONFLICT (id) DO UPDATE SET sample = excluded.sample, run = excluded.run, first_at = least(g.first_at, excluded.first_at),
  last_at = greatest(g.last_at, excluded.last_at), count = g.count + excluded.count`

	addErrorCountsSQL = `
INSERT INTO stint.error_counts AS c (span, grp, at, count) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
ON CONFLICT (span, grp, at) DO UPDATE SET count = c.count + excluded.count`

	addErrorRunsSQL = `
INSERT INTO stint.error_runs (run, grp) SELECT * FROM unnest($1::bigint[], $2::bigint[])
ON CONFLICT (run) DO UPDATE SET grp = excluded.grp`
)

// flushErrors queues the statements that count the group's failed runs. They come last in a transaction.
func (u *unit) flushErrors(b *pgx.Batch) {
	if len(u.failed) == 0 {
		return
	}
	groups := failed.Groups(u.failed)
	type row struct{ a, b, c, d int64 }
	var runs, counts []row
	for _, g := range groups {
		for _, run := range g.Runs {
			runs = append(runs, row{run, g.Group, 0, 0})
		}
		for _, c := range g.Counts {
			counts = append(counts, row{c.Length, g.Group, c.At, c.N})
		}
	}
	numbers := func(of func(g *failed.Group) int64) []int64 { return values(groups, of) }
	texts := func(of func(g *failed.Group) string) []string { return values(groups, of) }
	pick := func(rows []row, of func(r *row) int64) []int64 { return values(pointers(rows), of) }
	b.Queue(u.s.sql(addErrorRunsSQL), pick(runs, func(r *row) int64 { return r.a }), pick(runs, func(r *row) int64 { return r.b }))
	b.Queue(u.s.sql(addErrorsSQL), numbers(func(g *failed.Group) int64 { return g.Group }),
		texts(func(g *failed.Group) string { return g.Task }), texts(func(g *failed.Group) string { return g.Text }),
		texts(func(g *failed.Group) string { return g.Sample }), numbers(func(g *failed.Group) int64 { return g.Last }),
		numbers(func(g *failed.Group) int64 { return g.FirstAt }), numbers(func(g *failed.Group) int64 { return g.LastAt }),
		numbers((*failed.Group).N))
	b.Queue(u.s.sql(addErrorCountsSQL), pick(counts, func(r *row) int64 { return r.a }), pick(counts, func(r *row) int64 { return r.b }),
		pick(counts, func(r *row) int64 { return r.c }), pick(counts, func(r *row) int64 { return r.d }))
}

// expireErrorsSQL deletes error groups, with what belongs to them. Those that another transaction counts in stay.
func expireErrorsSQL(which string) string {
	return `WITH gone AS (DELETE FROM stint.error_groups WHERE id = ANY (ARRAY(SELECT id FROM stint.error_groups WHERE ` + which +
		` FOR UPDATE SKIP LOCKED)) RETURNING id),
runs AS (DELETE FROM stint.error_runs WHERE grp IN (SELECT id FROM gone)),
counts AS (DELETE FROM stint.error_counts WHERE span IN (60000, 3600000) AND grp IN (SELECT id FROM gone))
SELECT id FROM gone`
}

type expiry struct {
	text string
	args []any
}

// oldErrors returns the statements that delete old counts of errors, the groups that were not seen for as long, and
// those that are too many.
func oldErrors(now time.Time) []expiry {
	return append(oldSpans("error_counts", now),
		expiry{expireErrorsSQL("last_at < $1 AND (muted_till IS NULL OR muted_till < $2) ORDER BY last_at LIMIT $3"),
			[]any{count.KeptFrom(count.Lengths[1], now), now.UnixMilli()}},
		expiry{expireErrorsSQL("true ORDER BY last_at DESC OFFSET $1 LIMIT $2"), []any{store.MaxErrorGroups}})
}
