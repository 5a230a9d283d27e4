package stint_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

// In the handler of a client of another database, a run of this one is nobody's child, and
// all else is as outside of a handler. Of a client of the same file it is a child.
func TestClientsInEachOthersHandlers(t *testing.T) {
	type other struct {
		c      *stint.Client
		double *stint.Task[int, int]
		flow   *stint.Workflow[int]
		id     atomic.Pointer[string]
	}
	one := func(o *other, id string, err error) (int, error) {
		if err != nil {
			return 0, err
		}
		o.id.Store(&id)
		return stint.RunByID[int](o.c, id).Wait(context.Background())
	}
	ways := map[string]struct {
		orphan bool // no child in the same database either
		call   func(ctx context.Context, o *other) (int, error)
	}{
		"Run": {false, func(ctx context.Context, o *other) (int, error) { return o.double.Run(ctx, 2) }},
		"Wait": {false, func(ctx context.Context, o *other) (int, error) {
			run, err := o.double.Enqueue(ctx, 2)
			if err != nil {
				return 0, err
			}
			id := run.ID()
			o.id.Store(&id)
			return stint.RunByID[int](o.c, id).Wait(ctx)
		}},
		"Detached": {false, func(ctx context.Context, o *other) (int, error) {
			run, err := o.double.Enqueue(ctx, 2, stint.Detached())
			if err != nil {
				return 0, err
			}
			return run.Wait(ctx)
		}},
		"EnqueueMany": {false, func(ctx context.Context, o *other) (int, error) {
			runs, err := o.double.EnqueueMany(ctx, []int{2, 3})
			if err != nil {
				return 0, err
			}
			if n, err := runs[1].Wait(ctx); n != 6 || err != nil {
				return n, err
			}
			return runs[0].Wait(ctx)
		}},
		"EnqueueJSON": {false, func(ctx context.Context, o *other) (int, error) {
			run, err := o.c.EnqueueJSON(ctx, "double", json.RawMessage("2"))
			if err != nil {
				return 0, err
			}
			return stint.RunByID[int](o.c, run.ID()).Wait(ctx)
		}},
		"Schedule": {false, func(ctx context.Context, o *other) (int, error) {
			run, err := o.double.Schedule(ctx, time.Now(), 2)
			if err != nil {
				return 0, err
			}
			return run.Wait(ctx)
		}},
		"in a step": {false, func(ctx context.Context, o *other) (int, error) {
			return stint.Step(ctx, "s", func(ctx context.Context) (int, error) {
				return o.double.Run(ctx, 2, stint.WithIdempotencyKey("in a step", time.Hour))
			})
		}},
		"in a branch": {false, func(ctx context.Context, o *other) (int, error) {
			return stint.Go(ctx, "b", func(ctx context.Context) (int, error) { return o.double.Run(ctx, 2) }).Wait(ctx)
		}},
		"a workflow": {false, func(ctx context.Context, o *other) (int, error) {
			out, err := o.flow.Run(ctx, 2)
			b, merr := json.Marshal(out)
			var m map[string]int
			err = errors.Join(err, merr, json.Unmarshal(b, &m))
			return m["a"], err
		}},
		"an event": {true, func(ctx context.Context, o *other) (int, error) {
			if _, err := o.c.Publish(ctx, "doubled", 2); err != nil {
				return 0, err
			}
			page, err := o.c.ListEvents(ctx, stint.EventFilter{})
			return one(o, page.Events[0].Started[0], err)
		}},
	}
	for _, same := range []bool{false, true} {
		dir := t.TempDir()
		a := openedAt(t, filepath.Join(dir, "a.db"))
		o := &other{c: openedAt(t, filepath.Join(dir, map[bool]string{false: "b.db", true: "a.db"}[same]))}
		o.double = stint.NewTask(o.c, "double", double, stint.WithEvents("doubled"))
		o.flow = stint.NewWorkflow[int](o.c, "flow")
		stint.AddTask(o.flow, "a", double)
		tasks := map[string]*stint.Task[int, int]{}
		for name, way := range ways {
			tasks[name] = stint.NewTask(a, "handler, "+name, func(ctx context.Context, _ int) (int, error) {
				v, err := way.call(ctx, o)
				if err != nil {
					return 0, err
				}
				return v, stint.Sleep(ctx, time.Nanosecond) // the run is durable
			})
		}
		working(t, a)
		working(t, o.c)
		output(t, enqueue(t, tasks["Run"], 1)) // both workers are there: what was declared is what both declare
		for name, way := range ways {
			before := listRuns(t, o.c, stint.RunFilter{TopLevel: true}).Runs
			run := enqueue(t, tasks[name], 1, stint.WithPriority(7), stint.WithMetadata(map[string]string{"of": "a"}))
			if got, err := run.Wait(t.Context()); got != 4 || err != nil {
				t.Errorf("%s, same file %v: %v, %v", name, same, got, err)
				continue
			}
			top := listRuns(t, o.c, stint.RunFilter{TopLevel: true}).Runs
			made := len(top) - len(before)
			if same {
				made-- // the handler's own
			}
			if orphan := !same || way.orphan; (made > 0) != orphan {
				t.Errorf("%s, same file %v: it began %d runs without a parent", name, same, made)
			}
			if !same && (top[0].RootID != top[0].ID && top[0].RootID != "" || top[0].Priority == 7 || top[0].Metadata["of"] != "") {
				t.Errorf("%s: a run of another database has %+v", name, top[0])
			}
		}
	}
}

// A child that a handler begins through another client of its file is begun once.
func TestChildOfAnotherClientIsBegunOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a, b := openedAt(t, path, stint.WithMaxResident(0)), openedAt(t, path)
	var calls atomic.Int32
	child := stint.NewTask(b, "child", func(_ context.Context, in int) (int, error) { calls.Add(1); return in, nil })
	task := stint.NewTask(a, "parent", func(ctx context.Context, in int) (int, error) {
		v, err := child.Run(ctx, in)
		if err == nil {
			err = stint.Sleep(ctx, time.Millisecond) // it runs again from the top after
		}
		return v, err
	})
	working(t, a)
	working(t, b)
	if got, err := task.Run(t.Context(), 5); got != 5 || err != nil || calls.Load() != 1 {
		t.Errorf("%v, %v after %d calls of the child, want 1", got, err, calls.Load())
	}
}

type shape interface{ Area() int }

type square struct{ Side int }

func (s square) Area() int { return s.Side * s.Side }

// worksAs fails the test unless a task with that input type works with in, however it is begun.
func worksAs[In any](t *testing.T, name string, in In) {
	t.Run(name, func(t *testing.T) {
		c := opened(t)
		key := func(In) string { return "k" }
		failures := make(chan error, 10)
		of := func(name string, opts ...stint.TaskOption) *stint.Task[In, In] {
			return stint.NewTask(c, name, func(_ context.Context, in In) (In, error) { return in, nil }, opts...)
		}
		tasks := map[string]*stint.Task[In, In]{
			"plain":       of("plain"),
			"idempotency": of("idempotency", stint.WithIdempotency(key, time.Minute)),
			"concurrency": of("concurrency", stint.WithConcurrency(stint.Concurrency[In]{Max: 1, Key: key})),
			"rate":        of("rate", stint.WithRateLimitFunc(func(In) stint.RateLimit { return stint.RateLimit{Key: "k", Limit: 1000, Burst: 1000} })),
			"cron":        of("cron", stint.WithCron("@yearly"), stint.WithIdempotency(key, time.Minute)),
			"input":       of("input", stint.WithCron("@yearly"), stint.WithCronInput(in), stint.WithConcurrency(stint.Concurrency[In]{Max: 1, Key: key})),
			"event":       of("event", stint.WithEvents("e"), stint.WithIdempotency(key, stint.UntilDone)),
			"batch": stint.NewBatchTask(c, "batch", func(_ context.Context, ins []In) ([]In, error) { return ins, nil },
				stint.WithBatchKey(key), stint.WithBatchInterval(time.Millisecond)),
		}
		failing := stint.NewTask(c, "failing", func(context.Context, In) (int, error) { return 0, errors.New("no") },
			stint.WithOnFailure(func(_ context.Context, _ In, err *stint.TaskError) error { failures <- err; return nil }))
		working(t, c)
		want := string(must[[]byte](t)(json.Marshal(in)))
		for name, task := range tasks {
			out, err := task.Run(t.Context(), in)
			if got := string(must[[]byte](t)(json.Marshal(out))); got != want || err != nil {
				t.Errorf("%s: Run = %s, %v, want %s", name, got, err, want)
			}
			if run, err := c.EnqueueJSON(t.Context(), name, json.RawMessage(want)); err != nil {
				t.Errorf("%s: EnqueueJSON: %v", name, err)
			} else if _, err := run.Wait(t.Context()); err != nil {
				t.Errorf("%s, of JSON: %v", name, err)
			}
			if err := task.Cron(t.Context(), "made "+name, "@yearly", in); err != nil {
				t.Errorf("%s: Cron: %v", name, err)
			}
		}
		for _, cron := range must[[]stint.CronInfo](t)(c.ListCrons(t.Context())) {
			id := must[string](t)(c.TriggerCron(t.Context(), cron.Name))
			if _, err := stint.RunByID[In](c, id).Wait(t.Context()); err != nil {
				t.Errorf("cron %s: %v", cron.Name, err)
			}
		}
		if _, err := c.Publish(t.Context(), "e", in); err != nil {
			t.Errorf("Publish: %v", err)
		}
		if failing.Run(t.Context(), in); !strings.Contains((<-failures).Error(), "no") {
			t.Error("the on-failure function got another error")
		}
	})
}

// An input may be of any type that is encoded, nil too.
func TestInputsOfAnyType(t *testing.T) {
	worksAs(t, "int", 7)
	worksAs[any](t, "any, nil", nil)
	worksAs[any](t, "any", map[string]any{"a": "b"})
	worksAs[error](t, "error, nil", nil)
	worksAs[shape](t, "interface, nil", nil)
	worksAs[*square](t, "pointer, nil", nil)
	worksAs(t, "pointer", &square{3})
	worksAs[map[string]int](t, "map, nil", nil)
	worksAs[[]string](t, "slice, nil", nil)
	worksAs[json.RawMessage](t, "JSON, nil", nil)
	worksAs(t, "nothing", struct{}{})
}

// What can be stored, and not be read again, is an error where it is made.
func TestInterfacesWithMethods(t *testing.T) {
	c := opened(t)
	in := stint.NewTask(c, "in", func(context.Context, shape) (int, error) { return 1, nil })
	out := stint.NewTask(c, "out", func(_ context.Context, some bool) (error, error) {
		if some {
			return errors.New("a value"), nil
		}
		return nil, nil
	})
	step := stint.NewTask(c, "step", func(ctx context.Context, _ int) (int, error) {
		_, err := stint.Step(ctx, "s", func(context.Context) (shape, error) { return square{3}, nil })
		return 0, err
	})
	branch := stint.NewTask(c, "branch", func(ctx context.Context, _ int) (int, error) {
		_, err := stint.Go(ctx, "b", func(context.Context) (shape, error) { return square{3}, nil }).Wait(ctx)
		return 0, err
	})
	working(t, c)
	says(t, errOf(step.Run(t.Context(), 1)), "square", "shape", "interface")
	says(t, errOf(branch.Run(t.Context(), 1)), "square", "shape", "interface")
	says(t, errOf(in.Enqueue(t.Context(), square{3})), "square", "shape", "interface")
	says(t, errOf(out.Run(t.Context(), true)), "error", "interface")
	if v, err := out.Run(t.Context(), false); v != nil || err != nil {
		t.Errorf("nil: %v, %v", v, err)
	}
}

// What a middleware returns is an output, or the run says why it is none.
func TestMiddlewareOutputs(t *testing.T) {
	for _, tt := range []struct {
		name  string
		out   []byte
		words []string // of the error; nil: none
	}{
		{"JSON", []byte(`4`), nil},
		{"nil", nil, nil},
		{"empty", []byte{}, nil},
		{"null", []byte("null"), nil},
		{"not JSON", []byte("{"), []string{"middleware", "not JSON"}},
		{"two values", []byte("1 2"), []string{"middleware", "not JSON"}},
		{"too large", []byte(`"` + strings.Repeat("a", 2000) + `"`), []string{"middleware", "2002 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := opened(t, stint.WithMaxPayload(1000), stint.WithMiddleware(func(stint.Handler) stint.Handler {
				return func(context.Context, []byte) ([]byte, error) { return tt.out, nil }
			}))
			task := stint.NewTask(c, "task", double, stint.WithRetries(3))
			w := stint.NewWorkflow[int](c, "flow")
			node := stint.AddTask(w, "node", double)
			working(t, c)
			got, err := task.Run(t.Context(), 1)
			if tt.words != nil {
				says(t, err, append(tt.words, "attempt 1")...)
				return
			}
			want := 0
			if json.Unmarshal(tt.out, &want); got != want || err != nil {
				t.Errorf("Run = %v, %v, want %v", got, err, want)
			}
			outputs := runTask(t, w, 1)
			if got, err := node.From(outputs); got != want || err != nil {
				t.Errorf("From = %v, %v, want %v", got, err, want)
			}
		})
	}
}
