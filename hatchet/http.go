package hatchet

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// newHandler returns the handler of all requests. A call of gRPC, or of REST, is refused before its body is read if it
// has no valid token.
func (s *Server) newHandler() http.Handler {
	rest := s.newREST()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
			if err := s.tokens.check(r.Context(), r.Header.Get("Authorization")); err != nil {
				refuseGRPC(w, err)
				return
			}
			s.grpc.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/api/v1/"):
			r.Body = http.MaxBytesReader(w, r.Body, int64(s.opts.MaxMessage))
			rest.ServeHTTP(w, r)
		case s.opts.Page != nil:
			s.opts.Page.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// refuseGRPC answers a call whose token did not pass.
func refuseGRPC(w http.ResponseWriter, err error) {
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", itoa(int(tokenCode(err))))
	h.Set("Grpc-Message", err.Error())
	w.WriteHeader(http.StatusOK)
}

// tokenCode returns Unauthenticated, or Unavailable if the token could not be checked.
func tokenCode(err error) codes.Code {
	if errors.Is(err, errToken) {
		return codes.Unauthenticated
	}
	return codes.Unavailable
}

// Bounds of a connection, by whichever transport. SDKs ping every 10 s; a peer that answers no ping is cut off.
const (
	beginTimeout = 10 * time.Second // until a connection has said what it wants
	idleTimeout  = 2 * time.Minute  // without a call
	pingAfter    = 10 * time.Second // without a sign of life
	pingTimeout  = 10 * time.Second
	pingsApart   = 5 * time.Second  // those of a peer, at least
	writeTimeout = 30 * time.Second // for what a peer does not take
	maxHeader    = 64 << 10         // bytes
	maxUnread    = 1 << 20          // bytes that a peer may send of a call before they are read
)

// newHTTPServer returns the server of Serve.
func (s *Server) newHTTPServer(h http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: protocols,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: s.opts.MaxStreams, SendPingTimeout: pingAfter, PingTimeout: pingTimeout,
			WriteByteTimeout: writeTimeout},
		ReadHeaderTimeout: beginTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ErrorLog:    slog.NewLogLogger(s.opts.Logger.Handler(), slog.LevelWarn),
	}
}

// boundedListener closes the connections beyond as many as free holds.
type boundedListener struct {
	net.Listener
	free chan struct{}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &boundedConn{Conn: conn, release: func() { <-l.free }}, nil
		default:
			conn.Close()
		}
	}
}

type boundedConn struct {
	net.Conn
	once      sync.Once
	release   func()
	onlyHTTP2 bool // what the client offered in the handshake
}

func (c *boundedConn) Close() error {
	defer c.once.Do(c.release)
	return c.Conn.Close()
}
