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
type triggerCache struct {
	passive
	byKey   map[string][]store.Trigger
	wild    []store.Trigger
	filters map[string][]store.TaskFilter
	// noWaiters are keys of events that nothing waits for.
	noWaiters map[string]bool
}

const maxTriggerKeys = 10_000 // in memory

func (c *triggerCache) forget()     { *c = triggerCache{} }
func (c *triggerCache) rolledBack() { c.forget() }
func (c *triggerCache) outdated()   { c.forget() }

// setNoWaiters records that nothing waits for events with a key.
func (c *triggerCache) setNoWaiters(key string) {
	if c.noWaiters == nil || len(c.noWaiters) > maxTriggerKeys {
		c.noWaiters = map[string]bool{}
	}
	c.noWaiters[key] = true
}

// trigger starts the runs of an event's triggers, and reports whether there are any.
func (t *txn) trigger(now, key int64, e *store.NewEvent) (started bool, err error) {
	err = t.eachTrigger(e, func(tr *store.Trigger, filters []store.TaskFilter) error {
		runs, err := tr.RunsOf(t.s.ids.id(key), e, filters)
		if err != nil || len(runs) == 0 {
			return err
		}
		started = true
		return t.startBy(now, key, runs)
	})
	return started, err
}

// eachTrigger calls f with each trigger of an event's key, and the filters of its task.
func (t *txn) eachTrigger(e *store.NewEvent, f func(*store.Trigger, []store.TaskFilter) error) error {
	exact, err := t.triggersOf(e.Key)
	if err != nil {
		return err
	}
	for _, list := range [][]store.Trigger{exact, t.triggers.wild} {
		for i := range list {
			if list[i].Key != e.Key && !store.MatchKey(list[i].Key, e.Key) {
				continue
			}
			filters, err := t.filtersOf(list[i].Template.Run.Task)
			if err != nil {
				return err
			}
			if err := f(&list[i], filters); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *txn) startBy(now, key int64, runs []store.NewRun) error {
	for i := range runs {
		run, started, err := t.fire(now, &runs[i])
		if err != nil {
			return fmt.Errorf("start of task %q by the event: %w", runs[i].Task, err)
		}
		if started {
			t.recordEventRun(key, run, false)
		}
	}
	return nil
}

// fire enqueues a run that an event starts. Plain ones of a group of changes are inserted together: no
// change of the group knows them, so none misses their rows. started is false if the run's idempotency
// key is taken.
func (t *txn) fire(now int64, r *store.NewRun) (key int64, started bool, err error) {
	if !plain(r, now) {
		made, err := t.enqueue(now, []store.NewRun{*r}, nil)
		if err != nil {
			return 0, false, err
		}
		key, _ := t.s.ids.key(made[0].ID)
		return key, !made[0].Existing, nil
	}
	lane, err := t.lane(laneName{queue: r.Queue, task: r.Task, route: r.Route.Text()})
	if err != nil {
		return 0, false, err
	}
	key = t.nextKey(now)
	input, err := t.spill(key, r.Input)
	if err != nil {
		return 0, false, err
	}
	t.events.started = append(t.events.started, key, lane, int64(r.Priority), store.Rank(createdAt(key), r.Priority, r.AgeEvery), input,
		string(r.Metadata))
	return key, true, nil
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
func (t *txn) triggersOf(key string) ([]store.Trigger, error) {
	c := t.triggers
	if c.byKey == nil || len(c.byKey) > maxTriggerKeys {
		wild, err := t.readTriggers("wild = 1")
		if err != nil {
			return nil, err
		}
		c.byKey, c.wild = map[string][]store.Trigger{}, wild
	}
	if list, ok := c.byKey[key]; ok {
		return list, nil
	}
	list, err := t.readTriggers("wild = 0 AND key = ?", key)
	if err == nil {
		c.byKey[key] = list
	}
	return list, err
}

func (t *txn) readTriggers(where string, args ...any) ([]store.Trigger, error) {
	type row struct {
		store.Trigger
		graph    *int64
		template []byte
	}
	rows, err := rowsOf(t, func(r *row) []any { return []any{&r.Key, &r.Filter, &r.graph, &r.template} },
		"SELECT key, filter, graph, template FROM stint_triggers WHERE gone_at IS NULL AND "+where+" ORDER BY key, task, id", args...)
	if err != nil {
		return nil, err
	}
	list := make([]store.Trigger, len(rows))
	for i, r := range rows {
		if list[i] = r.Trigger; err == nil {
			list[i].Template, err = t.s.template(t, r.template, r.graph)
		}
	}
	return list, err
}

func (t *txn) filtersOf(task string) ([]store.TaskFilter, error) {
	c := t.triggers
	if list, ok := c.filters[task]; ok {
		return list, nil
	}
	if c.filters == nil || len(c.filters) > maxTriggerKeys {
		c.filters = map[string][]store.TaskFilter{}
	}
	list, err := rowsOf(t, filterFields, filtersSQL+"task = ? ORDER BY id", task)
	if err == nil {
		c.filters[task] = list
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
func (t *txn) templateText(m store.Template) (text string, graph any, err error) {
	if m.Run.Graph != nil {
		if graph, err = t.storeGraph(m.Run.Graph); err != nil {
			return "", nil, err
		}
	}
	m.Run.Graph, m.Run.Input = nil, nil
	b, err := json.Marshal(m)
	return string(b), graph, err
}

// SetFilter implements store.Schedules.
func (s *Store) SetFilter(ctx context.Context, f store.TaskFilter) (id int64, err error) {
	err = s.do(ctx, func(t *txn) error {
		t.triggers.forget()
		return t.one("INSERT INTO stint_filters (task, scope, expr, payload) VALUES (?, ?, ?, ?) RETURNING id",
			[]any{f.Task, f.Scope, f.Expr, text(f.Payload)}, &id)
	})
	return id, err
}

// DeleteFilter implements store.Schedules.
func (s *Store) DeleteFilter(ctx context.Context, id int64) error {
	return s.do(ctx, func(t *txn) error {
		t.triggers.forget()
		n, err := t.execN("DELETE FROM stint_filters WHERE id = ?", id)
		if err == nil && n == 0 {
			err = store.ErrNotFound
		}
		return err
	})
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
