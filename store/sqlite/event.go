package sqlite

import (
	"context"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/event"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/internal/reading"
)

// Publish implements store.Schedules.
func (s *Store) Publish(ctx context.Context, now time.Time, events []store.NewEvent) (ids []store.ID, err error) {
	err = s.decided(ctx, events, func(u *unit, found *event.Candidates) error {
		ids = make([]store.ID, len(events))
		for i := range events {
			key, err := event.Publish(u.events, now.UnixMilli(), &events[i], found)
			if err != nil {
				return err
			}
			ids[i], found = s.ids.ID(key), nil
		}
		if len(events) > 0 && events[0].Call != nil {
			return u.journals.recordCall(now.UnixMilli(), events[0].Call, store.EncodePublished(ids))
		}
		return nil
	})
	return ids, err
}

// eventRunsSQL store which runs events started or woke, bulkSizes rows at a time.
var eventRunsSQL = func() (texts [len(bulkSizes)]string) {
	for i, n := range bulkSizes {
		texts[i] = "INSERT OR IGNORE INTO stint_event_runs (event, run, woke) VALUES (?,?,?)" + strings.Repeat(",(?,?,?)", n-1)
	}
	return texts
}()

// recordEventRun stores, at the end of the transaction, that an event started or woke a run.
func (es *events) recordEventRun(event, run int64, woke bool) {
	es.recorded = append(es.recorded, event, run, woke)
}

// events decide what events do by package event. Rows that follow from them are inserted together.
type events struct {
	*unit
	passive
	publisher *publisher
	recorded  []any // rows of stint_event_runs
	started   []any // rows of runs that events start
	pending   bool  // there are events of apps' transactions to publish
}

func (es *events) flush() error {
	err := es.insertAll(&eventRunsSQL, 3, es.recorded)
	es.recorded = es.recorded[:0]
	return err
}

func (es *events) committed() {
	if es.pending {
		es.publisher.signal()
	}
	es.pending = false
}

func (es *events) rolledBack() { es.recorded, es.started, es.pending = nil, nil, false }

// eventSince returns when the first event that matches came after a run was enqueued; zero: none has.
func (es *events) eventSince(run int64, m *store.Match) (time.Time, error) {
	id, err := reading.EventSince(es, run, m)
	if err != nil || id == 0 {
		return time.Time{}, err
	}
	return millis(keys.CreatedAt(id)), nil
}
