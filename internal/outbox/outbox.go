// Package outbox keeps what many goroutines post until one takes it, many at a time.
package outbox

import "sync"

// An Outbox has items that were posted and not taken yet.
type Outbox[T any] struct {
	size func(*T) int
	most int

	mu     sync.Mutex
	items  []T
	spare  []T           // empty: former items, to be reused
	posted chan struct{} // capacity 1: there are items
}

// maxSpare is the capacity of items that are kept to be reused.
const maxSpare = 1024

// New returns an empty Outbox. Next takes items of at most that size together, or one that is larger.
func New[T any](size func(*T) int, most int) *Outbox[T] {
	return &Outbox[T]{size: size, most: most, posted: make(chan struct{}, 1)}
}

// Post appends an item.
func (b *Outbox[T]) Post(item T) {
	b.mu.Lock()
	b.items = append(b.items, item)
	b.mu.Unlock()
	select {
	case b.posted <- struct{}{}:
	default:
	}
}

// Posted returns a channel that receives after a Post. Several may make it receive once.
func (b *Outbox[T]) Posted() <-chan struct{} { return b.posted }

// Empty reports whether all items were taken.
func (b *Outbox[T]) Empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items) == 0
}

// Next takes the oldest items; nil: there are none.
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
