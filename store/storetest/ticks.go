package storetest

import (
	"slices"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint/store"
)

// The rules of ticks that came while the store was closed.

// missedTicks closes the store for up to a month.
func missedTicks(s *suite) {
	if _, ok := s.Store.(*Model); ok {
		return // has nothing to keep
	}
	for _, c := range []struct {
		name string
		c    store.CatchUp
	}{{"grace", store.CatchUpGrace}, {"none", store.CatchUpNone}, {"latest", store.CatchUpLatest}, {"all", store.CatchUpAll}} {
		cron := cronOf(c.name, "0 * * * *", `"`+c.name+`"`)
		cron.CatchUp = c.c
		s.ok(s.setCron(cron))
	}
	away := func(until time.Duration) []string { // past a full hour
		s.Helper()
		s.ok(s.Close())
		time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(until)))
		s.Store = s.open(s, s.dir)
		s.worker = s.register()
		var got []string
		for {
			n := len(got)
			if s.cron("all").Next.After(time.Now()) {
				for _, c := range s.claim(1000) {
					got = append(got, string(c.Input))
					s.finish(outcome(c, store.Succeeded))
				}
			} else {
				time.Sleep(10 * time.Millisecond)
			}
			if len(got) == n {
				continue
			}
			slices.Sort(got)
			return got
		}
	}
	if got := away(2*time.Hour + 30*time.Second); !slices.Equal(got, []string{`"all"`, `"all"`, `"grace"`, `"latest"`}) {
		s.Errorf("half a minute after the second tick: %s", got)
	}
	if got := away(time.Hour + 30*time.Minute); !slices.Equal(got, []string{`"all"`, `"latest"`}) {
		s.Errorf("half an hour after a tick: %s", got)
	}
	month := away(30*24*time.Hour + 10*time.Minute)
	if n := len(month); n != 30*24+1 || month[n-1] != `"latest"` {
		s.Errorf("after a month: %d runs", n)
	}
}

// missedTicksWait opens the store, as a command that changes something does: ticks that were missed start no run until a worker takes
// runs, or a while has passed.
func missedTicksWait(s *suite) {
	if _, ok := s.Store.(*Model); ok {
		return // has nothing to keep
	}
	for _, spec := range []string{"0 * * * *", "@every 3s"} {
		c := cronOf(spec, spec, "1")
		c.CatchUp = store.CatchUpLatest
		s.ok(s.setCron(c))
	}
	count := func() int {
		s.Helper()
		n, _, err := s.Count(s.Context(), store.Filter{}, store.ID{})
		s.ok(err)
		return n
	}
	open := func() int {
		s.Helper()
		s.ok(s.Close())
		time.Sleep(90 * time.Minute)
		s.Store = s.open(s, s.dir)
		return count()
	}
	had := open()
	time.Sleep(5 * time.Second)
	synctest.Wait()
	if n := count(); n != had {
		s.Errorf("%d runs began without a worker", n-had)
	}
	s.worker = s.register()
	if n := len(s.claim(1000)); n != 2 {
		s.Errorf("a worker that takes runs gets %d, want one of each cron", n)
	}
	had = open()
	time.Sleep(20 * time.Second)
	synctest.Wait()
	if n := count(); n < had+2 {
		s.Errorf("%d runs began in time, want one of each cron and those of the ticks since", n-had)
	}
}
