package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint/store"
)

// What each verb does.

func claimFree(s *suite) {
	s.enqueue(run("1"), run("2"), run("3"))
	if got := inputs(s.claim(2)); !slices.Equal(got, []string{"1", "2"}) {
		s.Errorf("claimed %s", got)
	}
	if got := inputs(s.claim(2)); !slices.Equal(got, []string{"3"}) {
		s.Errorf("claimed %s", got)
	}
	s.none(s.request(2))
}

// A claim whose caller goes away while runs arrive either takes them or does not;
// none is lost, and no call hangs.
func withdrawn(s *suite) {
	const n = 200
	var wg sync.WaitGroup
	wg.Go(func() {
		for range n {
			s.enqueue(run("1"))
		}
	})
	got := 0
	for got < n {
		ctx, cancel := context.WithCancel(s.Context())
		wg.Go(cancel)
		c, err := s.Claim(ctx, s.request(1))
		if err != nil && !errors.Is(err, context.Canceled) {
			s.Fatal(err)
		}
		got += len(c)
		cancel()
	}
	wg.Wait()
	s.none(s.request(1))
}

// pausedWorkers has a paused worker get nothing, and what it waited for when it goes on.
func pausedWorkers(s *suite) {
	if err := s.change(&store.PauseChange{Worker: "nobody", Paused: true}); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("a worker that is not there: %v", err)
	}
	s.ok(s.change(&store.PauseChange{Worker: "tester", Paused: true}))
	s.enqueue(run("1"))
	s.none(s.request(1))
	all := read(s, &store.WorkerList{}).Workers
	if len(all) != 1 || !all[0].Paused {
		s.Errorf("workers: %+v", all)
	}
	waiting := make(chan []store.Claimed)
	go func() { waiting <- s.claim(1) }()
	synctest.Wait()
	s.ok(s.change(&store.PauseChange{Worker: "tester"}))
	if got := inputs(<-waiting); !slices.Equal(got, []string{"1"}) {
		s.Errorf("after the pause: %s", got)
	}
}

// changedWorkers changes labels and tasks apart from each other.
func changedWorkers(s *suite) {
	id, err := s.Register(s.Context(), store.WorkerInfo{Name: "w", Slots: 3, Labels: map[string]string{"a": "1"}, Tasks: []string{"t"}})
	s.ok(err)
	check := func(labels map[string]string, tasks ...string) {
		s.Helper()
		all := read(s, &store.WorkerList{}).Workers
		w := all[len(all)-1]
		if w.ID != id || w.Name != "w" || w.Slots != 3 || !maps.Equal(w.Labels, labels) || !slices.Equal(w.Tasks, tasks) || len(all) != 2 {
			s.Errorf("%d workers, %+v; want labels %v, tasks %q", len(all), w, labels, tasks)
		}
	}
	change := func(labels map[string]string, tasks []string) {
		s.Helper()
		got, err := s.Register(s.Context(), store.WorkerInfo{ID: id, Labels: labels, Tasks: tasks})
		if s.ok(err); got != id {
			s.Errorf("worker %d became %d", id, got)
		}
	}
	check(map[string]string{"a": "1"}, "t")
	change(map[string]string{"b": "2"}, nil)
	check(map[string]string{"b": "2"}, "t")
	change(nil, []string{"t", "u"})
	check(map[string]string{"b": "2"}, "t", "u")
	change(map[string]string{}, []string{})
	check(nil)
}

func pausedQueues(s *suite) {
	a, b := run("a"), run("b")
	a.Queue, b.Queue = "a", "b"
	began := time.Now()
	s.enqueue(a, b)
	s.ok(s.change(&store.PauseChange{Queue: "a", Paused: true}))
	if got := inputs(s.claim(5)); !slices.Equal(got, []string{"b"}) {
		s.Errorf("claimed %s", got)
	}
	s.none(s.request(5))
	queues := read(s, &store.QueueList{}).Queues
	if d := cmp.Diff([]store.QueueInfo{{Name: "a", Paused: true, Ready: 1, Oldest: began}, {Name: "b", Running: 1}}, queues); d != "" {
		s.Error(d)
	}
	one := queues[:1]
	one[0].Priorities = map[int8]int{2: 1}
	if queues = read(s, &store.QueueList{Name: "a"}).Queues; cmp.Diff(one, queues) != "" {
		s.Errorf("%+v; want %+v", queues, one)
	}
	if queues = read(s, &store.QueueList{Name: "unknown"}).Queues; len(queues) > 0 {
		s.Errorf("of an unknown queue: %+v", queues)
	}
	waiting := make(chan []store.Claimed)
	go func() { waiting <- s.claim(5) }()
	synctest.Wait()
	s.ok(s.change(&store.PauseChange{Queue: "a"}))
	if got := inputs(<-waiting); !slices.Equal(got, []string{"a"}) {
		s.Errorf("claimed %s after the pause", got)
	}
	s.enqueue(a, b)
	r := s.request(5)
	r.Queues = []string{"b", "c"}
	if got := inputs(s.claimBy(r)); !slices.Equal(got, []string{"b"}) {
		s.Errorf("claimed %s from b and c", got)
	}
	s.none(r)
}

func noDouble(s *suite) {
	const n = 2000
	all := make([]store.NewRun, n)
	for i := range all {
		all[i] = run("x")
	}
	var mu sync.Mutex
	seen := map[store.ID]int{}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		worker := s.register()
		wg.Go(func() {
			ctx, cancel := context.WithCancel(s.Context())
			defer cancel()
			go func() {
				select {
				case <-done:
					cancel()
				case <-ctx.Done():
				}
			}()
			for {
				r := s.request(17)
				r.Worker = worker
				got, err := s.Claim(ctx, r)
				if err != nil {
					return
				}
				mu.Lock()
				for _, c := range got {
					seen[c.ID]++
				}
				if len(seen) == n {
					close(done)
				}
				mu.Unlock()
			}
		})
	}
	s.enqueue(all...)
	wg.Wait()
	for id, times := range seen {
		if times != 1 {
			s.Errorf("run %s was claimed %d times", id, times)
		}
	}
}

func cancel(s *suite) {
	later := run("later")
	later.RunAt = time.Now().Add(time.Hour)
	ids := s.enqueue(run("1"), later)
	if n := s.act(store.ActCancel, store.Filter{Tasks: []string{"t"}}); n != 2 {
		s.Errorf("canceled %d", n)
	}
	for _, id := range ids {
		if r := s.get(id); r.State != store.Canceled || string(r.Error) != `"why"` || r.Ended.IsZero() {
			s.Errorf("%+v", r)
		}
		s.ok(s.await(id))
	}
	s.none(s.request(1))
}

func cancelRunning(s *suite) {
	for _, to := range []store.State{store.Succeeded, store.Failed, store.Scheduled, store.Queued, store.Blocked, store.Canceled} {
		id := s.enqueue(run("1"))[0]
		c := s.claim(1)[0]
		told := make(chan store.Signals, 1)
		go func() {
			sig, err := s.Watch(s.Context(), s.worker)
			s.ok(err)
			told <- sig
		}()
		for want := 1; want >= 0; want-- { // the second time does nothing
			if n := s.act(store.ActCancel, store.Filter{IDs: []store.ID{id}}); n != want {
				s.Errorf("canceled %d, want %d", n, want)
			}
		}
		if sig := <-told; !slices.Equal(sig.Cancel, []store.Execution{{ID: id, Lease: c.Lease}}) {
			s.Errorf("told %v", sig)
		}
		s.state(id, store.Running)
		o := outcome(c, to)
		o.At, o.Error = time.Now().Add(time.Hour), []byte(`"other"`)
		if s.finish(o) {
			s.Error("stale")
		}
		if r := s.get(id); r.State != store.Canceled || string(r.Error) != `"why"` {
			s.Errorf("%v ends as %v, %s", to, r.State, r.Error)
		}
	}
	s.none(s.request(1))
}

func cancelChildren(s *suite) {
	parent := s.enqueue(run("parent"))[0]
	s.claim(1)
	kept, free := run("kept"), run("free")
	kept.Parent, free.Parent, free.Detached = parent, parent, true
	ids := s.enqueue(kept, free)
	grandchild := run("grandchild")
	grandchild.Parent = ids[0]
	g := s.enqueue(grandchild)[0]
	if r := s.get(g); r.Parent != ids[0] || r.Root != parent {
		s.Errorf("grandchild has parent %s, root %s", r.Parent, r.Root)
	}
	s.act(store.ActCancel, store.Filter{IDs: []store.ID{parent}})
	s.state(ids[0], store.Canceled)
	s.state(g, store.Canceled)
	s.state(ids[1], store.Queued)
}

func keys(s *suite) {
	keyed := func(key string, ttl time.Duration) store.NewRun {
		r := run("k")
		r.Key, r.KeyTTL = key, ttl
		return r
	}
	got, err := s.Enqueue(s.Context(), time.Now(), []store.NewRun{keyed("a", time.Minute), keyed("a", time.Minute),
		keyed("b", store.UntilDone)})
	s.ok(err)
	if got[0].Existing || !got[1].Existing || got[1].ID != got[0].ID || got[2].Existing {
		s.Errorf("in one bulk: %+v", got)
	}
	again := func(r store.NewRun) store.Enqueued {
		got, err := s.Enqueue(s.Context(), time.Now(), []store.NewRun{r})
		s.ok(err)
		return got[0]
	}
	for _, c := range s.claim(2) {
		s.finish(outcome(c, store.Succeeded))
	}
	if e := again(keyed("a", time.Minute)); !e.Existing || e.ID != got[0].ID {
		s.Errorf("within the ttl: %+v", e)
	}
	if e := again(keyed("b", store.UntilDone)); e.Existing {
		s.Error("UntilDone outlives its run")
	}
	other := keyed("a", time.Minute)
	other.Task = "other"
	if again(other).Existing {
		s.Error("tasks share keys")
	}
	time.Sleep(time.Minute)
	if again(keyed("a", time.Minute)).Existing {
		s.Error("key outlives its ttl")
	}
	if n := s.act(store.ActDelete, store.Filter{}); n != 2 {
		s.Errorf("deleted %d", n)
	}
	kept := again(keyed("c", time.Hour))
	s.finish(outcome(s.claimKey("c"), store.Succeeded))
	if n := s.act(store.ActDelete, store.Filter{IDs: []store.ID{kept.ID}}); n != 1 {
		s.Errorf("deleted %d", n)
	}
	for range 2 {
		if e := again(keyed("c", time.Hour)); !e.Existing || e.ID != kept.ID {
			s.Errorf("within the ttl of a run that is deleted: %+v", e)
		}
		_, err = s.Expire(s.Context(), time.Now(), time.Now())
		s.ok(err)
	}
	time.Sleep(time.Hour)
	_, err = s.Expire(s.Context(), time.Now(), time.Now())
	s.ok(err)
	if e := again(keyed("c", time.Hour)); e.Existing {
		s.Errorf("after the ttl of a run that is deleted: %+v", e)
	}
}

// claimKey claims what may start, and returns the run that has a key.
func (s *suite) claimKey(key string) store.Claimed {
	s.Helper()
	for _, c := range s.claim(10) {
		if s.get(c.ID).Key == key {
			return c
		}
	}
	s.Fatalf("no run with key %q", key)
	return store.Claimed{}
}

func retry(s *suite) {
	id := s.enqueue(run("1"))[0]
	for attempt := 1; attempt <= 3; attempt++ {
		c := s.claim(1)[0]
		if c.Attempt != attempt {
			s.Errorf("attempt %d, want %d", c.Attempt, attempt)
		}
		o := outcome(c, store.Scheduled)
		o.Error = []byte(fmt.Sprintf(`"%d"`, attempt))
		s.finish(o)
	}
	for range 5 {
		o := outcome(s.claim(1)[0], store.Scheduled)
		o.Uncounted = true
		s.finish(o)
	}
	c := s.claim(1)[0]
	if c.Attempt != 4 {
		s.Errorf("attempt %d after snoozing, want 4", c.Attempt)
	}
	s.finish(outcome(c, store.Succeeded))
	r := s.get(id)
	if len(r.Attempts) != 3 || string(r.Attempts[2].Error) != `"3"` || r.Attempts[2].Attempt != 3 || r.Error != nil {
		s.Errorf("attempts %+v, error %s", r.Attempts, r.Error)
	}
}

func unregister(s *suite) {
	ids := s.enqueue(run("1"), run("2"))
	s.claim(2)
	s.act(store.ActCancel, store.Filter{IDs: ids[1:]})
	s.ok(s.Unregister(s.Context(), s.worker))
	s.state(ids[0], store.Queued)
	s.state(ids[1], store.Canceled)
	s.worker = s.register()
	if c := s.claim(1)[0]; c.Attempt != 1 || c.Crashes != 0 {
		s.Errorf("attempt %d, crashes %d", c.Attempt, c.Crashes)
	}
}

func doneContext(s *suite) {
	s.enqueue(run("1"))
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.Claim(ctx, s.request(1)); !errors.Is(err, context.Canceled) {
		s.Errorf("Claim: %v", err)
	}
	if _, err := s.Await(ctx, s.enqueue(run("2"))[0], store.Until{}); !errors.Is(err, context.Canceled) {
		s.Errorf("Await: %v", err)
	}
	if got := inputs(s.claim(5)); !slices.Equal(got, []string{"1", "2"}) {
		s.Errorf("claimed %s", got)
	}
}

// Enqueues of one key come to one run with the last input, that starts when none has
// come for a while, or at last.
func debounce(s *suite) {
	began := time.Now()
	enqueue := func(input string) store.Enqueued {
		s.Helper()
		r := run(input)
		r.Key, r.KeyTTL, r.RunAt, r.Debounce = "k", store.UntilDone, time.Now().Add(10*time.Second), 25*time.Second
		got, err := s.Enqueue(s.Context(), time.Now(), []store.NewRun{r})
		s.ok(err)
		return got[0]
	}
	first := enqueue("1")
	for _, input := range []string{"2", strings.Repeat("x", 100_000), "4"} {
		time.Sleep(8 * time.Second)
		if got := enqueue(input); got.ID != first.ID || !got.Existing {
			s.Errorf("a run of its own: %+v", got)
		}
	}
	s.state(first.ID, store.Scheduled)
	time.Sleep(time.Until(began.Add(25 * time.Second))) // not 34 s
	c := s.claim(1)[0]
	if string(c.Input) != "4" {
		s.Errorf("input %.10s", c.Input)
	}
	if got := enqueue("5"); got.Existing {
		s.Error("a run that has started took an input")
	}
	s.finish(outcome(c, store.Succeeded))
	time.Sleep(10 * time.Second)
	c = s.claim(1)[0]
	if string(c.Input) != "5" {
		s.Errorf("the next has input %s", c.Input)
	}
	later := outcome(c, store.Scheduled) // it has started, and comes back
	later.At = time.Now().Add(time.Hour)
	s.finish(later)
	if got := enqueue("6"); got.Existing {
		s.Error("a run that is scheduled for another attempt took an input")
	}
	if r := s.get(c.ID); string(r.Input) != "5" || !r.Due.Equal(later.At) {
		s.Errorf("it has input %s, and is due %v, want 5 and %v", r.Input, r.Due, later.At)
	}
}
