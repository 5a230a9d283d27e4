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
	queues, err := s.Queues(ctx, "")
	ok(err)
	for _, q := range queues {
		q, err := s.Queues(ctx, q.Name)
		ok(err)
		add("queue", q)
	}
	crons, _, err := s.Crons(ctx, "", 1000)
	ok(err)
	add("crons", crons)
	events, _, err := s.Events(ctx, store.EventFilter{}, store.ID{}, 1000)
	ok(err)
	for i := range events {
		add("event", events[i])
	}
	filters, _, err := s.Filters(ctx, "", 0, 1000)
	ok(err)
	add("filters", filters)
	for _, rates := range []bool{false, true} {
		limits, err := s.Limits(ctx, rates)
		ok(err)
		add("limits", limits)
	}
	living, err := s.Living(ctx)
	ok(err)
	add("living", living)
	names, err := s.Names(ctx)
	ok(err)
	add("names", names)
	for _, span := range []time.Duration{time.Minute, time.Hour} {
		groups, _, err := s.ErrorGroups(ctx, store.ErrorQuery{Span: span}, 100)
		ok(err)
		add("errors", groups)
		for _, g := range groups {
			failed, _, err := s.List(ctx, store.Filter{ErrorGroup: g.Group}, store.ID{}, 100)
			ok(err)
			add("failed so", len(failed))
		}
	}
	counts, err := s.Counts(ctx)
	ok(err)
	add("counts", fmt.Sprint(counts))
	for _, span := range []time.Duration{time.Minute, time.Hour} {
		for of := store.PerAll; of <= store.PerLimit; of++ {
			if counters {
				c, err := s.Counters(ctx, span, time.Time{}, of)
				ok(err)
				add("counters", c)
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
