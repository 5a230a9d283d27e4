package operations

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// A backend stands for Tempo and Prometheus: it takes what the Collector hands on.
type backend struct {
	*httptest.Server
	came chan struct{} // something has

	mu      sync.Mutex
	spans   map[string]ptrace.Span    // by name
	service map[string]string         // of a span
	metrics map[string]pmetric.Metric // by name
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{came: make(chan struct{}, 1), spans: map[string]ptrace.Span{}, service: map[string]string{}, metrics: map[string]pmetric.Metric{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", b.take(func(body []byte) error {
		req := ptraceotlp.NewExportRequest()
		err := req.UnmarshalProto(body)
		if err == nil {
			b.addSpans(req.Traces())
		}
		return err
	}))
	mux.HandleFunc("POST /api/v1/otlp/v1/metrics", b.take(func(body []byte) error {
		req := pmetricotlp.NewExportRequest()
		err := req.UnmarshalProto(body)
		if err == nil {
			b.addMetrics(req.Metrics())
		}
		return err
	}))
	b.Server = httptest.NewServer(mux)
	t.Cleanup(b.Close)
	return b
}

// take returns a handler that gives bodies to f, and tells who waits.
func (b *backend) take(f func(body []byte) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		unpacked, err := gzip.NewReader(r.Body)
		var body []byte
		if err == nil {
			body, err = io.ReadAll(unpacked)
		}
		b.mu.Lock()
		if err == nil {
			err = f(body)
		}
		b.mu.Unlock()
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf") // of an empty answer
		select {
		case b.came <- struct{}{}:
		default:
		}
	}
}

func (b *backend) addSpans(traces ptrace.Traces) {
	for _, resource := range traces.ResourceSpans().All() {
		service, _ := resource.Resource().Attributes().Get("service.name")
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				b.spans[span.Name()], b.service[span.Name()] = span, service.Str()
			}
		}
	}
}

func (b *backend) addMetrics(metrics pmetric.Metrics) {
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, m := range scope.Metrics().All() {
				b.metrics[m.Name()] = m
			}
		}
	}
}

// await waits until all of these spans and metrics have come.
func (b *backend) await(ctx context.Context, spans, metrics []string) error {
	for {
		missing := b.missing(spans, metrics)
		if missing == "" {
			return nil
		}
		select {
		case <-b.came:
		case <-ctx.Done():
			return fmt.Errorf("%s has not come: %w", missing, ctx.Err())
		}
	}
}

func (b *backend) missing(spans, metrics []string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range spans {
		if _, ok := b.spans[name]; !ok {
			return "the span " + name
		}
	}
	for _, name := range metrics {
		if _, ok := b.metrics[name]; !ok {
			return "the metric " + name
		}
	}
	return ""
}

// checkTrace checks in which span another is, and that all are in one trace and of one service. b.mu is locked.
func (b *backend) checkTrace(t *testing.T, inside map[string]string) {
	t.Helper()
	for name, want := range inside {
		span, parent := b.spans[name], b.spans[want]
		if span.TraceID() != parent.TraceID() || span.ParentSpanID() != parent.SpanID() {
			t.Errorf("the span %q is not in %q", name, want)
		}
		if b.service[name] != "shop" {
			t.Errorf("the span %q is of service %q", name, b.service[name])
		}
	}
}

// attributeOf returns an attribute of a span or a data point.
func attributeOf(all pcommon.Map, name string) string {
	v, ok := all.Get(name)
	if !ok {
		return ""
	}
	return v.AsString()
}
