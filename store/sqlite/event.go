package sqlite

import (
	"context"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/event"
	"github.com/stint-dev/stint/store/internal/keys"
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
	id, _, err := firstMatch(es, m, "SELECT id, payload, metadata FROM stint_events WHERE key = ? AND id > ? ORDER BY id", m.Key, run)
	if err != nil || id == 0 {
		return time.Time{}, err
	}
	return millis(keys.CreatedAt(id)), nil
}

// firstMatch returns the first event of a query that matches; id 0: none.
func firstMatch(q querier, m *store.Match, query string, args ...any) (id int64, payload []byte, err error) {
	rows, err := q.query(query, args...)
	if err != nil {
		return 0, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		e := store.NewEvent{Key: m.Key}
		if err := rows.Scan(&id, &e.Payload, &e.Metadata); err != nil {
			return 0, nil, err
		}
		if ok, err := m.Matches(&e); ok || err != nil {
			return id, e.Payload, err
		}
	}
	return 0, nil, rows.Err()
}

// Events implements store.Schedules.
func (s *Store) Events(ctx context.Context, key string, before store.ID, limit int) (infos []store.EventInfo, next store.ID, err error) {
	last := int64(never)
	if before != (store.ID{}) {
		k, ok := s.ids.Key(before)
		if !ok {
			return nil, next, store.ErrNotFound
		}
		last = k
	}
	where, args := "id < ?", []any{last}
	if key != "" {
		where, args = "key = ? AND id < ?", []any{key, last}
	}
	type row struct {
		id int64
		store.NewEvent
	}
	err = s.view(ctx, func(q querier) error {
		rows, more, err := pageOf(q, limit, func(r *row) []any {
			return []any{&r.id, &r.Key, &r.Payload, &r.Metadata, &r.Scope, &r.Delivery}
		}, func(r *row) int { return r.Size() }, "SELECT id, key, payload, metadata, coalesce(scope, ''), coalesce(delivery, '') "+
			"FROM stint_events WHERE "+where+" ORDER BY id DESC LIMIT ?", append(args, limit+1)...)
		if err != nil {
			return err
		}
		if more {
			next = s.ids.ID(rows[len(rows)-1].id)
		}
		infos = make([]store.EventInfo, len(rows))
		for i, r := range rows {
			infos[i] = store.EventInfo{NewEvent: r.NewEvent, ID: s.ids.ID(r.id), At: millis(keys.CreatedAt(r.id))}
			for woke, into := range []*[]store.ID{&infos[i].Started, &infos[i].Woke} {
				runs, err := column[int64](q, "SELECT run FROM stint_event_runs WHERE event = ? AND woke = ? ORDER BY run LIMIT ?", r.id,
					woke, store.MaxEventRuns)
				if err != nil {
					return err
				}
				for _, run := range runs {
					*into = append(*into, s.ids.ID(run))
				}
			}
		}
		return nil
	})
	return infos, next, err
}
