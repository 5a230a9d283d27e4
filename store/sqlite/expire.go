package sqlite

import (
	"context"
	"slices"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/internal/retention"
)

var _ retention.Rows = (*runs)(nil)

// Expire implements store.Runs. Package retention decides which rows are old enough.
func (s *Store) Expire(ctx context.Context, done, failed time.Time) (int, error) {
	p := retention.NewPass(done, failed)
	for _, expire := range []func(context.Context) error{
		s.expireRates,
		func(ctx context.Context) error { return s.expireEvents(ctx, p.EventsBefore()) },
		s.expireKeys,
		func(ctx context.Context) error { return s.expireDeclared(ctx, p.GoneBefore()) },
		func(ctx context.Context) error { return s.expireWorkers(ctx, p.GoneBefore()) },
		s.expireCounters,
		s.expireErrors,
	} {
		if err := expire(ctx); err != nil {
			return 0, err
		}
	}
	n, err := s.expireRuns(ctx, p)
	if err == nil {
		err = s.expireLanes(ctx, p)
	}
	return n, err
}

// expireRuns deletes the runs that are old enough, a part in each commit.
func (s *Store) expireRuns(ctx context.Context, p *retention.Pass) (total int, err error) {
	for after := int64(0); ; {
		var part []retention.Run
		err := s.view(ctx, func(q querier) (err error) {
			part, err = reading.Expirable(q, after, keys.At(p.CreatedBefore()), perBulk)
			return err
		})
		if err != nil || len(part) == 0 {
			return total, err
		}
		after = part[len(part)-1].Key
		n := 0
		err = s.do(ctx, func(u *unit) (err error) {
			n, err = p.Delete(u.runs, part)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
	}
}

// expireLanes deletes the lanes that have no runs, and queues without lanes unless they are paused. A lane may have been
// used for stampEvery since its stamp.
func (s *Store) expireLanes(ctx context.Context, p *retention.Pass) error {
	before := keys.At(p.CreatedBefore().Add(-stampEvery))
	var old []int64
	err := s.view(ctx, func(q querier) (err error) {
		old, err = column[int64](q, "SELECT id FROM stint_lanes WHERE stamp < ? AND staged IS NULL", before)
		return err
	})
	if err != nil {
		return err
	}
	for part := range slices.Chunk(p.Unused(old), perBulk) {
		err := s.do(ctx, func(u *unit) error {
			queues, err := column[string](u, `DELETE FROM stint_lanes
				WHERE id IN (SELECT value FROM json_each(?)) AND stamp < ? RETURNING queue`, reading.JSONKeys(part), before)
			if err != nil || len(queues) == 0 {
				return err
			}
			slices.Sort(queues)
			for _, q := range slices.Compact(queues) {
				err := u.exec(`DELETE FROM stint_queues WHERE name = ?1 AND paused = 0
					AND NOT EXISTS (SELECT 1 FROM stint_lanes WHERE queue = ?1)`, q)
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// expireEvents deletes the events that were published before a time, in small batches.
func (s *Store) expireEvents(ctx context.Context, before time.Time) error {
	for more := true; more; {
		err := s.do(ctx, func(u *unit) error {
			gone, err := column[int64](u, "SELECT id FROM stint_events WHERE id < ? ORDER BY id LIMIT ?", keys.At(before), perBulk)
			more = len(gone) == perBulk
			if err != nil || len(gone) == 0 {
				return err
			}
			last := gone[len(gone)-1]
			if err := u.exec("DELETE FROM stint_event_runs WHERE event <= ?", last); err != nil {
				return err
			}
			u.runs.deleted = true
			return u.exec("DELETE FROM stint_events WHERE id <= ?", last)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// expireDeclared deletes the declarations that were removed before a time.
func (s *Store) expireDeclared(ctx context.Context, before time.Time) error {
	return s.do(ctx, func(u *unit) error {
		if err := u.exec("DELETE FROM stint_crons WHERE gone_at IS NOT NULL AND gone_at < ?", before.UnixMilli()); err != nil {
			return err
		}
		return u.exec("DELETE FROM stint_triggers WHERE gone_at IS NOT NULL AND gone_at < ?", before.UnixMilli())
	})
}

// expireWorkers deletes the workers that ended before a time and have no runs.
func (s *Store) expireWorkers(ctx context.Context, before time.Time) error {
	var some bool
	err := s.view(ctx, func(q querier) error {
		return q.one("SELECT EXISTS (SELECT 1 FROM stint_workers WHERE ended_at < ?)", []any{clock.Millis(before)}, &some)
	})
	if err != nil || !some {
		return err
	}
	return s.do(ctx, func(u *unit) error {
		return u.exec("DELETE FROM stint_workers WHERE ended_at < ? AND NOT EXISTS (SELECT 1 FROM stint_runs r "+
			"WHERE r.worker = stint_workers.id AND r."+stateRunning+")", clock.Millis(before))
	})
}
