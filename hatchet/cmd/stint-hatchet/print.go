package main

import (
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/ui"
)

// urlHost returns the host and port at which programs of this machine reach a listener.
func urlHost(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", fmt.Sprint(tcp.Port))
	}
	return addr.String()
}

// pageOf returns the handler of the web page, or nil, and the query of the URL that opens it.
func pageOf(c *stint.Client, o options) (http.Handler, string) {
	switch {
	case o.noPage:
		return nil, ""
	case o.localAccess:
		return ui.Handler(c, ui.WithLocalAccess()), ""
	}
	token := ui.NewToken()
	return ui.Handler(c, ui.WithToken(token)), "?token=" + token
}

// announce prints what programs and people need to connect. All but the environment is a comment, so that a shell can
// read the output.
func announce(s *hatchet.Server, o options, host, query string, out io.Writer) error {
	if !o.quiet {
		token, err := s.Token()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "export HATCHET_CLIENT_TOKEN=%s\n", token)
		if o.cert == "" {
			fmt.Fprintln(out, "export HATCHET_CLIENT_TLS_STRATEGY=none")
		}
	}
	scheme := "http"
	if o.cert != "" {
		scheme = "https"
	}
	if !o.noPage {
		fmt.Fprintf(out, "# page: %s://%s/%s\n", scheme, host, query)
	}
	_, err := fmt.Fprintf(out, "# serving SDKs at %s\n", host)
	return err
}
