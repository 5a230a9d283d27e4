package blocked

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/store"
)

func TestLimit(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 500e6, time.UTC)
	rate := store.Limit{Key: "mail", Units: 1}
	for _, test := range []struct {
		limit store.LimitInfo
		want  string
	}{
		{store.LimitInfo{Limit: store.Limit{Name: "sync", Max: 2}}, `concurrency limit "sync": 2 at once`},
		{store.LimitInfo{Limit: store.Limit{Name: "sync", Key: "a", Max: 2}}, `concurrency limit "sync" (key "a"): 2 at once`},
		{store.LimitInfo{Limit: store.Limit{Name: "sync", Key: "a", Max: 2}, Paused: true}, `concurrency limit "sync" (key "a") is paused`},
		{store.LimitInfo{Limit: rate}, `rate limit "mail"`},
		{store.LimitInfo{Limit: rate, Paused: true}, `rate limit "mail" is paused`},
		{store.LimitInfo{Limit: rate, ReadyAt: at}, `rate limit "mail": until 2026-03-01T12:00:00.500Z`},
	} {
		if got := Limit(&test.limit); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestCondition(t *testing.T) {
	paid, sleep := store.Condition{Event: &store.Match{Key: "paid"}}, store.Condition{Sleep: time.Minute}
	scoped := store.Match{Key: "paid", Field: "id", Value: "7", Filter: "input.n > 1"}.WithScope("eu")
	for _, test := range []struct {
		cond *store.Condition
		want string
	}{
		{nil, "its conditions"},
		{&sleep, "a sleep of 1m0s"},
		{&store.Condition{Event: &store.Match{Key: "order.*"}}, `event "order.*" (a wait has no patterns: * is part of the key)`},
		{&store.Condition{Test: &store.TestRef{}}, "a parent's output"},
		{&store.Condition{Event: &scoped}, `event "paid" of scope "eu" with id = 7 where input.n > 1`},
		{&store.Condition{Any: []store.Condition{{All: []store.Condition{paid, sleep}}, paid}},
			`((event "paid" and a sleep of 1m0s) or event "paid")`},
	} {
		if got := Condition(test.cond); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

// living is a store that has these workers.
type living struct {
	all   []store.WorkerInfo
	asked int
}

// Read implements store.Lists.
func (l *living) Read(_ context.Context, q store.Query) error {
	l.asked++
	q.(*store.WorkerList).Workers = l.all
	return nil
}

func TestWorkers(t *testing.T) {
	s := &living{all: []store.WorkerInfo{
		{Name: "a", Queues: []string{"mail"}, Tasks: []string{"digest", "flow:"}, Labels: map[string]string{"zone": "eu"}},
		{Name: "b", Queues: []string{"gpu"}, Tasks: []string{"render"}, Paused: true},
	}}
	workers := Workers{Store: s}
	needs := func(value string) store.Route {
		return store.Route{Wants: []store.Want{{Label: "zone", Op: "=", Value: value}}}
	}
	for _, test := range []struct {
		queue, task string
		route       store.Route
		want        string
	}{
		{"mail", "digest", store.Route{}, ""},
		{"mail", "flow:first", store.Route{}, ""},
		{"mail", "render", store.Route{}, "no worker has task render"},
		{"web", "digest", store.Route{}, "no worker serves queue web"},
		{"gpu", "render", store.Route{}, "every worker that may work it is paused"},
		{"mail", "digest", needs("us"), "a worker with label zone = us"},
		{"mail", "digest", store.Route{To: "c", Hard: true}, `a worker with name "c"`},
	} {
		got, err := workers.Lacks(t.Context(), test.queue, test.task, &test.route)
		if got != test.want || err != nil {
			t.Errorf("%s in %s: got %q, %v, want %q", test.task, test.queue, got, err, test.want)
		}
	}
	if s.asked != 1 {
		t.Errorf("the workers were read %d times, want once", s.asked)
	}
}

// A canceled run says what its cleanup waits for, also if that is a worker.
func TestRun(t *testing.T) {
	workers := Workers{Store: &living{}}
	canceled := time.Unix(1, 0)
	for _, test := range []struct {
		run  store.Run
		why  string
		want string
	}{
		{store.Run{State: store.Queued, Queue: "mail"}, "", "no worker serves queue mail"},
		{store.Run{State: store.Queued, Queue: "mail"}, "a limit", "a limit"},
		{store.Run{State: store.Queued, Queue: "mail", CancelAt: canceled}, "",
			"canceled; to clean up it waits for no worker serves queue mail"},
		{store.Run{State: store.Running, CancelAt: canceled}, "", "canceled; its handler has yet to return or to clean up"},
		{store.Run{State: store.Running, Workflow: true, CancelAt: canceled}, "", "canceled; its tasks clean up"},
		{store.Run{State: store.Blocked, CancelAt: canceled}, "it diverged",
			"canceled, but it cannot clean up: it diverged; cancel it again to end it as it is"},
		{store.Run{State: store.Canceled, CancelAt: canceled}, "", ""},
	} {
		if got, err := workers.Run(t.Context(), &test.run, test.why); got != test.want || err != nil {
			t.Errorf("%v: got %q, %v, want %q", test.run.State, got, err, test.want)
		}
	}
}

func entries(all ...store.Entry) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func TestIn(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	child := store.Entry{Kind: store.EntryChild, Name: "digest", Done: true}
	open := store.Entry{Kind: store.EntryWait,
		Value: []byte(`{"cond":{"any":[{"event":{"key":"paid"}},{"sleep":60000000000}]}}`)}
	for name, test := range map[string]struct {
		journal []store.Entry
		want    string
		events  int
	}{
		"nothing":          {nil, "", 0},
		"a child":          {[]store.Entry{child}, `a run of task "digest"`, 0},
		"an event":         {[]store.Entry{child, {Kind: store.EntryEvent, Match: store.Match{Key: "paid"}}}, `event "paid"`, 1},
		"a sleep":          {[]store.Entry{{Kind: store.EntrySleep, Due: now.Add(time.Hour)}}, "sleep until 2026-03-01T13:00:00Z", 0},
		"a sleep, over":    {[]store.Entry{{Kind: store.EntrySleep, Due: now}}, "", 0},
		"a wait, over":     {[]store.Entry{{Kind: store.EntryWait, Done: true}}, "", 0},
		"two":              {[]store.Entry{open, {Kind: store.EntryEvent, Match: store.Match{Key: "x"}}}, "", 2},
		"more than listed": {slices.Repeat([]store.Entry{{Kind: store.EntryEvent}}, check.MaxWaits+1), "", check.MaxWaits},
	} {
		w, err := In(entries(test.journal...), now)
		if err != nil || test.want != "" && w.String() != test.want || len(w.Events) != test.events {
			t.Errorf("%s: got %q with %d events, %v, want %q with %d", name, w.String(), len(w.Events), err, test.want, test.events)
		}
	}
	if _, err := In(entries(store.Entry{Kind: store.EntryWait, Value: []byte("{")}), now); err == nil {
		t.Error("a wait that cannot be read: no error")
	}
	failed := errors.New("disk")
	if _, err := In(func(yield func(store.Entry, error) bool) { yield(store.Entry{}, failed) }, now); err != failed {
		t.Errorf("a journal that cannot be read: %v, want %v", err, failed)
	}
}
