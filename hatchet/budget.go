package hatchet

import (
	"sync"
	"time"
)

// A budget is the time that an execution of a durable task may take: its timeout. Waits count too.
type budget struct {
	mu      sync.Mutex
	end     time.Time
	timer   *time.Timer
	stopped bool
}

// newBudget calls over when the time is used up.
func newBudget(d time.Duration, over func()) *budget {
	return &budget{end: time.Now().Add(d), timer: time.AfterFunc(d, over)}
}

// extend adds to the time.
func (b *budget) extend(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end = b.end.Add(d)
	if !b.stopped {
		b.timer.Reset(time.Until(b.end))
	}
}

func (b *budget) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	b.timer.Stop()
}
