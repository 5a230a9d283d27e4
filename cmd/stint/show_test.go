package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

func TestLogsAndStream(t *testing.T) {
	path, id := paid(t)
	must(t, "INFO  paying  {\"user\":\"ann\"}", "logs", path, id)
	if got := must(t, "", "logs", path, id, "-after", "1"); got != "" {
		t.Errorf("after the only line: %s", got)
	}
	if got := must(t, "", "stream", path, id); got != "one [31m two" {
		t.Errorf("the stream: %q", got)
	}
	if got := must(t, "", "stream", path, id, "-follow", "-after", "1"); got != "two" {
		t.Errorf("the stream after its first chunk: %q", got)
	}
	if got := must(t, "", "stream", path, id, "-o", "ndjson"); !streamed.MatchString(got) {
		t.Errorf("the stream: %s", got)
	}
}

var streamed = regexp.MustCompile(`^\{"seq":1,"at":"[^"]+","attempt":1,"execution":1,"text":"one\\u001b\[31m "\}\n` +
	`\{"seq":2,"at":"[^"]+","attempt":1,"execution":1,"text":"two"\}$`)

// A run's own view has the whole error, of which lists show the beginning.
func TestRunShowsTheWholeError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	c, err := stint.Open(path, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	long := strings.Repeat("it does not fit, ", 10) + "and this is its end"
	task := stint.NewTask(c, "long", func(context.Context, int) (int, error) { return 0, errors.New(long) })
	w, err := c.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	go w.Run(t.Context())
	run, err := task.Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(t.Context()); err == nil {
		t.Fatal("it succeeded")
	}
	must(t, "and this is its end\n", "run", path, run.ID())
}

func TestLogsOfAllRuns(t *testing.T) {
	path, id := paid(t)
	must(t, "pay  paying  {\"user\":\"ann\"}", "logs", path)
	all := strings.Count(must(t, id, "logs", path), "\n")
	if got := must(t, "", "logs", path, "-limit", "1"); strings.Contains(got, "\n") {
		t.Errorf("more than one line of %d: %s", all, got)
	}
	for _, args := range [][]string{{"-task", "pay"}, {"-level", "info"}, {"-text", "ANN"}, {"-since", "1h"}, {id, "-text", "ann"}} {
		must(t, "paying", append([]string{"logs", path}, args...)...)
	}
	for _, args := range [][]string{{"-level", "error"}, {"-text", "nobody"}, {"-until", "1h"}, {id, "-level", "warn"}} {
		if got := must(t, "", append([]string{"logs", path}, args...)...); got != "" {
			t.Errorf("logs %q: %s", args, got)
		}
	}
	wrong(t, "-level loud: want debug, info, warn or error", "logs", path, "-level", "loud")
	wrong(t, `did you mean "pay"?`, "logs", path, "-task", "pya")
	wrong(t, "has no end", "logs", path, "-follow", "-o", "json")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- runCommand(ctx, []string{"logs", path, "-follow", "-every", "20ms"}, out, io.Discard)
		out.Close()
	}()
	lines := bufio.NewScanner(r)
	until := func(text string) {
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Errorf("no line %q: %v", text, lines.Err())
	}
	until("paying")
	c, err := stint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.AddLogs(t.Context(), id, stint.LogLine{Message: "later", Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	until("later")
	go io.Copy(io.Discard, r) // what is written last may be nothing, and waits to be read all the same
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// -follow prints what comes, until the run has ended.
func TestFollow(t *testing.T) {
	path := worked(t)
	c, err := stint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first, second := make(chan bool), make(chan bool)
	talk := stint.NewTask(c, "talk", func(ctx context.Context, _ int) (int, error) {
		for _, wait := range []chan bool{first, second} {
			<-wait
			if err := stint.Stream(ctx, []byte("word\n")); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
	w, err := c.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	worker := make(chan error)
	go func() { worker <- w.Run(ctx) }()
	run, err := talk.Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	r, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := runCommand(t.Context(), []string{"stream", path, run.ID(), "-follow", "-every", "20ms"}, out, io.Discard)
		out.Close()
		done <- err
	}()
	close(first)
	word := make([]byte, 5)
	if _, err := io.ReadFull(r, word); err != nil || string(word) != "word\n" {
		t.Errorf("%q, %v", word, err)
	}
	close(second)
	rest, err := io.ReadAll(r)
	if err != nil || string(rest) != "word\n" {
		t.Errorf("%q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	stop()
	if err := <-worker; err != nil {
		t.Error(err)
	}
}

func TestEvents(t *testing.T) {
	path, _ := paid(t)
	must(t, "user.created", "events", path)
	id := must(t, "", "publish", path, "user.deleted", `{"user":"eve"}`)
	for _, args := range [][]string{{"-key", "user.deleted"}, {"-id", id}, {"-limit", "1"}, {"-since", "1h", "-key", "user.deleted"}} {
		if got := must(t, id, append([]string{"events", path}, args...)...); strings.Contains(got, "user.created") {
			t.Errorf("events %q:\n%s", args, got)
		}
	}
	if got := must(t, "user.created", "events", path, "-metadata", "from=web"); strings.Contains(got, id) {
		t.Errorf("by metadata:\n%s", got)
	}
	if got := must(t, "", "events", path, "-until", "1h"); got != "" {
		t.Errorf("an hour ago:\n%s", got)
	}
	started := must(t, "", "events", path, "-key", "user.created", "-o", "ndjson")
	event := decoded(t, started).(map[string]any)["id"].(string)
	must(t, `"eve"`, "runs", path, "-event", event)
}

func TestErrors(t *testing.T) {
	path, _ := paid(t)
	got := decoded(t, must(t, `"no money"`, "errors", path, "-task", "pay", "-o", "ndjson")).(map[string]any)
	id := got["id"].(string)
	for _, args := range [][]string{{}, {"-id", id}, {"-since", "1h"}, {"-limit", "1"}} {
		must(t, id, append([]string{"errors", path}, args...)...)
	}
	must(t, got["run"].(string), "runs", path, "-group", id)
	must(t, "1", "replay", path, "-group", id, "-dry-run")
	must(t, "", "errors", path, "mute", id, "-for", "1h")
	if got := must(t, "", "errors", path); strings.Contains(got, id) {
		t.Errorf("a muted error is listed:\n%s", got)
	}
	must(t, "muted", "errors", path, "-muted")
	must(t, "", "errors", path, "mute", id)
	must(t, `"muted_until":"9999-`, "errors", path, "-id", id, "-o", "json")
	must(t, `{"done":true}`, "errors", path, "unmute", id, "-o", "json")
	must(t, id, "errors", path)
	must(t, "open", "errors", path)
	must(t, "", "errors", path, "mute", id, "-to-double")
	must(t, `"muted_to":2`, "errors", path, "-id", id, "-o", "json")
	wrong(t, "want -for or -to-double, not both", "errors", path, "mute", id, "-to-double", "-for", "1h")
	must(t, `{"done":true}`, "errors", path, "resolve", id, "-o", "json")
	must(t, "resolved", "errors", path, "-muted")
	if got := must(t, "", "errors", path); strings.Contains(got, id) {
		t.Errorf("a resolved error is listed:\n%s", got)
	}
	must(t, "", "errors", path, "unmute", id)
	must(t, id, "errors", path)
	wrong(t, `errors mut: want mute, resolve or unmute: did you mean "mute"?`, "errors", path, "mut", id)
	wrong(t, "the error's ID is missing", "errors", path, "mute")
	for _, id := range []string{"x", "0123456789abcdef"} {
		if got, err := ask(t, "errors", path, "mute", id); err == nil {
			t.Errorf("muted %s: %s", id, got)
		}
	}
}

func TestStats(t *testing.T) {
	path, _ := paid(t)
	must(t, "ENQUEUED", "stats", path)
	if got := must(t, "pay", "stats", path, "-per-task", "-span", "hour", "-since", "2d"); !strings.Contains(got, "default") {
		t.Errorf("per task:\n%s", got)
	}
	must(t, "READY  RUNNING", "stats", path, "-per-queue")
	if got := must(t, "", "stats", path, "-per-limit"); got != "" { // nothing is sampled before a minute is over
		t.Errorf("per limit:\n%s", got)
	}
	wrong(t, "-per-task, -per-queue and -per-limit: give one of them", "stats", path, "-per-queue", "-per-task")
	if got := must(t, "", "stats", path, "-since", "2200-01-01"); got != "" {
		t.Errorf("of the future:\n%s", got)
	}
	wrong(t, `-span hours: want minute or hour: did you mean "hour"?`, "stats", path, "-span", "hours")
}

func TestTasks(t *testing.T) {
	path, _ := paid(t)
	got := must(t, "by-data", "tasks", path)
	if !strings.Contains(got, "pay") || !strings.Contains(got, "3") {
		t.Errorf("tasks:\n%s", got)
	}
}

func TestLimits(t *testing.T) {
	path, _ := paid(t)
	must(t, "dan", "limits", path)
	must(t, "", "limits", path, "pause", "user", "dan")
	must(t, `"paused":true`, "limits", path, "-o", "json")
	must(t, "", "limits", path, "resume", "user", "dan")
	must(t, `"paused":false`, "limits", path, "-o", "ndjson")
	wrong(t, `no concurrency limit "usr" is in use: did you mean "user"?`, "limits", path, "pause", "usr", "dan")
	wrong(t, `limits pasue: want pause or resume: did you mean "pause"?`, "limits", path, "pasue", "user", "dan")
	wrong(t, "the limit's key is missing", "limits", path, "pause", "user")
	must(t, "", "limits", path, "pause", "later", "x", "-force")
}

func TestRate(t *testing.T) {
	path, _ := paid(t)
	must(t, "10/s", "rate", path)
	for text, want := range map[string]string{"20": "20/s", "600/m": "10/s", "7200/h": "2/s", "0.5": "0.5/s", "inf": "inf", "0": "0/s"} {
		must(t, "", "rate", path, "set", "api", text, "50")
		must(t, want, "rate", path)
	}
	must(t, "", "rate", path, "set", "new", "5/s", "1")
	must(t, "", "rate", path, "pause", "new")
	must(t, `"paused":true`, "rate", path, "-o", "json")
	must(t, "", "rate", path, "resume", "new")
	if got := must(t, "", "rate", path, "-o", "json"); strings.Contains(got, "true") {
		t.Errorf("resumed: %s", got)
	}
	wrong(t, `did you mean "api"?`, "rate", path, "pause", "ap")
	wrong(t, `rate "fast": want one like 10/s`, "rate", path, "set", "api", "fast", "1")
	wrong(t, `rate "1/y": want one like 10/s`, "rate", path, "set", "api", "1/y", "1")
	wrong(t, `burst "x": want a number`, "rate", path, "set", "api", "1", "x")
	wrong(t, "the burst is missing", "rate", path, "set", "api", "1")
	wrong(t, `rate st: want set, pause or resume: did you mean "set"?`, "rate", path, "st", "api", "1", "1")
	wrong(t, `"1" is too much: want stint rate [-flags] DATABASE pause KEY`, "rate", path, "pause", "api", "1")
	if got, err := ask(t, "rate", path, "set", "api", "-1", "1"); err == nil {
		t.Errorf("a negative limit: %s", got)
	}
}

// What the new commands list is what the API answers.
func TestListsOfTheAPI(t *testing.T) {
	path, id := paid(t)
	since := time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339)
	for url, args := range map[string][]string{
		"/api/runs/" + id + "/logs":                {"logs", path, id},
		"/api/runs/" + id + "/stream":              {"stream", path, id},
		"/api/logs?oldest=true":                    {"logs", path},
		"/api/events":                              {"events", path},
		"/api/events?limit=1":                      {"events", path, "-limit", "1"},
		"/api/errors":                              {"errors", path},
		"/api/errors?task=pay&since=" + since:      {"errors", path, "-task", "pay", "-since", since},
		"/api/tasks":                               {"tasks", path},
		"/api/limits":                              {"limits", path},
		"/api/stats?span=hour&since=" + since:      {"stats", path, "-span", "hour", "-since", since},
		"/api/stats?per_queue=1&since=" + since:    {"stats", path, "-per-queue", "-since", since},
		"/api/stats?per_limit=1&since=" + since:    {"stats", path, "-per-limit", "-since", since},
		"/api/stats?per_task=1&since=" + since:     {"stats", path, "-per-task", "-since", since},
		"/api/runs?state=failed&error=no+money":    {"runs", path, "-state", "failed", "-error", "no money"},
		"/api/runs?since=" + since + "&task=pay":   {"runs", path, "-task", "pay", "-since", since},
		"/api/runs?state=queued&state=failed":      {"runs", path, "-state", "queued,failed"},
		"/api/runs?until=2001-01-01&queue=default": {"runs", path, "-until", "2001-01-01", "-queue", "default"},
	} {
		want := answerOf(t, path, url)
		got := decoded(t, must(t, "", append(args, "-o", "json")...))
		if !reflect.DeepEqual(got, want) {
			t.Errorf("stint %q -o json: %v\n%s: %v", args, got, url, want)
		}
	}
	limits := answerOf(t, path, "/api/limits").(map[string]any)["rates"]
	if got := decoded(t, must(t, "", "rate", path, "-o", "json")).(map[string]any)["rates"]; !reflect.DeepEqual(got, limits) {
		t.Errorf("rate: %v, the API: %v", got, limits)
	}
}
