package definition_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/definition"
	"github.com/stint-dev/stint/store/internal/event"
	"github.com/stint-dev/stint/store/internal/misstest"
)

// rows has the versions of one task's definition in memory, by number. What else a declaration changes is noted in log.
type rows struct {
	misstest.Misses
	versions map[int64]string
	log      []string
}

func (r *rows) note(format string, args ...any) { r.log = append(r.log, fmt.Sprintf(format, args...)) }

func (r *rows) Newest(string) (version string, number int64, err error) {
	defer r.Miss(&err)
	for n, v := range r.versions {
		if n > number {
			version, number = v, n
		}
	}
	return version, number, nil
}

func (r *rows) Put(d *store.Definition, number int64) (err error) {
	defer r.Miss(&err)
	for n, v := range r.versions {
		if v == d.Version {
			delete(r.versions, n)
		}
	}
	r.versions[number] = d.Version
	return nil
}

func (r *rows) Drop(_ string, number int64) (err error) {
	defer r.Miss(&err)
	for n := range r.versions {
		if n <= number {
			delete(r.versions, n)
		}
	}
	return nil
}

func (r *rows) SetFilters(_ string, filters []store.TaskFilter) (err error) {
	defer r.Miss(&err)
	r.note("%d filters", len(filters))
	return nil
}

// crons and events have what a task without crons and triggers needs.
type (
	crons struct {
		cron.Rows
		rows *rows
	}
	events struct {
		event.Rows
		rows *rows
	}
)

func (c crons) Declared(string) (_ []string, err error) {
	defer c.rows.Miss(&err)
	c.rows.note("crons")
	return nil, nil
}

func (e events) Declared(string) (_ []event.Declared, err error) {
	defer e.rows.Miss(&err)
	e.rows.note("triggers")
	return nil, nil
}

func declare(r *rows, ds ...store.Declaration) error {
	return definition.Declare(r, crons{rows: r}, events{rows: r}, time.UnixMilli(1000), ds)
}

func of(version string, filters int) store.Declaration {
	return store.Declaration{Task: "t", Definition: &store.Definition{Task: "t", Version: version}, Filters: make([]store.TaskFilter, filters)}
}

func TestDeclare(t *testing.T) {
	had := map[int64]string{1: "a", 2: "b"}
	for _, c := range []struct {
		name string
		d    store.Declaration
		want map[int64]string
		log  []string
	}{
		{"no definition", store.Declaration{Task: "t"}, had, []string{"crons", "triggers"}},
		{"the newest", of("b", 2), had, nil},
		{"a new one", of("c", 2), map[int64]string{1: "a", 2: "b", 3: "c"}, []string{"2 filters", "crons", "triggers"}},
		{"an older one", of("a", 0), map[int64]string{2: "b", 3: "a"}, []string{"0 filters", "crons", "triggers"}},
		{"none any more", of("", 0), map[int64]string{}, []string{"0 filters", "crons", "triggers"}},
	} {
		made := func() *rows { return &rows{versions: map[int64]string{1: "a", 2: "b"}} }
		r := made()
		if err := declare(r, c.d); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(r.versions) != fmt.Sprint(c.want) || !slices.Equal(r.log, c.log) {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, r.versions, r.log, c.want, c.log)
		}
		misstest.Each(t, made, func(r *rows) error { return declare(r, c.d) })
	}
}

// Each declaration counts, and only so many versions are kept.
func TestVersionsKept(t *testing.T) {
	r := &rows{versions: map[int64]string{}}
	var ds []store.Declaration
	for n := range store.MaxVersions + 3 {
		ds = append(ds, of(fmt.Sprint(n), 0))
	}
	if err := declare(r, ds...); err != nil {
		t.Fatal(err)
	}
	if len(r.versions) != store.MaxVersions || r.versions[store.MaxVersions+3] != fmt.Sprint(store.MaxVersions+2) {
		t.Errorf("%d versions are kept, want %d: %v", len(r.versions), store.MaxVersions, r.versions)
	}
}
