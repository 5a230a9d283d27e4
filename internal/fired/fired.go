// Package fired finds out what made the condition of a workflow's task true.
package fired

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
)

// Values returns what made a condition true, as JSON: an object of the names of those that fired, and what came with each.
// truth returns when a leaf became true, and what came with it; a zero time: it did not.
func Values(c *store.Condition, truth func(leaf *store.Condition) (time.Time, []byte, error)) ([]byte, error) {
	leaves := c.Leaves()
	truths, data := make([]time.Time, len(leaves)), make([][]byte, len(leaves))
	for i, l := range leaves {
		var err error
		if truths[i], data[i], err = truth(l); err != nil {
			return nil, err
		}
	}
	_, fired := store.Evaluate(c, truths)
	return store.FiredValues(fired, func(leaf int) []byte { return data[leaf] })
}

// maxPage is the number of events read at a time.
const maxPage = 1000

// FirstEvent returns when the first event came that matches, and its payload; a zero time: none did. If the match names no
// time, it must have come after the run or event with that ID.
func FirstEvent(ctx context.Context, s store.Lists, m *store.Match, since store.ID) (at time.Time, payload []byte, err error) {
	for list := (store.EventList{Filter: store.EventFilter{Keys: []string{m.Key}}, Limit: maxPage}); ; {
		if err := s.Read(ctx, &list); err != nil {
			return at, nil, err
		}
		for i := range list.Events { // newest first
			ev := &list.Events[i]
			if m.Since != 0 && ev.At.UnixMilli() < m.Since || m.Since == 0 && bytes.Compare(ev.ID[:], since[:]) <= 0 {
				return at, payload, nil
			}
			if ok, err := m.Matches(&ev.NewEvent); err != nil {
				return at, nil, fmt.Errorf("event %s: %w", ev.ID, err)
			} else if ok {
				at, payload = ev.At, ev.Payload
			}
		}
		if list.Before = list.Next; list.Next == (store.ID{}) {
			return at, payload, nil
		}
	}
}
