package postgres

import (
	"errors"
	"maps"
	"slices"
)

// errMiss is the error of a decision that asked for a row which is not in the set. The row is read,
// and the decision runs again.
var errMiss = errors.New("a row is not in the set yet")

// A table holds rows of one table of the database that a group has locked and read: as they were, and
// as the group's changes have made them.
type table[K comparable, R any] struct {
	order   func(a, b K) int // in which rows are locked and written
	entries map[K]*entry[R]
	asked   map[K]struct{} // missed
}

// An entry is a row, or the knowledge that there is none.
type entry[R any] struct {
	old, now *R // nil: there is none
	changed  bool
	given    bool // by this process, and not read
}

func newTable[K comparable, R any](order func(a, b K) int) *table[K, R] {
	return &table[K, R]{order: order, entries: map[K]*entry[R]{}, asked: map[K]struct{}{}}
}

// ask asks for rows, unless they are there.
func (t *table[K, R]) ask(keys ...K) {
	for _, k := range keys {
		if t.entries[k] == nil {
			t.asked[k] = struct{}{}
		}
	}
}

// unknown reports whether a row was neither read nor asked for.
func (t *table[K, R]) unknown(k K) bool {
	_, asked := t.asked[k]
	return !asked && t.entries[k] == nil
}

// get returns a row; nil: there is none. errMiss: it is asked for. A caller that changes the row calls
// change.
func (t *table[K, R]) get(k K) (*R, error) {
	e := t.entries[k]
	if e == nil {
		t.asked[k] = struct{}{}
		return nil, errMiss
	}
	return e.now, nil
}

// change marks a row that get has returned as changed.
func (t *table[K, R]) change(k K) { t.entries[k].changed = true }

// put inserts or replaces a row. There is none in the database with a key that was not read: this
// process gave it. (A key that was given before the last one in the database is known may be of another row: what
// was decided with it is undone, see reset.)
func (t *table[K, R]) put(k K, r R) *R {
	e := t.entries[k]
	if e == nil {
		e = &entry[R]{given: true}
		t.entries[k] = e
	}
	e.now, e.changed = &r, true
	return e.now
}

// remove deletes a row that was read or put.
func (t *table[K, R]) remove(k K) {
	e := t.entries[k]
	e.now, e.changed = nil, true
}

// forget makes a row be read again that was changed by a statement.
func (t *table[K, R]) forget(k K) { delete(t.entries, k) }

// misses returns the keys of the rows that were asked for, in order, and forgets them.
func (t *table[K, R]) misses() []K {
	keys := slices.SortedFunc(maps.Keys(t.asked), t.order)
	clear(t.asked)
	return keys
}

// read adds a row of the database. One that is there already stays: it has been locked since.
func (t *table[K, R]) read(k K, r R) {
	if t.entries[k] == nil {
		now := r
		t.entries[k] = &entry[R]{old: &r, now: &now}
	}
}

// absent adds that the database has no rows with the keys that were not read.
func (t *table[K, R]) absent(keys []K) {
	for _, k := range keys {
		if t.entries[k] == nil {
			t.entries[k] = &entry[R]{}
		}
	}
}

// reset undoes all changes.
func (t *table[K, R]) reset() {
	for k, e := range t.entries {
		if e.given {
			delete(t.entries, k)
			continue
		}
		e.now, e.changed = nil, false
		if e.old != nil {
			now := *e.old
			e.now = &now
		}
	}
}

// renew forgets all rows.
func (t *table[K, R]) renew() { t.entries, t.asked = emptied(t.entries), emptied(t.asked) }

// emptied returns an empty map: m, unless it was used and may have grown.
func emptied[K comparable, V any](m map[K]V) map[K]V {
	if len(m) == 0 {
		return m
	}
	return map[K]V{}
}

// settle makes the rows those of the database, after they were written.
func (t *table[K, R]) settle() {
	for _, e := range t.entries {
		if e.changed {
			e.old, e.changed, e.given = nil, false, false
			if e.now != nil {
				old := *e.now
				e.old = &old
			}
		}
	}
}

// written returns the rows to insert, those to update, and the keys of those to delete, in order.
func (t *table[K, R]) written() (insert, update []*R, remove []K) {
	var keys []K
	for k, e := range t.entries {
		if e.changed && (e.old != nil || e.now != nil) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, t.order)
	for _, k := range keys {
		switch e := t.entries[k]; {
		case e.old == nil:
			insert = append(insert, e.now)
		case e.now == nil:
			remove = append(remove, k)
		default:
			update = append(update, e.now)
		}
	}
	return insert, update, remove
}

// A list holds which rows of a table a group has read by something else than their key, such as the
// tasks of a workflow's run.
type list[I, K comparable] struct {
	known map[I][]K
	asked map[I]struct{}
}

func newList[I, K comparable]() *list[I, K] {
	return &list[I, K]{known: map[I][]K{}, asked: map[I]struct{}{}}
}

// get returns the keys of the rows that the database has; errMiss: they are asked for.
func (l *list[I, K]) get(i I) ([]K, error) {
	keys, ok := l.known[i]
	if !ok {
		l.asked[i] = struct{}{}
		return nil, errMiss
	}
	return keys, nil
}

// ask asks for the keys of rows, unless they are known.
func (l *list[I, K]) ask(all ...I) {
	for _, i := range all {
		if _, known := l.known[i]; !known {
			l.asked[i] = struct{}{}
		}
	}
}

// misses returns what was asked for, and forgets it.
func (l *list[I, K]) misses() []I {
	all := slices.Collect(maps.Keys(l.asked))
	clear(l.asked)
	return all
}
