package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Act implements store.Runs.
func (s *Store) Act(ctx context.Context, now time.Time, a store.Action, f store.Filter) (int, error) {
	if a.DryRun {
		return s.count(ctx, &a, f)
	}
	return s.each(ctx, &a, f, func(u *unit, key int64) (bool, error) { return lifecycle.Act(u.runs, &a, key, now.UnixMilli()) })
}

// count returns how many runs an action would change.
func (s *Store) count(ctx context.Context, a *store.Action, f store.Filter) (n int, err error) {
	err = s.view(ctx, func(q querier) error {
		selected, err := s.reads().Select(q, a, f)
		if err == nil {
			n, err = selected.Count(q)
		}
		return err
	})
	return n, err
}

// DeleteEnded implements retention.Rows.
func (rs *runs) DeleteEnded(key int64) (bool, error) { return lifecycle.Delete(rs, key) }

// Exists implements retention.Rows.
func (rs *runs) Exists(key int64) (there bool, err error) {
	err = rs.one("SELECT EXISTS (SELECT 1 FROM stint_runs WHERE id = ?)", []any{key}, &there)
	return there, err
}
