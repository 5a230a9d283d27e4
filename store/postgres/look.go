package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store/internal/limits"
)

// lookEvery is how often a process looks by itself at what others may have changed: a notice may be lost.
// pollEvery is how often it asks whether others have committed, if there are no notices; up to pollMax under
// a fake clock.
const (
	lookEvery = time.Second
	pollEvery = 20 * time.Millisecond
	pollMax   = 10 * time.Minute
)

func (w *writer) every() time.Duration {
	if w.s.settings.polls() {
		return max(pollEvery, w.pollBackoff)
	}
	return lookEvery
}

// poll looks at the database if others have committed. It is asked if now is true, or it is time to. Under a
// fake clock, where a month would mean millions of polls, it polls ever more rarely until others commit.
func (w *writer) poll(ctx context.Context, now bool) {
	if !now && time.Since(w.looked) < w.every() || w.connect(ctx) != nil {
		return
	}
	query := "SELECT pg_current_snapshot()::text, 0::bigint"
	if w.s.settings.bubble { // others' groups: snapshots also tell of those who use other tables of the server
		query = w.s.sql(`SELECT pg_current_snapshot()::text, coalesce(sum(n), 0)::bigint FROM stint.groups
			WHERE process <> '` + w.s.direct.process.name + "'")
	}
	var text string
	var others int64
	if err := w.conn.QueryRow(ctx, query).Scan(&text, &others); err != nil {
		if broken(w.conn, err) {
			w.drop()
		}
		return
	}
	w.looked = time.Now()
	seen := parseSnapshot(text)
	foreign := seen.foreign(w.seen, w.own)
	w.seen, w.own = seen, nil
	if foreign {
		w.look(ctx)
		w.s.heard(notice{All: true})
	}
	if w.others != others {
		w.pollBackoff = 0
	} else if w.s.settings.bubble {
		w.pollBackoff = min(max(2*w.pollBackoff, 2*pollEvery), pollMax)
	}
	w.others = others
}

// readyLanesSQL reads the lanes that have ready runs, one search of the index for each.
const readyLanesSQL = `
WITH RECURSIVE found (lane) AS (
  (SELECT lane FROM stint.runs WHERE state = 3 AND limiter IS NULL ORDER BY lane LIMIT 1)
  UNION ALL
  SELECT (SELECT lane FROM stint.runs WHERE state = 3 AND limiter IS NULL AND lane > found.lane ORDER BY lane LIMIT 1)
  FROM found WHERE found.lane IS NOT NULL)
SELECT l.id, l.queue, l.task, l.suspect, l.route FROM found JOIN stint.lanes l ON l.id = found.lane`

// look reads which lanes have ready runs, and when the next time comes.
func (w *writer) look(ctx context.Context) {
	w.looked = time.Now()
	if w.connect(ctx) != nil {
		return
	}
	b := &pgx.Batch{}
	next := limits.Never
	b.Queue(w.s.sql(nextTimeSQL)).QueryRow(func(r pgx.Row) error {
		var at *int64
		err := r.Scan(&at)
		if at != nil {
			next = *at
		}
		return err
	})
	b.Queue(w.s.sql("SELECT EXISTS (SELECT 1 FROM stint.events WHERE pending)")).QueryRow(func(r pgx.Row) error {
		var pending bool
		err := r.Scan(&pending)
		if pending {
			signal(w.s.pending.signaled)
		}
		return err
	})
	b.Queue(w.s.sql("SELECT n FROM stint.epoch")).QueryRow(func(r pgx.Row) error {
		var n int64
		err := r.Scan(&n)
		w.outdated(err == nil && n != w.epoch.n)
		return err
	})
	ready := map[int64]struct{}{}
	b.Queue(w.s.sql(readyLanesSQL)).Query(func(rows pgx.Rows) error {
		var l laneRow
		_, err := pgx.ForEachRow(rows, []any{&l.id, &l.queue, &l.task, &l.suspect, &l.route}, func() error {
			w.s.lanes.put(l)
			ready[l.id] = struct{}{}
			return nil
		})
		return err
	})
	if err := w.conn.SendBatch(ctx, b).Close(); err != nil {
		if broken(w.conn, err) {
			w.drop()
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = next
	for l := range ready {
		w.ready[l] = struct{}{}
		w.recheck = true
	}
}

// lookAt does what a notice asks for.
func (w *writer) lookAt(n notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range n.Lanes {
		w.ready[l] = struct{}{}
		w.recheck = true
	}
	w.oldEpoch = w.oldEpoch || n.Epoch
	w.recheck = w.recheck || n.Epoch // a queue may have been resumed
	if n.Timers != 0 {
		w.next = min(w.next, n.Timers)
	}
	signal(w.signaled)
}

// committedElsewhere does what follows from an app's commit.
func (w *writer) committedElsewhere(t *told) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range t.lanes {
		w.ready[l] = struct{}{}
	}
	w.recheck = true
	w.next = 0 // it may have stored times, events, and runs that have not come to their limiters
	signal(w.signaled)
}
