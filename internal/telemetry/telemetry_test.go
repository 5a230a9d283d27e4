package telemetry

import (
	"context"
	"errors"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

var app = App{
	Call:  func(f func()) { f() },
	Shown: func(error) error { return errors.New("shown") },
	Kind:  func(error) string { return "kind" },
}

// An execution's span is a child of that of the enqueue, whose context replaces that of a parent.
func TestSpans(t *testing.T) {
	out := tracetest.NewInMemoryExporter()
	s := Spans{App: app, Tracer: sdktrace.NewTracerProvider(sdktrace.WithSyncer(out)).Tracer("test")}
	runs := []store.NewRun{{Task: "a", Metadata: []byte(`{"tenant":"x","traceparent":"old"}`)}, {Task: "b"}}
	s.Runs(t.Context(), runs)(nil)
	m := jsonx.Texts(runs[0].Metadata)
	if m["tenant"] != "x" || m["traceparent"] == "old" || jsonx.Texts(runs[1].Metadata)["traceparent"] != m["traceparent"] {
		t.Errorf("metadata %s and %s", runs[0].Metadata, runs[1].Metadata)
	}
	_, end := s.Execution(t.Context(), &store.Claimed{Task: "a", Metadata: runs[0].Metadata})
	end(errors.New("secret"))
	spans := out.GetSpans()
	if len(spans) != 2 || spans[1].Parent.SpanID() != spans[0].SpanContext.SpanID() || spans[1].Status.Description != "kind" {
		t.Fatalf("spans %+v", spans)
	}
	if e := spans[1].Events; len(e) != 1 || e[0].Attributes[1].Value.AsString() != "shown" {
		t.Errorf("the span of the failure has %+v", e)
	}
}

// Without a tracer, or if it panics, nothing has a span.
func TestNoSpans(t *testing.T) {
	runs := []store.NewRun{{Task: "a", Metadata: []byte(`{"tenant":"x"}`)}}
	for name, s := range map[string]Spans{
		"none":   {App: app},
		"panics": {App: App{Call: func(func()) {}}, Tracer: sdktrace.NewTracerProvider().Tracer("test")},
	} {
		s.Runs(t.Context(), runs)(nil)
		if string(runs[0].Metadata) != `{"tenant":"x"}` {
			t.Errorf("%s: metadata %s", name, runs[0].Metadata)
		}
		ctx, end := s.Step(t.Context(), "step", store.ID{})
		if end(nil); ctx != t.Context() {
			t.Errorf("%s: a step has a span", name)
		}
	}
}

func TestMeters(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	failed := errors.New("disk")
	m, err := NewMeters(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test"), app,
		func(context.Context) (Database, error) {
			return Database{Runs: map[store.State]int{store.Queued: 3}, Minute: &Minute{Commits: 2, Calls: 10, Slow: time.Second}}, failed
		})
	if err != nil {
		t.Fatal(err)
	}
	m.Execution(t.Context(), &store.Claimed{Task: "a"})(errors.New("x"))
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); !errors.Is(err, failed) {
		t.Errorf("got %v, want %v", err, failed)
	}
	names := map[string]bool{}
	for _, scope := range got.ScopeMetrics {
		for _, x := range scope.Metrics {
			names[x.Name] = true
			if g, ok := x.Data.(metricdata.Gauge[float64]); ok && x.Name == "stint.commit.calls" && g.DataPoints[0].Value != 5 {
				t.Errorf("%v calls a commit, want 5", g.DataPoints[0].Value)
			}
		}
	}
	for _, want := range []string{"stint.executions", "stint.execution.duration", "stint.execution.wait", "stint.runs", "stint.commits",
		"stint.commit.calls", "stint.commit.duration.p99"} {
		if !names[want] {
			t.Errorf("no %s: got %v", want, names)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	var none Meters
	none.Execution(t.Context(), &store.Claimed{})(nil)
	if err := none.Close(); err != nil {
		t.Error(err)
	}
}
