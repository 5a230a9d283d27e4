package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/stint-dev/stint/ui"
)

// urlHost returns the host and port for the URL of a listener on this machine.
func urlHost(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() { // the handler refuses a Host of 0.0.0.0
		return net.JoinHostPort("localhost", fmt.Sprint(tcp.Port))
	}
	return addr.String()
}

// serveUI serves until ctx ends, and then ends open pages.
func serveUI(ctx context.Context, s *session) error {
	var opts []ui.Option
	query := ""
	if s.localAccess {
		opts = append(opts, ui.WithLocalAccess())
	} else {
		token := ui.NewToken()
		opts, query = append(opts, ui.WithToken(token)), "?token="+token
	}
	if s.backupDir != "" {
		opts = append(opts, ui.WithBackupDir(s.backupDir))
	}
	if s.readOnly {
		opts = append(opts, ui.WithReadOnly())
	}
	l, err := net.Listen("tcp", s.http)
	if err != nil {
		return fmt.Errorf("stint: %w", err)
	}
	fmt.Fprintf(s.out, "http://%s/%s\n", urlHost(l.Addr()), query)
	server := &http.Server{Handler: ui.Handler(s.c, opts...), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	err = server.Shutdown(end)
	if serve := <-done; !errors.Is(serve, http.ErrServerClosed) {
		err = errors.Join(err, serve)
	}
	return err
}
