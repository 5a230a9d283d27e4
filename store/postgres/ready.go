package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/ready"
)

// A laneSet is what the writer knows of lanes with ready runs.
type laneSet struct {
	ready.Set
	limited map[int64]bool                   // lanes that have had runs with limits
	graphs  map[int64]map[int64]*store.Graph // by lane: those of tasks that it has had, but for sticky ones
}

// reset forgets all lanes.
func (s *laneSet) reset(paused map[string]bool) {
	s.Set = ready.NewSet()
	s.Paused, s.limited, s.graphs = paused, map[int64]bool{}, map[int64]map[int64]*store.Graph{}
}

// touch marks the lanes in which the group, or others, may have made runs ready. Those of others are not told to them again:
// processes would go on telling each other of lanes, and each would look from where the first of their runs was.
func (w *writer) touch(ctx context.Context, u *unit) error {
	w.mu.Lock()
	lanes := w.ready
	w.ready = lanesFrom{}
	w.mu.Unlock()
	lanes.addAll(u.told.lanes)
	var unknown []int64
	for id, rank := range lanes {
		if l := w.lanes.ByID[id]; l != nil {
			w.lanes.TouchFrom(l, rank)
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
			w.lanes.TouchFrom(w.lanes.AddNew(l), rank)
		} else if ok {
			w.lanes.TouchFrom(w.lanes.Add(l), rank)
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
		w.lanes.TouchFrom(w.lanes.Add(&ready.Lane{Name: l.name(), ID: l.id}), lanes[l.id])
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
	ahead   *ahead // nil: nothing was
}

// ahead holds the first ready runs of lanes, which were read with what the group has written.
type ahead struct {
	each  int // so many of each, or all
	lanes map[int64][]ready.Position
}

// maxAhead is the number of lanes that are read ahead.
const maxAhead = 100

const aheadSQL = `SELECT u.lane, r.rank, r.turn, r.id
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS u (lane, rank, turn, id)
CROSS JOIN LATERAL (SELECT rank, turn, id FROM stint.runs t
  WHERE t.lane = u.lane AND t.state = 3 AND t.limiter IS NULL AND (t.rank, t.turn, t.id) >= (u.rank, u.turn, u.id)
  ORDER BY t.rank, t.turn, t.id LIMIT $5) r`

// queueAhead queues the statement that reads the first runs of lanes, each; nil: they are too many.
func (w *writer) queueAhead(b *pgx.Batch, lanes []*ready.Lane, each int) *ahead {
	if len(lanes) > maxAhead {
		return nil
	}
	x := &ahead{each: each, lanes: map[int64][]ready.Position{}}
	var ids, ranks, turns, runs []int64
	for _, l := range lanes {
		x.lanes[l.ID] = nil
		from := l.Bound()
		ids, ranks, turns, runs = append(ids, l.ID), append(ranks, from.Rank), append(turns, from.Turn), append(runs, from.ID)
	}
	b.Queue(w.s.sql(aheadSQL), ids, ranks, turns, runs, each).Query(func(rows pgx.Rows) error {
		var lane int64
		var p ready.Position
		_, err := pgx.ForEachRow(rows, []any{&lane, &p.Rank, &p.Turn, &p.ID}, func() error {
			x.lanes[lane] = append(x.lanes[lane], p)
			return nil
		})
		return err
	})
	return x
}

// next returns up to n positions of a lane after one; ok is false if not so many were read.
func (x *ahead) next(lane int64, after ready.Position, n int) (all []ready.Position, ok bool) {
	if x == nil {
		return nil, false
	}
	read, ok := x.lanes[lane]
	if !ok {
		return nil, false
	}
	i, found := slices.BinarySearchFunc(read, after, ready.Position.Compare)
	if found {
		i++
	}
	if len(read)-i < n && len(read) == x.each { // there may be more
		return nil, false
	}
	return read[i:min(len(read), i+n)], true
}

// heads returns the first positions of lanes; ok is false if some were not read.
func (x *ahead) heads(lanes []int64) (all []ready.Head, ok bool) {
	for _, l := range lanes {
		first, ok := x.next(l, ready.Start, 2)
		if !ok {
			return nil, false
		}
		if len(first) > 0 {
			all = append(all, ready.Head{Lane: l, Position: first[0], More: len(first) > 1})
		}
	}
	return all, true
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

	headsSQL = `SELECT u.lane, r.rank, r.turn, r.id, r.more
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS u (lane, rank, turn, id) CROSS JOIN LATERAL (
  SELECT rank, turn, id, count(*) OVER () > 1 AS more FROM (SELECT rank, turn, id FROM stint.runs t
    WHERE t.lane = u.lane AND t.state = 3 AND t.limiter IS NULL AND (t.rank, t.turn, t.id) >= (u.rank, u.turn, u.id)
    ORDER BY rank, turn, id LIMIT 2) two ORDER BY rank, turn, id LIMIT 1) r`

	headDueSQL = `SELECT coalesce(due_at, id >> 20) FROM stint.runs
WHERE lane = $1 AND state = 3 AND limiter IS NULL AND (rank, turn, id) >= ($2, $3, $4) ORDER BY rank, turn, id LIMIT 1`
)

// query runs a statement that reads, in the transaction.
func (r readyRows) query(text string, args ...any) (pgx.Rows, error) {
	if !r.written {
		return nil, errMiss
	}
	return r.w.conn.Query(r.ctx, r.w.s.sql(text), args...)
}

// Next implements ready.Rows.
func (r readyRows) Next(l *ready.Lane, after ready.Position, n int) ([]ready.Position, error) {
	if all, ok := r.ahead.next(l.ID, after, n); ok {
		return all, nil
	}
	if at := l.Bound(); at.Compare(after) > 0 { // nothing is before it
		after = ready.Position{Rank: at.Rank, Turn: at.Turn, ID: at.ID - 1}
	}
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
	if all, ok := r.ahead.heads(lanes); ok {
		return all, nil
	}
	var ranks, turns, runs []int64
	for _, id := range lanes {
		from := r.w.lanes.ByID[id].Bound()
		ranks, turns, runs = append(ranks, from.Rank), append(turns, from.Turn), append(runs, from.ID)
	}
	rows, err := r.query(headsSQL, lanes, ranks, turns, runs)
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
func (r readyRows) Due(l *ready.Lane) (int64, bool, error) {
	from := l.Bound()
	return one[int64](r, headDueSQL, l.ID, from.Rank, from.Turn, from.ID)
}

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
