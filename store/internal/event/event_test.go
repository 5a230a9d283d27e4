package event_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/event"
)

// Filters of the tests: the payload must contain the text, "error" does not compile.
func init() {
	store.RegisterFilters(func(expr string) (store.Predicate, []string, error) {
		if expr == "error" {
			return nil, nil, errors.New("syntax error")
		}
		return func(e *store.NewEvent, _ []byte) bool { return strings.Contains(string(e.Payload), expr) }, nil, nil
	})
}

// A wait is a run that waits for an event.
type wait struct {
	run   int64
	match store.Match
	event int64 // that came
}

type stored struct {
	store.NewEvent
	pending bool
}

// rows implements event.Rows in memory.
type rows struct {
	last      int64 // key
	events    map[int64]*stored
	triggers  []store.Trigger
	filters   map[string][]store.TaskFilter
	waits     [2][]*wait
	noWaiters map[string]bool
	declared  map[string][]event.Declared
	started   []string // task and input
	woken     []int64
	onStart   func()
	refuse    error
	reads     int // of waits
}

var _ event.Rows = (*rows)(nil)

func newRows() *rows {
	return &rows{events: map[int64]*stored{}, filters: map[string][]store.TaskFilter{}, noWaiters: map[string]bool{},
		declared: map[string][]event.Declared{}}
}

func (r *rows) Delivered(delivery string) (int64, error) {
	for id, e := range r.events {
		if e.Delivery == delivery {
			return id, nil
		}
	}
	return 0, nil
}

func (r *rows) Insert(now int64, e *store.NewEvent, pending bool) (int64, error) {
	r.last = max(now, r.last+1)
	r.events[r.last] = &stored{*e, pending}
	return r.last, nil
}

func (r *rows) Take(id int64) (bool, error) {
	was := r.events[id].pending
	r.events[id].pending = false
	return was, nil
}

func (r *rows) Since(at int64) (all []event.Event, err error) {
	for _, id := range slices.Sorted(maps.Keys(r.events)) {
		if e := r.events[id]; id >= at && !e.pending {
			all = append(all, event.Event{ID: id, NewEvent: e.NewEvent})
		}
	}
	return all, nil
}

func (r *rows) Triggers(key string) (exact, wild []store.Trigger, err error) {
	for _, tr := range r.triggers {
		if strings.Contains(tr.Key, "*") {
			wild = append(wild, tr)
		} else if tr.Key == key {
			exact = append(exact, tr)
		}
	}
	return exact, wild, nil
}

func (r *rows) Filters(task string) ([]store.TaskFilter, error) { return r.filters[task], nil }

func (r *rows) Start(_, _ int64, run *store.NewRun) error {
	if r.onStart != nil {
		r.onStart()
	}
	r.started = append(r.started, run.Task+string(run.Input))
	return r.refuse
}

func (r *rows) ID(id int64) store.ID { return store.ID{byte(id)} }

func (r *rows) Declared(task string) ([]event.Declared, error) { return r.declared[task], nil }

func (r *rows) Encode(tr *store.Trigger) (event.Declared, error) {
	return event.Declared{Key: tr.Key, Filter: tr.Filter, Template: tr.Template.Run.Queue}, nil
}

func (r *rows) Replace(task string, by []event.Declared) error {
	r.declared[task] = by
	return nil
}

func (r *rows) NoWaiters(key string) bool { return r.noWaiters[key] }
func (r *rows) SetNoWaiters(key string)   { r.noWaiters[key] = true }

// await makes a run wait.
func (r *rows) await(kind event.Kind, run int64, m store.Match) {
	r.waits[kind] = append(r.waits[kind], &wait{run: run, match: m})
	delete(r.noWaiters, m.Key)
}

// values returns a value of each wait that is open and that which selects.
func (r *rows) values(kind event.Kind, which func(*store.Match) bool, value func(*store.Match) string) []string {
	r.reads++
	found := map[string]bool{}
	for _, w := range r.waits[kind] {
		if w.event == 0 && which(&w.match) {
			found[value(&w.match)] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func (r *rows) Fields(kind event.Kind, key string) ([]string, error) {
	return r.values(kind, func(m *store.Match) bool { return m.Key == key }, func(m *store.Match) string { return m.Field }), nil
}

func (r *rows) WaitFilters(kind event.Kind, m *store.Match) ([]string, error) {
	return r.values(kind, func(x *store.Match) bool { return x.Key == m.Key && x.Field == m.Field && x.Value == m.Value },
		func(m *store.Match) string { return m.Filter }), nil
}

func (r *rows) Resolve(kind event.Kind, _, id int64, _ []byte, m *store.Match, late bool) (runs []event.Waiter, err error) {
	for _, w := range r.waits[kind] {
		had := slices.ContainsFunc(r.waits[kind], func(x *wait) bool { return x.run == w.run && x.event == id })
		if w.event == 0 && w.match == *m && !(late && had && kind == event.Calls) {
			w.event = id
			runs = append(runs, event.Waiter{Run: w.run})
		}
	}
	return runs, nil
}

func (r *rows) Wake(_ event.Kind, _, _ int64, w event.Waiter) error {
	r.woken = append(r.woken, w.Run)
	return nil
}

func trigger(key, task string) store.Trigger {
	return store.Trigger{Key: key, Template: store.Template{Run: store.NewRun{Task: task, Queue: "q"}}}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rows) publish(t *testing.T, e store.NewEvent) int64 {
	t.Helper()
	id, err := event.Publish(r, 1000, &e, nil)
	ok(t, err)
	return id
}

// did compares which runs were started and woken since the last call.
func (r *rows) did(t *testing.T, started, woken string) {
	t.Helper()
	if s, w := strings.Join(r.started, " "), strings.Trim(fmt.Sprint(r.woken), "[]"); s != started || w != woken {
		t.Errorf("started %q, woke %q; want %q and %q", s, w, started, woken)
	}
	r.started, r.woken = nil, nil
}

func TestTriggers(t *testing.T) {
	r := newRows()
	r.triggers = []store.Trigger{trigger("a.b", "exact"), trigger("a.*", "wild"), trigger("*.c", "other"), trigger("a.b", "filtered")}
	r.triggers[3].Filter = "7"
	r.publish(t, store.NewEvent{Key: "a.b", Payload: []byte("1")})
	r.did(t, "exact1 wild1", "")
	r.publish(t, store.NewEvent{Key: "a.c", Payload: []byte("7")})
	r.did(t, "wild7 other7", "")
	r.publish(t, store.NewEvent{Key: "a.b", Payload: []byte("7")})
	r.did(t, "exact7 filtered7 wild7", "")
	r.refuse = errors.New("disk full")
	if _, err := event.Publish(r, 1000, &store.NewEvent{Key: "a.b"}, nil); !errors.Is(err, r.refuse) || !strings.Contains(err.Error(), `"exact"`) {
		t.Errorf("error %v", err)
	}
}

// A task with filters starts a run for each filter of the event's scope that it passes.
func TestTaskFilters(t *testing.T) {
	r := newRows()
	r.triggers = []store.Trigger{trigger("a", "t")}
	r.filters["t"] = []store.TaskFilter{{Scope: "x", Expr: "1"}, {Scope: "x", Expr: ""}, {Scope: "y", Expr: "1"}}
	for _, c := range []struct{ scope, payload, want string }{{"x", "1", "t1 t1"}, {"x", "2", "t2"}, {"y", "2", ""}, {"", "1", ""}} {
		r.publish(t, store.NewEvent{Key: "a", Scope: c.scope, Payload: []byte(c.payload)})
		r.did(t, c.want, "")
	}
}

func TestDeliveredTwice(t *testing.T) {
	r := newRows()
	r.triggers = []store.Trigger{trigger("a", "t")}
	first := r.publish(t, store.NewEvent{Key: "a", Delivery: "d"})
	if again := r.publish(t, store.NewEvent{Key: "a", Delivery: "d"}); again != first {
		t.Errorf("it is event %d, then %d", first, again)
	}
	r.did(t, "t", "")
	later, err := event.PublishLater(r, 1000, &store.NewEvent{Key: "a", Delivery: "d"})
	ok(t, err)
	if later != first || len(r.events) != 1 {
		t.Errorf("it is event %d of %d", later, len(r.events))
	}
}

// Runs wait for any event with a key, or for a value of a field, and a filter. Conditions come first.
func TestWaits(t *testing.T) {
	r := newRows()
	r.await(event.Calls, 1, store.Match{Key: "a"})
	r.await(event.Calls, 2, store.Match{Key: "a", Field: "n", Value: "7"})
	r.await(event.Calls, 3, store.Match{Key: "a", Field: "n", Value: "8"})
	r.await(event.Calls, 4, store.Match{Key: "a", Filter: "yes"})
	r.await(event.Conditions, 5, store.Match{Key: "a", Field: "n", Value: "7", Filter: "yes"})
	r.await(event.Conditions, 6, store.Match{Key: "b"})
	r.await(event.Conditions, 7, store.Match{Key: "a", Field: "m", Value: "7"}) // the field is read first, and the events lack it
	r.publish(t, store.NewEvent{Key: "a", Payload: []byte(`{"n":7}`)})
	r.did(t, "", "1 2")
	r.publish(t, store.NewEvent{Key: "a", Payload: []byte(`{"n":7.0,"s":"yes"}`)})
	r.did(t, "", "5 4")
	r.publish(t, store.NewEvent{Key: "a", Payload: []byte(`text`)})
	r.did(t, "", "")
}

// Nothing is read for events that nothing waits for, until something does.
func TestNoWaiters(t *testing.T) {
	r := newRows()
	r.publish(t, store.NewEvent{Key: "a"})
	before := r.reads
	r.publish(t, store.NewEvent{Key: "a"})
	if r.reads != before {
		t.Error("it reads waits again")
	}
	r.await(event.Calls, 1, store.Match{Key: "a", Field: "n", Value: "7"})
	r.publish(t, store.NewEvent{Key: "a"})
	if r.noWaiters["a"] {
		t.Error("nothing waits, it believes")
	}
	r.publish(t, store.NewEvent{Key: "a", Payload: []byte(`{"n":7}`)})
	r.did(t, "", "1")
}

// What a run that the event starts waits for is found, though the candidates were read before. They
// are not read again if it starts none.
func TestWaitsOfStartedRuns(t *testing.T) {
	r := newRows()
	r.triggers = []store.Trigger{trigger("a", "workflow"), trigger("a*c", "other")}
	r.triggers[0].Filter = "yes"
	r.await(event.Calls, 2, store.Match{Key: "a", Filter: "no"})
	e := &store.NewEvent{Key: "a", Payload: []byte("no")}
	_, found, err := event.Undecided(r, e)
	ok(t, err)
	before := r.reads
	_, err = event.Publish(r, 1000, e, found)
	ok(t, err)
	r.did(t, "", "2")
	if r.reads != before {
		t.Error("it reads waits again")
	}
	e = &store.NewEvent{Key: "a", Payload: []byte("yes")}
	_, found, err = event.Undecided(r, e)
	ok(t, err)
	r.onStart = func() { r.await(event.Conditions, 1, store.Match{Key: "a"}) }
	_, err = event.Publish(r, 1000, e, found)
	ok(t, err)
	r.did(t, "workflowyes", "1")
}

func TestPending(t *testing.T) {
	r := newRows()
	r.triggers = []store.Trigger{trigger("a", "t")}
	e := &store.NewEvent{Key: "a"}
	id, err := event.PublishLater(r, 1000, e)
	ok(t, err)
	r.did(t, "", "")
	r.await(event.Calls, 1, store.Match{Key: "a"}) // it has looked for past events, and found this one
	r.waits[event.Calls][0].event = id
	r.await(event.Calls, 1, store.Match{Key: "a"})
	r.await(event.Calls, 2, store.Match{Key: "a"})
	ok(t, event.PublishPending(r, 1000, id, e))
	r.did(t, "t", "2")
	ok(t, event.PublishPending(r, 1000, id, e)) // another process has
	r.did(t, "", "")
}

func TestUndecided(t *testing.T) {
	r := newRows()
	r.triggers = []store.Trigger{trigger("a", "t"), trigger("*", "u"), trigger("a*", "u"), trigger("b*", "u")}
	r.triggers[0].Filter, r.triggers[1].Filter = "1", "error"
	r.triggers[2].Filter, r.triggers[3].Filter = "7", "8"
	r.filters["t"] = []store.TaskFilter{{Scope: "x", Expr: "2"}, {Scope: "y", Expr: "3"}}
	r.await(event.Conditions, 1, store.Match{Key: "a", Filter: "4"})
	r.await(event.Calls, 2, store.Match{Key: "a", Filter: "5"})
	r.await(event.Calls, 3, store.Match{Key: "b", Filter: "6"})
	e := &store.NewEvent{Key: "a", Scope: "x"}
	e.Decide([]store.FilterCall{{Expr: "4"}})
	filters, _, err := event.Undecided(r, e)
	ok(t, err)
	if want := []store.FilterCall{{Expr: "1"}, {Expr: "2"}, {Expr: "7"}, {Expr: "5"}}; !slices.Equal(filters, want) {
		t.Errorf("filters %v, want %v", filters, want)
	}
	if _, err := event.Publish(r, 1000, e, nil); err == nil {
		t.Error("a filter that does not compile is no error")
	}
}

// Triggers that come back within the grace start the runs that they have missed.
func TestDeclare(t *testing.T) {
	r := newRows()
	d := &store.Declaration{Task: "t", Program: "p", Triggers: []store.Trigger{trigger("a", "t"), trigger("b*", "t")}}
	ok(t, event.Declare(r, 1000, d))
	had := r.declared["t"]
	if len(had) != 2 || had[0].Program != "p" {
		t.Fatalf("%+v", had)
	}
	ok(t, event.Declare(r, 1000, d))
	if &r.declared["t"][0] != &had[0] {
		t.Error("triggers that are the same are replaced")
	}
	r.publish(t, store.NewEvent{Key: "a", Payload: []byte("1")})
	gone := r.publish(t, store.NewEvent{Key: "a", Payload: []byte("2")})
	r.publish(t, store.NewEvent{Key: "bc", Payload: []byte("3")})
	for wait, want := range map[int64]string{60_000: "t2 t3", 60_001: ""} {
		r.declared["t"] = slices.Clone(had)
		for i := range had {
			r.declared["t"][i].Gone = gone
		}
		ok(t, event.Declare(r, gone+wait, d))
		r.did(t, want, "")
	}
	d.Triggers = d.Triggers[:1]
	ok(t, event.Declare(r, gone, d))
	if len(r.declared["t"]) != 1 {
		t.Errorf("%+v", r.declared["t"])
	}
}
