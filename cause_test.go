package stint_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// What Wait returns is the same in the process that worked the run and in another: why it
// ended, and what the handler said.
func TestWaitGivesTheCauseEverywhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cause.db")
	c, other := openedAt(t, path), openedAt(t, path)
	over := stint.WithTimeout(time.Millisecond)
	late := func(f func(context.Context) error) func(context.Context, int) (int, error) {
		return func(ctx context.Context, _ int) (int, error) { <-ctx.Done(); return 0, f(ctx) }
	}
	for _, tt := range []struct {
		name   string
		fn     func(context.Context, int) (int, error)
		opts   []stint.TaskOption
		is     []error
		is_not []error
	}{
		{"ctx.Err()", late(func(ctx context.Context) error { return ctx.Err() }), []stint.TaskOption{over}, []error{stint.ErrTimeout}, []error{stint.ErrCanceled}},
		{"wrapped", late(func(ctx context.Context) error { return fmt.Errorf("calling: %w", ctx.Err()) }), []stint.TaskOption{over}, []error{stint.ErrTimeout}, []error{stint.ErrCanceled}},
		{"the cause", late(context.Cause), []stint.TaskOption{over}, []error{stint.ErrTimeout}, nil},
		{"nothing", late(func(context.Context) error { return nil }), []stint.TaskOption{over}, []error{stint.ErrTimeout}, nil},
		{"another error", late(func(context.Context) error { return fmt.Errorf("x: %w", stint.ErrNotFound) }), []stint.TaskOption{over}, []error{stint.ErrTimeout, stint.ErrNotFound}, nil},
		{"panic", late(func(context.Context) error { panic("late") }), []stint.TaskOption{over}, []error{stint.ErrTimeout}, nil},
		{"no timeout", func(context.Context, int) (int, error) { return 0, context.Canceled }, nil, []error{context.Canceled}, []error{stint.ErrTimeout, stint.ErrCanceled}},
		{"a policy that panics", func(context.Context, int) (int, error) { return 0, errors.New("x") },
			[]stint.TaskOption{stint.WithRetries(1), stint.WithRetryPolicy(func(int, error) time.Duration { panic("policy") })}, nil, []error{stint.ErrTimeout}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			task := stint.NewTask(c, tt.name, tt.fn, tt.opts...)
			stop := working(t, c)
			defer stop()
			run := enqueue(t, task, 1)
			_, here := run.Wait(t.Context())
			_, later := stint.RunByID[int](c, run.ID()).Wait(t.Context())
			_, there := stint.RunByID[int](other, run.ID()).Wait(t.Context())
			for where, err := range map[string]error{"where it ran": here, "later": later, "elsewhere": there} {
				for _, target := range tt.is {
					if !errors.Is(err, target) {
						t.Errorf("%s: %v is not %v", where, err, target)
					}
				}
				for _, target := range tt.is_not {
					if errors.Is(err, target) {
						t.Errorf("%s: %v is %v", where, err, target)
					}
				}
				if err.Error() != there.Error() {
					t.Errorf("%s: %q, elsewhere %q", where, err, there)
				}
			}
		})
	}
}

// A workflow that failed is not one that was canceled, though tasks of it were in consequence.
func TestFailedWorkflowIsNotCanceled(t *testing.T) {
	c := opened(t)
	flow := func(name string, fn func(context.Context, int) (int, error)) *stint.Workflow[int] {
		w := stint.NewWorkflow[int](c, name)
		fails := stint.AddTask(w, "z", fn)
		for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
			stint.AddTask(w, n, double, stint.WithParents(fails))
		}
		return w
	}
	failed := flow("failed", func(context.Context, int) (int, error) { return 0, stint.ErrNotFound })
	canceled := flow("canceled", func(ctx context.Context, _ int) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
	told := make(chan error, 1)
	failed.OnFailure(func(_ context.Context, _ int, err *stint.WorkflowError) error { told <- err; return nil })
	within := stint.NewTask(c, "within", func(ctx context.Context, in int) (int, error) { _, err := failed.Run(ctx, in); return 0, err })
	working(t, c)
	_, direct := failed.Run(t.Context(), 1)
	_, nested := within.Run(t.Context(), 1)
	page := listRuns(t, c, stint.RunFilter{Tasks: []string{"within"}})
	_, stored := stint.RunByID[int](c, page.Runs[0].ID).Wait(t.Context())
	for what, err := range map[string]error{"waited for": direct, "in another run": nested, "stored": stored, "on failure": <-told} {
		if errors.Is(err, stint.ErrCanceled) || !errors.Is(err, stint.ErrNotFound) {
			t.Errorf("%s: %v: want ErrNotFound, and not ErrCanceled", what, err)
		}
		says(t, err, `task "z"`)
	}
	run := enqueue(t, canceled, 1)
	if err := run.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Wait(t.Context()); !errors.Is(err, stint.ErrCanceled) {
		t.Errorf("a canceled workflow: %v", err)
	}
}
