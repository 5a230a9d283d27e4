package storetest

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/stint-dev/stint/store"
)

// The rules of limits and routes.

// keyed returns a run whose key's concurrency is limited.
func keyed(input, key string, limit int, strategy store.Strategy) store.NewRun {
	r := run(input)
	r.Limits = []store.Limit{{Name: "t", Key: key, Max: limit, Strategy: strategy}}
	return r
}

// rated returns a run that takes units of a rate.
func rated(input string, units int, perSecond float64, burst int) store.NewRun {
	r := run(input)
	r.Limits = []store.Limit{{Key: "rate", Units: units, PerSecond: perSecond, Burst: burst}}
	return r
}

// takes claims up to n runs, and checks that they are these.
func (s *suite) takes(n int, want ...string) []store.Claimed {
	s.Helper()
	got := s.claim(n)
	if in := inputs(got); !slices.Equal(in, want) {
		s.Fatalf("claimed %s, want %s", in, want)
	}
	return got
}

func (s *suite) limits(rates bool) []store.LimitInfo {
	s.Helper()
	return read(s, &store.LimitList{Rates: rates}).Limits
}

func concurrency(s *suite) {
	var ids []store.ID
	for _, in := range []string{"1", "2", "3", "4"} {
		ids = append(ids, s.enqueue(keyed(in, "k", 2, store.StrategyQueue))...)
	}
	s.enqueue(keyed("other", "x", 2, store.StrategyQueue))
	got := s.takes(10, "1", "2", "other")
	s.none(s.request(1))
	want := store.LimitInfo{Limit: store.Limit{Name: "t", Key: "k", Max: 2, Strategy: store.StrategyQueue}, Active: 2, Waiting: 2}
	if all := s.limits(false); len(all) != 2 || all[0] != want {
		s.Errorf("limits are %+v, want %+v first", all, want)
	}
	retry := outcome(got[0], store.Scheduled) // holds nothing until it is due
	retry.At = time.Now().Add(time.Minute)
	s.finish(retry)
	s.takes(10, "3")
	s.finish(outcome(got[1], store.Failed))
	s.takes(10, "4")
	if n := s.act(store.ActCancel, store.Filter{IDs: ids[2:3]}); n != 1 {
		s.Errorf("canceled %d", n)
	}
	s.none(s.request(1)) // a run that was asked to cancel has not ended
}

func concurrencyKept(s *suite) {
	if _, ok := s.Store.(*Model); ok {
		return // has nothing to keep
	}
	s.enqueue(keyed("1", "k", 1, store.StrategyQueue), keyed("2", "k", 1, store.StrategyQueue), rated("3", 1, 0.001, 1),
		rated("4", 1, 0.001, 1))
	s.takes(10, "1", "3")
	s.reopen()
	s.takes(10, "1") // its worker left; its start took the units of "3" too
	s.none(s.request(1))
}

// limitsOfScheduled opens a file in which only runs that are not due have a limit, and none has a share.
func limitsOfScheduled(s *suite) {
	if _, ok := s.Store.(*Model); ok {
		return // has nothing to keep
	}
	for _, in := range []string{"1", "2"} {
		r := keyed(in, "k", 1, store.StrategyQueue)
		r.RunAt = time.Now().Add(time.Minute)
		s.enqueue(r)
	}
	s.reopen()
	s.none(s.request(1))
	time.Sleep(time.Minute)
	s.finish(outcome(s.takes(10, "1")[0], store.Succeeded))
	s.takes(10, "2")
}

// limitsOfBulk enqueues the first runs with limits in a large bulk.
func limitsOfBulk(s *suite) {
	s.finish(outcome(s.claimOf(run("before")), store.Succeeded))
	bulk := make([]store.NewRun, 6000)
	for i := range bulk {
		bulk[i] = keyed(strconv.Itoa(i), "k", 1, store.StrategyQueue)
	}
	s.enqueue(bulk...)
	for i := range 3 {
		c := s.takes(10, strconv.Itoa(i))[0]
		s.none(s.request(1))
		s.finish(outcome(c, store.Succeeded))
	}
}

// limitsOfDebounced gives runs a limit, the first in the file, while they are scheduled.
func limitsOfDebounced(s *suite) {
	for _, limited := range []bool{false, true} {
		for _, in := range []string{"1", "2"} {
			r := run(in)
			if limited {
				r = keyed(in, "k", 1, store.StrategyQueue)
			}
			r.Key, r.KeyTTL, r.RunAt, r.Debounce = in, store.UntilDone, time.Now().Add(time.Second), time.Minute
			s.enqueue(r)
		}
	}
	time.Sleep(time.Second)
	s.finish(outcome(s.takes(10, "1")[0], store.Succeeded))
	s.takes(10, "2")
}

// claimOf enqueues a run and claims it.
func (s *suite) claimOf(r store.NewRun) store.Claimed {
	s.Helper()
	s.enqueue(r)
	return s.takes(1, string(r.Input))[0]
}

func severalLimits(s *suite) {
	both := keyed("both", "a", 1, store.StrategyQueue)
	both.Limits = append(both.Limits, store.Limit{Name: "t", Key: "b", Max: 1, Strategy: store.StrategyQueue})
	s.enqueue(keyed("a", "a", 1, store.StrategyQueue))
	a := s.takes(10, "a")[0]
	s.enqueue(both, keyed("b", "b", 1, store.StrategyQueue))
	b := s.takes(10, "b")[0] // a run that waits for a holds no share of b
	s.finish(outcome(a, store.Succeeded))
	s.none(s.request(1))
	s.finish(outcome(b, store.Succeeded))
	s.takes(10, "both")
}

func turns(s *suite) {
	for _, in := range []string{"a1", "a2", "a3", "b1", "b2", "c1"} {
		s.enqueue(keyed(in, in[:1], 2, store.StrategyGroupRoundRobin))
	}
	for _, want := range []string{"a1", "b1", "c1", "a2", "b2", "a3"} {
		c := s.takes(1, want)[0]
		s.finish(outcome(c, store.Succeeded))
	}
}

func cancelNewest(s *suite) {
	first := s.enqueue(keyed("1", "k", 1, store.StrategyCancelNewest))[0]
	second := s.enqueue(keyed("2", "k", 1, store.StrategyCancelNewest))[0]
	s.state(first, store.Queued)
	s.state(second, store.Canceled)
	c := s.takes(10, "1")[0]
	s.state(s.enqueue(keyed("3", "k", 1, store.StrategyCancelNewest))[0], store.Canceled)
	s.finish(outcome(c, store.Succeeded))
	s.state(s.enqueue(keyed("4", "k", 1, store.StrategyCancelNewest))[0], store.Queued)
}

func cancelInProgress(s *suite) {
	first := s.enqueue(keyed("1", "k", 1, store.StrategyCancelInProgress))[0]
	c := s.takes(10, "1")[0]
	second := s.enqueue(keyed("2", "k", 1, store.StrategyCancelInProgress))[0]
	if s.get(first).CancelAt.IsZero() {
		s.Error("the older run was not asked to cancel")
	}
	s.none(s.request(1)) // its share is not free before it has ended
	third := s.enqueue(keyed("3", "k", 1, store.StrategyCancelInProgress))[0]
	s.state(second, store.Canceled)
	s.finish(outcome(c, store.Failed))
	s.state(first, store.Canceled)
	if c := s.takes(10, "3")[0]; c.ID != third {
		s.Errorf("claimed %s, want %s", c.ID, third)
	}
}

func rates(s *suite) {
	s.enqueue(rated("1", 1, 1, 2), rated("2", 1, 1, 2), rated("3", 2, 1, 2), rated("4", 1, 1, 2), run("free"))
	got := s.takes(10, "1", "2", "free")
	from := time.Now()
	s.finish(outcome(got[0], store.Succeeded)) // gives back nothing
	ctx := s.Context()
	for _, want := range []struct {
		input string
		after time.Duration
	}{{"3", 2 * time.Second}, {"4", 3 * time.Second}} {
		c, err := s.Claim(ctx, s.request(10))
		s.ok(err)
		if d := time.Since(from); inputs(c)[0] != want.input || d < want.after || d > want.after+5*time.Millisecond {
			s.Errorf("claimed %s after %v, want %s after %v", inputs(c), d, want.input, want.after)
		}
	}
	all := s.limits(true)
	if len(all) != 1 || all[0].Key != "rate" || all[0].PerSecond != 1 || all[0].Burst != 2 || all[0].Tokens >= 1 {
		s.Errorf("limits are %+v", all)
	}
}

// newestSettings: a limit has the settings of its newest enqueue, for runs that wait and for admitted runs
// that have not started.
func newestSettings(s *suite) {
	const hour = 1.0 / 3600
	none := func() { s.Helper(); s.none(s.request(10)) }
	s.enqueue(rated("1", 1, hour, 1), rated("2", 1, hour, 1))
	s.takes(10, "1")
	none()
	s.enqueue(rated("3", 1, 1000, 1000))
	time.Sleep(10 * time.Millisecond)
	s.takes(10, "2", "3")
	time.Sleep(time.Second)
	s.enqueue(rated("4", 1, 1000, 1000), rated("5", 1, 1000, 1000), rated("6", 1, hour, 1))
	s.takes(10, "4")
	none()
	later := rated("later", 1, 1000, 1000)
	later.RunAt = time.Now().Add(time.Minute)
	s.enqueue(later)
	s.enqueue(rated("7", 1, hour, 1))
	time.Sleep(2 * time.Minute) // it is due, but not the newest
	none()
	s.enqueue(rated("8", 1, 1000, 1000))
	time.Sleep(10 * time.Millisecond)
	s.takes(10, "5", "6", "7", "later", "8")

	for _, n := range []string{"a", "b", "c", "d"} {
		s.enqueue(keyed(n, "k", 1, store.StrategyQueue))
	}
	a := s.takes(10, "a")[0]
	s.enqueue(keyed("e", "k", 3, store.StrategyQueue))
	b := s.takes(1, "b")[0] // and c is admitted
	s.enqueue(keyed("f", "k", 1, store.StrategyQueue))
	none()
	s.finish(outcome(a, store.Succeeded))
	none()
	s.finish(outcome(b, store.Succeeded))
	s.takes(10, "c")

	for _, n := range []string{"1", "2", "3", "4"} {
		s.enqueue(keyed(n, "turns", 1, store.StrategyGroupRoundRobin))
	}
	first := s.takes(10, "1")[0]
	time.Sleep(time.Second)
	s.enqueue(keyed("5", "turns", 3, store.StrategyGroupRoundRobin)) // and 2 is admitted
	s.enqueue(keyed("6", "turns", 1, store.StrategyGroupRoundRobin))
	none()
	s.finish(outcome(first, store.Succeeded))
	s.takes(10, "2")
}

// settingsOfPaused pauses and resumes a key whose only run waits for a rate: the key then has the settings of
// that run.
func settingsOfPaused(s *suite) {
	k := store.LimitKey{Name: "t", Key: "k"}
	both := rated("both", 1, 1, 1)
	both.Limits = append(keyed("", "k", 1, store.StrategyQueue).Limits, both.Limits...)
	s.enqueue(rated("first", 1, 1, 1), both)
	s.takes(10, "first")
	s.ok(s.change(&store.PauseChange{Limit: k, Paused: true}))
	time.Sleep(2 * time.Second)
	s.none(s.request(10))
	s.ok(s.change(&store.PauseChange{Limit: k}))
	s.takes(10, "both")
	want := store.LimitInfo{Limit: store.Limit{Name: "t", Key: "k", Max: 1, Strategy: store.StrategyQueue}, Active: 1}
	if all := s.limits(false); len(all) != 1 || all[0] != want {
		s.Errorf("limits are %+v, want %+v", all, want)
	}
}

func rateFigures(s *suite) {
	ctx := s.Context()
	for _, r := range []store.NewRun{rated("unknown", 1, 0, 0), rated("too many", 3, 1, 2)} {
		if _, err := s.Enqueue(ctx, time.Now(), []store.NewRun{r}); err == nil {
			s.Errorf("%s: enqueued", r.Input)
		}
	}
	if _, err := s.Enqueue(ctx, time.Now(), []store.NewRun{rated("1", 1, 0, 0)}); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("an unknown rate is %v, want ErrNotFound", err)
	}
	s.ok(s.change(&store.RateChange{Key: "rate", PerSecond: 1, Burst: 1}))
	s.enqueue(rated("1", 1, 0, 0), rated("2", 1, 100, 100), rated("3", 1, 0, 0))
	s.takes(10, "1") // SetRate overrides a run's settings
	s.ok(s.change(&store.RateChange{Key: "rate", PerSecond: 1000, Burst: 2}))
	s.takes(1, "2")
	s.takes(1, "3")
}

func pausedLimits(s *suite) {
	k, unused, rate := store.LimitKey{Name: "t", Key: "k"}, store.LimitKey{Name: "t", Key: "unused"}, store.LimitKey{Key: "rate"}
	pause := func(k store.LimitKey, paused bool) {
		s.Helper()
		s.ok(s.change(&store.PauseChange{Limit: k, Paused: paused}))
	}
	if err := s.change(&store.PauseChange{Limit: rate, Paused: true}); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("a rate that is not there: %v, want ErrNotFound", err)
	}
	pause(unused, false)
	pause(unused, true)
	ids := s.enqueue(keyed("1", "k", 1, store.StrategyQueue))
	one := s.takes(10, "1")[0]
	pause(k, true)
	ids = append(ids, s.enqueue(keyed("2", "k", 1, store.StrategyQueue), keyed("3", "unused", 5, store.StrategyCancelNewest),
		keyed("4", "x", 1, store.StrategyQueue), rated("5", 1, 1000, 5))...)
	s.finish(outcome(s.takes(10, "4", "5")[1], store.Succeeded))
	pause(rate, true)
	ids = append(ids, s.enqueue(rated("6", 1, 1000, 5))...)
	s.finish(outcome(one, store.Scheduled)) // a run that held a share waits for its next attempt, too
	time.Sleep(2 * time.Hour)
	_, err := s.Expire(s.Context(), time.Time{}, time.Time{})
	s.ok(err)
	s.none(s.request(10))
	if _, ok := s.Store.(*Model); !ok {
		s.reopen()
		s.takes(10, "4") // it was given back
		s.none(s.request(10))
		for _, id := range ids {
			if r := s.get(id); (r.Limiter != nil && r.Limiter.Paused) != (r.State == store.Queued) {
				s.Errorf("run %s is %v and waits for %+v", r.Input, r.State, r.Limiter)
			}
		}
	}
	all := append(s.limits(false), s.limits(true)...)
	if len(all) != 4 || !all[0].Paused || all[0].Waiting != 2 || !all[1].Paused || all[1].Waiting != 1 || all[2].Paused || !all[3].Paused {
		s.Errorf("limits are %+v", all)
	}
	s.listed(store.Filter{Limit: &k}, "2", "1")
	s.listed(store.Filter{Limit: &k, States: []store.State{store.Running}})
	s.listed(store.Filter{Limit: &rate, States: []store.State{store.Queued}}, "6")
	s.listed(store.Filter{Limit: &store.LimitKey{Name: "t"}})
	pause(rate, false)
	s.takes(10, "6")
	pause(k, false)
	c := s.takes(10, "1")[0]
	s.none(s.request(1))
	pause(unused, false)
	s.takes(10, "3")
	s.finish(outcome(c, store.Succeeded))
	s.takes(10, "2")
}

// listed fails unless the runs that match have these inputs.
func (s *suite) listed(f store.Filter, want ...string) {
	s.Helper()
	runs, _, err := s.List(s.Context(), f, store.ID{}, 100)
	s.ok(err)
	var got []string
	for _, r := range runs {
		got = append(got, string(r.Input))
	}
	if !slices.Equal(got, want) {
		s.Errorf("%+v: runs %s, want %s", f.Limit, got, want)
	}
}

func idleRates(s *suite) {
	slow := rated("slow", 1, 1.0/7200, 1) // its bucket is full again after two hours
	slow.Limits[0].Key = "slow"
	s.ok(s.change(&store.RateChange{Key: "set", PerSecond: 1, Burst: 1}))
	s.enqueue(rated("1", 1, 1, 1), slow)
	s.takes(10, "1", "slow")
	has := func(want ...string) {
		s.Helper()
		var got []string
		for _, l := range s.limits(true) {
			got = append(got, l.Key)
		}
		if !slices.Equal(got, want) {
			s.Errorf("rates %s, want %s", got, want)
		}
	}
	for _, later := range []struct {
		by   time.Duration
		want []string
	}{{time.Minute, []string{"rate", "set", "slow"}}, {time.Hour, []string{"set", "slow"}}, {time.Hour, []string{"set"}}} {
		time.Sleep(later.by)
		_, err := s.Expire(s.Context(), time.Time{}, time.Time{})
		s.ok(err)
		has(later.want...)
	}
}

func routes(s *suite) {
	gpu := run("gpu")
	gpu.Route = store.Route{Wants: []store.Want{{Label: "gpu", Op: "=", Value: "yes"}, {Label: "mem", Op: ">=", Value: "16"}}}
	only := run("only")
	only.Route = store.Route{To: "second", Hard: true}
	s.enqueue(gpu, only, run("any"))
	s.takes(10, "any")
	s.setLabels(s.worker, map[string]string{"gpu": "yes", "mem": "8"})
	s.none(s.request(1))
	s.setLabels(s.worker, map[string]string{"gpu": "yes", "mem": "16"})
	s.takes(10, "gpu")
	s.none(s.request(1))
	second, err := s.Register(s.Context(), store.WorkerInfo{Name: "second", Slots: 1})
	s.ok(err)
	s.none(s.request(1))
	r := s.request(10)
	r.Worker = second
	if got := inputs(s.claimBy(r)); !slices.Equal(got, []string{"only"}) {
		s.Errorf("claimed %s", got)
	}
}

// The tasks of a workflow's run go where the run is routed, also those that come later and those whose worker had no
// handler; what the run says of a label comes before what the task says.
func workflowRoute(s *suite) {
	g := graphOf(s, func(g *store.Graph) {
		g.Tasks[0].Wants = []store.Want{{Label: "zone", Op: "=", Value: "eu"}, {Label: "ssd", Op: "=", Value: "yes"}}
	}, nil, []int{0})
	s.setLabels(s.worker, map[string]string{"zone": "us", "ssd": "yes"})
	id := s.enqueue(store.NewRun{Task: g.Workflow, Queue: "q", Priority: 2, Graph: g,
		Route: store.Route{Wants: []store.Want{{Label: "zone", Op: "=", Value: "us"}}, To: "second", Hard: true}})[0]
	s.none(s.request(1))
	second, err := s.Register(s.Context(), store.WorkerInfo{Name: "second", Slots: 1, Labels: map[string]string{"zone": "us"}})
	s.ok(err)
	bySecond := s.request(1)
	bySecond.Worker = second
	s.none(bySecond) // the task's own want stays
	s.setLabels(second, map[string]string{"zone": "us", "ssd": "yes"})
	a := s.claimBy(bySecond)[0]
	o := outcome(a, store.Queued)
	o.Parent, o.Node, o.NoHandler = a.Parent, a.Node, true
	s.finish(o)
	s.none(s.request(1))
	s.end(s.claimBy(bySecond)[0], store.Succeeded)
	s.none(s.request(1))
	s.end(s.claimBy(bySecond)[0], store.Succeeded)
	s.tasks(id, "a succeeded", "b succeeded")
}

func preferred(s *suite) {
	better, err := s.Register(s.Context(), store.WorkerInfo{Name: "better", Slots: 1, Labels: map[string]string{"near": "yes"}})
	s.ok(err)
	near := func(input string) store.NewRun {
		r := run(input)
		r.Route = store.Route{Wants: []store.Want{{Label: "near", Op: "=", Value: "yes", Weight: 100}}}
		return r
	}
	s.enqueue(near("1"))
	s.none(s.request(1)) // the better worker has a slot free
	r := s.request(1)
	r.Worker = better
	if got := inputs(s.claimBy(r)); !slices.Equal(got, []string{"1"}) {
		s.Errorf("claimed %s", got)
	}
	s.enqueue(near("2"))
	s.takes(1, "2") // now it has none
	s.setLabels(better, map[string]string{})
	s.enqueue(near("3"))
	s.takes(1, "3")
}

func slotCosts(s *suite) {
	heavy := run("heavy")
	heavy.Task = "heavy"
	s.enqueue(run("1"), heavy, run("2"))
	r := s.request(3)
	r.Cost = func(task string) int {
		if task == "heavy" {
			return 3
		}
		return 1
	}
	if got := inputs(s.claimBy(r)); !slices.Equal(got, []string{"1"}) {
		s.Errorf("claimed %s, want what is next and does not fit to hold up what is behind it", got)
	}
	if got := inputs(s.claimBy(r)); !slices.Equal(got, []string{"heavy"}) {
		s.Errorf("claimed %s", got)
	}
	if got := inputs(s.claimBy(r)); !slices.Equal(got, []string{"2"}) {
		s.Errorf("claimed %s", got)
	}
}
