package hatchet_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/stint-dev/stint/hatchet"
)

// encrypted returns what a server and its clients need for TLS; a client offers the protocols.
func encrypted() (server *tls.Config, client func(offers ...string) *tls.Config) {
	h := httptest.NewTLSServer(nil)
	defer h.Close()
	trust := h.Client().Transport.(*http.Transport).TLSClientConfig
	return &tls.Config{Certificates: h.TLS.Certificates}, func(offers ...string) *tls.Config {
		return &tls.Config{RootCAs: trust.RootCAs, ServerName: "example.com", NextProtos: offers}
	}
}

// With TLS a connection is gRPC's if its client offers HTTP/2 alone; one that offers HTTP/1.1 too may choose HTTP/2 for REST, and have
// gRPC on it.
func TestTLSConnections(t *testing.T) {
	config, client := encrypted()
	g := serve(t, hatchet.Options{TLS: config})
	for name, c := range map[string]struct {
		offers  []string
		http2   bool
		version int // of the answer
		status  int
	}{
		"HTTP/1.1": {[]string{"http/1.1"}, false, 1, 404}, "none": {nil, false, 1, 404},
		"both": {[]string{"h2", "http/1.1"}, true, 2, 404}, "HTTP/2": {[]string{"h2"}, true, 2, 415},
	} {
		over := &http.Transport{Protocols: new(http.Protocols), DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return (&tls.Dialer{Config: client(c.offers...)}).DialContext(ctx, "tcp", address)
		}}
		over.Protocols.SetHTTP1(true)
		over.Protocols.SetHTTP2(c.http2)
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+g.address+"/nothing", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := over.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		resp.Body.Close()
		over.CloseIdleConnections()
		if resp.ProtoMajor != c.version || resp.StatusCode != c.status {
			t.Errorf("%s: %s, status %d; want version %d, status %d", name, resp.Proto, resp.StatusCode, c.version, c.status)
		}
	}
	for name, offers := range map[string][]string{"HTTP/2": {"h2"}, "both": {"h2", "http/1.1"}, "none": nil} {
		k := dialTo(t, g.address, g.token, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return (&tls.Dialer{Config: client(offers...)}).DialContext(ctx, "tcp", address)
		}))
		k.define(t, "job")
		w := k.work(t, "job")
		run := k.trigger(t, "job", "{}")
		w.complete(w.start(), `"done"`)
		if e := k.result(t, run); e.Results[0].GetOutput() != `"done"` {
			t.Errorf("%s: result is %v", name, e)
		}
		must[any](t)(nil, k.conn.Close())
	}
}

// A connection that does no handshake is closed, and so are those of gRPC that say nothing after it; the server ends all the same.
func TestTLSIdleConnections(t *testing.T) {
	config, client := encrypted()
	synctest.Test(t, func(t *testing.T) {
		n := serveOnPipes(t, hatchet.Options{TLS: config})
		conn, began := must[net.Conn](t)(n.connect("127.0.0.1")), time.Now()
		io.Copy(io.Discard, conn)
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("a silent connection was closed after %v", took)
		}
		conn, began = tls.Client(must[net.Conn](t)(n.connect("127.0.0.1")), client("h2")), time.Now()
		io.Copy(io.Discard, conn)
		if took := time.Since(began); took < 10*time.Second || took > 16*time.Second { // a farewell may take 5 s
			t.Errorf("a connection of gRPC was closed after %v", took)
		}
		must[net.Conn](t)(n.connect("127.0.0.1")) // in its handshake
		n.stop()
	})
}
