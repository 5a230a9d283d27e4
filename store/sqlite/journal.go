package sqlite

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/entries"
)

// Append implements store.Runs.
func (s *Store) Append(ctx context.Context, now time.Time, c store.Call) (e store.Entry, stale bool, err error) {
	var from int64
	if c.Entry.Kind == store.EntryEvent && !c.Entry.Done {
		if from, err = s.lookBack(ctx, &c); err != nil {
			return c.Entry, false, err
		}
	}
	err = s.do(ctx, func(u *unit) (err error) {
		e, stale, err = u.journals.call(now.UnixMilli(), &c, from)
		return err
	})
	return e, stale, err
}

// lookBack returns the event from which on call has to search. It reads those before, which may be many,
// outside of the writer.
func (s *Store) lookBack(ctx context.Context, c *store.Call) (from int64, err error) {
	key, ok := s.ids.Key(c.ID)
	if !ok {
		return 0, nil // call finds it stale
	}
	m := c.Entry.Match
	m.Key = c.Entry.Name
	err = s.view(ctx, func(q querier) error {
		var last int64
		if err := q.one("SELECT coalesce((SELECT id FROM stint_events WHERE key = ? ORDER BY id DESC LIMIT 1), 0)", []any{m.Key},
			&last); err != nil {
			return err
		}
		from, _, err = eventFor(q, key, 0, &m)
		if err == nil && from == 0 {
			from = last + 1
		}
		return err
	})
	return from, err
}

// entryColumns are few, because reading a column costs as much as reading a row.
const entryColumns = "scope, kind + done * 256 + (attempts & 0xfffff) * 512 + (seq << 29), name, value, error, at, due_at, CASE " +
	"WHEN kind = 4 THEN json_array(field, match, filter) END"

// call records a durable call. It searches an event among those with a key of at least from.
func (js *journals) call(now int64, c *store.Call, from int64) (e store.Entry, stale bool, err error) {
	key, ok := js.s.ids.Key(c.ID)
	if !ok {
		return e, true, nil
	}
	return entries.Append(js, key, c, from, millis(now))
}

// entryAt reads an entry; nil: there is none.
func entryAt(q querier, run int64, at store.Address) (*store.Entry, error) {
	there, err := entriesOf(q, "WHERE run = ? AND scope = ? AND seq = ?", run, at.Scope, at.Seq)
	if err != nil || len(there) == 0 {
		return nil, err
	}
	return &there[0], nil
}

// eventFor returns the first matching event since a run was enqueued that the run has not had yet; 0:
// there is none.
func eventFor(q querier, run, from int64, m *store.Match) (id int64, payload []byte, err error) {
	return firstMatch(q, m, `SELECT id, payload, metadata FROM stint_events e WHERE key = ?1 AND id >= ?3
		AND NOT EXISTS (SELECT 1 FROM stint_journal j WHERE j.run = ?2 AND j.event = e.id) ORDER BY id`, m.Key, run, max(run, from))
}

// entriesOf reads entries of a journal; a replay may have many.
func entriesOf(q querier, where string, args ...any) (entries []store.Entry, err error) {
	var full [][]store.Entry
	err = eachEntry(q, func(e store.Entry) bool {
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

// eachEntry calls take for each entry, until it returns false.
func eachEntry(q querier, take func(store.Entry) bool, where string, args ...any) error {
	rows, err := q.query("SELECT "+entryColumns+" FROM stint_journal "+where, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var e store.Entry
	var packed, at int64
	var due *int64
	var match []byte
	into := []any{&e.Scope, &packed, &e.Name, &e.Value, &e.Error, &at, &due, &match}
	for rows.Next() {
		e = store.Entry{}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		e.Kind, e.Done, e.Attempts = store.EntryKind(packed&0xff), packed>>8&1 == 1, int(packed>>9&0xfffff)
		e.Seq = int(packed >> 29)
		e.At, e.Due = millis(at), optionalTime(due)
		if match != nil {
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

// Entries implements store.History.
func (s *Store) Entries(
	ctx context.Context, id store.ID, after store.Address, limit int, notes bool,
) (page []store.Entry, more bool, err error) {
	key, _ := s.ids.Key(id)
	const where = "WHERE run = ? AND (scope, seq) > (?, ?) AND (? OR kind <> 10) ORDER BY scope, seq LIMIT ?"
	err = s.view(ctx, func(q querier) (err error) {
		if limit < 0 {
			page, err = entriesOf(q, where, key, after.Scope, after.Seq, notes, limit)
			return err
		}
		size := 0
		page = nil
		return eachEntry(q, func(e store.Entry) bool {
			size += e.Size()
			if more = len(page) == limit || size > store.MaxPageBytes && len(page) > 0; !more {
				page = append(page, e)
			}
			return !more
		}, where, key, after.Scope, after.Seq, notes, limit+1)
	})
	return page, more, err
}

// resumeWaiters resumes the runs that wait for runs which have ended since the last call.
func (js *journals) resumeWaiters() error {
	ended := js.signals.ended[js.signals.resumed:]
	if len(ended) == 0 {
		return nil
	}
	js.signals.resumed = len(js.signals.ended)
	if err := js.counters.countEndings(ended); err != nil {
		return err
	}
	var some bool
	if err := js.one("SELECT EXISTS (SELECT 1 FROM stint_awaited)", nil, &some); err != nil || !some {
		return err
	}
	for _, e := range ended {
		runs, err := column[int64](js, "DELETE FROM stint_awaited WHERE child = ? RETURNING run", e.key)
		if err != nil {
			return err
		}
		for _, run := range runs {
			if err := js.runs.Resume(run, js.now); err != nil {
				return err
			}
		}
	}
	return nil
}

// recordCall records the durable call that enqueued runs.
func (js *journals) recordCall(now int64, c *store.Call, out []store.Enqueued) error {
	ids := make([]string, len(out))
	for i, e := range out {
		ids[i] = e.ID.String()
	}
	var err error
	if c.Entry.Value, err = json.Marshal(ids); err != nil {
		return err
	}
	_, stale, err := js.call(now, c, 0)
	if err == nil && stale {
		return store.ErrStale
	}
	return err
}
