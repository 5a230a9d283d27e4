package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/moving"
)

// fence copies the last rows while nobody can write, makes the file refuse every write, and opens the server to
// programs. The order is what makes it safe to be killed: until the file's commit only the file takes writes,
// after it only the server does, once somebody has seen the mark.
func (m *mover) fence(ctx context.Context) error {
	if err := m.lockFile(ctx); err != nil {
		return err
	}
	began := time.Now()
	m.say("programs wait")
	err := m.fenceLocked(ctx)
	if err == nil {
		_, err = m.writer.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		return errors.Join(err, m.unlock(ctx))
	}
	m.say("the file refuses every write")
	err = m.set.finishMove(ctx, m.conn, m.state.Token)
	m.report.Pause = time.Since(began)
	if err == nil {
		m.say("the database is open to programs: they had to wait for %v", m.report.Pause.Round(time.Millisecond))
	}
	return err
}

func (m *mover) unlock(ctx context.Context) error {
	_, err := m.writer.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	return err
}

func (m *mover) fenceLocked(ctx context.Context) error {
	last, err := lastNote(ctx, m.writer)
	if err != nil {
		return err
	}
	err = m.round(ctx, m.writer, last, func(tx pgx.Tx) error {
		for _, f := range []func(context.Context, pgx.Tx) error{m.dropStaged, m.enterProcesses, m.setSequences, m.setLimits} {
			if err := f(ctx, tx); err != nil {
				return explain(err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.say("copied the last rows")
	return moving.Fence(ctx, m.writer, moving.Mark{To: m.set.display(), Token: m.state.Token})
}

// dropStaged deletes the runs of bulks that were not all enqueued: their calls return store.ErrMoved.
func (m *mover) dropStaged(ctx context.Context, tx pgx.Tx) error {
	var staged bool
	err := m.writer.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM stint_lanes WHERE staged IS NOT NULL)").Scan(&staged)
	if err != nil || !staged {
		return err
	}
	rows, err := m.writer.QueryContext(ctx, "SELECT id FROM stint_runs WHERE lane IN (SELECT id FROM stint_lanes WHERE staged IS NOT NULL)")
	if err != nil {
		return err
	}
	defer rows.Close()
	var runs []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		runs = append(runs, id)
	}
	if rows.Err() != nil {
		return rows.Err()
	}
	for _, t := range moving.Tables {
		column := "run"
		if t.Name == "runs" || t.Name == "inputs" {
			column = "id"
		} else if !slices.Contains(namesOf(m.columns[t.Name]), column) {
			continue
		}
		if _, err := tx.Exec(ctx, m.sql("DELETE FROM stint."+t.Name+" WHERE "+column+" = ANY($1)"), runs); err != nil {
			return err
		}
	}
	return nil
}

// enterProcesses enters the processes that have the file open, as others that hold no lock: those that follow the
// move take their workers over, and what the others execute runs again once their beats are old.
func (m *mover) enterProcesses(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, m.sql("DELETE FROM stint.processes"))
	if err == nil {
		_, err = tx.Exec(ctx, m.sql(`INSERT INTO stint.processes (number, name, host, pid, version, locks, beat_at)
			SELECT $1 - row_number() OVER (ORDER BY w.process), w.process, min(w.host), min(w.pid), $2::integer, false, clock_timestamp()
			FROM stint.workers w WHERE w.ended_at IS NULL GROUP BY w.process`), maxProcesses, m.set.knows())
	}
	return err
}

// setSequences makes the server number new rows after those that were copied, and after those that were deleted.
func (m *mover) setSequences(ctx context.Context, tx pgx.Tx) error {
	for _, t := range []string{"graphs", "triggers", "filters"} {
		var last int64
		err := m.writer.QueryRowContext(ctx, "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?), 0)", "stint_"+t).Scan(&last)
		if err == nil {
			_, err = tx.Exec(ctx, m.sql("SELECT setval(pg_get_serial_sequence('stint."+t+"', 'id'), greatest(n, 1), n > 0) FROM "+
				"(SELECT greatest((SELECT max(id) FROM stint."+t+"), $1::bigint) AS n) q"), last)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setLimits notes whether runs have limits.
func (m *mover) setLimits(ctx context.Context, tx pgx.Tx) error {
	var some bool
	err := m.writer.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'stint_runs_transition')").Scan(&some)
	if err == nil {
		_, err = tx.Exec(ctx, m.sql("UPDATE stint.epoch SET n = n + 1, limits = $1"), some)
	}
	return err
}
