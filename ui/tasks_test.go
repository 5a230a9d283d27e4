package ui_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/ui"
)

// A definition has its row, its page with graph and form, and its place in the API, before any run of it.
func TestDefinitionsAreTasks(t *testing.T) {
	c := stinttest.New(t)
	stint.NewTask(c, "control", func(_ context.Context, in int) (int, error) { return in, nil })
	if _, err := c.Define(t.Context(), stint.Definition{Name: "build", TaskOptions: stint.TaskOptions{Queue: "builds"},
		InputSchema: json.RawMessage(`{"type":"object","properties":{"branch":{"type":"string"}}}`),
		Tasks:       []stint.TaskSpec{{Name: "compile"}, {Name: "link", Parents: []string{"compile"}}}}); err != nil {
		t.Fatal(err)
	}
	h := ui.Handler(c, ui.WithLocalAccess())
	for path, shows := range map[string][]string{
		"/tasks":       {"<bdi>build</bdi>", "builds", "<bdi>control</bdi>"},
		"/tasks/build": {"workflow, executed by another program", "compile", "link", `data-field="branch"`},
		"/api/tasks":   {`"name":"build","workflow":true`, `"branch"`, `"name":"control"`},
	} {
		page := bodyOf(t, h, path)
		for _, text := range shows {
			if !strings.Contains(page, text) {
				t.Errorf("%s does not show %q", path, text)
			}
		}
	}
}

// A task's page and the API show each option, of code and of data.
func TestDefinitionInFull(t *testing.T) {
	store.RegisterFilters(func(string) (store.Predicate, []string, error) { return nil, nil, nil }) // they are only shown
	store.RegisterValues(func(string, store.Kind) (store.Value, []string, error) { return nil, nil, nil })
	t.Cleanup(func() { store.RegisterFilters(nil); store.RegisterValues(nil) })
	c := stinttest.New(t)
	stint.NewTask(c, "pay", func(_ context.Context, in string) (string, error) { return in, nil },
		stint.WithQueue("money"), stint.WithPriority(7), stint.WithRetries(4), stint.WithRetryBackoff(3, time.Minute), stint.WithTimeout(2*time.Second),
		stint.WithScheduleTimeout(5*time.Hour), stint.WithSlotCost(6), stint.WithMetadata(map[string]string{"team": "blue"}),
		stint.WithConcurrency(stint.Concurrency[string]{Name: "shop", Max: 3, Strategy: stint.StrategyGroupRoundRobin, Key: strings.ToLower}),
		stint.WithConcurrency(stint.Concurrency[string]{Max: 9, ReleaseWhileWaiting: true}),
		stint.WithRateLimit("gateway", 2), stint.WithIdempotency(strings.ToLower, stint.UntilDone),
		stint.WithAffinity(stint.Affinity{Label: "gpu", Value: "yes"}, stint.Affinity{Label: "cores", Comparator: ">", Value: 4, Preferred: true}),
		stint.WithSticky(stint.StickyHard), stint.WithCron("5 4 * * *"), stint.WithEvents("paid"), stint.WithEventFilter("input.n > 1"))
	w := stint.NewWorkflow[string](c, "flow")
	stint.AddTask(w, "first", func(_ context.Context, in string) (string, error) { return in, nil }, stint.WithRetries(11), stint.WithTimeout(12*time.Second))
	if _, err := c.Define(t.Context(), stint.Definition{Name: "data", TaskOptions: stint.TaskOptions{
		RateLimits:   []stint.RateLimitSpec{{KeyExpr: "input.host", Units: 2, Limit: 60, Window: stint.Duration(time.Minute)}},
		Concurrency:  []stint.ConcurrencySpec{{Key: "input.user", Max: 1, Strategy: stint.StrategyCancelNewest}},
		Idempotency:  &stint.IdempotencySpec{Key: "input.id", TTL: stint.Duration(time.Hour)},
		Events:       []string{"came"},
		EventFilters: []stint.EventFilterSpec{{Scope: "eu", Expression: "input.size > 5"}}}}); err != nil {
		t.Fatal(err)
	}
	for _, d := range c.ListTasks() {
		if d.Name != "pay" {
			continue
		}
		for f, v := range reflect.ValueOf(d.Options).Fields() {
			if v.IsZero() && f.Name != "EventFilters" { // only data has these
				t.Errorf("the option %s is not in the definition", f.Name)
			}
		}
	}
	h := ui.Handler(c, ui.WithLocalAccess())
	for path, shows := range map[string][]string{
		"/tasks/pay": {"money", "priority 7", "3ⁿ s after attempt n, at most 1 min 0 s", "2 s", "5 h", "<dd>6</dd>", "team=blue", "<bdi>shop</bdi>", "a function of the input",
			"3 at once", "keys take turns", "one for all runs", "9 at once, without those that wait", "<code>gateway</code>", "2 of what SetRateLimit has set", "until the run has ended",
			"gpu = yes", "preferred, with weight 100: ", "cores &gt; 4", "only the worker of the first task", "5 4 * * *", "paid", "input.n &gt; 1"},
		"/tasks/flow": {"<bdi>first</bdi>", `<td class="number">11</td>`, "12 s"},
		"/tasks/data": {"input.host", "2 of 60 each 1 min 0 s", "input.user", "the run is canceled", "input.id", " for 1 h", "<bdi>eu</bdi>", "input.size &gt; 5"},
		"/api/tasks": {`"sticky":"hard"`, `"strategy":"GroupRoundRobin"`, `"key":"func"`, `"until_done":true`, `"event_filters":[{"scope":"eu"`, `"timeout":"12s"`,
			`"window":"1m0s"`},
	} {
		page := bodyOf(t, h, path)
		for _, text := range shows {
			if !strings.Contains(page, text) {
				t.Errorf("%s does not show %q", path, text)
			}
		}
	}
}

// Runs are found by the event that started them and by their worker, on the page and by the API; an action on them says so.
func TestRunsOfEventAndWorker(t *testing.T) {
	c := stinttest.New(t)
	task := stint.NewTask(c, "ship", func(_ context.Context, in int) (int, error) { return in, nil }, stint.WithEvents("paid"))
	event, err := c.Publish(t.Context(), "paid", 1, stint.WithMetadata(map[string]string{"shop": "7"}))
	if err != nil {
		t.Fatal(err)
	}
	other, err := task.Enqueue(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := stinttest.Drain(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	first, err := c.GetRun(t.Context(), other.ID())
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.ListEvents(t.Context(), stint.EventFilter{IDs: []string{event}})
	if err != nil || len(page.Events[0].Started) != 1 {
		t.Fatalf("the event: %+v, %v", page, err)
	}
	h := ui.Handler(c, ui.WithLocalAccess())
	has := func(path string, wanted bool, text string) {
		t.Helper()
		if strings.Contains(bodyOf(t, h, path), text) != wanted {
			t.Errorf("%s shows %q: want %v", path, text, wanted)
		}
	}
	worker := url.QueryEscape(first.Worker)
	for _, list := range []string{"/runs", "/api/runs"} {
		has(list, true, other.ID())
		has(list+"?event="+event, false, other.ID())
		has(list+"?event="+event, true, page.Events[0].Started[0])
		has(list+"?worker="+worker, true, other.ID())
		has(list+"?worker=nobody", false, other.ID())
	}
	has("/confirm?do=runs.replay&event="+event+"&worker="+worker, true, "that event "+event+" started, of worker")
	has("/confirm?do=runs.replay&flat=1&event="+event, true, "that are no task of a workflow")
	has("/api/events?metadata=shop%3D7", true, event)
	has("/api/events?metadata=shop%3D8", false, event)
	has("/api/events?until=1h", false, event)
}

// A run that waits for its next attempt is no one-time schedule.
func TestRetriesAreNoSchedules(t *testing.T) {
	c := stinttest.New(t)
	again := stint.NewTask(c, "again", func(context.Context, int) (int, error) { return 0, errors.New("not yet") }, stint.WithRetries(3),
		stint.WithRetryPolicy(func(int, error) time.Duration { return time.Hour }))
	later := stint.NewTask(c, "later", func(_ context.Context, in int) (int, error) { return in, nil })
	if _, err := later.Enqueue(t.Context(), 1, stint.WithDelay(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Enqueue(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := stinttest.Drain(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	page := bodyOf(t, ui.Handler(c, ui.WithLocalAccess()), "/schedules")
	_, once, _ := strings.Cut(page, "One-time")
	once, retries, found := strings.Cut(once, "Retries that wait")
	if !found || !strings.Contains(once, "<bdi>later</bdi>") || strings.Contains(once, "again") ||
		!strings.Contains(retries, "again") || strings.Contains(retries, "<bdi>later</bdi>") {
		t.Errorf("one-time: %s\nretries: %s", once, retries)
	}
}
