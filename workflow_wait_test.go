package stint_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/sqlite"
)

// readCounter counts what Waits read.
type readCounter struct {
	store.Store
	awaits, outputs, ready atomic.Int32 // ready: results that had the outputs
	onAwait                func()
}

func (s *readCounter) Await(ctx context.Context, id store.ID, until store.Until) (store.Result, error) {
	s.awaits.Add(1)
	s.onAwait()
	r, err := s.Store.Await(ctx, id, until)
	if r.Tasks != nil {
		s.ready.Add(1)
	}
	return r, err
}

func (s *readCounter) Workflow(ctx context.Context, id store.ID, names []string) (*store.Graph, []store.WorkflowTask, error) {
	s.outputs.Add(1)
	return s.Store.Workflow(ctx, id, names)
}

// Waits for workflows that have ended read each once, after the first of them; one that has not is waited for.
func TestWaitForWorkflowsThatHaveEnded(t *testing.T) {
	s := &readCounter{Store: must[*sqlite.Store](t)(sqlite.Open(":memory:", sqlite.Options{})), onAwait: func() {}}
	c := must[*stint.Client](t)(stint.New(s, stint.WithLogger(slog.New(slog.DiscardHandler))))
	defer c.Close()
	w := stint.NewWorkflow[int](c, "w")
	double := stint.AddTask(w, "double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })
	blocked := make(chan struct{})
	slow := stint.NewWorkflow[int](c, "slow")
	last := stint.AddTask(slow, "last", func(context.Context, int) (int, error) { <-blocked; return 7, nil })
	defer working(t, c)()
	runs, err := w.EnqueueMany(t.Context(), []int{1, 2, 3, 4, 5})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		ended(t, r)
	}
	s.awaits.Store(0)
	s.outputs.Store(0)
	for i, r := range runs {
		out, err := r.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := double.From(out); got != 2*(i+1) || err != nil {
			t.Errorf("run %d: %d, %v", i, got, err)
		}
	}
	if s.awaits.Load() > 1 || s.outputs.Load() > 5 {
		t.Errorf("%d and %d reads for 5 runs, want 1 and 5 at most", s.awaits.Load(), s.outputs.Load())
	}
	s.onAwait = func() { close(blocked) }
	r, err := slow.Enqueue(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.Wait(t.Context())
	if got, _ := last.From(out); got != 7 || err != nil {
		t.Errorf("the run that had not ended: %d, %v", got, err)
	}
}

// Who waits for a workflow's run while it ends is given its outputs without a read, if all tasks ran once and have small ones. Else they are
// read, and are the same.
func TestWaitIsGivenOutputs(t *testing.T) {
	s := &readCounter{Store: must[*sqlite.Store](t)(sqlite.Open(t.TempDir()+"/t.db", sqlite.Options{})), onAwait: func() {}}
	c := must[*stint.Client](t)(stint.New(s, stint.WithLogger(slog.New(slog.DiscardHandler))))
	defer c.Close()
	defer working(t, c)()
	for _, tt := range []struct {
		name  string
		text  string
		given bool
	}{{"small", "x", true}, {"empty", "", true}, {"large", strings.Repeat("x", 2000), false}} {
		t.Run(tt.name, func(t *testing.T) {
			w := stint.NewWorkflow[int](c, "given-"+tt.name)
			begin, waiting := make(chan struct{}), make(chan struct{})
			first := stint.AddTask(w, "first", func(context.Context, int) (string, error) { <-begin; return tt.text, nil })
			next := stint.AddTask(w, "next", func(_ context.Context, n int) (int, error) { return n, nil }, stint.WithParents(first))
			s.ready.Store(0)
			s.outputs.Store(0)
			s.onAwait = func() { close(waiting) }
			r := must[*stint.Run[stint.Outputs]](t)(w.Enqueue(t.Context(), 5))
			go func() { <-waiting; close(begin) }()
			out := must[stint.Outputs](t)(r.Wait(t.Context()))
			ready, read := s.ready.Load(), s.outputs.Load()
			s.onAwait = func() {}
			again := must[stint.Outputs](t)(r.Wait(t.Context()))
			for _, o := range []stint.Outputs{out, again} {
				if text, err := first.From(o); text != tt.text || err != nil {
					t.Errorf("first: %q, %v", text, err)
				}
				if n, err := next.From(o); n != 5 || err != nil {
					t.Errorf("next: %d, %v", n, err)
				}
			}
			if ready == 1 && !tt.given || ready+read == 0 {
				t.Errorf("%d results with outputs, %d reads; may be given: %t", ready, read, tt.given)
			}
		})
	}
}
