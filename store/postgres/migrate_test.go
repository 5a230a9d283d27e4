package postgres

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// A release is this one or a later one, on the tables of a test.
type release struct {
	t *testing.T
	*settings
}

// newRelease returns a release with more migrations than this one has.
func newRelease(t *testing.T, schema string, more ...migration) *release {
	t.Helper()
	s, err := newSettings(serverURL(t), Options{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range more {
		m.statements = qualify(m.statements, schema)
		s.migrations = append(s.migrations, m)
	}
	return &release{t, s}
}

func (r *release) open() *Store {
	r.t.Helper()
	own := newRelease(r.t, r.Schema) // a process has its own
	own.migrations = r.migrations
	s, err := open(r.t.Context(), own.settings)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { s.Close() })
	return s
}

// explicit migrates as Migrate does.
func (r *release) explicit() error {
	return r.migrate(r.t.Context(), dial(r.t, r.settings), r.knows())
}

func (r *release) version() version {
	r.t.Helper()
	v, err := r.settings.version(r.t.Context(), dial(r.t, r.settings))
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// Migrations of releases to come: one expands, the other drops what this release needs.
var (
	expands   = migration{"ALTER TABLE stint.runs ADD COLUMN color text DEFAULT 'red'; CREATE TABLE stint.colors (name text)", 1}
	contracts = migration{"DROP TABLE stint.colors", 2}
)

// work passes runs through two stores: each enqueues some, which the other works off.
func work(t *testing.T, stores ...*Store) {
	t.Helper()
	for i, s := range stores {
		other := stores[(i+1)%len(stores)]
		worker, err := other.Register(t.Context(), store.WorkerInfo{Name: "w", Slots: 10})
		if err != nil {
			t.Fatal(err)
		}
		enqueued, err := s.Enqueue(t.Context(), time.Now(), []store.NewRun{{Task: "a", Queue: "q"}, {Task: "a", Queue: "q"}})
		if err != nil {
			t.Fatal(err)
		}
		for done := 0; done < len(enqueued); {
			got, err := other.Claim(t.Context(), store.ClaimRequest{Worker: worker, Free: func() int { return 10 },
				Tasks: func(string) bool { return true }})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range got {
				stale, err := other.Finish(t.Context(), time.Now(), []store.Outcome{{ID: c.ID, Lease: c.Lease, To: store.Succeeded}})
				if err != nil || stale[0] {
					t.Fatalf("finish: stale %v, %v", stale, err)
				}
				done++
			}
		}
	}
}

// While a release is deployed, the one before it goes on, and may be opened again (a deployment that is rolled back).
func TestTwoReleasesAtOnce(t *testing.T) {
	schema := noTables(t).Schema
	this := newRelease(t, schema)
	old := this.open()
	next := newRelease(t, schema, expands).open()
	work(t, old, next)
	work(t, old, this.open())
	if v := this.version(); v != (version{2, 1}) {
		t.Errorf("version %+v; want 2, for programs from 1 on", v)
	}
}

// What older programs need is dropped once none of them has the tables open; then none can open them.
func TestContraction(t *testing.T) {
	schema := noTables(t).Schema
	this, later := newRelease(t, schema), newRelease(t, schema, expands, contracts)
	old := this.open()
	work(t, old, later.open())
	if v := later.version(); v != (version{2, 1}) {
		t.Fatalf("version %+v with an older program; want 2, for programs from 1 on", v)
	}
	if err := later.explicit(); !errors.Is(err, ErrOlder) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("explicit migration with an older program: %v; want ErrOlder, and which it is", err)
	}
	work(t, old, later.open()) // it was not made by half
	old.Close()
	if err := later.explicit(); err != nil {
		t.Fatal(err)
	}
	if v := later.version(); v != (version{3, 2}) {
		t.Errorf("version %+v without older programs; want 3, for programs from 2 on", v)
	}
	if _, err := open(t.Context(), this.settings); !errors.Is(err, ErrNewer) {
		t.Errorf("open of an older program: %v; want ErrNewer", err)
	}
	work(t, later.open(), newRelease(t, schema, expands).open())
}

// A program that has ended without a word does not hold up a contraction.
func TestContractionAfterDeath(t *testing.T) {
	schema := noTables(t).Schema
	newRelease(t, schema).open().Crash()
	if _, err := dial(t, newRelease(t, schema).settings).Exec(t.Context(),
		qualify("UPDATE stint.processes SET beat_at = beat_at - interval '1 minute'", schema)); err != nil {
		t.Fatal(err)
	}
	later := newRelease(t, schema, expands, contracts)
	later.open()
	if v := later.version(); v != (version{3, 2}) {
		t.Errorf("version %+v; want 3, for programs from 2 on", v)
	}
}

// Either an older program enters before a contraction, and holds it up, or it is refused.
func TestContractionAgainstEntering(t *testing.T) {
	for range 10 {
		schema := noTables(t).Schema
		next := newRelease(t, schema, expands)
		if err := next.explicit(); err != nil {
			t.Fatal(err)
		}
		later := newRelease(t, schema, expands, contracts)
		this := newRelease(t, schema)
		conn := dial(t, later.settings)
		var wg sync.WaitGroup
		var opened *Store
		var entered, contracted error
		wg.Go(func() { opened, entered = open(t.Context(), this.settings) })
		wg.Go(func() { contracted = later.migrate(t.Context(), conn, later.knows()) })
		wg.Wait()
		if opened != nil {
			opened.Close()
		}
		if (entered == nil) == (contracted == nil) || entered != nil && !errors.Is(entered, ErrNewer) ||
			contracted != nil && !errors.Is(contracted, ErrOlder) {
			t.Errorf("an older program opened with %v, while the contraction ended with %v", entered, contracted)
		}
	}
}

// A program whose role may not migrate works on tables that it can use, and is told where it cannot.
func TestReleaseThatMayNotMigrate(t *testing.T) {
	schema := noTables(t).Schema
	newRelease(t, schema).open().Close()
	for _, c := range []struct {
		name string
		more []migration
		want error
	}{
		{"needs the tables as they are", nil, nil},
		{"needs tables that are not there", []migration{expands}, ErrNoTables},
		{"would only drop", []migration{{"SELECT", 2}}, nil},
	} {
		r := newRelease(t, schema, c.more...)
		r.ReadOnly = true
		if s, err := open(t.Context(), r.settings); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", c.name, err, c.want)
		} else if err == nil {
			s.Close()
		}
	}
}
