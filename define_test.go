package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
)

func define(t testing.TB, c *stint.Client, d stint.Definition) (version string) {
	t.Helper()
	return must[string](t)(c.Define(t.Context(), d))
}

// echo returns its input, and the run's task and attempt.
func echo(ctx context.Context, in []byte) ([]byte, error) {
	info, _ := stint.Info(ctx)
	return fmt.Appendf(nil, `{"task":%q,"attempt":%d,"input":%s}`, info.Task, info.Attempt, in), nil
}

// What one process defines is in force in another at once, and after all have ended.
func TestDefineInEveryProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.db")
	maker := openedAt(t, path)
	other := openedAt(t, path)
	first := define(t, maker, stint.Definition{Name: "resize", TaskOptions: stint.TaskOptions{Queue: "images", Priority: 3,
		Retries: 1, Metadata: map[string]string{"team": "web"}}})
	run := enqueueJSON(t, other, "resize", json.RawMessage(`{"w":1}`))
	info := infoOf(t, run)
	if info.Queue != "images" || info.Priority != 3 || info.Metadata["team"] != "web" || info.Metadata[stint.MetaVersion] != first {
		t.Errorf("the run is of %+v", info)
	}
	second := define(t, other, stint.Definition{Name: "resize", TaskOptions: stint.TaskOptions{Queue: "pictures"}})
	if second == first {
		t.Error("two definitions have one version")
	}
	if q := infoOf(t, enqueueJSON(t, maker, "resize", json.RawMessage("1"))).Queue; q != "pictures" {
		t.Errorf("the new version has queue %s", q)
	}
	all := must[[]stint.DefinitionInfo](t)(maker.Definitions(t.Context()))
	if len(all) != 1 || all[0].Version != second || all[0].Queue != "pictures" || all[0].At.IsZero() || all[0].Error != "" {
		t.Errorf("definitions: %+v", all)
	}
	if task := all[0].Task; task.Name != "resize" || task.Queue != "pictures" || task.Handler {
		t.Errorf("it is said to be %+v", task)
	}
	third := openedAt(t, path)
	if q := infoOf(t, enqueueJSON(t, third, "resize", json.RawMessage("1"))).Queue; q != "pictures" {
		t.Errorf("after a restart the queue is %s", q)
	}
}

// A definition that no run is of is known by its name, as what code defines is.
func TestDefinitionIsKnown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.db")
	maker, other := openedAt(t, path), openedAt(t, path)
	schema := json.RawMessage(`{"type":"object"}`)
	define(t, maker, stint.Definition{Name: "build", TaskOptions: stint.TaskOptions{Queue: "builds"}, InputSchema: schema,
		Tasks: []stint.TaskSpec{{Name: "compile"}, {Name: "link", Parents: []string{"compile"}}}})
	names := must[*stint.Names](t)(other.Names(t.Context()))
	if !slices.Contains(names.Tasks, "build") || !slices.Contains(names.Queues, "builds") {
		t.Errorf("known are %+v", names)
	}
	task := must[[]stint.DefinitionInfo](t)(other.Definitions(t.Context()))[0].Task
	if !task.Workflow || len(task.Tasks) != 2 || !slices.Equal(task.Tasks[1].Parents, []string{"compile"}) || string(task.Input) != string(schema) {
		t.Errorf("it is said to be %+v", task)
	}
}

// The same content is the same version, whatever the order of its lists, and is not written again.
func TestDefineAgain(t *testing.T) {
	c := opened(t)
	d := stint.Definition{Name: "t", TaskOptions: stint.TaskOptions{Events: []string{"a", "b"},
		Crons: []stint.CronSpec{{Spec: "@daily", Input: json.RawMessage(`{"a": 1, "b": 2}`)}, {Spec: "@hourly"}}}}
	first := define(t, c, d)
	at := must[[]stint.DefinitionInfo](t)(c.Definitions(t.Context()))[0].At
	crons := must[[]stint.CronInfo](t)(c.ListCrons(t.Context()))
	d.Events = []string{"b", "a", "b"}
	d.Crons = []stint.CronSpec{{Spec: "@hourly"}, {Spec: "@daily", Input: json.RawMessage(`{"b":2,"a":1.0}`)}}
	if again := define(t, c, d); again != first {
		t.Errorf("versions %s and %s", first, again)
	}
	if now := must[[]stint.DefinitionInfo](t)(c.Definitions(t.Context()))[0].At; now != at {
		t.Error("the definition was stored again")
	}
	if n := len(must[[]stint.CronInfo](t)(c.ListCrons(t.Context()))); len(crons) != 2 || n != 2 {
		t.Errorf("%d crons, then %d", len(crons), n)
	}
	var decoded stint.Definition
	b := must[[]byte](t)(json.Marshal(must[[]stint.DefinitionInfo](t)(c.Definitions(t.Context()))[0].Definition))
	if err := json.Unmarshal(b, &decoded); err != nil || define(t, c, decoded) != first {
		t.Errorf("as JSON and back it is another: %s, %v", b, err)
	}
}

// A run keeps the options of the version that it was made by.
func TestDefinitionOfRun(t *testing.T) {
	c := opened(t)
	define(t, c, stint.Definition{Name: "t", TaskOptions: stint.TaskOptions{Retries: 2}})
	old := enqueueJSON(t, c, "t", json.RawMessage("1"))
	define(t, c, stint.Definition{Name: "t"})
	young := enqueueJSON(t, c, "t", json.RawMessage("2"))
	working(t, c, stint.WithTasks("t"), stint.WithHandler(func(ctx context.Context, in []byte) ([]byte, error) {
		if info, _ := stint.Info(ctx); info.Attempt < 3 {
			return nil, errors.New("not yet")
		}
		return in, nil
	}))
	output(t, old)
	if _, err := young.Wait(t.Context()); err == nil {
		t.Error("the run of the new version was retried")
	}
}

// Definitions and code do not take each other's names.
func TestDefinedNames(t *testing.T) {
	c := opened(t)
	stint.NewTask(c, "code", double)
	if _, err := c.Define(t.Context(), stint.Definition{Name: "code"}); err == nil || !strings.Contains(err.Error(), "NewTask") {
		t.Errorf("a task of code is defined as data: %v", err)
	}
	define(t, c, stint.Definition{Name: "data"})
	defer func() {
		if v := fmt.Sprint(recover()); !strings.Contains(v, "Define has defined the name") {
			t.Errorf("NewTask says %s", v)
		}
	}()
	stint.NewTask(c, "data", double)
}

// A stored definition that was changed by hand is listed with what is wrong, and stops neither the process nor other
// definitions; to define it again mends it.
func TestDamagedDefinition(t *testing.T) {
	ofFile(t)
	path := filepath.Join(t.TempDir(), "d.db")
	c := openedAt(t, path)
	d := stint.Definition{Name: "bad", TaskOptions: stint.TaskOptions{Queue: "q"}}
	define(t, c, d)
	define(t, c, stint.Definition{Name: "good"})
	waits := enqueueJSON(t, c, "bad", json.RawMessage("1"))
	db := asAnother(t, path)
	for body, want := range map[string]string{`{"name":"bad","queue":"other"}`: "it is not what the version says", "{": "unexpected end"} {
		if _, err := db.Exec("UPDATE stint_definitions SET body = ? WHERE task = 'bad'", body); err != nil {
			t.Fatal(err)
		}
		other := openedAt(t, path)
		all := must[[]stint.DefinitionInfo](t)(other.Definitions(t.Context()))
		if len(all) != 2 || all[0].Name != "bad" || !strings.Contains(all[0].Error, want) || all[1].Error != "" {
			t.Errorf("definitions: %+v", all)
		}
		if _, err := other.EnqueueJSON(t.Context(), "bad", json.RawMessage("1")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("enqueued: %v", err)
		}
	}
	other := openedAt(t, path)
	working(t, other, stint.WithTasks("bad", "good"), stint.WithHandler(echo))
	output(t, enqueueJSON(t, other, "good", json.RawMessage("1")))
	if _, err := waits.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "was changed in the database") {
		t.Errorf("a run of the definition: %v", err)
	}
	define(t, other, d)
	output(t, enqueueJSON(t, other, "bad", json.RawMessage("1")))
}

func flowOf(tasks ...stint.TaskSpec) stint.Definition {
	return stint.Definition{Name: "flow", Tasks: tasks}
}

// A run keeps the graph and the options that it began with.
func TestDefinedGraphOfRun(t *testing.T) {
	c := opened(t)
	old := define(t, c, flowOf(stint.TaskSpec{Name: "a", TaskOptions: stint.TaskOptions{Retries: 1}}, stint.TaskSpec{Name: "b", Parents: []string{"a"}}))
	run := enqueueJSON(t, c, "flow", json.RawMessage("1"))
	again := define(t, c, flowOf(stint.TaskSpec{Name: "b", Parents: []string{"a", "a"}}, stint.TaskSpec{Name: "a", TaskOptions: stint.TaskOptions{Retries: 1}}))
	if again != old {
		t.Error("another order of the tasks is another version")
	}
	define(t, c, flowOf(stint.TaskSpec{Name: "a"}, stint.TaskSpec{Name: "c"}))
	working(t, c, stint.WithTasks("flow"), stint.WithHandler(func(ctx context.Context, in []byte) ([]byte, error) {
		if info, _ := stint.Info(ctx); info.Task == "flow:a" && info.Attempt == 1 {
			return nil, errors.New("again")
		}
		return in, nil
	}))
	if got := output(t, run); string(got) != `{"a":1,"b":1}` {
		t.Errorf("the old run has outputs %s", got)
	}
	young := enqueueJSON(t, c, "flow", json.RawMessage("2"))
	if _, err := young.Wait(t.Context()); err == nil {
		t.Error("a task of the new version was retried")
	}
	var names []string
	for _, task := range infoOf(t, young).Tasks {
		names = append(names, task.Name)
	}
	if !slices.Equal(names, []string{"a", "c"}) {
		t.Errorf("tasks of the new run: %v", names)
	}
}

// Without package cel an expression is an error of the call, which names the package.
func TestDefineWithoutCEL(t *testing.T) {
	c := opened(t)
	for field, o := range map[string]stint.TaskOptions{
		"concurrency: 0: key: ":      {Concurrency: []stint.ConcurrencySpec{{Key: "'all'", Max: 1}}},
		"rate_limits: 0: key_expr: ": {RateLimits: []stint.RateLimitSpec{{KeyExpr: "'all'"}}},
		"idempotency: key: ":         {Idempotency: &stint.IdempotencySpec{Key: "'all'", UntilDone: true}},
		"event_filter: ":             {EventFilter: "true"},
	} {
		_, err := c.Define(t.Context(), stint.Definition{Name: "t", TaskOptions: o})
		if err == nil || !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), `import _ "github.com/stint-dev/stint/cel"`) {
			t.Errorf("%v, want %q", err, field)
		}
	}
}
