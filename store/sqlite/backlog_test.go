package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// A backlog is a store with one worker, and counts how often claims read the head of a lane.
type backlog struct {
	*testing.T
	s      *Store
	worker int64
	req    store.ClaimRequest
}

func openNormal(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{Normal: true})
	failing(t)(err)
	t.Cleanup(func() { s.Close() })
	return s
}

func newBacklog(t *testing.T, path string) *backlog {
	s := openNormal(t, path)
	b := &backlog{T: t, s: s}
	var err error
	b.worker, err = s.Register(t.Context(), store.WorkerInfo{Name: "w", Slots: 10})
	failing(t)(err)
	b.req = store.ClaimRequest{Worker: b.worker, Free: func() int { return 10 }, Tasks: func(task string) bool { return task != "unknown" }}
	return b
}

func (b *backlog) pause(s *Store, queue string) {
	b.Helper()
	failing(b.T)(s.Change(b.Context(), time.Now(), &store.PauseChange{Queue: queue, Paused: true}))
}

func (b *backlog) enqueue(runs ...store.NewRun) {
	b.Helper()
	for len(runs) > 0 { // not as a bulk, which has lanes of its own
		part := runs[:min(len(runs), 1000)]
		if _, err := b.s.Enqueue(b.Context(), time.Now(), part); err != nil {
			b.Fatal(err)
		}
		runs = runs[len(part):]
	}
}

// tenants are runs of which each has a queue of its own.
func tenants(n int, run store.NewRun) []store.NewRun {
	runs := make([]store.NewRun, n)
	for i := range runs {
		runs[i] = run
		runs[i].Queue = fmt.Sprintf("%s%d", run.Queue, i)
	}
	return runs
}

func (b *backlog) looked() (n int) {
	if err := b.s.do(b.Context(), func(u *unit) error { n = u.lanes.headsRead; return nil }); err != nil {
		b.Fatal(err)
	}
	return n
}

// drain claims and finishes n runs, and fails if claims look at more than so many lanes.
func (b *backlog) drain(n, most int) (got []store.Claimed) {
	b.Helper()
	before := b.looked()
	for len(got) < n {
		part, err := b.s.Claim(b.Context(), b.req)
		if err != nil {
			b.Fatal(err)
		}
		got = append(got, part...)
		b.finish(part)
	}
	if looked := b.looked() - before; looked > most {
		b.Errorf("claims of %d runs looked at %d lanes, want %d at most", n, looked, most)
	}
	return got
}

func (b *backlog) finish(got []store.Claimed) {
	b.Helper()
	outcomes := make([]store.Outcome, len(got))
	for i, c := range got {
		outcomes[i] = store.Outcome{ID: c.ID, Lease: c.Lease, To: store.Succeeded}
	}
	if _, err := b.s.Finish(b.Context(), time.Now(), outcomes); err != nil {
		b.Fatal(err)
	}
}

const manyQueues = 1000

// A claim looks at about as many lanes as it gives runs, with a queue for each run.
func TestBacklogQueueEach(t *testing.T) {
	for name, prepare := range map[string]func(b *backlog, runs []store.NewRun){
		"plain": func(*backlog, []store.NewRun) {},
		"named": func(b *backlog, runs []store.NewRun) {
			b.req.Queues = []string{}
			for _, r := range runs {
				b.req.Queues = append(b.req.Queues, r.Queue)
			}
		},
		"limits": func(b *backlog, runs []store.NewRun) {
			for i := range runs {
				runs[i].Limits = []store.Limit{{Name: "per tenant", Key: runs[i].Queue, Max: 1, Strategy: store.StrategyQueue}}
			}
		},
		"sticky": func(b *backlog, runs []store.NewRun) {
			for i := range runs {
				runs[i].Route = store.Route{To: "w", Hard: i%2 == 0}
			}
		},
		"sticky to a worker that never comes back": func(b *backlog, runs []store.NewRun) {
			for i := range runs {
				runs[i].Route = store.Route{To: fmt.Sprint("w", i)}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBacklog(t, filepath.Join(t.TempDir(), "q.db"))
			runs := tenants(manyQueues, store.NewRun{Task: "t", Queue: "q"})
			prepare(b, runs)
			b.enqueue(runs...)
			for i, c := range b.drain(manyQueues, 3*manyQueues) {
				if c.Queue != runs[i].Queue {
					t.Fatalf("run %d is of %s", i, c.Queue)
				}
			}
		})
	}
}

// What a worker may not take costs its claims nothing.
func TestBacklogBehindOthers(t *testing.T) {
	for name, prepare := range map[string]func(b *backlog, others []store.NewRun){
		"of queues that it does not serve": func(b *backlog, _ []store.NewRun) { b.req.Queues = []string{"default"} },
		"of paused queues": func(b *backlog, others []store.NewRun) {
			for _, r := range others {
				b.pause(b.s, r.Queue)
			}
		},
		"of tasks that it has not": func(_ *backlog, others []store.NewRun) {
			for i := range others {
				others[i].Task = "unknown"
			}
		},
		"for workers that never come back": func(_ *backlog, others []store.NewRun) {
			for i := range others {
				others[i].Route = store.Route{To: fmt.Sprint("gone", i), Hard: true}
			}
		},
		"that wait for a limit": func(_ *backlog, others []store.NewRun) {
			for i := range others {
				others[i].Limits = []store.Limit{{Name: "one", Max: 0, Strategy: store.StrategyQueue}}
			}
		},
		"for a better worker": func(b *backlog, others []store.NewRun) {
			if _, err := b.s.Register(b.Context(), store.WorkerInfo{Name: "better", Slots: 10}); err != nil {
				b.Fatal(err)
			}
			for i := range others {
				others[i].Route = store.Route{To: "better"}
				others[i].RunAt = time.Now()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBacklog(t, filepath.Join(t.TempDir(), "q.db"))
			others := tenants(manyQueues, store.NewRun{Task: "t", Queue: "other"})
			prepare(b, others)
			b.enqueue(others...)
			const n = 1000
			mine := make([]store.NewRun, n)
			for i := range mine {
				mine[i] = store.NewRun{Task: "t", Queue: "default"}
			}
			b.enqueue(mine...)
			b.drain(10, manyQueues+100) // what is not known, it may look at once
			b.drain(n-10, 3*n)
		})
	}
}

// What another connection commits costs what it changed: also with thousands of lanes
// that are ready, and after a rollback here.
func TestBacklogOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.db")
	b := newBacklog(t, path)
	other := openNormal(t, path)
	b.enqueue(tenants(manyQueues, store.NewRun{Task: "t", Queue: "q", Priority: -10})...)
	b.drain(10, 2*manyQueues)
	before := b.looked()
	for i := range 50 {
		queue := fmt.Sprintf("new%d", i)
		if i%2 == 0 {
			queue = fmt.Sprintf("q%d", manyQueues-1-i) // a lane that is known, and now has a run that is ahead
		}
		if _, err := other.Enqueue(t.Context(), time.Now(), []store.NewRun{{Task: "t", Queue: queue, Priority: 100}}); err != nil {
			t.Fatal(err)
		}
		if err := b.s.Change(t.Context(), time.Now(), &store.RunChange{Kind: store.RunRestart}); err == nil { // it is rolled back
			t.Fatal("a run that is not there was restarted")
		}
		b.req.Free = func() int { return 1 }
		if got := b.drain(1, manyQueues); got[0].Queue != queue {
			t.Fatalf("a run of %s was given, %s has one that is ahead", got[0].Queue, queue)
		}
	}
	if looked := b.looked() - before; looked > 500 {
		t.Errorf("50 claims after 50 commits of others looked at %d lanes", looked)
	}
	b.pause(other, "q20")
	b.req.Free = func() int { return 50 }
	b.req.Queues = []string{"q20", "q21"}
	if got := b.drain(1, manyQueues); len(got) != 1 || got[0].Queue != "q21" {
		t.Errorf("of a queue that another paused, and one that none did, came %v", got)
	}
}

// Lanes and queues that nothing is in go with the retention, but those that have runs or
// are paused; who uses one again makes it anew.
func TestBacklogLanesGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.db")
	b := newBacklog(t, path)
	other := openNormal(t, path)
	b.pause(b.s, "paused")
	b.enqueue(store.NewRun{Task: "unknown", Queue: "stays"})
	runs := tenants(100, store.NewRun{Task: "t", Queue: "q"})
	b.enqueue(runs...)
	for i := range runs {
		runs[i].Route = store.Route{To: fmt.Sprint("gone", i)}
	}
	b.enqueue(runs...)
	b.drain(200, 1000)
	_, err := other.Enqueue(t.Context(), time.Now(), runs[:1]) // it knows this lane
	failing(t)(err)
	b.drain(1, 1000)
	count := func(what string) (n int) {
		failing(t)(b.s.view(t.Context(), func(q querier) error { return q.one("SELECT count(*) FROM "+what, nil, &n) }))
		return n
	}
	past := time.Now().Add(-time.Hour)
	_, err = b.s.Expire(t.Context(), past, past)
	failing(t)(err)
	if n := count("stint_lanes"); n != 201 {
		t.Errorf("%d lanes are left before their runs are old, want 201", n)
	}
	later := time.Now().Add(time.Hour)
	_, err = b.s.Expire(t.Context(), later, later)
	failing(t)(err)
	if lanes, queues := count("stint_lanes"), count("stint_queues"); lanes != 1 || queues != 2 {
		t.Errorf("%d lanes and %d queues are left, want 1 and 2", lanes, queues)
	}
	_, err = other.Enqueue(t.Context(), time.Now(), runs[:1])
	failing(t)(err)
	b.enqueue(runs[1])
	b.drain(2, 100)
	if n := count("stint_runs WHERE lane NOT IN (SELECT id FROM stint_lanes)"); n != 0 {
		t.Errorf("%d runs have lost their lane", n)
	}
}

// A worker that serves one queue does not look at the runs of 30,000 others, and one that
// serves all looks at each about once, whatever their number.
func TestBacklogManyTenants(t *testing.T) {
	b := newBacklog(t, filepath.Join(t.TempDir(), "q.db"))
	b.req.Free = func() int { return 100 }
	third := 10_000
	if testing.Short() {
		third = 1000
	}
	others := tenants(3*third, store.NewRun{Task: "t", Queue: "tenant"})
	b.enqueue(others...)
	mine := make([]store.NewRun, 3000)
	for i := range mine {
		mine[i] = store.NewRun{Task: "t", Queue: "default"}
	}
	b.enqueue(mine...)
	all := b.req.Queues
	b.req.Queues = []string{"default"}
	b.drain(len(mine), len(mine))
	b.req.Queues = all
	for i, c := range b.drain(third, 7*third) { // it has to learn of all
		if c.Queue != others[i].Queue {
			t.Fatalf("run %d is of %s, want %s", i, c.Queue, others[i].Queue)
		}
	}
	b.drain(third, 3*third)
}

// A claim whose slots one task has used up ends there, though lanes of another are next.
func TestBacklogUsesAllSlots(t *testing.T) {
	b := newBacklog(t, filepath.Join(t.TempDir(), "q.db"))
	free := 0
	b.req.Free = func() int { return free }
	b.req.Cost = func(task string) int { return map[string]int{"small": 1, "large": 2}[task] }
	var runs []store.NewRun
	for i := range 6 {
		runs = append(runs, store.NewRun{Task: "large", Queue: fmt.Sprint(i)}, store.NewRun{Task: "small", Queue: fmt.Sprint(i)})
	}
	b.enqueue(runs...)
	for i, r := range runs {
		free = b.req.Cost(r.Task)
		if got := b.drain(1, 4*len(runs)); got[0].Task != r.Task || got[0].Queue != r.Queue {
			t.Fatalf("claim %d is given %s in queue %s", i, got[0].Task, got[0].Queue)
		}
	}
}
