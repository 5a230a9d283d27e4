package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
)

// A worker with WithTasks takes the runs of these tasks and leaves all others.
func TestWithTasks(t *testing.T) {
	c := opened(t)
	one, two := stint.NewTask(c, "one", double), stint.NewTask(c, "two", double)
	stop := working(t, c, stint.WithTasks("one"))
	left := enqueue(t, two, 3)
	if n := runTask(t, one, 4); n != 8 {
		t.Errorf("output %d", n)
	}
	if info := infoOf(t, left); info.State != stint.StateQueued || info.Blocked != "no worker has task two" {
		t.Errorf("the other task's run is %v: %s", info.State, info.Blocked)
	}
	stop()
	working(t, c)
	output(t, left)
}

// Two workers share the tasks of a workflow, whichever of them meets a run of the other's first.
func TestWithTasksOfWorkflow(t *testing.T) {
	c := opened(t)
	wf := stint.NewWorkflow[int](c, "wf")
	ran := func(ctx context.Context, _ int) (string, error) {
		info, _ := stint.Info(ctx)
		return info.Worker, nil
	}
	a := stint.AddTask(wf, "a", ran)
	b := stint.AddTask(wf, "b", ran, stint.WithParents(a))
	working(t, c, stint.WithTasks("wf:a"), stint.WithName("first"))
	working(t, c, stint.WithTasks("wf:b"), stint.WithName("second"))
	out := output(t, enqueue(t, wf, 1))
	if x, y := must[string](t)(a.From(out)), must[string](t)(b.From(out)); x != "first" || y != "second" {
		t.Errorf("a ran on %s, b on %s", x, y)
	}
	working(t, c, stint.WithTasks("wf"), stint.WithName("third"))
	runTask(t, wf, 1)
}

// A worker with WithHandler works tasks that its program does not define, and those that it does with
// their options.
func TestWithHandler(t *testing.T) {
	c := opened(t)
	stint.NewTask[int, int](c, "known", nil, stint.WithRetries(1))
	working(t, c, stint.WithTasks("known", "unknown", "silent", "broken"), stint.WithHandler(func(ctx context.Context, in []byte) ([]byte, error) {
		info, _ := stint.Info(ctx)
		switch {
		case info.Task == "silent":
			return nil, nil
		case info.Task == "broken":
			return []byte("{"), nil
		case info.Attempt == 1:
			return nil, errors.New("first attempt")
		}
		return fmt.Appendf(nil, `{"task":%q,"input":%s}`, info.Task, in), nil
	}))
	if got := output(t, enqueueJSON(t, c, "known", json.RawMessage("7"))); string(got) != `{"task":"known","input":7}` {
		t.Errorf("output %s", got)
	}
	if got := output(t, enqueueJSON(t, c, "silent", json.RawMessage("7"))); string(got) != "null" {
		t.Errorf("an empty output is %s", got)
	}
	for task, want := range map[string]string{"unknown": "first attempt", "broken": "the output that the handler returned is not JSON"} {
		_, err := enqueueJSON(t, c, task, json.RawMessage("7")).Wait(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", task, err, want)
		}
	}
	if tasks := must[*stint.Names](t)(c.Names(t.Context())).Tasks; slices.ContainsFunc(tasks, func(s string) bool { return strings.Contains(s, ":") }) {
		t.Errorf("names of tasks: %q", tasks)
	}
}

// Without WithTasks the handler works the tasks that the client defines; a function that runs after a failure stays
// the program's own. A middleware wraps the handler.
func TestWithHandlerOfAll(t *testing.T) {
	reported := make(chan string, 1)
	c := opened(t, stint.WithMiddleware(func(next stint.Handler) stint.Handler {
		return func(ctx context.Context, in []byte) ([]byte, error) {
			out, err := next(ctx, in)
			return append(out, "0"...), err
		}
	}))
	stint.NewTask(c, "t", double, stint.WithOnFailure(func(_ context.Context, in int, err *stint.TaskError) error {
		reported <- fmt.Sprint(in, " ", err.Err)
		return nil
	}))
	wf := stint.NewWorkflow[int](c, "wf")
	a := stint.AddTask(wf, "a", double)
	working(t, c, stint.WithHandler(func(ctx context.Context, in []byte) ([]byte, error) {
		if string(in) == "13" {
			return nil, errors.New("unlucky")
		}
		return []byte("4"), nil
	}))
	if out := must[int](t)(a.From(output(t, enqueue(t, wf, 1)))); out != 40 {
		t.Errorf("output %d", out)
	}
	enqueueJSON(t, c, "t", json.RawMessage("13"))
	if got := <-reported; got != "13 unlucky" {
		t.Errorf("the failure's function got %q", got)
	}
	left := enqueueJSON(t, c, "elsewhere", json.RawMessage("1"))
	if got := infoOf(t, left).Blocked; got != "no worker has task elsewhere" {
		t.Errorf("a task that nobody defines: %q", got)
	}
}

func TestWorkerTasksMisuse(t *testing.T) {
	c := opened(t)
	for want, opt := range map[string]stint.WorkerOption{
		"no task is named": stint.WithTasks(),
		"task name":        stint.WithTasks("a", ""),
		"want a function":  stint.WithHandler(nil),
	} {
		if _, err := c.NewWorker(opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
