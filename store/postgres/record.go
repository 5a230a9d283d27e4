package postgres

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
)

// Record implements store.Runs.
func (s *Store) Record(ctx context.Context, records []store.Record) ([]bool, error) {
	stale := make([]bool, len(records))
	err := s.do(ctx, func(u *unit) error {
		var missed error
		for i := range records {
			key, ok := s.ids.Key(records[i].ID)
			if stale[i] = !ok; !ok {
				continue
			}
			add := u.record
			if records[i].Lease == 0 {
				add = u.appendLogs
			}
			done, err := add(key, records[i].Lease, &records[i])
			if err == errMiss {
				missed = err
				continue
			}
			if err != nil {
				return err
			}
			stale[i] = !done
		}
		return missed
	})
	return stale, err
}

// lastRecords are the numbers of the last log lines and chunks of runs.
type lastRecords struct {
	known map[int64][2]int64
	asked map[int64]struct{}
}

func (x *lastRecords) get(run int64) (line, chunk int64, err error) {
	n, ok := x.known[run]
	if !ok {
		x.asked[run] = struct{}{}
		return 0, 0, errMiss
	}
	return n[0], n[1], nil
}

func (x *lastRecords) fetch(s *settings, b *pgx.Batch) bool {
	if len(x.asked) == 0 {
		return false
	}
	runs := slices.Sorted(maps.Keys(x.asked))
	clear(x.asked)
	b.Queue(s.sql(`SELECT run, coalesce((SELECT seq FROM stint.logs l WHERE l.run = u.run ORDER BY seq DESC LIMIT 1), 0),
		coalesce((SELECT seq FROM stint.chunks c WHERE c.run = u.run ORDER BY seq DESC LIMIT 1), 0)
		FROM unnest($1::bigint[]) AS u (run)`), runs).Query(func(rows pgx.Rows) error {
		var run, line, chunk int64
		_, err := pgx.ForEachRow(rows, []any{&run, &line, &chunk}, func() error {
			x.known[run] = [2]int64{line, chunk}
			return nil
		})
		return err
	})
	return true
}

func (x *lastRecords) flush(*settings, *pgx.Batch) {}
func (x *lastRecords) reset()                      {}
func (x *lastRecords) settle()                     { clear(x.known) }
func (x *lastRecords) renew()                      { x.known, x.asked = emptied(x.known), emptied(x.asked) }

// A logRow is a line of a run's log, a chunkRow a part of its stream.
type (
	logRow struct {
		run, seq, at, level, attempt int64
		message                      string
		attrs                        []byte
	}
	chunkRow struct {
		run, seq, at, attempt, execution int64
		data                             []byte
	}
	progressRow struct {
		run, done, total int64
		message          string
	}
)

var (
	logStatements = newStatements("logs", 2, "",
		number("run", func(r *logRow) *int64 { return &r.run }),
		number("seq", func(r *logRow) *int64 { return &r.seq }),
		number("at", func(r *logRow) *int64 { return &r.at }),
		number("level", func(r *logRow) *int64 { return &r.level }),
		number("attempt", func(r *logRow) *int64 { return &r.attempt }),
		text("message", func(r *logRow) *string { return &r.message }),
		col("attrs", "text", func(r *logRow) *[]byte { return &r.attrs }))

	chunkStatements = newStatements("chunks", 2, "",
		number("run", func(r *chunkRow) *int64 { return &r.run }),
		number("seq", func(r *chunkRow) *int64 { return &r.seq }),
		number("at", func(r *chunkRow) *int64 { return &r.at }),
		number("attempt", func(r *chunkRow) *int64 { return &r.attempt }),
		number("execution", func(r *chunkRow) *int64 { return &r.execution }),
		col("data", "bytea", func(r *chunkRow) *[]byte { return &r.data }))

	progressStatements = newStatements("progress", 1, "",
		number("run", func(r *progressRow) *int64 { return &r.run }),
		number("done", func(r *progressRow) *int64 { return &r.done }),
		number("total", func(r *progressRow) *int64 { return &r.total }),
		text("message", func(r *progressRow) *string { return &r.message }))
)

// record stores what a handler reported, if its lease is current, and reports whether it is.
func (u *unit) record(key int64, lease store.Lease, r *store.Record) (bool, error) {
	run, err := u.run(key)
	some := len(r.Logs)+len(r.Chunks) > 0
	if some {
		if _, _, missed := u.last.get(key); missed != nil {
			return false, missed
		}
	}
	if err != nil || run == nil || !run.executes(lease) {
		return false, err
	}
	if p := r.Progress; p != nil {
		u.progress = slices.DeleteFunc(u.progress, func(o *progressRow) bool { return o.run == key })
		u.progress = append(u.progress, &progressRow{key, p.Done, p.Total, p.Message})
	}
	if !some {
		return true, nil
	}
	u.addLogs(key, r.Logs)
	line, chunk := u.lastOf(key)
	for i, c := range r.Chunks {
		u.chunks = append(u.chunks, &chunkRow{key, chunk + 1 + int64(i), clock.Millis(c.At), int64(c.Attempt), int64(c.Execution), c.Data})
	}
	if len(r.Chunks) > 0 {
		u.told.chunks = append(u.told.chunks, key)
	}
	u.numbered[key] = [2]int64{line, chunk + int64(len(r.Chunks))}
	return true, nil
}

// appendLogs appends lines to the log of a run in any state, and reports whether the run exists.
func (u *unit) appendLogs(key int64, _ store.Lease, r *store.Record) (bool, error) {
	run, err := u.run(key) // locked: its lines are numbered by one process at a time
	if _, _, missed := u.last.get(key); missed != nil {
		return false, missed
	}
	if err != nil || run == nil {
		return false, err
	}
	u.addLogs(key, r.Logs)
	return true, nil
}

// addLogs numbers and adds lines. Those that would be deleted at once get numbers, but are not written.
func (u *unit) addLogs(key int64, logs []store.Log) {
	line, chunk := u.lastOf(key)
	first := max(0, len(logs)-store.MaxLogs)
	for i, l := range logs[first:] {
		u.logs = append(u.logs, &logRow{run: key, seq: line + 1 + int64(first+i), at: clock.Millis(l.At), level: int64(l.Level),
			attempt: int64(l.Attempt), message: l.Message, attrs: l.Attrs})
	}
	u.numbered[key] = [2]int64{line + int64(len(logs)), chunk}
}

// lastOf returns the numbers of a run's last line and chunk, with those of the group.
func (u *unit) lastOf(key int64) (line, chunk int64) {
	if n, ok := u.numbered[key]; ok {
		return n[0], n[1]
	}
	n := u.last.known[key]
	return n[0], n[1]
}

// flushRecords queues the statements that write what handlers have reported.
func (u *unit) flushRecords(b *pgx.Batch) {
	if len(u.progress) > 0 {
		b.Queue(u.s.sql(progressStatements.inserts+" ON CONFLICT (run) DO UPDATE SET done = excluded.done, total = excluded.total, "+
			"message = excluded.message"), arguments(progressStatements.writes, u.progress)...)
	}
	insertAll(u, b, logStatements, u.logs)
	insertAll(u, b, chunkStatements, u.chunks)
	for run, n := range u.numbered {
		if n[0] > store.MaxLogs {
			b.Queue(u.s.sql("DELETE FROM stint.logs WHERE run = $1 AND seq <= $2"), run, n[0]-store.MaxLogs)
		}
	}
}

// Record implements lifecycle.Rows.
func (u runRows) Record(key int64, lease store.Lease, r *store.Record) error {
	if r.Progress == nil && len(r.Logs)+len(r.Chunks) == 0 {
		return nil
	}
	_, err := u.record(key, lease, r)
	return err
}
