package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
)

// Publish implements store.Runs.
func (s *Store) Publish(ctx context.Context, now time.Time, events []store.NewEvent) (ids []store.ID, err error) {
	err = s.do(ctx, func(t *txn) error {
		ids = make([]store.ID, len(events))
		for i := range events {
			key, err := t.publish(now.UnixMilli(), &events[i])
			if err != nil {
				return err
			}
			ids[i] = s.ids.id(key)
		}
		return nil
	})
	return ids, err
}

// publish stores an event and resolves what waits for it. It reads the fields by which
// anybody waits for such events, and then, by the index, the waits that match.
func (t *txn) publish(now int64, e *store.NewEvent) (int64, error) {
	key := t.nextKey(now)
	if err := t.exec("INSERT INTO stint_events (id, key, payload, metadata) VALUES (?, ?, ?, ?)", key, e.Key, e.Payload, text(e.Metadata)); err != nil {
		return 0, err
	}
	err := t.eachMatch(waitFields, e, func(m []any) error {
		runs, err := column[int64](t, "SELECT run FROM stint_waits WHERE event IS NULL AND key = ?1 AND field = ?2 AND value = ?3 AND filter = ?4", m...)
		if err != nil {
			return err
		}
		err = t.exec("UPDATE stint_waits SET event = ?5 WHERE event IS NULL AND key = ?1 AND field = ?2 AND value = ?3 AND filter = ?4", append(m, key)...)
		if err != nil {
			return err
		}
		for _, run := range runs {
			if err := t.reconsider(run, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return key, t.resolve(now, key, e)
}

// A waitIndex has the statements that find, in an index of waits, which fields and then
// which filters somebody waits by.
type waitIndex struct{ fields, filters string }

var (
	waitFields    = newWaitIndex("stint_waits WHERE event IS NULL AND key = ?1", "value")
	journalFields = newWaitIndex("stint_journal WHERE kind = 4 AND done = 0 AND name = ?1", "match")
)

// newWaitIndex writes statements that skip from value to value along the index, as
// readyLanesSQL does.
func newWaitIndex(from, value string) waitIndex {
	skip := func(column, from string) string {
		return "WITH RECURSIVE found (v) AS (SELECT (SELECT " + column + " FROM " + from + " ORDER BY " + column + " LIMIT 1)" +
			" UNION ALL SELECT (SELECT " + column + " FROM " + from + " AND " + column + " > found.v ORDER BY " + column + " LIMIT 1) FROM found WHERE found.v IS NOT NULL)" +
			" SELECT v FROM found WHERE v IS NOT NULL"
	}
	return waitIndex{skip("field", from), skip("filter", from+" AND field = ?2 AND "+value+" = ?3")}
}

// eachMatch calls f with each key, field, value and filter by which somebody may wait
// for this event: with the value that it has in the field, "" for those who take any,
// and a filter that it passes, "" for those who have none.
func (t *txn) eachMatch(index waitIndex, e *store.NewEvent, f func(m []any) error) error {
	fields, err := column[string](t, index.fields, e.Key)
	if err != nil {
		return err
	}
	for _, field := range fields {
		m := store.Match{Field: field}
		if field != "" {
			if m.Value = store.FieldOf(e.Payload, field); m.Value == "" {
				continue
			}
		}
		filters, err := column[string](t, index.filters, e.Key, field, m.Value)
		if err != nil {
			return err
		}
		for _, m.Filter = range filters {
			switch ok, err := m.Matches(e); {
			case err != nil:
				return err
			case !ok:
				continue
			}
			if err := f([]any{e.Key, field, m.Value, m.Filter}); err != nil {
				return err
			}
		}
	}
	return nil
}

// eventSince is when the first event that matches came, after a run was enqueued; zero
// if none has.
func (t *txn) eventSince(run int64, m *store.Match) (time.Time, error) {
	id, _, err := firstMatch(t, m, "SELECT id, payload, metadata FROM stint_events WHERE key = ? AND id > ? ORDER BY id", m.Key, run)
	if err != nil || id == 0 {
		return time.Time{}, err
	}
	return millis(createdAt(id)), nil
}

// firstMatch is the first of the events that a query gives which matches; id 0: none.
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
