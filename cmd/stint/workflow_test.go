package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/stinttest"
)

// finished returns a file with the failed run of a workflow, a run with a child, and a run whose compensation failed.
func finished(t *testing.T) (path, flow, parent, undone string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "built.db")
	c, err := stint.Open(path, stint.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	w := stint.NewWorkflow[int](c, "order")
	first := stint.AddTask(w, "reserve", func(ctx context.Context, _ int) (int, error) {
		stint.Logger(ctx).Info("reserving")
		return 1, nil
	})
	second := stint.AddTask(w, "bill", func(ctx context.Context, _ int) (int, error) {
		stint.Logger(ctx).Info("billing")
		return 0, stint.NonRetryable(errors.New("the card is declined"))
	}, stint.WithParents(first))
	third := stint.AddTask(w, "ship", func(context.Context, int) (int, error) { return 0, nil }, stint.WithParents(second))
	stint.AddTask(w, "wait", func(context.Context, int) (int, error) { return 0, nil }, stint.WithParents(third))
	child := stint.NewTask(c, "child", func(context.Context, int) (int, error) { return 1, nil })
	of := stint.NewTask(c, "parent", func(ctx context.Context, in int) (int, error) { return child.Run(ctx, in) })
	saga := stint.NewTask(c, "saga", func(ctx context.Context, _ int) (int, error) {
		stint.Compensate(ctx, "release the room", func(context.Context) error {
			return stint.NonRetryable(errors.New("the hotel does not answer"))
		})
		return 0, stint.NonRetryable(errors.New("no flight"))
	})
	a, err1 := w.Enqueue(t.Context(), 1)
	b, err2 := of.Enqueue(t.Context(), 1)
	d, err3 := saga.Enqueue(t.Context(), 1)
	if err := errors.Join(err1, err2, err3, stinttest.Drain(t.Context(), c), c.Close()); err != nil {
		t.Fatal(err)
	}
	return path, a.ID(), b.ID(), d.ID()
}

// A workflow's run shows the runs of its tasks, their errors, and what they have logged.
func TestRunOfWorkflow(t *testing.T) {
	path, flow, parent, undone := finished(t)
	shown := must(t, "", "run", path, flow)
	for _, want := range []string{`task reserve +succeeded  [0-9a-f-]{36}\n`, `task bill +failed  [0-9a-f-]{36}  the card is declined`} {
		if !regexp.MustCompile(want).MatchString(shown) {
			t.Errorf("want %s, got %s", want, shown)
		}
	}
	got := must(t, "order:bill  billing", "logs", path, flow)
	if strings.Index(got, "order:reserve  reserving") > strings.Index(got, "billing") || strings.Count(got, "\n") > 2 {
		t.Errorf("the lines of the tasks: %s", got)
	}
	if got := must(t, "", "logs", path, flow, "-text", "reserving", "-o", "ndjson"); strings.Count(got, `"message"`) != 1 {
		t.Errorf("those with a text: %s", got)
	}
	wrong(t, "-after numbers the lines of one run", "logs", path, flow, "-after", "1")
	must(t, "release the room failed: the hotel does not answer", "run", path, undone)

	for _, tt := range []struct {
		flags []string
		want  int
	}{
		{[]string{"-parent", parent}, 1}, {[]string{"-top"}, 3}, {[]string{"-flat"}, 4}, {nil, 8},
	} {
		if got := must(t, "", append([]string{"runs", path, "-o", "ndjson"}, tt.flags...)...); strings.Count(got, `"id"`) != tt.want {
			t.Errorf("%v: want %d runs, got %s", tt.flags, tt.want, got)
		}
	}
	must(t, "1 would be", "delete", path, "-parent", parent, "-dry-run")
}
