package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// A task reads by name, without their types, what all tasks before it have returned, and nothing else.
func TestEarlierOutputs(t *testing.T) {
	c := opened(t)
	w := stint.NewWorkflow[int](c, "flow")
	read := func(ctx context.Context) (string, error) {
		o, err := stint.EarlierOutputs(ctx)
		if err != nil {
			return "", err
		}
		b, err := json.Marshal(o)
		text := string(b)
		for _, name := range o.Names() {
			out, err := o.JSON(name)
			text += fmt.Sprintf(" %s:%s,%v", name, out, errors.Is(err, stint.ErrSkipped))
		}
		if _, err := o.JSON("other"); !errors.Is(err, stint.ErrNotFound) {
			text += fmt.Sprintf(" other: %v", err)
		}
		return text, err
	}
	first := stint.AddTask(w, "first", double)
	stint.AddTask(w, "other", double)
	skipped := stint.AddTask(w, "skipped", double, stint.WithParents(first), stint.WithSkipIf(stint.ParentOutput(first, func(int) bool { return true })))
	second := stint.AddTask(w, "second", double, stint.WithParents(first))
	last := stint.AddTask(w, "last", func(ctx context.Context, _ int) (string, error) { return read(ctx) }, stint.WithParents(second, skipped))
	root := stint.AddTask(w, "root", func(ctx context.Context, _ int) (string, error) { return read(ctx) })
	all := make(chan string, 1)
	w.OnSuccess(func(ctx context.Context, _ int, _ stint.Outputs) error {
		text, err := read(ctx)
		all <- text
		return err
	})
	working(t, c)
	run := must[*stint.Run[stint.Outputs]](t)(w.Enqueue(t.Context(), 2))
	o := must[stint.Outputs](t)(run.Wait(t.Context()))
	for node, want := range map[*stint.Node[string]]string{
		last: `{"first":4,"second":4} first:4,false second:4,false skipped:,true`, root: `{}`,
	} {
		if got, err := node.From(o); err != nil || got != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	if got := <-all; !strings.Contains(got, "other:4,false") || !strings.Contains(got, "skipped:,true") {
		t.Errorf("on success: %s", got)
	}
	outputs := map[string]string{}
	for _, task := range infoOf(t, run).Tasks {
		outputs[task.Name] = string(task.Output)
	}
	if outputs["first"] != "4" || outputs["skipped"] != "" || outputs["last"] == "" {
		t.Errorf("%q", outputs)
	}
	if _, err := stint.EarlierOutputs(t.Context()); err == nil {
		t.Error("outside of a handler: no error")
	}
	plain := stint.NewTask(c, "plain", func(ctx context.Context, _ int) (string, error) { return read(ctx) })
	if _, err := enqueue(t, plain, 1).Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "workflow's task") {
		t.Errorf("in a plain task: %v", err)
	}
}

// The on-failure and on-success tasks are among a run's tasks, also where they are not needed.
func TestHooksAreTasks(t *testing.T) {
	c := opened(t)
	w := stint.NewWorkflow[int](c, "flow")
	wait := make(chan struct{})
	stint.AddTask(w, "may fail", func(_ context.Context, n int) (int, error) {
		<-wait
		if n < 0 {
			return 0, errors.New("less than nothing")
		}
		return n, nil
	})
	seen := make(chan string, 1)
	w.OnFailure(func(ctx context.Context, _ int, given *stint.WorkflowError) error {
		failed, err := stint.WorkflowFailure(ctx)
		if err != nil {
			return err
		}
		seen <- fmt.Sprint(failed.Tasks, given.Tasks, failed.Workflow)
		return nil
	})
	w.OnSuccess(func(context.Context, int, stint.Outputs) error { return nil })
	states := func(id string) map[string]stint.State {
		m := map[string]stint.State{}
		for _, task := range getRun(t, c, id).Tasks {
			m[task.Name] = task.State
			if strings.HasPrefix(task.Name, "on-") && (task.State == stint.StateBlocked) != (task.Blocked != "") {
				t.Errorf("%s is %v: %q", task.Name, task.State, task.Blocked)
			}
		}
		return m
	}
	bad, good := must[*stint.Run[stint.Outputs]](t)(w.Enqueue(t.Context(), -1)), must[*stint.Run[stint.Outputs]](t)(w.Enqueue(t.Context(), 1))
	dropped := must[*stint.Run[stint.Outputs]](t)(w.Enqueue(t.Context(), 1))
	if err := dropped.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	queued, blocked, skipped := stint.StateQueued, stint.StateBlocked, stint.StateSkipped
	check := func(id string, want map[string]stint.State) {
		t.Helper()
		if got := states(id); !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	check(bad.ID(), map[string]stint.State{"may fail": queued, "on-failure": blocked, "on-success": blocked})
	check(dropped.ID(), map[string]stint.State{"may fail": stint.StateCanceled, "on-failure": skipped, "on-success": skipped})
	stop := working(t, c)
	close(wait)
	if _, err := bad.Wait(t.Context()); err == nil {
		t.Error("it did not fail")
	}
	if _, err := good.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if got := <-seen; got != "map[may fail:less than nothing] map[may fail:less than nothing]flow" {
		t.Errorf("the on-failure task saw %s", got)
	}
	stop()
	if err := stinttest.Drain(t.Context(), c); err != nil { // what was not begun
		t.Fatal(err)
	}
	check(bad.ID(), map[string]stint.State{"may fail": stint.StateFailed, "on-failure": stint.StateSucceeded, "on-success": skipped})
	check(good.ID(), map[string]stint.State{"may fail": stint.StateSucceeded, "on-failure": skipped, "on-success": stint.StateSucceeded})
	names := []string{}
	for _, task := range getRun(t, c, good.ID()).Tasks {
		names = append(names, task.Name)
	}
	if !slices.Equal(names, []string{"may fail", "on-failure", "on-success"}) {
		t.Errorf("%q", names)
	}
}
