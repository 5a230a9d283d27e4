package storetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint/store"
)

// The rules of the architecture, R1 to R10.

func reopen(s *suite) {
	ids := s.enqueue(run("1"), run("2"), run("3"))
	got := s.claim(2)
	o := outcome(got[0], store.Succeeded)
	o.Output = []byte("out")
	s.finish(o)
	if _, ok := s.Store.(*Model); ok {
		return // has nothing to keep
	}
	s.reopen()
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

// The years 1 to 9999 are stored exactly, can bound filters, and have different ranks.
func farTimes(s *suite) {
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	far, late := run("far"), run("late")
	far.RunAt, far.StartIn = last, math.MaxInt64
	late.RunAt, late.StartIn = time.Now().Add(math.MaxInt64), math.MaxInt64
	ids := s.enqueue(far, late, run("now"))
	for i, want := range []time.Time{last, late.RunAt} {
		r := s.get(ids[i])
		if r.State != store.Scheduled || r.Due.Sub(want).Abs() > time.Millisecond || r.StartBy.Before(r.Due) {
			s.Errorf("run %d is %v, due %v, to start by %v", i, r.State, r.Due, r.StartBy)
		}
		if _, err := r.Due.MarshalJSON(); err != nil {
			s.Error(err)
		}
	}
	s.ok(s.reschedule(ids[1], last))
	if at := s.get(ids[1]).Due; !at.Equal(last) {
		s.Errorf("rescheduled to %v: due %v", last, at)
	}
	first := time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC)
	for f, want := range map[*store.Filter]int{{Since: first}: 3, {Until: last}: 3, {Since: last}: 0, {Until: first}: 0} {
		all, _, err := s.List(s.Context(), *f, store.ID{}, 10)
		if s.ok(err); len(all) != want {
			s.Errorf("%d runs from %v until %v, want %d", len(all), f.Since, f.Until, want)
		}
	}
	if n, err := s.Expire(s.Context(), time.Now().Add(-math.MaxInt64), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)); n != 0 || err != nil {
		s.Errorf("expired %d, %v", n, err)
	}
	for _, ageing := range []time.Duration{0, time.Minute, math.MaxInt64} {
		if low, high := store.Rank(0, -128, ageing), store.Rank(0, 127, ageing); low <= high {
			s.Errorf("ageing %v: rank %d of the lowest priority, %d of the highest", ageing, low, high)
		}
	}
	if soon, never := store.Rank(last.UnixMilli(), 3, 0), store.Rank(0, 2, 0); soon >= never {
		s.Errorf("without ageing a priority is worth less than a time: %d, %d", soon, never)
	}
}

func lateOutcome(s *suite) {
	id := s.enqueue(run("1"))[0]
	first := s.claim(1)[0]
	o := outcome(first, store.Queued)
	o.Uncounted = true
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
	rec := store.Record{ID: c.ID, Lease: c.Lease, Chunks: []store.Chunk{{Data: []byte("x")}}, Logs: []store.Log{{Message: "m"}},
		Progress: &store.Progress{Done: 1}}
	stale, err := s.Record(s.Context(), []store.Record{rec, {ID: c.ID, Lease: wrong(c.Lease), Chunks: []store.Chunk{{Data: []byte("y")}}}})
	s.ok(err)
	if !slices.Equal(stale, []bool{false, true}) {
		s.Errorf("stale %v", stale)
	}
	late := outcome(c, store.Failed)
	late.Lease = wrong(late.Lease)
	late.Record = store.Record{Chunks: []store.Chunk{{Data: []byte("z")}}, Progress: &store.Progress{Done: 9}}
	s.finish(late)
	chunks, _, err := s.Chunks(s.Context(), c.ID, 0, 10)
	s.ok(err)
	if len(chunks) != 1 || s.get(c.ID).Progress.Done != 1 {
		s.Errorf("chunks %v, progress %v", chunks, s.get(c.ID).Progress)
	}
}

// leasesOnce checks that all executions of a run have other leases, however they come about, and that what is written
// with any but the last is refused.
func leasesOnce(s *suite) {
	id := s.enqueue(run("1"))[0]
	var given []store.Lease
	next := func() store.Claimed {
		s.Helper()
		c := s.claim(1)[0]
		if slices.Contains(given, c.Lease) {
			s.Fatalf("lease %d of execution %d was given before: %d", c.Lease, c.Executions, given)
		}
		if r := s.get(id); r.Lease != c.Lease || r.Executions != c.Executions || c.Executions != len(given)+1 {
			s.Errorf("execution %d with lease %d; the run has %d, %d", c.Executions, c.Lease, r.Executions, r.Lease)
		}
		for _, old := range given {
			if !s.finish(store.Outcome{ID: id, Lease: old, To: store.Succeeded}) {
				s.Errorf("an outcome with lease %d was taken, the last is %d", old, c.Lease)
			}
		}
		given = append(given, c.Lease)
		return c
	}
	retry := outcome(next(), store.Scheduled)
	retry.At = time.Now().Add(time.Millisecond)
	s.finish(retry)
	wait := outcome(next(), store.Waiting)
	wait.Waits.Until = time.Now().Add(time.Millisecond)
	s.finish(wait)
	s.finish(outcome(next(), store.Failed))
	s.act(store.ActReplay, store.Filter{IDs: []store.ID{id}})
	s.finish(outcome(next(), store.Blocked))
	s.ok(s.restart(id, store.Address{Seq: 1}))
	next()
	s.ok(s.Unregister(s.Context(), s.worker))
	s.worker = s.register()
	next()
	if _, ok := s.Store.(*Model); !ok {
		s.reopen()
		next()
	}
}

func terminal(s *suite) {
	for _, to := range []store.State{store.Succeeded, store.Failed, store.Canceled, store.Skipped} {
		id := s.enqueue(run("1"))[0]
		s.finish(outcome(s.claim(1)[0], to))
		s.state(id, to)
		if n := s.act(store.ActCancel, store.Filter{IDs: []store.ID{id}}); n != 0 {
			s.Error("canceled a run that had ended")
		}
		s.state(id, to)
		s.none(s.request(1))
		if n := s.act(store.ActReplay, store.Filter{IDs: []store.ID{id}}); n != 1 {
			s.Fatalf("replayed %d", n)
		}
		c := s.claim(1)[0]
		if c.ID != id || c.Attempt != 2 || c.Replayed != 1 {
			s.Errorf("replay is attempt %d of %s, after %d before a replay", c.Attempt, c.ID, c.Replayed)
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
	r.StartIn = time.Minute
	late, started := s.enqueue(r)[0], run("2")
	s.ok(s.await(late))
	if got := s.get(late); got.State != store.Canceled || string(got.Error) != store.StartByError {
		s.Errorf("not started: %v, %s", got.State, got.Error)
	}
	started.StartIn = time.Minute
	s.enqueue(started)
	c := s.claim(1)[0]
	time.Sleep(2 * time.Minute)
	if s.finish(outcome(c, store.Queued)) { // it has started once
		s.Error("stale")
	}
	time.Sleep(2 * time.Minute)
	s.claim(1)
}

// StartIn counts from the new due time of a run that is debounced, rescheduled or replayed.
func startInFollows(s *suite) {
	check := func(id store.ID, what string, due, by time.Duration) {
		s.Helper()
		r := s.get(id)
		if now := time.Now(); !r.Due.Equal(now.Add(due)) || !r.StartBy.Equal(now.Add(by)) {
			s.Errorf("%s: due in %v, to start in %v; want %v, %v", what, r.Due.Sub(now), r.StartBy.Sub(now), due, by)
		}
	}
	for task, graph := range map[string]*store.Graph{"t": nil, "w": graph(s, nil)} {
		r := run("1")
		r.Task, r.Graph, r.Key, r.KeyTTL, r.Debounce, r.StartIn = task, graph, "k", store.UntilDone, time.Hour, time.Minute
		var id store.ID
		for range 4 {
			r.RunAt = time.Now().Add(30 * time.Second)
			id = s.enqueue(r)[0]
			check(id, "debounced", 30*time.Second, 90*time.Second)
			time.Sleep(20 * time.Second)
		}
		r.StartIn, r.RunAt = 2*time.Minute, time.Now().Add(30*time.Second)
		s.enqueue(r)
		check(id, "debounced with another limit", 30*time.Second, 150*time.Second)
		s.ok(s.reschedule(id, time.Now().Add(time.Hour)))
		check(id, "moved", time.Hour, time.Hour+2*time.Minute)
		s.ok(s.await(id))
		if r := s.get(id); r.State != store.Canceled || !r.StartBy.IsZero() {
			s.Errorf("not started: %v, by %v", r.State, r.StartBy)
		}
		n := s.act(store.ActReplay, store.Filter{IDs: []store.ID{id}})
		if n != 1 || !s.get(id).StartBy.Equal(time.Now().Add(2*time.Minute)) {
			s.Errorf("%d replayed: to start by %v", n, s.get(id).StartBy)
		}
		s.ok(s.await(id))
		if r := s.get(id); r.State != store.Canceled {
			s.Errorf("replayed, and not started again: %v", r.State)
		}
	}
}

// Spent is kept over the waits of an attempt; the next attempt begins anew.
func spentIsKept(s *suite) {
	s.enqueue(run("1"))
	for i, want := range []time.Duration{0, 3 * time.Second, -time.Second, 0} {
		c := s.claim(1)[0]
		if c.Spent != want {
			s.Errorf("execution %d: %v spent, want %v", i+1, c.Spent, want)
		}
		o := outcome(c, store.Waiting)
		o.Waits.Until, o.Spent = time.Now().Add(time.Millisecond), []time.Duration{3 * time.Second, -time.Second, 0, 0}[i]
		if i == 2 {
			o = outcome(c, store.Scheduled)
		}
		s.finish(o)
	}
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
	o.Lease = wrong(o.Lease)
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
	runs, _, err := s.List(s.Context(), store.Filter{}, store.ID{}, len(all)+1)
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

// claimMany claims up to n of a bulk that is being enqueued: all of its runs exist, or none.
func (s *suite) claimMany(all []store.NewRun, n int) []store.Claimed {
	got := s.claim(n)
	runs, _, err := s.List(s.Context(), store.Filter{}, store.ID{}, len(all)+1)
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
		s.ok(s.await(id))
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
	wg.Go(func() { errs[1] = s.await(ids[0]) })
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
