package hatchet_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// Without TLS a connection that begins with HTTP/2 is gRPC's. One that begins almost so is not.
func TestConnectionsBegin(t *testing.T) {
	g := serve(t, hatchet.Options{Page: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Method) })})
	two := new(http.Protocols)
	two.SetUnencryptedHTTP2(true)
	for name, c := range map[string]struct {
		method string
		over   *http.Transport
		status int
		body   string
	}{
		"HTTP/1.1": {"PROPFIND", &http.Transport{}, 200, "PROPFIND"}, "a strange method": {"PRI", &http.Transport{}, 200, "PRI"},
		"HTTP/2": {"POST", &http.Transport{Protocols: two}, 415, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+g.address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.over.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body := must[[]byte](t)(io.ReadAll(resp.Body))
		resp.Body.Close()
		c.over.CloseIdleConnections()
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.body) {
			t.Errorf("%s: status %d, body %q; want %d, %q", name, resp.StatusCode, body, c.status, c.body)
		}
	}
}

// Connections that say too little, or nothing for long, are closed.
func TestIdleConnections(t *testing.T) {
	const preface, settings = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for name, c := range map[string]struct {
		says  string
		after time.Duration
	}{
		"nothing": {"", 10 * time.Second}, "a part of a method": {"PR", 10 * time.Second}, "a part of the preface": {preface[:20], 10 * time.Second},
		"no settings": {preface, 10 * time.Second}, "no call, and no answer to a ping": {preface + settings, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := serveOnPipes(t, hatchet.Options{})
				conn, began := must[net.Conn](t)(n.connect("127.0.0.1")), time.Now()
				defer conn.Close()
				go io.WriteString(conn, c.says)
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took < c.after || took > c.after+time.Second {
					t.Errorf("closed after %v, want %v", took, c.after)
				}
			})
		})
	}
	t.Run("no call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := serveOnPipes(t, hatchet.Options{})
			k := n.dial("127.0.0.1")
			must[*wire.GetVersionResponse](t)(k.GetVersion(t.Context(), &wire.GetVersionRequest{}))
			first := n.last
			<-time.After(110 * time.Second)
			must[*wire.GetVersionResponse](t)(k.GetVersion(t.Context(), &wire.GetVersionRequest{}))
			<-time.After(110 * time.Second)
			if n.last != first || first.isClosed() {
				t.Error("a connection with a call each 110 s did not stay")
			}
			<-time.After(11 * time.Second)
			if !first.isClosed() {
				t.Error("a connection without a call for 2 minutes is open")
			}
		})
	})
}

// A call without a valid token is refused before its message is read.
func TestRefusedUnread(t *testing.T) {
	g := serve(t, hatchet.Options{MaxMessage: 10_000})
	large := &wire.TriggerWorkflowRequest{Name: "job", Input: strings.Repeat("x", 100_000)}
	_, err := g.dial("wrong").TriggerWorkflow(t.Context(), large)
	wantCode(t, err, codes.Unauthenticated, "token")
	_, err = g.dial(g.token).TriggerWorkflow(t.Context(), large)
	wantCode(t, err, codes.ResourceExhausted, "larger than max")
}

// Calls and streams that are open end with the server, at once.
func TestCallsEndWithServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := serveOnPipes(t, hatchet.Options{})
		k := n.dial("127.0.0.1")
		k.define(t, "job")
		w := k.work(t, "job")
		run := k.trigger(t, "job", "{}")
		w.start()
		results := must[grpc.BidiStreamingClient[wire.SubscribeToWorkflowRunsRequest, wire.WorkflowRunEvent]](t)(k.SubscribeToWorkflowRuns(t.Context()))
		if err := results.Send(&wire.SubscribeToWorkflowRunsRequest{WorkflowRunId: run}); err != nil {
			t.Fatal(err)
		}
		events := must[grpc.ServerStreamingClient[wire.WorkflowEvent]](t)(k.SubscribeToWorkflowEvents(t.Context(),
			&wire.SubscribeToWorkflowEventsRequest{WorkflowRunId: &run}))
		must[*wire.WorkflowEvent](t)(events.Recv()) // the run has begun
		synctest.Wait()
		began := time.Now()
		n.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the server ended after %v", took)
		}
		if _, err := w.stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the worker's stream: %v, want EOF", err)
		}
		_, err := results.Recv()
		wantCode(t, err, codes.Unavailable, "the server ends")
		_, err = events.Recv()
		wantCode(t, err, codes.Unavailable, "the server ends")
	})
}

// A server of the host serves the handler, with TLS and without.
func TestHandler(t *testing.T) {
	for name, start := range map[string]func(*httptest.Server){"with TLS": (*httptest.Server).StartTLS, "without TLS": (*httptest.Server).Start} {
		t.Run(name, func(t *testing.T) {
			c := openDB(t)()
			defer c.Close()
			s := must[*hatchet.Server](t)(hatchet.NewServer(c, hatchet.Options{Address: "host:1"}))
			defer s.Close()
			host := httptest.NewUnstartedServer(s.Handler())
			host.Config.Protocols = new(http.Protocols)
			host.Config.Protocols.SetHTTP1(true)
			host.Config.Protocols.SetUnencryptedHTTP2(true)
			host.EnableHTTP2 = true
			start(host)
			defer host.Close()
			dialHost := func(token string) *sdk {
				return dialTo(t, "host", token, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					if host.TLS == nil {
						return new(net.Dialer).DialContext(ctx, "tcp", host.Listener.Addr().String())
					}
					config := host.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
					config.NextProtos, config.ServerName = []string{"h2"}, "example.com"
					return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", host.Listener.Addr().String())
				}))
			}
			_, err := dialHost("wrong").GetVersion(t.Context(), &wire.GetVersionRequest{})
			wantCode(t, err, codes.Unauthenticated, "token")
			k := dialHost(must[string](t)(s.Token()))
			k.define(t, "job")
			run := k.trigger(t, "job", "{}")
			w := k.work(t, "job")
			w.complete(w.start(), `"done"`)
			k.result(t, run)
			if info := must[*stint.RunInfo](t)(c.GetRun(t.Context(), run)); string(info.Output) != `"done"` {
				t.Errorf("output is %s", info.Output)
			}
			w.cut()
		})
	}
}
