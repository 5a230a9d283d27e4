package sqlite

import (
	"encoding/json"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/entries"
	"github.com/stint-dev/stint/store/internal/reading"
)

var _ entries.Rows = (*journals)(nil)

// appendSQL is fenced: it inserts nothing for an execution that is not current, and does not change
// entries that are done.
const appendSQL = `
INSERT INTO stint_journal (run, scope, seq, kind, name, done, value, error, at, due_at, field, match, filter, event, attempts,
  began_at, tries)
SELECT id, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, nullif(?17, ?10), ?18
FROM stint_runs WHERE id = ?1 AND lease = ?2 AND ` + stateRunning + `
ON CONFLICT DO UPDATE SET name = excluded.name, done = excluded.done, value = excluded.value, error = excluded.error, at = excluded.at,
  due_at = coalesce(excluded.due_at, due_at), attempts = excluded.attempts,
  began_at = nullif(coalesce(?17, began_at, at), excluded.at), tries = excluded.tries
WHERE done = 0`

// Put implements entries.Rows.
func (js *journals) Put(run int64, lease store.Lease, e store.Entry, event int64) (bool, error) {
	var field, match, filter, due, began any
	if e.Kind == store.EntryEvent {
		field, match, filter = e.Match.Field, e.Match.Value, e.Match.Filter
	}
	if !e.Due.IsZero() {
		due = ceilMillis(e.Due)
	}
	if !e.Began.IsZero() {
		began = clock.Millis(e.Began)
	}
	n, err := js.execN(appendSQL, run, int64(lease), e.Scope, e.Seq, int64(e.Kind), e.Name, e.Done, e.Value, text(e.Error),
		clock.Millis(e.At), due, field, match, filter, nullable(event), e.Attempts, began, text(e.Tries))
	return n > 0, err
}

// Current implements entries.Rows.
func (js *journals) Current(run int64, lease store.Lease) (current bool, err error) {
	err = js.one("SELECT EXISTS (SELECT 1 FROM stint_runs WHERE id = ? AND lease = ? AND "+stateRunning+")",
		[]any{run, int64(lease)}, &current)
	return current, err
}

// Entry implements entries.Rows.
func (js *journals) Entry(run int64, at store.Address) (*store.Entry, error) {
	return js.s.reads().EntryAt(js, run, at)
}

// In implements entries.Rows.
func (js *journals) In(run int64, scope string, n int) ([]store.Entry, error) {
	return js.s.reads().EntriesIn(js, run, scope, n)
}

// Change implements entries.Rows.
func (js *journals) Change(run int64, e store.Entry) error {
	var due any
	if !e.Due.IsZero() {
		due = ceilMillis(e.Due)
	}
	return js.exec("UPDATE stint_journal SET done = ?4, value = ?5, error = ?6, at = ?7, due_at = ?8, "+
		"began_at = nullif(coalesce(began_at, at), ?7) WHERE run = ?1 AND scope = ?2 AND seq = ?3",
		run, e.Scope, e.Seq, e.Done, e.Value, text(e.Error), clock.Millis(e.At), due)
}

// Drop implements entries.Rows.
func (js *journals) Drop(run int64, at store.Address) error {
	return js.exec("DELETE FROM stint_journal WHERE run = ? AND scope = ? AND seq = ?", run, at.Scope, at.Seq)
}

// DueBy implements entries.Rows.
func (js *journals) DueBy(run, at int64) error { return js.runs.dueBy(run, at) }

// Event implements entries.Rows.
func (js *journals) Event(run, from int64, m store.Match) (event int64, payload []byte, err error) {
	return reading.EventFor(js, run, from, &m)
}

// Waits implements entries.Rows.
func (js *journals) Waits(key string) { delete(js.triggers.noWaiters, key) }

// Had implements entries.Rows.
func (js *journals) Had(run, event int64) { js.events.recordEventRun(event, run, true) }

// DropFailed implements entries.Rows.
func (js *journals) DropFailed(run int64, at store.Address) (bool, error) {
	n, err := js.execN("DELETE FROM stint_journal WHERE run = ? AND scope = ? AND seq = ? AND kind = 6 AND error IS NOT NULL", run,
		at.Scope, at.Seq)
	return n > 0, err
}

// DropFrom implements entries.Rows.
func (js *journals) DropFrom(run int64, at store.Address) error {
	return js.exec("DELETE FROM stint_journal WHERE run = ? AND scope = ? AND seq >= ?", run, at.Scope, at.Seq)
}

// DropBranches implements entries.Rows.
func (js *journals) DropBranches(run int64, at store.Address) error {
	from, to, number := "0", ":", 1 // scopes that begin with a number
	if at.Scope != "" {
		from, to, number = at.Scope+"/", at.Scope+"0", len(at.Scope)+2
	}
	return js.exec("DELETE FROM stint_journal WHERE run = ?1 AND scope >= ?2 AND scope < ?3 "+
		"AND CAST(substr(scope, ?4) AS INTEGER) >= ?5", run, from, to, number, at.Seq)
}

// Scopes implements entries.Rows.
func (js *journals) Scopes(run int64, prefix string) ([]string, error) {
	return column[string](js, "SELECT DISTINCT scope FROM stint_journal WHERE run = ?1 AND scope >= ?2 AND scope < ?2 || char(1114111) "+
		"ORDER BY scope", run, prefix)
}

// EndedBranch implements entries.Rows.
func (js *journals) EndedBranch(run int64, at store.Address) (ended bool, err error) {
	err = js.one("SELECT EXISTS (SELECT 1 FROM stint_journal WHERE run = ? AND scope = ? AND seq = ? AND kind = 6 AND done = 1)",
		[]any{run, at.Scope, at.Seq}, &ended)
	return ended, err
}

// Redo implements entries.Rows.
func (js *journals) Redo(run int64, scope string) error {
	return js.exec("UPDATE stint_journal SET done = 0, error = NULL, due_at = NULL, attempts = 0, began_at = NULL, tries = NULL "+
		"WHERE run = ? AND scope = ?", run, scope)
}

// Note implements entries.Rows.
func (js *journals) Note(run int64, scope, to string) error {
	err := js.exec(`UPDATE OR REPLACE stint_journal SET scope = ?3, kind = 10, done = 1, error = NULL, due_at = NULL, attempts = 0,
		began_at = NULL, tries = NULL WHERE run = ?1 AND scope = ?2 AND kind = 2`, run, scope, to)
	if err != nil {
		return err
	}
	return js.exec("DELETE FROM stint_journal WHERE run = ? AND scope = ?", run, scope)
}

// copyEntriesSQL copies entries to another run.
const copyEntriesSQL = `
INSERT INTO stint_journal (run, scope, seq, kind, name, done, value, error, at, due_at, field, match, filter, event, attempts,
  began_at, tries)
SELECT ?2, scope, seq, kind, name, done, value, error, at, due_at, field, match, filter, event, attempts, began_at, tries
FROM stint_journal
WHERE run = ?1 AND `

// CopyBefore implements entries.Rows.
func (js *journals) CopyBefore(run, to int64, before int) error {
	return js.exec(copyEntriesSQL+"scope = '' AND seq < ?3 AND done = 1", run, to, before)
}

// CopyDone implements entries.Rows.
func (js *journals) CopyDone(run, to int64, scopes []string) error {
	return js.copyScopes("done = 1", run, to, scopes)
}

// CopySteps implements entries.Rows.
func (js *journals) CopySteps(run, to int64, scopes []string) error {
	return js.copyScopes("kind = 2", run, to, scopes)
}

func (js *journals) copyScopes(which string, run, to int64, scopes []string) error {
	if len(scopes) == 0 {
		return nil
	}
	list, err := json.Marshal(scopes)
	if err != nil {
		return err
	}
	return js.exec(copyEntriesSQL+"scope IN (SELECT value FROM json_each(?3)) AND "+which, run, to, string(list))
}
