package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

func flowOf(tasks ...stint.TaskSpec) stint.Definition {
	return stint.Definition{Name: "flow", Tasks: tasks}
}

// A workflow that is defined as data runs as one of code: parents, conditions, limits of tasks, and on-failure.
func TestDefinedWorkflow(t *testing.T) {
	c := opened(t)
	define(t, c, flowOf(
		stint.TaskSpec{Name: "join", Parents: []string{"small", "large"}},
		stint.TaskSpec{Name: "small", Parents: []string{"size"}, SkipIf: &stint.ConditionSpec{
			Parent: &stint.ParentSpec{Name: "size", Output: "output.n > input.limit"}}},
		stint.TaskSpec{Name: "large", Parents: []string{"size"}, SkipIf: &stint.ConditionSpec{AnyOf: []stint.ConditionSpec{
			{Parent: &stint.ParentSpec{Name: "size", Output: "output.n <= input.limit"}}, {Sleep: stint.Duration(time.Hour)}}}},
		stint.TaskSpec{Name: "size", TaskOptions: stint.TaskOptions{Retries: 1,
			Concurrency: []stint.ConcurrencySpec{{Key: "workflow_run_id", Max: 1}}}},
	))
	working(t, c, stint.WithTasks("flow"), stint.WithHandler(func(ctx context.Context, in []byte) ([]byte, error) {
		switch info, _ := stint.Info(ctx); {
		case info.Task == "flow:size" && info.Attempt == 1:
			return nil, errors.New("again")
		case info.Task == "flow:size":
			return []byte(`{"n":7}`), nil
		default:
			return fmt.Appendf(nil, "%q", info.Task), nil
		}
	}))
	for input, want := range map[string]string{
		`{"limit":5}`: `{"join":"flow:join","large":"flow:large","size":{"n":7}}`,
		`{"limit":9}`: `{"join":"flow:join","size":{"n":7},"small":"flow:small"}`,
	} {
		if got := output(t, enqueueJSON(t, c, "flow", json.RawMessage(input))); string(got) != want {
			t.Errorf("outputs of %s: %s, want %s", input, got, want)
		}
	}
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

// The on-failure task of a definition runs once; expressions that cannot be computed fail the task that they are of.
func TestDefinedFailures(t *testing.T) {
	c := opened(t)
	d := flowOf(
		stint.TaskSpec{Name: "a"},
		stint.TaskSpec{Name: "b", Parents: []string{"a"}, WaitFor: &stint.ConditionSpec{Parent: &stint.ParentSpec{Name: "a", Output: "output.missing"}}})
	d.OnFailure = &stint.TaskSpec{Name: "tell"}
	define(t, c, d)
	d.Name, d.Tasks, d.OnFailure = "keyed", []stint.TaskSpec{{Name: "a"}}, nil
	d.Concurrency = []stint.ConcurrencySpec{{Key: "input.user", Max: 1}}
	define(t, c, d)
	failed := make(chan string, 1)
	working(t, c, stint.WithTasks("flow", "keyed"), stint.WithHandler(func(ctx context.Context, in []byte) ([]byte, error) {
		if info, _ := stint.Info(ctx); info.Task == "flow:on-failure" {
			failed <- string(in)
		}
		return []byte("{}"), nil
	}))
	_, err := enqueueJSON(t, c, "flow", json.RawMessage("1")).Wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), `expression "output.missing"`) {
		t.Errorf("the run's error is %v", err)
	}
	if in := <-failed; in != "1" {
		t.Errorf("the on-failure task has the input %s", in)
	}
	_, err = enqueueJSON(t, c, "keyed", json.RawMessage("{}")).Wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), `concurrency: 0: key: expression "input.user"`) {
		t.Errorf("the keyed run's error is %v", err)
	}
}

func TestDefineWorkflowErrors(t *testing.T) {
	c := opened(t)
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
