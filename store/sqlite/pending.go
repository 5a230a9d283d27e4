package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/event"
)

// A publisher publishes the events of apps' transactions, which are stored as pending, after the app's
// commit. It computes their filters in a goroutine of its own, as Publish does in its caller's, because
// everything waits for the writer. The same commit that does what follows from an event makes it no longer
// pending: so after a crash the next process continues, and of several processes one publishes it.
type publisher struct {
	signaled chan struct{} // capacity 1: the file has pending events
	done     chan struct{}
}

const (
	pendingPage  = 64 // events that are read at once, at most store.MaxPageBytes
	retryPending = time.Second
)

// signal makes the publisher look for pending events.
func (p *publisher) signal() { signal(p.signaled) }

// publishLoop publishes pending events until the writer has stopped. An event that cannot be published, such
// as one whose filters need another program, does not hold up others.
func (s *Store) publishLoop() {
	defer close(s.publisher.done)
	var retry <-chan time.Time
	for {
		select {
		case <-s.w.done:
			return
		case <-s.publisher.signaled:
		case <-retry:
		}
		retry = nil
		if err := s.publishPending(); err != nil {
			s.w.health.Store(&err)
			retry = time.After(retryPending)
		}
	}
}

// publishPending publishes each pending event once, oldest first, and returns the first
// error.
func (s *Store) publishPending() (failed error) {
	for after, more := int64(-1), true; more; {
		var events []store.NewEvent
		var keys []int64
		var err error
		if keys, events, more, err = s.pendingEvents(after); err != nil {
			return err
		}
		if len(keys) == 0 {
			return failed
		}
		after = keys[len(keys)-1]
		if s.publishStored(keys, events) == nil {
			continue
		}
		for i := range events { // only those at fault stay pending
			if err := s.publishStored(keys[i:i+1], events[i:i+1]); err != nil && failed == nil {
				failed = err
			}
		}
	}
	return failed
}

// pendingEvents reads a page of the pending events after one.
func (s *Store) pendingEvents(after int64) (keys []int64, events []store.NewEvent, more bool, err error) {
	err = s.view(context.Background(), func(q querier) error {
		keys, events, more, err = s.reads().PendingEvents(q, after, pendingPage)
		return err
	})
	return keys, events, more, err
}

// publishStored does what follows from events that are stored, unless another process has.
func (s *Store) publishStored(keys []int64, events []store.NewEvent) error {
	return s.decided(context.Background(), events, func(u *unit, _ *event.Candidates) error {
		for i := range events {
			if err := event.PublishPending(u.events, u.now, keys[i], &events[i]); err != nil {
				return err
			}
		}
		return nil
	})
}
