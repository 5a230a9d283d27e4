package stint_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// wideFlow defines a workflow with so many first tasks that they are stored together, and one after them, which sends the
// workflow's name and input.
func wideFlow(c *stint.Client, name string, ended chan<- string, opts ...stint.WorkflowOption) *stint.Workflow[int] {
	w := stint.NewWorkflow[int](c, name, opts...)
	var roots []stint.AnyNode
	for i := range 12 {
		roots = append(roots, stint.AddTask(w, fmt.Sprint("root", i), func(_ context.Context, n int) (int, error) { return n + i, nil }))
	}
	stint.AddTask(w, "end", func(ctx context.Context, n int) (int, error) {
		ended <- fmt.Sprint(name, " ", n)
		return n, nil
	}, stint.WithParents(roots...))
	return w
}

// Workflows that begin with many tasks each can be made together: by one call, by one event, and by one handler.
func TestWorkflowsTogether(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		done := make(chan string, 100)
		flow := wideFlow(c, "flow", done)
		wideFlow(c, "one", done, stint.WithEvents("e"))
		wideFlow(c, "two", done, stint.WithEvents("e"))
		parent := stint.NewTask(c, "parent", func(ctx context.Context, n int) (int, error) {
			runs, err := flow.EnqueueMany(ctx, []int{n, n + 1})
			return len(runs), err
		})
		working(t, c)
		runs, err := flow.EnqueueMany(t.Context(), []int{1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range runs {
			if _, err := r.Wait(t.Context()); err != nil {
				t.Errorf("workflow %d: %v", i, err)
			}
		}
		publish(t, c, "e", 7)
		if n, err := parent.Run(t.Context(), 10); err != nil || n != 2 {
			t.Errorf("the handler enqueued %d, %v", n, err)
		}
		got := map[string]int{}
		for range 7 {
			got[<-done]++
		}
		for _, want := range []string{"flow 1", "flow 2", "flow 3", "one 7", "two 7", "flow 10", "flow 11"} {
			if got[want] != 1 {
				t.Errorf("%s ended %d times: %v", want, got[want], got)
			}
		}
	})
}

// At one tick of several crons, a workflow begins with many tasks, and others run beside it.
func TestWideWorkflowBesideCrons(t *testing.T) {
	in(t, func(t *testing.T, c *stint.Client) {
		done := make(chan string, 100)
		wideFlow(c, "a", done, stint.WithCron("* * * * *"), stint.WithCronInput(1))
		for _, name := range []string{"b", "c"} {
			stint.NewTask(c, name, func(_ context.Context, n int) (int, error) {
				done <- fmt.Sprint(name, " ", n)
				return n, nil
			}, stint.WithCron("* * * * *"), stint.WithCronInput(1))
		}
		working(t, c)
		time.Sleep(2*time.Minute + time.Second)
		got := map[string]int{}
		for len(done) > 0 {
			got[<-done]++
		}
		if len(got) != 3 || got["a 1"] != 2 || got["b 1"] != 2 || got["c 1"] != 2 {
			t.Errorf("after two ticks: %v", got)
		}
	})
}
