package ui_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
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
