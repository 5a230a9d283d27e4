package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
)

// Finish implements store.Runs.
func (s *Store) Finish(ctx context.Context, now time.Time, outcomes []store.Outcome) ([]bool, error) {
	stale := make([]bool, len(outcomes))
	err := s.do(ctx, func(u *unit) error {
		for i := range outcomes {
			key, ok := s.ids.key(outcomes[i].ID)
			if stale[i] = !ok; !ok {
				continue
			}
			err := forRun(key, func() (err error) {
				ok, err = u.runs.finish(key, now.UnixMilli(), &outcomes[i])
				return err
			})
			if err != nil {
				return err
			}
			stale[i] = !ok
		}
		return nil
	})
	return stale, err
}

// Every statement here is fenced by id, lease and the state running, so a late writer changes nothing
// (R2). A run that was asked to cancel ends as canceled, whatever its outcome.
const (
	endSQL = `
UPDATE stint_runs SET state = ?3, ended_at = ?4, output = ?5, error = ?6
WHERE id = ?1 AND lease = ?2 AND ` + stateRunning + ` AND cancel_at IS NULL`

	endCanceledSQL = `
UPDATE stint_runs SET ` + stateCanceled + `, ended_at = ?3, output = ?4
WHERE id = ?1 AND lease = ?2 AND ` + stateRunning

	retrySQL = `
UPDATE stint_runs SET state = ?3, due_at = ?4, ` + setRank + `?4, error = coalesce(?5, error), attempt = attempt - ?6, spent = 0
WHERE id = ?1 AND lease = ?2 AND ` + stateRunning + ` AND cancel_at IS NULL`

	putBackSQL = `
UPDATE stint_runs SET ` + stateQueued + `, attempt = attempt - ?3
WHERE id = ?1 AND lease = ?2 AND ` + stateRunning + ` AND cancel_at IS NULL`

	blockSQL = `
UPDATE stint_runs SET ` + stateBlocked + `, error = ?3, attempt = attempt - ?4
WHERE id = ?1 AND lease = ?2 AND ` + stateRunning + ` AND cancel_at IS NULL`

	canceledSQL = `
UPDATE stint_runs SET ` + stateCanceled + `, ended_at = ?3
WHERE id = ?1 AND lease = ?2 AND ` + stateRunning + ` AND cancel_at IS NOT NULL`

	// hasJournal and hasUndo select runs that have something to clean up when they are canceled:
	// durable calls from which the handler may continue, or compensations.
	hasJournal = "EXISTS (SELECT 1 FROM stint_journal j WHERE j.run = stint_runs.id)"
	hasUndo    = "EXISTS (SELECT 1 FROM stint_journal j WHERE j.run = stint_runs.id AND j.scope >= 'undo' AND j.scope < 'undo0' " +
		"AND j.done = 0)"

	// cleanSQL queues a canceled run once more, in the same attempt, to clean up.
	cleanSet = `
UPDATE stint_runs SET ` + stateQueued + `, due_at = ?3, ` + setRank + `?3, attempt = attempt - 1, flags = flags | 4
WHERE id = ?1 AND lease = ?2 AND ` + stateRunning + ` AND cancel_at IS NOT NULL AND `
	cleanSQL     = cleanSet + hasJournal
	cleanUndoSQL = cleanSet + hasUndo

	blockUndoSQL = `
UPDATE stint_runs SET ` + stateBlocked + `, error = ?3, attempt = attempt - ?4
WHERE id = ?1 AND lease = ?2 AND ` + stateRunning + ` AND cancel_at IS NOT NULL AND ` + hasUndo

	keepAttemptSQL = `
INSERT INTO stint_attempts (run, lease, attempt, worker, started_at, ended_at, state, error)
SELECT id, lease, attempt, worker, started_at, ?3, ?4, ?5 FROM stint_runs WHERE id = ?1 AND lease = ?2 AND ` + stateRunning
)

// finish records one outcome, and reports whether it was current.
func (rs *runs) finish(key, now int64, o *store.Outcome) (bool, error) {
	if err := rs.records.record(key, int64(o.Lease), &o.Record); err != nil {
		return false, err
	}
	n, err := rs.applyOutcome(key, now, o)
	if err != nil || n == 0 {
		return false, err
	}
	if err := rs.journals.forget(key, o.Forget); err != nil {
		return false, err
	}
	if o.NoHandler {
		if err := rs.moveToTaskLane(key, o.Node); err != nil {
			return false, err
		}
	}
	for i := range o.Follow {
		o.Follow[i].Parent = o.ID
	}
	if len(o.Follow) > 0 {
		_, err = rs.enqueue(now, o.Follow, nil)
	}
	return true, err
}

// applyOutcome changes a running run as its outcome says, and returns 0 if that is stale.
func (rs *runs) applyOutcome(key, now int64, o *store.Outcome) (n int64, err error) {
	refund := 0
	if o.Uncounted {
		refund = 1
	}
	switch {
	case o.To.Terminal():
		return rs.endRun(key, now, o)
	case o.To == store.Waiting:
		n, err = rs.suspend(key, now, o)
	case o.To == store.Queued:
		n, err = rs.execN(putBackSQL, key, int64(o.Lease), refund)
	case o.To == store.Blocked:
		n, err = rs.execN(blockSQL, key, int64(o.Lease), text(o.Error), refund)
	default:
		n, err = rs.retry(key, now, o, refund)
	}
	if err != nil || n > 0 {
		return n, err
	}
	if o.To == store.Blocked {
		n, err = rs.execN(blockUndoSQL, key, int64(o.Lease), text(o.Error), refund)
	} else {
		n, err = rs.cleanUp(cleanSQL, key, now, o)
	}
	if err != nil || n > 0 {
		return n, err
	}
	n, err = rs.execN(canceledSQL, key, int64(o.Lease), now)
	if rs.end(key, n); n > 0 && o.Node != 0 {
		err = rs.workflows.advanceOutcome(o, store.Canceled, now)
	}
	return n, err
}

// cleanUp queues a run that was asked to cancel once more, if the statement's condition holds. It is
// called after a statement that changes no such runs, so it costs other runs nothing.
func (rs *runs) cleanUp(statement string, key, now int64, o *store.Outcome) (int64, error) {
	n, err := rs.execN(statement, key, int64(o.Lease), now)
	if n > 0 {
		rs.claims.recheck = true
	}
	return n, err
}

// endRun ends a run, and does what follows in the graph if it is a workflow's task.
func (rs *runs) endRun(key, now int64, o *store.Outcome) (int64, error) {
	end := store.Result{State: o.To, Output: o.Output}
	n, err := rs.execN(endSQL, key, int64(o.Lease), int64(o.To), now, o.Output, text(o.Error))
	if err == nil && n == 0 {
		if n, err = rs.cleanUp(cleanUndoSQL, key, now, o); err != nil || n > 0 {
			return n, err
		}
		end = store.Result{State: store.Canceled}
		n, err = rs.execN(endCanceledSQL, key, int64(o.Lease), now, o.Output)
	}
	if err != nil || n == 0 {
		return 0, err
	}
	rs.signals.ended = append(rs.signals.ended, ending{key, &end, o.Task != ""})
	if o.Task != "" {
		rs.counters.forTask(o.Queue, o.Task).End(end.State, sinceStart(o.Started, now))
	}
	if o.Node == 0 {
		return 1, nil
	}
	if len(o.Tests) > 0 && end.State == store.Succeeded {
		results, err := json.Marshal(o.Tests)
		if err == nil {
			err = rs.exec("INSERT OR REPLACE INTO stint_tests (run, results) VALUES (?, ?)", key, string(results))
		}
		if err != nil {
			return 0, err
		}
	}
	return 1, rs.workflows.advanceOutcome(o, end.State, now)
}

// An ending is the end of a run, with its result if that is known.
type ending struct {
	key     int64
	result  *store.Result
	counted bool
}

func (ws *workflows) advanceOutcome(o *store.Outcome, ended store.State, now int64) error {
	parent, ok := ws.s.ids.key(o.Parent)
	if !ok {
		return fmt.Errorf("outcome of a task of workflow run %s: %w", o.Parent, store.ErrNotFound)
	}
	return ws.advance(&parent, &o.Node, ended, now)
}

// moveToTaskLane moves a workflow's task from the lane that all have to one of its own.
func (rs *runs) moveToTaskLane(key, node int64) error {
	g, err := rs.workflows.graphs.graph(rs, node>>nodeBits)
	if err != nil {
		return err
	}
	place := int(node & (1<<nodeBits - 1))
	var route store.Route
	if place < len(g.Tasks) {
		route.Wants = g.Tasks[place].Wants
	}
	lane, err := rs.lanes.lane(laneName{queue: g.QueueOf(place), task: g.TaskName(place), route: route.Text()})
	if err != nil {
		return err
	}
	return rs.exec(setLaneSQL, key, lane)
}

// retry queues or schedules a run for another attempt, and stores this one unless it is Uncounted.
func (rs *runs) retry(key, now int64, o *store.Outcome, refund int) (int64, error) {
	at, state := ceilMillis(o.At), store.Scheduled
	if at <= now {
		at, state = now, store.Queued
	} else {
		rs.timers.add(at)
	}
	if !o.Uncounted {
		if err := rs.exec(keepAttemptSQL, key, int64(o.Lease), now, int64(state), text(o.Error)); err != nil {
			return 0, err
		}
		if o.Task != "" {
			rs.counters.forTask(o.Queue, o.Task).Retried++
		}
	}
	return rs.execN(retrySQL, key, int64(o.Lease), int64(state), at, text(o.Error), refund)
}

func (rs *runs) end(key, n int64) {
	if n > 0 {
		rs.signals.ended = append(rs.signals.ended, ending{key: key})
	}
}

// text returns bytes for a TEXT column; nil is NULL.
func text(b []byte) any {
	if b == nil {
		return nil
	}
	return string(b)
}

// Record implements store.Runs.
func (s *Store) Record(ctx context.Context, records []store.Record) ([]bool, error) {
	stale := make([]bool, len(records))
	err := s.do(ctx, func(u *unit) error {
		for i := range records {
			key, ok := u.s.ids.key(records[i].ID)
			if ok {
				err := u.one("SELECT EXISTS (SELECT 1 FROM stint_runs WHERE id = ? AND lease = ? AND "+stateRunning+")",
					[]any{key, int64(records[i].Lease)}, &ok)
				if err != nil {
					return err
				}
			}
			if stale[i] = !ok; !ok {
				continue
			}
			if err := u.records.record(key, int64(records[i].Lease), &records[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return stale, err
}

// record stores what a handler reported, if its lease is current.
func (rs *records) record(key, lease int64, r *store.Record) error {
	if p := r.Progress; p != nil {
		err := rs.exec(`INSERT INTO stint_progress (run, done, total, message)
			SELECT id, ?3, ?4, ?5 FROM stint_runs WHERE id = ?1 AND lease = ?2 AND `+stateRunning+`
			ON CONFLICT DO UPDATE SET done = excluded.done, total = excluded.total, message = excluded.message`, key, lease, p.Done,
			p.Total, p.Message)
		if err != nil {
			return err
		}
	}
	if len(r.Logs)+len(r.Chunks) == 0 {
		return nil
	}
	var line, chunk int64 // the last numbers
	err := rs.one(lastRecordedSQL, []any{key, lease}, &line, &chunk)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := rs.insertLogs(key, line, r.Logs); err != nil {
		return err
	}
	for i, c := range r.Chunks {
		if err := rs.exec("INSERT INTO stint_chunks (run, seq, data) VALUES (?, ?, ?)", key, chunk+1+int64(i), c); err != nil {
			return err
		}
	}
	if len(r.Chunks) > 0 {
		rs.signals.chunks = append(rs.signals.chunks, key)
	}
	return nil
}

// lastRecordedSQL reads the numbers of a run's last log line and chunk, if its lease is current.
const lastRecordedSQL = `
SELECT coalesce((SELECT max(seq) FROM stint_logs WHERE run = ?1), 0), coalesce((SELECT max(seq) FROM stint_chunks WHERE run = ?1), 0)
FROM stint_runs WHERE id = ?1 AND lease = ?2 AND ` + stateRunning

// logsSQL insert log lines, bulkSizes rows at a time.
var logsSQL = func() (texts [len(bulkSizes)]string) {
	for i, n := range bulkSizes {
		texts[i] = "INSERT INTO stint_logs (run, seq, at, level, attempt, message, attrs) " +
			"VALUES (?,?,?,?,?,?,?)" + strings.Repeat(",(?,?,?,?,?,?,?)", n-1)
	}
	return texts
}()

// insertLogs appends log lines after number last, and deletes the oldest beyond MaxLogs. Lines that would
// be deleted at once get numbers, but are not written.
func (rs *records) insertLogs(key, last int64, logs []store.Log) error {
	if len(logs) == 0 {
		return nil
	}
	end := last + int64(len(logs))
	if first := max(0, len(logs)-store.MaxLogs); first > 0 {
		logs, last = logs[first:], last+int64(first)
	}
	args := make([]any, 0, 7*len(logs))
	for i, l := range logs {
		args = append(args, key, last+1+int64(i), clock.Millis(l.At), l.Level, l.Attempt, l.Message, text(l.Attrs))
	}
	if err := rs.insertAll(&logsSQL, 7, args); err != nil || end <= store.MaxLogs {
		return err
	}
	return rs.exec("DELETE FROM stint_logs WHERE run = ? AND seq <= ?", key, end-store.MaxLogs)
}
