package sqlite

import (
	"context"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
)

// Declare implements store.Schedules.
func (s *Store) Declare(ctx context.Context, now time.Time, ds []store.Declaration) error {
	return s.do(ctx, func(u *unit) error {
		for i := range ds {
			if err := cron.Declare(u.crons, now, &ds[i]); err != nil {
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

// expireDeclared deletes the declarations that were removed before a time.
func (s *Store) expireDeclared(ctx context.Context, before time.Time) error {
	return s.do(ctx, func(u *unit) error {
		if err := u.exec("DELETE FROM stint_crons WHERE gone_at IS NOT NULL AND gone_at < ?", before.UnixMilli()); err != nil {
			return err
		}
		return u.exec("DELETE FROM stint_triggers WHERE gone_at IS NOT NULL AND gone_at < ?", before.UnixMilli())
	})
}
