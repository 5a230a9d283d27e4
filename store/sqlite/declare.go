package sqlite

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
)

// Declare implements store.Schedules.
func (s *Store) Declare(ctx context.Context, now time.Time, ds []store.Declaration) error {
	return s.do(ctx, func(u *unit) error {
		for i := range ds {
			if err := u.crons.declareCrons(now, &ds[i]); err != nil {
				return err
			}
			if err := u.triggers.declareTriggers(now.UnixMilli(), &ds[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// declareTriggers replaces the triggers of a task if they have changed.
func (ts *triggers) declareTriggers(now int64, d *store.Declaration) error {
	type row struct {
		key, filter, template, program string
		graph, gone                    any
	}
	had, err := rowsOf(ts, func(r *row) []any { return []any{&r.key, &r.filter, &r.graph, &r.template, &r.program, &r.gone} },
		"SELECT key, filter, graph, template, program, gone_at FROM stint_triggers WHERE task = ? ORDER BY id", d.Task)
	if err != nil {
		return err
	}
	want := make([]row, len(d.Triggers))
	same := len(had) == len(want)
	for i, tr := range d.Triggers {
		w := &want[i]
		w.key, w.filter, w.program = tr.Key, tr.Filter, d.Program
		if w.template, w.graph, err = ts.templateText(tr.Template); err != nil {
			return err
		}
		same = same && had[i] == *w
	}
	if same {
		return nil
	}
	ts.forget()
	if err := ts.exec("DELETE FROM stint_triggers WHERE task = ?", d.Task); err != nil {
		return err
	}
	for _, w := range want {
		err := ts.exec("INSERT INTO stint_triggers (task, key, wild, filter, graph, template, program) VALUES (?, ?, ?, ?, ?, ?, ?)",
			d.Task, w.key, strings.Contains(w.key, "*"), w.filter, w.graph, w.template, w.program)
		if err != nil {
			return err
		}
	}
	if len(had) == 0 {
		return nil
	}
	gone, _ := had[0].gone.(int64)
	return ts.catchUp(now, gone, d.Triggers)
}

// catchUp starts the runs that triggers, which were undeclared for a moment, would have started meanwhile.
func (ts *triggers) catchUp(now, gone int64, triggers []store.Trigger) error {
	if gone == 0 || now-gone > store.CatchUpGraceTime.Milliseconds() {
		return nil
	}
	type row struct {
		id int64
		store.NewEvent
	}
	events, err := rowsOf(ts, func(r *row) []any { return []any{&r.id, &r.Key, &r.Payload, &r.Metadata, &r.Scope} },
		"SELECT id, key, payload, metadata, coalesce(scope, '') FROM stint_events WHERE id >= ? AND pending IS NULL "+
			"ORDER BY id", keyAt(millis(gone)))
	if err != nil {
		return err
	}
	for i := range events {
		for j := range triggers {
			e, tr := &events[i], &triggers[j]
			if !store.MatchKey(tr.Key, e.Key) {
				continue
			}
			filters, err := ts.filtersOf(tr.Template.Run.Task)
			if err != nil {
				return err
			}
			runs, err := tr.RunsOf(ts.s.ids.id(e.id), &e.NewEvent, filters)
			if err != nil {
				return err
			}
			if err := ts.startBy(now, e.id, runs); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasWorker reports whether a living worker has a handler for a task.
func (ws *workers) hasWorker(task string) (is bool, err error) {
	err = ws.one("SELECT EXISTS (SELECT 1 FROM stint_workers w WHERE w.ended_at IS NULL AND "+hasTask+")", []any{task}, &is)
	return is, err
}

// hasTask is the condition that a worker has the task ?1.
const hasTask = "(w.tasks = 'null' OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(w.tasks) THEN w.tasks END) j " +
	"WHERE j.value = ?1))"

// dropUndeclared removes the declarations of a registering worker's program for tasks that it does not
// define any more, and that no living worker has.
func (ws *workers) dropUndeclared(i *store.WorkerInfo) error {
	if i.Program == "" {
		return nil
	}
	tasks, err := column[string](ws, "SELECT task FROM stint_crons WHERE program = ? AND gone_at IS NULL", i.Program)
	if err != nil {
		return err
	}
	more, err := column[string](ws, "SELECT task FROM stint_triggers WHERE program = ? AND gone_at IS NULL", i.Program)
	if err != nil {
		return err
	}
	for _, task := range append(tasks, more...) {
		if slices.Contains(i.Defines, task) {
			continue
		}
		worked, err := ws.hasWorker(task)
		if err != nil {
			return err
		}
		if worked {
			continue
		}
		ws.triggers.forget()
		for _, q := range []string{
			"UPDATE stint_crons SET gone_at = ?2, next_at = NULL WHERE task = ?1 AND declared = 1 AND gone_at IS NULL",
			"UPDATE stint_triggers SET gone_at = ?2 WHERE task = ?1 AND gone_at IS NULL",
		} {
			if err := ws.exec(q, task, ws.now); err != nil {
				return err
			}
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
