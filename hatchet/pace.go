package hatchet

import (
	"context"
	"time"
)

// Of some changes the database says only that something was committed. Who waits for one looks again after a commit, and
// pauses for longer the more looks have found nothing: else each of many waits would read once a commit.
const (
	firstPause = time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// A pacer says when to look again.
type pacer struct {
	s     *Server
	at    uint64 // the commits that the last look may have seen
	pause time.Duration
}

// next waits until the database has changed. found reports whether the last look found what it was for. An error is of ctx or
// of the database.
func (p *pacer) next(ctx context.Context, found bool) (err error) {
	switch {
	case found:
		p.pause = 0
	case p.at > 0:
		p.pause = max(firstPause, min(2*p.pause, lastPause))
	}
	if err := pause(ctx, p.pause); err != nil {
		return err
	}
	waits := time.Now()
	p.at, err = p.s.c.Changed(ctx, p.at)
	if time.Since(waits) > lastPause {
		p.pause = 0 // commits are rare
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
