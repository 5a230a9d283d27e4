package hatchet

import (
	"context"
	"sync"
)

// A slotPool counts the slots of a pool that runs occupy at the SDK. Workers of stint keep to it by themselves, but
// after a stream was lost and came back there are two: one that drains and one that claims.
type slotPool struct {
	size int

	mu      sync.Mutex
	free    int
	waiters []slotWaiter // oldest first
}

type slotWaiter struct {
	n   int
	got chan struct{}
}

// acquire takes n slots, at most all, as soon as they are free, and returns how many it took.
func (p *slotPool) acquire(ctx context.Context, n int) (int, error) {
	n = min(n, p.size)
	p.mu.Lock()
	if len(p.waiters) == 0 && p.free >= n {
		p.free -= n
		p.mu.Unlock()
		return n, nil
	}
	w := slotWaiter{n, make(chan struct{})}
	p.waiters = append(p.waiters, w)
	p.mu.Unlock()
	select {
	case <-w.got:
		return n, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	for i := range p.waiters {
		if p.waiters[i].got == w.got {
			p.waiters = append(p.waiters[:i], p.waiters[i+1:]...)
			p.grant()
			p.mu.Unlock()
			return 0, context.Cause(ctx)
		}
	}
	p.mu.Unlock()
	p.release(n) // granted meanwhile
	return 0, context.Cause(ctx)
}

func (p *slotPool) unused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.free
}

func (p *slotPool) release(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free += n
	p.grant()
}

// grant is called with p.mu held.
func (p *slotPool) grant() {
	for len(p.waiters) > 0 && p.free >= p.waiters[0].n {
		p.free -= p.waiters[0].n
		close(p.waiters[0].got)
		p.waiters = p.waiters[1:]
	}
}
