//go:build unix

package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/stint-dev/stint"
)

// A verdict is the result of checks.
type verdict struct {
	Lost     int // acknowledged, and not there any more
	Doubled  int // recorded twice, or otherwise than before
	Over     int // above a limit
	Stuck    int // does not end
	Problems []string
}

func (v *verdict) add(into *int, n int, format string, args ...any) {
	if n == 0 {
		return
	}
	*into += n
	v.problem(format, args...)
}

func (v *verdict) problem(format string, args ...any) {
	const most = 50
	if len(v.Problems) < most {
		v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
	}
}

func (v *verdict) join(w verdict) {
	v.Lost, v.Doubled, v.Over, v.Stuck = v.Lost+w.Lost, v.Doubled+w.Doubled, v.Over+w.Over, v.Stuck+w.Stuck
	for _, p := range w.Problems {
		v.problem("%s", p)
	}
}

// err returns nil if nothing was found.
func (v *verdict) err() error {
	if v.Lost+v.Doubled+v.Over+v.Stuck+len(v.Problems) == 0 {
		return nil
	}
	return fmt.Errorf("%d lost, %d doubled, %d over a limit, %d stuck: %q", v.Lost, v.Doubled, v.Over, v.Stuck, v.Problems)
}

// ends has the results of runs when they were first seen to have ended.
type ends map[int64]string

// check looks at a file as a crash left it, before recovery: what was acknowledged is there, what had ended is
// unchanged, the file is whole, and no limit is exceeded.
func check(ctx context.Context, path string, acks []ack, seen ends) (v verdict, err error) {
	problems, err := problemsOf(ctx, path)
	if err != nil {
		return v, err
	}
	for _, p := range problems {
		v.problem("%s", p)
	}
	return v, inDatabase(path, func(db *sql.DB) error {
		open, err := runsIn(db, seen, &v)
		if err != nil {
			return err
		}
		events := map[int64]bool{}
		err = rowsOf(db, "SELECT id FROM stint_events", func(scan func(...any) error) error {
			var id int64
			err := scan(&id)
			events[id] = true
			return err
		})
		if err != nil {
			return err
		}
		for _, a := range acks {
			key, err := keyOf(a.id)
			if err != nil {
				return err
			}
			_, over := seen[key]
			switch {
			case a.what == published && !events[key]:
				v.add(&v.Lost, 1, "event %s was acknowledged", a.id)
			case a.what == enqueued && !over && !open[key]:
				v.add(&v.Lost, 1, "run %s was acknowledged", a.id)
			case a.what == ended && !over:
				v.add(&v.Lost, 1, "run %s was said to have ended (is there: %v)", a.id, open[key])
			}
		}
		queries := append(snapshotQueries[:len(snapshotQueries):len(snapshotQueries)], tickQuery)
		if onServer(path) {
			queries = append(queries, commitsQuery)
		}
		return counts(db, &v, queries)
	})
}

// runsIn are the runs that have not ended. Those that have it compares with what was
// seen of them.
func runsIn(db *sql.DB, seen ends, v *verdict) (open map[int64]bool, err error) {
	open = map[int64]bool{}
	there := map[int64]bool{}
	err = rowsOf(db, "SELECT id, state, lease, coalesce(ended_at, 0), coalesce(CAST(output AS TEXT), ''), coalesce(error, '') "+
		"FROM stint_runs", func(scan func(...any) error) error {
		var id, lease, at int64
		var state int
		var output, reason string
		if err := scan(&id, &state, &lease, &at, &output, &reason); err != nil {
			return err
		}
		there[id] = true
		if !stint.State(state).Terminal() {
			open[id] = true
			return nil
		}
		how := fmt.Sprint(state, lease, at, output, reason)
		if was, ok := seen[id]; ok && was != how {
			v.add(&v.Doubled, 1, "run %d had ended as %q, now is %q", id, was, how)
		}
		seen[id] = how
		return nil
	})
	for id := range seen {
		if err == nil && !there[id] {
			v.add(&v.Lost, 1, "run %d had ended", id)
		} else if open[id] {
			v.add(&v.Doubled, 1, "run %d had ended and is open", id)
		}
	}
	return open, err
}

func rowsOf(db *sql.DB, query string, f func(scan func(...any) error) error) error {
	rows, err := db.Query(query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// A countQuery counts rows that must not exist.
type countQuery struct {
	into  func(*verdict) *int
	what  string
	query string
}

func doubled(v *verdict) *int { return &v.Doubled }
func over(v *verdict) *int    { return &v.Over }
func lost(v *verdict) *int    { return &v.Lost }

func counts(db *sql.DB, v *verdict, queries []countQuery) error {
	for _, q := range queries {
		var n int
		if err := db.QueryRow(q.query).Scan(&n); err != nil {
			return fmt.Errorf("%s: %w", q.what, err)
		}
		v.add(q.into(v), n, "%d %s", n, q.what)
	}
	return nil
}

// snapshotQueries hold at any moment.
var snapshotQueries = []countQuery{
	{over, "keys of pay are above their limit", fmt.Sprintf(`SELECT count(*)
		FROM (SELECT CAST(CAST(r.input AS TEXT) AS INTEGER) %% 3 AS k FROM stint_runs r JOIN stint_lanes l ON l.id = r.lane
		WHERE l.task = 'pay' AND (r.state = 4 OR r.state = 5 AND r.lease > 0) GROUP BY k HAVING count(*) > %d) q`, limitMax)},
	{doubled, "effects happened twice", "SELECT count(*) - count(DISTINCT run || step) FROM effects"},
	{doubled, "events started several runs", "SELECT count(*) FROM (SELECT 1 FROM stint_event_runs " +
		"WHERE NOT woke GROUP BY event HAVING count(*) > 1) q"},
	{lost, "events started nothing", "SELECT count(*) FROM stint_events e WHERE NOT EXISTS (SELECT 1 FROM stint_event_runs c " +
		"WHERE c.event = e.id AND NOT woke)"},
	{doubled, "runs were started by no event", "SELECT count(*) FROM stint_runs_view r WHERE task = 'started' AND NOT EXISTS (SELECT 1 " +
		"FROM stint_event_runs c WHERE c.run = r.id AND NOT woke)"},
}

// commitsQuery looks at what was noted at the end of each transaction; see serverChecks.
var commitsQuery = countQuery{over, "starts were above the limit of their key", "SELECT count(*) FROM over_limit"}

// tickQuery holds where the clock is not set.
var tickQuery = countQuery{doubled, "ticks made several runs",
	`SELECT count(*) FROM (SELECT 1 FROM stint_runs_view WHERE task = 'ticked' GROUP BY metadata ->> 'stint.tick' HAVING count(*) > 1) q`}

// settledQueries hold once all runs have ended.
var settledQueries = []countQuery{
	{lost, "runs failed that should not", "SELECT count(*) FROM stint_runs WHERE state = 8"},
	{lost, "runs were canceled that should not", "SELECT count(*) FROM stint_runs_view WHERE state = 'canceled' " +
		"AND task NOT IN ('pay', 'refund', 'saga')"},
	{lost, "what canceled sagas did was not undone", "SELECT count(*) " + notUndone},
	{lost, "orders returned something else", fmt.Sprintf("SELECT count(*) FROM stint_runs_view WHERE task = 'order' "+
		"AND output + 0 <> %d * input", orderEffects)},
	{lost, "waiters returned something else", "SELECT count(*) FROM stint_runs_view WHERE task = 'waiter' AND output <> input"},
	// Effects of runs past their retention stay.
	{lost, "effects are missing", fmt.Sprintf("SELECT CASE WHEN o > e THEN o - e ELSE 0 END FROM (SELECT %d * "+
		"(SELECT count(*) FROM stint_runs_view WHERE task = 'order') AS o, (SELECT count(*) FROM effects) AS e) q", orderEffects)},
	{lost, "graphs did not run each task once", `SELECT count(*) FROM stint_runs f WHERE f.flags & 2 <> 0 AND f.state = 7 AND
		(SELECT count(DISTINCT n.node) * 100 + count(*) * 10 + count(CASE WHEN n.state = 7 THEN 1 END) FROM stint_runs n
		WHERE n.parent = f.id AND n.node IS NOT NULL) <> 444`},
	{over, "limits are held by nothing", "SELECT count(*) FROM stint_limiters WHERE active + admitted + waiting > 0 " +
		"AND NOT rate"},
}

// patience is how long a program may make no progress until it counts as stuck. It is far more than a busy machine
// needs: durations are noted, and not judged.
const patience = 5 * time.Minute

// drain opens a file with a new program, which works until all runs have ended, and checks their results. first is
// how long it took until the first progress.
func drain(ctx context.Context, path string) (v verdict, first time.Duration, err error) {
	began := time.Now()
	s, err := openShop(path)
	if err != nil {
		return v, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	working, stop := context.WithCancel(ctx)
	worked := make(chan error, 1)
	go func() { worked <- s.work(working, 16) }()
	err = inDatabase(path, func(db *sql.DB) error {
		if first, err = s.untilSettled(ctx, db, began); err == nil {
			err = counts(db, &v, settledQueries)
		}
		if ctx.Err() != nil {
			v.add(&v.Stuck, 1, "runs that do not end: %s", describe(db, "state NOT IN ('succeeded', 'failed', 'canceled', 'skipped')"))
			return nil
		}
		if v.Lost > 0 {
			v.problem("runs that failed: %s; sagas: %s", describe(db, "state = 'failed'"), describeSagas(db, path))
		}
		return err
	})
	stop()
	err = errors.Join(err, <-worked, s.c.Close())
	cancel()
	return v, first, err
}

func (s *shop) untilSettled(ctx context.Context, db *sql.DB, began time.Time) (first time.Duration, err error) {
	const progress = "SELECT sum(attempt) * 10 + sum(state) FROM stint_runs"
	var was, is sql.NullInt64
	if err := db.QueryRow(progress).Scan(&was); err != nil {
		return 0, err
	}
	if err := s.publishMissing(ctx, db); err != nil {
		return 0, err
	}
	for {
		var left, blocked int
		err := db.QueryRow("SELECT (SELECT count(*) FROM stint_runs WHERE state < 7 AND state <> 6), (SELECT count(*) FROM stint_runs "+
			"WHERE state > 4 AND state < 7 AND state = 6)").Scan(&left, &blocked)
		if err == nil && first == 0 {
			err = db.QueryRow(progress).Scan(&is)
			if is != was || left == 0 {
				first = time.Since(began)
			}
		}
		if err == nil && left > 0 {
			err = s.cancelSagas(ctx)
		}
		if err == nil && blocked > 0 { // quarantined by bad luck
			_, err = s.c.ReplayRuns(ctx, stint.RunFilter{States: []stint.State{stint.StateBlocked}})
		}
		if err != nil || left+blocked == 0 {
			return first, err
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return first, ctx.Err()
		}
	}
}

// publishMissing publishes the events that customers did not come to.
func (s *shop) publishMissing(ctx context.Context, db *sql.DB) error {
	var missing []int
	err := rowsOf(db, `SELECT input + 0 FROM stint_runs_view r WHERE task = 'waiter' AND state NOT IN ('succeeded', 'canceled', 'failed')
		AND NOT EXISTS (SELECT 1 FROM stint_events e WHERE e.key = 'shop.arrival' AND CAST(e.payload ->> 'n' AS BIGINT) = r.input + 0)`,
		func(scan func(...any) error) error {
			missing = append(missing, 0)
			return scan(&missing[len(missing)-1])
		})
	for _, n := range missing {
		if err == nil {
			_, err = s.c.Publish(ctx, "shop.arrival", arrival{n})
		}
	}
	return err
}

// describe describes some runs.
func describe(db *sql.DB, which string) string {
	text := ""
	query := "SELECT task, state, attempt, due, error FROM stint_runs_view WHERE " + which + " LIMIT 10"
	rowsOf(db, query, func(scan func(...any) error) error {
		var task, state string
		var attempt int
		var due, reason sql.NullString
		err := scan(&task, &state, &attempt, &due, &reason)
		text += fmt.Sprintf("%s %s, attempt %d, due %q, error %s; ", task, state, attempt, due.String, reason.String)
		return err
	})
	return text
}

// keyOf returns the key of an ID's row: see store/internal/keys.
func keyOf(id string) (int64, error) {
	u, err := uuid.Parse(id)
	hi := binary.BigEndian.Uint64(u[:8])
	return int64(hi>>16<<20 | hi&0xfff<<8 | uint64(u[8]&0x3f)<<2 | uint64(u[9]>>6)), err
}
