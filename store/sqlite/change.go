package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

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
func (u changeRows) Runs() lifecycle.Rows { return u.runs }

// Crons implements changing.Rows.
func (u changeRows) Crons() cron.Rows { return u.crons }

// Limits implements changing.Rows.
func (u changeRows) Limits() limits.Named { return limiterRows(u) }

// ChangeFilter implements changing.Rows.
func (u changeRows) ChangeFilter(c *store.FilterChange) error {
	u.triggers.forget()
	f := &c.Filter
	if f.Task != "" && f.ID == 0 {
		return u.one("INSERT INTO stint_filters (task, scope, expr, payload) VALUES (?, ?, ?, ?) RETURNING id",
			[]any{f.Task, f.Scope, f.Expr, text(f.Payload)}, &c.ID)
	}
	query, args := "DELETE FROM stint_filters WHERE id = ?1", []any{f.ID}
	if c.ID = f.ID; f.Task != "" {
		query = "UPDATE stint_filters SET task = ?2, scope = ?3, expr = ?4, payload = ?5 WHERE id = ?1"
		args = append(args, f.Task, f.Scope, f.Expr, text(f.Payload))
	}
	n, err := u.execN(query, args...)
	if err == nil && n == 0 {
		err = store.ErrNotFound
	}
	return err
}

// PauseQueue implements changing.Rows.
func (u changeRows) PauseQueue(queue string, paused bool) error {
	if !paused { // a queue that was never used is not created
		return u.exec("UPDATE stint_queues SET paused = 0 WHERE name = ?", queue)
	}
	return u.exec("INSERT INTO stint_queues (name, paused) VALUES (?, 1) ON CONFLICT DO UPDATE SET paused = 1", queue)
}

// PauseWorker implements changing.Rows.
func (u changeRows) PauseWorker(name string, paused bool) error {
	u.lanes.pausedWorkers = nil
	u.claims.recheck = true
	n, err := u.execN("UPDATE stint_workers SET paused = ? WHERE name = ? AND ended_at IS NULL", paused, name)
	if err == nil && n == 0 {
		err = fmt.Errorf("worker %q: %w", name, store.ErrNotFound)
	}
	return err
}

// ChangeSetting implements changing.Rows.
func (u changeRows) ChangeSetting(c *store.SettingChange) error {
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

// MarkErrors implements changing.Rows.
func (u changeRows) MarkErrors(m *store.ErrorMark) error {
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
