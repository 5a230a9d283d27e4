package reading

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
)

// entryColumns are few, because reading a column costs as much as reading a row. Dialect.EventMatch is
// between them: the last column is what an event has to match, and the tries of a step.
const (
	entryColumns = "SELECT scope, kind + CASE WHEN done THEN 256 ELSE 0 END + (attempts & 1048575) * 512 + (seq << 29), name, value, " +
		"error, at, due_at, began_at, CASE WHEN kind = 4 THEN "
	entryTable = " ELSE tries END FROM stint_journal WHERE run = ? AND "
)

// eachEntry calls take for each entry of a run, until it returns false.
func (r *Reader) eachEntry(q Querier, take func(store.Entry) bool, where string, args ...any) error {
	rows, err := q.Query(entryColumns+r.EventMatch+entryTable+where, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var e store.Entry
	var packed, at int64
	var due, began *int64
	var match []byte
	into := []any{&e.Scope, &packed, &e.Name, &e.Value, &e.Error, &at, &due, &began, &match}
	for rows.Next() {
		e = store.Entry{}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		e.Kind, e.Done, e.Attempts = store.EntryKind(packed&0xff), packed>>8&1 == 1, int(packed>>9&0xfffff)
		e.Seq = int(packed >> 29)
		e.At, e.Due = millis(at), optionalTime(due)
		if e.Began = e.At; began != nil {
			e.Began = millis(*began)
		}
		if e.Kind != store.EntryEvent {
			e.Tries = match
		} else if match != nil {
			var m [3]string
			if err := json.Unmarshal(match, &m); err != nil {
				return err
			}
			e.Match = store.Match{Key: e.Name, Field: m[0], Value: m[1], Filter: m[2]}
		}
		if !take(e) {
			return nil
		}
	}
	return rows.Err()
}

// entries reads entries; a replay may have many.
func (r *Reader) entries(q Querier, where string, args ...any) (entries []store.Entry, err error) {
	var full [][]store.Entry
	err = r.eachEntry(q, func(e store.Entry) bool {
		if len(entries) == cap(entries) { // append would copy all of them again and again
			full = append(full, entries)
			entries = make([]store.Entry, 0, min(max(4*len(entries), 16), 1024))
		}
		entries = append(entries, e)
		return true
	}, where, args...)
	if err != nil {
		return nil, err
	}
	if len(full) > 1 {
		entries = slices.Concat(append(full, entries)...)
	}
	return entries, nil
}

// Entries reads what Entries of store.History returns.
func (r *Reader) Entries(
	q Querier, id store.ID, after store.Address, limit int, notes bool,
) (page []store.Entry, more bool, err error) {
	key, _ := r.IDs.Key(id)
	where, args := "true", []any{key} // a replay reads all, with nothing to compare
	if after != (store.Address{}) {
		where, args = "(scope, seq) > (?, ?)", append(args, after.Scope, after.Seq)
	}
	if !notes {
		where += " AND kind <> 10"
	}
	where += " ORDER BY scope, seq"
	if limit < 0 {
		page, err = r.entries(q, where, args...)
		return page, false, err
	}
	size := 0
	err = r.eachEntry(q, func(e store.Entry) bool {
		size += e.Size()
		if more = len(page) == limit || size > store.MaxPageBytes && len(page) > 0; !more {
			page = append(page, e)
		}
		return !more
	}, where+" LIMIT ?", append(args, limit+1)...)
	return page, more, err
}

// EntryAt reads an entry; nil: there is none.
func (r *Reader) EntryAt(q Querier, run int64, at store.Address) (*store.Entry, error) {
	there, err := r.entries(q, "scope = ? AND seq = ?", run, at.Scope, at.Seq)
	if err != nil || len(there) == 0 {
		return nil, err
	}
	return &there[0], nil
}

// EntriesIn reads the entries of a scope with numbers up to n.
func (r *Reader) EntriesIn(q Querier, run int64, scope string, n int) ([]store.Entry, error) {
	return r.entries(q, "scope = ? AND seq <= ? ORDER BY seq", run, scope, n)
}

// LookBack returns the event from which on EventFor has to search. It reads those before, which may be
// many, outside of the transaction that calls EventFor.
func LookBack(q Querier, run int64, m *store.Match) (from int64, err error) {
	var last int64
	if _, err := one(q, "SELECT id FROM stint_events WHERE key = ? ORDER BY id DESC LIMIT 1", []any{m.Key}, &last); err != nil {
		return 0, err
	}
	from, _, err = EventFor(q, run, 0, m)
	if err == nil && from == 0 {
		from = last + 1
	}
	return from, err
}

// EventFor returns the first matching event since a run was enqueued, from an event on, that the run has
// not had yet; 0: there is none. With m.Since, they may be older than the run.
func EventFor(q Querier, run, from int64, m *store.Match) (id int64, payload []byte, err error) {
	from = max(FirstKey(run, m), from)
	return firstMatch(q, m, `SELECT id, payload, metadata, coalesce(scope, '') FROM stint_events e WHERE key = ?1 AND id >= ?3
		AND NOT EXISTS (SELECT 1 FROM stint_journal j WHERE j.run = ?2 AND j.event = e.id) ORDER BY id`, m.Key, run, from)
}

// FirstKey returns the key from which on events may match, for a run.
func FirstKey(run int64, m *store.Match) int64 {
	if m.Since != 0 {
		return keys.At(time.UnixMilli(m.Since))
	}
	return run + 1
}

// EventSince returns the first matching event after a run was enqueued, or since m.Since; 0: there is none.
func EventSince(q Querier, run int64, m *store.Match) (id int64, err error) {
	id, _, err = firstMatch(q, m, "SELECT id, payload, metadata, coalesce(scope, '') FROM stint_events WHERE key = ? AND id >= ? "+
		"ORDER BY id", m.Key, FirstKey(run, m))
	return id, err
}

// firstMatch returns the first event of a query that matches; id 0: none.
func firstMatch(q Querier, m *store.Match, query string, args ...any) (id int64, payload []byte, err error) {
	rows, err := q.Query(query, args...)
	if err != nil {
		return 0, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		e := store.NewEvent{Key: m.Key}
		if err := rows.Scan(&id, &e.Payload, &e.Metadata, &e.Scope); err != nil {
			return 0, nil, err
		}
		if ok, err := m.Matches(&e); ok || err != nil {
			return id, e.Payload, err
		}
	}
	return 0, nil, rows.Err()
}
