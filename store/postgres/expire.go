package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
	"github.com/stint-dev/stint/store/internal/retention"
)

// groupsKept is how long the last group of a process stays that was taken for dead: it may be cut off, and ask
// whether that was committed once it is back.
const groupsKept = 24 * time.Hour

// Expire implements store.Runs. Package retention decides which rows are old enough. What no group works on
// is deleted by statements of their own, a part in each.
func (s *Store) Expire(ctx context.Context, done, failed time.Time) (int, error) {
	if s.settings.ReadOnly {
		return 0, store.ErrReadOnly
	}
	p := retention.NewPass(done, failed)
	now := s.clock.Now()
	gone, events := clock.Millis(p.GoneBefore()), keys.At(p.EventsBefore())
	for _, x := range append([]expiry{
		{`DELETE FROM stint.limiters l WHERE ctid = ANY (ARRAY(SELECT ctid FROM stint.limiters
			WHERE rate AND NOT explicit AND NOT paused AND active = 0 AND waiting = 0 AND at < $1
			AND tokens + per_second * ($2::bigint - at) / 1000000.0 >= max
			LIMIT $3 FOR UPDATE SKIP LOCKED))`,
			[]any{now.Add(-limits.RateIdle).UnixMicro(), now.UnixMicro()}},
		{`DELETE FROM stint.event_runs WHERE (event, run) IN
			(SELECT event, run FROM stint.event_runs WHERE event < $1 ORDER BY event, run LIMIT $2)`, []any{events}},
		{`DELETE FROM stint.events WHERE id IN (SELECT id FROM stint.events WHERE id < $1 ORDER BY id LIMIT $2)`, []any{events}},
		{`DELETE FROM stint.keys WHERE (task, key) IN
			(SELECT task, key FROM stint.keys WHERE gone AND expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)`,
			[]any{now.UnixMilli()}},
		{`DELETE FROM stint.crons WHERE name IN
			(SELECT name FROM stint.crons WHERE gone_at IS NOT NULL AND gone_at < $1 LIMIT $2)`, []any{gone}},
		{`DELETE FROM stint.triggers WHERE id IN
			(SELECT id FROM stint.triggers WHERE gone_at IS NOT NULL AND gone_at < $1 LIMIT $2)`, []any{gone}},
		{`DELETE FROM stint.workers WHERE id IN (SELECT id FROM stint.workers w WHERE ended_at < $1 AND NOT EXISTS
			(SELECT 1 FROM stint.runs r WHERE r.worker = w.id AND r.state = 4) LIMIT $2)`, []any{gone}},
		{`DELETE FROM stint.groups WHERE ctid = ANY (ARRAY(SELECT ctid FROM stint.groups g WHERE at < clock_timestamp() - $1::interval
			AND NOT EXISTS (SELECT 1 FROM stint.processes p WHERE g.process IN (p.name, p.name || '/ends')) LIMIT $2))`,
			[]any{groupsKept}},
		{`DELETE FROM stint.counters WHERE ctid = ANY (ARRAY(SELECT ctid FROM stint.counters WHERE span = 60000 AND at < $1 LIMIT $2))`,
			[]any{now.Add(-store.MinutesKept).UnixMilli()}},
		{`DELETE FROM stint.counters WHERE ctid = ANY (ARRAY(SELECT ctid FROM stint.counters WHERE span = 3600000 AND at < $1 LIMIT $2))`,
			[]any{now.Add(-store.HoursKept).UnixMilli()}},
	}, append(oldSpans("samples", now), oldErrors(now)...)...) {
		if err := s.deleteParts(ctx, x.text, x.args); err != nil {
			return 0, err
		}
	}
	n, err := s.expireRuns(ctx, p)
	if err == nil {
		err = s.expireLanes(ctx, p)
	}
	return n, err
}

// deleteParts runs a statement that deletes up to so many rows, its last argument, until there are no more.
func (s *Store) deleteParts(ctx context.Context, text string, args []any) error {
	for {
		var n int64
		err := s.view(ctx, func(c *pgx.Conn) error {
			tag, err := c.Exec(ctx, s.sql(text), append(slices.Clone(args), perBulk)...)
			n = tag.RowsAffected()
			return err
		})
		if err != nil || n < perBulk {
			return err
		}
	}
}

// expireRuns deletes the runs that are old enough, a part in each commit.
func (s *Store) expireRuns(ctx context.Context, p *retention.Pass) (total int, err error) {
	for after := int64(0); ; {
		var part []retention.Run
		err := s.view(ctx, func(c *pgx.Conn) error {
			rows, err := c.Query(ctx, s.sql(`SELECT id, lane, state, coalesce(ended_at, 0),
					node IS NOT NULL AND flags & 2 = 0, coalesce(parent, 0)
				FROM stint.runs WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3`), after, keys.At(p.CreatedBefore()), perBulk)
			if err == nil {
				part, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (x retention.Run, err error) {
					var state int16
					err = r.Scan(&x.Key, &x.Lane, &state, &x.Ended, &x.Task, &x.Parent)
					x.State = store.State(state)
					return x, err
				})
			}
			return err
		})
		if err != nil || len(part) == 0 {
			return total, err
		}
		after = part[len(part)-1].Key
		n := 0
		err = s.do(ctx, func(u *unit) (err error) {
			for _, r := range part {
				u.runs.ask(r.Key, r.Parent)
			}
			n, err = p.Delete(deleting{u}, part)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
	}
}

// deleting deletes runs for package retention.
type deleting struct{ *unit }

// DeleteEnded implements retention.Rows.
func (u deleting) DeleteEnded(run int64) (bool, error) {
	return lifecycle.Delete(runRows(u), run)
}

// Exists implements retention.Rows.
func (u deleting) Exists(run int64) (bool, error) {
	r, err := u.run(run)
	return r != nil, err
}

// expireLanes deletes the lanes that have no runs, and queues without lanes unless they are paused.
func (s *Store) expireLanes(ctx context.Context, p *retention.Pass) error {
	var old []int64
	err := s.view(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, s.sql("SELECT id FROM stint.lanes WHERE id < $1"), keys.At(p.CreatedBefore()))
		if err == nil {
			old, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		return err
	})
	if err != nil {
		return err
	}
	for part := range slices.Chunk(p.Unused(old), perBulk) {
		err := s.do(ctx, func(u *unit) error {
			u.newEpoch = true
			u.queued = append(u.queued, func(b *pgx.Batch) {
				// The lock of the epoch, which is taken alone before, keeps others from using them.
				b.Queue("SELECT pg_advisory_xact_lock"+epochLock, s.settings.Schema)
				b.Queue(s.sql(`DELETE FROM stint.lanes l WHERE id = ANY ($1)
					AND NOT EXISTS (SELECT 1 FROM stint.runs r WHERE r.lane = l.id)`), part)
				b.Queue(s.sql(`DELETE FROM stint.queues q WHERE NOT paused
					AND NOT EXISTS (SELECT 1 FROM stint.lanes l WHERE l.queue = q.name)`))
			})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
