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
	err := t.eachMatch(waitFieldsSQL, e, func(field, value string) error {
		runs, err := column[int64](t, "SELECT run FROM stint_waits WHERE event IS NULL AND key = ? AND field = ? AND value = ?", e.Key, field, value)
		if err != nil {
			return err
		}
		err = t.exec("UPDATE stint_waits SET event = ?4 WHERE event IS NULL AND key = ?1 AND field = ?2 AND value = ?3", e.Key, field, value, key)
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

// eachMatch calls f with each field by which somebody waits for events of the key, and
// the value that this event has there; with "" for those who take any.
func (t *txn) eachMatch(fieldsSQL string, e *store.NewEvent, f func(field, value string) error) error {
	fields, err := column[string](t, fieldsSQL, e.Key)
	if err != nil {
		return err
	}
	for _, field := range fields {
		value := ""
		if field != "" {
			if value = store.FieldOf(e.Payload, field); value == "" {
				continue
			}
		}
		if err := f(field, value); err != nil {
			return err
		}
	}
	return nil
}

// waitFieldsSQL skips from field to field along the index, as readyLanesSQL does.
const waitFieldsSQL = `
WITH RECURSIVE fields (field) AS (
  SELECT (SELECT field FROM stint_waits WHERE event IS NULL AND key = ?1 ORDER BY field LIMIT 1)
  UNION ALL
  SELECT (SELECT field FROM stint_waits WHERE event IS NULL AND key = ?1 AND field > fields.field ORDER BY field LIMIT 1)
  FROM fields WHERE fields.field IS NOT NULL)
SELECT field FROM fields WHERE field IS NOT NULL`

// eventSince is when the first event that matches came, after a run was enqueued; zero
// if none has.
func (t *txn) eventSince(run int64, m *store.Match) (time.Time, error) {
	rows, err := t.query("SELECT id, payload FROM stint_events WHERE key = ? AND id > ? ORDER BY id", m.Key, run)
	if err != nil {
		return time.Time{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var payload []byte
		if err := rows.Scan(&id, &payload); err != nil {
			return time.Time{}, err
		}
		if m.Matches(payload) {
			return millis(createdAt(id)), nil
		}
	}
	return time.Time{}, rows.Err()
}
