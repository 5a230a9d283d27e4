package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
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

// trigger starts the runs of an event's triggers, and reports whether there are any.
func (ts *triggers) trigger(now, key int64, e *store.NewEvent) (started bool, err error) {
	err = ts.eachTrigger(e, func(tr *store.Trigger, filters []store.TaskFilter) error {
		runs, err := tr.RunsOf(ts.s.ids.id(key), e, filters)
		if err != nil || len(runs) == 0 {
			return err
		}
		started = true
		return ts.startBy(now, key, runs)
	})
	return started, err
}

// eachTrigger calls f with each trigger of an event's key, and the filters of its task.
func (ts *triggers) eachTrigger(e *store.NewEvent, f func(*store.Trigger, []store.TaskFilter) error) error {
	exact, err := ts.triggersOf(e.Key)
	if err != nil {
		return err
	}
	for _, list := range [][]store.Trigger{exact, ts.wild} {
		for i := range list {
			if list[i].Key != e.Key && !store.MatchKey(list[i].Key, e.Key) {
				continue
			}
			filters, err := ts.filtersOf(list[i].Template.Run.Task)
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

func (ts *triggers) startBy(now, key int64, runs []store.NewRun) error {
	for i := range runs {
		run, started, err := ts.fire(now, &runs[i])
		if err != nil {
			return fmt.Errorf("start of task %q by the event: %w", runs[i].Task, err)
		}
		if started {
			ts.events.recordEventRun(key, run, false)
		}
	}
	return nil
}

// fire enqueues a run that an event starts. Plain ones of a group of changes are inserted together: no
// change of the group knows them, so none misses their rows. started is false if the run's idempotency
// key is taken.
func (ts *triggers) fire(now int64, r *store.NewRun) (key int64, started bool, err error) {
	if !lifecycle.Plain(r, now) {
		made, err := ts.runs.enqueue(now, []store.NewRun{*r}, nil)
		if err != nil {
			return 0, false, err
		}
		key, _ := ts.s.ids.key(made[0].ID)
		return key, !made[0].Existing, nil
	}
	lane, err := ts.lanes.lane(laneName{queue: r.Queue, task: r.Task, route: r.Route.Text()})
	if err != nil {
		return 0, false, err
	}
	key = ts.nextKey(now)
	input, err := ts.runs.spill(key, r.Input)
	if err != nil {
		return 0, false, err
	}
	ts.events.started = append(ts.events.started, key, lane, int64(r.Priority), store.Rank(createdAt(key), r.Priority, r.AgeEvery), input,
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
