package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// The help of a command is its own.
func TestHelp(t *testing.T) {
	for _, c := range newApp(io.Discard, io.Discard).Commands {
		if c.Name == "help" { // -h is that of all
			continue
		}
		got := must(t, usageLine(c)+"\n", c.Name, "-h")
		for _, f := range c.Flags {
			if name, _ := flagTexts(f); !strings.Contains(got, "  "+name+" ") {
				t.Errorf("stint %s -h does not say %s:\n%s", c.Name, name, got)
			}
		}
		if c.Name != "completion" && must(t, "", "help", c.Name) != got {
			t.Errorf("stint help %s says something else than stint %s -h", c.Name, c.Name)
		}
		if all := must(t, "", "-h"); !strings.Contains(all, "\n  "+c.Name+" ") || !strings.Contains(all, c.Usage) {
			t.Errorf("stint -h has no %s", c.Name)
		}
	}
	for _, name := range []string{"runs", "ui"} {
		if got := must(t, "", name, "-h"); strings.Contains(got, "-all ") {
			t.Errorf("stint %s -h lists the flags of others:\n%s", name, got)
		}
	}
	if got := must(t, "stint ", "-version"); got != must(t, "", "version") {
		t.Errorf("-version prints %s", got)
	}
}

// A database is named by an argument, by -db with one dash or two, before the command too, or by the environment.
func TestDatabaseFlag(t *testing.T) {
	path, other := worked(t), worked(t)
	must(t, "", "pause", other, "default")
	must(t, "false", "queues", path) // the control
	for _, args := range [][]string{{"queues", "-db", other}, {"queues", "--db", other}, {"--db=" + other, "queues"}, {"-db", other, "queues"}} {
		must(t, "true", args...)
	}
	must(t, "", "resume", "default", "-db", other)
	must(t, "false", "-db", other, "queues")
	must(t, "", "pause", other, "default")
	t.Setenv(databaseVariable, path)
	must(t, "false", "queues")
	t.Setenv(fileVariable, other)
	must(t, "true", "queues")
	must(t, "false", "queues", path)
	must(t, "false", "queues", "-db", path)
	for want, args := range map[string][]string{
		`"x" is too much: want stint queues [-flags] DATABASE; $STINT_DB names the database`: {"queues", "x"},
		path + `" is too much: want stint queues [-flags] DATABASE; -db names the database`:  {"queues", "-db", other, path},
		"-db is empty": {"queues", "-db", ""},
	} {
		if got, err := ask(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("stint %q: %v\n%s\nwant %q", args, err, got, want)
		}
	}
}

// All commands that select runs select by time, too.
func TestSinceAndUntil(t *testing.T) {
	path := worked(t)
	id := must(t, "", "enqueue", path, "steps", `"later"`, "-delay", "1h")
	for _, args := range [][]string{{"-since", "1h"}, {"-since=2d"}, {"--until", "2200-01-01"}, {"-since", "2001-01-02T10:00:00Z", "-until", "2200-01-01 12:00"}} {
		must(t, id, append([]string{"runs", path, "-state", "scheduled"}, args...)...)
		must(t, "1 would be canceled", append([]string{"cancel", path, "-dry-run", "-state", "scheduled"}, args...)...)
	}
	for _, args := range [][]string{{"-since", "2200-01-01"}, {"-until", "1h"}, {"-until", "3d"}} {
		if got := must(t, "", append([]string{"runs", path}, args...)...); got != "" {
			t.Errorf("runs %q:\n%s", args, got)
		}
		must(t, "0 canceled", append([]string{"cancel", path}, args...)...)
		must(t, "0 queued", append([]string{"replay", path}, args...)...)
		must(t, "0 deleted", append([]string{"delete", path}, args...)...)
	}
	must(t, "1 deleted", "delete", path, "-since", "1h", "-state", "succeeded")
}

// runs -oldest begins with the oldest run, runs with the newest.
func TestOldestFirst(t *testing.T) {
	path := worked(t)
	newest := must(t, "", "enqueue", path, "steps", `"later"`, "-delay", "1h")
	if first := must(t, newest, "runs", path, "-limit", "1"); !strings.Contains(first, newest) {
		t.Errorf("the newest first: %s", first)
	}
	all := strings.Split(strings.TrimSpace(must(t, newest, "runs", path, "-oldest", "-o", "ndjson")), "\n")
	if !strings.Contains(all[len(all)-1], newest) || len(all) < 2 {
		t.Errorf("the oldest first: %q, whose last is not %s", all, newest)
	}
}

// wrongUses are commands that do nothing, with a part of what they print.
func wrongUses(path string) map[string][]string {
	return map[string][]string{
		`there is no command "rusn": did you mean "run" or "runs"?`:                                      {"rusn", path, "-state", "failed"},
		`-sate; stint help runs lists the flags: did you mean "-state"?`:                                 {"runs", path, "-sate", "failed"},
		`did you mean "-dry-run"?`:                                                                       {"cancel", path, "--dryrun", "-all"},
		`there is no command "cancle": did you mean "cancel"?`:                                           {"help", "cancle"},
		"the flags of a command follow its name":                                                         {"-state", "failed", "runs", path},
		"flag needs an argument: -state":                                                                 {"runs", path, "-state"},
		`invalid value "many" for flag -limit`:                                                           {"runs", path, "-limit", "many"},
		"-limit -5: want 0, for 100, or more":                                                            {"events", path, "-limit", "-5"},
		`time "yesterday": want one like 2026-01-31T12:00:00Z or 2026-01-31, or how`:                     {"runs", path, "-since", "yesterday"},
		`time "-1h": want one like`:                                                                      {"runs", path, "-until", "-1h"},
		`-o jsn: want table, json, ndjson: did you mean "json"?`:                                         {"runs", path, "-o", "jsn"},
		"-json and -o json: give one of them":                                                            {"runs", path, "-o", "json", "-json"},
		"ui has no answer for -o or -json":                                                               {"ui", path, "-o", "json"},
		"what tail prints has no end: want -o table or ndjson":                                           {"tail", path, "-o", "json"},
		`cron stp: want pause, resume, trigger or delete`:                                                {"cron", path, "stp", "steps:@daily"},
		"completion: name a shell: bash, zsh, fish":                                                      {"completion", "ksh"},
		`no task "setps" is known: did you mean "steps"? (-force insists; stint tasks lists them)`:       {"runs", path, "-task", "setps"},
		`no queue "defualt" is known: did you mean "default"? (-force insists; stint queues lists them)`: {"pause", path, "defualt"},
		`no state of a run: did you mean "failed"?`:                                                      {"runs", path, "-state", "faild"},
		`no state of a run: want scheduled, queued, running`:                                             {"runs", path, "-state", "zzz"},
		"nothing is selected: give IDs or a filter, or -all":                                             {"cancel", path},
		"the run's ID is missing":                                                                        {"run", path},
		`"ann" is not JSON; a text has quotes of its own: '"text"'`:                                      {"enqueue", path, "steps", "ann"},
		"name a file, or the URL of a PostgreSQL database, here, with -db, or in $STINT":                 {"runs"},
	}
}

func TestWrongUse(t *testing.T) {
	path := worked(t)
	for want, args := range wrongUses(path) {
		got, err := ask(t, args...)
		if err == nil || !strings.Contains(err.Error(), want) || exitCode(err) != 2 {
			t.Errorf("stint %q: exit %d, %v\n%s\nwant %q", args, exitCode(err), err, got, want)
		}
	}
}

// answerOf returns what the API of the page answers.
func answerOf(t *testing.T, path, url string) any {
	t.Helper()
	c, err := stint.Open(path, stint.WithReadOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := httptest.NewRequest(http.MethodGet, url, nil)
	r.Host, r.RemoteAddr = "localhost", "127.0.0.1:1"
	w := httptest.NewRecorder()
	ui.Handler(c, ui.WithLocalAccess()).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", url, w.Code, w.Body)
	}
	return decoded(t, w.Body.String())
}

func decoded(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return v
}

// -o json is the answer of the API, and -o ndjson its objects.
func TestAnswersOfTheAPI(t *testing.T) {
	path := worked(t)
	for range 3 {
		must(t, "", "enqueue", path, "steps", `"x"`, "-delay", "1h", "-metadata", "a=b")
	}
	run := must(t, "", "runs", path, "-state", "succeeded", "-o", "ndjson")
	id := decoded(t, run).(map[string]any)["id"].(string)
	for _, tt := range []struct {
		url   string
		field string // the list in the answer; "": the answer is an object
		args  []string
	}{
		{"/api/runs", "runs", []string{"runs", path}},
		{"/api/runs?limit=2", "runs", []string{"runs", path, "-limit", "2"}},
		{"/api/runs?oldest=true", "runs", []string{"runs", path, "-oldest"}},
		{"/api/runs?state=failed", "runs", []string{"runs", path, "-state", "failed"}},
		{"/api/runs/" + id, "", []string{"run", path, id}},
		{"/api/runs/" + id + "/journal", "entries", []string{"journal", path, id}},
		{"/api/runs/" + id + "/logs", "lines", []string{"tail", path, id}},
		{"/api/crons", "crons", []string{"cron", path}},
		{"/api/queues", "queues", []string{"queues", path}},
		{"/api/workers", "workers", []string{"workers", path}},
	} {
		want := answerOf(t, path, tt.url)
		if got := decoded(t, must(t, "", append(tt.args, "-o", "json")...)); !reflect.DeepEqual(got, want) {
			t.Errorf("stint %q -o json: %v\nthe API: %v", tt.args, got, want)
		}
		if tt.field == "" {
			continue
		}
		lines := []any{}
		for line := range strings.Lines(must(t, "", append(tt.args, "-o", "ndjson")...)) {
			lines = append(lines, decoded(t, line))
		}
		if all := want.(map[string]any)[tt.field]; !reflect.DeepEqual(lines, all) {
			t.Errorf("stint %q -o ndjson: %v\nthe API: %v", tt.args, lines, all)
		}
	}
	for _, tt := range []struct {
		want string
		args []string
	}{
		{`{"changed":0}`, []string{"cancel", path, id}}, // it has ended
		{`{"changed":3}`, []string{"cancel", path, "-dry-run", "-all"}},
		{`{"done":true}`, []string{"pause", path, "default"}},
		{`{"done":true}`, []string{"cron", path, "pause", "steps:@daily"}},
		{`{"problems":[]}`, []string{"doctor", path}},
		{`{"event":"`, []string{"publish", path, "some.event"}},
		{`{"run":"`, []string{"enqueue", path, "steps"}},
	} {
		must(t, tt.want, append(tt.args, "-o", "json")...)
	}
}

// runAsCommand makes this test's binary the command: its main calls that of the command.
const runAsCommand = "STINT_TEST_RUNS_AS_COMMAND"

// built returns the path of a binary that runs the command.
func built(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(runAsCommand, "1")
	return path
}

// The program says by its exit status whether it did what it was told, failed, or was used wrongly.
func TestExitStatus(t *testing.T) {
	stint, path := built(t), worked(t)
	for _, tt := range []struct {
		code         int
		out, errText string
		args         []string
	}{
		{0, "steps", "", []string{"runs", path, "-state", "succeeded"}},
		{0, "usage: stint COMMAND", "", []string{"help"}},
		{0, "usage: stint cancel", "", []string{"cancel", "-h"}},
		{0, "stint ", "", []string{"version"}},
		{1, "", "does not exist", []string{"runs", path + "x"}},
		{1, "", "not found", []string{"run", path, "01a20b55-3211-7000-801d-850939bbcc7a"}},
		{2, "", "usage: stint COMMAND", nil},
		{2, "", `did you mean "runs" or "run"?`, []string{"ruuns", path}},
		{2, "", `did you mean "-state" or "-flat"?`, []string{"runs", path, "-stat", "failed"}},
	} {
		var out, errs strings.Builder
		c := exec.Command(stint, tt.args...)
		c.Stdout, c.Stderr = &out, &errs
		c.Run()
		if got := c.ProcessState.ExitCode(); got != tt.code || !strings.Contains(out.String(), tt.out) || !strings.Contains(errs.String(), tt.errText) {
			t.Errorf("stint %q: exit %d, want %d\n%s\n%s", tt.args, got, tt.code, out.String(), errs.String())
		}
		if (errs.Len() > 0) != (tt.errText != "") || (out.Len() > 0) != (tt.out != "") {
			t.Errorf("stint %q prints\n%s\nand as errors\n%s", tt.args, out.String(), errs.String())
		}
	}
	t.Setenv(fileVariable, path)
	if out, err := exec.Command(stint, "doctor").Output(); err != nil || !strings.Contains(string(out), "no problem") {
		t.Errorf("by $%s: %v\n%s", fileVariable, err, out)
	}
}
