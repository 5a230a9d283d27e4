package sqlite

import (
	"context"
	"slices"
	"sync"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/event"
)

// Filters are computed by the goroutine that publishes, before the writer's transaction: the payload may
// be large and the filters many, and everything waits for the writer. If an event meets filters that were
// not computed, the writer returns them without a change, and the event is published again when they are.

// undecided are filters that were not computed for an event.
type undecided struct {
	event   *store.NewEvent
	filters []store.FilterCall
}

// decided makes a change by the writer once the filters that events need are computed. change is given the
// candidates of the first event.
func (s *Store) decided(ctx context.Context, events []store.NewEvent, change func(u *unit, first *event.Candidates) error) error {
	s.filters.decide(events)
	for {
		var open []undecided
		err := s.do(ctx, func(u *unit) (err error) {
			var first *event.Candidates
			if open, first, err = u.events.undecided(events); err != nil || len(open) > 0 {
				return err
			}
			return change(u, first)
		})
		if err != nil || len(open) == 0 {
			return err
		}
		s.filters.learn(open)
	}
}

// undecided returns the filters that events need and that were not computed, and the candidates of the
// first event.
func (es *events) undecided(events []store.NewEvent) (open []undecided, first *event.Candidates, err error) {
	for i := range events {
		filters, found, err := event.Undecided(es, &events[i])
		if err != nil {
			return nil, nil, err
		}
		if i == 0 {
			first = found
		}
		if len(filters) > 0 {
			open = append(open, undecided{&events[i], filters})
		}
	}
	return open, first, nil
}

// knownFilters records which filters events have met, so that most are computed before the writer needs
// them.
type knownFilters struct {
	mu    sync.Mutex
	byKey map[[2]string][]store.FilterCall // by key and scope of the events
}

const (
	maxKnownKeys    = 1000 // of events
	maxKnownFilters = 100  // of one key: others are computed when the writer returns them
)

// decide computes the filters that events are likely to meet.
func (k *knownFilters) decide(events []store.NewEvent) {
	for i := range events {
		e := &events[i]
		k.mu.Lock()
		filters := k.byKey[[2]string{e.Key, e.Scope}]
		k.mu.Unlock()
		e.Decide(filters)
	}
}

// learn computes the filters that the writer returned, and records them.
func (k *knownFilters) learn(open []undecided) {
	for _, u := range open {
		u.event.Decide(u.filters)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byKey == nil || len(k.byKey) > maxKnownKeys {
		k.byKey = map[[2]string][]store.FilterCall{}
	}
	for _, u := range open {
		key := [2]string{u.event.Key, u.event.Scope}
		known := k.byKey[key]
		if len(known)+len(u.filters) > maxKnownFilters {
			known = nil // most are probably of past waits
		}
		k.byKey[key] = slices.Concat(known, u.filters[:min(len(u.filters), maxKnownFilters)])
	}
}
