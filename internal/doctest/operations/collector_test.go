package operations

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
	"go.uber.org/zap"
)

// startCollector runs a Collector with the configuration of the docs, but for its addresses: it hands on to the backend.
// It returns where the Collector listens.
func startCollector(t *testing.T, backend string) string {
	t.Helper()
	address := freeAddress(t)
	c, err := otelcol.NewCollector(otelcol.CollectorSettings{
		Factories: factories,
		BuildInfo: component.BuildInfo{Command: "otelcol", Version: "test"},
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs: []string{
				"file:../../../docs/collector/config.yaml",
				"yaml:receivers::otlp::protocols::http::endpoint: " + address,
				"yaml:exporters::otlp_http/traces::endpoint: " + backend,
				"yaml:exporters::otlp_http/metrics::endpoint: " + backend + "/api/v1/otlp",
				"yaml:service::telemetry::metrics::level: none", // of the Collector itself: it would listen on 8888
			},
			ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory(), yamlprovider.NewFactory()},
		}},
		DisableGracefulShutdown: true, // no handler of signals
		LoggingOptions:          []zap.Option{zap.IncreaseLevel(zap.WarnLevel)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the Collector: %v", err)
		}
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for c.GetState() != otelcol.StateRunning {
		select {
		case <-tick.C:
		case err := <-ended:
			t.Fatalf("the Collector does not start: %v", err)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
	return address
}

func factories() (f otelcol.Factories, err error) {
	if f.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory()); err != nil {
		return f, err
	}
	f.Exporters, err = otelcol.MakeFactoryMap[exporter.Factory](otlphttpexporter.NewFactory())
	f.Telemetry = otelconftelemetry.NewFactory()
	return f, err
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr())
}
