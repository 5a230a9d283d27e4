package storetest

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// at returns an entry; nil: there is none.
func (r *modelRun) at(a store.Address) *modelEntry {
	i, there := slices.BinarySearchFunc(r.journal, a, byAddress)
	if !there {
		return nil
	}
	return &r.journal[i]
}

func (r *modelRun) insert(e modelEntry) {
	i, there := slices.BinarySearchFunc(r.journal, e.Address, byAddress)
	if !there {
		r.journal = slices.Insert(r.journal, i, e)
	}
}

// beginWait records a wait, and an entry for each event of its condition.
func (m *Model) beginWait(r *modelRun, e modelEntry) {
	var w store.Wait
	json.Unmarshal(e.Value, &w) // the caller has made it
	w.At, e.Began = e.At, e.At
	e.Value, _ = json.Marshal(&w)
	var leaves []modelEntry
	for i, c := range w.Cond.Leaves() {
		if c.Event == nil {
			continue
		}
		l := modelEntry{Entry: store.Entry{Address: store.Address{Scope: store.LeafScope(e.Address), Seq: i + 1}, Kind: store.EntryEvent,
			Name: c.Event.Key, Match: *c.Event, At: e.At, Began: e.At}}
		m.lookBack(r, &l)
		leaves = append(leaves, l)
	}
	r.insert(e)
	for _, l := range leaves {
		r.insert(l)
	}
}

// decideWait ends a wait if it is over, and reports whether it has.
func (r *modelRun) decideWait(at store.Address, now time.Time) bool {
	e := r.at(at)
	if e == nil || e.Done {
		return false
	}
	var w store.Wait
	json.Unmarshal(e.Value, &w) // the model has made it
	leaves := w.Cond.Leaves()
	since, data := map[*store.Condition]time.Time{}, map[*store.Condition][]byte{}
	scope := store.LeafScope(at)
	for i, c := range leaves {
		if c.Event == nil {
			since[c] = w.At.Add(max(c.Sleep, 0))
		} else if l := r.at(store.Address{Scope: scope, Seq: i + 1}); l != nil && l.Done {
			since[c], data[c] = l.At, l.Value
		}
	}
	// The condition is tried at each time at which something becomes true.
	over, fired := time.Time{}, map[*store.Condition]bool{}
	for _, t := range slices.SortedFunc(maps.Values(since), time.Time.Compare) {
		if holds(&w.Cond, since, t, fired) {
			over = t
			break
		}
	}
	until := time.UnixMilli(w.Until)
	late := w.Until > 0 && (over.IsZero() || over.After(until))
	if late {
		over = until
	}
	if over.IsZero() {
		return false
	}
	if over.After(now) {
		was := e.Due
		e.Due = over // which a run that comes to wait for it takes over: only a change makes it due
		if !over.Equal(was) && r.State == store.Waiting && r.Lease != 0 && (r.wake.IsZero() || over.Before(r.wake)) {
			r.wake, r.Due = over, over
		}
		return false
	}
	e.Done, e.At, e.Due = true, over, time.Time{}
	if e.Value = nil; late {
		e.Error = w.Late
	} else {
		e.Value = waitValue(leaves, fired, data)
	}
	r.journal = slices.DeleteFunc(r.journal, func(l modelEntry) bool {
		return l.Scope == scope && (late || !fired[leaves[l.Seq-1]])
	})
	return true
}

// waitValue returns what a wait gives its handler: the data of each leaf that ended it, by the leaf's name.
func waitValue(leaves []*store.Condition, fired map[*store.Condition]bool, data map[*store.Condition][]byte) []byte {
	values := map[string]json.RawMessage{}
	for _, c := range leaves { // names are unique here
		if !fired[c] {
			continue
		}
		values[c.ReportedName()] = json.RawMessage("null")
		if data[c] != nil {
			values[c.ReportedName()] = data[c]
		}
	}
	v, _ := json.Marshal(values)
	return v
}

// holds reports whether a condition is true at a time, and adds the leaves that make it so: of any, those of the
// member that was true first.
func holds(c *store.Condition, since map[*store.Condition]time.Time, t time.Time, fired map[*store.Condition]bool) bool {
	switch {
	case c.Any != nil:
		for _, at := range slices.SortedFunc(maps.Values(since), time.Time.Compare) {
			for i := range c.Any {
				if !at.After(t) && holds(&c.Any[i], since, at, fired) {
					return true
				}
			}
		}
		return false
	case c.All != nil:
		some := map[*store.Condition]bool{}
		for i := range c.All {
			if !holds(&c.All[i], since, t, some) {
				return false
			}
		}
		for l := range some {
			fired[l] = true
		}
		return true
	}
	at, ok := since[c]
	if ok && !at.After(t) {
		fired[c] = true
		return true
	}
	return false
}

// randomWait returns what a call waits for that is the 5th or the 6th of a run.
func randomWait(seq int, until time.Time) []byte {
	event := func(name, value string) store.Condition {
		return store.Condition{Name: name, Event: &store.Match{Key: "e", Field: "n", Value: value}}
	}
	sleep := func(name string, seconds time.Duration) store.Condition {
		return store.Condition{Name: name, Sleep: seconds*time.Second + 7*time.Millisecond}
	}
	all := func(cs ...store.Condition) store.Condition { return store.Condition{All: cs} }
	fresh := store.Condition{Name: "fresh", Event: &store.Match{Key: "e", FromNow: true}}
	w := store.Wait{Cond: all(sleep("soon", 5), event("0", "0"), store.Condition{Any: []store.Condition{all(event("1", "1"),
		sleep("late", 30)), fresh}})}
	if seq == 6 {
		w.Cond = store.Condition{Any: []store.Condition{w.Cond, all(event("2", "1"), sleep("later", 20)), event("3", "1")}}
		w.Cond.Any[2].Event.Filter = `"x"`
		w.Until, w.Late = until.UnixMilli(), []byte(`{"message":"late"}`)
	}
	b, _ := json.Marshal(&w) // it always encodes
	return b
}
