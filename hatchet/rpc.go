package hatchet

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// An rpc has the methods of all services. It is not the Server itself, whose methods are the host's.
type rpc struct {
	*Server
	wire.UnimplementedDispatcherServer
	wire.UnimplementedWorkflowServiceServer
	wire.UnimplementedAdminServiceServer
	wire.UnimplementedEventsServiceServer
	wire.UnimplementedV1DispatcherServer
}

func unimplemented(why string) error { return status.Error(codes.Unimplemented, why) }

// receive calls handle with each message of a stream, until the caller sends no more, handle fails or the server ends.
func receive[Req, Res any](s *Server, stream grpc.BidiStreamingServer[Req, Res], handle func(*Req) error) error {
	for {
		req, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case s.ctx.Err() != nil:
			return errEnds
		case err != nil:
			return err
		}
		if err := handle(req); err != nil {
			return err
		}
	}
}
