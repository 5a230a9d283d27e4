package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
)

// Change implements store.Changes.
func (s *Store) Change(ctx context.Context, now time.Time, c store.Change) error {
	return s.do(ctx, func(u *unit) error { return u.makeChange(now, c) })
}

func (u *unit) makeChange(now time.Time, c store.Change) error {
	switch c := c.(type) {
	case *store.RunChange:
		return lifecycle.ChangeRun(u.runs, now.UnixMilli(), c)
	case *store.CronChange:
		return cron.Change(u.crons, now, c)
	case *store.FilterChange:
		return u.triggers.changeFilter(c)
	case *store.PauseChange:
		switch {
		case c.Queue != "":
			return u.pauseQueue(c.Queue, c.Paused)
		case c.Worker != "":
			return u.pauseWorker(c.Worker, c.Paused)
		}
		return limits.Pause(limiterRows{u}, c.Limit, c.Paused)
	case *store.RateChange:
		return limits.SetRate(limiterRows{u}, now, c)
	case *store.SettingChange:
		return u.changeSetting(c)
	case *store.ErrorMark:
		return u.markErrors(c)
	}
	return fmt.Errorf("%T is no change that this store knows", c)
}

func (ts *triggers) changeFilter(c *store.FilterChange) error {
	ts.forget()
	f := &c.Filter
	if f.Task != "" && f.ID == 0 {
		return ts.one("INSERT INTO stint_filters (task, scope, expr, payload) VALUES (?, ?, ?, ?) RETURNING id",
			[]any{f.Task, f.Scope, f.Expr, text(f.Payload)}, &c.ID)
	}
	query, args := "DELETE FROM stint_filters WHERE id = ?1", []any{f.ID}
	if c.ID = f.ID; f.Task != "" {
		query = "UPDATE stint_filters SET task = ?2, scope = ?3, expr = ?4, payload = ?5 WHERE id = ?1"
		args = append(args, f.Task, f.Scope, f.Expr, text(f.Payload))
	}
	n, err := ts.execN(query, args...)
	if err == nil && n == 0 {
		err = store.ErrNotFound
	}
	return err
}

func (u *unit) pauseQueue(queue string, paused bool) error {
	if !paused { // a queue that was never used is not created
		return u.exec("UPDATE stint_queues SET paused = 0 WHERE name = ?", queue)
	}
	return u.exec("INSERT INTO stint_queues (name, paused) VALUES (?, 1) ON CONFLICT DO UPDATE SET paused = 1", queue)
}

func (u *unit) pauseWorker(name string, paused bool) error {
	u.lanes.pausedWorkers = nil
	u.claims.recheck = true
	n, err := u.execN("UPDATE stint_workers SET paused = ? WHERE name = ? AND ended_at IS NULL", paused, name)
	if err == nil && n == 0 {
		err = fmt.Errorf("worker %q: %w", name, store.ErrNotFound)
	}
	return err
}

func (u *unit) changeSetting(c *store.SettingChange) error {
	if c.IfMissing {
		err := u.one("SELECT value FROM stint_settings WHERE key = ?", []any{c.Key}, &c.Stored)
		if !errors.Is(err, sql.ErrNoRows) {
			c.Stored = append([]byte{}, c.Stored...) // it is not nil
			return err
		}
	}
	if c.Stored = c.Value; c.Value == nil {
		return u.exec("DELETE FROM stint_settings WHERE key = ?", c.Key)
	}
	return u.exec("INSERT INTO stint_settings (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
		c.Key, c.Value)
}

func (u *unit) markErrors(m *store.ErrorMark) error {
	var till any
	if !m.MutedTill.IsZero() {
		till = clock.Millis(m.MutedTill)
	}
	n, err := u.execN("UPDATE stint_error_groups SET muted_till = ?2, muted_to = CASE WHEN ?3 THEN 2 * count END, "+
		"resolved = CASE WHEN ?4 THEN count END WHERE id = ?1", m.Group, till, m.ToDouble, m.Resolved)
	if err == nil && n == 0 {
		err = fmt.Errorf("error group %016x: %w", uint64(m.Group), store.ErrNotFound)
	}
	return err
}
