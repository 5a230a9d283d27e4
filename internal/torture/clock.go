//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint"
)

// jumps are jumps of real clocks: forward and back, by daylight saving or by hand, and a machine that slept for a day.
var jumps = []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -10 * time.Minute, time.Minute, -24 * time.Hour}

// clock runs a program while the wall clock jumps. For the file, a jump is the same as all its times moving the
// other way, which is done here; no process may set the clock. What becomes due by the jump starts at once and
// once, and nothing else does; what executes continues; and new work is done as before.
func clock(ctx context.Context, r *round) error {
	path := filepath.Join(r.dir("clock"), "shop.db")
	s, err := openShop(path)
	if err != nil {
		return err
	}
	var starts atomic.Int64
	release := make(chan struct{})
	held := stint.NewTask(s.c, "held", func(ctx context.Context, _ int) (int, error) {
		starts.Add(1)
		<-release
		return 1, nil
	}, stint.WithTimeout(time.Hour))
	working, stop := context.WithCancel(ctx)
	worked := make(chan error, 1)
	go func() { worked <- s.work(working, 8) }()
	h, err := held.Enqueue(ctx, 1)
	for i := range r.count {
		if err == nil {
			err = jumped(ctx, s, path, jumps[i%len(jumps)])
			r.faults++
		}
	}
	close(release)
	if err == nil {
		_, err = h.Wait(ctx)
	}
	stop()
	err = errors.Join(err, <-worked, s.c.Close())
	if n := starts.Load(); n != 1 {
		r.verdict.add(&r.verdict.Doubled, 1, "a run that executed during the jumps was started %d times", n)
	}
	if err != nil {
		return err
	}
	return inDatabase(path, func(db *sql.DB) error { return counts(db, &r.verdict, snapshotQueries) })
}

// jumped sets the clock, and checks what starts.
func jumped(ctx context.Context, s *shop, path string, by time.Duration) error {
	passed, future, err := s.scheduled(ctx, by)
	if err != nil {
		return err
	}
	if err := inDatabase(path, func(db *sql.DB) error { return shiftTimes(db, by) }); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := s.refund.Run(ctx, 1); err != nil {
		return fmt.Errorf("jump by %v: new work: %w", by, err)
	}
	if passed != nil {
		if _, err := passed.Wait(ctx); err != nil {
			return fmt.Errorf("jump by %v: what became due: %w", by, err)
		}
	}
	info, err := future.Info(ctx)
	if err != nil {
		return err
	}
	if info.State != stint.StateScheduled {
		return fmt.Errorf("jump by %v: a run for later is %v", by, info.State)
	}
	_, err = s.c.CancelRuns(ctx, stint.RunFilter{States: []stint.State{stint.StateScheduled}})
	return err
}

// scheduled enqueues a run that a jump forward makes due, and one that it does not.
func (s *shop) scheduled(ctx context.Context, by time.Duration) (passed, future *stint.Run[int], err error) {
	if by > 0 {
		if passed, err = s.refund.Schedule(ctx, time.Now().Add(by/2), 1); err != nil {
			return nil, nil, err
		}
	}
	future, err = s.refund.Schedule(ctx, time.Now().Add(max(by, 0)+time.Hour), 2)
	return passed, future, err
}

// shiftTimes moves all times of a file against a jump of the clock.
func shiftTimes(db *sql.DB, by time.Duration) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	ms := by.Milliseconds()
	for _, q := range []string{
		"UPDATE stint_runs SET rank = rank - ?1, due_at = due_at - ?1, started_at = started_at - ?1, ended_at = ended_at - ?1, " +
			"cancel_at = cancel_at - ?1, start_by = start_by - ?1",
		"UPDATE stint_journal SET at = at - ?1, due_at = due_at - ?1",
		"UPDATE stint_crons SET next_at = next_at - ?1, last_at = last_at - ?1",
		"UPDATE stint_keys SET expires_at = expires_at - ?1",
		"UPDATE stint_limiters SET at = at - 1000 * ?1, wake_at = wake_at - ?1",
		"UPDATE stint_workers SET started_at = started_at - ?1, ended_at = ended_at - ?1",
	} {
		if _, err := tx.Exec(q, ms); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	if ms < 0 { // keys tell when they were made: they are ahead of the clock now
		_, err := tx.Exec("INSERT INTO stint_meta (key, value) "+
			"SELECT 'last_key', CAST(CAST(max(id) + (?1 << 20) AS TEXT) AS BLOB) FROM stint_runs WHERE true "+
			"ON CONFLICT DO UPDATE SET value = excluded.value", -ms)
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}
