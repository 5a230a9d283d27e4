package cel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
	"github.com/stint-dev/stint/store"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func define(t testing.TB, c *stint.Client, d stint.Definition) (version string) {
	t.Helper()
	return must[string](t)(c.Define(t.Context(), d))
}

func enqueueJSON(t testing.TB, c *stint.Client, task, input string) *stint.Run[json.RawMessage] {
	t.Helper()
	return must[*stint.Run[json.RawMessage]](t)(c.EnqueueJSON(t.Context(), task, json.RawMessage(input)))
}

func output(t testing.TB, run *stint.Run[json.RawMessage]) string {
	t.Helper()
	return string(must[json.RawMessage](t)(run.Wait(t.Context())))
}

func publish(t testing.TB, c *stint.Client, payload any, opts ...stint.EventOption) {
	t.Helper()
	must[string](t)(c.Publish(t.Context(), "order.paid", payload, opts...))
}

func echo(_ context.Context, in []byte) ([]byte, error) { return in, nil }

// working has a worker for the tasks until the test ends.
func working(t testing.TB, c *stint.Client, h stint.Handler, tasks ...string) {
	t.Helper()
	w := must[*stint.Worker](t)(c.NewWorker(stint.WithTasks(tasks...), stint.WithHandler(h)))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
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
		publish(t, c, map[string]any{"total": 11, "user": "ann"}, stint.WithScope("shop"), stint.WithMetadata(map[string]string{"a": "b"}))
		publish(t, c, map[string]any{"total": 11, "user": "ann"}, stint.WithScope("shop")) // the same key
		publish(t, c, map[string]any{"total": 9, "user": "bob"}, stint.WithScope("shop"))
		runs := must[*stint.RunPage](t)(c.ListRuns(t.Context(), stint.RunFilter{})).Runs
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
		publish(t, c, map[string]any{"total": 11, "user": "eve"}, stint.WithScope("shop"))
		if n := len(must[*stint.RunPage](t)(c.ListRuns(t.Context(), stint.RunFilter{})).Runs); n != 2 {
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

// A filter's expression reads its own payload, and the event: each of two filters with one expression by its
// own payload.
func TestFilterVariables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		define(t, c, stint.Definition{Name: "t", TaskOptions: stint.TaskOptions{Events: []string{"order.*"},
			EventFilters: []stint.EventFilterSpec{
				{Scope: "s", Expression: "input.total > payload.from", Payload: json.RawMessage(`{"from":10}`)},
				{Scope: "s", Expression: "input.total > payload.from", Payload: json.RawMessage(`{"from":20}`)},
				{Scope: "s", Expression: "input.total > payload.from"}, // it has none
				{Scope: "none", Expression: "payload == {}"},
				{Scope: "names", Expression: "event_key == key && additional_metadata == metadata && metadata.a == 'b'"},
			}}})
		started := func(scope string, total int) (payloads []string) {
			t.Helper()
			id := must[string](t)(c.Publish(t.Context(), "order.paid", map[string]int{"total": total}, stint.WithScope(scope),
				stint.WithMetadata(map[string]string{"a": "b"})))
			for _, r := range must[*stint.RunPage](t)(c.ListRuns(t.Context(), stint.RunFilter{Event: id})).Runs {
				payloads = append(payloads, r.Metadata[store.MetaPayload])
			}
			return payloads
		}
		for i, want := range [][]string{{`{"from":10}`}, {`{"from":10}`}, {`{"from":20}`, `{"from":10}`}, nil} {
			if got := started("s", []int{11, 20, 21, 10}[i]); !slices.Equal(got, want) {
				t.Errorf("event %d starts runs by %v, want %v", i, got, want)
			}
		}
		for _, scope := range []string{"none", "names"} {
			if got := started(scope, 1); len(got) != 1 {
				t.Errorf("scope %s: %d runs", scope, len(got))
			}
		}
	})
}

// A filter may ask for the ID that the event gets. What waits for an event has no filter's payload, and may look at
// an event before it has an ID.
func TestFilterOfEventID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		define(t, c, stint.Definition{Name: "t", TaskOptions: stint.TaskOptions{Events: []string{"order.*"}}})
		first := must[string](t)(c.Publish(t.Context(), "other", 0))
		for _, expr := range []string{"event_id > " + strconv.Quote(first), "event_id <= " + strconv.Quote(first)} {
			must[int64](t)(c.CreateFilter(t.Context(), stint.TriggerFilter{Task: "t", Scope: "s", Expression: expr, Payload: expr}))
		}
		time.Sleep(time.Second)
		for range 2 { // once the filters are known, too
			id := must[string](t)(c.Publish(t.Context(), "order.paid", 0, stint.WithScope("s")))
			if runs := must[*stint.RunPage](t)(c.ListRuns(t.Context(), stint.RunFilter{Event: id})).Runs; len(runs) != 1 {
				t.Errorf("%d runs, want that of the filter for later events", len(runs))
			}
		}
	})
	for _, expr := range []string{"event_id == ''", "payload == 1"} {
		w := stint.ConditionSpec{Event: &stint.EventSpec{Key: "e", Filter: expr}}
		_, err := stinttest.New(t).Define(t.Context(), stint.Definition{Name: "w", Tasks: []stint.TaskSpec{{Name: "a", WaitFor: &w}}})
		if err == nil || !strings.Contains(err.Error(), "has no value here") {
			t.Errorf("a wait with %s: %v", expr, err)
		}
	}
}

// A filter may ask for the event's scope, of events that come and of those that were there.
func TestFilterOfScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stinttest.New(t)
		task := stint.NewTask(c, "t", func(ctx context.Context, _ int) (all []int, err error) {
			for range 2 {
				fired, err := stint.WaitFor(ctx, stint.UserEvent("order.paid", stint.WithFilter("scope == 'a'")))
				if err != nil {
					return nil, err
				}
				var n int
				if err := fired.Decode("order.paid", &n); err != nil {
					return nil, err
				}
				all = append(all, n)
			}
			return all, nil
		})
		run := must[*stint.Run[[]int]](t)(task.Enqueue(t.Context(), 0))
		for i, scope := range []string{"b", "a"} {
			publish(t, c, i, stint.WithScope(scope))
		}
		w := must[*stint.Worker](t)(c.NewWorker())
		ctx, stop := context.WithCancel(t.Context())
		worked := make(chan error, 1)
		go func() { worked <- w.Run(ctx) }()
		defer func() {
			stop()
			<-worked
		}()
		time.Sleep(time.Second)
		publish(t, c, 2)
		publish(t, c, 3, stint.WithScope("a"))
		if got := must[[]int](t)(run.Wait(t.Context())); !slices.Equal(got, []int{1, 3}) {
			t.Errorf("events %v, want those of the scope", got)
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
		working(t, c, echo, "t")
		start := time.Now()
		var runs []*stint.Run[json.RawMessage]
		for range 4 {
			runs = append(runs, enqueueJSON(t, c, "t", `{"user":"ann","n":2}`))
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
	c := stinttest.New(t)
	define(t, c, stint.Definition{Name: "t", TaskOptions: stint.TaskOptions{Retries: 5, Events: []string{"e"},
		Concurrency: []stint.ConcurrencySpec{{Key: "input.user", Max: 1}}}})
	define(t, c, stint.Definition{Name: "once", TaskOptions: stint.TaskOptions{
		Idempotency: &stint.IdempotencySpec{Key: "checksum(input.id)", TTL: stint.Duration(time.Hour)}}})
	working(t, c, echo, "t", "once")
	_, err := enqueueJSON(t, c, "t", `{"usr":"ann"}`).Wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), `concurrency: 0: key: expression "input.user": no such key: user`) {
		t.Errorf("the run's error is %v", err)
	}
	output(t, enqueueJSON(t, c, "t", `{"user":"ann"}`))
	must[string](t)(c.Publish(t.Context(), "e", "no object"))
	byEvent := must[*stint.RunPage](t)(c.ListRuns(t.Context(), stint.RunFilter{Tasks: []string{"t"}, Limit: 1})).Runs[0]
	if _, err := stint.RunByID[json.RawMessage](c, byEvent.ID).Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "input.user") {
		t.Errorf("the event's run has the error %v", err)
	}
	if _, err := c.EnqueueJSON(t.Context(), "once", json.RawMessage("{}")); err == nil || !strings.Contains(err.Error(), "idempotency: key: ") {
		t.Errorf("without its key: %v", err)
	}
	one, two := enqueueJSON(t, c, "once", `{"id":"1"}`), enqueueJSON(t, c, "once", `{"id":"1"}`)
	if one.ID() != two.ID() {
		t.Error("two runs have one key")
	}
}

func TestDefineErrors(t *testing.T) {
	c := stinttest.New(t)
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

func flowOf(tasks ...stint.TaskSpec) stint.Definition {
	return stint.Definition{Name: "flow", Tasks: tasks}
}

// A workflow that is defined as data runs as one of code: parents, conditions, limits of tasks, and on-failure.
func TestDefinedWorkflow(t *testing.T) {
	c := stinttest.New(t)
	define(t, c, flowOf(
		stint.TaskSpec{Name: "join", Parents: []string{"small", "large"}},
		stint.TaskSpec{Name: "small", Parents: []string{"size"}, SkipIf: &stint.ConditionSpec{
			Parent: &stint.ParentSpec{Name: "size", Output: "output.n > input.limit"}}},
		stint.TaskSpec{Name: "large", Parents: []string{"size"}, SkipIf: &stint.ConditionSpec{AnyOf: []stint.ConditionSpec{
			{Parent: &stint.ParentSpec{Name: "size", Output: "output.n <= input.limit"}}, {Sleep: stint.Duration(time.Hour)}}}},
		stint.TaskSpec{Name: "size", TaskOptions: stint.TaskOptions{Retries: 1,
			Concurrency: []stint.ConcurrencySpec{{Key: "workflow_run_id", Max: 1}}}},
	))
	handler := stint.Handler(func(ctx context.Context, in []byte) ([]byte, error) {
		switch info, _ := stint.Info(ctx); {
		case info.Task == "flow:size" && info.Attempt == 1:
			return nil, errors.New("again")
		case info.Task == "flow:size":
			return []byte(`{"n":7}`), nil
		default:
			return fmt.Appendf(nil, "%q", info.Task), nil
		}
	})
	working(t, c, handler, "flow")
	for input, want := range map[string]string{
		`{"limit":5}`: `{"join":"flow:join","large":"flow:large","size":{"n":7}}`,
		`{"limit":9}`: `{"join":"flow:join","size":{"n":7},"small":"flow:small"}`,
	} {
		if got := output(t, enqueueJSON(t, c, "flow", input)); got != want {
			t.Errorf("outputs of %s: %s, want %s", input, got, want)
		}
	}
}

// The conditions of a definition have names, under which a task is told which made it start. An event of before the wait
// does not count if it asks for that.
func TestDefinedConditionNames(t *testing.T) {
	c := stinttest.New(t)
	define(t, c, flowOf(stint.TaskSpec{Name: "wait", WaitFor: &stint.ConditionSpec{Name: "both", AllOf: []stint.ConditionSpec{
		{Name: "answer", AnyOf: []stint.ConditionSpec{
			{Name: "yes", Event: &stint.EventSpec{Key: "order.paid", Filter: "input.ok", FromNow: true}}, {Name: "late", Sleep: stint.Duration(time.Hour)}}},
		{Sleep: stint.Duration(time.Nanosecond)}}}}))
	publish(t, c, map[string]any{"ok": true, "by": "nobody"})
	working(t, c, func(ctx context.Context, _ []byte) ([]byte, error) {
		f, err := stint.Triggers(ctx)
		if err != nil {
			return nil, err
		}
		return json.Marshal(f)
	}, "flow")
	run := enqueueJSON(t, c, "flow", "{}")
	publish(t, c, map[string]any{"ok": true, "by": "Ann"})
	if got, want := output(t, run), `{"wait":{"answer":null,"both":null,"sleep":null,"yes":{"by":"Ann","ok":true}}}`; got != want {
		t.Errorf("fired: %s, want %s", got, want)
	}
	long := flowOf(stint.TaskSpec{Name: "wait", WaitFor: &stint.ConditionSpec{Name: strings.Repeat("n", 256), Sleep: 1}})
	if _, err := c.Define(t.Context(), long); err == nil || !strings.Contains(err.Error(), "wait_for") {
		t.Errorf("a name that is too long: %v", err)
	}
}

// The on-failure task of a definition runs once; expressions that cannot be computed fail the task that they are of.
func TestDefinedFailures(t *testing.T) {
	c := stinttest.New(t)
	d := flowOf(
		stint.TaskSpec{Name: "a"},
		stint.TaskSpec{Name: "b", Parents: []string{"a"}, WaitFor: &stint.ConditionSpec{Parent: &stint.ParentSpec{Name: "a", Output: "output.missing"}}})
	d.OnFailure = &stint.TaskSpec{Name: "tell"}
	define(t, c, d)
	d.Name, d.Tasks, d.OnFailure = "keyed", []stint.TaskSpec{{Name: "a"}}, nil
	d.Concurrency = []stint.ConcurrencySpec{{Key: "input.user", Max: 1}}
	define(t, c, d)
	failed := make(chan string, 1)
	handler := stint.Handler(func(ctx context.Context, in []byte) ([]byte, error) {
		if info, _ := stint.Info(ctx); info.Task == "flow:on-failure" {
			failed <- string(in)
		}
		return []byte("{}"), nil
	})
	working(t, c, handler, "flow", "keyed")
	_, err := enqueueJSON(t, c, "flow", "1").Wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), `expression "output.missing"`) {
		t.Errorf("the run's error is %v", err)
	}
	if in := <-failed; in != "1" {
		t.Errorf("the on-failure task has the input %s", in)
	}
	_, err = enqueueJSON(t, c, "keyed", "{}").Wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), `concurrency: 0: key: expression "input.user"`) {
		t.Errorf("the keyed run's error is %v", err)
	}
}

func TestDefineWorkflowErrors(t *testing.T) {
	c := stinttest.New(t)
	when := func(s stint.ConditionSpec) stint.Definition {
		return flowOf(stint.TaskSpec{Name: "a"}, stint.TaskSpec{Name: "b", Parents: []string{"a"}, WaitFor: &s})
	}
	with := func(o stint.TaskOptions) stint.Definition { return flowOf(stint.TaskSpec{Name: "a", TaskOptions: o}) }
	ofRun := flowOf(stint.TaskSpec{Name: "a"})
	ofRun.Retries = 1
	lone := stint.Definition{Name: "t", OnFailure: &stint.TaskSpec{}}
	hooked := flowOf(stint.TaskSpec{Name: "a"})
	hooked.OnFailure = &stint.TaskSpec{Parents: []string{"a"}}
	for want, d := range map[string]stint.Definition{
		`tasks: "b": parents: the workflow has no task "x"`:     flowOf(stint.TaskSpec{Name: "b", Parents: []string{"x"}}),
		`parents: a cycle: a, b, a`:                             flowOf(stint.TaskSpec{Name: "a", Parents: []string{"b"}}, stint.TaskSpec{Name: "b", Parents: []string{"a"}}),
		`tasks: there are two "a"`:                              flowOf(stint.TaskSpec{Name: "a"}, stint.TaskSpec{Name: "a"}),
		`tasks: "": want a name`:                                flowOf(stint.TaskSpec{}),
		`tasks: "a": timeout: `:                                 with(stint.TaskOptions{Timeout: -1}),
		`tasks: "a": crons: it is an option of the workflow`:    with(stint.TaskOptions{Crons: []stint.CronSpec{{Spec: "@daily"}}}),
		`retries: it is an option of a workflow's tasks`:        ofRun,
		`on_failure: it is of a workflow`:                       lone,
		`on_failure: parents and conditions`:                    hooked,
		`tasks: "b": wait_for: want exactly one of`:             when(stint.ConditionSpec{}),
		`tasks: "b": wait_for: SleepFor(-1ns)`:                  when(stint.ConditionSpec{Sleep: -1}),
		`wait_for: all_of: 1: parent: name: "c" is not one`:     when(stint.ConditionSpec{AllOf: []stint.ConditionSpec{{Sleep: 1}, {Parent: &stint.ParentSpec{Name: "c"}}}}),
		`wait_for: parent: output: expression "1": it is a int`: when(stint.ConditionSpec{Parent: &stint.ParentSpec{Name: "a", Output: "1"}}),
		`wait_for: event: empty event key`:                      when(stint.ConditionSpec{Event: &stint.EventSpec{}}),
		`wait_for: event: WithFilter: filter "input."`:          when(stint.ConditionSpec{Event: &stint.EventSpec{Key: "e", Filter: "input."}}),
	} {
		if _, err := c.Define(t.Context(), d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// CompileExpr compiles expressions for programs that are built on stint, over the variables that they give.
func TestCompileExpr(t *testing.T) {
	vars := stint.ExprVars{Input: json.RawMessage(`{"n":7,"s":"text"}`), Payload: json.RawMessage(`{"n":5}`), EventKey: "k", RunID: "run",
		Metadata: map[string]string{"a": "b"}, Headers: map[string]string{"x-kind": "push"}, EventID: "id"}
	for expr, want := range map[string]string{
		"input.s + metadata.a": "textb", "headers['x-kind'] + key": "pushk", "event_id + workflow_run_id": "idrun", "input.n": "", "input.gone": "",
	} {
		f := must[func(stint.ExprVars) (string, error)](t)(stint.CompileExpr[string](expr))
		if got, err := f(vars); got != want || (err != nil) != (want == "") {
			t.Errorf("%s is %q, %v", expr, got, err)
		}
	}
	f := must[func(stint.ExprVars) (bool, error)](t)(stint.CompileExpr[bool]("input.n > payload.n && metadata == {}", "input", "payload", "metadata"))
	vars.Metadata = nil
	if got, err := f(vars); !got || err != nil {
		t.Errorf("it is %v, %v", got, err)
	}
	for _, expr := range []string{"headers.a", "input.", "1", "unknown"} {
		if _, err := stint.CompileExpr[string](expr, "input"); err == nil {
			t.Errorf("%s compiles", expr)
		}
	}
}
