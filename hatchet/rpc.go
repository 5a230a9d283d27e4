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
	type received struct {
		req *Req
		err error
	}
	next, over := make(chan received), make(chan struct{})
	defer close(over)
	go func() { // until the stream ends, which it does when its method has returned
		for {
			req, err := stream.Recv()
			select {
			case next <- received{req, err}:
			case <-over:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-s.ctx.Done():
			return errEnds
		case r := <-next:
			switch {
			case errors.Is(r.err, io.EOF):
				return nil
			case r.err != nil:
				return r.err
			}
			if err := handle(r.req); err != nil {
				return err
			}
		}
	}
}
