package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// The rules of crons, triggers and events.

func cronOf(name, spec, input string) store.Cron {
	return store.Cron{Name: name, Spec: spec, Template: store.Template{Run: run(input)}}
}

// cron reads one cron.
func (s *suite) cron(name string) store.Cron {
	s.Helper()
	all := read(s, &store.CronList{Limit: 100}).Crons
	for _, c := range all {
		if c.Name == name {
			return c
		}
	}
	s.Fatalf("no cron %q among %v", name, all)
	return store.Cron{}
}

func metadata(b []byte) map[string]string {
	m := map[string]string{}
	json.Unmarshal(b, &m)
	return m
}

func cronTicks(s *suite) {
	s.ok(s.setCron(cronOf("minutely", "* * * * *", "1")))
	s.ok(s.setCron(cronOf("often", "@every 90s", "2")))
	began := time.Now().Truncate(time.Minute)
	s.none(s.request(1))
	for _, want := range []struct {
		cron string
		at   time.Duration
	}{{"minutely", time.Minute}, {"often", 90 * time.Second}, {"minutely", 2 * time.Minute}} {
		got, err := s.Claim(s.Context(), s.request(10))
		s.ok(err)
		tick := began.Add(want.at)
		if len(got) != 1 || metadata(got[0].Metadata)[store.MetaCron] != want.cron ||
			metadata(got[0].Metadata)[store.MetaTick] != tick.UTC().Format(time.RFC3339) {
			s.Fatalf("claimed %s %s, want a run of %s at %v", inputs(got), got[0].Metadata, want.cron, tick)
		}
		if late := time.Since(tick); late < 0 || late > 10*time.Millisecond {
			s.Errorf("%s is %v late", want.cron, late)
		}
		if c := s.cron(want.cron); !c.Last.Equal(tick) || c.LastRun != got[0].ID || !c.Next.After(tick) {
			s.Errorf("cron is %+v after a tick at %v that made %s", c, tick, got[0].ID)
		}
		s.finish(outcome(got[0], store.Succeeded))
	}
}

func cronChanges(s *suite) {
	set := func(c store.Cron) { s.Helper(); s.ok(s.setCron(c)) }
	change := func(name string, kind store.CronChangeKind) {
		s.Helper()
		_, err := s.changeCron(name, kind)
		s.ok(err)
	}
	set(cronOf("a", "@every 1h", "1"))
	next := s.cron("a").Next
	time.Sleep(time.Minute)
	set(cronOf("a", "@every 1h", "2")) // the same times, another input
	if c := s.cron("a"); !c.Next.Equal(next) || string(c.Template.Run.Input) != "2" {
		s.Errorf("replaced: %+v, want it to go on at %v", c, next)
	}
	set(cronOf("a", "@every 2h", "2"))
	if c := s.cron("a"); !c.Next.After(next) {
		s.Errorf("replaced by another spec: next %v", c.Next)
	}
	id, err := s.changeCron("a", store.CronTrigger)
	s.ok(err)
	if got := s.takes(10, "2"); got[0].ID != id {
		s.Errorf("claimed %s, want %s", got[0].ID, id)
	}
	change("a", store.CronPause)
	time.Sleep(5 * time.Hour)
	s.none(s.request(1))
	if c := s.cron("a"); !c.Paused || !c.Next.IsZero() {
		s.Errorf("paused: %+v", c)
	}
	set(cronOf("a", "@every 1h", "3")) // stays paused
	s.none(s.request(1))
	change("a", store.CronResume)
	if c := s.cron("a"); c.Paused || time.Until(c.Next) > time.Hour || time.Until(c.Next) < time.Hour-time.Second {
		s.Errorf("resumed: %+v", c)
	}
	change("a", store.CronDelete)
	time.Sleep(5 * time.Hour)
	s.none(s.request(1))
	other := cronOf("b", "@daily", "1")
	set(other)
	other.Template.Run.Task = "another"
	if err := s.setCron(other); !errors.Is(err, store.ErrTaken) {
		s.Errorf("a cron of another task: %v, want ErrTaken", err)
	}
	if _, err := s.changeCron("none", store.CronPause); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("pause of none: %v", err)
	}
	if _, err := s.changeCron("none", store.CronTrigger); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("trigger of none: %v", err)
	}
	if err := s.setCron(cronOf("c", "nonsense", "1")); err == nil {
		s.Error("took a bad spec")
	}
}

// cronSpecs checks that a cron gets another spec, and keeps the rest.
func cronSpecs(s *suite) {
	change := func(name, spec string) error {
		return s.change(&store.CronChange{Kind: store.CronSpec, Name: name, Spec: spec})
	}
	is := func(spec string, next time.Duration) {
		s.Helper()
		c := s.cron("a")
		late := (time.Until(c.Next) - next).Abs() > time.Second
		if c.Spec != spec || string(c.Template.Run.Input) != "2" || c.Next.IsZero() != (next == 0) || next > 0 && late {
			s.Errorf("%+v, want spec %s, next in %v", c, spec, next)
		}
	}
	s.ok(s.setCron(cronOf("a", "@every 1h", "2")))
	s.ok(change("a", "@every 3h"))
	is("@every 3h", 3*time.Hour)
	time.Sleep(time.Hour)
	s.ok(change("a", "@every 3h")) // its ticks continue
	is("@every 3h", 2*time.Hour)
	_, err := s.changeCron("a", store.CronPause)
	s.ok(err)
	s.ok(change("a", "@every 1h")) // it stays paused
	is("@every 1h", 0)
	if err := change("none", "@daily"); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("a spec for none: %v", err)
	}
	if change("a", "nonsense") == nil {
		s.Error("took a bad spec")
	}
}

func trigger(key, filter string) store.Trigger {
	tr := store.Trigger{Key: key, Filter: filter, Template: store.Template{Run: run("")}}
	tr.Template.Run.Input = nil
	return tr
}

func (s *suite) declare(d store.Declaration) {
	s.Helper()
	d.Task = "t"
	s.ok(s.Declare(s.Context(), time.Now(), []store.Declaration{d}))
}

// publish publishes events whose payloads are their keys.
func (s *suite) publish(keys ...string) {
	s.Helper()
	for _, k := range keys {
		_, err := s.Publish(s.Context(), time.Now(), []store.NewEvent{{Key: k, Payload: []byte(`"` + k + `"`)}})
		s.ok(err)
	}
}

func declared(s *suite) {
	s.ok(s.setCron(cronOf("kept", "@daily", "1")))
	hourly, daily := cronOf("t:@hourly", "@hourly", "1"), cronOf("t:@daily", "@daily", "1")
	s.declare(store.Declaration{Crons: []store.Cron{hourly, daily}, Triggers: []store.Trigger{trigger("a", "")}})
	next := s.cron("t:@daily").Next
	time.Sleep(time.Minute)
	s.declare(store.Declaration{Crons: []store.Cron{daily}, Triggers: []store.Trigger{trigger("b", "")}})
	all := read(s, &store.CronList{Limit: 10}).Crons
	if len(all) != 2 || all[0].Name != "kept" || all[1].Name != "t:@daily" || !all[1].Declared || !all[1].Next.Equal(next) {
		s.Errorf("crons %+v", all)
	}
	s.publish("a", "b")
	s.takes(10, `"b"`)
	if _, err := s.changeCron("t:@daily", store.CronDelete); !errors.Is(err, store.ErrTaken) {
		s.Errorf("deleting a declared cron: %v, want ErrTaken", err)
	}
	if err := s.setCron(daily); !errors.Is(err, store.ErrTaken) {
		s.Errorf("replacing a declared cron: %v, want ErrTaken", err)
	}
	s.declare(store.Declaration{})
	s.publish("b")
	s.none(s.request(1))
}

func triggers(s *suite) {
	s.declare(store.Declaration{Triggers: []store.Trigger{
		trigger("order.paid", ""), trigger("order.*", "big"), trigger("*.paid", ""), trigger("nothing", ""), trigger("a_b", ""),
	}})
	s.publish("order.paid")
	s.takes(10, `"order.paid"`, `"order.paid"`)
	s.publish("order.big", "order.small", "axb") // "_" is just itself
	got := s.takes(10, `"order.big"`)
	if m := metadata(got[0].Metadata); m[store.MetaEventKey] != "order.big" || m[store.MetaEvent] == "" {
		s.Errorf("metadata %v", m)
	}
	made := run("")
	made.Limits = []store.Limit{{Name: "t", Key: "k", Max: 1, Strategy: store.StrategyQueue}}
	e := store.NewEvent{Key: "nothing", Payload: []byte("7"), Metadata: []byte(`{"a":"b"}`), Runs: map[string]store.NewRun{"t": made}}
	_, err := s.Publish(s.Context(), time.Now(), []store.NewEvent{e, e})
	s.ok(err)
	if got := s.takes(10, "7"); metadata(got[0].Metadata)["a"] != "b" {
		s.Errorf("metadata %s", got[0].Metadata)
	}
	via := trigger("via", "")
	via.Template.Via = "t2"
	s.declare(store.Declaration{Triggers: []store.Trigger{via}})
	s.publish("via")
	if got := s.takes(10, `"via"`); got[0].Task != "t2" {
		s.Errorf("claimed a run of %q, want one of the task that knows the limits", got[0].Task)
	}
}

// filterVariables checks that an expression gets the payload of each filter that has it, and the event's ID, and that
// the runs get the event's priority.
func filterVariables(s *suite) {
	ctx := s.Context()
	s.declare(store.Declaration{Triggers: []store.Trigger{trigger("e", "")}})
	for _, f := range []store.TaskFilter{{Scope: "payloads", Expr: "payload", Payload: []byte(`"one"`)},
		{Scope: "payloads", Expr: "payload", Payload: []byte(`"two"`)}, {Scope: "ids", Expr: "event_id"}} {
		f.Task = "t"
		s.ok(s.change(&store.FilterChange{Filter: f}))
	}
	publish := func(scope, payload string) {
		s.Helper()
		_, err := s.Publish(ctx, time.Now(), []store.NewEvent{{Key: "e", Payload: []byte(payload), Scope: scope}})
		s.ok(err)
	}
	publish("payloads", `["one","two"]`)
	s.takes(10, `["one","two"]`, `["one","two"]`)
	publish("payloads", `["two"]`)
	if got := s.takes(10, `["two"]`); metadata(got[0].Metadata)[store.MetaPayload] != `"two"` {
		s.Errorf("started by the filter with the payload %s", got[0].Metadata)
	}
	high := int8(9)
	_, err := s.Publish(ctx, time.Now(), []store.NewEvent{{Key: "e", Payload: []byte(`"any"`), Scope: "ids", Priority: &high}})
	s.ok(err)
	if got := s.takes(10, `"any"`); got[0].Priority != high {
		s.Errorf("priority %d, want the event's", got[0].Priority)
	}
	if p := read(s, &store.EventList{Limit: 1}).Events[0].Priority; p == nil || *p != high {
		s.Errorf("the event's priority is %v", p)
	}
}

func taskFilters(s *suite) {
	ctx := s.Context()
	s.declare(store.Declaration{Triggers: []store.Trigger{trigger("e", "")}})
	var ids []int64
	for i, f := range []store.TaskFilter{{Scope: "x", Expr: "big"}, {Scope: "x", Expr: "b", Payload: []byte(`{"n":1}`)},
		{Scope: "y", Expr: "big"}} {
		f.Task = "t"
		c := store.FilterChange{Filter: f}
		s.ok(s.change(&c))
		if ids = append(ids, c.ID); i > 0 && c.ID <= ids[i-1] {
			s.Errorf("filters %v", ids)
		}
	}
	publish := func(scope, payload string) {
		s.Helper()
		_, err := s.Publish(ctx, time.Now(), []store.NewEvent{{Key: "e", Payload: []byte(payload), Scope: scope}})
		s.ok(err)
	}
	publish("x", `"big"`)
	got := s.takes(10, `"big"`, `"big"`)
	if p := metadata(got[1].Metadata)[store.MetaPayload]; p != `{"n":1}` {
		s.Errorf("the second filter's payload is %q", p)
	}
	publish("y", `"b"`)
	publish("z", `"big"`)
	publish("", `"big"`)
	s.none(s.request(1))
	all := read(s, &store.FilterList{Task: "t", Limit: 100}).Filters
	if len(all) != 3 || all[1].ID != ids[1] || all[1].Expr != "b" {
		s.Errorf("filters %+v", all)
	}
	update := store.FilterChange{Filter: store.TaskFilter{ID: ids[2], Task: "t", Scope: "z", Expr: "big"}}
	if s.ok(s.change(&update)); update.ID != ids[2] {
		s.Errorf("an update of filter %d has the answer %d", ids[2], update.ID)
	}
	publish("y", `"big"`)
	publish("z", `"big"`)
	s.takes(10, `"big"`)
	if err := s.change(&store.FilterChange{Filter: store.TaskFilter{ID: 1 << 30, Task: "t"}}); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("an update of what is not there: %v", err)
	}
	for _, id := range ids {
		s.ok(s.change(&store.FilterChange{Filter: store.TaskFilter{ID: id}}))
	}
	if err := s.change(&store.FilterChange{Filter: store.TaskFilter{ID: ids[0]}}); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("deleted twice: %v", err)
	}
	publish("", `"big"`)
	s.takes(10, `"big"`)
}

func deliveries(s *suite) {
	s.declare(store.Declaration{Triggers: []store.Trigger{trigger("e", "")}})
	var ids []store.ID
	for i := range 2 {
		got, err := s.Publish(s.Context(), time.Now(), []store.NewEvent{{Key: "e", Payload: fmt.Append(nil, i), Delivery: "one"}})
		s.ok(err)
		ids = append(ids, got...)
	}
	if ids[0] != ids[1] {
		s.Errorf("two events %v", ids)
	}
	s.takes(10, "0")
}

func eventHistory(s *suite) {
	ctx := s.Context()
	s.declare(store.Declaration{Triggers: []store.Trigger{trigger("e", "")}})
	waiting := s.enqueue(run("waits"))[0]
	c := s.takes(1, "waits")[0]
	_, stale, err := s.Append(ctx, time.Now(), store.Call{ID: c.ID, Lease: c.Lease, Entry: store.Entry{Address: store.Address{Seq: 1},
		Kind: store.EntryEvent, Name: "e"}})
	s.ok(err)
	if stale {
		s.Fatal("stale")
	}
	s.publish("e")
	started := s.takes(1, `"e"`)[0].ID
	s.publish("unwanted")
	all := read(s, &store.EventList{Limit: 10}).Events
	if len(all) != 2 || all[0].Key != "unwanted" || len(all[0].Started)+len(all[0].Woke) != 0 {
		s.Fatalf("events %+v", all)
	}
	e := all[1]
	if string(e.Payload) != `"e"` || !slices.Equal(e.Started, []store.ID{started}) || !slices.Equal(e.Woke, []store.ID{waiting}) {
		s.Errorf("event %+v, want it to have started %s and woken %s", e, started, waiting)
	}
	if page := read(s, &store.EventList{Before: all[0].ID, Limit: 10}).Events; len(page) != 1 || page[0].ID != e.ID {
		s.Errorf("the next page: %+v", page)
	}
	eventsBy(s, &e)
	if n := len(s.list(store.Filter{Event: e.ID}, 10)); n != 1 {
		s.Errorf("%d runs were started by the event, want 1", n)
	}
	time.Sleep(time.Hour)
	s.publish("young")
	marked, err := s.Publish(ctx, time.Now(), []store.NewEvent{{Key: "marked", Payload: []byte("1"), Metadata: []byte(`{"k":"v"}`)}})
	s.ok(err)
	page := read(s, &store.EventList{Filter: store.EventFilter{Metadata: map[string]string{"k": "v"}}, Limit: 10}).Events
	if len(page) != 1 || page[0].ID != marked[0] {
		s.Errorf("by metadata: %+v", page)
	}
	_, err = s.Expire(ctx, time.Now().Add(-time.Minute), time.Time{})
	s.ok(err)
	if all = read(s, &store.EventList{Limit: 10}).Events; len(all) != 2 || all[1].Key != "young" {
		s.Errorf("after they expired: %+v", all)
	}
}

// eventsBy lists e, and a later one with the key unwanted, by all that a filter has.
func eventsBy(s *suite, e *store.EventInfo) {
	for name, tt := range map[string]struct {
		f    store.EventFilter
		want int
	}{
		"one key":  {store.EventFilter{Keys: []string{"unwanted"}}, 1},
		"two keys": {store.EventFilter{Keys: []string{"e", "unwanted"}}, 2}, "no key": {store.EventFilter{Keys: []string{}}, 0},
		"IDs":                  {store.EventFilter{IDs: []store.ID{e.ID, {1}}}, 1},
		"an ID of another key": {store.EventFilter{IDs: []store.ID{e.ID}, Keys: []string{"x"}}, 0},
		"since then":           {store.EventFilter{Since: e.At}, 2}, "until then": {store.EventFilter{Until: e.At}, 0},
		"since later": {store.EventFilter{Since: e.At.Add(time.Second)}, 0},
		"until later": {store.EventFilter{Until: e.At.Add(time.Second)}, 2},
		"metadata":    {store.EventFilter{Metadata: map[string]string{"k": "v"}}, 0},
	} {
		if page := read(s, &store.EventList{Filter: tt.f, Limit: 10}).Events; len(page) != tt.want {
			s.Errorf("%s: %+v, want %d", name, page, tt.want)
		}
	}
}

func reschedule(s *suite) {
	r := run("1")
	r.RunAt, r.StartIn = time.Now().Add(time.Hour), time.Hour
	id := s.enqueue(r)[0]
	move := func(to time.Duration) error { return s.reschedule(id, time.Now().Add(to)) }
	s.ok(move(5 * time.Hour))
	time.Sleep(4 * time.Hour)
	s.state(id, store.Scheduled)
	s.ok(move(time.Minute))
	s.none(s.request(1))
	time.Sleep(time.Minute)
	c := s.takes(1, "1")[0]
	if err := move(time.Hour); !errors.Is(err, store.ErrStarted) {
		s.Errorf("moved a run that runs: %v", err)
	}
	retry := outcome(c, store.Scheduled)
	retry.At = time.Now().Add(time.Hour)
	s.finish(retry)
	if err := move(time.Minute); !errors.Is(err, store.ErrStarted) {
		s.Errorf("moved a retry: %v", err)
	}
	if err := s.reschedule(store.ID{}, time.Now()); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("moved nothing: %v", err)
	}
	r.RunAt, r.StartIn = time.Now().Add(time.Hour), 0
	id = s.enqueue(r)[0]
	s.ok(move(-time.Hour))
	s.takes(1, "1")
}

// A declaration ends when a worker of its program registers without the task, unless a living worker has it; if
// it is back within a moment it has missed no event.
func declaredGoes(s *suite) {
	ctx := s.Context()
	s.ok(s.Unregister(ctx, s.worker))
	made := store.Template{Run: run("")}
	declare := func() {
		s.declare(store.Declaration{Task: "t", Program: "p", Crons: []store.Cron{{Name: "c", Spec: "@every 1h", Template: made}},
			Triggers: []store.Trigger{{Key: "e", Template: made}}})
	}
	worker := func(program string, tasks ...string) int64 {
		id, err := s.Register(ctx, store.WorkerInfo{Name: "w", Program: program, Tasks: tasks, Defines: tasks})
		s.ok(err)
		return id
	}
	there := func(what string, want int) {
		s.Helper()
		if all := read(s, &store.CronList{Limit: 10}).Crons; len(all) != want {
			s.Errorf("%s: %d crons, want %d", what, len(all), want)
		}
	}
	declare()
	has := worker("p", "t")
	worker("p", "other")
	there("beside a living worker that has the task", 1)
	if _, err := s.changeCron("c", store.CronDelete); !errors.Is(err, store.ErrTaken) {
		s.Errorf("deleted what a living worker has: %v", err)
	}
	s.ok(s.Unregister(ctx, has))
	worker("another", "other")
	there("after a worker of another program", 1)
	worker("p", "other")
	there("after a worker of the program that lacks the task", 0)
	s.publish("e")
	time.Sleep(30 * time.Second)
	declare()
	there("declared again", 1)
	if n := len(s.list(store.Filter{Tasks: []string{"t"}}, 10)); n != 1 {
		s.Errorf("%d runs, want that of the event that came meanwhile", n)
	}
	_, err := s.changeCron("c", store.CronDelete)
	s.ok(err)
	there("deleted by hand, of nobody", 0)
}
