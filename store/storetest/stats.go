package storetest

import (
	"context"
	"errors"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint/store"
)

// counted checks the counts of each state, and that Changed notices all that happens.
func counted(s *suite) {
	mark, err := s.Changed(s.Context(), 0)
	s.ok(err)
	told := make(chan uint64, 1)
	watch := func() {
		n, err := s.Changed(s.Context(), mark)
		s.ok(err)
		told <- n
	}
	go watch()
	synctest.Wait()
	for i := 0; i < 10 && len(told) > 0; i++ { // it may return for nothing, but not again and again
		mark = <-told
		go watch()
		synctest.Wait()
	}
	if len(told) > 0 {
		s.Fatalf("change %d, and nothing had changed since %d", <-told, mark)
	}
	s.enqueue(run("a"), run("b"), run("c"))
	if n := <-told; n <= mark {
		s.Errorf("a change is number %d, after %d", n, mark)
	}
	later := run("later")
	later.RunAt = time.Now().Add(time.Hour)
	s.enqueue(later)
	c := s.claim(2)
	s.finish(store.Outcome{ID: c[0].ID, Lease: c[0].Lease, To: store.Waiting, Waits: store.Waits{Until: time.Now().Add(time.Hour)}})
	s.enqueue(keyed("limited", "k", 1, store.StrategyQueue), keyed("held up", "k", 1, store.StrategyQueue))
	counts := read(s, &store.StateCount{}).Runs
	for state, want := range map[store.State]int{store.Scheduled: 1, store.Queued: 3, store.Running: 1, store.Waiting: 1,
		store.Blocked: 0} {
		if n, ok := counts[state]; n != want || !ok {
			s.Errorf("%d runs are %v, want %d", n, state, want)
		}
	}
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.Changed(ctx, 1<<62); !errors.Is(err, context.Canceled) {
		s.Errorf("Changed with a context that is done: %v", err)
	}
}

// counters checks the counters by minute and hour, also after a reopen.
func counters(s *suite) {
	if _, ok := s.Store.(*Model); ok {
		return // counts nothing
	}
	began := time.Now()
	s.enqueue(run("a"), run("b"), run("c"), run("d"))
	time.Sleep(3 * time.Second)
	c := s.claim(4)
	time.Sleep(2 * time.Second)
	for i, to := range []store.State{store.Succeeded, store.Failed, store.Canceled} {
		o := outcome(c[i], to)
		o.Queue, o.Task, o.Started = c[i].Queue, c[i].Task, c[i].Started
		s.finish(o)
	}
	o := store.Outcome{ID: c[3].ID, Lease: c[3].Lease, To: store.Scheduled, At: time.Now().Add(time.Hour), Queue: c[3].Queue,
		Task: c[3].Task}
	s.finish(o)
	if n := s.act(store.ActCancel, store.Filter{}); n != 1 {
		s.Errorf("canceled %d", n)
	}
	started := int64(4)
	check := func(when string, span time.Duration, perTask bool) {
		s.Helper()
		s.checkCounters(when, began, span, perTask, started)
	}
	time.Sleep(2 * time.Second)
	check("after a while", time.Minute, false)
	check("after a while", time.Hour, true)
	s.ok(s.Close())
	s.Store = s.open(s, s.dir)
	check("after a reopen", time.Hour, false)
	s.enqueue(run("x")) // by another process, in the same minute and hour
	s.worker = s.register()
	s.claim(1)
	started++
	time.Sleep(2 * time.Second)
	check("with another process", time.Hour, true)
	check("after a reopen", time.Minute, true)
	time.Sleep(store.MinutesKept + 2*time.Hour)
	_, err := s.Expire(s.Context(), began, began) // rolls up the rows of both
	s.ok(err)
	if all := read(s, &store.CounterList{Span: time.Minute, Since: began, Of: store.PerTask}).Counters; len(all) != 0 {
		s.Errorf("%d old minutes", len(all))
	}
	check("after a day", time.Hour, true)
}

// checkCounters fails unless the counters since began are those of the rule, with so many runs.
func (s *suite) checkCounters(when string, began time.Time, span time.Duration, perTask bool, started int64) {
	of := store.PerAll
	if perTask {
		of = store.PerTask
	}
	all := read(s, &store.CounterList{Span: span, Since: began, Of: of}).Counters
	var sum store.Counters
	for i := range all {
		if all[i].At.Truncate(span) != all[i].At || (all[i].Task != "") != perTask {
			s.Errorf("%s: counters of %q at %v", when, all[i].Task, all[i].At)
		}
		sum.Add(&all[i])
	}
	if sum.Enqueued != started || sum.Started != started || sum.Succeeded != 1 || sum.Failed != 1 || sum.Canceled != 2 ||
		sum.Retried != 1 {
		s.Errorf("%s, by %v: %+v", when, span, sum)
	}
	if w, d := sum.Waits.Quantile(.5), sum.Durations.Quantile(.5); w < 2700*time.Millisecond || w > 5*time.Second ||
		d < 1800*time.Millisecond || d > 4*time.Second {
		s.Errorf("%s, by %v: waited %v, worked %v; want about 3s and 2s", when, span, w, d)
	}
	if !perTask && (sum.Commits == 0 || sum.Syncs.Count() != sum.Commits) {
		s.Errorf("%s: %d commits, %d of them timed", when, sum.Commits, sum.Syncs.Count())
	}
}

// bounded checks that a page looks at no more runs than Scan.
func bounded(s *suite) {
	if _, ok := s.Store.(*Model); ok {
		return // counts nothing
	}
	var all []store.NewRun
	for range 50 {
		all = append(all, run("x"))
	}
	rare := run("y")
	rare.Task = "rare"
	s.enqueue(rare)
	time.Sleep(time.Second)
	later := time.Now()
	s.enqueue(all...)
	f := store.Filter{Tasks: []string{"rare"}, Scan: 20}
	var before store.ID
	pages, found := 0, 0
	for {
		runs, next, err := s.List(s.Context(), f, before, 10)
		s.ok(err)
		pages, found = pages+1, found+len(runs)
		if next == (store.ID{}) {
			break
		}
		before = next
	}
	if pages != 3 || found != 1 {
		s.Errorf("found %d of 1 in %d pages, want 3", found, pages)
	}
	for _, tt := range []struct {
		since, until time.Time
		found        int
		more         bool
	}{{time.Time{}, later, 1, false}, {later, time.Time{}, 0, true}, {later, later.Add(-time.Millisecond), 0, false},
		{later.Add(-time.Hour), later, 1, false}} {
		f.Since, f.Until = tt.since, tt.until
		runs, next, err := s.List(s.Context(), f, store.ID{}, 10)
		s.ok(err)
		if len(runs) != tt.found || (next != store.ID{}) != tt.more {
			s.Errorf("since %v until %v: %d runs, and more at %v", tt.since, tt.until, len(runs), next)
		}
	}
}

// countsInParts checks that what Count counts is what List lists, at once and in parts.
func countsInParts(s *suite) {
	var all []store.NewRun
	for i := range 40 {
		r := run("x")
		r.Task = []string{"a", "b"}[i%2]
		all = append(all, r)
	}
	ids := s.enqueue(all...)
	for i, c := range s.claim(24) {
		to := []store.State{store.Succeeded, store.Failed, store.Canceled}[i%3]
		s.finish(outcome(c, to))
	}
	for _, tt := range []struct {
		f     store.Filter
		parts int // with Scan 10
	}{{store.Filter{}, 5}, {store.Filter{Tasks: []string{"a"}}, 5}, {store.Filter{States: []store.State{store.Succeeded}}, 5},
		{store.Filter{States: []store.State{store.Failed}}, 1}, {store.Filter{States: []store.State{store.Failed, store.Canceled}}, 1},
		{store.Filter{States: []store.State{store.Queued}, Tasks: []string{"b"}}, 5}, {store.Filter{Through: ids[19]}, 3},
		{store.Filter{IDs: ids[:3]}, 1}, {store.Filter{Since: time.Now().Add(time.Hour)}, 1}} {
		want := len(s.list(tt.f, 7))
		for _, scan := range []int{0, 10} {
			tt.f.Scan = scan
			var before store.ID
			sum, parts := 0, 0
			for more := true; more; more = before != (store.ID{}) {
				n, next, err := s.Count(s.Context(), tt.f, before)
				s.ok(err)
				sum, parts, before = sum+n, parts+1, next
			}
			_, counts := s.Store.(*Model)
			if wantParts := tt.parts; sum != want || scan > 0 && parts != wantParts && !counts {
				s.Errorf("%+v: counted %d in %d parts, want %d in %d", tt.f, sum, parts, want, wantParts)
			}
		}
	}
}
