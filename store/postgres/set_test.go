package postgres

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type pair struct{ key, value int }

// Whatever is read, changed and reset: a table has what a map has with the same changes, and what it
// writes makes the database that map.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		database := map[int]int{}
		for range rapid.IntRange(0, 10).Draw(t, "rows") {
			database[rapid.IntRange(0, 9).Draw(t, "key")] = rapid.Int().Draw(t, "value")
		}
		tab := newTable[int, pair](cmp.Compare)
		want := maps.Clone(database)
		fetch := func() {
			keys := tab.misses()
			if !slices.IsSorted(keys) {
				t.Fatalf("misses %v are not in order", keys)
			}
			for _, k := range keys {
				if v, ok := database[k]; ok {
					tab.read(k, pair{k, v})
				}
			}
			tab.absent(keys)
		}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			k := rapid.IntRange(0, 9).Draw(t, "key")
			row, err := tab.get(k)
			if errors.Is(err, errMiss) {
				fetch()
				if row, err = tab.get(k); err != nil {
					t.Fatalf("row %d was read: %v", k, err)
				}
			}
			if v, ok := want[k]; ok != (row != nil) || ok && row.value != v {
				t.Fatalf("row %d is %v, want %d, %t", k, row, v, ok)
			}
			v := rapid.Int().Draw(t, "value")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				if row != nil {
					row.value = v
					tab.change(k)
					want[k] = v
				}
			case 1:
				tab.put(k, pair{k, v})
				want[k] = v
			case 2:
				tab.remove(k)
				delete(want, k)
			case 3:
				tab.reset()
				want = maps.Clone(database)
			}
		}
		insert, update, remove := tab.written()
		for _, r := range insert {
			if _, ok := database[r.key]; ok {
				t.Fatalf("inserts row %d, which is there", r.key)
			}
			database[r.key] = r.value
		}
		for _, r := range update {
			if _, ok := database[r.key]; !ok {
				t.Fatalf("updates row %d, which is not there", r.key)
			}
			database[r.key] = r.value
		}
		for _, k := range remove {
			if _, ok := database[k]; !ok {
				t.Fatalf("deletes row %d, which is not there", k)
			}
			delete(database, k)
		}
		if !maps.Equal(database, want) {
			t.Fatalf("the database is %v, want %v", database, want)
		}
	})
}

func TestList(t *testing.T) {
	l := newList[int64, int64]()
	if _, err := l.get(1); !errors.Is(err, errMiss) {
		t.Errorf("get of what was not read: %v; want errMiss", err)
	}
	for range 2 {
		if _, err := l.get(2); !errors.Is(err, errMiss) {
			t.Errorf("get of what was not read: %v; want errMiss", err)
		}
	}
	asked := l.misses()
	slices.Sort(asked)
	if !slices.Equal(asked, []int64{1, 2}) || len(l.misses()) != 0 {
		t.Errorf("asked for %v, want 1 and 2, once", asked)
	}
	l.known[1] = []int64{7}
	if keys, err := l.get(1); !slices.Equal(keys, []int64{7}) || err != nil || len(l.misses()) != 0 {
		t.Errorf("get: %v, %v; want 7", keys, err)
	}
}

// A key that was given to a new row, before it was known that another row has it, does not hide that row: when the
// changes are undone it is not known any more whether there is one.
func TestTableForgetsGivenKeys(t *testing.T) {
	tab := newTable[int, pair](cmp.Compare)
	tab.put(1, pair{1, 10})
	tab.reset()
	if row, err := tab.get(1); !errors.Is(err, errMiss) {
		t.Errorf("a row that was given is %v, %v after a reset; want that it is read", row, err)
	}
	tab.put(2, pair{2, 20})
	tab.settle() // it was written
	tab.reset()
	if row, err := tab.get(2); err != nil || row.value != 20 {
		t.Errorf("a row that was written is %v, %v after a reset", row, err)
	}
}
