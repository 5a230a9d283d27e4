package postgres

import (
	"cmp"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
)

// A waitRow is an event that a workflow's task waits for.
type waitRow struct {
	run, leaf                 int64
	key, field, value, filter string
	event                     int64 // that came; 0: none
}

var waitStatements = newStatements("waits", 2, "FOR UPDATE",
	number("run", func(r *waitRow) *int64 { return &r.run }),
	number("leaf", func(r *waitRow) *int64 { return &r.leaf }),
	text("key", func(r *waitRow) *string { return &r.key }),
	text("field", func(r *waitRow) *string { return &r.field }),
	text("value", func(r *waitRow) *string { return &r.value }),
	text("filter", func(r *waitRow) *string { return &r.filter }),
	stamp("event", func(r *waitRow) *int64 { return &r.event }))

func newWaits() *relation[placeOf, waitRow] {
	return newRelation(waitStatements, comparePlaces, func(r *waitRow) placeOf { return placeOf{r.run, r.leaf} },
		func(k placeOf) waitRow { return waitRow{run: k.run, leaf: k.place} })
}

// waitsOf returns what a task waits for.
func (u *unit) waitsOf(task int64) ([]*waitRow, error) {
	if !u.isNew(task) {
		if _, err := u.waitsByRun.get(task); err != nil {
			return nil, err
		}
	}
	var all []*waitRow
	for k, e := range u.waits.entries {
		if k.run == task && e.now != nil {
			all = append(all, e.now)
		}
	}
	slices.SortFunc(all, func(a, b *waitRow) int { return comparePlaces(placeOf{a.run, a.leaf}, placeOf{b.run, b.leaf}) })
	return all, nil
}

// An eventRow is a stored event.
type eventRow struct {
	id                int64
	payload, metadata []byte
	scope             string
	had               bool // by the run that is asked for
}

// An eventQuery asks for the events with a key, from one on, and which of them a run has had.
type eventQuery struct {
	run, from int64
	key       string
}

func newEventQueries() *lookup[eventQuery, eventRow] {
	return newLookup(`SELECT id, payload, metadata, coalesce(scope, ''),
			EXISTS (SELECT 1 FROM stint.journal j WHERE j.run = $1 AND j.event = e.id)
		FROM stint.events e WHERE key = $2 AND id >= $3 ORDER BY id`, func(q eventQuery) []any { return []any{q.run, q.key, q.from} },
		func(r pgx.CollectableRow) (e eventRow, err error) {
			return e, r.Scan(&e.id, &e.payload, &e.metadata, &e.scope, &e.had)
		})
}

// eventLocks are the locks of event keys: who waits for an event takes its key's lock alone before it looks
// for the event, who publishes one shares it before looking for waits. So one of them sees the other.
type eventLocks struct {
	held, asked map[string]bool // true: alone
}

// take asks for a lock; errMiss: it is not held yet.
func (x *eventLocks) take(key string, alone bool) error {
	if mine, ok := x.held[key]; ok && (mine || !alone) {
		return nil
	}
	x.asked[key] = x.asked[key] || alone
	return errMiss
}

func (x *eventLocks) fetch(s *settings, b *pgx.Batch) bool {
	for _, key := range slices.Sorted(maps.Keys(x.asked)) {
		lock := "pg_advisory_xact_lock_shared"
		if x.asked[key] {
			lock = "pg_advisory_xact_lock"
		}
		b.Queue("SELECT "+lock+"(hashtext('stint event ' || $1), hashtext($2))", s.Schema, key)
		x.held[key] = x.held[key] || x.asked[key]
	}
	some := len(x.asked) > 0
	clear(x.asked)
	return some
}

func (x *eventLocks) flush(*settings, *pgx.Batch) {}
func (x *eventLocks) reset()                      {}
func (x *eventLocks) settle()                     {}
func (x *eventLocks) renew()                      { x.held, x.asked = emptied(x.held), emptied(x.asked) }

// eventFor returns the first event that matches, from one on; new excludes those that the run has had.
func (u *unit) eventFor(run, from int64, m *store.Match, fresh bool) (id int64, payload []byte, err error) {
	locked := u.eventLocks.take(m.Key, true)
	all, err := u.events.get(eventQuery{run, from, m.Key})
	if err = cmp.Or(locked, err); err != nil {
		return 0, nil, err
	}
	for _, e := range u.newEvents {
		if e.Key == m.Key && e.id >= from {
			all = append(slices.Clip(all), eventRow{id: e.id, payload: e.Payload, metadata: e.Metadata, scope: e.Scope})
		}
	}
	for i := range all {
		r := &all[i]
		if fresh && (r.had || u.hasHad(run, r.id)) {
			continue
		}
		ok, err := m.Matches(&store.NewEvent{Key: m.Key, Payload: r.payload, Metadata: r.metadata, Scope: r.scope})
		if ok || err != nil {
			return r.id, r.payload, err
		}
	}
	return 0, nil, nil
}

// hasHad reports whether an entry that the group has made had an event.
func (u *unit) hasHad(run, event int64) bool {
	for k, e := range u.journal.entries {
		if k.run == run && e.now != nil && e.now.event == event {
			return true
		}
	}
	return false
}

// Event implements entries.Rows.
func (u entryRows) Event(run, from int64, m store.Match) (int64, []byte, error) {
	return u.eventFor(run, max(reading.FirstKey(run, &m), from), &m, true)
}

// An eventRun says that an event has started or woken a run.
type eventRun struct {
	event, run int64
	woke       bool
}

// recordEventRun stores, at the end of the group, that an event started or woke a run.
func (u *unit) recordEventRun(event, run int64, woke bool) {
	u.eventRuns = append(u.eventRuns, &eventRun{event, run, woke})
}
