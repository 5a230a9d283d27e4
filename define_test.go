package stint_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	_ "github.com/stint-dev/stint/cel"
	"github.com/stint-dev/stint/stinttest"
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
	third := openedAt(t, path)
	if q := infoOf(t, enqueueJSON(t, third, "resize", json.RawMessage("1"))).Queue; q != "pictures" {
		t.Errorf("after a restart the queue is %s", q)
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

// Crons, events and filters of a definition start runs when no worker has the task, until a version lacks
// them. Crons and filters that were made by calls stay.
func TestDefinitionStartsRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		version := define(t, c, stint.Definition{Name: "t", TaskOptions: stint.TaskOptions{
			Crons: []stint.CronSpec{{Spec: "@every 1h", Input: json.RawMessage(`{"user":"cron"}`)}}, Events: []string{"order.*"},
			EventFilters: []stint.EventFilterSpec{{Scope: "shop", Expression: "input.total > 10", Payload: json.RawMessage("7")}},
			Concurrency:  []stint.ConcurrencySpec{{Key: "input.user + metadata['source']", Max: 1}},
			Metadata:     map[string]string{"source": "!"}, Idempotency: &stint.IdempotencySpec{Key: "input.user", UntilDone: true},
		}})
		made := must[int64](t)(c.CreateFilter(t.Context(), stint.TriggerFilter{Task: "t", Scope: "mine", Expression: "true"}))
		time.Sleep(time.Hour)
		publish(t, c, "order.paid", map[string]any{"total": 11, "user": "ann"}, stint.WithScope("shop"), stint.WithMetadata(map[string]string{"a": "b"}))
		publish(t, c, "order.paid", map[string]any{"total": 11, "user": "ann"}, stint.WithScope("shop")) // the same key
		publish(t, c, "order.paid", map[string]any{"total": 9, "user": "bob"}, stint.WithScope("shop"))
		runs := listRuns(t, c, stint.RunFilter{}).Runs
		if len(runs) != 2 {
			t.Fatalf("%d runs", len(runs))
		}
		if m := runs[0].Metadata; m["source"] != "!" || m["a"] != "b" || m[stint.MetaVersion] != version {
			t.Errorf("metadata of the event's run: %v", m)
		}
		if m := runs[1].Metadata; m[stint.MetaCron] != "t:@every 1h" || m[stint.MetaVersion] != version || string(runs[1].Input) != `{"user":"cron"}` {
			t.Errorf("the cron's run: %v of %s", m, runs[1].Input)
		}
		keys := map[string]int{}
		for _, l := range must[[]stint.ConcurrencyInfo](t)(c.ListConcurrency(t.Context())) {
			keys[l.Key] = l.Max
		}
		if keys["ann!"] != 1 || keys["cron!"] != 1 {
			t.Errorf("keys of the limit: %v", keys)
		}
		define(t, c, stint.Definition{Name: "t"})
		time.Sleep(2 * time.Hour)
		publish(t, c, "order.paid", map[string]any{"total": 11, "user": "eve"}, stint.WithScope("shop"))
		if n := len(listRuns(t, c, stint.RunFilter{}).Runs); n != 2 {
			t.Errorf("what the new version lacks has started runs: %d", n)
		}
		if all := must[[]stint.TriggerFilter](t)(c.ListFilters(t.Context(), "t")); len(all) != 1 || all[0].ID != made {
			t.Errorf("filters: %+v", all)
		}
		if err := c.DeleteDefinition(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		if err := c.DeleteDefinition(t.Context(), "t"); !errors.Is(err, stint.ErrNotFound) {
			t.Errorf("deleted twice: %v", err)
		}
	})
}

// Limits of a definition are those of its runs.
func TestDefinedLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		define(t, c, stint.Definition{Name: "t", TaskOptions: stint.TaskOptions{
			RateLimits: []stint.RateLimitSpec{{KeyExpr: "'of ' + input.user", UnitsExpr: "input.n * 1.5", LimitExpr: "input.n * 3", Window: stint.Duration(time.Second)}},
		}})
		working(t, c, stint.WithTasks("t"), stint.WithHandler(echo))
		start := time.Now()
		var runs []*stint.Run[json.RawMessage]
		for range 4 {
			runs = append(runs, enqueueJSON(t, c, "t", json.RawMessage(`{"user":"ann","n":2}`)))
		}
		for _, r := range runs {
			output(t, r)
		}
		if d := time.Since(start); d < time.Second || d > 1100*time.Millisecond {
			t.Errorf("4 runs of 3 units, of 6 a second, took %v", d)
		}
		l := must[[]stint.RateLimitInfo](t)(c.ListRateLimits(t.Context()))
		if len(l) != 1 || l[0].Key != "of ann" || l[0].Burst != 6 {
			t.Errorf("limits: %+v", l)
		}
	})
}

// An expression that cannot be computed for a run fails that run, and names itself; that of an idempotency key
// is an error of the call.
func TestExpressionOfOneRun(t *testing.T) {
	c := opened(t)
	define(t, c, stint.Definition{Name: "t", TaskOptions: stint.TaskOptions{Retries: 5, Events: []string{"e"},
		Concurrency: []stint.ConcurrencySpec{{Key: "input.user", Max: 1}}}})
	define(t, c, stint.Definition{Name: "once", TaskOptions: stint.TaskOptions{
		Idempotency: &stint.IdempotencySpec{Key: "checksum(input.id)", TTL: stint.Duration(time.Hour)}}})
	working(t, c, stint.WithTasks("t", "once"), stint.WithHandler(echo))
	_, err := enqueueJSON(t, c, "t", json.RawMessage(`{"usr":"ann"}`)).Wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), `concurrency: 0: key: expression "input.user": no such key: user`) {
		t.Errorf("the run's error is %v", err)
	}
	output(t, enqueueJSON(t, c, "t", json.RawMessage(`{"user":"ann"}`)))
	publish(t, c, "e", "no object")
	byEvent := listRuns(t, c, stint.RunFilter{Tasks: []string{"t"}, Limit: 1}).Runs[0]
	if _, err := stint.RunByID[json.RawMessage](c, byEvent.ID).Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "input.user") {
		t.Errorf("the event's run has the error %v", err)
	}
	if _, err := c.EnqueueJSON(t.Context(), "once", json.RawMessage("{}")); err == nil || !strings.Contains(err.Error(), "idempotency: key: ") {
		t.Errorf("without its key: %v", err)
	}
	one, two := enqueueJSON(t, c, "once", json.RawMessage(`{"id":"1"}`)), enqueueJSON(t, c, "once", json.RawMessage(`{"id":"1"}`))
	if one.ID() != two.ID() {
		t.Error("two runs have one key")
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

func TestDefineErrors(t *testing.T) {
	c := opened(t)
	options := func(o stint.TaskOptions) stint.Definition { return stint.Definition{Name: "t", TaskOptions: o} }
	cases := []struct {
		d    stint.Definition
		want string
	}{
		{stint.Definition{}, "empty name"},
		{stint.Definition{Name: "a:b"}, "name: no colon"},
		{stint.Definition{Name: "t", InputSchema: json.RawMessage("{")}, "input_schema: it is not JSON"},
		{options(stint.TaskOptions{Retries: -1}), "retries: WithRetries(-1)"},
		{options(stint.TaskOptions{Priority: 200}), "priority: "},
		{options(stint.TaskOptions{BackoffFactor: 2}), "backoff_factor: "},
		{options(stint.TaskOptions{Timeout: -1}), "timeout: "},
		{options(stint.TaskOptions{Sticky: "very"}), `sticky: "very": want soft or hard`},
		{options(stint.TaskOptions{Crons: []stint.CronSpec{{Spec: "never"}}}), `crons: 0: cron spec "never"`},
		{options(stint.TaskOptions{Crons: []stint.CronSpec{{Spec: "@daily"}, {Spec: "@daily"}}}), "crons: 1: "},
		{options(stint.TaskOptions{Crons: []stint.CronSpec{{Spec: "@daily", Input: json.RawMessage("{")}}}), "crons: 0: input: it is not JSON"},
		{options(stint.TaskOptions{Events: []string{""}}), "events: "},
		{options(stint.TaskOptions{EventFilter: "input +"}), "event_filter: "},
		{options(stint.TaskOptions{EventFilters: []stint.EventFilterSpec{{Scope: "s", Expression: "1"}}}), "event_filters: 0: "},
		{options(stint.TaskOptions{EventFilters: []stint.EventFilterSpec{{Expression: "true"}}}), "event_filters: 0: empty scope"},
		{options(stint.TaskOptions{Concurrency: []stint.ConcurrencySpec{{Max: 1}}}), "concurrency: 0: key: empty"},
		{options(stint.TaskOptions{Concurrency: []stint.ConcurrencySpec{{Key: "'a'"}}}), "concurrency: 0: max: 0"},
		{options(stint.TaskOptions{Concurrency: []stint.ConcurrencySpec{{Key: "1 + 1", Max: 1}}}), "concurrency: 0: key: "},
		{options(stint.TaskOptions{Concurrency: []stint.ConcurrencySpec{{Key: "output.a", Max: 1}}}), "output has no value here"},
		{options(stint.TaskOptions{Concurrency: []stint.ConcurrencySpec{{Key: "input.", Max: 1}}}), "Syntax error"},
		{options(stint.TaskOptions{RateLimits: []stint.RateLimitSpec{{}}}), "rate_limits: 0: key: "},
		{options(stint.TaskOptions{RateLimits: []stint.RateLimitSpec{{Key: "a", Limit: 1}}}), "rate_limits: 0: window: "},
		{options(stint.TaskOptions{RateLimits: []stint.RateLimitSpec{{Key: "a", UnitsExpr: "'a'"}}}), "rate_limits: 0: units_expr: "},
		{options(stint.TaskOptions{Idempotency: &stint.IdempotencySpec{}}), "idempotency: key: empty"},
		{options(stint.TaskOptions{Idempotency: &stint.IdempotencySpec{Key: "'a'"}}), "idempotency: ttl: "},
		{options(stint.TaskOptions{Affinity: []stint.Affinity{{Label: "a"}}}), "affinity: "},
	}
	for _, x := range cases {
		_, err := c.Define(t.Context(), x.d)
		if err == nil || !strings.Contains(err.Error(), x.want) || !strings.HasPrefix(err.Error(), "stint: define ") {
			t.Errorf("%v, want %q", err, x.want)
		}
	}
	if all := must[[]stint.DefinitionInfo](t)(c.Definitions(t.Context())); len(all) > 0 {
		t.Errorf("defined: %+v", all)
	}
	var d stint.Duration
	if err := json.Unmarshal([]byte(`"soon"`), &d); err == nil {
		t.Error("soon is a duration")
	}
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
	db := must[*sql.DB](t)(sql.Open("sqlite", path))
	defer db.Close()
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
