package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store/internal/ready"
)

// A laneSet is what the writer knows of lanes with ready runs.
type laneSet struct {
	ready.Set
	known map[int64]bool // lanes that are in the set
}

// reset forgets all lanes.
func (s *laneSet) reset(paused map[string]bool) {
	s.Set = ready.NewSet()
	s.Paused, s.known = paused, map[int64]bool{}
}

// touchAll marks that all lanes may have ready runs.
func (s *laneSet) touchAll() {
	for _, l := range s.ByID {
		s.Touch(l)
	}
}

// touch marks the lanes in which the group, or others, may have made runs ready.
func (w *writer) touch(ctx context.Context, u *unit) error {
	w.mu.Lock()
	for id := range w.ready {
		u.told.lanes[id] = struct{}{}
	}
	clear(w.ready)
	w.mu.Unlock()
	var unknown []int64
	for id := range u.told.lanes {
		if l := w.lanes.ByID[id]; l != nil {
			w.lanes.Touch(l)
			continue
		}
		n, ok, err := u.laneByID(id)
		if errors.Is(err, errMiss) {
			unknown = append(unknown, id)
			continue
		}
		if err != nil {
			return err
		}
		if l := (&ready.Lane{Name: n.name(), ID: id}); ok && u.isNewLane(n) {
			w.lanes.Touch(w.lanes.AddNew(l))
		} else if ok {
			w.lanes.Touch(w.lanes.Add(l))
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	rows, err := w.conn.Query(ctx, w.s.sql("SELECT id, queue, task, suspect, route FROM stint.lanes WHERE id = ANY ($1)"), unknown)
	if err != nil {
		return err
	}
	var l laneRow
	_, err = pgx.ForEachRow(rows, []any{&l.id, &l.queue, &l.task, &l.suspect, &l.route}, func() error {
		w.s.lanes.put(l)
		w.lanes.Touch(w.lanes.Add(&ready.Lane{Name: l.name(), ID: l.id}))
		return nil
	})
	return err
}

func (n laneOf) name() ready.Name {
	return ready.Name{Queue: n.queue, Task: n.task, Suspect: n.suspect, Route: n.route}
}

// readyRows are the ready runs of the writer's transaction, as they are once the group was written.
type readyRows struct {
	w       *writer
	ctx     context.Context
	u       *unit
	written bool
}

var _ ready.Rows = readyRows{}

// Now implements ready.Rows.
func (r readyRows) Now() int64 { return r.u.now }

// WakeAt implements ready.Rows.
func (r readyRows) WakeAt(at int64) { r.u.wake(at) }

const (
	nextReadySQL = `SELECT rank, turn, id FROM stint.runs
WHERE lane = $1 AND state = 3 AND limiter IS NULL AND (rank, turn, id) > ($2, $3, $4)
ORDER BY rank, turn, id LIMIT $5`

	headsSQL = `SELECT u.lane, r.rank, r.turn, r.id, r.more FROM unnest($1::bigint[]) AS u (lane) CROSS JOIN LATERAL (
  SELECT rank, turn, id, count(*) OVER () > 1 AS more FROM (SELECT rank, turn, id FROM stint.runs t
    WHERE t.lane = u.lane AND t.state = 3 AND t.limiter IS NULL ORDER BY rank, turn, id LIMIT 2) two ORDER BY rank, turn, id LIMIT 1) r`

	headDueSQL = `SELECT coalesce(due_at, id >> 20) FROM stint.runs
WHERE lane = $1 AND state = 3 AND limiter IS NULL ORDER BY rank, turn, id LIMIT 1`
)

// query runs a statement that reads, in the transaction.
func (r readyRows) query(text string, args ...any) (pgx.Rows, error) {
	if !r.written {
		return nil, errMiss
	}
	r.w.s.trips.Add(1)
	return r.w.conn.Query(r.ctx, r.w.s.sql(text), args...)
}

// Next implements ready.Rows.
func (r readyRows) Next(l *ready.Lane, after ready.Position, n int) ([]ready.Position, error) {
	rows, err := r.query(nextReadySQL, l.ID, after.Rank, after.Turn, after.ID, n)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p ready.Position, err error) {
		return p, row.Scan(&p.Rank, &p.Turn, &p.ID)
	})
}

// Heads implements ready.Rows.
func (r readyRows) Heads(lanes []int64) ([]ready.Head, error) {
	rows, err := r.query(headsSQL, lanes)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h ready.Head, err error) {
		return h, row.Scan(&h.Lane, &h.Rank, &h.Turn, &h.ID, &h.More)
	})
}

// one reads one value; ok is false if there is none.
func one[T any](r readyRows, text string, args ...any) (v T, ok bool, err error) {
	rows, err := r.query(text, args...)
	if err != nil {
		return v, false, err
	}
	v, err = pgx.CollectOneRow(rows, pgx.RowTo[T])
	if errors.Is(err, pgx.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

// Due implements ready.Rows.
func (r readyRows) Due(l *ready.Lane) (int64, bool, error) { return one[int64](r, headDueSQL, l.ID) }

// Busy implements ready.Rows.
func (r readyRows) Busy(worker int64) (int, error) {
	n, _, err := one[int](r, "SELECT count(*)::int FROM stint.runs WHERE worker = $1 AND state = 4", worker)
	return n, err
}

// SuspectExecutes implements ready.Rows.
func (r readyRows) SuspectExecutes() (bool, error) {
	is, _, err := one[bool](r, "SELECT EXISTS (SELECT 1 FROM stint.runs WHERE state = 4 AND crashes >= 2)")
	return is, err
}
