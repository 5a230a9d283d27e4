package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
)

// Change implements store.Changes.
func (s *Store) Change(ctx context.Context, now time.Time, c store.Change) error {
	if m, ok := c.(*store.ErrorMark); ok {
		return s.markErrors(ctx, m)
	}
	return s.do(ctx, func(u *unit) error { return u.change(now, c) })
}

func (u *unit) change(now time.Time, c store.Change) error {
	switch c := c.(type) {
	case *store.RunChange:
		return lifecycle.ChangeRun(runRows{u}, now.UnixMilli(), c)
	case *store.CronChange:
		return cron.Change(cronRows{u}, now, c)
	case *store.FilterChange:
		return u.changeFilter(c)
	case *store.PauseChange:
		switch {
		case c.Queue != "":
			return u.pauseQueue(c.Queue, c.Paused)
		case c.Worker != "":
			return u.pauseWorkers(c.Worker, c.Paused)
		}
		return limits.Pause(limiterRows{u}, c.Limit, c.Paused)
	case *store.RateChange:
		return limits.SetRate(limiterRows{u}, now, c)
	case *store.SettingChange:
		return u.changeSetting(c)
	}
	return fmt.Errorf("%T is no change that this store knows", c)
}

func (u *unit) changeFilter(c *store.FilterChange) error {
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

// pauseQueue pauses or resumes a queue. One that was never used is not created by being resumed.
func (u *unit) pauseQueue(queue string, paused bool) error {
	u.newEpoch = true
	text := "UPDATE stint.queues SET paused = false WHERE name = $1"
	if paused {
		text = "INSERT INTO stint.queues (name, paused) VALUES ($1, true) ON CONFLICT (name) DO UPDATE SET paused = true"
	}
	u.queued = append(u.queued, func(b *pgx.Batch) { b.Queue(u.s.sql(text), queue) })
	return nil
}

func (u *unit) pauseWorkers(name string, paused bool) error {
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

func (u *unit) changeSetting(c *store.SettingChange) error {
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

// markErrors marks an error group. Counting in a group is not of a unit, so it is looked for before.
func (s *Store) markErrors(ctx context.Context, m *store.ErrorMark) error {
	if s.settings.ReadOnly {
		return store.ErrReadOnly
	}
	found := store.ErrorGroupList{ErrorQuery: store.ErrorQuery{IDs: []int64{m.Group}}, Limit: 1}
	err := s.Read(ctx, &found)
	if err == nil && len(found.Groups) == 0 {
		err = fmt.Errorf("error group %016x: %w", uint64(m.Group), store.ErrNotFound)
	}
	if err != nil {
		return err
	}
	var till *int64
	if !m.MutedTill.IsZero() {
		ms := clock.Millis(m.MutedTill)
		till = &ms
	}
	return s.do(ctx, func(u *unit) error {
		u.queued = append(u.queued, func(b *pgx.Batch) {
			b.Queue(s.sql("UPDATE stint.error_groups SET muted_till = $2, muted_to = CASE WHEN $3::boolean THEN 2 * count END, "+
				"resolved = CASE WHEN $4::boolean THEN count END WHERE id = $1"), m.Group, till, m.ToDouble, m.Resolved)
		})
		return nil
	})
}
