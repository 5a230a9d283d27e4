package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/changing"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
)

// Change implements store.Changes.
func (s *Store) Change(ctx context.Context, now time.Time, c store.Change) error {
	return s.do(ctx, func(u *unit) error { return changing.Make(changeRows{u}, now, c) })
}

// changeRows implements changing.Rows.
type changeRows struct{ *unit }

// Runs implements changing.Rows.
func (u changeRows) Runs() lifecycle.Rows { return runRows(u) }

// Crons implements changing.Rows.
func (u changeRows) Crons() cron.Rows { return cronRows(u) }

// Limits implements changing.Rows.
func (u changeRows) Limits() limits.Named { return limiterRows(u) }

// ChangeFilter implements changing.Rows.
func (u changeRows) ChangeFilter(c *store.FilterChange) error {
	u.newEpoch = true
	f := c.Filter
	if f.Task != "" && f.ID == 0 {
		numbers, err := u.filterNumber.get(u.s.settings.Schema + ".filters")
		if err != nil {
			return err
		}
		id := numbers[0]
		c.ID = id
		u.queued = append(u.queued, func(b *pgx.Batch) {
			b.Queue(u.s.sql("INSERT INTO stint.filters (id, task, scope, expr, payload) VALUES ($1, $2, $3, $4, $5)"),
				id, f.Task, f.Scope, f.Expr, f.Payload)
		})
		return nil
	}
	there, err := u.filterThere.get(f.ID)
	if err != nil {
		return err
	}
	if len(there) == 0 {
		return store.ErrNotFound
	}
	query, args := "DELETE FROM stint.filters WHERE id = $1", []any{f.ID}
	if c.ID = f.ID; f.Task != "" {
		query = "UPDATE stint.filters SET task = $2, scope = $3, expr = $4, payload = $5 WHERE id = $1"
		args = append(args, f.Task, f.Scope, f.Expr, f.Payload)
	}
	u.queued = append(u.queued, func(b *pgx.Batch) { b.Queue(u.s.sql(query), args...) })
	return nil
}

// PauseQueue implements changing.Rows. A queue that was never used is not created by being resumed.
func (u changeRows) PauseQueue(queue string, paused bool) error {
	u.newEpoch = true
	text := "UPDATE stint.queues SET paused = false WHERE name = $1"
	if paused {
		text = "INSERT INTO stint.queues (name, paused) VALUES ($1, true) ON CONFLICT (name) DO UPDATE SET paused = true"
	}
	u.queued = append(u.queued, func(b *pgx.Batch) { b.Queue(u.s.sql(text), queue) })
	return nil
}

// PauseWorker implements changing.Rows.
func (u changeRows) PauseWorker(name string, paused bool) error {
	ids, err := u.workersNamed.get(name)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return fmt.Errorf("worker %q: %w", name, store.ErrNotFound)
	}
	for _, id := range ids {
		w, err := u.workers.get(id)
		if err != nil {
			return err
		}
		w.paused = paused
		u.workers.change(id)
	}
	u.newEpoch = true
	return nil
}

// ChangeSetting implements changing.Rows.
func (u changeRows) ChangeSetting(c *store.SettingChange) error {
	had, err := u.settings.get(c.Key)
	switch {
	case err != nil:
		return err
	case c.IfMissing && had != nil:
		c.Stored = had.Value
		return nil
	case c.Value == nil:
		u.settings.remove(c.Key)
	default:
		u.settings.put(c.Key, c.Setting)
	}
	c.Stored = c.Value
	return nil
}

// MarkErrors implements changing.Rows.
func (u changeRows) MarkErrors(m *store.ErrorMark) error {
	there, err := u.errorsThere.get(m.Group)
	if err != nil {
		return err
	}
	if len(there) == 0 {
		return fmt.Errorf("error group %016x: %w", uint64(m.Group), store.ErrNotFound)
	}
	var till *int64
	if !m.MutedTill.IsZero() {
		ms := clock.Millis(m.MutedTill)
		till = &ms
	}
	u.queued = append(u.queued, func(b *pgx.Batch) {
		b.Queue(u.s.sql("UPDATE stint.error_groups SET muted_till = $2, muted_to = CASE WHEN $3::boolean THEN 2 * count END, "+
			"resolved = CASE WHEN $4::boolean THEN count END WHERE id = $1"), m.Group, till, m.ToDouble, m.Resolved)
	})
	return nil
}
