package hatchet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // the Go SDK compresses

	"github.com/stint-dev/stint"
	_ "github.com/stint-dev/stint/cel" // the expressions of definitions
)

// engineVersion is the version of Hatchet whose behaviour is served. SDKs choose their newest protocol by it.
const engineVersion = "v0.105.0"

// A Server serves Hatchet's protocol on a database. Its methods may be called concurrently.
type Server struct {
	c        *stint.Client
	opts     Options
	tenant   string
	tokens   *tokens
	catalog  *catalog
	counters counters
	grpc     *grpc.Server
	http     http.Handler

	pauseMu sync.Mutex  // held while pauses of workflows are read and changed
	pauses  atomic.Bool // there may be some

	ctx  context.Context // done when the server ends
	stop context.CancelFunc
	wg   sync.WaitGroup // goroutines of the server

	mu      sync.Mutex
	address string // of the first listener
	workers map[string]*worker
	runs    map[string]*execution // that workers of this server execute, by the ID of the task's run
}

// NewServer returns a server on a client's database. Serve or Handler serves it; Close ends it. The error is that of
// reading the database, or says which option is invalid.
func NewServer(c *stint.Client, opts Options) (*Server, error) {
	if c == nil {
		return nil, errors.New("hatchet: NewServer: nil client")
	}
	opts.setDefaults()
	if err := opts.check(); err != nil {
		return nil, fmt.Errorf("hatchet: NewServer: %w", err)
	}
	s := &Server{c: c, opts: opts, tokens: &tokens{c: c, life: opts.TokenLife}, catalog: &catalog{c: c},
		workers: map[string]*worker{}, runs: map[string]*execution{}}
	s.counters.until = time.Now()
	tenant, err := c.EnsureSetting(context.Background(), settingTenant, []byte(uuid.NewString()))
	if err != nil {
		return nil, fmt.Errorf("hatchet: NewServer: %w", err)
	}
	s.tenant = string(tenant)
	if err := s.catalog.refresh(context.Background()); err != nil {
		return nil, fmt.Errorf("hatchet: NewServer: %w", err)
	}
	if err := s.forgetStored(context.Background()); err != nil {
		return nil, fmt.Errorf("hatchet: NewServer: %w", err)
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.grpc = s.newGRPCServer()
	s.http = s.newHandler()
	s.wg.Go(s.watch)
	s.wg.Go(s.watchPauses)
	return s, nil
}

func (o *Options) check() error {
	for name, v := range map[string]int{"MaxMessage": o.MaxMessage, "MaxConnections": o.MaxConnections, "MaxStreams": o.MaxStreams,
		"MaxWorkers": o.MaxWorkers, "MaxWaits": o.MaxWaits, "TokenLife": int(o.TokenLife), "WorkerGrace": int(o.WorkerGrace)} {
		if v < 0 {
			return fmt.Errorf("%s is %d: want at least 0", name, v)
		}
	}
	if o.MaxMessage > maxMessage {
		return fmt.Errorf("MaxMessage is %d: want at most %d", o.MaxMessage, maxMessage)
	}
	return nil
}

// Serve serves gRPC and REST on the listener until ctx is done, and then ends the server as Close does. It returns nil,
// or the error of the listener. Without TLS a connection that begins with HTTP/2 is one of gRPC, with TLS one of a client
// that offers HTTP/2 alone.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.mu.Lock()
	if s.address == "" {
		s.address = dialAddress(l.Addr())
	}
	s.mu.Unlock()
	h2c := newH2CListener(l)
	server := s.newHTTPServer(h2c.divert(s.http))
	var from net.Listener = &boundedListener{Listener: l, free: make(chan struct{}, s.opts.MaxConnections)}
	if s.opts.TLS != nil {
		from = s.newTLSListener(from, h2c)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(from) }()
	go s.grpc.Serve(h2c) // until stopGRPC
	var err error
	select {
	case err = <-done:
		done <- nil
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	s.end()
	stopping, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	s.wg.Go(func() { s.stopGRPC(stopping) })
	if server.Shutdown(stopping) != nil {
		server.Close()
	}
	<-done
	s.wg.Wait()
	if err != nil {
		return fmt.Errorf("hatchet: serve: %w", err)
	}
	return nil
}

// stopGrace is how long calls that are under way may take when the server ends.
const stopGrace = 3 * time.Second

// dialAddress returns the host and port at which programs of this machine reach a listener.
func dialAddress(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", fmt.Sprint(tcp.Port))
	}
	return a.String()
}

// Close ends the streams of SDKs, gives the runs of their workers back to the queue, and returns when no goroutine of
// the server is left. Close it before its client: Client.Close waits for runs that execute.
func (s *Server) Close() error {
	s.end()
	s.wg.Wait()
	return nil
}

// end begins the end of the server.
func (s *Server) end() {
	s.stop()
	for _, w := range s.allWorkers() {
		w.lose("the server ends")
		w.release(func(*execution) bool { return true })
	}
}

// Handler returns a handler for gRPC and REST, for a server of the host. gRPC needs HTTP/2: over TLS it is there by
// default, without TLS the host's http.Server needs Protocols with UnencryptedHTTP2. Options.Address must be set for
// Token. Call Close when the host's server has ended.
func (s *Server) Handler() http.Handler { return s.http }

// Token returns a new token for SDKs: the value of HATCHET_CLIENT_TOKEN. It is valid for Options.TokenLife, or
// until RevokeTokens. It returns an error before Serve, unless Options.Address is set.
func (s *Server) Token() (string, error) {
	s.mu.Lock()
	address := s.address
	s.mu.Unlock()
	if s.opts.Address != "" {
		address = s.opts.Address
	}
	if address == "" {
		return "", errors.New("hatchet: token: no address: set Options.Address, or call Serve first")
	}
	url := "http://" + address
	if s.opts.TLS != nil {
		url = "https://" + address
	}
	token, err := s.tokens.issue(context.Background(), s.tenant, address, url)
	if err != nil {
		return "", fmt.Errorf("hatchet: token: %w", err)
	}
	return token, nil
}

// RevokeTokens makes every token that was issued invalid: at once for calls to this server, within a second for those
// to other servers on the database. Streams that are open stay open.
func (s *Server) RevokeTokens(ctx context.Context) error {
	if err := s.tokens.revoke(ctx); err != nil {
		return fmt.Errorf("hatchet: revoke tokens: %w", err)
	}
	return nil
}
