package storetest

import (
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// begun returns a claimed run with a journal, which has a compensation if undo is true.
func (s *suite) begun(undo bool) store.Claimed {
	s.Helper()
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	s.call(c, entry("", 1, store.EntryStep, "a", "1"))
	if undo {
		s.call(c, entry(store.UndoScope, 1, store.EntryStep, "undo a", ""))
	}
	return c
}

func (s *suite) cancels(id store.ID, want int) {
	s.Helper()
	f := store.Filter{IDs: []store.ID{id}}
	if n, err := s.Act(s.Context(), time.Now(), store.Action{Kind: store.ActCancel, DryRun: true}, f); n != want || err != nil {
		s.Errorf("%d to cancel, %v; want %d", n, err, want)
	}
	if n := s.act(store.ActCancel, f); n != want {
		s.Errorf("canceled %d, want %d", n, want)
	}
}

// cleansUp claims a canceled run, and ends it as cleaned up.
func (s *suite) cleansUp(was store.Claimed) {
	s.Helper()
	got := s.claim(1)
	if len(got) != 1 || got[0].ID != was.ID || got[0].CancelAt.IsZero() || !got[0].Journal || got[0].Attempt != was.Attempt {
		s.Fatalf("claimed %+v, want %s to clean up", got, was.ID)
	}
	s.call(got[0], entry(store.UndoScope, 1, store.EntryStep, "undo a", "1"))
	s.cancels(was.ID, 0) // once more changes nothing
	s.finish(outcome(got[0], store.Canceled))
	if r := s.get(was.ID); r.State != store.Canceled || string(r.Error) != `"why"` {
		s.Errorf("ends as %v, %s", r.State, r.Error)
	}
}

// cancelCleansUp cancels runs in all states, also before their outcome is stored.
func cancelCleansUp(s *suite) {
	later := time.Now().Add(time.Hour)
	for _, to := range []store.State{store.Waiting, store.Scheduled, store.Queued} {
		for _, first := range []bool{false, true} { // the cancel comes first
			c := s.begun(true)
			if first {
				s.cancels(c.ID, 1)
			}
			o := outcome(c, to)
			o.At, o.Waits.Until, o.Uncounted = later, later, true
			s.finish(o)
			if !first {
				s.cancels(c.ID, 1)
			}
			s.state(c.ID, store.Queued)
			s.cleansUp(c)
		}
	}
	c := s.begun(true) // the handler returned before it noticed
	s.cancels(c.ID, 1)
	s.finish(outcome(c, store.Succeeded))
	s.state(c.ID, store.Queued)
	s.cleansUp(c)
	c = s.begun(false)
	s.cancels(c.ID, 1)
	s.finish(outcome(c, store.Succeeded))
	s.state(c.ID, store.Canceled)

	c = s.begun(true)
	s.cancels(c.ID, 1)
	s.ok(s.Unregister(s.Context(), s.worker))
	s.state(c.ID, store.Queued)
	s.worker = s.register()
	s.cleansUp(c)

	c = s.begun(true) // while no worker lives
	o := outcome(c, store.Waiting)
	o.Waits.Until = later
	s.finish(o)
	s.ok(s.Unregister(s.Context(), s.worker))
	s.cancels(c.ID, 1)
	s.state(c.ID, store.Queued)
	s.worker = s.register()
	s.cleansUp(c)
	s.none(s.request(10))
}

// cancelOfBlocked: a run with compensations runs once more, and ends by a second cancel; one without ends
// at once.
func cancelOfBlocked(s *suite) {
	block := func(c store.Claimed) {
		o := outcome(c, store.Blocked)
		o.Uncounted, o.Error = true, []byte(`"no match"`)
		s.finish(o)
		s.state(c.ID, store.Blocked)
	}
	c := s.begun(false)
	block(c)
	s.cancels(c.ID, 1)
	s.state(c.ID, store.Canceled)

	c = s.begun(true)
	block(c)
	s.cancels(c.ID, 1)
	s.state(c.ID, store.Queued)
	s.cleansUp(c)

	c = s.begun(true)
	block(c)
	s.cancels(c.ID, 1)
	again := s.claim(1)[0]
	block(again)
	if r := s.get(c.ID); r.CancelAt.IsZero() || string(r.Error) != `"no match"` {
		s.Errorf("blocked in its clean-up: %+v", r)
	}
	s.cancels(c.ID, 1)
	if r := s.get(c.ID); r.State != store.Canceled || string(r.Error) != `"why"` {
		s.Errorf("given up: %v, %s", r.State, r.Error)
	}
	if n := s.act(store.ActReplay, store.Filter{IDs: []store.ID{c.ID}}); n != 1 {
		s.Fatalf("replayed %d", n)
	}
	s.journal(c.ID, ":1 step a 1", "undone:1 note undo a ") // the next attempt records its compensations again
	if got := s.claim(1)[0]; !got.CancelAt.IsZero() {
		s.Errorf("a replay is given as %+v", got)
	}
}

// cancelAfterReplay cancels, replays and cancels a run on one worker.
func cancelAfterReplay(s *suite) {
	id := s.enqueue(run("x"))[0]
	for range 3 {
		c := s.claim(1)[0]
		s.cancels(id, 1)
		want := []store.Execution{{ID: id, Lease: c.Lease}}
		if sig, err := s.Watch(s.Context(), s.worker); err != nil || !slices.Equal(sig.Cancel, want) {
			s.Fatalf("told %v, %v", sig, err)
		}
		s.finish(outcome(c, store.Canceled))
		if n := s.act(store.ActReplay, store.Filter{IDs: []store.ID{id}}); n != 1 {
			s.Fatalf("replayed %d", n)
		}
	}
}

// undoOfNewAttempt replays and forks a run that has done its compensations: its own, those of a branch that
// has ended, of one within that, and of one that has not.
func undoOfNewAttempt(s *suite) {
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	s.call(c, entry("", 1, store.EntryBranch, "ended", "1"))
	s.call(c, entry("2", 1, store.EntryStep, "in 2", "1"))
	s.call(c, entry("", 3, store.EntryStep, "last", "1"))
	for i, scope := range []string{"", "/1", "/1/4", "/2"} {
		s.call(c, entry(store.UndoScope+scope, 1, store.EntryStep, "undo", string(rune('1'+i))))
	}
	s.call(c, entry(store.UndoScope+"/end", 1, store.EntryEnd, "", "1"))
	s.finish(outcome(c, store.Failed))
	again := []string{":1 branch ended 1", ":3 step last 1", "2:1 step in 2 1",
		"undo/1:1 step undo 2", "undo/1/4:1 step undo 3", "undone:1 note undo 1", "undone/2:1 note undo 4"}
	fork, err := s.fork(c.ID, store.Address{Seq: 3})
	s.ok(err)
	s.journal(fork, slices.DeleteFunc(slices.Clone(again), func(e string) bool { return e == ":3 step last 1" })...)
	for range 2 { // the second finds notes and pending ones
		if n := s.act(store.ActReplay, store.Filter{IDs: []store.ID{c.ID}}); n != 1 {
			s.Fatalf("replayed %d", n)
		}
		s.journal(c.ID, again...)
		entries := s.entries(c.ID)
		for _, e := range entries {
			if e.Done == store.IsUndo(e.Scope) {
				s.Errorf("%+v", e)
			}
		}
		for _, c := range s.claim(2) {
			s.finish(outcome(c, store.Failed))
		}
	}
}

// forgetBranches forgets a call, and the branches that began after it, ended or not.
func forgetBranches(s *suite) {
	s.enqueue(run("x"))
	c := s.claim(1)[0]
	for _, scope := range []string{"2", "3", "3/1", "10", "10/2", "undone", "version:1"} {
		s.call(c, entry(scope, 1, store.EntryStep, "in", "1"))
	}
	s.call(c, entry("10/2", 2, store.EntryStep, "in", "1"))
	s.call(c, entry("10/2/5", 1, store.EntryStep, "in", "1"))
	o := outcome(c, store.Scheduled)
	o.Forget = []store.Address{{Scope: "10/2", Seq: 2}, {Seq: 3}}
	s.finish(o)
	s.journal(c.ID, "2:1 step in 1", "undone:1 step in 1", "version:1:1 step in 1")
}
