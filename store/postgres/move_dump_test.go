package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stint-dev/stint/store"
)

// dump returns all that a store tells by its public methods, a text each.
func dump(t testing.TB, s store.Store, counters bool) (all []string) {
	t.Helper()
	ctx := context.Background()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	add := func(what string, v any) {
		b, err := json.Marshal(v)
		ok(err)
		all = append(all, what+" "+string(b))
	}
	runs, _, err := s.List(ctx, store.Filter{}, store.ID{}, 1<<20)
	ok(err)
	for _, r := range runs {
		run, err := s.Get(ctx, r.ID)
		ok(err)
		add("run", run)
		entries, _, err := s.Entries(ctx, r.ID, store.Address{}, -1, true)
		ok(err)
		add("entries", entries)
		logs, err := s.Logs(ctx, r.ID, 0, 1000)
		ok(err)
		add("logs", logs)
		chunks, ended, err := s.Chunks(ctx, r.ID, 0, 1000)
		ok(err)
		add(fmt.Sprint("chunks ", ended), chunks)
		if g, tasks, err := s.Workflow(ctx, r.ID, nil); err == nil {
			add("graph", g)
			add("tasks", tasks)
		}
	}
	var queues store.QueueList
	ok(s.Read(ctx, &queues))
	for _, q := range queues.Queues {
		list := store.QueueList{Name: q.Name}
		ok(s.Read(ctx, &list))
		add("queue", list)
	}
	events := store.EventList{Limit: 1000}
	ok(s.Read(ctx, &events))
	for _, e := range events.Events {
		add("event", e)
	}
	for _, q := range []store.Query{&store.CronList{Limit: 1000}, &store.FilterList{Limit: 1000}, &store.LimitList{}, &store.LimitList{Rates: true},
		&store.WorkerList{}, &store.Names{}, &store.StateCount{}} {
		ok(s.Read(ctx, q))
		add(fmt.Sprintf("%T", q), q)
	}
	for _, span := range []time.Duration{time.Minute, time.Hour} {
		groups := store.ErrorGroupList{ErrorQuery: store.ErrorQuery{Span: span}, Limit: 100}
		ok(s.Read(ctx, &groups))
		add("errors", groups)
		for _, g := range groups.Groups {
			failed, _, err := s.List(ctx, store.Filter{ErrorGroup: g.Group}, store.ID{}, 100)
			ok(err)
			add("failed so", len(failed))
		}
	}
	for _, span := range []time.Duration{time.Minute, time.Hour} {
		for of := store.PerAll; of <= store.PerLimit; of++ {
			if counters {
				list := store.CounterList{Span: span, Of: of}
				ok(s.Read(ctx, &list))
				add("counters", list)
			}
		}
	}
	return all
}

// same compares two dumps.
func same(t testing.TB, before, after []string) {
	t.Helper()
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("the move changed (-before +after):\n%s", d)
	}
}
