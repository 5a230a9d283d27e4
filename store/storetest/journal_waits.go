package storetest

import (
	"encoding/json"
	"errors"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint/store"
)

// waitFor returns an entry that waits for a condition.
func waitFor(seq int, timeout time.Duration, c store.Condition) store.Entry {
	w := store.Wait{Cond: c}
	if timeout > 0 {
		w.Until, w.Late = time.Now().Add(timeout).UnixMilli(), []byte(`{"message":"late"}`)
	}
	e := entry("", seq, store.EntryWait, "w", "")
	e.Value, _ = json.Marshal(&w) // it always encodes
	return e
}

func eventOf(key string) store.Condition { return store.Condition{Event: &store.Match{Key: key}} }

func (s *suite) event(key, payload string) {
	s.Helper()
	_, err := s.Publish(s.Context(), time.Now(), []store.NewEvent{{Key: key, Payload: []byte(payload)}})
	s.ok(err)
}

var hourOrBoth = store.Condition{Any: []store.Condition{{All: []store.Condition{eventOf("a"), {Sleep: time.Hour, Name: "hour"}}},
	{All: []store.Condition{eventOf("b"), eventOf("c")}}}}

// An event that does not end the wait wakes nothing; it may change when the wait ends.
func waitsForCondition(s *suite) {
	id := s.enqueue(run("x"))[0]
	c := s.claim(1)[0]
	e := s.call(c, waitFor(1, 0, hourOrBoth))
	if e.Done || !e.Due.IsZero() {
		s.Errorf("it is over at once, or due: %+v", e)
	}
	suspend := func(c store.Claimed) {
		s.finish(store.Outcome{ID: id, Lease: c.Lease, To: store.Waiting, Waits: store.Waits{Entries: []store.Address{e.Address}}})
	}
	suspend(c)
	s.event("b", "1")
	s.state(id, store.Waiting)
	time.Sleep(time.Minute)
	s.event("a", "2") // from now on it is known when the wait ends
	s.state(id, store.Waiting)
	time.Sleep(59*time.Minute - time.Second)
	synctest.Wait()
	s.state(id, store.Waiting)
	time.Sleep(time.Second)
	synctest.Wait()
	s.state(id, store.Queued)
	c = s.claim(1)[0]
	due := time.Now()
	if e = s.call(c, e); !e.Done || string(e.Value) != `{"a":2,"hour":null}` || !e.At.Equal(due) {
		s.Errorf("it is %+v, want that an event and a time end it, at %v", e, due)
	}
	s.journal(id, `:1 wait w {"a":2,"hour":null}`, "1/on:1 event a 2")
	b := entry("", 2, store.EntryEvent, "b", "")
	b.Match.Key = "b"
	if got := s.call(c, b); string(got.Value) != "1" { // it did not count
		s.Errorf("an event that did not count: %+v", got)
	}
}

// A run that waits can be woken before anything has come; another cannot.
func wakesWaiting(s *suite) {
	id := s.enqueue(run("x"))[0]
	c := s.claim(1)[0]
	if err := s.wake(id); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("a run that is executed was woken: %v", err)
	}
	e := s.call(c, waitFor(1, 0, eventOf("a")))
	s.finish(store.Outcome{ID: id, Lease: c.Lease, To: store.Waiting, Waits: store.Waits{Entries: []store.Address{e.Address}}})
	s.ok(s.wake(id))
	if c = s.claim(1)[0]; c.ID != id || c.Attempt != 1 {
		s.Errorf("claimed %v, attempt %d", c.ID, c.Attempt)
	}
	s.event("a", "1")
	if e = s.call(c, waitFor(1, 0, eventOf("a"))); !e.Done || string(e.Value) != `{"a":1}` {
		s.Errorf("the wait that went on: %+v", e)
	}
	if err := s.wake(store.ID{}); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("no run was woken: %v", err)
	}
}

// An execution in memory hears when the wait will end, and of its end.
func awaitsCondition(s *suite) {
	id := s.enqueue(run("x"))[0]
	c := s.claim(1)[0]
	begun := time.Now()
	e := s.call(c, waitFor(3, 0, hourOrBoth))
	awaited := func(due time.Time) store.Entry {
		s.Helper()
		r, err := s.Await(s.Context(), id, store.Until{Entry: e.Address, Due: due})
		s.ok(err)
		if r.Entry == nil {
			s.Fatal("no entry")
		}
		return *r.Entry
	}
	s.event("a", "3")
	if e = awaited(time.Time{}); e.Done || !e.Due.Equal(begun.Add(time.Hour)) {
		s.Errorf("it is %+v, want that it is due in an hour", e)
	}
	got := make(chan store.Entry, 1)
	go func() { got <- awaited(e.Due) }()
	synctest.Wait()
	if len(got) > 0 {
		s.Error("it is woken though nothing changed")
	}
	s.event("c", "4")
	s.event("b", "5")
	if e = <-got; !e.Done || string(e.Value) != `{"b":5,"c":4}` {
		s.Errorf("it is %+v, want that events end it", e)
	}
	// What came between the wait and its record.
	e = s.call(c, waitFor(4, 0, hourOrBoth))
	s.event("a", "6")
	s.finish(store.Outcome{ID: id, Lease: c.Lease, To: store.Waiting, Waits: store.Waits{Entries: []store.Address{e.Address}}})
	time.Sleep(time.Hour)
	synctest.Wait()
	s.state(id, store.Queued)
}

// Events that are there already end a wait, unless only later ones count.
func waitsAtOnce(s *suite) {
	id := s.enqueue(run("x"))[0]
	c := s.claim(1)[0]
	s.event("a", "1")
	s.event("b", "2")
	s.event("a", "3")
	both := store.Condition{All: []store.Condition{eventOf("a"), {Name: "again", Event: &store.Match{Key: "a"}}}}
	if e := s.call(c, waitFor(1, 0, both)); !e.Done || string(e.Value) != `{"a":1,"again":1}` {
		s.Errorf("one event for two members: %+v", e)
	}
	if e := s.call(c, waitFor(2, 0, store.Condition{Any: []store.Condition{{Sleep: time.Hour}, eventOf("b"), eventOf("a")}})); !e.Done ||
		string(e.Value) != `{"b":2}` {
		s.Errorf("the first of those that are there: %+v", e)
	}
	if e := s.call(c, waitFor(3, 0, eventOf("a"))); !e.Done || string(e.Value) != `{"a":3}` {
		s.Errorf("one that another wait did not need: %+v", e)
	}
	s.event("c", "4")
	e := s.call(c, waitFor(4, time.Minute, store.Condition{Event: &store.Match{Key: "c", FromNow: true}}))
	if e.Done || !e.Due.Equal(time.Now().Add(time.Minute)) {
		s.Errorf("an event of before: %+v", e)
	}
	s.finish(store.Outcome{ID: id, Lease: c.Lease, To: store.Waiting, Waits: store.Waits{Entries: []store.Address{e.Address}}})
	time.Sleep(time.Minute + time.Millisecond)
	synctest.Wait()
	c = s.claim(1)[0]
	s.event("c", "5") // too late, though nobody has recorded that
	s.event("d", "6")
	if e = s.call(c, waitFor(4, 0, eventOf("c"))); !e.Done || string(e.Error) != `{"message":"late"}` {
		s.Errorf("it is %+v, want that it has timed out", e)
	}
	s.journal(id, `:1 wait w {"a":1,"again":1}`, `:2 wait w {"b":2}`, `:3 wait w {"a":3}`, ":4 wait w ",
		"1/on:1 event a 1", "1/on:2 event a 1", "2/on:2 event b 2", "3/on:1 event a 3")
	_, stale, err := s.Append(s.Context(), time.Now(), store.Call{ID: id, Lease: c.Lease - 1, Entry: waitFor(5, 0, eventOf("d"))})
	s.ok(err)
	if !stale {
		s.Error("a wait of an old lease was recorded")
	}
	f, err := s.fork(id, store.Address{Seq: 3})
	s.ok(err)
	s.journal(f, `:1 wait w {"a":1,"again":1}`, `:2 wait w {"b":2}`, "1/on:1 event a 1", "1/on:2 event a 1", "2/on:2 event b 2")
}
