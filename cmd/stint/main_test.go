package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/stint-dev/stint/internal/selfcheck"

	"github.com/stint-dev/stint"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
)

// serverURL is the URL of a PostgreSQL server for tests. The command reads the variable too: tests set it
// where they mean to.
var serverURL = os.Getenv(databaseVariable)

func TestMain(m *testing.M) {
	if os.Getenv(runAsCommand) != "" {
		main()
		os.Exit(0)
	}
	os.Unsetenv(databaseVariable)
	os.Unsetenv(fileVariable)
	selfcheck.Enable()
	goleak.VerifyTestMain(m, goleak.Cleanup(selfcheck.Exit))
}

// ask runs the command and returns what it prints.
func ask(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, errs bytes.Buffer
	err := runCommand(t.Context(), args, &out, &errs)
	return out.String() + errs.String(), err
}

func must(t *testing.T, want string, args ...string) string {
	t.Helper()
	got, err := ask(t, args...)
	if err != nil || !strings.Contains(got, want) {
		t.Errorf("stint %q: %v\n%s\nwant %q", args, err, got, want)
	}
	return strings.TrimSpace(got)
}

// worked returns a file on which a program has worked.
func worked(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "app.db")
	c, err := stint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	workOn(t, c)
	return path
}

// workOn works on a database: a durable task, with a cron.
func workOn(t *testing.T, c *stint.Client) {
	t.Helper()
	steps := stint.NewTask(c, "steps", func(ctx context.Context, text string) (string, error) {
		stint.Logger(ctx).Info("looking", "text", text)
		return stint.Step(ctx, "look", func(context.Context) (string, error) { return "seen " + text, nil })
	}, stint.WithCron("@daily"))
	w, err := c.NewWorker(stint.WithName("w1"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	if _, err := steps.Run(t.Context(), "x\x1b[31m"); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestCommands(t *testing.T) {
	path := worked(t)
	useAll(t, path)
	copied := filepath.Join(t.TempDir(), "copy.db")
	must(t, "", "backup", path, copied)
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v", info, err)
	}
	must(t, "steps", "runs", copied)
	must(t, "no problem found", "doctor", copied)
	damage(t, copied, "UPDATE stint_crons SET next_at = NULL")
	if got, err := ask(t, "doctor", copied); err == nil || !strings.Contains(got, "1 crons that never tick") {
		t.Errorf("doctor: %v\n%s", err, got)
	}
}

// Flags stand anywhere, help is no error, and a negative number is an argument.
func TestFlagsAnywhere(t *testing.T) {
	path := worked(t)
	for _, args := range [][]string{{"runs", "-json", "-state", "succeeded", path}, {"runs", path, "-state", "succeeded", "-json"},
		{"runs", "-state=succeeded", path, "--json"}} {
		must(t, `"State":"succeeded"`, args...)
	}
	id := must(t, "", "enqueue", path, "steps", "-force", "-5", "-delay", "1h")
	must(t, `"Input":-5`, "run", path, id, "-json")
	must(t, `"Input":-6`, "run", path, must(t, "", "enqueue", path, "steps", " -6", "-delay", "1h"), "-json")
	must(t, "scheduled", "run", path, id)
	must(t, "would be canceled", "cancel", path, id, "-dry-run")
	for _, args := range [][]string{{"help"}, {"-h"}, {"--help"}} {
		must(t, "usage: stint COMMAND", args...)
	}
	for _, args := range [][]string{{"help", "cancel"}, {"cancel", "-h"}, {"cancel", path, "--help"}} {
		if got := must(t, "usage: stint cancel [-flags] DATABASE", args...); !strings.Contains(got, "-dry-run") {
			t.Errorf("stint %q lists no flags:\n%s", args, got)
		}
	}
	must(t, "stint ", "version")
}

// useAll uses each command that works on any database on one where workOn has worked.
func useAll(t *testing.T, path string) {
	t.Helper()
	must(t, "steps", "runs", path)
	line := must(t, `"State":"succeeded"`, "runs", "-json", "-state", "succeeded", "-task", "steps", path)
	var r struct{ ID, Worker string }
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatal(err)
	}
	must(t, r.ID, "runs", "-worker", r.Worker, path)
	for _, none := range [][]string{{"-worker", "nobody"}, {"-event", r.ID}} {
		if got := must(t, "", "runs", none[0], none[1], path); strings.Contains(got, r.ID) {
			t.Errorf("runs %v: %s", none, got)
		}
	}
	if got := must(t, "seen x", "run", path, r.ID); strings.Contains(got, "\x1b") {
		t.Errorf("a payload reaches the terminal: %q", got)
	}
	must(t, `"ID":"`+r.ID, "run", "-json", path, r.ID)
	must(t, "look", "journal", path, r.ID)
	must(t, `"entries"`, "export", path, r.ID)
	must(t, "looking", "tail", path, r.ID)
	must(t, "looking", "logs", "-follow", path, r.ID)
	must(t, "", "stream", path, r.ID)

	id := must(t, "", "enqueue", "-force", "-delay", "1h", path, "mail", `{"to":"ann"}`)
	must(t, "scheduled", "run", path, id)
	must(t, "1 canceled", "cancel", path, id)
	must(t, "canceled", "run", path, id)
	must(t, "1 queued", "replay", path, id)
	must(t, `{"would_be_canceled":1}`, "cancel", "-json", "-dry-run", "-task", "mail", path)
	must(t, "1 canceled", "cancel", "-task", "mail", path)
	must(t, "0 queued", "replay", "-task", "steps", path) // succeeded ones are replayed where they are asked for
	must(t, "1 would be queued", "replay", "-dry-run", "-state", "succeeded", path)
	must(t, "1 would be queued", "replay", "-dry-run", path, r.ID)
	must(t, `{"deleted":1}`, "delete", "-json", "-state", "canceled", path)
	must(t, "some.event", "events", "-id", must(t, "", "publish", path, "some.event", `{"a":1}`), path)
	id = must(t, "", "fork", path, r.ID, "look")
	must(t, "1 canceled", "cancel", path, id)
	must(t, "", "restart", path, id, "-address", "1")
	must(t, "queued", "run", path, id)
	id = must(t, "", "enqueue", path, "steps", `"y"`, "-delay", "1h")
	must(t, "", "reschedule", path, id, "2201-02-03T10:00:00Z")
	must(t, "2201-02-03", "run", path, id)
	must(t, "", "rate", path, "set", "api", "600/m", "5")
	must(t, "10/s", "rate", path)
	must(t, "", "limits", path)
	must(t, "steps", "tasks", path)
	must(t, "DURATION", "stats", path)
	must(t, "1 queued", "top", path)

	must(t, "steps:@daily", "cron", path)
	must(t, "", "cron", path, "pause", "steps:@daily")
	must(t, "true", "cron", path)
	must(t, "", "cron", path, "resume", "steps:@daily")
	must(t, "queued", "run", path, must(t, "", "cron", path, "trigger", "steps:@daily"))

	must(t, "", "pause", path, "default")
	must(t, "true", "queues", path)
	must(t, "", "resume", path, "default")
	must(t, "false", "queues", path)
	must(t, "", "workers", path)
	must(t, "no problem found", "doctor", path)
}

func damage(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
}

// A value that is not JSON hides no other line, and is shown as a text that says so.
func TestOneBrokenValue(t *testing.T) {
	path := worked(t)
	id := must(t, "", "enqueue", "-force", path, "mail", `{"to":"ann"}`)
	all := strings.Count(must(t, "", "runs", "-json", path), "\n")
	for _, query := range []string{
		"UPDATE stint_runs SET input = X'7BFF'", "UPDATE stint_inputs SET data = X'7BFF'", "UPDATE stint_runs SET output = X'', error = '{', metadata = '['",
		"UPDATE stint_journal SET value = X'FF', error = '{'", "UPDATE stint_logs SET attrs = '{'", "UPDATE stint_crons SET input = X'', template = '{'",
	} {
		damage(t, path, query)
		for _, args := range [][]string{{"runs", "-json", path}, {"run", "-json", path, id}, {"cron", "-json", path}, {"queues", "-json", path}, {"export", path, id}} {
			got := must(t, "", args...)
			for line := range strings.Lines(got) {
				if args[0] != "export" && !json.Valid([]byte(line)) {
					t.Errorf("%s: stint %q prints %s", query, args, line)
				}
			}
			if n := strings.Count(got, "\n"); args[0] == "runs" && n != all {
				t.Errorf("%s: %d runs, of %d", query, n, all)
			}
		}
	}
	line := must(t, "(not JSON: {", "run", "-json", path, id)
	var r struct{ ID string }
	if err := json.Unmarshal([]byte(line), &r); err != nil || r.ID != id {
		t.Errorf("%s: %v", line, err)
	}
	steps := must(t, "", "runs", "-json", "-task", "steps", path)
	if err := json.Unmarshal([]byte(steps), &r); err != nil {
		t.Fatal(err)
	}
	must(t, "not JSON", "journal", "-json", path, r.ID)
	must(t, "looking", "tail", "-json", path, r.ID)
	must(t, "not JSON", "export", path, r.ID)
}

// All of a list of runs with large inputs is printed, however many pages it takes to read.
func TestRunsWithLargeInputs(t *testing.T) {
	path := worked(t)
	c, err := stint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	const n = 8
	for range n {
		if _, err := c.EnqueueJSON(t.Context(), "steps", json.RawMessage(`"`+strings.Repeat("x", 3<<20)+`"`)); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	for limit, want := range map[string]int{"5": 5, "50": n + 1, "5000": n + 1} {
		got := must(t, "", "runs", "-json", "-limit", limit, path)
		if lines := strings.Split(got, "\n"); len(lines) != want || len(lines[0]) < 3<<20 {
			t.Errorf("-limit %s prints %d lines, the first of %d bytes", limit, len(lines), len(lines[0]))
		}
		if got := must(t, "", "runs", "-limit", limit, path); strings.Count(got, "\n") != want || len(got) > 1<<14 {
			t.Errorf("-limit %s prints a table of %d lines, %d bytes", limit, strings.Count(got, "\n"), len(got))
		}
	}
}

// Numbers keep their digits, and values of metadata are texts, even if they look like numbers.
func TestExactNumbers(t *testing.T) {
	path := worked(t)
	id := must(t, "", "enqueue", "-force", "-metadata", "order=9007199254740993", "-metadata", "eq=a=1e3", path, "mail", `{"id":9007199254740993}`)
	must(t, `"Input":{"id":9007199254740993}`, "run", "-json", path, id)
	must(t, id, "runs", "-metadata", "order=9007199254740993", "-metadata", "eq=a=1e3", path)
	for _, other := range []string{"order=9007199254740992", "order=9007199254740993.0", "eq=a=1000"} {
		if got := must(t, "", "runs", "-metadata", other, path); got != "" {
			t.Errorf("by %s: %s", other, got)
		}
	}
	must(t, "0 canceled", "cancel", "-metadata", "order=9007199254740992", path)
	must(t, "1 canceled", "cancel", "-metadata", "order=9007199254740993", path)
}

// Wrong arguments are errors that say what is wrong, and change nothing.
func TestBadArguments(t *testing.T) {
	path := worked(t)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"name a command", nil},
		{`no command "frobnicate"; stint help lists them`, []string{"frobnicate"}},
		{`no command "enqueu": did you mean "enqueue"?`, []string{"enqueu"}},
		{"runs: flag provided but not defined: -sate; stint help runs lists the flags", []string{"runs", path, "-sate", "failed"}},
		{`"-json" is too much`, []string{"queues", path, "--", "-json"}},
		{"name a file, or the URL of a PostgreSQL database", []string{"runs"}},
		{"does not exist", []string{"runs", path + "x"}},
		{"a URL with mysql: want the path of a SQLite file, or postgres://", []string{"runs", "mysql://ann@db/app"}},
		{"-schema is for PostgreSQL", []string{"runs", "-schema", "jobs", path}},
		{"whoever opens it updates it", []string{"migrate", path}},
		{"no state of a run", []string{"runs", "-state", "asleep", path}},
		{"give IDs or a filter", []string{"cancel", path}},
		{"give IDs or a filter", []string{"replay", path}},
		{"give IDs or a filter", []string{"delete", "-dry-run", path}},
		{"not defined: -limit", []string{"delete", "-limit", "1", "-all", path}},
		{"want KEY=VALUE", []string{"cancel", "-metadata", "order", path}},
		{"ID is missing", []string{"run", path}},
		{"not found", []string{"run", path, "01a20b55-3211-7000-801d-850939bbcc7a"}},
		{"is not JSON", []string{"enqueue", path, "mail", "ann"}},
		{"want pause, resume", []string{"cron", path, "stop", "x"}},
		{"not found", []string{"cron", path, "pause", "x"}},
		{`did you mean "steps:@daily"?`, []string{"cron", path, "trigger", "step:@daily"}},
		{`no queue "defualt" is known: did you mean "default"?`, []string{"pause", path, "defualt"}},
		{`did you mean "default"?`, []string{"resume", path, "defualt"}},
		{`no task "setps" is known: did you mean "steps"?`, []string{"enqueue", path, "setps"}},
		{`no queue "gpu" is known (-force`, []string{"enqueue", "-queue", "gpu", path, "steps"}},
		{`did you mean "steps"?`, []string{"runs", "-task", "step", path}},
		{`did you mean "default"?`, []string{"cancel", "-queue", "deafult", path}},
		{`did you mean "default"?`, []string{"tail", "-queue", "deafult", path}},
		{"-task is empty", []string{"delete", "-task", "", path}},
		{"-error is empty", []string{"delete", "-dry-run", "-state", "failed", "-error", "", path}},
		{"-queue is empty", []string{"cancel", "-queue=", path}},
		{"-key is empty", []string{"enqueue", "-key", "", path, "steps", `"x"`}},
		{"-delay -1h0m0s: want 0 or more", []string{"enqueue", "-delay", "-1h", path, "steps", `"x"`}},
		{`"2" is too much: want stint enqueue [-flags] DATABASE TASK [JSON]`, []string{"enqueue", path, "steps", `"x"`, "2"}},
		{`"later" is too much`, []string{"pause", path, "default", "later"}},
		{`"x" is too much: want stint runs [-flags] DATABASE`, []string{"runs", path, "x"}},
		{`did you mean "failed"?`, []string{"runs", "-state", "faild", path}},
		{"file exists", []string{"backup", path, path}},
	} {
		got, err := ask(t, c.args...)
		if err == nil || !strings.Contains(got+err.Error(), c.want) {
			t.Errorf("stint %q: %v\n%s\nwant %q", c.args, err, got, c.want)
		}
	}
	if _, err := os.Stat(path + "x"); err == nil {
		t.Error("a file was made")
	}
	if got := must(t, "default", "queues", path); strings.Contains(got, "defualt") {
		t.Errorf("a queue was made: %s", got)
	}
	must(t, "", "pause", "-force", path, "later")
	must(t, "later", "queues", path)
	must(t, "no worker serves queue default", "run", path, must(t, "", "enqueue", path, "steps", `"x"`))
	must(t, "no worker serves queue default", "runs", path)
}

// No command changes a file of another program, or an empty file.
func TestFilesOfOthers(t *testing.T) {
	dir := t.TempDir()
	other, empty := filepath.Join(dir, "other.db"), filepath.Join(dir, "empty.db")
	damage(t, other, "CREATE TABLE bookmarks (url TEXT)")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{other, empty} {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commands {
			if c.name == "migrate" { // not of files
				continue
			}
			args := []string{c.name, path, "x", "x"}[:2+min(2, len(strings.Fields(c.args)))]
			if c.name == "ui" {
				args = []string{"ui", "-http", "127.0.0.1:0", path}
			}
			want := "none of stint's tables"
			if c.name == "import" {
				want = "exists: import makes a new database"
			}
			if got, err := ask(t, args...); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("stint %q: %v\n%s", args, err, got)
			}
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%s has changed: %d bytes, before %d (%v)", path, len(after), len(before), err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("beside the files: %v, %v", left, err)
	}
	must(t, "", "cancel", "-all", worked(t)) // the control
}

// No command prints control characters of a name.
func TestOddNames(t *testing.T) {
	path := worked(t)
	name := "odd \x1b[31m\u202e\x00\r\nname"
	id := must(t, "", "enqueue", "-force", "-queue", name, path, name, `"\u202e"`)
	for _, args := range [][]string{{"runs", path}, {"run", path, id}, {"queues", path}, {"cron", path}, {"journal", path, id}, {"cancel", "-task", name, path}} {
		for _, r := range must(t, "", args...) {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("stint %q prints %q", args, r)
			}
		}
	}
	must(t, "odd  [31m    name", "run", path, id)
	if got := must(t, `"Task":"odd `, "runs", "-json", "-limit", "1", path); !json.Valid([]byte(got)) { // the control: all of it, as JSON
		t.Errorf("not JSON: %s", got)
	}
	if got := printableLines("no run \x1b[2J\nof \u202ethat name"); got != "no run  [2J\nof  that name" {
		t.Errorf("an error is printed as %q", got)
	}
}

// Commands that only read do not change the file: an overdue cron stays overdue.
func TestLookingChangesNothing(t *testing.T) {
	path := worked(t)
	damage(t, path, "UPDATE stint_crons SET next_at = 1000")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := must(t, "ID", "runs", "-json", path)
	var r struct{ ID string }
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	for _, args := range [][]string{{"runs", path}, {"run", path, r.ID}, {"tail", path, r.ID}, {"journal", path, r.ID}, {"export", path, r.ID},
		{"cron", path}, {"queues", path}, {"workers", path}, {"doctor", path}, {"backup", path, copied}, {"delete", "-dry-run", "-task", "steps", path}} {
		must(t, "", args...)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the file: %v, %v", left, err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the file has changed (%v)", err)
	}
	must(t, "1970-01-01", "cron", path)
	must(t, "", "pause", path, "default") // the control
	if after, err := os.ReadFile(path); err != nil || bytes.Equal(after, before) {
		t.Errorf("a command that changes something has not changed the file (%v)", err)
	}
	must(t, "1970-01-01", "cron", path) // nor does it fire a cron
}
