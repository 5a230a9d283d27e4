package sqlite

import (
	"context"
	"slices"
	"strings"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Recover implements store.Workers. The death of a process is seen by its lock file,
// which the kernel lets go; a process that is merely stopped keeps it.
func (s *Store) Recover(ctx context.Context) (store.Recovered, error) {
	if s.opts.ReadOnly {
		return store.Recovered{}, store.ErrReadOnly
	}
	for {
		r, err := s.recover(ctx)
		if err != nil || r.Requeued > 0 || len(r.Blocked) > 0 {
			return r, err
		}
		select {
		case <-s.presencesChanged:
		case <-s.w.done:
			return r, store.ErrClosed
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// recover looks once for dead processes.
func (s *Store) recover(ctx context.Context) (total store.Recovered, err error) {
	if s.at.check() != nil {
		return total, nil // processes with the next file would be taken for dead
	}
	locks, staged, err := s.leftBehind(ctx)
	if err != nil {
		return total, err
	}
	for _, lock := range locks {
		if d, err := s.presence.isDead(lock); err != nil || !d {
			continue // not known; the next call tries again
		}
		var r store.Recovered
		err := s.do(ctx, func(u *unit) (err error) {
			r, err = u.workers.release(lock, true)
			return err
		})
		if err != nil {
			return total, err
		}
		total.Requeued += r.Requeued
		total.Blocked = append(total.Blocked, r.Blocked...)
		for _, token := range staged {
			if strings.HasPrefix(token, lock+":") {
				if err := s.sweep(ctx, token); err != nil {
					return total, err
				}
			}
		}
		s.do(ctx, func(u *unit) error { return u.counters.rollUpProcess(lock) }) // only counters: an error must not stop the recovery
		s.presence.remove(lock)
	}
	return total, nil
}

// workLocksSQL reads the lock names of living workers, and of those that were wrongly taken for dead and
// have claimed runs since; see presence.renew.
const workLocksSQL = `
SELECT lock FROM stint_workers WHERE ended_at IS NULL
UNION ALL SELECT w.lock FROM stint_runs r CROSS JOIN stint_workers w ON w.id = r.worker WHERE r.` + stateRunning + ` AND r.worker > 0
  AND w.ended_at IS NOT NULL`

// leftBehind returns the lock names of other processes, from the directory and the file, and the tokens
// of staged lanes.
func (s *Store) leftBehind(ctx context.Context) (locks, staged []string, err error) {
	if s.path == Memory {
		return nil, nil, nil
	}
	others, _ := s.presence.others() // of those that it cannot read, the next call does
	for _, name := range others {
		if strings.HasPrefix(name, s.presence.mark) {
			locks = append(locks, name)
		} else {
			s.presence.remove(name) // of a file that this one has replaced
		}
	}
	err = s.view(ctx, func(q querier) error {
		known, err := column[string](q, workLocksSQL)
		if err != nil {
			return err
		}
		if staged, err = column[string](q, "SELECT staged FROM stint_lanes WHERE staged IS NOT NULL"); err != nil {
			return err
		}
		slices.Sort(staged)
		staged = slices.Compact(staged)
		for _, token := range staged {
			lock, _, _ := strings.Cut(token, ":")
			known = append(known, lock)
		}
		locks = append(locks, known...)
		return nil
	})
	slices.Sort(locks)
	locks = slices.DeleteFunc(slices.Compact(locks), func(l string) bool { return l == s.presence.name })
	return locks, staged, err
}

// release releases the runs of the workers of a process, by its lock's name.
func (ws *workers) release(lock string, crashed bool) (store.Recovered, error) {
	rec, err := lifecycle.ReleaseProcess(ws.runs, lock, ws.now, crashed)
	if err == nil {
		err = lifecycle.RetryBlocked(ws.runs)
	}
	return rec, err
}

// WorkersOf implements lifecycle.WorkerRows.
func (rs *runs) WorkersOf(lock string) ([]int64, error) {
	return column[int64](rs, `SELECT id FROM stint_workers WHERE lock = ?
		AND (ended_at IS NULL OR EXISTS (SELECT 1 FROM stint_runs r WHERE r.worker = stint_workers.id AND r.`+stateRunning+`))`, lock)
}

// EndWorker implements lifecycle.WorkerRows.
func (rs *runs) EndWorker(worker, now int64) error {
	rs.workers.forget()
	rs.claims.recheck = true
	rs.lanes.DropView(worker)
	return rs.exec("UPDATE stint_workers SET ended_at = ? WHERE id = ?", now, worker)
}
