package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/stint-dev/stint/store"
)

// A triggerCache holds triggers, by key, and the filters of tasks, by task. It is dropped when they change,
// when another connection commits and when a transaction is rolled back.
type triggers struct {
	*unit
	passive
	byKey   map[string][]store.Trigger
	wild    []store.Trigger
	filters map[string][]store.TaskFilter
	// noWaiters are keys of events that nothing waits for.
	noWaiters map[string]bool
}

const maxTriggerKeys = 10_000 // in memory

func (ts *triggers) forget()     { *ts = triggers{unit: ts.unit} }
func (ts *triggers) rolledBack() { ts.forget() }
func (ts *triggers) outdated()   { ts.forget() }

// setNoWaiters records that nothing waits for events with a key.
func (ts *triggers) setNoWaiters(key string) {
	if ts.noWaiters == nil || len(ts.noWaiters) > maxTriggerKeys {
		ts.noWaiters = map[string]bool{}
	}
	ts.noWaiters[key] = true
}

// firedSQL insert runs that events start, bulkSizes rows at a time.
var firedSQL = func() (texts [len(bulkSizes)]string) {
	for i, n := range bulkSizes {
		const row = "(?,?," + queuedState + ",?,?,?,?)"
		texts[i] = "INSERT INTO stint_runs (id, lane, state, priority, rank, input, metadata) VALUES " + row + strings.Repeat(","+row, n-1)
	}
	return texts
}()

// insertAll executes statements, each for bulkSizes rows, until all arguments are used.
func (t *txn) insertAll(texts *[len(bulkSizes)]string, columns int, args []any) error {
	for i, rows := range bulkSizes {
		for n := columns * rows; len(args) >= n; args = args[n:] {
			if err := t.exec(texts[i], args[:n]...); err != nil {
				return err
			}
		}
	}
	return nil
}

// triggersOf returns the triggers with exactly that key. It also caches those with a *.
func (ts *triggers) triggersOf(key string) ([]store.Trigger, error) {
	if ts.byKey == nil || len(ts.byKey) > maxTriggerKeys {
		wild, err := ts.readTriggers("wild = 1")
		if err != nil {
			return nil, err
		}
		ts.byKey, ts.wild = map[string][]store.Trigger{}, wild
	}
	if list, ok := ts.byKey[key]; ok {
		return list, nil
	}
	list, err := ts.readTriggers("wild = 0 AND key = ?", key)
	if err == nil {
		ts.byKey[key] = list
	}
	return list, err
}

func (ts *triggers) readTriggers(where string, args ...any) ([]store.Trigger, error) {
	type row struct {
		store.Trigger
		graph    *int64
		template []byte
	}
	rows, err := rowsOf(ts, func(r *row) []any { return []any{&r.Key, &r.Filter, &r.graph, &r.template} },
		"SELECT key, filter, graph, template FROM stint_triggers WHERE gone_at IS NULL AND "+where+" ORDER BY key, task, id", args...)
	if err != nil {
		return nil, err
	}
	list := make([]store.Trigger, len(rows))
	for i, r := range rows {
		if list[i] = r.Trigger; err == nil {
			list[i].Template, err = ts.s.template(ts, r.template, r.graph)
		}
	}
	return list, err
}

func (ts *triggers) filtersOf(task string) ([]store.TaskFilter, error) {
	if list, ok := ts.filters[task]; ok {
		return list, nil
	}
	if ts.filters == nil || len(ts.filters) > maxTriggerKeys {
		ts.filters = map[string][]store.TaskFilter{}
	}
	list, err := rowsOf(ts, filterFields, filtersSQL+"task = ? ORDER BY id", task)
	if err == nil {
		ts.filters[task] = list
	}
	return list, err
}

const filtersSQL = "SELECT id, task, scope, expr, payload FROM stint_filters WHERE "

func filterFields(f *store.TaskFilter) []any {
	return []any{&f.ID, &f.Task, &f.Scope, &f.Expr, &f.Payload}
}

// template is the inverse of templateText.
func (s *Store) template(q querier, text []byte, graph *int64) (t store.Template, err error) {
	if err = json.Unmarshal(text, &t); err != nil {
		return t, fmt.Errorf("stored template: %w", err)
	}
	if graph != nil {
		t.Run.Graph, err = s.graphs.graph(q, *graph)
	}
	return t, err
}

// templateText returns a template as it is stored: without its input, and with its graph's number.
func (ts *triggers) templateText(m store.Template) (text string, graph any, err error) {
	if m.Run.Graph != nil {
		if graph, err = ts.workflows.storeGraph(m.Run.Graph); err != nil {
			return "", nil, err
		}
	}
	m.Run.Graph, m.Run.Input = nil, nil
	b, err := json.Marshal(m)
	return string(b), graph, err
}

// SetFilter implements store.Schedules.
func (s *Store) SetFilter(ctx context.Context, f store.TaskFilter) (id int64, err error) {
	err = s.do(ctx, func(u *unit) error {
		u.triggers.forget()
		if f.Task != "" {
			return u.one("INSERT INTO stint_filters (task, scope, expr, payload) VALUES (?, ?, ?, ?) RETURNING id",
				[]any{f.Task, f.Scope, f.Expr, text(f.Payload)}, &id)
		}
		n, err := u.execN("DELETE FROM stint_filters WHERE id = ?", f.ID)
		if err == nil && n == 0 {
			err = store.ErrNotFound
		}
		return err
	})
	return id, err
}

// Filters implements store.Schedules.
func (s *Store) Filters(ctx context.Context, task string, after int64, limit int) (all []store.TaskFilter, more bool, err error) {
	where, args := "id > ? ORDER BY id LIMIT ?", []any{after, limit + 1}
	if task != "" {
		where, args = "task = ? AND "+where, append([]any{task}, args...)
	}
	err = s.view(ctx, func(q querier) error {
		all, more, err = pageOf(q, limit, filterFields, func(f *store.TaskFilter) int { return f.Size() }, filtersSQL+where, args...)
		return err
	})
	return all, more, err
}
