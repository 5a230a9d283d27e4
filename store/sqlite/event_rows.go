package sqlite

import (
	"database/sql"
	"errors"
	"strings"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/entries"
	"github.com/stint-dev/stint/store/internal/event"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/ready"
	"github.com/stint-dev/stint/store/internal/workflow"
)

var _ event.Rows = (*events)(nil)

// Delivered implements event.Rows.
func (es *events) Delivered(delivery string) (key int64, err error) {
	err = es.one("SELECT id FROM stint_events WHERE delivery = ? AND delivery IS NOT NULL", []any{delivery}, &key)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return key, err
}

// Insert implements event.Rows.
func (es *events) Insert(now int64, e *store.NewEvent, pending bool) (key int64, err error) {
	var scope, priority, delivery, open any
	if e.Priority != nil {
		priority = *e.Priority
	}
	if e.Scope != "" {
		scope = e.Scope
	}
	if e.Delivery != "" {
		delivery = e.Delivery
	}
	if pending {
		open = 1
	}
	key = es.nextKey(now)
	return key, es.exec("INSERT INTO stint_events (id, key, payload, metadata, scope, priority, delivery, pending) "+
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?)", key, e.Key, e.Payload, text(e.Metadata), scope, priority, delivery, open)
}

// Take implements event.Rows.
func (es *events) Take(key int64) (bool, error) {
	n, err := es.execN("UPDATE stint_events SET pending = NULL WHERE id = ? AND pending = 1", key)
	return n > 0, err
}

// Since implements event.Rows.
func (es *events) Since(at int64) ([]event.Event, error) {
	return rowsOf(es, func(e *event.Event) []any {
		return []any{&e.ID, &e.Key, &e.Payload, &e.Metadata, &e.Scope, &e.Priority}
	},
		"SELECT id, key, payload, metadata, coalesce(scope, ''), priority FROM stint_events WHERE id >= ? AND pending IS NULL ORDER BY id",
		keys.At(millis(at)))
}

// Triggers implements event.Rows.
func (es *events) Triggers(key string) (exact, wild []store.Trigger, err error) {
	exact, err = es.triggers.triggersOf(key)
	return exact, es.triggers.wild, err
}

// Filters implements event.Rows.
func (es *events) Filters(task string) ([]store.TaskFilter, error) {
	return es.triggers.filtersOf(task)
}

// ID implements event.Rows.
func (es *events) ID(key int64) store.ID { return es.s.ids.ID(key) }

// Start implements event.Rows. Plain runs of a group of changes are inserted together: no change of the
// group knows them, so none misses their rows.
func (es *events) Start(now, event int64, r *store.NewRun) error {
	if !plain(r, millis(now)) {
		made, err := es.runs.enqueue(now, []store.NewRun{*r}, nil)
		if err != nil || made[0].Existing {
			return err
		}
		key, _ := es.s.ids.Key(made[0].ID)
		es.recordEventRun(event, key, false)
		return nil
	}
	lane, err := es.lanes.lane(ready.Name{Queue: r.Queue, Task: r.Task, Route: r.Route.Text()})
	if err != nil {
		return err
	}
	key := es.nextKey(now)
	input, err := es.runs.spill(key, r.Input)
	if err != nil {
		return err
	}
	es.started = append(es.started, key, lane, int64(r.Priority), store.Rank(keys.CreatedAt(key), r.Priority, r.AgeEvery), input,
		string(r.Metadata))
	es.recordEventRun(event, key, false)
	return nil
}

// Declared implements event.Rows.
func (es *events) Declared(task string) ([]event.Declared, error) {
	return rowsOf(es, func(d *event.Declared) []any {
		return []any{&d.Key, &d.Filter, &d.Graph, &d.Template, &d.Program, &d.Gone}
	},
		"SELECT key, filter, coalesce(graph, 0), template, program, coalesce(gone_at, 0) FROM stint_triggers WHERE task = ? ORDER BY id",
		task)
}

// Encode implements event.Rows.
func (es *events) Encode(tr *store.Trigger) (event.Declared, error) {
	template, graph, err := es.triggers.templateText(tr.Template)
	number, _ := graph.(int64)
	return event.Declared{Key: tr.Key, Filter: tr.Filter, Template: template, Graph: number}, err
}

// Replace implements event.Rows.
func (es *events) Replace(task string, by []event.Declared) error {
	es.triggers.forget()
	if err := es.exec("DELETE FROM stint_triggers WHERE task = ?", task); err != nil {
		return err
	}
	for _, d := range by {
		err := es.exec("INSERT INTO stint_triggers (task, key, wild, filter, graph, template, program) "+
			"VALUES (?, ?, ?, ?, nullif(?, 0), ?, ?)", task, d.Key, strings.Contains(d.Key, "*"), d.Filter, d.Graph, d.Template, d.Program)
		if err != nil {
			return err
		}
	}
	return nil
}

// NoWaiters implements event.Rows.
func (es *events) NoWaiters(key string) bool { return es.triggers.noWaiters[key] }

// SetNoWaiters implements event.Rows.
func (es *events) SetNoWaiters(key string) { es.triggers.setNoWaiters(key) }

// waitFields and waitFilters read, from the index of what waits of each kind, by which fields and then by
// which filters something waits.
var (
	waitFields  = [...]string{event.Conditions: selectDistinct("field", conditionWaits), event.Calls: selectDistinct("field", callWaits)}
	waitFilters = [...]string{event.Conditions: selectDistinct("filter", conditionWaits+" AND field = ?2 AND value = ?3"),
		event.Calls: selectDistinct("filter", callWaits+" AND field = ?2 AND match = ?3")}
)

const (
	conditionWaits = "stint_waits WHERE event IS NULL AND key = ?1"
	callWaits      = "stint_journal WHERE kind = 4 AND done = 0 AND name = ?1"
)

// Fields implements event.Rows.
func (es *events) Fields(kind event.Kind, key string) ([]string, error) {
	return column[string](es, waitFields[kind], key)
}

// WaitFilters implements event.Rows.
func (es *events) WaitFilters(kind event.Kind, m *store.Match) ([]string, error) {
	return column[string](es, waitFilters[kind], m.Key, m.Field, m.Value)
}

// Resolve implements event.Rows.
func (es *events) Resolve(kind event.Kind, now, key int64, payload []byte, m *store.Match, late bool) ([]event.Waiter, error) {
	scan := func(w *event.Waiter) []any { return []any{&w.Run, &w.At.Scope, &w.At.Seq} }
	if kind == event.Calls {
		return rowsOf(es, scan, `UPDATE stint_journal SET done = 1, value = ?5, event = ?6, at = ?7,
			began_at = nullif(coalesce(began_at, at), ?7)
			WHERE kind = 4 AND done = 0 AND name = ?1 AND field = ?2 AND match = ?3 AND filter = ?4
			AND (?8 = 0 OR NOT EXISTS (SELECT 1 FROM stint_journal j WHERE j.run = stint_journal.run AND j.event = ?6))
			RETURNING run, scope, seq`,
			m.Key, m.Field, m.Value, m.Filter, payload, key, now, late)
	}
	const matching = "event IS NULL AND key = ?1 AND field = ?2 AND value = ?3 AND filter = ?4"
	runs, err := rowsOf(es, scan, "SELECT run, '', leaf FROM stint_waits WHERE "+matching, m.Key, m.Field, m.Value, m.Filter)
	if err != nil {
		return nil, err
	}
	return runs, es.exec("UPDATE stint_waits SET event = ?5 WHERE "+matching, m.Key, m.Field, m.Value, m.Filter, key)
}

// Wake implements event.Rows.
func (es *events) Wake(kind event.Kind, now, key int64, w event.Waiter) error {
	es.recordEventRun(key, w.Run, true)
	if kind == event.Conditions {
		return workflow.Reconsider(es.workflows, w.Run, now)
	}
	es.signals.changed = append(es.signals.changed, w.Run) // calls of Await read again
	goesOn, err := entries.Came(es.journals, w.Run, w.At, millis(now))
	if err != nil || !goesOn {
		return err
	}
	return es.runs.Resume(w.Run, now)
}
