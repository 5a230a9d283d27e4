// Package telemetry makes spans and metrics with OpenTelemetry. A run's metadata carries the context of its trace.
package telemetry

import (
	"context"
	"encoding/json"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/store"
)

// An App is the program that the spans and metrics are for.
type App struct {
	Call  func(f func())         // calls its providers, which may panic
	Shown func(err error) error  // returns an error of it as spans show it
	Kind  func(err error) string // returns the kind of one in a word
}

// Spans starts spans. Without a tracer, or if it panics, there are none.
type Spans struct {
	App    App
	Tracer trace.Tracer // nil: there is none
}

var traceContext propagation.TraceContext

// traceKeys are the metadata keys of traceContext.
var traceKeys = traceContext.Fields()

func noEnd(error) {}

// start starts a span; end ends it with the result.
func (s *Spans) start(ctx context.Context, name string, opts ...trace.SpanStartOption) (traced context.Context, end func(error)) {
	traced, end = ctx, noEnd
	s.App.Call(func() {
		in, span := s.Tracer.Start(ctx, name, opts...)
		traced, end = in, func(err error) { s.App.Call(func() { s.end(span, err) }) }
	})
	return traced, end
}

func (s *Spans) end(span trace.Span, err error) {
	if err != nil {
		span.RecordError(s.App.Shown(err))
		span.SetStatus(codes.Error, s.App.Kind(err))
	}
	span.End()
}

// Runs starts the span of an enqueue, and puts its context into the runs' metadata.
func (s *Spans) Runs(ctx context.Context, runs []store.NewRun) (end func(error)) {
	if s.Tracer == nil || len(runs) == 0 {
		return noEnd
	}
	ctx, end = s.start(ctx, "enqueue "+runs[0].Task, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attribute.String("stint.task", runs[0].Task), attribute.String("stint.queue", runs[0].Queue),
			attribute.Int("stint.runs", len(runs))))
	var last, with []byte
	for i := range runs {
		if i == 0 || string(runs[i].Metadata) != string(last) {
			last, with = runs[i].Metadata, withTrace(ctx, runs[i].Metadata)
		}
		runs[i].Metadata = with
	}
	return end
}

// Events is like Runs, for events, whose metadata the runs they start inherit.
func (s *Spans) Events(ctx context.Context, events []store.NewEvent) (end func(error)) {
	if s.Tracer == nil || len(events) == 0 {
		return noEnd
	}
	ctx, end = s.start(ctx, "publish "+events[0].Key, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attribute.String("stint.event", events[0].Key), attribute.Int("stint.events", len(events))))
	for i := range events {
		events[i].Metadata = withTrace(ctx, events[i].Metadata)
	}
	return end
}

// withTrace returns metadata with the context of the trace.
func withTrace(ctx context.Context, metadata []byte) []byte {
	m := jsonx.Texts(metadata)
	if m == nil {
		m = map[string]string{}
	}
	for _, k := range traceKeys { // of a parent
		delete(m, k)
	}
	traceContext.Inject(ctx, propagation.MapCarrier(m))
	if len(m) == 0 {
		return nil
	}
	b, _ := json.Marshal(m) // strings always encode
	return b
}

// Execution starts the span of an execution, a child of the one that enqueued the run.
func (s *Spans) Execution(ctx context.Context, r *store.Claimed) (traced context.Context, end func(error)) {
	if s.Tracer == nil {
		return ctx, noEnd
	}
	ctx = traceContext.Extract(ctx, propagation.MapCarrier(jsonx.Texts(r.Metadata)))
	return s.start(ctx, r.Task, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("stint.task", r.Task), attribute.String("stint.queue", r.Queue), attribute.String("stint.run", r.ID.String()),
		attribute.Int("stint.attempt", r.Attempt)))
}

// Step starts the span of a step of a run.
func (s *Spans) Step(ctx context.Context, name string, run store.ID) (traced context.Context, end func(error)) {
	if s.Tracer == nil {
		return ctx, noEnd
	}
	return s.start(ctx, "step "+name, trace.WithAttributes(attribute.String("stint.step", name),
		attribute.String("stint.run", run.String())))
}
