package stint_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/webhook"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// An evilCodec encodes and decodes numbers by what its functions do.
type evilCodec struct{ encode, decode func() }

func (e evilCodec) Marshal(v any) ([]byte, error) {
	if _, ok := v.(int); ok && e.encode != nil {
		e.encode()
	}
	return json.Marshal(v)
}

func (e evilCodec) Unmarshal(b []byte, v any) error {
	if _, ok := v.(*int); ok && e.decode != nil {
		e.decode()
	}
	return json.Unmarshal(b, v)
}

// An evilAlways cannot be decoded.
type evilAlways struct{}

func (*evilAlways) UnmarshalJSON([]byte) error { misbehavesByPanic(); return nil }

type evilTx struct{ f func() }

func (e evilTx) ExecContext(context.Context, string, ...any) (sql.Result, error) {
	e.f()
	return nil, nil
}
func (e evilTx) QueryContext(context.Context, string, ...any) (*sql.Rows, error) {
	e.f()
	return nil, nil
}

// What the host calls, and calls the app's code, returns its panic, and its Goexit, as an error.
func TestAppCodeIsAnErrorAtTheCall(t *testing.T) {
	for what, f := range misdeeds {
		c := opened(t)
		key := func(int) string { f(); return "" }
		keyed := stint.NewTask(c, "keyed", double, stint.WithIdempotency(key, time.Hour))
		limited := stint.NewTask(c, "limited", double, stint.WithConcurrency(stint.Concurrency[int]{Max: 1, Key: key}))
		rated := stint.NewTask(c, "rated", double, stint.WithRateLimitFunc(func(int) stint.RateLimit { f(); return stint.RateLimit{} }))
		typed := stint.NewTask(c, "typed", func(context.Context, evilJSON) (int, error) { return 1, nil }, stint.WithIdempotency(func(evilJSON) string { return "" }, time.Hour))
		evil := stint.NewTask(c, "evil", func(context.Context, int) (json.RawMessage, error) { return json.Marshal(what) })
		flow := stint.NewWorkflow[int](c, "flow")
		stint.AddTask(flow, "limited", double, stint.WithConcurrency(stint.Concurrency[int]{Max: 1, Key: key}))
		last := stint.NewWorkflow[int](c, "last")
		node := stint.AddTask(last, "node", func(context.Context, int) (evilJSON, error) { return evilJSON{}, nil })
		coded := opened(t, stint.WithCodec(evilCodec{encode: f}))
		number := stint.NewTask(coded, "number", double)
		good := stint.NewTask(c, "good", double)
		working(t, c)
		ended := enqueue(t, evil, 1)
		output(t, ended)
		quoted := must[json.RawMessage](t)(json.Marshal(what))
		var outputs stint.Outputs
		if err := json.Unmarshal([]byte(`{"node":`+string(quoted)+`}`), &outputs); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		calls := map[string]func() error{
			"idempotency key":                func() error { return errOf(keyed.Enqueue(ctx, 1)) },
			"idempotency key, of many":       func() error { return errOf(keyed.EnqueueMany(ctx, []int{1, 2})) },
			"idempotency key, with JSON":     func() error { return errOf(c.EnqueueJSON(ctx, "keyed", json.RawMessage("1"))) },
			"idempotency key, of a cron":     func() error { return keyed.Cron(ctx, "k", "@daily", 1) },
			"concurrency key":                func() error { return errOf(limited.Enqueue(ctx, 1)) },
			"concurrency key, in a workflow": func() error { return errOf(flow.Enqueue(ctx, 1)) },
			"rate limit":                     func() error { return errOf(rated.Enqueue(ctx, 1)) },
			"input":                          func() error { return errOf(typed.Enqueue(ctx, evilJSON{encode: f})) },
			"input, run":                     func() error { return errOf(typed.Run(ctx, evilJSON{encode: f})) },
			"input, of a cron":               func() error { return typed.Cron(ctx, "i", "@daily", evilJSON{encode: f}) },
			"input, decoded":                 func() error { return errOf(c.EnqueueJSON(ctx, "typed", quoted)) },
			"output, decoded":                func() error { return errOf(stint.RunByID[evilJSON](c, ended.ID()).Wait(ctx)) },
			"output of a node, decoded":      func() error { return errOf(node.From(outputs)) },
			"outputs of a workflow, decoded": func() error {
				run := must[*stint.Run[stint.Outputs]](t)(last.Enqueue(ctx, 1))
				return errOf(stint.RunByID[evilAlways](c, run.ID()).Wait(ctx))
			},
			"payload":                func() error { return errOf(c.Publish(ctx, "k", evilJSON{encode: f})) },
			"payload, inside":        func() error { return errOf(c.Publish(ctx, "k", map[string]any{"in": []any{&evilJSON{encode: f}}})) },
			"transaction":            func() error { return errOf(good.Enqueue(ctx, 1, stint.WithTx(evilTx{f}))) },
			"transaction, published": func() error { return errOf(c.Publish(ctx, "k", 1, stint.WithTx(evilTx{f}))) },
			"codec":                  func() error { return errOf(number.Enqueue(ctx, 1)) },
			"codec, published":       func() error { return errOf(coded.Publish(ctx, "k", 1)) },
		}
		for name, call := range calls {
			t.Run(name+" "+what, func(t *testing.T) { panicked(t, call()) })
		}
		if got, err := good.Run(ctx, 2); got != 4 || err != nil {
			t.Errorf("another run: %v, %v", got, err)
		}
	}
}

// A middleware that panics when a task is defined makes that definition panic, as every
// mistake in one does, and nothing else.
func TestMiddlewareThatCannotBeBuilt(t *testing.T) {
	for what, f := range misdeeds {
		for _, m := range []func(stint.Handler) stint.Handler{func(h stint.Handler) stint.Handler { f(); return h }, func(stint.Handler) stint.Handler { return nil }} {
			c := opened(t, stint.WithMiddleware(m))
			func() {
				defer func() {
					if v := recover(); v == nil || !strings.Contains(v.(string), "middleware 1") {
						t.Errorf("%s: NewTask panicked with %v, want the middleware named", what, v)
					}
				}()
				stint.NewTask(c, "task", double)
			}()
			stint.NewTask[int, int](c, "task", nil) // the name is free, and a producer has no middleware
		}
	}
}

// Hooks run as runs of their own, or beside one: what they do wrong is theirs.
func TestAppCodeOfHooks(t *testing.T) {
	c := opened(t)
	of := func(what string, f func()) {
		stint.NewTask(c, "failing "+what, func(context.Context, int) (int, error) { return 0, errors.New("no") },
			stint.WithOnFailure(func(context.Context, int, *stint.TaskError) error { f(); return nil }))
		w := stint.NewWorkflow[int](c, "succeeding "+what)
		stint.AddTask(w, "a", double)
		w.OnSuccess(func(context.Context, int, stint.Outputs) error { f(); return nil })
		w = stint.NewWorkflow[int](c, "broken "+what)
		stint.AddTask(w, "a", func(context.Context, int) (int, error) { return 0, errors.New("no") })
		w.OnFailure(func(context.Context, int, *stint.WorkflowError) error { f(); return nil })
		w = stint.NewWorkflow[int](c, "deciding "+what)
		a := stint.AddTask(w, "a", double)
		stint.AddTask(w, "b", double, stint.WithParents(a), stint.WithSkipIf(stint.ParentOutput(a, func(int) bool { f(); return false })))
	}
	for what, f := range misdeeds {
		of(what, f)
	}
	working(t, c)
	for what := range misdeeds {
		enqueue := func(task string) *stint.Run[json.RawMessage] {
			return enqueueJSON(t, c, task+" "+what, json.RawMessage("1"))
		}
		for task, hook := range map[string]string{"failing": ":on-failure", "succeeding": ":on-success", "broken": ":on-failure"} {
			t.Run(task+" "+what, func(t *testing.T) {
				enqueue(task)
				panicked(t, firstOf(t, c, task+" "+what+hook))
			})
		}
		t.Run("deciding "+what, func(t *testing.T) {
			run := enqueue("deciding")
			eventually(t, c, func() bool {
				tasks := infoOf(t, run).Tasks
				return tasks[1].State == stint.StateBlocked && strings.Contains(tasks[1].Blocked, "panic: ")
			})
		})
	}
}

// A compensation that ends its goroutine keeps none of the others from being called.
func TestAppCodeThatCompensates(t *testing.T) {
	for what, f := range misdeeds {
		in(t, func(t *testing.T, c *stint.Client) {
			var undone atomic.Int32
			task := stint.NewTask(c, "undone", func(ctx context.Context, _ int) (int, error) {
				stint.Compensate(ctx, "first", func(context.Context) error { undone.Add(1); return nil })
				stint.Compensate(ctx, "second", func(context.Context) error { f(); return nil })
				return 0, errors.New("no")
			})
			working(t, c)
			if _, err := task.Run(t.Context(), 1); err == nil || !strings.HasSuffix(err.Error(), ": no") || undone.Load() != 1 {
				t.Errorf("%s: %v, and %d of the other compensations were called, want 1", what, err, undone.Load())
			}
		})
	}
}

// eventually waits until what is true that changes of the database lead to.
func eventually(t *testing.T, c *stint.Client, is func() bool) {
	t.Helper()
	for mark := uint64(0); !is(); {
		mark = must[uint64](t)(c.Changed(t.Context(), mark))
	}
}

// firstOf waits for the first run of a task, and returns its error.
func firstOf(t *testing.T, c *stint.Client, task string) error {
	t.Helper()
	var page *stint.RunPage
	eventually(t, c, func() bool {
		page = listRuns(t, c, stint.RunFilter{Tasks: []string{task}})
		return len(page.Runs) > 0
	})
	return errOf(stint.RunByID[json.RawMessage](c, page.Runs[0].ID).Wait(t.Context()))
}

// evilTelemetry does f in each place.
type evilTelemetry struct {
	noop.TracerProvider
	metricnoop.MeterProvider
	at string
	f  func()
}

func (e *evilTelemetry) do(at string) {
	if at == e.at {
		e.f()
	}
}

func (e *evilTelemetry) Tracer(string, ...trace.TracerOption) trace.Tracer {
	e.do("Tracer")
	return &evilTracer{e: e}
}

func (e *evilTelemetry) Meter(string, ...metric.MeterOption) metric.Meter {
	e.do("Meter")
	return &evilMeter{e: e}
}

type evilTracer struct {
	noop.Tracer
	e *evilTelemetry
}

func (t *evilTracer) Start(ctx context.Context, _ string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	t.e.do("Start")
	return ctx, &evilSpan{e: t.e}
}

type evilSpan struct {
	noop.Span
	e *evilTelemetry
}

func (s *evilSpan) End(...trace.SpanEndOption)              { s.e.do("End") }
func (s *evilSpan) RecordError(error, ...trace.EventOption) { s.e.do("RecordError") }

type evilMeter struct {
	metricnoop.Meter
	e *evilTelemetry
}

func (m *evilMeter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	m.e.do("Int64Counter")
	return &evilCounter{e: m.e}, nil
}

func (m *evilMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	return &evilRegistration{e: m.e}, nil
}

type evilCounter struct {
	metricnoop.Int64Counter
	e *evilTelemetry
}

func (c *evilCounter) Add(context.Context, int64, ...metric.AddOption) { c.e.do("Add") }

type evilRegistration struct {
	metricnoop.Registration
	e *evilTelemetry
}

func (r *evilRegistration) Unregister() error { r.e.do("Unregister"); return nil }

// What watches runs does not change what becomes of them.
func TestAppCodeThatWatches(t *testing.T) {
	for what, f := range misdeeds {
		for _, at := range []string{"Tracer", "Meter", "Int64Counter"} {
			c, err := openAt(t, ":memory:", stint.WithTracerProvider(&evilTelemetry{at: at, f: f}), stint.WithMeterProvider(&evilTelemetry{at: at, f: f}))
			if panicked(t, err); err == nil {
				c.Close()
			}
		}
		for _, at := range []string{"Start", "End", "RecordError", "Add", "Unregister"} {
			t.Run(at+" "+what, func(t *testing.T) {
				worksWell(t, stint.WithTracerProvider(&evilTelemetry{at: at, f: f}), stint.WithMeterProvider(&evilTelemetry{at: at, f: f}))
			})
		}
		for _, at := range []string{"Enabled", "Handle", "WithAttrs", "WithGroup"} {
			t.Run("log handler's "+at+" "+what, func(t *testing.T) { worksWell(t, stint.WithLogger(slog.New(&evilHandler{slog.DiscardHandler, at, f}))) })
		}
		t.Run("value of a log line "+what, func(t *testing.T) {
			worksWell(t, stint.WithLogger(slog.New(slog.NewJSONHandler(&syncBuffer{}, nil))), evilLine(f))
		})
	}
}

// worksWell fails the test if runs do not do what they do with no options.
func worksWell(t *testing.T, opts ...stint.ClientOption) {
	c := opened(t, opts...)
	boom := io.EOF
	good := stint.NewTask(c, "good", func(ctx context.Context, in int) (int, error) {
		stint.Logger(ctx).With("with", 1).WithGroup("g").Info("a line", "in", in)
		return stint.Step(ctx, "s", func(context.Context) (int, error) { return 2 * in, nil })
	})
	bad := stint.NewTask(c, "bad", func(ctx context.Context, in int) (int, error) {
		return stint.Step(ctx, "s", func(context.Context) (int, error) { return 0, boom })
	}, stint.WithRetries(1))
	working(t, c)
	if got, err := good.Run(t.Context(), 2); got != 4 || err != nil {
		t.Errorf("a run that succeeds: %v, %v", got, err)
	}
	if _, err := bad.Run(t.Context(), 2); !errors.Is(err, boom) {
		t.Errorf("a run that fails: %v", err)
	}
	if _, err := c.Publish(t.Context(), "k", 1); err != nil {
		t.Errorf("Publish: %v", err)
	}
	page := listRuns(t, c, stint.RunFilter{Tasks: []string{"good"}})
	if lines := must[[]stint.LogLine](t)(c.Logs(t.Context(), page.Runs[0].ID, 0, 10)); len(lines) == 0 || lines[len(lines)-1].Message != "a line" {
		t.Errorf("logged %v", lines)
	}
}

// evilLine has each handler log a line with values that do f.
func evilLine(f func()) stint.ClientOption {
	return stint.WithMiddleware(func(next stint.Handler) stint.Handler {
		return func(ctx context.Context, input []byte) ([]byte, error) {
			l := stint.Logger(ctx)
			for _, v := range []any{evilValue{f}, evilJSON{f}, evilError{f}, slog.GroupValue(slog.Any("in", evilValue{f}))} {
				l.Info("evil", "v", v)
				l.With("v", v).Info("evil")
			}
			return next(ctx, input)
		}
	})
}

type evilValue struct{ f func() }

func (e evilValue) LogValue() slog.Value { e.f(); return slog.IntValue(1) }

type evilHandler struct {
	slog.Handler
	at string
	f  func()
}

func (h *evilHandler) do(at string) {
	if at == h.at {
		h.f()
	}
}

func (h *evilHandler) Enabled(context.Context, slog.Level) bool  { h.do("Enabled"); return true }
func (h *evilHandler) Handle(context.Context, slog.Record) error { h.do("Handle"); return nil }
func (h *evilHandler) WithAttrs([]slog.Attr) slog.Handler        { h.do("WithAttrs"); return h }
func (h *evilHandler) WithGroup(string) slog.Handler             { h.do("WithGroup"); return h }

// A verifier of webhooks that panics takes nothing, and the sender is told to try again.
func TestVerifierPanics(t *testing.T) {
	c := opened(t)
	for what, f := range misdeeds {
		verifiers := map[string]webhook.Verifier{
			"panics":                       func(*http.Request, []byte) (string, error) { f(); return "", nil },
			"returns an error that panics": func(*http.Request, []byte) (string, error) { return "", evilError{f} },
		}
		for how, verify := range verifiers {
			got := httptest.NewRecorder()
			c.WebhookHandler("hook", verify, "").ServeHTTP(got, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")))
			if got.Code != http.StatusInternalServerError || strings.Contains(got.Body.String(), "oh") {
				t.Errorf("%s, %s: %d %q", how, what, got.Code, got.Body)
			}
		}
	}
	if page := must[*stint.EventPage](t)(c.ListEvents(t.Context(), stint.EventFilter{})); len(page.Events) > 0 {
		t.Errorf("published %v", page.Events)
	}
}
