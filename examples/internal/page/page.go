// Package page serves the web page of an example's runs, if its user asks for it.
package page

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

// A Page is served until Close.
type Page struct {
	server *http.Server
	ended  chan error
}

// Serve serves the page of a client at an address and prints its URL; "" serves nothing.
func Serve(addr string, c *stint.Client) (*Page, error) {
	if addr == "" {
		return &Page{}, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	token := ui.NewToken()
	p := &Page{&http.Server{Handler: ui.Handler(c, ui.WithToken(token)), ReadHeaderTimeout: 10 * time.Second}, make(chan error, 1)}
	go func() { p.ended <- p.server.Serve(l) }()
	fmt.Fprintf(os.Stderr, "Watch it at http://%s/?token=%s\n", host(l.Addr()), token)
	return p, nil
}

// host returns the host and port to type into a browser: one that listens everywhere is here too.
func host(listens net.Addr) string {
	if at, ok := listens.(*net.TCPAddr); ok && at.IP.IsUnspecified() {
		return fmt.Sprintf("localhost:%d", at.Port)
	}
	return listens.String()
}

// Stay waits until ctx ends, if there is a page.
func (p *Page) Stay(ctx context.Context) {
	if p.server == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "Done. The page stays until Ctrl-C.")
	<-ctx.Done()
}

// Close stops serving the page.
func (p *Page) Close() {
	if p.server != nil {
		p.server.Close()
		<-p.ended
	}
}
