package postgres

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store/internal/ready"
)

// An epoch is what the writer remembers of the database besides rows of its groups: it holds as long as the
// number in stint.epoch is the same. Each group reads that number under a shared lock, which who changes
// the number takes alone: so a pause, for instance, holds for every claim that begins after it.
type epoch struct {
	n      int64 // -1: nothing is known
	limits bool  // runs have limits, or had

	pausedQueues  map[string]bool
	pausedWorkers map[int64]bool
	living        map[int64]bool // workers
	peers         []ready.Peer
}

// epochLock is the lock of the number.
const epochLock = "(hashtext('stint epoch'), hashtext($1))"

// epochSQL reads the number, and the highest key.
var epochSQL = "SELECT n, limits, (" + lastKeySQL + ") FROM stint.epoch"

// queueEpoch queues the statements that read the number for a group, and the highest key: what the group
// enqueues and publishes comes after all that is committed, whatever process it is of (R5).
func (w *writer) queueEpoch(b *pgx.Batch, n *int64, limits *bool, last *int64) {
	w.lockEpoch(b)
	b.Queue(w.s.sql(epochSQL)).QueryRow(func(r pgx.Row) error {
		return r.Scan(n, limits, last)
	})
}

// epochLocked takes the lock of the number, shared, of a schema: it is a condition that holds.
func epochLocked(schema string) string {
	return "pg_advisory_xact_lock_shared(hashtext('stint epoch'), hashtext(" + schema + ")) IS NOT NULL"
}

// assumeEpoch queues the test that what the writer remembers holds. The lock of the number is held.
func (w *writer) assumeEpoch(b *pgx.Batch) { b.Queue(w.s.sql(assumeEpochSQL), w.epoch.n) }

func (w *writer) lockEpoch(b *pgx.Batch) {
	b.Queue("SELECT pg_advisory_xact_lock_shared"+epochLock, w.s.settings.Schema)
}

// outdated notes, if it is, that what the writer remembers is outdated: the next group reads it. Without
// this the server would tell, by an error, that fails a plain group (plain.go).
func (w *writer) outdated(is bool) {
	if is {
		w.epoch.n = -1
		w.known.Store(nil)
	}
}

// flushEpoch queues the statements that change the number.
func (s *Store) flushEpoch(b *pgx.Batch, limits bool) {
	b.Queue("SELECT pg_advisory_xact_lock"+epochLock, s.settings.Schema)
	b.Queue(s.sql("UPDATE stint.epoch SET n = n + 1, limits = limits OR $1"), limits)
}

// refresh reads what an epoch remembers, if the number has changed.
func (w *writer) refresh(ctx context.Context, n int64, limits bool) error {
	if w.epoch.n == n {
		return nil
	}
	e := epoch{n: n, limits: limits, pausedQueues: map[string]bool{}, pausedWorkers: map[int64]bool{}, living: map[int64]bool{}}
	b := &pgx.Batch{}
	b.Queue(w.s.sql("SELECT name FROM stint.queues WHERE paused")).Query(func(rows pgx.Rows) error {
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, name := range names {
			e.pausedQueues[name] = true
		}
		return err
	})
	b.Queue(w.s.sql("SELECT id, name, slots, labels, queues, paused FROM stint.workers WHERE ended_at IS NULL ORDER BY id")).
		Query(func(rows pgx.Rows) error {
			var p ready.Peer
			var labels, queues []byte
			var paused bool
			_, err := pgx.ForEachRow(rows, []any{&p.ID, &p.Name, &p.Slots, &labels, &queues, &paused}, func() error {
				e.living[p.ID] = true
				if paused {
					e.pausedWorkers[p.ID] = true
				}
				p.Labels, p.Queues = nil, nil
				if json.Unmarshal(labels, &p.Labels) == nil && json.Unmarshal(queues, &p.Queues) == nil { // else it was changed by hand
					e.peers = append(e.peers, p)
				}
				return nil
			})
			return err
		})
	var lanes []readyLane
	w.s.queueReadyLanes(b, w.lanes.marks(), &lanes)
	if err := w.send(ctx, b); err != nil {
		return err
	}
	w.epoch = e
	w.unit.triggers.forget()
	w.unit.filters.forget()
	w.s.lanes.forget()
	w.lanes.reset(e.pausedQueues)
	for _, l := range lanes {
		w.s.lanes.put(l.laneRow)
		w.lanes.Found(w.lanes.Add(&ready.Lane{Name: l.name(), ID: l.id}), l.first, l.some)
	}
	w.known.Store(&e) // after lanes of earlier epochs are forgotten, which the finisher uses
	return nil
}
