package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stint-dev/stint"
)

const (
	layers = 6
	wide   = 10 // tasks in a layer
)

// newPublishSite returns a graph of 60 tasks whose edges cross.
func newPublishSite(c *stint.Client) *stint.Workflow[string] {
	w := stint.NewWorkflow[string](c, "publish-site")
	var before []stint.AnyNode
	for layer, name := range []string{"fetch", "parse", "translate", "render", "check", "upload"} {
		var nodes []stint.AnyNode
		for i := range wide {
			var parents []stint.AnyNode
			if layer > 0 {
				parents = []stint.AnyNode{before[i], before[(3*i+layer)%wide]}
			}
			nodes = append(nodes, stint.AddTask(w, fmt.Sprintf("%s-%d", name, i), func(ctx context.Context, branch string) (string, error) {
				stint.Logger(ctx).Info("done", "what", name, "part", i)
				if branch == "broken" && name == "render" && i == 4 {
					return "", errors.New("template page.html: line 17: unexpected end")
				}
				return name, nil
			}, stint.WithParents(parents...)))
		}
		before = nodes
	}
	return w
}

// newNightlyBuild returns a workflow with a branch that is skipped, a wait, and a task that runs after a failure.
func newNightlyBuild(c *stint.Client) *stint.Workflow[int] {
	w := stint.NewWorkflow[int](c, "nightly-build", stint.WithCron("0 2 * * *"))
	compile := stint.AddTask(w, "compile", func(_ context.Context, n int) (int, error) { return n, nil })
	test := stint.AddTask(w, "test", func(_ context.Context, n int) (int, error) {
		if n%2 == 1 {
			return 0, fmt.Errorf("%d tests failed", n)
		}
		return n, nil
	}, stint.WithParents(compile), stint.WithWaitFor(stint.SleepFor(5*time.Millisecond)))
	stint.AddTask(w, "docs", func(_ context.Context, n int) (int, error) { return n, nil }, stint.WithParents(compile),
		stint.WithSkipIf(stint.ParentOutput(compile, func(n int) bool { return n > 1 })))
	stint.AddTask(w, "release", func(_ context.Context, n int) (int, error) { return n, nil }, stint.WithParents(test))
	w.OnFailure(func(ctx context.Context, n int, failed *stint.WorkflowError) error {
		stint.Logger(ctx).Error("the build is broken", "build", n, "err", failed)
		return nil
	})
	return w
}
