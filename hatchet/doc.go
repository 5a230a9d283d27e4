// Package hatchet serves the protocol of Hatchet's SDKs on a stint database: programs in Python, TypeScript, Go and
// Ruby define tasks, work them and start runs, without knowing that no Hatchet is there.
//
//	c, err := stint.Open("app.db")
//	s, err := hatchet.NewServer(c, hatchet.Options{})
//	l, err := net.Listen("tcp", "127.0.0.1:7077")
//	go s.Serve(ctx, l)
//	token, err := s.Token() // HATCHET_CLIENT_TOKEN of the programs
//
// Without TLS their environment also needs HATCHET_CLIENT_TLS_STRATEGY=none. Command stint-hatchet does this as a
// program of its own.
//
// The tasks of an SDK's worker are tasks of the database like any other: the host enqueues them with
// Client.EnqueueJSON, the page shows them, and an SDK starts a task that the host defines by its name.
package hatchet
