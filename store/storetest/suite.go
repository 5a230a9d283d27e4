// Package storetest is the definition of what a store must do: rules that every store
// is held to, and a model that random sequences of verbs are compared with.
//
// A store's own test is three lines:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB, dir string) store.Store { … })
//	}
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint/store"
)

// An Opener opens the store that is kept in dir, empty at first; a second call with the
// same dir is the same data. The caller closes it. It is called in a testing/synctest
// bubble.
type Opener func(t testing.TB, dir string) store.Store

// Run holds every rule of package store against the stores that open makes. A rule
// cannot be skipped: what breaks one is not a store.
func Run(t *testing.T, open Opener) {
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := &suite{T: t, open: open, dir: dir, Store: open(t, dir)}
				defer func() { s.ok(s.Close()) }()
				s.worker = s.register()
				rule.check(s)
			})
		})
	}
}

// A suite is a store under test, with helpers that fail the test on an error.
type suite struct {
	*testing.T
	store.Store
	open   Opener
	dir    string
	worker int64
}

var rules = []struct {
	name  string
	check func(*suite)
}{
	{"R1 acknowledged is there after a reopen", reopen},
	{"R2 a late outcome is refused", lateOutcome},
	{"R2 a late record is refused", lateRecord},
	{"R3 terminal is final, save by a replay", terminal},
	{"R4 never early", neverEarly},
	{"R4 not started in time is canceled", startBy},
	{"R5 priority, then first in first out", order},
	{"R5 order over many tasks and claims", orderOfMany},
	{"R5 priorities age", ageing},
	{"R7 all or none", allOrNone},
	{"R7 what follows comes with the outcome", follow},
	{"R7 a large bulk appears at once", largeBulk},
	{"R8 an unknown ID", unknownID},
	{"R8 an unknown task holds up nothing", unknownTask},
	{"R10 close ends every wait", closeEndsWaits},
	{"claim gives no more than Free", claimFree},
	{"claim that was withdrawn takes nothing", withdrawn},
	{"claim by queue, and paused queues", pausedQueues},
	{"two claims never share a run", noDouble},
	{"cancel", cancel},
	{"cancel of what runs ends it as canceled", cancelRunning},
	{"cancel takes children along", cancelChildren},
	{"idempotency keys", keys},
	{"retry keeps the attempt, snooze refunds it", retry},
	{"unregister gives back", unregister},
	{"a context that is done changes nothing", doneContext},
	{"list by filter, in pages", list},
	{"delete and expire", expire},
	{"progress, logs and chunks", records},
	{"large inputs and outputs", large},
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) register() int64 {
	s.Helper()
	id, err := s.Register(s.Context(), time.Now(), store.WorkerInfo{Name: "tester"})
	s.ok(err)
	return id
}

// run is a NewRun of task "t" with the given input.
func run(input string) store.NewRun {
	return store.NewRun{Task: "t", Queue: "q", Priority: 2, AgeEvery: time.Minute, Input: []byte(input)}
}

func (s *suite) enqueue(runs ...store.NewRun) []store.ID {
	s.Helper()
	got, err := s.Enqueue(s.Context(), time.Now(), runs)
	s.ok(err)
	ids := make([]store.ID, len(got))
	for i, e := range got {
		ids[i] = e.ID
	}
	return ids
}

func (s *suite) request(n int) store.ClaimRequest {
	return store.ClaimRequest{Worker: s.worker, Free: func() int { return n }, Tasks: func(string) bool { return true }}
}

// claim claims up to n runs, of which there must be one within a second.
func (s *suite) claim(n int) []store.Claimed {
	s.Helper()
	return s.claimBy(s.request(n))
}

func (s *suite) claimBy(r store.ClaimRequest) []store.Claimed {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Second)
	defer cancel()
	got, err := s.Claim(ctx, r)
	s.ok(err)
	return got
}

// none fails if there is something to claim now.
func (s *suite) none(r store.ClaimRequest) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err := s.Claim(ctx, r); len(got) > 0 || !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("claimed %s (%v), want nothing", inputs(got), err)
	}
}

func inputs(got []store.Claimed) (all []string) {
	for _, c := range got {
		all = append(all, string(c.Input))
	}
	return all
}

func (s *suite) finish(o store.Outcome) (stale bool) {
	s.Helper()
	got, err := s.Finish(s.Context(), time.Now(), []store.Outcome{o})
	s.ok(err)
	return got[0]
}

func outcome(c store.Claimed, to store.State) store.Outcome {
	return store.Outcome{ID: c.ID, Lease: c.Lease, To: to}
}

func (s *suite) get(id store.ID) *store.Run {
	s.Helper()
	r, err := s.Get(s.Context(), id)
	s.ok(err)
	return r
}

func (s *suite) state(id store.ID, want store.State) {
	s.Helper()
	if got := s.get(id).State; got != want {
		s.Errorf("state is %v, want %v", got, want)
	}
}

func reopen(s *suite) {
	ids := s.enqueue(run("1"), run("2"), run("3"))
	got := s.claim(2)
	o := outcome(got[0], store.Succeeded)
	o.Output = []byte("out")
	s.finish(o)
	if _, ok := s.Store.(*Model); ok {
		return // has nothing to keep
	}
	s.ok(s.Close())
	s.Store = s.open(s, s.dir)
	s.worker = s.register()
	if r := s.get(ids[0]); r.State != store.Succeeded || string(r.Output) != "out" || r.Worker != "tester" {
		s.Errorf("finished run: %+v", r)
	}
	s.state(ids[1], store.Queued) // it ran when the store was closed
	if got := inputs(s.claim(10)); !slices.Equal(got, []string{"2", "3"}) {
		s.Errorf("claimed %s", got)
	}
	if later := s.enqueue(run("4"))[0]; slices.Compare(later[:], ids[2][:]) <= 0 {
		s.Errorf("ID %s was given after %s", later, ids[2])
	}
}

func lateOutcome(s *suite) {
	id := s.enqueue(run("1"))[0]
	first := s.claim(1)[0]
	o := outcome(first, store.Queued)
	o.Refund = true
	if s.finish(o) {
		s.Fatal("a current outcome is stale")
	}
	second := s.claim(1)[0]
	if second.Attempt != 1 || second.Lease == first.Lease {
		s.Errorf("attempt %d, lease %d after %d", second.Attempt, second.Lease, first.Lease)
	}
	for _, to := range []store.State{store.Succeeded, store.Failed, store.Scheduled, store.Queued, store.Blocked} {
		if !s.finish(outcome(first, to)) {
			s.Errorf("late %v was taken", to)
		}
	}
	s.state(id, store.Running)
	if s.finish(outcome(second, store.Succeeded)) || !s.finish(outcome(second, store.Failed)) {
		s.Error("want the first outcome taken, the second stale")
	}
	s.state(id, store.Succeeded)
}

func lateRecord(s *suite) {
	s.enqueue(run("1"))
	c := s.claim(1)[0]
	rec := store.Record{ID: c.ID, Lease: c.Lease, Chunks: [][]byte{[]byte("x")}, Logs: []store.Log{{Message: "m"}}, Progress: &store.Progress{Done: 1}}
	stale, err := s.Record(s.Context(), time.Now(), []store.Record{rec, {ID: c.ID, Lease: c.Lease + 1, Chunks: [][]byte{[]byte("y")}}})
	s.ok(err)
	if !slices.Equal(stale, []bool{false, true}) {
		s.Errorf("stale %v", stale)
	}
	late := outcome(c, store.Failed)
	late.Lease++
	late.Record = store.Record{Chunks: [][]byte{[]byte("z")}, Progress: &store.Progress{Done: 9}}
	s.finish(late)
	chunks, _, err := s.Chunks(s.Context(), c.ID, 0, 10)
	s.ok(err)
	if len(chunks) != 1 || s.get(c.ID).Progress.Done != 1 {
		s.Errorf("chunks %v, progress %v", chunks, s.get(c.ID).Progress)
	}
}

func terminal(s *suite) {
	for _, to := range []store.State{store.Succeeded, store.Failed, store.Canceled, store.Skipped} {
		id := s.enqueue(run("1"))[0]
		s.finish(outcome(s.claim(1)[0], to))
		s.state(id, to)
		n, err := s.Cancel(s.Context(), time.Now(), store.Filter{IDs: []store.ID{id}}, nil)
		s.ok(err)
		if n != 0 {
			s.Error("canceled a run that had ended")
		}
		s.state(id, to)
		s.none(s.request(1))
		if n, err = s.Replay(s.Context(), time.Now(), store.Filter{IDs: []store.ID{id}}); n != 1 || err != nil {
			s.Fatalf("replayed %d, %v", n, err)
		}
		c := s.claim(1)[0]
		if c.ID != id || c.Attempt != 1 {
			s.Errorf("replay is attempt %d of %s", c.Attempt, c.ID)
		}
		s.finish(outcome(c, store.Succeeded))
		if r := s.get(id); r.State != store.Succeeded || len(r.Attempts) != 1 || r.Attempts[0].To != to {
			s.Errorf("after the replay: %v, %+v", r.State, r.Attempts)
		}
	}
}

func neverEarly(s *suite) {
	at := time.Now().Add(time.Hour).Add(300 * time.Microsecond)
	r := run("1")
	r.RunAt = at
	id := s.enqueue(r)[0]
	s.state(id, store.Scheduled)
	s.none(s.request(1))
	got, err := s.Claim(s.Context(), s.request(1))
	s.ok(err)
	if now := time.Now(); now.Before(at) || now.After(at.Add(5*time.Millisecond)) {
		s.Errorf("claimed %v after its time", now.Sub(at))
	}
	again := outcome(got[0], store.Scheduled)
	again.At = time.Now().Add(time.Hour)
	s.finish(again)
	if _, err := s.Claim(s.Context(), s.request(1)); err != nil || time.Now().Before(again.At) {
		s.Errorf("again: %v after its time, %v", time.Since(again.At), err)
	}
}

func startBy(s *suite) {
	r := run("1")
	r.StartBy = time.Now().Add(time.Minute)
	late, started := s.enqueue(r)[0], run("2")
	s.ok(s.Await(s.Context(), late, -1))
	if got := s.get(late); got.State != store.Canceled || string(got.Error) != store.StartByError {
		s.Errorf("not started: %v, %s", got.State, got.Error)
	}
	started.StartBy = time.Now().Add(time.Minute)
	s.enqueue(started)
	c := s.claim(1)[0]
	time.Sleep(2 * time.Minute)
	if s.finish(outcome(c, store.Queued)) { // it has started once
		s.Error("stale")
	}
	time.Sleep(2 * time.Minute)
	s.claim(1)
}

func order(s *suite) {
	for i, p := range []int8{2, 1, 3, 2, -5, 100, 3} {
		r := run(fmt.Sprint(p, i))
		r.Priority = p
		s.enqueue(r)
	}
	if got, want := inputs(s.claim(10)), []string{"100 5", "3 2", "3 6", "2 0", "2 3", "1 1", "-5 4"}; !slices.Equal(got, want) {
		s.Errorf("claimed %s, want %s", got, want)
	}
}

func orderOfMany(s *suite) {
	var want []string
	var all []store.NewRun
	for i := range 300 {
		r := run(fmt.Sprint(i))
		r.Task, r.Queue = fmt.Sprint("t", i*7%5), fmt.Sprint("q", i%3)
		all = append(all, r)
		want = append(want, fmt.Sprint(i))
	}
	s.enqueue(all...)
	var got []string
	for len(got) < len(want) {
		got = append(got, inputs(s.claim(7))...)
	}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("order (-want +got):\n%s", d)
	}
}

func ageing(s *suite) {
	low, never := run("low"), run("never")
	low.Priority, never.Priority, never.AgeEvery = 1, 1, 0
	s.enqueue(low, never)
	time.Sleep(90 * time.Second)
	s.enqueue(run("normal")) // 2; low has come to 2.5 by now
	if got, want := inputs(s.claim(3)), []string{"low", "normal", "never"}; !slices.Equal(got, want) {
		s.Errorf("claimed %s, want %s", got, want)
	}
}

func allOrNone(s *suite) {
	bad := run("2")
	bad.Parent = store.ID{1}
	if _, err := s.Enqueue(s.Context(), time.Now(), []store.NewRun{run("1"), bad}); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("a parent that is not: %v", err)
	}
	s.none(s.request(1))
}

func follow(s *suite) {
	id := s.enqueue(run("1"))[0]
	o := outcome(s.claim(1)[0], store.Failed)
	o.Follow = []store.NewRun{run("next")}
	s.finish(o)
	next := s.claim(1)[0]
	if string(next.Input) != "next" || next.Parent != id || next.Root != id {
		s.Errorf("followed by %+v", next)
	}
	o.Lease++ // stale
	s.finish(o)
	s.none(s.request(1))
}

func largeBulk(s *suite) {
	all := make([]store.NewRun, 12_345)
	for i := range all {
		all[i] = run(fmt.Sprint(i))
		all[i].Task = fmt.Sprint("t", i%2)
	}
	done := make(chan []store.ID)
	go func() { done <- s.enqueue(all...) }()
	first := s.claimMany(all, 100)
	ids := <-done
	runs, err := s.List(s.Context(), store.Filter{}, store.ID{}, len(all)+1)
	s.ok(err)
	if len(runs) != len(all) || len(first) == 0 {
		s.Errorf("%d runs after the bulk, want %d", len(runs), len(all))
	}
	for i, r := range runs {
		if want := ids[len(ids)-1-i]; r.ID != want {
			s.Fatalf("run %d from the end is %s, want %s", i, r.ID, want)
		}
	}
}

// claimMany claims up to n of a bulk that is being enqueued, whose runs must all be
// there, or none.
func (s *suite) claimMany(all []store.NewRun, n int) []store.Claimed {
	got := s.claim(n)
	runs, err := s.List(s.Context(), store.Filter{}, store.ID{}, len(all)+1)
	s.ok(err)
	if len(runs) != len(all) {
		s.Errorf("%d of %d runs are visible", len(runs), len(all))
	}
	return got
}

func unknownID(s *suite) {
	for _, id := range []store.ID{{}, {0xff}, {0x01, 0x98, 6: 0x70, 8: 0x80}} {
		if _, err := s.Get(s.Context(), id); !errors.Is(err, store.ErrNotFound) {
			s.Errorf("Get(%s): %v", id, err)
		}
		s.ok(s.Await(s.Context(), id, -1))
		if !s.finish(store.Outcome{ID: id, To: store.Succeeded}) {
			s.Errorf("Finish(%s) was taken", id)
		}
	}
}

func unknownTask(s *suite) {
	other := run("other")
	other.Task, other.Priority = "other", 100
	s.enqueue(other, run("1"))
	r := s.request(5)
	r.Tasks = func(task string) bool { return task == "t" }
	if got := inputs(s.claimBy(r)); !slices.Equal(got, []string{"1"}) {
		s.Errorf("claimed %s", got)
	}
	s.none(r)
	s.claim(1)
}

func closeEndsWaits(s *suite) {
	ids := s.enqueue(run("1"), run("2"))
	s.claim(2)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	wg.Go(func() { _, errs[0] = s.Claim(s.Context(), s.request(1)) })
	wg.Go(func() { errs[1] = s.Await(s.Context(), ids[0], -1) })
	wg.Go(func() { _, errs[2] = s.Watch(s.Context(), s.worker) })
	wg.Go(func() { _, errs[3] = s.Recover(s.Context()) })
	synctest.Wait()
	s.ok(s.Close())
	wg.Wait()
	_, err := s.Enqueue(s.Context(), time.Now(), []store.NewRun{run("3")})
	for i, err := range append(errs, err) {
		if !errors.Is(err, store.ErrClosed) {
			s.Errorf("wait %d: %v, want ErrClosed", i, err)
		}
	}
	s.ok(s.Close()) // again does nothing
}

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

func pausedQueues(s *suite) {
	a, b := run("a"), run("b")
	a.Queue, b.Queue = "a", "b"
	s.enqueue(a, b)
	s.ok(s.PauseQueue(s.Context(), "a", true))
	if got := inputs(s.claim(5)); !slices.Equal(got, []string{"b"}) {
		s.Errorf("claimed %s", got)
	}
	s.none(s.request(5))
	queues, err := s.Queues(s.Context())
	s.ok(err)
	if d := cmp.Diff([]store.QueueInfo{{Name: "a", Paused: true}, {Name: "b"}}, queues); d != "" {
		s.Error(d)
	}
	waiting := make(chan []store.Claimed)
	go func() { waiting <- s.claim(5) }()
	synctest.Wait()
	s.ok(s.PauseQueue(s.Context(), "a", false))
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
	n, err := s.Cancel(s.Context(), time.Now(), store.Filter{Tasks: []string{"t"}}, []byte(`"why"`))
	s.ok(err)
	if n != 2 {
		s.Errorf("canceled %d", n)
	}
	for _, id := range ids {
		if r := s.get(id); r.State != store.Canceled || string(r.Error) != `"why"` || r.Ended.IsZero() {
			s.Errorf("%+v", r)
		}
		s.ok(s.Await(s.Context(), id, -1))
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
			n, err := s.Cancel(s.Context(), time.Now(), store.Filter{IDs: []store.ID{id}}, []byte(`"why"`))
			s.ok(err)
			if n != want {
				s.Errorf("canceled %d, want %d", n, want)
			}
		}
		if sig := <-told; !slices.Equal(sig.Cancel, []store.ID{id}) {
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
	_, err := s.Cancel(s.Context(), time.Now(), store.Filter{IDs: []store.ID{parent}}, nil)
	s.ok(err)
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
	got, err := s.Enqueue(s.Context(), time.Now(), []store.NewRun{keyed("a", time.Minute), keyed("a", time.Minute), keyed("b", store.UntilDone)})
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
	n, err := s.Delete(s.Context(), store.Filter{})
	s.ok(err)
	if n != 2 {
		s.Errorf("deleted %d", n)
	}
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
		o.Refund = true
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
	_, err := s.Cancel(s.Context(), time.Now(), store.Filter{IDs: ids[1:]}, nil)
	s.ok(err)
	s.ok(s.Unregister(s.Context(), time.Now(), s.worker))
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
	if err := s.Await(ctx, s.enqueue(run("2"))[0], -1); !errors.Is(err, context.Canceled) {
		s.Errorf("Await: %v", err)
	}
	if got := inputs(s.claim(5)); !slices.Equal(got, []string{"1", "2"}) {
		s.Errorf("claimed %s", got)
	}
}

func list(s *suite) {
	began := time.Now()
	for i := range 20 {
		r := run(fmt.Sprint(i))
		r.Task, r.Queue, r.Metadata = fmt.Sprint("t", i%2), fmt.Sprint("q", i%4), fmt.Appendf(nil, `{"n":"%d"}`, i%5)
		s.enqueue(r)
		time.Sleep(time.Second)
	}
	for i, c := range s.claim(6) {
		s.finish(outcome(c, []store.State{store.Succeeded, store.Failed, store.Canceled}[i%3]))
	}
	first := s.get(s.list(store.Filter{}, 20)[19])
	for _, tt := range []struct {
		name string
		f    store.Filter
		want int
	}{
		{"all", store.Filter{}, 20},
		{"task", store.Filter{Tasks: []string{"t1"}}, 10},
		{"tasks and queue", store.Filter{Tasks: []string{"t0", "t1"}, Queues: []string{"q2"}}, 5},
		{"state", store.Filter{States: []store.State{store.Failed}}, 2},
		{"states", store.Filter{States: []store.State{store.Failed, store.Queued}}, 16},
		{"no state", store.Filter{States: []store.State{}}, 0},
		{"metadata", store.Filter{Metadata: map[string]string{"n": "3"}}, 4},
		{"other metadata", store.Filter{Metadata: map[string]string{"m": "3"}}, 0},
		{"since", store.Filter{Since: began.Add(15 * time.Second)}, 5},
		{"until", store.Filter{Until: began.Add(15 * time.Second)}, 15},
		{"id", store.Filter{IDs: []store.ID{first.ID, {1}}}, 1},
		{"parent", store.Filter{Parent: first.ID}, 0},
		{"top level", store.Filter{TopLevel: true}, 20},
	} {
		if got := s.list(tt.f, 3); len(got) != tt.want {
			s.Errorf("%s: %d runs, want %d", tt.name, len(got), tt.want)
		}
	}
}

// list reads all pages, which must be in order, without gaps or repetitions.
func (s *suite) list(f store.Filter, limit int) (all []store.ID) {
	var before store.ID
	for {
		runs, err := s.List(s.Context(), f, before, limit)
		s.ok(err)
		for _, r := range runs {
			if before != (store.ID{}) && slices.Compare(r.ID[:], before[:]) >= 0 {
				s.Errorf("%s is listed after %s", r.ID, before)
			}
			before = r.ID
			all = append(all, r.ID)
		}
		if len(runs) < limit {
			return all
		}
	}
}

func expire(s *suite) {
	var ids []store.ID
	for _, to := range []store.State{store.Succeeded, store.Failed, store.Canceled} {
		ids = append(ids, s.enqueue(run("x"))...)
		s.finish(outcome(s.claim(1)[0], to))
	}
	open := s.enqueue(run("open"))[0]
	now := time.Now()
	time.Sleep(time.Second)
	n, err := s.Expire(s.Context(), now, now)
	s.ok(err)
	if n != 0 {
		s.Errorf("expired %d at the instant they ended", n)
	}
	n, err = s.Expire(s.Context(), time.Now(), now)
	s.ok(err)
	if n != 2 {
		s.Errorf("expired %d, want those that did not fail", n)
	}
	if n, err = s.Delete(s.Context(), store.Filter{}); n != 1 || err != nil {
		s.Errorf("deleted %d, %v: want the failed one", n, err)
	}
	for _, id := range ids {
		if _, err := s.Get(s.Context(), id); !errors.Is(err, store.ErrNotFound) {
			s.Errorf("Get of a deleted run: %v", err)
		}
	}
	s.state(open, store.Queued)
	last := s.enqueue(run("last"))[0]
	_, err = s.Cancel(s.Context(), time.Now(), store.Filter{IDs: []store.ID{last}}, nil)
	s.ok(err)
	_, err = s.Delete(s.Context(), store.Filter{IDs: []store.ID{last}})
	s.ok(err)
	if again := s.enqueue(run("again"))[0]; again == last {
		s.Error("a deleted run's ID was given again")
	}
}

func records(s *suite) {
	id := s.enqueue(run("1"))[0]
	c := s.claim(1)[0]
	seen := make(chan error, 1)
	go func() { seen <- s.Await(s.Context(), id, 0) }()
	synctest.Wait()
	at := time.UnixMilli(time.Now().UnixMilli())
	rec := store.Record{
		ID: id, Lease: c.Lease, Progress: &store.Progress{Done: 1, Total: 2, Message: "m"},
		Logs:   []store.Log{{At: at, Level: 4, Message: "a", Attrs: []byte(`{"k":1}`), Attempt: 1}, {At: at, Message: "b", Attempt: 1}},
		Chunks: [][]byte{[]byte("x"), []byte("y")},
	}
	_, err := s.Record(s.Context(), time.Now(), []store.Record{rec})
	s.ok(err)
	s.ok(<-seen)
	o := outcome(c, store.Succeeded)
	o.Record = store.Record{Chunks: [][]byte{[]byte("z")}, Logs: []store.Log{{At: at, Message: "c", Attempt: 1}}}
	s.finish(o)
	if p := s.get(id).Progress; p == nil || *p != *rec.Progress {
		s.Errorf("progress %+v", p)
	}
	logs, err := s.Logs(s.Context(), id, 1, 10)
	s.ok(err)
	want := []store.Log{{Seq: 2, At: at, Message: "b", Attempt: 1}, {Seq: 3, At: at, Message: "c", Attempt: 1}}
	if d := cmp.Diff(want, logs); d != "" {
		s.Errorf("logs (-want +got):\n%s", d)
	}
	chunks, ended, err := s.Chunks(s.Context(), id, 1, 10)
	s.ok(err)
	if d := cmp.Diff([]store.Chunk{{Seq: 2, Data: []byte("y")}, {Seq: 3, Data: []byte("z")}}, chunks); d != "" || !ended {
		s.Errorf("ended %v, chunks (-want +got):\n%s", ended, d)
	}
	if chunks, ended, err = s.Chunks(s.Context(), id, 0, 3); len(chunks) != 3 || ended || err != nil {
		s.Errorf("a full page says that it is the last: %v", err)
	}
}

func large(s *suite) {
	for _, size := range []int{0, 1, 2047, 2048, 2049, 1 << 20} {
		in := string(make([]byte, size))
		id := s.enqueue(run(in))[0]
		c := s.claim(1)[0]
		if string(c.Input) != in {
			s.Errorf("claimed %d bytes, want %d", len(c.Input), size)
		}
		o := outcome(c, store.Succeeded)
		o.Output = []byte(in)
		s.finish(o)
		if r := s.get(id); string(r.Input) != in || string(r.Output) != in {
			s.Errorf("stored %d and %d bytes, want %d", len(r.Input), len(r.Output), size)
		}
	}
}
