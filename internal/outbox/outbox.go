// Package outbox keeps what many goroutines post until one takes it, many at a time. One goroutine waits for posts; a poster that
// finds nobody taking may take what was posted itself.
package outbox

import (
	"slices"
	"sync"
)

// An Outbox has items that were posted and not taken yet.
type Outbox[T any] struct {
	size func(*T) int
	most int

	mu     sync.Mutex
	items  []T
	spare  []T           // empty: former items, to be reused
	led    bool          // somebody takes items: he alone calls Next
	wanted bool          // Release signals in any case
	posted chan struct{} // capacity 1: there are items
}

// maxSpare is the capacity of items that are kept to be reused.
const maxSpare = 1024

// New returns an empty Outbox. Next takes items of at most that size together, or one that is larger.
func New[T any](size func(*T) int, most int) *Outbox[T] {
	return &Outbox[T]{size: size, most: most, posted: make(chan struct{}, 1)}
}

// Post appends an item, and makes Posted receive.
func (b *Outbox[T]) Post(item T) {
	b.Append(item)
	b.signal()
}

// Append appends an item. The caller calls Lead after that, and takes what was posted if it may.
func (b *Outbox[T]) Append(item T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.items = append(b.items, item)
}

func (b *Outbox[T]) signal() {
	select {
	case b.posted <- struct{}{}:
	default:
	}
}

// Posted returns a channel that receives after a Post, and after a Release that leaves items. Several may make it receive once.
func (b *Outbox[T]) Posted() <-chan struct{} { return b.posted }

// Lead reports whether the caller may take items, until it calls Release: nobody else does now. Whoever does sees to what was
// posted before.
func (b *Outbox[T]) Lead() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.led {
		return false
	}
	b.led = true
	return true
}

// Release ends what Lead began.
func (b *Outbox[T]) Release() {
	b.mu.Lock()
	b.led = false
	signal := len(b.items) > 0 || b.wanted
	b.wanted = false
	b.mu.Unlock()
	if signal {
		b.signal()
	}
}

// Close reports whether all items were taken and nobody leads: then nobody can from now on. Else Posted receives when that may have
// changed.
func (b *Outbox[T]) Close() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.led && len(b.items) == 0 {
		b.led = true
		return true
	}
	b.wanted = true
	return false
}

// Return puts a batch back before all other items.
func (b *Outbox[T]) Return(batch []T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.items = slices.Insert(b.items, 0, batch...)
}

// Next takes the oldest items; nil: there are none. Only who leads calls it.
func (b *Outbox[T]) Next() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, size := 0, 0
	for ; n < len(b.items) && size < b.most; n++ {
		size += b.size(&b.items[n])
	}
	if n == 0 {
		return nil
	}
	batch, rest := b.items[:n:n], b.items[n:]
	if len(rest) == 0 {
		batch, rest, b.spare = b.items, b.spare, nil
	}
	b.items = rest
	return batch
}

// Reuse takes back what Next returned, to hold later items: they may be large.
func (b *Outbox[T]) Reuse(batch []T) {
	clear(batch) // frees what the items refer to
	b.mu.Lock()
	defer b.mu.Unlock()
	if cap(batch) <= maxSpare {
		b.spare = batch[:0]
	}
}
