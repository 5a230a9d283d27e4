package reading

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/keys"
)

type cronRow struct {
	cron.Cron
	task                             string
	catchUp                          int64
	next, last, lastRun, graph, gone *int64
	input, template                  []byte
}

func (r *cronRow) fields() []any {
	return []any{&r.Name, &r.task, &r.Spec, &r.catchUp, &r.Declared, &r.Paused, &r.next, &r.last, &r.lastRun, &r.graph, &r.input,
		&r.template, &r.Error, &r.gone}
}

const cronsSQL = "SELECT name, task, spec, catch_up, declared, paused, next_at, last_at, last_run, graph, input, template, " +
	"coalesce(error, ''), gone_at FROM stint_crons WHERE "

// CronsOf returns the crons that meet a condition.
func (r *Reader) CronsOf(q Querier, where string, args ...any) ([]cron.Cron, error) {
	rows, err := All(q, (*cronRow).fields, cronsSQL+where, args...)
	if err != nil {
		return nil, err
	}
	return r.crons(q, rows), nil
}

// crons decodes rows. A cron whose template or catch-up was changed by hand and cannot be read keeps its
// task, and does not hold up others.
func (r *Reader) crons(q Querier, rows []cronRow) []cron.Cron {
	all := make([]cron.Cron, len(rows))
	for i := range rows {
		row := &rows[i]
		row.Next, row.Last, row.Gone = optionalTime(row.next), optionalTime(row.last), optionalTime(row.gone)
		row.LastRun = r.IDs.Optional(row.lastRun)
		row.Template, row.Broken = r.template(q, row.template, row.graph)
		if run := &row.Template.Run; row.Broken == nil && (run.Task == "" || run.Queue == "") {
			row.Broken = errors.New("stored template: it has no task or no queue")
		}
		if row.Broken == nil {
			row.CatchUp, row.Broken = cron.StoredCatchUp(row.catchUp)
		}
		if row.Broken != nil {
			row.Template, row.Error = store.Template{Run: store.NewRun{Task: row.task}}, row.Broken.Error()
		}
		row.Template.Run.Input = row.input
		all[i] = row.Cron
	}
	return all
}

// cronsAfter reads a store.CronList.
func (r *Reader) cronsAfter(q Querier, after string, limit int) (all []store.Cron, more bool, err error) {
	rows, more, err := page(q, limit, (*cronRow).fields, func(r *cronRow) int { return r.Size() + len(r.input) },
		cronsSQL+"name > ? AND gone_at IS NULL ORDER BY name LIMIT ?", after, limit+1)
	all = make([]store.Cron, len(rows))
	for i, c := range r.crons(q, rows) {
		all[i] = c.Cron
	}
	return all, more, err
}

// template decodes a stored template.
func (r *Reader) template(q Querier, text []byte, graph *int64) (t store.Template, err error) {
	if err = json.Unmarshal(text, &t); err != nil {
		return t, fmt.Errorf("stored template: %w", err)
	}
	if graph != nil {
		t.Run.Graph, err = r.graph(q, *graph)
	}
	return t, err
}

// Triggers returns the triggers with a key, or with wild all those with a * in their keys.
func (r *Reader) Triggers(q Querier, wild bool, key string) ([]store.Trigger, error) {
	type row struct {
		store.Trigger
		graph    *int64
		template []byte
	}
	where, args := "wild = ?", []any{wild}
	if !wild {
		where, args = where+" AND key = ?", append(args, key)
	}
	rows, err := All(q, func(r *row) []any { return []any{&r.Key, &r.Filter, &r.graph, &r.template} },
		"SELECT key, filter, graph, template FROM stint_triggers WHERE gone_at IS NULL AND "+where+" ORDER BY key, task, id", args...)
	if err != nil {
		return nil, err
	}
	list := make([]store.Trigger, len(rows))
	for i := range rows {
		if list[i] = rows[i].Trigger; err == nil {
			list[i].Template, err = r.template(q, rows[i].template, rows[i].graph)
		}
	}
	return list, err
}

const filtersSQL = "SELECT id, task, scope, expr, payload, declared FROM stint_filters WHERE "

func filterFields(f *store.TaskFilter) []any {
	return []any{&f.ID, &f.Task, &f.Scope, &f.Expr, &f.Payload, &f.Declared}
}

// FiltersOf returns all filters of a task.
func FiltersOf(q Querier, task string) ([]store.TaskFilter, error) {
	return All(q, filterFields, filtersSQL+"task = ? ORDER BY id", task)
}

// filters reads a store.FilterList.
func filters(q Querier, task string, after int64, limit int) (all []store.TaskFilter, more bool, err error) {
	where, args := "id > ? ORDER BY id LIMIT ?", []any{after, limit + 1}
	if task != "" {
		where, args = "task = ? AND "+where, append([]any{task}, args...)
	}
	return page(q, limit, filterFields, func(f *store.TaskFilter) int { return f.Size() }, filtersSQL+where, args...)
}

// events reads a store.EventList.
func (r *Reader) events(q Querier, f *store.EventFilter, before store.ID, limit int) (infos []store.EventInfo, next store.ID, err error) {
	last := int64(never)
	if before != (store.ID{}) {
		k, ok := r.IDs.Key(before)
		if !ok {
			return nil, next, store.ErrNotFound
		}
		last = k
	}
	where, args := r.eventsWhere(f, last)
	type row struct {
		id int64
		store.NewEvent
	}
	rows, more, err := page(q, limit, func(r *row) []any {
		return []any{&r.id, &r.Key, &r.Payload, &r.Metadata, &r.Scope, &r.Priority, &r.Delivery}
	}, func(r *row) int { return r.Size() }, "SELECT id, key, payload, metadata, coalesce(scope, ''), priority, coalesce(delivery, '') "+
		"FROM stint_events r WHERE "+where+" ORDER BY id DESC LIMIT ?", append(args, limit+1)...)
	if err != nil {
		return nil, next, err
	}
	if more {
		next = r.IDs.ID(rows[len(rows)-1].id)
	}
	infos = make([]store.EventInfo, len(rows))
	for i, row := range rows {
		infos[i] = store.EventInfo{NewEvent: row.NewEvent, ID: r.IDs.ID(row.id), At: millis(keys.CreatedAt(row.id))}
		if infos[i].Started, err = r.eventRuns(q, row.id, false); err != nil {
			return nil, next, err
		}
		if infos[i].Woke, err = r.eventRuns(q, row.id, true); err != nil {
			return nil, next, err
		}
	}
	return infos, next, nil
}

// eventsWhere returns the condition of the events that match and are before one. Of several keys, the events are
// read in their order, and those with other keys are skipped.
func (r *Reader) eventsWhere(f *store.EventFilter, before int64) (where string, args []any) {
	where, args = "id < ?", []any{before}
	and := func(cond string, a ...any) { where, args = where+" AND "+cond, append(args, a...) }
	switch {
	case len(f.Keys) == 1:
		and("key = ?", f.Keys[0])
	case f.Keys != nil:
		and(in("key || ''", marks(len(f.Keys))), anys(f.Keys)...)
	}
	if f.IDs != nil {
		and(in("id", r.keysOf(f.IDs)))
	}
	for k, v := range f.Metadata {
		and("r.metadata IS NOT NULL AND "+r.HasMetadata, k, v)
	}
	if !f.Since.IsZero() {
		and("id >= ?", keys.At(f.Since))
	}
	if !f.Until.IsZero() {
		and("id < ?", keys.At(f.Until))
	}
	return where, args
}

// eventRuns returns the runs that an event started, or woke.
func (r *Reader) eventRuns(q Querier, event int64, woke bool) (ids []store.ID, err error) {
	runs, err := Column[int64](q, "SELECT run FROM stint_event_runs WHERE event = ? AND woke = ? ORDER BY run LIMIT ?", event, woke,
		store.MaxEventRuns)
	for _, run := range runs {
		ids = append(ids, r.IDs.ID(run))
	}
	return ids, err
}

// PendingEvents reads a page of the events after one that wait to be published, with their keys.
func (r *Reader) PendingEvents(q Querier, after int64, limit int) (keys []int64, events []store.NewEvent, more bool, err error) {
	type row struct {
		id int64
		store.NewEvent
	}
	rows, more, err := page(q, limit, func(r *row) []any { return []any{&r.id, &r.Key, &r.Payload, &r.Metadata, &r.Scope, &r.Priority} },
		func(r *row) int { return r.Size() }, "SELECT id, key, payload, metadata, coalesce(scope, ''), priority FROM stint_events WHERE "+
			r.Pending+" AND id > ? ORDER BY id LIMIT ?", after, limit+1)
	for i := range rows {
		keys, events = append(keys, rows[i].id), append(events, rows[i].NewEvent)
	}
	return keys, events, more, err
}
