package stint_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// One trace leads from the enqueueing through executions and steps to the children, also
// where a restart lies between.
func TestTraces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "traced.db")
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	define := func(c *stint.Client) *stint.Task[int, int] {
		child := stint.NewTask(c, "child", func(ctx context.Context, n int) (int, error) {
			if n < 0 {
				return 0, stint.NonRetryable(errors.New("negative"))
			}
			return n, nil
		})
		return stint.NewTask(c, "parent", func(ctx context.Context, n int) (int, error) {
			_, span := trace.SpanFromContext(ctx).TracerProvider().Tracer("app").Start(ctx, "app's own")
			span.End()
			v, err := stint.Step(ctx, "double", func(ctx context.Context) (int, error) { return 2 * n, nil })
			if err != nil {
				return 0, err
			}
			return child.Run(ctx, v)
		})
	}
	ctx, root := provider.Tracer("app").Start(t.Context(), "request")
	c := openedAt(t, path, stint.WithTracerProvider(provider))
	run := must[*stint.Run[int]](t)(define(c).Enqueue(ctx, -1, stint.WithMetadata(map[string]string{"tenant": "x"})))
	root.End()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = openedAt(t, path, stint.WithTracerProvider(provider))
	define(c)
	working(t, c)
	if _, err := stint.RunByID[int](c, run.ID()).Wait(t.Context()); err == nil {
		t.Fatal("the child's failure is not its parent's")
	}
	if info := getRun(t, c, run.ID()); info.Metadata["tenant"] != "x" || info.Metadata["traceparent"] == "" {
		t.Errorf("metadata %v", info.Metadata)
	}
	c.Close() // all executions have ended, and their spans
	parents := map[string]string{}
	ids := map[trace.SpanID]string{root.SpanContext().SpanID(): "request"}
	for _, s := range spans.GetSpans() {
		ids[s.SpanContext.SpanID()] = s.Name
	}
	for _, s := range spans.GetSpans() {
		if s.SpanContext.TraceID() != root.SpanContext().TraceID() {
			t.Errorf("span %q is of another trace", s.Name)
		}
		parents[s.Name] = ids[s.Parent.SpanID()]
		if s.Name == "child" && s.Status.Code != codes.Error {
			t.Errorf("the child failed, and its span is %v", s.Status)
		}
	}
	for name, want := range map[string]string{"enqueue parent": "request", "parent": "enqueue parent", "app's own": "parent", "step double": "parent", "enqueue child": "parent", "child": "enqueue child"} {
		if parents[name] != want {
			t.Errorf("span %q is in %q, want %q", name, parents[name], want)
		}
	}
}

// What executions do, and what the database holds, is measured.
func TestMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	c := opened(t, stint.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	task := stint.NewTask(c, "work", func(ctx context.Context, n int) (int, error) {
		if n == 0 {
			return 0, stint.NonRetryable(errors.New("zero"))
		}
		return n, nil
	})
	task.Schedule(t.Context(), time.Now().Add(time.Hour), 5)
	stop := working(t, c)
	task.Run(t.Context(), 0)
	task.Run(t.Context(), 1)
	task.Run(t.Context(), 2)
	stop()
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	figures := map[string]int64{}
	for _, m := range got.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				came, _ := p.Attributes.Value("stint.outcome")
				figures[m.Name+" "+came.AsString()] = p.Value
			}
		case metricdata.Gauge[int64]:
			for _, p := range data.DataPoints {
				v, _ := p.Attributes.Value(attribute.Key("stint.state"))
				figures[m.Name+" "+v.AsString()] = p.Value
			}
		case metricdata.Histogram[float64]:
			figures[m.Name] = int64(data.DataPoints[0].Count)
		}
	}
	for name, want := range map[string]int64{"stint.executions ok": 2, "stint.execution.duration": 3, "stint.execution.wait": 3, "stint.runs scheduled": 1, "stint.runs running": 0} {
		if figures[name] != want {
			t.Errorf("%s is %d, want %d, of %v", name, figures[name], want, figures)
		}
	}
	if _, err := stint.Open(":memory:", stint.WithMeterProvider(nil)); err == nil {
		t.Error("a nil provider was taken")
	}
	if _, err := stint.Open(":memory:", stint.WithTracerProvider(nil)); err == nil {
		t.Error("a nil provider was taken")
	}
}
