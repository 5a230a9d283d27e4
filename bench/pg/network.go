package pg

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Network returns the URL of the server through a network on which a round trip takes so much longer, until close is called.
func Network(roundTrip time.Duration) (through string, close func(), err error) {
	cfg, err := pgconn.ParseConfig(URL())
	if err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	kind, server := pgconn.NetworkAddress(cfg.Host, cfg.Port)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := (&net.Dialer{}).DialContext(context.Background(), kind, server)
			if err != nil {
				c.Close()
				continue
			}
			go carry(s, c, roundTrip/2)
			go carry(c, s, roundTrip/2)
		}
	}()
	u := url.URL{Scheme: "postgres", User: url.UserPassword(cfg.User, cfg.Password), Host: l.Addr().String(), Path: cfg.Database}
	return u.String() + "?sslmode=disable", func() { l.Close() }, nil
}

// carry copies what comes from one side to the other, each part so much later. The next parts come meanwhile.
func carry(to, from net.Conn, delay time.Duration) {
	type part struct {
		due  time.Time
		data []byte
	}
	parts := make(chan part, 1000)
	go func() {
		defer close(parts)
		for {
			data := make([]byte, 64<<10)
			n, err := from.Read(data)
			if n > 0 {
				parts <- part{time.Now().Add(delay), data[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	defer to.Close()
	defer from.Close()
	runtime.LockOSThread()
	for p := range parts {
		if left := time.Until(p.due); left > 0 { // a sleep of the runtime may last half a millisecond longer
			_ = syscall.Nanosleep(&syscall.Timespec{Nsec: int64(left)}, nil)
		}
		if _, err := to.Write(p.data); err != nil {
			return
		}
	}
}

// RoundTrip measures a round trip of a URL: the median of some.
func RoundTrip(ctx context.Context, url string) (string, error) {
	c, err := pgconn.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	took := make([]time.Duration, 51)
	for i := range took {
		t := time.Now()
		if err := c.Ping(ctx); err != nil {
			return "", err
		}
		took[i] = time.Since(t)
	}
	slices.Sort(took)
	return fmt.Sprintf("a round trip takes %.2f ms", took[len(took)/2].Seconds()*1000), nil
}
