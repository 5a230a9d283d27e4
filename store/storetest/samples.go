package storetest

import (
	"fmt"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint/store"
)

// sampled checks that once a minute the store notes how deep queues are and how far limits are used, as long as there is
// something to note, also with two processes.
func sampled(s *suite) {
	if _, ok := s.Store.(*Model); ok {
		return // counts nothing
	}
	began := time.Now()
	s.enqueue(run("a"), run("b"), run("c"), keyed("d", "k", 1, store.StrategyQueue), keyed("e", "k", 1, store.StrategyQueue),
		keyed("f", "l", 1, store.StrategyQueue), rated("g", 1, .001, 1), rated("h", 1, .001, 1))
	c := s.claim(3)
	s.passMinutes(2)
	s.passMinutes(2) // nothing happens meanwhile, and the runs still wait
	s.checkSamples("with a backlog", store.PerQueue, time.Minute, began, 2, store.Counters{Queue: "q", Depth: 3, Active: 3})
	s.checkSamples("with a backlog", store.PerLimit, time.Minute, began, 2,
		store.Counters{Limit: store.LimitKey{Name: "t"}, Depth: 1, Active: 2, Max: 2},
		store.Counters{Limit: store.LimitKey{Key: "rate"}, Depth: 1, Active: 1, Max: 1})
	for _, x := range append(c, s.claim(10)...) {
		s.finish(outcome(x, store.Succeeded))
	}
	if n := s.act(store.ActCancel, store.Filter{}); n == 0 {
		s.Errorf("nothing was left to cancel")
	}
	s.passMinutes(10)
	over := time.Now()
	s.enqueue(run("x"))
	for _, x := range s.claim(1) {
		s.finish(outcome(x, store.Succeeded))
	}
	s.passMinutes(10) // all is idle but the rate, whose unit takes 1,000 s to come back
	s.checkSamples("idle", store.PerQueue, time.Minute, over, 0)
	s.checkSamples("for the hour", store.PerQueue, time.Hour, began, 1, store.Counters{Queue: "q", Depth: 3, Active: 3})
	time.Sleep(store.MinutesKept + time.Hour)
	_, err := s.Expire(s.Context(), began, began)
	s.ok(err)
	s.checkSamples("after a day", store.PerQueue, time.Minute, began, 0)
	s.checkSamples("after a day", store.PerQueue, time.Hour, began, 1, store.Counters{Queue: "q", Depth: 3, Active: 3})
}

// passMinutes lets so many minutes pass, one at a time: the store looks at the time of its database.
func (s *suite) passMinutes(n int) {
	for range n {
		time.Sleep(time.Minute)
		synctest.Wait()
	}
}

// checkSamples fails unless there are samples of so many spans or more since a time, and the highest figures are these.
func (s *suite) checkSamples(when string, of store.Per, span time.Duration, since time.Time, least int, want ...store.Counters) {
	s.Helper()
	all := read(s, &store.CounterList{Span: span, Since: since, Of: of}).Counters
	type name struct {
		queue string
		limit store.LimitKey
	}
	most, n := map[name]*store.Counters{}, map[name]int{}
	for i := range all {
		c := &all[i]
		at := name{c.Queue, c.Limit}
		if c.At.Truncate(span) != c.At || c.Task != "" {
			s.Errorf("%s: samples of %+v at %v", when, at, c.At)
		}
		if c.Depth+c.Active == 0 {
			continue
		}
		if n[at]++; most[at] == nil {
			most[at] = &store.Counters{}
		}
		most[at].Add(c)
	}
	got := map[name]string{}
	for at, c := range most {
		got[at] = fmt.Sprint(c.Depth, c.Active, c.Max)
	}
	if len(got) != len(want) {
		s.Errorf("%s, by %v: samples %v, want %d", when, span, got, len(want))
	}
	for _, w := range want {
		at := name{w.Queue, w.Limit}
		if got[at] != fmt.Sprint(w.Depth, w.Active, w.Max) || n[at] < least {
			s.Errorf("%s, by %v: %+v has %q in %d spans, want %d %d %d in %d or more", when, span, at, got[at], n[at],
				w.Depth, w.Active, w.Max, least)
		}
	}
}
