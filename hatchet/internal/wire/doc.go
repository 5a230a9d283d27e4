// Package wire has the messages and services of Hatchet's protocol. Field numbers are the protocol's; names of
// messages are this package's own.
//
// The protobuf package of the files is stint.hatchet.wire, not that of the protocol: a program may link Hatchet's Go
// SDK beside the gateway, and protobuf refuses two messages with one full name in a program. On the wire only the
// names of services show, and of the messages in the details of a status: Services and TypeURL have them.
package wire

//go:generate ./generate.sh

import "google.golang.org/grpc"

// Services returns the services under the names that the protocol has for them.
func Services() map[string]grpc.ServiceDesc {
	return map[string]grpc.ServiceDesc{
		"Dispatcher":      Dispatcher_ServiceDesc,
		"WorkflowService": WorkflowService_ServiceDesc,
		"EventsService":   EventsService_ServiceDesc,
		"v1.AdminService": AdminService_ServiceDesc,
		"v1.V1Dispatcher": V1Dispatcher_ServiceDesc,
	}
}
