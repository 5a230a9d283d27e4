package operations

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// A program's traces and meters reach what is behind a Collector, and a run's spans are in the trace of the request that
// enqueued it.
func TestCollector(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	t.Setenv("OTEL_SERVICE_NAME", "shop") // read once in a process
	b := newBackend(t)
	address := startCollector(t, b.URL)
	traces, meters, err := providers(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(traces.Shutdown(ctx), meters.Shutdown(ctx)); err != nil {
			t.Error(err)
		}
	})
	client := open(t, stint.WithTracerProvider(traces), stint.WithMeterProvider(meters))
	charge := stint.NewTask(client, "charge", func(ctx context.Context, cents int) (int, error) {
		return stint.Step(ctx, "pay", func(context.Context) (int, error) { return cents, nil })
	})
	stop := work(t, client)
	request, span := traces.Tracer("shop").Start(ctx, "request")
	run, err := charge.Enqueue(request, 250)
	span.End()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := run.Wait(ctx); err != nil || got != 250 {
		t.Fatalf("the run returns %d, %v", got, err)
	}
	stop() // the run's span has ended
	if err := traces.ForceFlush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := meters.ForceFlush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.await(ctx, []string{"request", "enqueue charge", "charge", "step pay"},
		[]string{"stint.executions", "stint.execution.duration", "stint.execution.wait", "stint.runs", "stint.queue.ready"}); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.checkTrace(t, map[string]string{"enqueue charge": "request", "charge": "enqueue charge", "step pay": "charge"})
	if got := attributeOf(b.spans["charge"].Attributes(), "stint.run"); got != run.ID() {
		t.Errorf("the span of run %s has the run %q", run.ID(), got)
	}
	points := b.metrics["stint.executions"].Sum().DataPoints()
	if points.Len() != 1 || points.At(0).IntValue() != 1 || attributeOf(points.At(0).Attributes(), "stint.task") != "charge" {
		t.Errorf("stint.executions: %d series; want 1 execution of charge", points.Len())
	}
}

func open(t *testing.T, opts ...stint.ClientOption) *stint.Client {
	t.Helper()
	opts = append(opts, stint.WithLogger(slog.New(slog.DiscardHandler)))
	client, err := stint.Open(filepath.Join(t.TempDir(), "shop.db"), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// work runs a worker until stop is called.
func work(t *testing.T, client *stint.Client) (stop func()) {
	t.Helper()
	w, err := client.NewWorker()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// The docs show the code with which the program above connects.
func TestDocsShowProviders(t *testing.T) {
	page, err := os.ReadFile("../../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("providers.go")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```go other\n")
	block, _, _ = strings.Cut(block, "```")
	if block == "" || !strings.HasSuffix(string(code), "\n"+block) {
		t.Errorf("docs/observability.md does not show providers.go, but:\n%s", block)
	}
}

// What Prometheus reads at /metrics is well-formed and as its own linter wants it, also where a name has quotes.
func TestPrometheusReads(t *testing.T) {
	const name = "say \"hi\"\\ \u00e9"
	synctest.Test(t, func(t *testing.T) {
		client := open(t)
		greet := stint.NewTask(client, name, func(context.Context, int) (int, error) { return 1, nil })
		work(t, client)
		if _, err := greet.Run(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // of the bubble: figures are of the last whole minute
		answer := httptest.NewRecorder()
		page := ui.Handler(client, ui.WithAuthorize(func(*http.Request, ui.Action) error { return nil }))
		page.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
		text := answer.Body.String()
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("promtool check metrics: %v, %v", problems, err)
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v, of\n%s", err, text)
		}
		succeeded := families["stint_task_succeeded"].GetMetric()
		if len(succeeded) != 1 || succeeded[0].GetGauge().GetValue() != 1 {
			t.Fatalf("stint_task_succeeded: %v, of\n%s", succeeded, text)
		}
		if label := succeeded[0].GetLabel(); label[0].GetName() != "task" || label[0].GetValue() != name {
			t.Errorf("the labels of stint_task_succeeded: %v", label)
		}
	})
}
