package hatchet

import (
	"context"
	"math"
	"net"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// newGRPCServer returns the server of all calls, on connections of its own and on those of an http.Server.
func (s *Server) newGRPCServer() *grpc.Server {
	g := grpc.NewServer(grpc.MaxRecvMsgSize(s.opts.MaxMessage), grpc.MaxSendMsgSize(s.opts.MaxMessage),
		grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream), grpc.UnknownServiceHandler(s.unknownMethod),
		grpc.MaxConcurrentStreams(uint32(min(s.opts.MaxStreams, math.MaxInt32))), grpc.MaxHeaderListSize(maxHeader),
		grpc.ConnectionTimeout(beginTimeout),
		grpc.StaticStreamWindowSize(maxUnread), grpc.StaticConnWindowSize(maxUnread), // fixed, which spares a ping a message
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingsApart, PermitWithoutStream: true}))
	for name, desc := range wire.Services() {
		desc.ServiceName, desc.Methods = name, slices.Clone(desc.Methods)
		for i := range desc.Methods {
			desc.Methods[i].Handler = s.withToken(desc.Methods[i].Handler)
		}
		g.RegisterService(&desc, rpc{Server: s})
	}
	return g
}

// stopGRPC ends gRPC's own connections. Calls that are under way may take until ctx is done.
func (s *Server) stopGRPC(ctx context.Context) {
	defer context.AfterFunc(ctx, s.grpc.Stop)()
	s.grpc.GracefulStop()
}

// withToken returns a method that refuses a call without a valid token before it reads the message.
func (s *Server) withToken(h grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, read func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
		if err := s.checkToken(ctx); err != nil {
			return nil, err
		}
		return h(srv, ctx, read, i)
	}
}

// checkToken returns a status unless a call has a valid token.
func (s *Server) checkToken(ctx context.Context) error {
	var token string
	if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) > 0 {
		token = values[0]
	}
	if err := s.tokens.check(ctx, token); err != nil {
		return status.Error(tokenCode(err), err.Error())
	}
	return nil
}

// isLocal reports whether a call comes from this machine. Then answers are not compressed, though the Go SDK compresses what it sends:
// it takes longer than to send them.
func isLocal(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	if tcp, ok := p.Addr.(*net.TCPAddr); ok {
		return tcp.IP.IsLoopback()
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
	err = s.checkToken(ss.Context())
	if err == nil && isLocal(ss.Context()) {
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
