package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
)

// Publish implements store.Schedules.
func (s *Store) Publish(ctx context.Context, now time.Time, events []store.NewEvent) (ids []store.ID, err error) {
	err = s.decided(ctx, events, func(u *unit, found *candidates) error {
		ids = make([]store.ID, len(events))
		for i := range events {
			key, err := u.events.publish(now.UnixMilli(), &events[i], found)
			if err != nil {
				return err
			}
			ids[i], found = s.ids.id(key), nil
		}
		return nil
	})
	return ids, err
}

// publish stores an event, and does what follows from it, unless it was delivered before. found are its
// candidates, or nil.
func (es *events) publish(now int64, e *store.NewEvent, found *candidates) (int64, error) {
	key, first, err := es.insertEvent(now, e, nil)
	if err != nil || !first {
		return key, err
	}
	return key, es.deliver(now, key, e, found, false)
}

// insertEvent stores an event. first is false if it was delivered before.
func (es *events) insertEvent(now int64, e *store.NewEvent, pending any) (key int64, first bool, err error) {
	var scope, delivery any
	if e.Scope != "" {
		scope = e.Scope
	}
	if e.Delivery != "" {
		err := es.one("SELECT id FROM stint_events WHERE delivery = ? AND delivery IS NOT NULL", []any{e.Delivery}, &key)
		if !errors.Is(err, sql.ErrNoRows) {
			return key, false, err
		}
		delivery = e.Delivery
	}
	key = es.nextKey(now)
	return key, true, es.exec("INSERT INTO stint_events (id, key, payload, metadata, scope, delivery, pending) "+
		"VALUES (?, ?, ?, ?, ?, ?, ?)", key, e.Key, e.Payload, text(e.Metadata), scope, delivery, pending)
}

// deliver starts the runs of an event's triggers, and resolves the waits for it. It reads by which fields
// runs wait for events with that key, and then, by index, the waits that match. A late event may have been
// seen by runs that read the stored events. A run that the event starts may wait for it at once, so found,
// which was read before, is used only if the event starts none.
func (es *events) deliver(now, key int64, e *store.NewEvent, found *candidates, late bool) error {
	started, err := es.triggers.trigger(now, key, e)
	if err != nil {
		return err
	}
	if found == nil || started {
		if found, err = es.candidates(e); err != nil {
			return err
		}
	}
	if !found.some {
		es.triggers.setNoWaiters(e.Key)
		return nil
	}
	err = eachMatch(found.waits, e, func(m []any) error {
		runs, err := column[int64](es, "SELECT run FROM stint_waits WHERE event IS NULL AND key = ?1 AND field = ?2 AND value = ?3 "+
			"AND filter = ?4", m...)
		if err != nil {
			return err
		}
		err = es.exec("UPDATE stint_waits SET event = ?5 WHERE event IS NULL AND key = ?1 AND field = ?2 AND value = ?3 AND filter = ?4",
			append(m, key)...)
		if err != nil {
			return err
		}
		for _, run := range runs {
			es.recordEventRun(key, run, true)
			if err := es.workflows.reconsider(run, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return es.journals.resolve(now, key, e, found.journal, late)
}

// eventRunsSQL store which runs events started or woke, bulkSizes rows at a time.
var eventRunsSQL = func() (texts [len(bulkSizes)]string) {
	for i, n := range bulkSizes {
		texts[i] = "INSERT OR IGNORE INTO stint_event_runs (event, run, woke) VALUES (?,?,?)" + strings.Repeat(",(?,?,?)", n-1)
	}
	return texts
}()

// recordEventRun stores, at the end of the transaction, that an event started or woke a run.
func (es *events) recordEventRun(event, run int64, woke bool) {
	es.runs = append(es.runs, event, run, woke)
}

// eventWrites are rows that follow from events, and are inserted together.
type events struct {
	*unit
	passive
	publisher *publisher
	runs      []any // rows of stint_event_runs
	started   []any // rows of runs that events start
	pending   bool  // there are events of apps' transactions to publish
}

func (es *events) flush() error {
	err := es.insertAll(&eventRunsSQL, 3, es.runs)
	es.runs = es.runs[:0]
	return err
}

func (es *events) committed() {
	if es.pending {
		es.publisher.signal()
	}
	es.pending = false
}

func (es *events) rolledBack() { es.runs, es.started, es.pending = nil, nil, false }

// A waitIndex has the statements that read, from an index of waits, by which fields and then by which
// filters runs wait.
type waitIndex struct{ fields, filters string }

var (
	waitFields    = newWaitIndex("stint_waits WHERE event IS NULL AND key = ?1", "value")
	journalFields = newWaitIndex("stint_journal WHERE kind = 4 AND done = 0 AND name = ?1", "match")
)

func newWaitIndex(from, value string) waitIndex {
	return waitIndex{selectDistinct("field", from), selectDistinct("filter", from+" AND field = ?2 AND "+value+" = ?3")}
}

// candidates are the waits that an event may match: by fields and filters that runs wait by, with the
// event's values.
type candidates struct {
	waits, journal []store.Match
	some           bool // there are waits for events with that key
}

// noCandidates are those of an event that nothing waits for. They are never changed.
var noCandidates = &candidates{}

func (es *events) candidates(e *store.NewEvent) (*candidates, error) {
	if es.triggers.noWaiters[e.Key] {
		return noCandidates, nil
	}
	c := &candidates{}
	var err error
	if c.waits, err = es.candidatesOf(waitFields, e, &c.some); err == nil {
		c.journal, err = es.candidatesOf(journalFields, e, &c.some)
	}
	return c, err
}

// candidatesOf reads the candidates of an index: for each field ("": any event), with the event's value,
// and for each filter ("": none).
func (es *events) candidatesOf(index waitIndex, e *store.NewEvent, some *bool) (all []store.Match, err error) {
	fields, err := column[string](es, index.fields, e.Key)
	if err != nil {
		return nil, err
	}
	*some = *some || len(fields) > 0
	for _, field := range fields {
		m := store.Match{Key: e.Key, Field: field}
		if field != "" {
			if m.Value = store.FieldOf(e.Payload, field); m.Value == "" {
				continue
			}
		}
		filters, err := column[string](es, index.filters, e.Key, field, m.Value)
		if err != nil {
			return nil, err
		}
		for _, m.Filter = range filters {
			all = append(all, m)
		}
	}
	return all, nil
}

// eachMatch calls f with the key, field, value and filter of each candidate whose filter the event passes.
func eachMatch(all []store.Match, e *store.NewEvent, f func(m []any) error) error {
	for i := range all {
		m := &all[i]
		if ok, err := m.Passes(e); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := f([]any{m.Key, m.Field, m.Value, m.Filter}); err != nil {
			return err
		}
	}
	return nil
}

// eventSince returns when the first event that matches came after a run was enqueued; zero: none has.
func (es *events) eventSince(run int64, m *store.Match) (time.Time, error) {
	id, _, err := firstMatch(es, m, "SELECT id, payload, metadata FROM stint_events WHERE key = ? AND id > ? ORDER BY id", m.Key, run)
	if err != nil || id == 0 {
		return time.Time{}, err
	}
	return millis(createdAt(id)), nil
}

// firstMatch returns the first event of a query that matches; id 0: none.
func firstMatch(q querier, m *store.Match, query string, args ...any) (id int64, payload []byte, err error) {
	rows, err := q.query(query, args...)
	if err != nil {
		return 0, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		e := store.NewEvent{Key: m.Key}
		if err := rows.Scan(&id, &e.Payload, &e.Metadata); err != nil {
			return 0, nil, err
		}
		if ok, err := m.Matches(&e); ok || err != nil {
			return id, e.Payload, err
		}
	}
	return 0, nil, rows.Err()
}

// Events implements store.Schedules.
func (s *Store) Events(ctx context.Context, key string, before store.ID, limit int) (infos []store.EventInfo, next store.ID, err error) {
	last := int64(never)
	if before != (store.ID{}) {
		k, ok := s.ids.key(before)
		if !ok {
			return nil, next, store.ErrNotFound
		}
		last = k
	}
	where, args := "id < ?", []any{last}
	if key != "" {
		where, args = "key = ? AND id < ?", []any{key, last}
	}
	type row struct {
		id int64
		store.NewEvent
	}
	err = s.view(ctx, func(q querier) error {
		rows, more, err := pageOf(q, limit, func(r *row) []any {
			return []any{&r.id, &r.Key, &r.Payload, &r.Metadata, &r.Scope, &r.Delivery}
		}, func(r *row) int { return r.Size() }, "SELECT id, key, payload, metadata, coalesce(scope, ''), coalesce(delivery, '') "+
			"FROM stint_events WHERE "+where+" ORDER BY id DESC LIMIT ?", append(args, limit+1)...)
		if err != nil {
			return err
		}
		if more {
			next = s.ids.id(rows[len(rows)-1].id)
		}
		infos = make([]store.EventInfo, len(rows))
		for i, r := range rows {
			infos[i] = store.EventInfo{NewEvent: r.NewEvent, ID: s.ids.id(r.id), At: millis(createdAt(r.id))}
			for woke, into := range []*[]store.ID{&infos[i].Started, &infos[i].Woke} {
				runs, err := column[int64](q, "SELECT run FROM stint_event_runs WHERE event = ? AND woke = ? ORDER BY run LIMIT ?", r.id,
					woke, store.MaxEventRuns)
				if err != nil {
					return err
				}
				for _, run := range runs {
					*into = append(*into, s.ids.id(run))
				}
			}
		}
		return nil
	})
	return infos, next, err
}

// expireEvents deletes the events that were published before a time, in small batches.
func (s *Store) expireEvents(ctx context.Context, before time.Time) error {
	for more := true; more; {
		err := s.do(ctx, func(u *unit) error {
			gone, err := column[int64](u, "SELECT id FROM stint_events WHERE id < ? ORDER BY id LIMIT ?", keyAt(before), perBulk)
			more = len(gone) == perBulk
			if err != nil || len(gone) == 0 {
				return err
			}
			last := gone[len(gone)-1]
			if err := u.exec("DELETE FROM stint_event_runs WHERE event <= ?", last); err != nil {
				return err
			}
			return u.exec("DELETE FROM stint_events WHERE id <= ?", last)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
