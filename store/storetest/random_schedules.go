package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint/store"
	"pgregory.net/rapid"
)

// both applies a verb to one of the stores and to the model, and compares the errors.
func (p *pair) both(rt *rapid.T, f func(s store.Store) error) {
	got, want := f(p.stores[p.side(rt)]), f(p.model)
	for _, err := range []error{store.ErrNotFound, store.ErrTaken, store.ErrStarted} {
		if errors.Is(got, err) != errors.Is(want, err) {
			rt.Fatalf("%v, want %v", got, want)
		}
	}
	if (got == nil) != (want == nil) {
		rt.Fatalf("%v, want %v", got, want)
	}
}

func (p *pair) publish(rt *rapid.T) {
	events := make([]store.NewEvent, rapid.IntRange(1, 3).Draw(rt, "events"))
	for i := range events {
		events[i] = store.NewEvent{
			Key:     rapid.SampledFrom([]string{"e", "e", "e.f", "g"}).Draw(rt, "key"),
			Payload: fmt.Appendf(nil, `{"n":%d}`, rapid.IntRange(0, 1).Draw(rt, "n")),
			Scope:   rapid.SampledFrom([]string{"", "s", "t"}).Draw(rt, "scope"),
		}
		if p := int8(rapid.IntRange(1, 4).Draw(rt, "priority")); p < 4 {
			events[i].Priority = &p
		}
		if rapid.IntRange(0, 3).Draw(rt, "delivered") == 0 {
			events[i].Delivery = fmt.Sprint(rapid.IntRange(0, 9).Draw(rt, "delivery"))
		}
	}
	p.both(rt, func(s store.Store) error {
		_, err := s.Publish(p.t.Context(), p.now(), events)
		return err
	})
}

// declare declares a trigger of a task, or none.
func (p *pair) declare(rt *rapid.T) {
	d := store.Declaration{Task: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "task")}
	for range rapid.IntRange(0, 2).Draw(rt, "triggers") {
		r := store.NewRun{Task: d.Task, Queue: "q", Priority: 2, AgeEvery: time.Minute}
		if rapid.IntRange(0, 3).Draw(rt, "plain") == 0 {
			r.Key, r.KeyTTL = "x", time.Minute
		}
		d.Triggers = append(d.Triggers, store.Trigger{
			Key:      rapid.SampledFrom([]string{"e", "e*", "*", "g"}).Draw(rt, "key"),
			Filter:   rapid.SampledFrom([]string{"", "", `"n":1`}).Draw(rt, "filter"),
			Template: store.Template{Run: r},
		})
	}
	p.both(rt, func(s store.Store) error { return s.Declare(p.t.Context(), p.now(), []store.Declaration{d}) })
}

// filter creates or deletes a filter of a task.
func (p *pair) filter(rt *rapid.T) {
	if rapid.Bool().Draw(rt, "delete") {
		id := int64(rapid.IntRange(1, 4).Draw(rt, "id"))
		p.both(rt, func(s store.Store) error {
			return s.Change(p.t.Context(), p.now(), &store.FilterChange{Filter: store.TaskFilter{ID: id}})
		})
		return
	}
	f := store.TaskFilter{
		Task:  rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "task"),
		Scope: rapid.SampledFrom([]string{"s", "t"}).Draw(rt, "scope"),
		Expr:  rapid.SampledFrom([]string{"", `"n":0`, "payload", "event_id"}).Draw(rt, "expr"),
	}
	if rapid.Bool().Draw(rt, "with payload") {
		f.Payload = fmt.Append(nil, rapid.IntRange(0, 1).Draw(rt, "payload"))
	}
	var ids []int64
	p.both(rt, func(s store.Store) error {
		c := store.FilterChange{Filter: f}
		err := s.Change(p.t.Context(), p.now(), &c)
		ids = append(ids, c.ID)
		return err
	})
	if ids[0] != ids[1] {
		rt.Fatalf("filter %d, want %d", ids[0], ids[1])
	}
}

// cron sets or changes a cron. There is only one: what happens at one instant has no order.
func (p *pair) cron(rt *rapid.T) {
	const name = "cron"
	spec := func() string { return fmt.Sprintf("@every %ds", 20*rapid.IntRange(1, 3).Draw(rt, "every")) }
	switch what := rapid.IntRange(0, 6).Draw(rt, "what"); what {
	case 0, 1, 2:
		r := store.NewRun{Task: rapid.SampledFrom([]string{"a", "a", "b"}).Draw(rt, "task"), Queue: "q", Priority: 2,
			AgeEvery: time.Minute, Input: []byte(`"tick"`)}
		c := store.Cron{Name: name, Spec: spec(), Template: store.Template{Run: r}}
		p.changeCron(rt, store.CronChange{Kind: store.CronSet, Cron: c})
	case 3:
		p.changeCron(rt, store.CronChange{Kind: store.CronSpec, Name: name, Spec: spec()})
	default:
		kinds := []store.CronChangeKind{store.CronPause, store.CronResume, store.CronResume, store.CronDelete, store.CronTrigger,
			store.CronTrigger}
		p.changeCron(rt, store.CronChange{Kind: rapid.SampledFrom(kinds).Draw(rt, "change"), Name: name})
	}
}

func (p *pair) changeCron(rt *rapid.T, c store.CronChange) {
	p.both(rt, func(s store.Store) error {
		return s.Change(p.t.Context(), p.now(), &c)
	})
}

func (p *pair) reschedule(rt *rapid.T) {
	if len(p.ids) == 0 {
		return
	}
	i := rapid.IntRange(0, len(p.ids)-1).Draw(rt, "run")
	at := time.Now().Add(time.Duration(rapid.IntRange(-5, 60).Draw(rt, "in"))*time.Second + p.jitter())
	of := map[bool]store.ID{true: p.twins[i], false: p.ids[i]}
	p.both(rt, func(s store.Store) error {
		return s.Change(p.t.Context(), p.now(), &store.RunChange{Kind: store.RunReschedule, ID: of[s == store.Store(p.model)], Due: at})
	})
}

// compareSchedules compares the crons, and the events with the runs that they started and woke, with those of the
// model.
func (p *pair) compareSchedules(rt *rapid.T, all, twins []store.Run) {
	if d := cmp.Diff(p.schedules(p.model, twins), p.schedules(p.stores[0], all)); d != "" {
		rt.Fatalf("crons and events (-want +got):\n%s", d)
	}
	p.compareErrors(rt)
}

func (p *pair) schedules(s store.Store, runs []store.Run) (all []string) {
	place := map[store.ID]int{}
	for i, r := range runs {
		place[r.ID] = i + 1
	}
	places := func(ids []store.ID) (is []int) {
		for _, id := range ids {
			is = append(is, place[id])
		}
		slices.Sort(is)
		return is
	}
	crons, events := store.CronList{Limit: 10}, store.EventList{Limit: 1000}
	p.ok(s.Read(p.t.Context(), &crons))
	for _, c := range crons.Crons {
		all = append(all, fmt.Sprint(c.Name, c.Spec, c.Paused, c.Next.Unix(), c.Last.Unix(), c.Template.Run.Task, place[c.LastRun],
			c.Error))
	}
	p.ok(s.Read(p.t.Context(), &events))
	for _, e := range events.Events {
		all = append(all, fmt.Sprint(e.Key, string(e.Payload), e.Scope, e.Delivery, e.At.UnixMilli(), places(e.Started), places(e.Woke)))
	}
	return all
}
