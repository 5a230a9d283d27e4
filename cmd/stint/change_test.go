package main

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// paid returns a file on which a task of two steps, which logs, streams, and has limits, has run, and the ID of the run.
// Another run waits for the limit of its key, a rate limit and an event are there, and a task that is data.
func paid(t *testing.T) (path, id string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "paid.db")
	c, err := stint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	step := func(ctx context.Context, name string) string {
		text, err := stint.Step(ctx, name, func(context.Context) (string, error) { return name + " done", nil })
		if err != nil {
			panic(err)
		}
		return text
	}
	pay := stint.NewTask(c, "pay", func(ctx context.Context, user string) (string, error) {
		stint.Logger(ctx).Info("paying", "user", user)
		if user == "bob" {
			return "", errors.New("no money")
		}
		look := step(ctx, "look")
		if err := errors.Join(stint.Stream(ctx, []byte("one\x1b[31m ")), stint.Stream(ctx, []byte("two"))); err != nil {
			return "", err
		}
		return look + step(ctx, "charge"), nil
	}, stint.WithConcurrency(stint.Concurrency[string]{Name: "user", Max: 1, Key: func(u string) string { return u }}),
		stint.WithEvents("user.created"), stint.WithRetries(0))
	run, err := pay.Enqueue(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	failed, err := pay.Enqueue(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(t.Context(), "user.created", "eve", stint.WithMetadata(map[string]string{"from": "web"})); err != nil {
		t.Fatal(err)
	}
	if err := stinttest.Drain(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := failed.Wait(t.Context()); err == nil {
		t.Fatal("it did not fail")
	}
	_, err = c.Define(t.Context(), stint.Definition{Name: "by-data", TaskOptions: stint.TaskOptions{Retries: 3}})
	if err := errors.Join(err, c.SetRateLimit(t.Context(), "api", 10, 5)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // one occupies the limit
		if _, err := pay.Enqueue(t.Context(), "dan"); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return path, run.ID()
}

// wrong checks that a command is refused as wrong use.
func wrong(t *testing.T, want string, args ...string) {
	t.Helper()
	got, err := ask(t, args...)
	if err == nil || !strings.Contains(err.Error(), want) || exitCode(err) != 2 {
		t.Errorf("stint %q: exit %d, %v\n%s\nwant %q", args, exitCode(err), err, got, want)
	}
}

// names returns the names in the journal of a run.
func journalOf(t *testing.T, path, id string) string {
	t.Helper()
	var all []string
	for line := range strings.Lines(must(t, "", "journal", "-o", "ndjson", path, id)) {
		var e struct{ Name string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Name)
	}
	return strings.Join(all, " ")
}

func TestRestart(t *testing.T) {
	path, id := paid(t)
	if got := journalOf(t, path, id); got != "look charge" {
		t.Fatalf("the journal: %s", got) // the control
	}
	wrong(t, `has recorded no step "chrage": did you mean "charge"?`, "restart", path, id, "chrage")
	wrong(t, `give one of them`, "restart", path, id, "charge", "-address", "2")
	wrong(t, `the name of the step to restart from, or -address, is missing`, "restart", path, id)
	must(t, "succeeded", "run", path, id)
	must(t, `{"done":true}`, "restart", path, id, "charge", "-o", "json")
	must(t, "queued", "run", path, id)
	if got := journalOf(t, path, id); got != "look" {
		t.Errorf("the journal after the restart: %s", got)
	}
	other, id := paid(t)
	must(t, "", "restart", other, id, "-address", "1")
	if got := journalOf(t, other, id); got != "" {
		t.Errorf("the journal after the restart from the first entry: %s", got)
	}
}

func TestFork(t *testing.T) {
	path, id := paid(t)
	wrong(t, `has recorded no step "chrage": did you mean "charge"?`, "fork", path, id, "chrage")
	wrong(t, `the step to begin with is missing`, "fork", path, id)
	forked := must(t, "", "fork", path, id, "charge")
	must(t, "queued", "run", path, forked)
	must(t, "succeeded", "run", path, id)
	if got := journalOf(t, path, forked); got != "look" {
		t.Errorf("the journal of the fork: %s", got)
	}
	must(t, `{"run":"`, "fork", path, id, "look", "-o", "json")
	if got, err := ask(t, "fork", path, "01a20b55-3211-7000-801d-850939bbcc7a", "look"); err == nil || exitCode(err) != 1 {
		t.Errorf("of a run that does not exist: %v %s", err, got)
	}
}

func TestReschedule(t *testing.T) {
	path, done := paid(t)
	id := must(t, "", "enqueue", path, "pay", `"eve"`, "-delay", "1h")
	due := func() string {
		return decoded(t, must(t, "", "run", path, id, "-o", "json")).(map[string]any)["scheduled"].(string)
	}
	before := due()
	must(t, "", "reschedule", path, id, "2201-02-03T10:00:00Z")
	if got := due(); got != "2201-02-03T10:00:00Z" {
		t.Errorf("due %s", got)
	}
	must(t, "", "reschedule", path, id, "2d")
	if got := due(); got <= before || got > "2201" {
		t.Errorf("2 days from now: %s, before %s", got, before)
	}
	wrong(t, `time "tomorrow": want one like 2026-01-31T12:00:00Z or 2026-01-31, or how long from now`, "reschedule", path, id, "tomorrow")
	wrong(t, "the time is missing", "reschedule", path, id)
	if got, err := ask(t, "reschedule", path, done, "1h"); err == nil || exitCode(err) != 1 {
		t.Errorf("of a run that has ended: %v %s", err, got)
	}
}

func TestMoveQueue(t *testing.T) {
	path, _ := paid(t)
	id := must(t, "", "enqueue", path, "pay", `"eve"`, "-delay", "1h", "-queue", "night", "-force")
	wrong(t, "the queue to move runs to is missing", "move-queue", path)
	wrong(t, "nothing is selected: give IDs or a filter, or -all", "move-queue", path, "night")
	wrong(t, `did you mean "night"?`, "move-queue", path, "nihgt", "-all")
	must(t, "1 would be moved", "move-queue", path, "default", "-queue", "night", "-dry-run")
	must(t, "1 moved", "move-queue", path, "default", id)
	must(t, "0 moved", "move-queue", path, "default", "-queue", "night")
	must(t, `{"changed":1}`, "move-queue", path, "new", id, "-force", "-o", "json")
	must(t, "new", "queues", path)
}
