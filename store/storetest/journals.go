package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint/store"
)

// What runs have done, and what they wait for.

func entry(scope string, seq int, kind store.EntryKind, name, value string) store.Entry {
	e := store.Entry{Address: store.Address{Scope: scope, Seq: seq}, Kind: kind, Name: name}
	if value != "" {
		e.Done, e.Value = true, []byte(value)
	}
	return e
}

func (s *suite) call(c store.Claimed, e store.Entry) store.Entry {
	s.Helper()
	got, stale, err := s.Append(s.Context(), time.Now(), store.Call{ID: c.ID, Lease: c.Lease, Entry: e})
	s.ok(err)
	if stale {
		s.Error("a current call was stale")
	}
	return got
}

// journal checks a run's entries, "address name value".
func (s *suite) journal(id store.ID, want ...string) {
	s.Helper()
	entries := s.entries(id)
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprintf("%s:%d %v %s %s", e.Scope, e.Seq, e.Kind, e.Name, e.Value))
	}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("journal (-want +got):\n%s", d)
	}
}

func journalKept(s *suite) {
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	if c.Journal {
		s.Error("a new run has a journal")
	}
	s.call(c, entry("", 1, store.EntryStep, "a", "1"))
	s.call(c, entry("", 2, store.EntryStep, "b", ""))
	s.call(c, entry("2", 1, store.EntryStep, "in", "3"))
	if got := s.call(c, entry("", 2, store.EntryStep, "b", "2")); string(got.Value) != "2" {
		s.Errorf("completed as %s", got.Value)
	}
	if got := s.call(c, entry("", 2, store.EntryStep, "b", "other")); string(got.Value) != "2" {
		s.Errorf("what was done became %s", got.Value)
	}
	s.journal(c.ID, ":1 step a 1", ":2 step b 2", "2:1 step in 3")
	s.finish(store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Scheduled, At: time.Now(), Error: []byte(`"no"`),
		Forget: []store.Address{{Scope: "", Seq: 1}}})
	s.journal(c.ID)
	_, stale, err := s.Append(s.Context(), time.Now(), store.Call{ID: c.ID, Lease: c.Lease, Entry: entry("", 1, store.EntryStep, "a", "1")})
	s.ok(err)
	if !stale {
		s.Error("a call of an old lease was recorded")
	}
	again := s.claim(1)[0]
	failed := entry("", 2, store.EntryBranch, "b", "")
	failed.Done, failed.Error = true, []byte(`"no"`)
	s.call(again, failed)
	for _, e := range []store.Entry{entry("2", 1, store.EntryStep, "in", "1"), entry("", 3, store.EntryStep, "c", "3"),
		entry("3", 1, store.EntryStep, "within", "4")} {
		s.call(again, e)
	}
	s.finish(store.Outcome{ID: c.ID, Lease: again.Lease, To: store.Scheduled, At: time.Now(), Error: []byte(`"no"`),
		Forget: []store.Address{{Scope: "", Seq: 2}}})
	s.journal(c.ID, ":3 step c 3", "2:1 step in 1", "3:1 step within 4") // only the branch
	again = s.claim(1)[0]
	s.finish(store.Outcome{ID: c.ID, Lease: again.Lease, To: store.Scheduled, At: time.Now(), Error: []byte(`"no"`),
		Forget: []store.Address{{Scope: "", Seq: 3}}})
	s.journal(c.ID, "2:1 step in 1")
	again = s.claim(1)[0]
	s.call(again, entry("", 1, store.EntryStep, "a", "1"))
	s.finish(store.Outcome{ID: c.ID, Lease: again.Lease, To: store.Queued, Uncounted: true})
	if !s.claim(1)[0].Journal {
		s.Error("a run with a journal is given without saying so")
	}
}

// entryTimes checks when calls began, and the tries of steps: whoever completes an entry keeps its begin, unless told
// another.
func entryTimes(s *suite) {
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	start := time.Now()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	tick := func() { time.Sleep(time.Second); synctest.Wait() }
	sleep := entry("", 1, store.EntrySleep, "", "")
	sleep.Done, sleep.Due = true, at(time.Hour)
	s.call(c, sleep)
	event := entry("", 2, store.EntryEvent, "e", "")
	event.Match = store.Match{Key: "e"}
	s.call(c, event)
	wait := entry("", 3, store.EntryWait, "w", "")
	wait.Value = []byte(`{"cond":{"sleep":1000000000}}`)
	s.call(c, wait)
	s.call(c, entry("", 4, store.EntryStep, "open", "")) // completed by what knows nothing of its begin
	undo := entry(store.UndoScope, 1, store.EntryStep, "undo", "")
	s.call(c, undo) // registered
	tick()
	_, err := s.Publish(s.Context(), time.Now(), []store.NewEvent{{Key: "e", Payload: []byte("1")}})
	s.ok(err)
	s.call(c, wait)
	s.call(c, entry("", 4, store.EntryStep, "open", "2"))
	tick()
	step := entry("", 5, store.EntryStep, "step", "3")
	step.Began, step.Tries, step.Attempts = at(time.Second), []byte("[1]"), 2
	s.call(c, step)
	undo.Done, undo.Began = true, time.Now() // the registration is not its begin
	s.call(c, undo)
	want := []string{":1 0s 0s", ":2 0s 1s", ":3 0s 1s", ":4 0s 1s", ":5 1s 2s [1]", "undo:1 2s 2s"}
	s.times(c.ID, start, want...)
	s.finish(store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Failed, Error: []byte(`"no"`)})
	fork, err := s.fork(c.ID, store.Address{Seq: 6})
	s.ok(err)
	s.times(fork, start, want[:5]...)
}

// times checks when the entries of a journal began and were recorded, and their tries.
func (s *suite) times(id store.ID, start time.Time, want ...string) {
	s.Helper()
	var got []string
	for _, e := range s.entries(id) {
		if e.Kind != store.EntryNote {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s:%d %v %v %s", e.Scope, e.Seq, e.Began.Sub(start).Round(time.Second),
				e.At.Sub(start).Round(time.Second), e.Tries)))
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("times (-want +got):\n%s", d)
	}
}

func waitsUntil(s *suite) {
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	s.finish(store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Waiting, Waits: store.Waits{Until: time.Now().Add(time.Hour)}})
	s.state(c.ID, store.Waiting)
	s.none(s.request(1))
	time.Sleep(time.Hour)
	synctest.Wait()
	again := s.claim(1)[0]
	if again.ID != c.ID || again.Attempt != c.Attempt || again.Lease == c.Lease {
		s.Errorf("came back as %+v, was %+v: want the same attempt with another lease", again, c)
	}
	s.finish(store.Outcome{ID: c.ID, Lease: again.Lease, To: store.Waiting, Waits: store.Waits{Until: time.Now()}})
	s.state(c.ID, store.Queued)
}

func waitsForEvents(s *suite) {
	publish := func(key, payload string) {
		s.Helper()
		_, err := s.Publish(s.Context(), time.Now(), []store.NewEvent{{Key: key, Payload: []byte(payload)}})
		s.ok(err)
	}
	event := func(seq int, value string) store.Entry {
		e := entry("", seq, store.EntryEvent, "e", "")
		e.Match = store.Match{Key: "e", Field: "n", Value: value}
		return e
	}
	publish("e", `{"n":1}`) // before the run
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	publish("e", `{"n":1,"x":"early"}`)
	if got := s.call(c, event(1, "1")); !got.Done || string(got.Value) != `{"n":1,"x":"early"}` {
		s.Errorf("an event before the wait: %+v", got)
	}
	if got := s.call(c, event(2, "1")); got.Done {
		s.Errorf("an event was given twice: %+v", got)
	}
	s.call(c, event(3, "2"))
	waits := store.Waits{Entries: []store.Address{{Seq: 2}, {Seq: 3}}}
	s.finish(store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Waiting, Waits: waits})
	publish("e", `{"n":3}`)
	s.state(c.ID, store.Waiting)
	publish("e", `{"n":2}`)
	s.state(c.ID, store.Queued)
	s.journal(c.ID, `:1 event e {"n":1,"x":"early"}`, ":2 event e ", `:3 event e {"n":2}`)
	c = s.claim(1)[0]
	publish("e", `{"n":1}`) // between the wait and its record
	s.finish(store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Waiting, Waits: waits})
	s.state(c.ID, store.Queued)
}

// awaitNamed waits for an entry that an event completes, for a chunk, and for entries whose runs end first.
func awaitNamed(s *suite) {
	type answer struct {
		store.Result
		err error
	}
	await := func(id store.ID, u store.Until) <-chan answer {
		got := make(chan answer, 1)
		go func() {
			r, err := s.Await(s.Context(), id, u)
			got <- answer{r, err}
		}()
		synctest.Wait()
		return got
	}
	waits := func(what string, got <-chan answer) {
		s.Helper()
		if len(got) > 0 {
			s.Errorf("%s: %+v, want that it waits", what, <-got)
		}
	}
	id := s.enqueue(run("x"))[0]
	c := s.claim(1)[0]
	e := entry("", 1, store.EntryEvent, "e", "")
	e.Match = store.Match{Key: "e"}
	s.call(c, e)
	resolved, missing := await(id, store.Until{Entry: e.Address}), await(id, store.Until{Entry: store.Address{Seq: 2}})
	second := await(id, store.Until{Chunk: 2})
	_, err := s.Record(s.Context(), []store.Record{{ID: id, Lease: c.Lease, Chunks: []store.Chunk{{Data: []byte("1")}}}})
	s.ok(err)
	synctest.Wait()
	waits("the second chunk", second)
	waits("an event", resolved)
	_, err = s.Publish(s.Context(), time.Now(), []store.NewEvent{{Key: "e", Payload: []byte("7")}})
	s.ok(err)
	if got := <-resolved; got.err != nil || got.State != store.Running || got.Entry == nil || string(got.Entry.Value) != "7" {
		s.Errorf("an entry: %+v", got)
	}
	_, err = s.Record(s.Context(), []store.Record{{ID: id, Lease: c.Lease, Chunks: []store.Chunk{{Data: []byte("2")}}}})
	s.ok(err)
	if got := <-second; got.err != nil || got.State != store.Running || got.Entry != nil {
		s.Errorf("a chunk: %+v", got)
	}
	e.Seq = 3
	s.call(c, e)
	pending := await(id, store.Until{Entry: e.Address})
	waits("an entry that is not there", missing)
	s.finish(outcome(c, store.Failed))
	if got := <-missing; got.err != nil || got.State != store.Failed || got.Entry != nil {
		s.Errorf("an entry that never came: %+v", got)
	}
	if got := <-pending; got.err != nil || got.State != store.Failed || got.Entry == nil || got.Entry.Done {
		s.Errorf("an entry that is pending for ever: %+v", got)
	}
	if got := <-await(store.ID{1}, store.Until{Chunk: 1, Entry: e.Address}); got.err != nil || got.State != 0 || got.Entry != nil {
		s.Errorf("of no run: %+v", got)
	}
}

// Values are compared exactly, however an event writes them, also if they are close.
func waitsForNumbers(s *suite) {
	values := []string{"9007199254740992", "9007199254740993", "10", "1e41"}
	wants := []string{`{"n":9007199254740992}`, `{"n":9007199254740993.0}`, `{"n":1e1}`, `{"n":10e40}`}
	for range values {
		s.enqueue(run("x"))
	}
	waiting := s.claim(len(values))
	for i, c := range waiting {
		e := entry("", 1, store.EntryEvent, "e", "")
		e.Match = store.Match{Key: "e", Field: "n", Value: values[i]}
		s.call(c, e)
		s.finish(store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Waiting, Waits: store.Waits{Entries: []store.Address{e.Address}}})
	}
	publish := func(payload string) {
		s.Helper()
		_, err := s.Publish(s.Context(), time.Now(), []store.NewEvent{{Key: "e", Payload: []byte(payload)}})
		s.ok(err)
	}
	for _, other := range []string{`{"n":9007199254740994}`, `{"n":9007199254740992.5}`, `{"n":"10"}`, `{"n":[10]}`, `{"n":1e40}`,
		`{"n":1e999999999}`} {
		publish(other)
	}
	for i, c := range waiting {
		s.state(c.ID, store.Waiting)
		publish(wants[i])
		s.state(c.ID, store.Queued)
		s.journal(c.ID, ":1 event e "+wants[i])
	}
}

// A filter applies to the events that match otherwise, before the wait and after it.
func waitsForFiltered(s *suite) {
	publish := func(payload string) {
		s.Helper()
		_, err := s.Publish(s.Context(), time.Now(), []store.NewEvent{{Key: "e", Payload: []byte(payload)}})
		s.ok(err)
	}
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	publish(`{"n":1,"x":"a"}`)
	publish(`{"n":1,"x":"b"}`)
	e := entry("", 1, store.EntryEvent, "e", "")
	e.Match = store.Match{Key: "e", Field: "n", Value: "1", Filter: `"b"`}
	if got := s.call(c, e); string(got.Value) != `{"n":1,"x":"b"}` {
		s.Errorf("before the wait: %+v", got)
	}
	e.Seq = 2
	if got := s.call(c, e); got.Done {
		s.Errorf("an event was given twice: %+v", got)
	}
	s.finish(store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Waiting, Waits: store.Waits{Entries: []store.Address{e.Address}}})
	publish(`{"n":1,"x":"c"}`)
	publish(`{"n":2,"x":"b"}`)
	s.state(c.ID, store.Waiting)
	publish(`{"n":1,"x":"b","y":2}`)
	s.state(c.ID, store.Queued)
	entries := s.entries(c.ID)
	e.Match.Key = "e"
	if got := entries[1]; string(got.Value) != `{"n":1,"x":"b","y":2}` || got.Match != e.Match {
		s.Errorf("loaded as %+v", got)
	}
}

func waitsForChildren(s *suite) {
	s.enqueue(run("parent"))
	p := s.claim(1)[0]
	child := run("child")
	child.Parent, child.Call = p.ID, &store.Call{ID: p.ID, Lease: p.Lease, Entry: entry("", 1, store.EntryChild, "t", "[]")}
	ids := s.enqueue(child)
	s.journal(p.ID, fmt.Sprintf(":1 child t [%q]", ids[0]))
	waits := store.Waits{Children: ids}
	s.finish(store.Outcome{ID: p.ID, Lease: p.Lease, To: store.Waiting, Waits: waits})
	s.state(p.ID, store.Waiting)
	s.finish(outcome(s.claim(1)[0], store.Succeeded))
	s.state(p.ID, store.Queued)
	again := s.claim(1)[0]
	s.finish(store.Outcome{ID: p.ID, Lease: again.Lease, To: store.Waiting, Waits: waits})
	s.state(p.ID, store.Queued)

	child.Call = &store.Call{ID: p.ID, Lease: p.Lease, Entry: entry("", 2, store.EntryChild, "t", "[]")}
	if _, err := s.Enqueue(s.Context(), time.Now(), []store.NewRun{child}); !errors.Is(err, store.ErrStale) {
		s.Errorf("a stale call enqueued: %v", err)
	}
	if n := len(s.list(store.Filter{}, 10)); n != 2 {
		s.Errorf("%d runs, want 2", n)
	}
}

func restartAndFork(s *suite) {
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	for i := range 4 {
		s.call(c, entry("", i+1, store.EntryStep, string(rune('a'+i)), "1"))
	}
	s.call(c, entry("2", 1, store.EntryStep, "in b", "1"))
	s.call(c, entry("3", 1, store.EntryStep, "in c", "1"))
	at := store.Address{Seq: 3}
	if err := s.restart(c.ID, at); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("restart of what runs: %v", err)
	}
	s.finish(outcome(c, store.Succeeded))
	fork, err := s.fork(c.ID, at)
	s.ok(err)
	s.journal(fork, ":1 step a 1", ":2 step b 1", "2:1 step in b 1")
	s.journal(c.ID, ":1 step a 1", ":2 step b 1", ":3 step c 1", ":4 step d 1", "2:1 step in b 1", "3:1 step in c 1")
	f := s.claim(1)[0]
	if f.ID != fork || !f.Journal || string(f.Input) != "x" {
		s.Errorf("the fork is given as %+v", f)
	}
	s.ok(s.restart(c.ID, at))
	s.journal(c.ID, ":1 step a 1", ":2 step b 1", "2:1 step in b 1")
	s.state(c.ID, store.Queued)
	if _, err := s.fork(store.ID{1}, at); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("a fork of nothing: %v", err)
	}
}

// Events and the call that publishes them are stored together, or not at all.
func publishes(s *suite) {
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	publish := func(lease store.Lease) ([]store.ID, error) {
		call := entry("", 1, store.EntryPublish, "e", "")
		call.Done = true
		return s.Publish(s.Context(), time.Now(), []store.NewEvent{{Key: "e", Payload: []byte("1"),
			Call: &store.Call{ID: c.ID, Lease: lease, Entry: call}}, {Key: "f", Payload: []byte("2")}})
	}
	if _, err := publish(c.Lease + 1); !errors.Is(err, store.ErrStale) {
		s.Errorf("a stale call published: %v", err)
	}
	ids, err := publish(c.Lease)
	s.ok(err)
	s.journal(c.ID, fmt.Sprintf(":1 publish e [%q,%q]", ids[0], ids[1]))
	if all := read(s, &store.EventList{Limit: 10}).Events; len(all) != 2 {
		s.Errorf("%d events, want 2", len(all))
	}
}

// The note that a step has begun stays when its entry is forgotten. A restart at or before it removes it, and a fork has none.
func onceNotes(s *suite) {
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	steps := []store.Address{{Seq: 1}, {Seq: 2}, {Scope: "3", Seq: 1}}
	for _, at := range steps {
		scope := strings.TrimSuffix(store.OnceScope+"/"+at.Scope, "/")
		s.call(c, entry(scope, at.Seq, store.EntryNote, "n", ""))
		s.call(c, entry(at.Scope, at.Seq, store.EntryStep, "s", "1"))
	}
	o := outcome(c, store.Failed)
	o.Error, o.Forget = []byte(`"no"`), []store.Address{{Seq: 1}}
	s.finish(o)
	s.journal(c.ID, "once:1 note n ", "once:2 note n ", "once/3:1 note n ")
	fork, err := s.fork(c.ID, store.Address{Seq: 4})
	s.ok(err)
	s.journal(fork)
	s.ok(s.restart(c.ID, store.Address{Seq: 2}))
	s.journal(c.ID, "once:1 note n ")
}

// A run that its handler blocked runs again when another build comes, after the last worker of the build
// that blocked it has left; a run that waits for a person does not.
func newBuild(s *suite) {
	register := func(build string) int64 {
		id, err := s.Register(s.Context(), store.WorkerInfo{Name: build, Build: build})
		s.ok(err)
		return id
	}
	leave := func(worker int64) { s.ok(s.Unregister(s.Context(), worker)) }
	leave(s.worker)
	s.worker = register("old")
	s.enqueue(run("x"))
	block := func() store.ID {
		c := s.claim(1)[0]
		o := outcome(c, store.Blocked)
		o.Error = []byte(`"no match"`)
		s.finish(o)
		return c.ID
	}
	id := block()
	again := register("old")
	leave(s.worker)
	s.state(id, store.Blocked) // the same build
	s.worker = register("new")
	s.state(id, store.Blocked) // a worker of the old build would take it again
	leave(again)
	s.state(id, store.Queued)
	if got := block(); got != id {
		s.Errorf("blocked %v, want %v", got, id)
	}
	register("old")
	s.state(id, store.Blocked)
	leave(s.worker)
	s.state(id, store.Queued)
}
