package postgres

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/entries"
	"github.com/stint-dev/stint/store/internal/event"
	"github.com/stint-dev/stint/store/internal/keys"
)

// Publish implements store.Schedules.
func (s *Store) Publish(ctx context.Context, now time.Time, events []store.NewEvent) (ids []store.ID, err error) {
	err = s.decided(ctx, events, func(u *unit) error {
		ids = make([]store.ID, len(events))
		var missed error
		for i := range events {
			key, err := event.Publish(eventRows{u}, now.UnixMilli(), &events[i], nil)
			switch {
			case err == errMiss:
				missed = err
			case err != nil:
				return cmp.Or(missed, err)
			}
			ids[i] = s.ids.ID(key)
		}
		if missed == nil && len(events) > 0 && events[0].Call != nil {
			return u.recordCall(now, *events[0].Call, store.EncodePublished(ids))
		}
		return missed
	})
	return ids, err
}

// undecided are filters that were not computed for an event.
type undecided struct {
	event   *store.NewEvent
	filters []store.FilterCall
}

// decided makes a change by the writer once the filters that events need are computed: here, because the
// payload may be large and the filters many, and everything waits for the writer.
func (s *Store) decided(ctx context.Context, events []store.NewEvent, change func(*unit) error) error {
	for {
		var open []undecided
		err := s.do(ctx, func(u *unit) (err error) {
			if open, err = u.undecided(events); err != nil || len(open) > 0 {
				return err
			}
			return change(u)
		})
		if err != nil || len(open) == 0 {
			return err
		}
		for _, x := range open {
			x.event.Decide(x.filters)
		}
	}
}

// undecided returns the filters that events need and that were not computed.
func (u *unit) undecided(events []store.NewEvent) (open []undecided, missed error) {
	for i := range events { // all rows that are certain to be needed are asked for at once
		u.askEvent(&events[i])
	}
	for i := range events {
		filters, _, err := event.Undecided(eventRows{u}, &events[i])
		switch {
		case err == errMiss:
			missed = err
		case err != nil:
			return nil, cmp.Or(missed, err)
		case len(filters) > 0:
			open = append(open, undecided{&events[i], filters})
		}
	}
	return open, missed
}

// askEvent asks for what every event needs.
func (u *unit) askEvent(e *store.NewEvent) {
	u.eventLocks.take(e.Key, false)
	u.triggers.ask(e.Key)
	u.triggers.ask("")
	u.fields.ask(kindKey{event.Conditions, e.Key})
	u.fields.ask(kindKey{event.Calls, e.Key})
	if e.Delivery != "" {
		u.delivered.ask(e.Delivery)
	}
}

// eventRows are the events, triggers and waits of a unit.
type eventRows struct{ *unit }

var _ event.Rows = eventRows{}

// A newEvent is an event to insert.
type newEvent struct {
	store.NewEvent
	id      int64
	pending bool
}

var eventStatements = newStatements("events", 1, "",
	number("id", func(r *newEvent) *int64 { return &r.id }),
	text("key", func(r *newEvent) *string { return &r.Key }),
	stored("payload", "bytea", func(r *newEvent) *[]byte { return &r.Payload }, func(r *newEvent) []byte {
		if r.Payload == nil {
			return []byte{}
		}
		return r.Payload
	}),
	col("metadata", "text", func(r *newEvent) *[]byte { return &r.Metadata }),
	optional("scope", func(r *newEvent) *string { return &r.Scope }),
	col("priority", "smallint", func(r *newEvent) **int8 { return &r.Priority }),
	optional("delivery", func(r *newEvent) *string { return &r.Delivery }),
	col("pending", "boolean", func(r *newEvent) *bool { return &r.pending }))

// A kindKey is an event key for which something of a kind waits, a kindMatch what it waits for.
type kindKey struct {
	kind event.Kind
	key  string
}

type kindMatch struct {
	kind                      event.Kind
	key, field, value, filter string
}

// eventParts makes the parts of the set that have events and what waits for them.
func (u *unit) eventParts() {
	u.eventLocks = &eventLocks{map[string]bool{}, map[string]bool{}}
	u.events = newEventQueries()
	u.delivered = lookupOne[string, int64]("SELECT id FROM stint.events WHERE delivery = $1")
	u.pending = lookupOne[int64, bool]("SELECT pending FROM stint.events WHERE id = $1 FOR UPDATE")
	u.eventsSince = newLookup(
		"SELECT id, key, payload, metadata, coalesce(scope, ''), priority FROM stint.events WHERE id >= $1 AND NOT pending ORDER BY id",
		func(at int64) []any { return []any{keys.At(clock.FromMillis(at))} }, func(r pgx.CollectableRow) (e event.Event, err error) {
			return e, r.Scan(&e.ID, &e.Key, &e.Payload, &e.Metadata, &e.Scope, &e.Priority)
		})
	const waits, calls = "stint.waits WHERE event IS NULL AND key = $2", "stint.journal WHERE kind = 4 AND NOT done AND name = $2"
	of := func(columns, waitsMore, callsMore string) string {
		return "SELECT DISTINCT " + columns + " FROM " + waits + waitsMore + " AND $1 = 0 UNION " +
			"SELECT DISTINCT " + columns + " FROM " + calls + callsMore + " AND $1 = 1"
	}
	u.fields = newLookup(of("field", "", "")+" ORDER BY 1", func(k kindKey) []any { return []any{int(k.kind), k.key} }, pgx.RowTo[string])
	u.waitFilters = newLookup(of("filter", " AND field = $3 AND value = $4", " AND field = $3 AND match = $4")+" ORDER BY 1",
		func(k kindMatch) []any { return []any{int(k.kind), k.key, k.field, k.value} }, pgx.RowTo[string])
	match := func(k kindMatch) []any { return []any{k.key, k.field, k.value, k.filter} }
	u.waitsFor = newLookup("SELECT run, leaf FROM stint.waits WHERE event IS NULL AND key = $1 AND field = $2 AND value = $3 "+
		"AND filter = $4 ORDER BY run, leaf", match,
		func(r pgx.CollectableRow) (k placeOf, err error) { return k, r.Scan(&k.run, &k.place) })
	u.callsFor = newLookup("SELECT run, scope, seq FROM stint.journal WHERE kind = 4 AND NOT done AND name = $1 AND field = $2 "+
		"AND match = $3 AND filter = $4 ORDER BY run, scope, seq", match,
		func(r pgx.CollectableRow) (k entryKey, err error) { return k, r.Scan(&k.run, &k.scope, &k.seq) })
	u.hadBy = lookupOne[int64, int64]("SELECT run FROM stint.journal WHERE event = $1")
	const triggers = "SELECT key, filter, coalesce(graph, 0), template, task, id FROM stint.triggers WHERE gone_at IS NULL AND "
	u.triggers = newLookup("SELECT key, filter, coalesce, template FROM ("+triggers+"NOT wild AND key = $1 AND $1 <> '' UNION ALL "+
		triggers+"wild AND $1 = '') t ORDER BY key, task, id", func(key string) []any { return []any{key} },
		func(r pgx.CollectableRow) (t triggerRow, err error) {
			return t, r.Scan(&t.Key, &t.Filter, &t.graph, &t.template)
		}).kept()
	u.triggersOf = newLookup("SELECT key, filter, coalesce(graph, 0), template, program, coalesce(gone_at, 0) FROM stint.triggers "+
		"WHERE task = $1 ORDER BY id FOR UPDATE", func(task string) []any { return []any{task} },
		func(r pgx.CollectableRow) (d event.Declared, err error) {
			return d, r.Scan(&d.Key, &d.Filter, &d.Graph, &d.Template, &d.Program, &d.Gone)
		})
	u.filterThere = lookupOne[int64, int64]("SELECT id FROM stint.filters WHERE id = $1 FOR UPDATE")
	u.errorsThere = lookupOne[int64, int64]("SELECT id FROM stint.error_groups WHERE id = $1")
	u.filterNumber = lookupOne[string, int64]("SELECT nextval(pg_get_serial_sequence($1, 'id'))")
	u.filters = newLookup("SELECT id, task, scope, expr, payload, declared FROM stint.filters WHERE task = $1 ORDER BY id",
		func(task string) []any { return []any{task} }, func(r pgx.CollectableRow) (f store.TaskFilter, err error) {
			return f, r.Scan(&f.ID, &f.Task, &f.Scope, &f.Expr, &f.Payload, &f.Declared)
		}).kept()
}

// A triggerRow is a trigger, with its template as it is stored.
type triggerRow struct {
	store.Trigger
	graph    int64
	template string
}

// Delivered implements event.Rows.
func (u eventRows) Delivered(delivery string) (int64, error) {
	for _, e := range u.newEvents {
		if e.Delivery == delivery {
			return e.id, nil
		}
	}
	ids, err := u.delivered.get(delivery)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	return ids[0], nil
}

// Insert implements event.Rows.
func (u eventRows) Insert(now int64, e *store.NewEvent, pending bool) (int64, error) {
	if err := u.eventLocks.take(e.Key, false); err != nil {
		return 0, err
	}
	n := &newEvent{NewEvent: *e, id: u.nextKey(now), pending: pending}
	u.newEvents = append(u.newEvents, n)
	return n.id, nil
}

// Take implements event.Rows.
func (u eventRows) Take(id int64) (bool, error) {
	pending, err := u.pending.get(id)
	if err != nil || len(pending) == 0 || !pending[0] || u.taken[id] {
		return false, err
	}
	u.taken[id] = true
	u.queued = append(u.queued, func(b *pgx.Batch) { b.Queue(u.s.sql("UPDATE stint.events SET pending = false WHERE id = $1"), id) })
	return true, nil
}

// Since implements event.Rows.
func (u eventRows) Since(at int64) ([]event.Event, error) { return u.eventsSince.get(at) }

// Triggers implements event.Rows.
func (u eventRows) Triggers(key string) (exact, wild []store.Trigger, err error) {
	rows, err := u.triggers.get(key)
	stars, err2 := u.triggers.get("") // asks for both
	if err = cmp.Or(err, err2); err != nil {
		return nil, nil, err
	}
	if exact, err = u.decode(rows); err == nil {
		wild, err = u.decode(stars)
	}
	return exact, wild, err
}

func (u eventRows) decode(rows []triggerRow) ([]store.Trigger, error) {
	all := make([]store.Trigger, len(rows))
	for i := range rows {
		var err error
		all[i] = rows[i].Trigger
		if all[i].Template, err = u.template(rows[i].template, rows[i].graph); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Filters implements event.Rows.
func (u eventRows) Filters(task string) ([]store.TaskFilter, error) { return u.filters.get(task) }

// ID implements event.Rows.
func (u eventRows) ID(id int64) store.ID { return u.s.ids.ID(id) }

// Start implements event.Rows.
func (u eventRows) Start(now, id int64, r *store.NewRun) error {
	made, err := u.enqueue(now, []store.NewRun{*r})
	if err != nil || made[0].Existing {
		return err
	}
	key, _ := u.s.ids.Key(made[0].ID)
	u.recordEventRun(id, key, false)
	return nil
}

// Declared implements event.Rows.
func (u eventRows) Declared(task string) ([]event.Declared, error) { return u.triggersOf.get(task) }

// Encode implements event.Rows.
func (u eventRows) Encode(tr *store.Trigger) (event.Declared, error) {
	text, graph, err := u.templateText(tr.Template)
	return event.Declared{Key: tr.Key, Filter: tr.Filter, Template: text, Graph: graph}, err
}

// Replace implements event.Rows.
func (u eventRows) Replace(task string, by []event.Declared) error {
	u.newEpoch = true
	u.queued = append(u.queued, func(b *pgx.Batch) {
		b.Queue(u.s.sql("DELETE FROM stint.triggers WHERE task = $1"), task)
		for _, d := range by {
			b.Queue(u.s.sql("INSERT INTO stint.triggers (task, key, wild, filter, graph, template, program) "+
				"VALUES ($1, $2, $3, $4, nullif($5::bigint, 0), $6, $7)"),
				task, d.Key, strings.Contains(d.Key, "*"), d.Filter, d.Graph, d.Template, d.Program)
		}
	})
	return nil
}

// NoWaiters implements event.Rows.
func (u eventRows) NoWaiters(string) bool { return false }

// SetNoWaiters implements event.Rows.
func (u eventRows) SetNoWaiters(string) {}

// Fields implements event.Rows.
func (u eventRows) Fields(kind event.Kind, key string) ([]string, error) {
	if err := u.eventLocks.take(key, false); err != nil {
		return nil, err
	}
	known, err := u.fields.get(kindKey{kind, key})
	return u.withNew(known, kind, func(k kindMatch) (string, bool) { return k.field, k.key == key }), err
}

// withNew adds what the group's own changes wait for.
func (u eventRows) withNew(known []string, kind event.Kind, of func(kindMatch) (string, bool)) []string {
	all := map[string]bool{}
	for _, s := range known {
		all[s] = true
	}
	add := func(k kindMatch) {
		if s, ok := of(k); ok {
			all[s] = true
		}
	}
	if kind == event.Conditions {
		for _, e := range u.waits.entries {
			if w := e.now; w != nil && w.event == 0 {
				add(w.match())
			}
		}
	} else {
		for _, e := range u.journal.entries {
			if r := e.now; r != nil && r.waits() {
				add(r.kindMatch())
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func (w *waitRow) match() kindMatch {
	return kindMatch{event.Conditions, w.key, w.field, w.value, w.filter}
}

// waits reports whether a durable call waits for an event.
func (r *entryRow) waits() bool {
	return store.EntryKind(r.kind) == store.EntryEvent && !r.done && r.field != nil && r.match != nil && r.filter != nil
}

func (r *entryRow) kindMatch() kindMatch {
	return kindMatch{event.Calls, r.name, *r.field, *r.match, *r.filter}
}

// WaitFilters implements event.Rows.
func (u eventRows) WaitFilters(kind event.Kind, m *store.Match) ([]string, error) {
	known, err := u.waitFilters.get(kindMatch{kind: kind, key: m.Key, field: m.Field, value: m.Value})
	return u.withNew(known, kind, func(k kindMatch) (string, bool) {
		return k.filter, k.key == m.Key && k.field == m.Field && k.value == m.Value
	}), err
}

// Resolve implements event.Rows.
func (u eventRows) Resolve(kind event.Kind, now, id int64, payload []byte, m *store.Match, late bool) ([]event.Waiter, error) {
	k := kindMatch{kind, m.Key, m.Field, m.Value, m.Filter}
	if kind == event.Calls {
		return u.resolveCalls(now, id, payload, k, late)
	}
	known, err := u.waitsFor.get(k)
	if err != nil {
		return nil, err
	}
	u.waits.ask(known...)
	var missed error
	for _, p := range known {
		_, err := u.waits.get(p)
		missed = cmp.Or(missed, err)
		u.runs.ask(p.run)
	}
	if missed != nil {
		return nil, missed
	}
	var waiters []event.Waiter
	for p, e := range u.waits.entries {
		if w := e.now; w != nil && w.event == 0 && w.match() == k {
			w.event = id
			u.waits.change(p)
			waiters = append(waiters, event.Waiter{Run: p.run})
		}
	}
	slices.SortFunc(waiters, compareWaiters)
	return waiters, nil
}

// resolveCalls completes the durable calls that wait for an event.
func (u eventRows) resolveCalls(now, id int64, payload []byte, k kindMatch, late bool) ([]event.Waiter, error) {
	known, err := u.callsFor.get(k)
	var had []int64
	if late {
		var err2 error
		had, err2 = u.hadBy.get(id)
		err = cmp.Or(err, err2)
	}
	if err != nil {
		return nil, err
	}
	var missed error
	for _, c := range known {
		_, err := u.journal.get(c)
		missed = cmp.Or(missed, err)
		u.runs.ask(c.run)
	}
	if missed != nil {
		return nil, missed
	}
	var waiters []event.Waiter
	for _, e := range u.journal.entries {
		r := e.now
		if r == nil || !r.waits() || r.kindMatch() != k || late && (slices.Contains(had, r.run) || u.hasHad(r.run, id)) {
			continue
		}
		done := *r
		done.done, done.value, done.event, done.began, done.at = true, payload, id, r.begin(), now
		u.putEntry(done)
		waiters = append(waiters, event.Waiter{Run: r.run, At: store.Address{Scope: r.scope, Seq: int(r.seq)}})
	}
	slices.SortFunc(waiters, compareWaiters)
	return waiters, nil
}

// Wake implements event.Rows.
func (u eventRows) Wake(kind event.Kind, now, id int64, w event.Waiter) error {
	u.recordEventRun(id, w.Run, true)
	if kind == event.Conditions {
		return runRows(u).Reconsider(w.Run, now)
	}
	goesOn, err := entries.Came(entryRows(u), w.Run, w.At, clock.FromMillis(now))
	if err != nil || !goesOn {
		return err
	}
	return runRows(u).Resume(w.Run, now)
}

func compareWaiters(a, b event.Waiter) int {
	return cmp.Or(cmp.Compare(a.Run, b.Run), cmp.Compare(a.At.Scope, b.At.Scope), cmp.Compare(a.At.Seq, b.At.Seq))
}
