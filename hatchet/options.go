package hatchet

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// Options change a server. The zero value is a server for programs of this machine.
type Options struct {
	// Address is the host and port that tokens tell SDKs to connect to. The default is the address
	// of the listener that Serve was given.
	Address string
	// TLS encrypts connections. Without it SDKs need HATCHET_CLIENT_TLS_STRATEGY=none, and the token and all
	// data can be read on the way.
	TLS *tls.Config
	// Page serves the requests that are not of the protocol, such as the handler of package ui.
	Page http.Handler
	// TokenLife is how long a token that Token returns is valid. The default is a year.
	TokenLife time.Duration
	// WorkerGrace is how long the runs of a worker whose connection is lost stay with it, from its last sign of
	// life. Then other workers get them. The default is 2 s for a worker on this machine, 10 s for another.
	WorkerGrace time.Duration

	// Traces gets what SDKs export to the server as OpenTelemetry's collectors get it: the bytes of an OTLP
	// ExportTraceServiceRequest, to send on. The default drops them.
	Traces func(ctx context.Context, request []byte) error

	// The fields below bound what programs can make the server hold. 0 means the default.
	MaxMessage     int // bytes of a message or request; default 4 MiB, at most 64 MiB
	MaxConnections int // default 10,000
	MaxStreams     int // calls at once on a connection; default 1,000
	MaxWorkers     int // default 1,000
	MaxWaits       int // runs that one stream waits for the result of; default 50,000

	// Logger gets what the server cannot answer to anyone. The default is slog.Default().
	Logger *slog.Logger
}

const (
	maxMessage    = 64 << 20
	loopbackGrace = 2 * time.Second
	remoteGrace   = 10 * time.Second
)

func (o *Options) setDefaults() {
	setDefault(&o.TokenLife, 365*24*time.Hour)
	setDefault(&o.MaxMessage, 4<<20)
	setDefault(&o.MaxConnections, 10_000)
	setDefault(&o.MaxStreams, 1_000)
	setDefault(&o.MaxWorkers, 1_000)
	setDefault(&o.MaxWaits, 50_000)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
