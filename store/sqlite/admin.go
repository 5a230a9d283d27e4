package sqlite

import (
	"context"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
)

// perBulk is the number of runs that one commit of a bulk action changes.
const perBulk = 500

// each applies change to every run that an action concerns and that matches f, newest first, perBulk in a
// commit. change reports whether it changed the run.
func (s *Store) each(ctx context.Context, a *store.Action, f store.Filter, change func(*unit, int64) (bool, error)) (int, error) {
	var selected *reading.Selection
	err := s.view(ctx, func(q querier) (err error) {
		selected, err = s.reads().Select(q, a, f)
		return err
	})
	if err != nil {
		return 0, err
	}
	total, before := 0, int64(1)<<62
	for {
		var keys []int64
		err := s.view(ctx, func(q querier) (err error) {
			keys, err = selected.Before(q, before, perBulk)
			return err
		})
		if err != nil || len(keys) == 0 {
			return total, err
		}
		n := 0
		err = s.do(ctx, func(u *unit) error {
			n = 0
			for _, k := range keys {
				changed, err := change(u, k)
				if err != nil {
					return err
				}
				if changed {
					n++
				}
			}
			return nil
		})
		if err != nil {
			return total, err
		}
		total, before = total+n, keys[len(keys)-1]
	}
}

// Delete implements lifecycle.Rows.
func (rs *runs) Delete(key int64) error {
	tasks, err := column[int64](rs, "SELECT id FROM stint_runs WHERE parent = ? AND node IS NOT NULL AND NOT flags & 2", key)
	if err != nil {
		return err
	}
	for _, task := range tasks {
		if err := rs.Delete(task); err != nil {
			return err
		}
	}
	if err := rs.workflows.flushJoins(); err != nil {
		return err
	}
	for _, q := range []string{
		"DELETE FROM stint_runs WHERE id = ?",
		"DELETE FROM stint_inputs WHERE id = ?",
		"DELETE FROM stint_attempts WHERE run = ?",
		"DELETE FROM stint_joins WHERE run = ?",
		"DELETE FROM stint_remade WHERE run = ?",
		"DELETE FROM stint_tests WHERE run = ?",
		"DELETE FROM stint_waits WHERE run = ?",
		"DELETE FROM stint_journal WHERE run = ?",
		"DELETE FROM stint_progress WHERE run = ?",
		"DELETE FROM stint_logs WHERE run = ?",
		"DELETE FROM stint_chunks WHERE run = ?",
		"DELETE FROM stint_task_limits WHERE run = ?",
		"DELETE FROM stint_sticky WHERE run = ?",
		"DELETE FROM stint_child_keys WHERE parent = ?",
		"DELETE FROM stint_error_runs WHERE run = ?",
	} {
		if err := rs.exec(q, key); err != nil {
			return err
		}
	}
	rs.Ended(key)
	rs.deleted = true
	return rs.keys.releaseKeys(key)
}

const keepLastKeySQL = "INSERT INTO stint_meta (key, value) VALUES ('last_key', CAST(CAST(? AS TEXT) AS BLOB)) " +
	"ON CONFLICT DO UPDATE SET value = excluded.value"

// flush keeps the highest key where runs or events are deleted: it may be theirs, and no key is given twice, also if
// the clock is set back.
func (rs *runs) flush() error {
	if !rs.deleted {
		return nil
	}
	rs.deleted = false
	return rs.exec(keepLastKeySQL, rs.lastKey)
}

func (rs *runs) rolledBack() { rs.deleted, rs.tried = false, false }
