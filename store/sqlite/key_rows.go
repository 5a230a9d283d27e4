package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Holder implements lifecycle.EnqueueRows.
func (ks *idempotencyKeys) Holder(task, key string) (h lifecycle.Holder, err error) {
	err = ks.one(`SELECT k.run, coalesce(k.expires_at, 0), coalesce(r.`+hasEnded+`, 1) FROM stint_keys k
		LEFT JOIN stint_runs r ON r.id = k.run WHERE k.task = ? AND k.key = ?`, []any{task, key}, &h.Run, &h.Expires, &h.Ended)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return h, err
}

// Hold implements lifecycle.EnqueueRows.
func (ks *idempotencyKeys) Hold(task, key string, run, expires int64) error {
	return ks.exec(`INSERT INTO stint_keys (task, key, run, expires_at) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET run = excluded.run, expires_at = excluded.expires_at, gone = 0`, task, key, run, nullable(expires))
}

// Replace implements lifecycle.EnqueueRows.
func (ks *idempotencyKeys) Replace(key int64, r *store.NewRun, at int64) (bool, error) {
	limits, err := ks.limiters.storedLimits(r.Limits)
	if err != nil {
		return false, err
	}
	var input any = r.Input
	if len(r.Input) > spillAbove {
		input = nil
	}
	n, err := ks.execN(`UPDATE stint_runs SET input = ?2, metadata = ?3, limits = ?4, `+setRank+`?5, due_at = ?5,
		start_in = ?6, start_by = ?5 + ?6 WHERE id = ?1 AND `+stateScheduled+` AND lease = 0`, key, input, text(r.Metadata), limits, at,
		nullable(lifecycle.StartIn(r.StartIn)))
	if err != nil || n == 0 {
		return false, err
	}
	if r.Graph != nil {
		if err := ks.exec("DELETE FROM stint_task_limits WHERE run = ?", key); err != nil {
			return false, err
		}
		if err := ks.workflows.keepTaskLimits(key, r.TaskLimits); err != nil {
			return false, err
		}
	}
	if input != nil {
		return true, ks.exec("DELETE FROM stint_inputs WHERE id = ?", key)
	}
	return true, ks.exec("INSERT OR REPLACE INTO stint_inputs (id, data) VALUES (?, ?)", key, r.Input)
}

// Parent implements lifecycle.EnqueueRows.
func (ks *idempotencyKeys) Parent(id store.ID) (p lifecycle.Parent, err error) {
	key, ok := ks.s.ids.Key(id)
	if ok {
		err = ks.one("SELECT id, coalesce(root, id), "+stateCanceled+" OR cancel_at IS NOT NULL FROM stint_runs WHERE id = ?", []any{key},
			&p.Key, &p.Root, &p.Canceled)
	}
	if !ok || errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("parent run %s: %w", id, store.ErrNotFound)
	}
	return p, err
}

// Child implements lifecycle.EnqueueRows.
func (ks *idempotencyKeys) Child(parent int64, key string) (run int64, err error) {
	err = ks.one("SELECT run FROM stint_child_keys WHERE parent = ? AND key = ?", []any{parent, key}, &run)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return run, err
}

// SetChild implements lifecycle.EnqueueRows.
func (ks *idempotencyKeys) SetChild(parent int64, key string, run int64) error {
	return ks.exec("INSERT INTO stint_child_keys (parent, key, run) VALUES (?, ?, ?)", parent, key, run)
}

// releaseKeys releases the keys of a run that is being deleted, except those whose KeyTTL has not passed.
func (ks *idempotencyKeys) releaseKeys(run int64) error {
	err := ks.exec("DELETE FROM stint_keys WHERE run = ? AND (expires_at IS NULL OR expires_at <= ?)", run, ks.now)
	if err != nil {
		return err
	}
	return ks.exec("UPDATE stint_keys SET gone = 1 WHERE run = ?", run)
}

// expireKeys deletes the keys of deleted runs whose KeyTTL has passed.
func (s *Store) expireKeys(ctx context.Context) error {
	for more := true; more; {
		err := s.do(ctx, func(u *unit) error {
			n, err := u.execN(expireKeysSQL, u.now, perBulk)
			more = n == perBulk
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const expireKeysSQL = `
DELETE FROM stint_keys WHERE (task, key) IN (SELECT task, key FROM stint_keys WHERE gone = 1 AND expires_at <= ?
  ORDER BY expires_at LIMIT ?)`
