package hatchet

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
)

// With TLS a client says in its handshake what it speaks. One that offers HTTP/2 alone is one of gRPC, as all SDKs are, and its connection
// goes to gRPC's own transport, as it does without TLS. Browsers, and what calls REST, offer HTTP/1.1 too, and so do proxies that send
// everything on one connection: net/http serves what those choose.

// A tlsListener is the listener of an HTTP server: it does the handshakes of another's connections, and gives gRPC those that are its.
type tlsListener struct {
	net.Listener // the other
	config       *tls.Config
	grpc         *h2cListener
	conns        chan net.Conn
	errs         chan error // of the other
	closed       chan struct{}
	close        func() error
}

// newTLSListener returns a listener with which s does handshakes until it is closed.
func (s *Server) newTLSListener(l net.Listener, grpc *h2cListener) *tlsListener {
	t := &tlsListener{Listener: l, config: tlsConfig(s.opts.TLS), grpc: grpc, conns: make(chan net.Conn), errs: make(chan error),
		closed: make(chan struct{})}
	t.close = sync.OnceValue(func() error {
		close(t.closed)
		return l.Close()
	})
	s.wg.Go(func() {
		for t.accept(s) {
		}
	})
	return t
}

// tlsConfig returns the configuration that also notes which clients offer HTTP/2 alone.
func tlsConfig(of *tls.Config) *tls.Config {
	config := of.Clone()
	for _, p := range []string{"h2", "http/1.1"} {
		if !slices.Contains(config.NextProtos, p) {
			config.NextProtos = append(slices.Clip(config.NextProtos), p)
		}
	}
	choose := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if c, ok := hello.Conn.(*boundedConn); ok {
			c.onlyHTTP2 = slices.Contains(hello.SupportedProtos, "h2") && !slices.Contains(hello.SupportedProtos, "http/1.1")
		}
		if choose == nil {
			return nil, nil
		}
		return choose(hello)
	}
	return config
}

// accept begins the handshake of a connection, and reports whether there may be another.
func (l *tlsListener) accept(s *Server) bool {
	conn, err := l.Listener.Accept()
	if err != nil {
		select {
		case l.errs <- err: // the HTTP server ends by it, or waits before it takes the next
			return true
		case <-l.closed:
			return false
		}
	}
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, beginTimeout)
		defer cancel()
		l.greet(ctx, conn)
	})
	return true
}

// greet does a connection's handshake, and gives it to the one who serves it. If it fails, the HTTP server says so.
func (l *tlsListener) greet(ctx context.Context, conn net.Conn) {
	secure := tls.Server(conn, l.config)
	err := secure.HandshakeContext(ctx)
	c, ok := conn.(*boundedConn)
	if err == nil && ok && c.onlyHTTP2 && secure.ConnectionState().NegotiatedProtocol == "h2" {
		l.grpc.take(&h2cConn{Conn: secure})
		return
	}
	select {
	case l.conns <- secure:
	case <-l.closed:
		conn.Close()
	}
}

func (l *tlsListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case err := <-l.errs:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *tlsListener) Close() error { return l.close() }
