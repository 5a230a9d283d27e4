package hatchet

import (
	"sync"
	"time"
)

// A budget is the time that a durable task may work: its timeout. It stands still while the task waits.
type budget struct {
	over func() // called when it is used up

	mu      sync.Mutex
	left    time.Duration
	began   time.Time // zero: it stands still
	timer   *time.Timer
	pauses  int
	stopped bool
}

func newBudget(d time.Duration, over func()) *budget {
	b := &budget{over: over, left: d, began: time.Now()}
	b.timer = time.AfterFunc(d, over)
	return b
}

// pause makes the time stand still until as many calls of resume.
func (b *budget) pause() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pauses++; b.pauses == 1 && !b.stopped {
		b.timer.Stop()
		b.left -= time.Since(b.began)
	}
}

func (b *budget) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pauses--; b.pauses == 0 && !b.stopped {
		b.began = time.Now()
		b.timer.Reset(max(b.left, 0))
	}
}

// extend adds to the time.
func (b *budget) extend(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += d
	if b.pauses == 0 && !b.stopped {
		b.timer.Reset(max(b.left-time.Since(b.began), 0))
	}
}

func (b *budget) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	b.timer.Stop()
}
