// Package operations tests what the docs have for other programs, against these: the configuration of OpenTelemetry's Collector, the
// metrics for Prometheus, the manifest for Kubernetes, Dockerfiles and systemd's units. It is a module of its own, because they are large.
package operations
