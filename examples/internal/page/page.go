// Package page shows the runs of an example on the web page, if its user asks for it.
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

// A Page is served until Close. One without an address is none.
type Page struct {
	server *http.Server
	ended  chan error
}

// Serve serves the page of a client at an address, and says where; "" serves nothing.
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
	fmt.Fprintf(os.Stderr, "Watch it at http://%s/?token=%s\n", l.Addr(), token)
	return p, nil
}

// Stay keeps the page, if there is one, until ctx ends.
func (p *Page) Stay(ctx context.Context) {
	if p.server == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "Done. The page stays until Ctrl-C.")
	<-ctx.Done()
}

// Close ends it.
func (p *Page) Close() {
	if p.server != nil {
		p.server.Close()
		<-p.ended
	}
}
