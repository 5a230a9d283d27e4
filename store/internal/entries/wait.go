package entries

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/store"
)

// LooksFor returns for which events Append looks, in the order of its from. The entry is not done.
func LooksFor(e *store.Entry) (all []store.Match, err error) {
	switch e.Kind {
	case store.EntryEvent:
		m := e.Match
		m.Key = e.Name
		return []store.Match{m}, nil
	case store.EntryWait:
		w, err := waitOf(e)
		if err != nil || !w.At.IsZero() { // it is recorded, and has what was there
			return nil, err
		}
		for _, c := range w.Cond.Leaves() {
			if c.Event != nil {
				all = append(all, *c.Event)
			}
		}
	}
	return all, nil
}

func waitOf(e *store.Entry) (w store.Wait, err error) {
	if err = json.Unmarshal(e.Value, &w); err != nil {
		err = fmt.Errorf("entry %v: what it waits for cannot be read: %w", journal.Address(e.Address), err)
	}
	return w, err
}

// appendWait records a wait that is not done, or decides again one that is recorded.
func appendWait(rows Rows, run int64, c *store.Call, from []int64, now time.Time) (e store.Entry, stale bool, err error) {
	e = c.Entry
	e.At = now
	current, err := rows.Current(run, c.Lease)
	if err != nil || !current {
		return e, !current, err
	}
	there, err := rows.Entry(run, e.Address)
	switch {
	case err != nil:
		return e, false, err
	case there == nil:
		return e, false, beginWait(rows, run, c.Lease, &e, from)
	case !there.Done:
		_, err = decideWait(rows, run, there, now)
	}
	return *there, false, err
}

// A leaf is the entry of an event that a wait waits for.
type leaf struct {
	store.Entry
	event int64 // that is there already; 0: none
}

// beginWait records a wait. Of the events that are there already, one may be for several leaves, as one that comes
// later may be.
func beginWait(rows Rows, run int64, lease store.Lease, e *store.Entry, from []int64) error {
	w, err := waitOf(e)
	if err != nil {
		return err
	}
	w.At = e.At
	if e.Value, err = json.Marshal(&w); err != nil {
		return err
	}
	var leaves []leaf
	for i, c := range w.Cond.Leaves() {
		if c.Event == nil {
			continue
		}
		at := store.Address{Scope: store.LeafScope(e.Address), Seq: i + 1}
		l := leaf{Entry: store.Entry{Address: at, Kind: store.EntryEvent, Name: c.Event.Key, Match: *c.Event, At: e.At}}
		if l.event, l.Value, err = there(rows, run, nth(from, len(leaves)), &l.Match); err != nil {
			return err
		}
		l.Done = l.event > 0
		leaves = append(leaves, l)
	}
	if _, err := rows.Put(run, lease, *e, 0); err != nil {
		return err
	}
	for i := range leaves {
		l := &leaves[i]
		put, err := rows.Put(run, lease, l.Entry, l.event)
		switch {
		case err != nil:
			return err
		case !put: // a fork has got it from the run that it was made of
		case l.Done:
			rows.Had(run, l.event)
		default:
			rows.Waits(l.Name)
		}
	}
	_, err = decideWait(rows, run, e, e.At)
	return err
}

// Came decides again the wait for which an event has come, if it has come for one, and reports whether the run goes
// on. at is the entry that has the event.
func Came(rows Rows, run int64, at store.Address, now time.Time) (goesOn bool, err error) {
	wait, ok := store.WaitOf(at.Scope)
	if !ok {
		return true, nil
	}
	e, err := rows.Entry(run, wait)
	if err != nil || e == nil || e.Done {
		return false, err
	}
	return decideWait(rows, run, e, now)
}

// decideWait ends a wait if its condition became true, or it timed out, and reports whether it has. If only time is
// missing it sets when the wait will end.
func decideWait(rows Rows, run int64, e *store.Entry, now time.Time) (done bool, err error) {
	w, err := waitOf(e)
	if err != nil {
		return false, err
	}
	leaves := w.Cond.Leaves()
	came, err := rows.In(run, store.LeafScope(e.Address), len(leaves))
	if err != nil {
		return false, err
	}
	truths, data := make([]time.Time, len(leaves)), make([][]byte, len(leaves))
	for i, c := range leaves {
		if c.Event == nil {
			truths[i] = time.UnixMilli(clock.CeilMillis(clock.Add(w.At, max(c.Sleep, 0))))
		}
	}
	began := time.UnixMilli(w.At.UnixMilli())
	for i := range came {
		if l := &came[i]; l.Done {
			truths[l.Seq-1], data[l.Seq-1] = l.At, l.Value
			if l.At.Before(began) {
				truths[l.Seq-1] = began
			}
		}
	}
	at, fired := store.Evaluate(&w.Cond, truths)
	late := w.Until > 0 && (at.IsZero() || at.UnixMilli() > w.Until)
	if late {
		at, fired = time.UnixMilli(w.Until), nil
	}
	switch {
	case at.IsZero():
		return false, nil
	case at.After(now):
		if at.Equal(e.Due) {
			return false, nil
		}
		e.Due = at
		if err := rows.DueBy(run, at.UnixMilli()); err != nil {
			return false, err
		}
		return false, rows.Change(run, *e)
	case late:
		e.Value, e.Error = nil, w.Late
	default:
		if e.Value, err = store.FiredValues(fired, func(leaf int) []byte { return data[leaf] }); err != nil {
			return false, err
		}
	}
	e.Done, e.At, e.Due = true, at, time.Time{}
	if err := dropUnfired(rows, run, came, fired); err != nil {
		return false, err
	}
	return true, rows.Change(run, *e)
}

// dropUnfired deletes the events that a wait does not need any more.
func dropUnfired(rows Rows, run int64, came []store.Entry, fired []store.Fired) error {
	needed := map[int]bool{}
	for _, f := range fired {
		needed[f.Leaf] = true
	}
	for i := range came {
		if needed[came[i].Seq-1] {
			continue
		}
		if err := rows.Drop(run, came[i].Address); err != nil {
			return err
		}
	}
	return nil
}
