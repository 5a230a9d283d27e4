package storetest

import (
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// The rules of runs that are moved to another queue.

// movesTo moves the runs that match to a queue, as many as a dry run counts.
func (s *suite) movesTo(queue string, f store.Filter, want int) {
	s.Helper()
	a := store.Action{Kind: store.ActMoveQueue, Queue: queue, DryRun: true}
	if n, err := s.Act(s.Context(), time.Now(), a, f); n != want || err != nil {
		s.Errorf("counted %d to move to %s, %v; want %d", n, queue, err, want)
	}
	a.DryRun = false
	if n, err := s.Act(s.Context(), time.Now(), a, f); n != want || err != nil {
		s.Errorf("moved %d to %s, %v; want %d", n, queue, err, want)
	}
}

// in claims up to n runs from one queue, and checks that they are these.
func (s *suite) in(queue string, n int, want ...string) []store.Claimed {
	s.Helper()
	r := s.request(n)
	r.Queues = []string{queue}
	if len(want) == 0 {
		s.none(r)
		return nil
	}
	got := s.claimBy(r)
	if in := inputs(got); !slices.Equal(in, want) {
		s.Fatalf("claimed %s from %s, want %s", in, queue, want)
	}
	return got
}

// Runs that wait are moved, in their order; a retry and a replay are where they were moved.
func movedRuns(s *suite) {
	later := run("later")
	later.RunAt = time.Now().Add(time.Hour)
	there := run("there")
	there.Queue = "r"
	s.enqueue(run("runs"), run("ended"))
	for _, c := range s.takes(2, "runs", "ended") {
		if string(c.Input) == "ended" {
			s.finish(outcome(c, store.Failed))
		}
	}
	ids := s.enqueue(run("1"), there, run("2"), later)
	s.movesTo("r", store.Filter{}, 3)
	s.movesTo("r", store.Filter{}, 0)
	if got := s.list(store.Filter{Queues: []string{"r"}}, 10); len(got) != 4 {
		s.Errorf("%d runs are in the queue, want 4", len(got))
	}
	s.in("q", 10)
	got := s.in("r", 10, "1", "there", "2")
	retry := outcome(got[0], store.Scheduled)
	retry.At = time.Now().Add(time.Minute)
	s.finish(retry)
	time.Sleep(time.Hour)
	got = s.in("r", 10, "1", "later")
	s.finish(outcome(got[0], store.Failed))
	if n := s.act(store.ActReplay, store.Filter{IDs: ids[:1]}); n != 1 {
		s.Errorf("replayed %d", n)
	}
	s.in("r", 10, "1")
}

// A queue that does not exist begins with what is moved to it, and a paused one holds it.
func movedToPaused(s *suite) {
	s.ok(s.change(&store.PauseChange{Queue: "r", Paused: true}))
	s.enqueue(run("1"))
	s.movesTo("r", store.Filter{}, 1)
	s.none(s.request(10))
	s.movesTo("new", store.Filter{Queues: []string{"r"}}, 1)
	if names := read(s, &store.Names{}); !slices.Contains(names.Queues, "new") {
		s.Errorf("the queues are %q", names.Queues)
	}
	s.in("new", 10, "1")
}

// Runs that wait at a limit, for a time or for a person stay what they are.
func movedWaiting(s *suite) {
	s.enqueue(keyed("1", "k", 1, store.StrategyQueue), keyed("2", "k", 1, store.StrategyQueue))
	first := s.takes(10, "1")[0]
	s.movesTo("r", store.Filter{}, 1)
	if all := s.limits(false); len(all) != 1 || all[0].Active != 1 || all[0].Waiting != 1 {
		s.Errorf("limits are %+v, want one that runs and one that waits", all)
	}
	s.finish(outcome(first, store.Succeeded))
	second := s.in("r", 10, "2")[0]
	s.call(second, store.Entry{Address: store.Address{Seq: 1}, Kind: store.EntrySleep, Due: time.Now().Add(time.Hour)})
	waits := outcome(second, store.Waiting)
	waits.Waits = store.Waits{Until: time.Now().Add(time.Hour)}
	s.finish(waits)
	s.movesTo("q", store.Filter{States: []store.State{store.Waiting}}, 1)
	time.Sleep(time.Hour)
	blocked := outcome(s.in("q", 10, "2")[0], store.Blocked)
	s.finish(blocked)
	s.movesTo("r", store.Filter{IDs: []store.ID{second.ID}}, 1)
	s.state(second.ID, store.Blocked)
	s.act(store.ActReplay, store.Filter{IDs: []store.ID{second.ID}})
	s.in("r", 10, "2")
}

// Tasks of a workflow are moved, also if a worker is sought for them afterwards; the workflow's own run is not.
func movedTasks(s *suite) {
	id := s.begin(graphOf(s, func(g *store.Graph) { g.Sticky = store.StickySoft }, nil, nil, nil))
	s.movesTo("r", store.Filter{}, 3)
	r := s.request(1)
	r.Queues, r.Tasks = []string{"r"}, func(name string) bool { return name == "w:" }
	c := s.claimBy(r)[0] // the other two follow its worker now
	o := outcome(c, store.Queued)
	o.Parent, o.Node, o.Uncounted, o.NoHandler = c.Parent, c.Node, true, true
	s.finish(o)
	for _, task := range s.list(store.Filter{Parent: id}, 10) {
		if got := s.get(task).Queue; got != "r" {
			s.Errorf("a task is in queue %s", got)
		}
	}
	if got := s.get(id).Queue; got != "q" {
		s.Errorf("the workflow's run is in queue %s", got)
	}
	r.Tasks = func(name string) bool { return name == "w:a" || name == "w:" }
	for range 3 {
		s.end(s.claimBy(r)[0], store.Succeeded)
	}
	s.state(id, store.Succeeded)
}
