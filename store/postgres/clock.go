package postgres

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// A serverClock tells the server's time: it decides on all machines (R4). A process measures how far its own
// clock is off, and adds that.
type serverClock struct {
	offset atomic.Int64 // nanoseconds that the server's clock is ahead
}

const (
	clockSamples = 5
	// clockEvery is how often the offset is measured: a bad oscillator drifts 3 ms in it.
	clockEvery = time.Minute
	// MaxSkew is how far a machine's clock may be off the server's before Facts warns of it.
	MaxSkew = time.Second
)

// Now returns the server's time.
func (c *serverClock) Now() time.Time { return time.Now().Add(c.skew()) }

func (c *serverClock) skew() time.Duration { return time.Duration(c.offset.Load()) }

// measure measures the offset, but in a bubble of synctest.
func (s *settings) measure(ctx context.Context, c *serverClock, conn *pgx.Conn) error {
	if s.bubble {
		return nil
	}
	return c.measure(ctx, conn)
}

// measure measures the offset. Of several samples the one with the shortest round trip is the best: the
// server read its clock somewhere in it, so half of it bounds the error (as in NTP, RFC 5905).
func (c *serverClock) measure(ctx context.Context, conn *pgx.Conn) error {
	var best time.Duration = -1
	var offset time.Duration
	for range clockSamples {
		var micros int64
		before := time.Now()
		err := conn.QueryRow(ctx, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").Scan(&micros)
		trip := time.Since(before)
		if err != nil {
			return err
		}
		if best < 0 || trip < best {
			best, offset = trip, time.UnixMicro(micros).Sub(before.Add(trip/2))
		}
	}
	c.offset.Store(int64(offset))
	return nil
}
