package entries

import (
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
)

// Append records a durable call, or completes the pending entry at its address, and returns the
// entry that is there by then. The events that LooksFor returns are looked for among those that are not
// before from (nil: 0). stale reports that the execution is not current, and nothing was recorded.
func Append(rows Rows, run int64, c *store.Call, from []int64, now time.Time) (e store.Entry, stale bool, err error) {
	if c.Entry.Kind == store.EntryWait && !c.Entry.Done {
		return appendWait(rows, run, c, from, now)
	}
	e = c.Entry
	e.At = now
	event := int64(0)
	if e.Kind == store.EntryEvent {
		e.Match.Key = e.Name
		if !e.Done {
			if event, e.Value, err = there(rows, run, nth(from, 0), &e.Match); err != nil {
				return e, false, err
			}
			e.Done = event > 0
		}
	}
	recorded, err := rows.Put(run, c.Lease, e, event)
	if err != nil {
		return e, false, err
	}
	if !recorded {
		current, err := rows.Current(run, c.Lease)
		if err != nil || !current {
			return e, !current, err
		}
		there, err := rows.Entry(run, e.Address)
		if there != nil {
			e = *there
		}
		return e, false, err
	}
	switch {
	case event > 0:
		rows.Had(run, event)
	case e.Kind == store.EntryEvent && !e.Done:
		rows.Waits(e.Name)
	}
	return e, false, nil
}

// Plain reports whether all that a call does is to record an entry that is done, with the time when it began: what Append does then is
// one Put, in which many such calls may go together.
func Plain(c *store.Call) bool {
	e := &c.Entry
	return e.Done && e.Kind != store.EntryEvent && e.Due.IsZero() && !e.Began.IsZero()
}

// there returns the first event that a call gets at once; 0: there is none.
func there(rows Rows, run, from int64, m *store.Match) (event int64, payload []byte, err error) {
	if m.FromNow {
		return 0, nil, nil
	}
	return rows.Event(run, from, *m)
}

// nth returns an element, or 0.
func nth(all []int64, i int) int64 {
	if i < len(all) {
		return all[i]
	}
	return 0
}

// Forget deletes an entry, the later ones of its scope, and the scopes of branches among them. Of
// a branch that has failed it deletes only the entry: the branch goes on where it failed.
func Forget(rows Rows, run int64, at store.Address) error {
	failed, err := rows.DropFailed(run, at)
	if err != nil || failed {
		return err
	}
	if err := rows.DropFrom(run, at); err != nil || store.IsUndo(at.Scope) { // a compensation begins no branch
		return err
	}
	return rows.DropBranches(run, at)
}

// ResetUndo prepares a run's compensations for a new attempt. Those of a branch that has ended
// become pending again, for the branch is not entered again; of the others, which are recorded
// again, a note stays.
func ResetUndo(rows Rows, run int64) error {
	scopes, err := rows.Scopes(run, store.UndoScope)
	if err != nil {
		return err
	}
	for _, scope := range scopes {
		if !store.IsUndo(scope) {
			continue
		}
		rest := strings.TrimPrefix(scope, store.UndoScope)
		ended, err := branchEnded(rows, run, strings.TrimPrefix(rest, "/"))
		if err == nil && ended {
			err = rows.Redo(run, scope)
		} else if err == nil { // the entry without a note is the failure that ended the run
			err = rows.Note(run, scope, store.UndoneScope+rest)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// branchEnded reports whether the branch with that scope, or one around it, is recorded as ended.
func branchEnded(rows Rows, run int64, scope string) (ended bool, err error) {
	for scope != "" && !ended && err == nil {
		parent, number := cutLast(scope)
		seq, nerr := strconv.Atoi(number)
		if nerr != nil {
			return false, nil // an entry of the engine
		}
		ended, err = rows.EndedBranch(run, store.Address{Scope: parent, Seq: seq})
		scope = parent
	}
	return ended, err
}

// cutLast splits a scope at its last number.
func cutLast(scope string) (parent, number string) {
	i := strings.LastIndexByte(scope, '/')
	return scope[:max(i, 0)], scope[i+1:]
}

// Copy copies what a run had completed before an address in the handler's own scope: its entries
// there, those of branches that began there, and their compensations.
func Copy(rows Rows, run, to int64, before int) error {
	scopes, err := rows.Scopes(run, "")
	if err != nil {
		return err
	}
	var done, steps []string
	for _, scope := range scopes {
		switch {
		case scope == "":
		case store.IsUndo(scope):
			if first(strings.TrimPrefix(scope, store.UndoScope+"/")) < before {
				steps = append(steps, scope)
			}
		case first(scope) < before:
			done = append(done, scope)
		}
	}
	if err := rows.CopyBefore(run, to, before); err != nil {
		return err
	}
	if err := rows.CopyDone(run, to, done); err != nil {
		return err
	}
	return rows.CopySteps(run, to, steps)
}

// first returns the number with which a scope begins: of the entry in the handler's own scope that
// began it; 0: it is the engine's.
func first(scope string) int {
	number, _, _ := strings.Cut(scope, "/")
	n, _ := strconv.Atoi(number)
	return n
}
