// Package commits counts the commits of a store, for those who wait for the next one.
package commits

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/stint-dev/stint/store"
)

// A Counter counts commits that may have changed something. The zero value is ready for use.
type Counter struct {
	n       atomic.Uint64
	waiting atomic.Bool
	mu      sync.Mutex
	next    chan struct{} // closed by the next change, if waiting
}

// Add counts a commit by what it did, so that the number also measures how busy the store is.
func (c *Counter) Add(did int) {
	c.n.Add(uint64(max(did, 1)))
	if !c.waiting.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting.Swap(false) {
		close(c.next)
	}
}

// Changed waits until the number of changes is above after, and returns it: see Changed of store.Health. The
// first number is 1, so that 0 is before all. It returns store.ErrClosed once closed reports true, which it
// asks after each Add.
func (c *Counter) Changed(ctx context.Context, after uint64, closed func() bool) (uint64, error) {
	for {
		n, next := c.wait()
		if closed() {
			return 0, store.ErrClosed
		}
		if n+1 > after {
			return n + 1, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// wait returns the number of changes, and a channel that the next change closes.
func (c *Counter) wait() (uint64, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.waiting.Load() {
		c.next = make(chan struct{})
		c.waiting.Store(true)
	}
	return c.n.Load(), c.next
}
