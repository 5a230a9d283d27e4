package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/failed"
	"github.com/stint-dev/stint/store/internal/lifecycle"
)

// Finish implements store.Runs.
func (s *Store) Finish(ctx context.Context, now time.Time, outcomes []store.Outcome) ([]bool, error) {
	stale := make([]bool, len(outcomes))
	err := s.do(ctx, func(u *unit) error {
		return u.runs.finish(now.UnixMilli(), outcomes, stale)
	})
	return stale, err
}

// finish applies outcomes, in their order, and sets which are stale.
func (rs *runs) finish(now int64, outcomes []store.Outcome, stale []bool) error {
	keys := make([]int64, len(outcomes)) // 0: no run can have that ID
	for i := range outcomes {
		if key, ok := rs.s.ids.Key(outcomes[i].ID); ok {
			keys[i] = key
		}
	}
	together := 0 // the outcomes before this one have made their changes
	for i, key := range keys {
		if stale[i] = key == 0; stale[i] {
			continue
		}
		if i >= together {
			n, err := rs.endTogether(now, keys[i:], outcomes[i:])
			if err != nil {
				return err
			}
			together = i + n
		}
		rs.tried = i < together
		err := forRun(key, func() error {
			to, err := lifecycle.Finish(rs, key, &outcomes[i], now)
			stale[i] = to == 0
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Every statement here is fenced by id, lease and the state running, so a late writer changes nothing
// (R2), and a run that was asked to cancel is left to lifecycle.Finish.
//
// A statement that may fail keeps a copy of each page that it changes, if a trigger makes it change several rows: that of
// runs with limits does. Each of these changes one run and fails before that, so OR FAIL, which asks for no copies, does the same.
const (
	ofLease = "id = ?1 AND lease = ?2 AND " + stateRunning + " AND cancel_at IS NULL"

	endSQL = "UPDATE OR FAIL stint_runs SET state = ?3, ended_at = ?4, output = ?5, error = ?6 WHERE " + ofLease

	retrySQL = "UPDATE OR FAIL stint_runs SET state = ?3, due_at = ?4, " + setRank + "?4, error = coalesce(?5, error), " +
		"attempt = attempt + ?6, spent = 0 WHERE " + ofLease

	putBackSQL = "UPDATE OR FAIL stint_runs SET " + stateQueued + ", attempt = attempt + ?3 WHERE " + ofLease

	blockSQL = "UPDATE OR FAIL stint_runs SET " + stateBlocked + ", error = ?3, attempt = attempt + ?4 WHERE " + ofLease

	suspendSQL = "UPDATE OR FAIL stint_runs SET state = ?3, due_at = ?4, " + setRank + "coalesce(?4, id >> 20), attempt = attempt + ?5, " +
		"flags = flags | 4, spent = ?6 WHERE " + ofLease

	keepAttemptSQL = `
INSERT INTO stint_attempts (run, lease, attempt, worker, started_at, ended_at, state, error)
SELECT id, lease, attempt, worker, started_at, ?3, ?4, ?5 FROM stint_runs WHERE ` + ofLease
)

// Try implements lifecycle.Rows, in one statement for each kind of change.
func (rs *runs) Try(key int64, of store.Lease, c lifecycle.Change) (bool, error) {
	if rs.tried {
		rs.tried = false
		return true, nil
	}
	lease := int64(of)
	var n int64
	var err error
	switch {
	case c.To.Terminal():
		n, err = rs.execN(endSQL, key, lease, int64(c.To), c.Ended, c.Output, text(c.Error))
	case c.Resumed:
		n, err = rs.execN(suspendSQL, key, lease, int64(c.To), nullable(c.Due), c.Attempts, c.Spent)
	case c.To == store.Blocked:
		n, err = rs.execN(blockSQL, key, lease, text(c.Error), c.Attempts)
	case c.Due == 0:
		n, err = rs.execN(putBackSQL, key, lease, c.Attempts)
	default:
		if c.Keep != 0 {
			if err := rs.exec(keepAttemptSQL, key, lease, c.Keep, int64(c.To), text(c.Error)); err != nil {
				return false, err
			}
		}
		n, err = rs.execN(retrySQL, key, lease, int64(c.To), c.Due, text(c.Error), c.Attempts)
	}
	return n > 0, err
}

// Record implements lifecycle.Rows.
func (rs *runs) Record(key int64, lease store.Lease, r *store.Record) error {
	return rs.records.record(key, int64(lease), r)
}

// Retried implements lifecycle.Rows.
func (rs *runs) Retried(o *store.Outcome) {
	if o.Task != "" {
		rs.counters.Of(o.Queue, o.Task).Retried++
	}
}

// Follow implements lifecycle.Rows.
func (rs *runs) Follow(all []store.NewRun, now int64) error {
	_, err := rs.enqueue(now, all, nil)
	return err
}

// Finished implements lifecycle.Rows.
func (rs *runs) Finished(o *store.Outcome, f lifecycle.Finished) error {
	rs.signals.ended = append(rs.signals.ended, ending{f.Run, f.Result, f.Counted})
	if f.Counted {
		rs.counters.Of(o.Queue, o.Task).End(f.Result.State, f.Took)
	}
	if parent, ok := rs.s.ids.Key(o.Parent); ok && o.Node != 0 && f.Result.State == store.Succeeded {
		rs.workflows.keepOutput(parent, o.Node, o.Output)
	}
	if f.Failure != nil {
		rs.errors.failed = append(rs.errors.failed, failed.Run{Key: f.Run, At: f.Ended, Failure: f.Failure})
	}
	if f.Tests == nil {
		return nil
	}
	return rs.exec("INSERT OR REPLACE INTO stint_tests (run, results) VALUES (?, ?)", f.Run, string(f.Tests))
}
