package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
)

// Record implements store.Runs.
func (s *Store) Record(ctx context.Context, records []store.Record) ([]bool, error) {
	stale := make([]bool, len(records))
	err := s.do(ctx, func(u *unit) error {
		for i := range records {
			key, ok := u.s.ids.Key(records[i].ID)
			if ok && records[i].Lease == 0 {
				found, err := u.records.appendLogs(key, records[i].Logs)
				if err != nil {
					return err
				}
				stale[i] = !found
				continue
			}
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
		err := rs.exec("INSERT INTO stint_chunks (run, seq, at, attempt, execution, data) VALUES (?, ?, ?, ?, ?, ?)", key, chunk+1+int64(i),
			clock.Millis(c.At), c.Attempt, c.Execution, c.Data)
		if err != nil {
			return err
		}
	}
	if len(r.Chunks) > 0 {
		rs.signals.changed = append(rs.signals.changed, key)
	}
	return nil
}

// appendLogs appends lines to the log of a run in any state, and reports whether the run exists.
func (rs *records) appendLogs(key int64, logs []store.Log) (bool, error) {
	var last int64
	err := rs.one("SELECT coalesce((SELECT max(seq) FROM stint_logs WHERE run = ?1), 0) FROM stint_runs WHERE id = ?1", []any{key}, &last)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, rs.insertLogs(key, last, logs)
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
