package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(moverVariable) != "" {
		moveAndDie()
	}
	goleak.VerifyTestMain(m)
}

// serverURL returns the URL of a server for tests.
func serverURL(t testing.TB) string {
	t.Helper()
	u := os.Getenv("STINT_DATABASE_URL")
	if u == "" {
		t.Skip("set STINT_DATABASE_URL to the URL of a PostgreSQL database")
	}
	return u
}

// newTables returns settings with tables of their own, which are dropped after the test.
func newTables(t testing.TB) *settings {
	t.Helper()
	s := noTables(t)
	if err := Migrate(t.Context(), serverURL(t), s.Options); err != nil {
		t.Fatal(err)
	}
	return s
}

// noTables returns settings of a schema that does not exist.
func noTables(t testing.TB) *settings {
	t.Helper()
	s, err := newSettings(serverURL(t), Options{Schema: "t_" + randomHex()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c := dial(t, s)
		if _, err := c.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+s.Schema+" CASCADE"); err != nil {
			t.Error(err)
		}
	})
	return s
}

func randomHex() string {
	b := make([]byte, 8)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// dial returns a connection that is closed after the test.
func dial(t testing.TB, s *settings) *pgx.Conn {
	t.Helper()
	c, err := s.connect(context.Background(), s.pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// A proxy stands between a client and the server, and may cut what passes.
type proxy struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu      sync.Mutex
	conns   []net.Conn
	refused bool
	// sent is called with what a client sends, and reports whether to forward it; answered likewise with
	// what the server answers.
	sent, answered func([]byte) bool
}

// newProxy returns a proxy to the server of settings, and settings that go through it.
func newProxy(t testing.TB, s *settings) (*proxy, *settings) {
	t.Helper()
	u, err := url.Parse(serverURL(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{to: u.Host}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	u.Host = p.listener.Addr().String()
	through, err := newSettings(u.String(), s.Options)
	if err != nil {
		t.Fatal(err)
	}
	return p, through
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		if p.refused {
			client.Close()
			server.Close()
		}
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.wg.Go(func() { p.pass(server, client, func() func([]byte) bool { return p.sent }) })
		p.wg.Go(func() { p.pass(client, server, func() func([]byte) bool { return p.answered }) })
	}
}

// pass copies until a side closes, or cuts both when keep says so.
func (p *proxy) pass(to, from net.Conn, keep func() func([]byte) bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.mu.Lock()
			f := keep()
			p.mu.Unlock()
			if f != nil && !f(buf[:n]) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// set changes what is cut from now on.
func (p *proxy) set(sent, answered func([]byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent, p.answered = sent, answered
}

// refuse cuts all connections, and refuses new ones while yes, as a server that is away.
func (p *proxy) refuse(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = yes
	for _, c := range p.conns {
		c.Close()
	}
}

func (p *proxy) close() {
	p.listener.Close()
	p.refuse(true)
	p.wg.Wait()
}
