package hatchet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Without TLS a connection that begins with HTTP/2 is one of gRPC: what calls REST, or shows the page, begins with HTTP/1.1. So it goes
// to gRPC's own transport: a worker that has nothing to do costs half of what it costs by net/http.

// An h2cListener is the listener of gRPC: it accepts the connections of another that turn out to speak HTTP/2.
type h2cListener struct {
	net.Listener // the other
	conns        chan net.Conn
	closed       chan struct{}
	close        func()
}

func newH2CListener(l net.Listener) *h2cListener {
	h := &h2cListener{Listener: l, conns: make(chan net.Conn), closed: make(chan struct{})}
	h.close = sync.OnceFunc(func() { close(h.closed) })
	return h
}

func (l *h2cListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. The other listener is the HTTP server's to close.
func (l *h2cListener) Close() error {
	l.close()
	return nil
}

// divert takes the connections that begin with the preface of HTTP/2, which net/http shows as a request, and has next
// serve the requests of others.
func (l *h2cListener) divert(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "PRI" || r.ProtoMajor != 2 {
			next.ServeHTTP(w, r)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		read, _ := rw.Reader.Peek(rw.Reader.Buffered())
		c := &h2cConn{Conn: conn, begin: io.MultiReader(strings.NewReader("PRI * HTTP/2.0\r\n\r\n"), bytes.NewReader(read))}
		l.take(c)
	})
}

// take gives gRPC a connection.
func (l *h2cListener) take(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.closed:
		c.Close()
	}
}

// An h2cConn is a connection of gRPC, whose beginning may have been read.
type h2cConn struct {
	net.Conn
	begin io.Reader // nil when there is none, or it was read again
}

func (c *h2cConn) Read(b []byte) (int, error) {
	if c.begin != nil {
		if n, err := c.begin.Read(b); !errors.Is(err, io.EOF) {
			return n, err
		}
		c.begin = nil
	}
	return c.Conn.Read(b)
}

func (c *h2cConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
