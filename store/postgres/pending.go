package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/event"
)

// A publisher publishes the events of apps' transactions, which are stored as pending, after the app's
// commit. The commit that does what follows from an event makes it no longer pending: so after a crash
// another process continues, and of several processes one publishes it.
type publisher struct {
	s        *Store
	signaled chan struct{} // capacity 1: the database has pending events
	done     chan struct{}
	stop     context.CancelFunc
}

const (
	pendingPage  = 64 // events that are read at once
	retryPending = time.Second
)

func newPublisher(s *Store) *publisher {
	ctx, stop := context.WithCancel(context.Background())
	p := &publisher{s: s, signaled: make(chan struct{}, 1), done: make(chan struct{}), stop: stop}
	go p.run(ctx)
	return p
}

func (p *publisher) run(ctx context.Context) {
	defer close(p.done)
	var retry <-chan time.Time
	for {
		select {
		case <-p.signaled:
		case <-retry:
		case <-ctx.Done():
			return
		}
		retry = nil
		if err := p.publish(ctx); err != nil && ctx.Err() == nil {
			p.s.setHealth(err)
			retry = time.After(retryPending)
		}
	}
}

func (p *publisher) close() {
	p.stop()
	<-p.done
}

// publish publishes each pending event once, oldest first, and returns the first error. An event that
// cannot be published, such as one whose filters need another program, does not hold up others.
func (p *publisher) publish(ctx context.Context) (failed error) {
	for after := int64(-1); ; {
		keys, events, err := p.page(ctx, after)
		if err != nil {
			return err
		}
		for i := range events {
			after = keys[i]
			if err := p.publishOne(ctx, keys[i], &events[i]); err != nil && failed == nil {
				failed = err
			}
		}
		if len(events) < pendingPage {
			return failed
		}
	}
}

// page reads a page of the pending events after one.
func (p *publisher) page(ctx context.Context, after int64) (keys []int64, events []store.NewEvent, err error) {
	err = p.s.view(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, p.s.sql(`SELECT id, key, payload, metadata, coalesce(scope, ''), priority FROM stint.events
			WHERE pending AND id > $1 ORDER BY id LIMIT $2`), after, pendingPage)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var key int64
			var e store.NewEvent
			if err := rows.Scan(&key, &e.Key, &e.Payload, &e.Metadata, &e.Scope, &e.Priority); err != nil {
				return err
			}
			keys, events = append(keys, key), append(events, e)
		}
		return rows.Err()
	})
	return keys, events, err
}

// publishOne does what follows from an event that is stored, unless another process has.
func (p *publisher) publishOne(ctx context.Context, key int64, e *store.NewEvent) error {
	events := []store.NewEvent{*e}
	return p.s.decided(ctx, events, func(u *unit) error {
		return event.PublishPending(eventRows{u}, u.now, key, &events[0])
	})
}
