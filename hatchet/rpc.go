package hatchet

import (
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
