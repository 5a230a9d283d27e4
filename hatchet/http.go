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

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/stint-dev/stint"
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

// refuseGRPC answers a call with the status Unauthenticated, or with Unavailable if the token could not be checked.
func refuseGRPC(w http.ResponseWriter, err error) {
	code := codes.Unauthenticated
	if !errors.Is(err, errToken) {
		code = codes.Unavailable
	}
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", itoa(int(code)))
	h.Set("Grpc-Message", err.Error())
	w.WriteHeader(http.StatusOK)
}

// newHTTPServer returns the server of Serve. SDKs ping every 10 s; a peer that answers no ping is cut off.
func (s *Server) newHTTPServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(s.opts.TLS == nil)
	return &http.Server{
		Handler: s.http, TLSConfig: s.opts.TLS, Protocols: protocols,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: s.opts.MaxStreams, SendPingTimeout: 10 * time.Second,
			PingTimeout: 10 * time.Second, WriteByteTimeout: 30 * time.Second},
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
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
	once    sync.Once
	release func()
}

func (c *boundedConn) Close() error {
	defer c.once.Do(c.release)
	return c.Conn.Close()
}

// isLocal reports whether a call comes from this machine. Then answers are not compressed, though the Go SDK compresses what it sends:
// it takes longer than to send them.
func isLocal(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	host, _, _ := net.SplitHostPort(p.Addr.String())
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// unary and stream turn errors of the client into statuses, and panics into one: gRPC would end the program.
func (s *Server) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (resp any, err error) {
	defer s.recovered(&err)
	if isLocal(ctx) {
		err = grpc.SetSendCompressor(ctx, encoding.Identity)
	}
	if err == nil {
		resp, err = h(ctx, req)
	}
	return resp, statusOf(err)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
	defer s.recovered(&err)
	if isLocal(ss.Context()) {
		err = grpc.SetSendCompressor(ss.Context(), encoding.Identity)
	}
	if err == nil {
		err = h(srv, ss)
	}
	return statusOf(err)
}

func (s *Server) recovered(err *error) {
	if v := recover(); v != nil {
		s.opts.Logger.Error("hatchet: a call panicked", "panic", v, "stack", stack())
		*err = status.Error(codes.Internal, "the server failed; its log says more")
	}
}

// unknownMethod answers calls of methods that have no message here: it takes traces, and refuses the others.
func (s *Server) unknownMethod(_ any, ss grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(ss)
	if method == traceExport {
		return s.takeTraces(ss)
	}
	why := "stint does not serve it"
	if w, ok := notServed[method]; ok {
		why = w
	}
	return status.Errorf(codes.Unimplemented, "%s: %s", method, why)
}

// takeTraces gives the traces that an SDK exports to the host. Without a function that takes them they are dropped: SDKs
// export to the server whether it keeps traces or not.
func (s *Server) takeTraces(ss grpc.ServerStream) error {
	m := &emptypb.Empty{} // all fields are unknown to it, and kept
	if err := ss.RecvMsg(m); err != nil {
		return err
	}
	if s.opts.Traces != nil {
		if err := s.opts.Traces(ss.Context(), m.ProtoReflect().GetUnknown()); err != nil {
			return err
		}
	}
	return ss.SendMsg(&emptypb.Empty{})
}

const traceExport = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

// notServed says why methods of the protocol are not served.
var notServed = map[string]string{
	"/Dispatcher/Listen":                  "it is of SDKs before v0.18: update the SDK",
	"/Dispatcher/SendGroupKeyActionEvent": "concurrency keys are CEL expressions: update the SDK",
	"/Dispatcher/PutOverridesData":        "it is of Hatchet's former dashboard",
	"/WorkflowService/PutWorkflow":        "it is of SDKs before v1: update the SDK",
	"/EventsService/ReplaySingleEvent":    "publish the event again",
}

// statusOf returns an error of the client as a status that SDKs know.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	if known := codeOf(err); known != nil {
		return known
	}
	return status.Error(codes.Internal, err.Error())
}

// codeOf returns the status of an error if it is one, or of the client or the context, or else nil.
func codeOf(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	for _, known := range []struct {
		err  error
		code codes.Code
	}{
		{context.Canceled, codes.Canceled}, {context.DeadlineExceeded, codes.DeadlineExceeded}, {stint.ErrNotFound, codes.NotFound},
		{stint.ErrClosed, codes.Unavailable}, {stint.ErrBusy, codes.Unavailable}, {stint.ErrReadOnly, codes.FailedPrecondition},
		{stint.ErrStarted, codes.FailedPrecondition},
	} {
		if errors.Is(err, known.err) {
			return status.Error(known.code, err.Error())
		}
	}
	return nil
}
