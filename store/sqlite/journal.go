package sqlite

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
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

const (
	// appendSQL is fenced: it inserts nothing for an execution that is not current, and does not change
	// entries that are done.
	appendSQL = `
INSERT INTO stint_journal (run, scope, seq, kind, name, done, value, error, at, due_at, field, match, filter, event, attempts)
SELECT id, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16 FROM stint_runs WHERE id = ?1 AND lease = ?2
  AND ` + stateRunning + `
ON CONFLICT DO UPDATE SET name = excluded.name, done = excluded.done, value = excluded.value, error = excluded.error, at = excluded.at,
  due_at = coalesce(excluded.due_at, due_at), attempts = excluded.attempts
WHERE done = 0`

	// entryColumns are few, because reading a column costs as much as reading a row.
	entryColumns = "scope, kind + done * 256 + (attempts & 0xfffff) * 512 + (seq << 29), name, value, error, at, due_at, CASE " +
		"WHEN kind = 4 THEN json_array(field, match, filter) END"
)

// call records an entry, and returns the entry at its address. It searches an event among those with an
// ID of at least from.
func (js *journals) call(now int64, c *store.Call, from int64) (e store.Entry, stale bool, err error) {
	key, ok := js.s.ids.Key(c.ID)
	if !ok {
		return e, true, nil
	}
	e = c.Entry
	e.At = millis(now)
	var field, match, filter, event, due any
	if e.Kind == store.EntryEvent {
		e.Match.Key = e.Name
		field, match, filter = e.Match.Field, e.Match.Value, e.Match.Filter
		if !e.Done {
			var id int64
			if id, e.Value, err = eventFor(js, key, from, &e.Match); err != nil {
				return e, false, err
			}
			if e.Done = id > 0; e.Done {
				event = id
			}
		}
	}
	if !e.Due.IsZero() {
		due = ceilMillis(e.Due)
	}
	n, err := js.execN(appendSQL, key, int64(c.Lease), e.Scope, e.Seq, int64(e.Kind), e.Name, e.Done, e.Value, text(e.Error), now, due,
		field, match, filter, event, e.Attempts)
	if n > 0 && e.Kind == store.EntryEvent {
		if !e.Done {
			delete(js.triggers.noWaiters, e.Name)
		} else if id, ok := event.(int64); ok {
			js.events.recordEventRun(id, key, true)
		}
	}
	if err != nil || n > 0 {
		return e, false, err
	}
	err = js.one("SELECT NOT EXISTS (SELECT 1 FROM stint_runs WHERE id = ? AND lease = ? AND "+stateRunning+")",
		[]any{key, int64(c.Lease)}, &stale)
	if err != nil || stale {
		return e, stale, err
	}
	there, err := entryAt(js, key, e.Address)
	if there != nil {
		e = *there
	}
	return e, false, err
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

// forget deletes entries, the later ones of their scopes, and the scopes of branches among them.
func (js *journals) forget(key int64, from []store.Address) error {
	for _, a := range from {
		n, err := js.execN("DELETE FROM stint_journal WHERE run = ? AND scope = ? AND seq = ? AND kind = 6 AND error IS NOT NULL", key,
			a.Scope, a.Seq)
		if err != nil {
			return err
		}
		if n > 0 { // a branch that failed
			continue
		}
		if err := js.exec("DELETE FROM stint_journal WHERE run = ? AND scope = ? AND seq >= ?", key, a.Scope, a.Seq); err != nil {
			return err
		}
		if store.IsUndo(a.Scope) {
			continue // a compensation begins none
		}
		from, to, number := "0", ":", 1 // scopes that begin with a number
		if a.Scope != "" {
			from, to, number = a.Scope+"/", a.Scope+"0", len(a.Scope)+2
		}
		// Also of branches that have not ended, which have no entry.
		err = js.exec("DELETE FROM stint_journal WHERE run = ?1 AND scope >= ?2 AND scope < ?3 "+
			"AND CAST(substr(scope, ?4) AS INTEGER) >= ?5", key, from, to, number, a.Seq)
		if err != nil {
			return err
		}
	}
	return nil
}

// Compensations are prepared for a new attempt: those of a branch that has ended become pending again, for
// the branch is not entered again; of the others, which are recorded again, a note stays.
const (
	keepUndo = "UPDATE stint_journal SET done = 0, error = NULL, due_at = NULL, attempts = 0 WHERE run = ? AND scope = ?"
	noteUndo = `UPDATE OR REPLACE stint_journal SET scope = '` + store.UndoneScope + `' || substr(scope, 5), kind = 10,
		done = 1, error = NULL, due_at = NULL, attempts = 0
		WHERE run = ? AND scope = ? AND kind = 2`
	dropUndo = "DELETE FROM stint_journal WHERE run = ? AND scope = ?"
)

// resetUndo prepares a run's compensations for a new attempt.
func (js *journals) resetUndo(key int64) error {
	scopes, err := column[string](js, `SELECT DISTINCT scope FROM stint_journal
		WHERE run = ? AND scope >= 'undo' AND scope < 'undo0' ORDER BY scope`, key)
	if err != nil {
		return err
	}
	for _, scope := range scopes {
		ended, err := js.branchEnded(key, strings.TrimPrefix(strings.TrimPrefix(scope, store.UndoScope), "/"))
		if err != nil {
			return err
		}
		changes := []string{noteUndo, dropUndo} // the entry without a note is the failure that ended the run
		if ended {
			changes = []string{keepUndo}
		}
		for _, change := range changes {
			if err := js.exec(change, key, scope); err != nil {
				return err
			}
		}
	}
	return nil
}

// branchEnded reports whether the branch with that scope, or one around it, is recorded as ended.
func (js *journals) branchEnded(run int64, scope string) (ended bool, err error) {
	for scope != "" && !ended && err == nil {
		parent, number, nested := cutLast(scope)
		seq, nerr := strconv.Atoi(number)
		if nerr != nil {
			return false, nil // an entry of the engine
		}
		err = js.one("SELECT EXISTS (SELECT 1 FROM stint_journal WHERE run = ? AND scope = ? AND seq = ? AND kind = 6 AND done = 1)",
			[]any{run, parent, seq}, &ended)
		if scope = parent; !nested {
			break
		}
	}
	return ended, err
}

// cutLast splits a scope at its last number.
func cutLast(scope string) (parent, number string, nested bool) {
	i := strings.LastIndexByte(scope, '/')
	return scope[:max(i, 0)], scope[i+1:], i >= 0
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
