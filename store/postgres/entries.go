package postgres

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/entries"
)

// An entryRow is a row of stint.journal.
type entryRow struct {
	run, seq, kind, at, due, attempts, event int64 // due and event 0: none
	began                                    int64 // 0: at
	scope, name                              string
	done                                     bool
	value, reason, tries                     []byte
	field, match, filter                     *string // of an event
}

type entryKey struct {
	run   int64
	scope string
	seq   int64
}

func (r *entryRow) key() entryKey { return entryKey{r.run, r.scope, r.seq} }

func compareEntries(a, b entryKey) int {
	return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.scope, b.scope), cmp.Compare(a.seq, b.seq))
}

var entryStatements = newStatements("journal", 3, "FOR UPDATE",
	number("run", func(r *entryRow) *int64 { return &r.run }),
	text("scope", func(r *entryRow) *string { return &r.scope }),
	number("seq", func(r *entryRow) *int64 { return &r.seq }),
	number("kind", func(r *entryRow) *int64 { return &r.kind }),
	text("name", func(r *entryRow) *string { return &r.name }),
	col("done", "boolean", func(r *entryRow) *bool { return &r.done }),
	col("value", "bytea", func(r *entryRow) *[]byte { return &r.value }),
	col("error", "text", func(r *entryRow) *[]byte { return &r.reason }),
	number("at", func(r *entryRow) *int64 { return &r.at }),
	stamp("due_at", func(r *entryRow) *int64 { return &r.due }),
	col("field", "text", func(r *entryRow) **string { return &r.field }),
	col("match", "text", func(r *entryRow) **string { return &r.match }),
	col("filter", "text", func(r *entryRow) **string { return &r.filter }),
	stamp("event", func(r *entryRow) *int64 { return &r.event }),
	number("attempts", func(r *entryRow) *int64 { return &r.attempts }),
	stamp("began_at", func(r *entryRow) *int64 { return &r.began }),
	col("tries", "text", func(r *entryRow) *[]byte { return &r.tries }))

func newEntries() *relation[entryKey, entryRow] {
	return newRelation(entryStatements, compareEntries, (*entryRow).key,
		func(k entryKey) entryRow { return entryRow{run: k.run, scope: k.scope, seq: k.seq} })
}

// entry returns the row as the engine knows it.
func (r *entryRow) entry() store.Entry {
	e := store.Entry{Address: store.Address{Scope: r.scope, Seq: int(r.seq)}, Kind: store.EntryKind(r.kind), Name: r.name, Done: r.done,
		Value: r.value, Error: r.reason, At: clock.FromMillis(r.at), Began: clock.FromMillis(r.begin()), Attempts: int(r.attempts),
		Tries: r.tries}
	if r.due != 0 {
		e.Due = clock.FromMillis(r.due)
	}
	if r.field != nil && r.match != nil && r.filter != nil {
		e.Match = store.Match{Key: r.name, Field: *r.field, Value: *r.match, Filter: *r.filter}
	}
	return e
}

// begin returns when the call began.
func (r *entryRow) begin() int64 { return cmp.Or(r.began, r.at) }

// entryRows are the journals of a unit.
type entryRows struct{ *unit }

var _ entries.Rows = entryRows{}

func (u entryRows) at(run int64, a store.Address) entryKey {
	return entryKey{run, a.Scope, int64(a.Seq)}
}

// Put implements entries.Rows.
func (u entryRows) Put(run int64, lease store.Lease, e store.Entry, event int64) (bool, error) {
	if u.assumeCall(run, lease, &e) {
		return true, nil
	}
	r, err := u.run(run)
	old, err2 := u.journal.get(u.at(run, e.Address)) // asks for both
	if err = cmp.Or(err, err2); err != nil {
		return false, err
	}
	if r == nil || !r.executes(lease) || old != nil && old.done {
		return false, nil
	}
	row := newEntryRow(run, &e)
	row.event = event
	if e.Kind == store.EntryEvent {
		row.field, row.match, row.filter = &e.Match.Field, &e.Match.Value, &e.Match.Filter
	}
	if old != nil { // completes it
		row.kind, row.field, row.match, row.filter, row.event = old.kind, old.field, old.match, old.filter, old.event
		row.began = cmp.Or(row.began, old.begin())
		if row.due == 0 {
			row.due = old.due
		}
	}
	u.putEntry(row)
	return true, nil
}

func newEntryRow(run int64, e *store.Entry) entryRow {
	row := entryRow{run: run, scope: e.Scope, seq: int64(e.Seq), kind: int64(e.Kind), name: e.Name, done: e.Done, value: e.Value,
		reason: e.Error, at: clock.Millis(e.At), attempts: int64(e.Attempts), tries: e.Tries}
	if !e.Due.IsZero() {
		row.due = clock.CeilMillis(e.Due)
	}
	if !e.Began.IsZero() {
		row.began = clock.Millis(e.Began)
	}
	return row
}

func (u *unit) putEntry(r entryRow) {
	u.journal.put(r.key(), r)
	u.changedJournals[r.run] = true
	u.told.chunks = append(u.told.chunks, r.run)
}

func (u *unit) removeEntry(k entryKey) {
	u.journal.remove(k)
	u.changedJournals[k.run] = true
}

// Current implements entries.Rows.
func (u entryRows) Current(run int64, lease store.Lease) (bool, error) {
	r, err := u.run(run)
	return r != nil && r.executes(lease), err
}

// Entry implements entries.Rows.
func (u entryRows) Entry(run int64, at store.Address) (*store.Entry, error) {
	r, err := u.journal.get(u.at(run, at))
	if err != nil || r == nil {
		return nil, err
	}
	e := r.entry()
	return &e, nil
}

// In implements entries.Rows.
func (u entryRows) In(run int64, scope string, n int) (all []store.Entry, err error) {
	ats := make([]entryKey, n)
	for i := range ats {
		ats[i] = u.at(run, store.Address{Scope: scope, Seq: i + 1})
	}
	u.journal.ask(ats...)
	for _, k := range ats {
		r, err := u.journal.get(k)
		if err != nil {
			return nil, err
		}
		if r != nil {
			all = append(all, r.entry())
		}
	}
	return all, nil
}

// Change implements entries.Rows.
func (u entryRows) Change(run int64, e store.Entry) error {
	old, err := u.journal.get(u.at(run, e.Address))
	if err != nil || old == nil {
		return err
	}
	row := newEntryRow(run, &e)
	row.field, row.match, row.filter, row.event = old.field, old.match, old.filter, old.event
	row.began, row.attempts, row.tries = old.begin(), old.attempts, old.tries
	u.putEntry(row)
	return nil
}

// Drop implements entries.Rows.
func (u entryRows) Drop(run int64, at store.Address) error {
	u.removeEntry(u.at(run, at))
	return nil
}

// DueBy implements entries.Rows.
func (u entryRows) DueBy(run, at int64) error {
	r, err := u.run(run)
	if err != nil || r == nil || r.State != store.Waiting || r.Lease == 0 || r.Due != 0 && r.Due <= at {
		return err
	}
	r.SetDue(at)
	u.wake(at)
	return runRows(u).Write(&r.Run)
}

// entriesOf returns the entries of a run, in order.
func (u *unit) entriesOf(run int64) ([]*entryRow, error) {
	if !u.isNew(run) { // no other process knows a run that this group inserts
		keys, err := u.journals.get(run)
		if err != nil {
			return nil, err
		}
		u.journal.ask(keys...)
	}
	var all []*entryRow
	for k, e := range u.journal.entries {
		if k.run == run && e.now != nil {
			all = append(all, e.now)
		}
	}
	slices.SortFunc(all, func(a, b *entryRow) int { return compareEntries(a.key(), b.key()) })
	return all, nil
}

// journalOf completes what a run says of its journal, if the group has changed that.
func (u *unit) journalOf(r *runRow) error {
	if !u.changedJournals[r.Key] {
		return nil
	}
	all, err := u.entriesOf(r.Key)
	if err != nil {
		return err
	}
	r.Journal, r.Undo = len(all) > 0, false
	for _, e := range all {
		r.Undo = r.Undo || store.IsUndo(e.scope) && !e.done
	}
	return nil
}

// drop deletes the entries of a run that meet a condition.
func (u entryRows) drop(run int64, which func(*entryRow) bool) error {
	all, err := u.entriesOf(run)
	if err != nil {
		return err
	}
	for _, e := range all {
		if which(e) {
			u.removeEntry(e.key())
		}
	}
	return nil
}

// DropFailed implements entries.Rows.
func (u entryRows) DropFailed(run int64, at store.Address) (bool, error) {
	r, err := u.journal.get(u.at(run, at))
	if err != nil || r == nil || store.EntryKind(r.kind) != store.EntryBranch || r.reason == nil {
		return false, err
	}
	u.removeEntry(r.key())
	return true, nil
}

// DropFrom implements entries.Rows.
func (u entryRows) DropFrom(run int64, at store.Address) error {
	return u.drop(run, func(e *entryRow) bool { return e.scope == at.Scope && e.seq >= int64(at.Seq) })
}

// DropBranches implements entries.Rows.
func (u entryRows) DropBranches(run int64, at store.Address) error {
	return u.drop(run, func(e *entryRow) bool {
		rest := e.scope
		if at.Scope != "" {
			var within bool
			if rest, within = strings.CutPrefix(rest, at.Scope+"/"); !within {
				return false
			}
		}
		number, ok := leadingNumber(rest)
		return ok && number >= at.Seq
	})
}

// leadingNumber returns the number with which a scope begins; ok is false for one of the engine's.
func leadingNumber(scope string) (n int, ok bool) {
	first, _, _ := strings.Cut(scope, "/")
	for _, c := range first {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, first != ""
}

// Scopes implements entries.Rows.
func (u entryRows) Scopes(run int64, prefix string) ([]string, error) {
	all, err := u.entriesOf(run)
	if err != nil {
		return nil, err
	}
	scopes := map[string]bool{}
	for _, e := range all {
		if strings.HasPrefix(e.scope, prefix) {
			scopes[e.scope] = true
		}
	}
	return slices.Sorted(maps.Keys(scopes)), nil
}

// EndedBranch implements entries.Rows.
func (u entryRows) EndedBranch(run int64, at store.Address) (bool, error) {
	e, err := u.Entry(run, at)
	return e != nil && e.Kind == store.EntryBranch && e.Done, err
}

// Redo implements entries.Rows.
func (u entryRows) Redo(run int64, scope string) error {
	all, err := u.entriesOf(run)
	for _, e := range all {
		if e.scope == scope {
			e.done, e.reason, e.due, e.attempts, e.began, e.tries = false, nil, 0, 0, 0, nil
			u.putEntry(*e)
		}
	}
	return err
}

// Note implements entries.Rows.
func (u entryRows) Note(run int64, scope, to string) error {
	all, err := u.entriesOf(run)
	for _, e := range all {
		if e.scope != scope {
			continue
		}
		if store.EntryKind(e.kind) == store.EntryStep {
			note := *e
			note.scope, note.kind, note.done = to, int64(store.EntryNote), true
			note.reason, note.due, note.attempts, note.began, note.tries = nil, 0, 0, 0, nil
			u.journal.ask(note.key()) // it may replace an older note
			if _, err := u.journal.get(note.key()); err != nil {
				return err
			}
			u.putEntry(note)
		}
		u.removeEntry(e.key())
	}
	return err
}

// copyEntries copies the entries of a run that meet a condition.
func (u entryRows) copyEntries(run, to int64, which func(*entryRow) bool) error {
	all, err := u.entriesOf(run)
	for _, e := range all {
		if which(e) {
			c := *e
			c.run = to
			u.putEntry(c)
		}
	}
	return err
}

// CopyBefore implements entries.Rows.
func (u entryRows) CopyBefore(run, to int64, before int) error {
	return u.copyEntries(run, to, func(e *entryRow) bool { return e.scope == "" && e.seq < int64(before) && e.done })
}

// CopyDone implements entries.Rows.
func (u entryRows) CopyDone(run, to int64, scopes []string) error {
	return u.copyEntries(run, to, func(e *entryRow) bool { return e.done && slices.Contains(scopes, e.scope) })
}

// CopySteps implements entries.Rows.
func (u entryRows) CopySteps(run, to int64, scopes []string) error {
	return u.copyEntries(run, to, func(e *entryRow) bool {
		return store.EntryKind(e.kind) == store.EntryStep && slices.Contains(scopes, e.scope)
	})
}

// Waits implements entries.Rows.
func (u entryRows) Waits(string) {}

// Had implements entries.Rows.
func (u entryRows) Had(run, event int64) { u.recordEventRun(event, run, true) }
