// Package slots counts the slots of a worker, of which each run takes some while it executes.
package slots

import (
	"context"
	"slices"
	"sync"
)

// A Pool has the slots of a worker.
type Pool struct {
	size       int
	passedOver func() // called, once, when slots are free after Free or Fits found too few

	mu      sync.Mutex
	inUse   int
	holding int           // runs that have their slots
	starved bool          // Free or Fits found too few
	waiting []waiter      // oldest first
	freed   chan struct{} // capacity 1: a slot is free
}

// A waiter is a run that waits for its slots.
type waiter struct {
	granted chan struct{} // closed when it has them
	cost    int
}

// Held are the slots of one run, which may have given them up. Its zero value has none.
type Held struct {
	cost int
	has  bool // guarded by the pool's mu
}

// New returns a pool whose slots are free.
func New(size int, passedOver func()) *Pool {
	return &Pool{size: size, passedOver: passedOver, freed: make(chan struct{}, 1)}
}

// Free returns how many slots are free. Runs that wait for theirs go first.
func (p *Pool) Free() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.free()
	p.starved = n <= 0
	return n
}

func (p *Pool) free() int {
	n := p.size - p.inUse
	for _, r := range p.waiting {
		n -= r.cost
	}
	return n
}

// Freed returns a channel that receives after slots were given back.
func (p *Pool) Freed() <-chan struct{} { return p.freed }

// Fits reports whether a run of that cost can ever start here. If it cannot start now, the caller passes it over.
func (p *Pool) Fits(cost int) bool {
	if cost > p.size {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if cost > p.free() {
		p.starved = true
	}
	return true
}

// Holding returns the number of runs that have their slots.
func (p *Pool) Holding() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.holding
}

// Take takes the slots of a run that starts.
func (p *Pool) Take(h *Held, cost int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.cost, h.has = cost, true
	p.take(cost)
}

func (p *Pool) take(cost int) {
	p.inUse += cost
	p.holding++
}

// Release gives up the slots of a run, if it has them.
func (p *Pool) Release(h *Held) {
	if p.release(h) {
		p.passedOver()
	}
}

func (p *Pool) release(h *Held) (starved bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !h.has {
		return false
	}
	h.has = false
	p.inUse -= h.cost
	p.holding--
	for len(p.waiting) > 0 && p.inUse+p.waiting[0].cost <= p.size { // the slots are theirs
		p.take(p.waiting[0].cost)
		close(p.waiting[0].granted)
		p.waiting = p.waiting[1:]
	}
	select {
	case p.freed <- struct{}{}:
	default:
	}
	starved, p.starved = p.starved, false
	return starved
}

// Reacquire waits for the slots of a run that gave up its own. If ctx is done first, the run goes on without them.
func (p *Pool) Reacquire(ctx context.Context, h *Held) {
	p.mu.Lock()
	if h.has {
		p.mu.Unlock()
		return
	}
	if len(p.waiting) == 0 && p.inUse+h.cost <= p.size {
		p.take(h.cost)
		h.has = true
		p.mu.Unlock()
		return
	}
	turn := waiter{make(chan struct{}), h.cost}
	p.waiting = append(p.waiting, turn)
	p.mu.Unlock()
	select {
	case <-turn.granted:
	case <-ctx.Done(): // it goes on without a slot, unless one was just granted
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, turn); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return
	}
	h.has = true
}
