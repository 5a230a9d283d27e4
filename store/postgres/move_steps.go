package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/moving"
)

// prepareTarget makes the tables ready for copying: empty, without indexes but the primary keys, and closed to
// programs. If this move has begun before, they stay.
func (m *mover) prepareTarget(ctx context.Context, token string) error {
	return pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		state, err := m.alone(ctx, tx)
		if err != nil {
			return err
		}
		var secret []byte
		if err := tx.QueryRow(ctx, m.sql("SELECT value FROM stint.meta WHERE key = 'secret'")).Scan(&secret); err != nil {
			return explain(err)
		}
		switch {
		case state != nil && state.Token == token:
			m.state = *state
			m.say("going on with the move that has begun")
			return nil
		case state != nil && !slices.Equal(secret, m.secret):
			return fmt.Errorf("schema %s is the target of another file's move, which has not ended: end it, or drop the schema",
				m.set.Schema)
		case state == nil:
			if err := m.wantEmpty(ctx, tx); err != nil {
				return err
			}
		}
		if err := m.empty(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, m.sql("UPDATE stint.meta SET value = $1 WHERE key = 'secret'"), m.secret); err != nil {
			return explain(err)
		}
		m.state = moveState{Token: token}
		if state != nil {
			m.state.Indexes = state.Indexes
		}
		if err := m.dropIndexes(ctx, tx); err != nil {
			return err
		}
		m.say("the file notes what changes, and no program can open the database")
		return m.state.store(ctx, m.set, tx)
	})
}

// alone returns the state of the move, or an error if there is none and a program has the database open. It lets
// none open it until the transaction ends; while there is a state, none can.
func (m *mover) alone(ctx context.Context, tx pgx.Tx) (*moveState, error) {
	if _, err := tx.Exec(ctx, m.sql("LOCK TABLE stint.processes IN EXCLUSIVE MODE")); err != nil {
		return nil, explain(err)
	}
	state, err := m.set.moveState(ctx, tx)
	if state != nil || err != nil {
		return state, err
	}
	dead, err := m.set.dead(ctx, tx, &process{})
	if err != nil {
		return nil, err
	}
	var n int
	err = tx.QueryRow(ctx, m.sql("SELECT count(*) FROM stint.processes WHERE name <> ALL(coalesce($1::text[], '{}'))"), dead).Scan(&n)
	if err != nil {
		return nil, explain(err)
	}
	if n > 0 {
		return nil, fmt.Errorf("%d programs have schema %s of the server open: close them", n, m.set.Schema)
	}
	return nil, nil
}

// wantEmpty returns an error if the tables hold something that a program would miss.
func (m *mover) wantEmpty(ctx context.Context, tx pgx.Tx) error {
	for _, t := range []string{"runs", "events", "crons", "filters", "keys"} {
		var some bool
		if err := tx.QueryRow(ctx, m.sql("SELECT EXISTS (SELECT 1 FROM stint."+t+")")).Scan(&some); err != nil {
			return explain(err)
		}
		if some {
			return fmt.Errorf("schema %s of the server has %s already: want an empty one: name another database, or drop it",
				m.set.Schema, t)
		}
	}
	return nil
}

// empty empties the tables that are not: TRUNCATE costs several files a table.
func (m *mover) empty(ctx context.Context, tx pgx.Tx) error {
	var full []string
	for _, name := range append([]string{"processes", "groups"}, tableNames()...) {
		var some bool
		if err := tx.QueryRow(ctx, m.sql("SELECT EXISTS (SELECT 1 FROM stint."+name+")")).Scan(&some); err != nil {
			return explain(err)
		}
		if some {
			full = append(full, "stint."+name)
		}
	}
	if len(full) > 0 {
		if _, err := tx.Exec(ctx, m.sql("TRUNCATE "+strings.Join(full, ", "))); err != nil {
			return m.set.explainMigration(explain(err))
		}
	}
	_, err := tx.Exec(ctx, m.sql("DELETE FROM stint.meta WHERE key = 'moved'"))
	return explain(err)
}

// dropIndexes drops the indexes that are no constraint's, and notes how to create them.
func (m *mover) dropIndexes(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT i.indexdef, format('%I.%I', i.schemaname, i.indexname) FROM pg_indexes i WHERE i.schemaname = $1
		AND i.tablename = ANY($2) AND NOT EXISTS (SELECT 1 FROM pg_constraint c
		WHERE c.conindid = to_regclass(format('%I.%I', i.schemaname, i.indexname))) ORDER BY 1`, m.set.Schema, tableNames())
	if err != nil {
		return explain(err)
	}
	var definition, name string
	var names []string
	if _, err = pgx.ForEachRow(rows, []any{&definition, &name}, func() error {
		if !slices.Contains(m.state.Indexes, definition) {
			m.state.Indexes = append(m.state.Indexes, definition)
		}
		names = append(names, name)
		return nil
	}); err != nil || len(names) == 0 {
		return explain(err)
	}
	_, err = tx.Exec(ctx, "DROP INDEX "+strings.Join(names, ", "))
	return m.set.explainMigration(explain(err))
}

func tableNames() []string {
	names := make([]string, len(moving.Tables))
	for i, t := range moving.Tables {
		names[i] = t.Name
	}
	return names
}

// copyAll copies the tables, each in one transaction of both databases. What changes meanwhile is noted.
func (m *mover) copyAll(ctx context.Context) error {
	for _, t := range moving.Tables {
		if t.Name == "lanes" || slices.Contains(m.state.Copied, t.Name) {
			continue
		}
		began := time.Now()
		var n int64
		err := m.snapshot(ctx, func(int64) error {
			lanes, _, err := m.readLanes(ctx, m.reader)
			if err != nil {
				return err
			}
			return m.change(ctx, func(tx pgx.Tx) (err error) {
				if n, err = m.copyRows(ctx, m.reader, tx, t, lanes, selectSQL(t, m.columns[t.Name], false)); err != nil {
					return err
				}
				m.state.Copied = append(m.state.Copied, t.Name)
				return m.state.store(ctx, m.set, tx)
			})
		})
		if err != nil {
			return err
		}
		m.report.Rows += n
		if n > 0 {
			m.say("copied %d rows of %s in %v", n, t.Name, time.Since(began).Round(time.Millisecond))
		}
	}
	return nil
}

// snapshot runs f in a transaction that reads one state of the file. f gets the last note of that state.
func (m *mover) snapshot(ctx context.Context, f func(last int64) error) error {
	if _, err := m.reader.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	defer m.reader.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // it only reads
	last, err := lastNote(ctx, m.reader)
	if err != nil {
		return err
	}
	return f(last)
}

func lastNote(ctx context.Context, c *sql.Conn) (n int64, err error) {
	err = c.QueryRowContext(ctx, "SELECT coalesce(max(n), 0) FROM "+moving.Notes).Scan(&n)
	return n, err
}

// makeIndexes creates the indexes that the copying would have had to maintain.
func (m *mover) makeIndexes(ctx context.Context) error {
	if m.state.Indexes == nil {
		return nil
	}
	began := time.Now()
	for _, definition := range m.state.Indexes {
		if _, err := m.conn.Exec(ctx, strings.Replace(definition, "INDEX ", "INDEX IF NOT EXISTS ", 1)); err != nil {
			return explain(err)
		}
	}
	for _, t := range moving.Tables {
		if _, err := m.conn.Exec(ctx, m.sql("ANALYZE stint."+t.Name)); err != nil {
			return explain(err)
		}
	}
	m.say("created %d indexes in %v", len(m.state.Indexes), time.Since(began).Round(time.Millisecond))
	m.state.Indexes = nil
	if m.state.Token == "" { // it was canceled
		return nil
	}
	return m.change(ctx, func(tx pgx.Tx) error { return m.state.store(ctx, m.set, tx) })
}

// change changes the target, unless the move has ended without this mover, which was cut off from the server for long.
func (m *mover) change(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		state, err := m.set.lockState(ctx, tx)
		if err == nil && (state == nil || state.Token != m.state.Token) {
			err = errors.New("the move was ended or canceled by another: run `stint move` again to see")
		}
		if err != nil {
			return err
		}
		return f(tx)
	})
}

const (
	// shortRound is the time of a round that may be done while programs wait.
	shortRound = 200 * time.Millisecond
	// maxRounds is the number of rounds after which the last one is done, however long it takes: the programs
	// write as fast as rows can be copied.
	maxRounds = 30
)

// catchUp copies what was noted, in rounds, until one is short. Then it compares both sides, and does it again.
func (m *mover) catchUp(ctx context.Context) error {
	if err := m.rounds(ctx); err != nil {
		return err
	}
	began := time.Now()
	err := m.snapshot(ctx, func(last int64) error {
		if err := m.round(ctx, m.reader, last, nil); err != nil {
			return err
		}
		return m.compare(ctx)
	})
	if err != nil {
		return err
	}
	m.say("compared the sums of both sides in %v", time.Since(began).Round(time.Millisecond))
	return m.rounds(ctx)
}

func (m *mover) rounds(ctx context.Context) error {
	for range maxRounds {
		began, before := time.Now(), m.report.Rows
		if err := m.snapshot(ctx, func(last int64) error { return m.round(ctx, m.reader, last, nil) }); err != nil {
			return err
		}
		took := time.Since(began)
		m.say("copied %d rows that had changed in %v", m.report.Rows-before, took.Round(time.Millisecond))
		if took < shortRound {
			return nil
		}
	}
	return nil
}

// round copies the rows of the notes up to one, which is the last in the transaction of c. After it, the server
// has the state of that transaction. also is done in the server's transaction.
func (m *mover) round(ctx context.Context, c *sql.Conn, last int64, also func(pgx.Tx) error) error {
	m.report.Rounds++
	return m.change(ctx, func(tx pgx.Tx) error {
		noted, err := m.notedTables(ctx, c, last)
		if err != nil {
			return err
		}
		lanes, rows, err := m.readLanes(ctx, c)
		if err != nil {
			return err
		}
		if err := m.copyLanes(ctx, tx, rows); err != nil {
			return err
		}
		for _, t := range noted { // first all deletes: a name may have gone from one row to another
			if err := m.deleteNoted(ctx, c, tx, t, last); err != nil {
				return err
			}
		}
		for _, t := range noted {
			n, err := m.copyRows(ctx, c, tx, t, lanes, selectSQL(t, m.columns[t.Name], true), m.state.Noted, last)
			if err != nil {
				return err
			}
			m.report.Rows += n
		}
		if also != nil {
			if err := also(tx); err != nil {
				return err
			}
		}
		state := m.state
		state.Noted = last
		if err := state.store(ctx, m.set, tx); err != nil {
			return explain(err)
		}
		m.state = state
		return nil
	})
}

// notedTables returns the tables that have notes up to one.
func (m *mover) notedTables(ctx context.Context, c *sql.Conn, last int64) (all []moving.Table, err error) {
	rows, err := c.QueryContext(ctx, "SELECT DISTINCT t FROM "+moving.Notes+" WHERE n > ? AND n <= ?", m.state.Noted, last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(moving.Tables, func(t moving.Table) bool { return t.Name == name }); i >= 0 && name != "lanes" {
			all = append(all, moving.Tables[i])
		}
	}
	return all, rows.Err()
}

// deleteNoted deletes the rows of a table's notes up to one.
func (m *mover) deleteNoted(ctx context.Context, c *sql.Conn, tx pgx.Tx, t moving.Table, last int64) error {
	var keys []moveColumn
	for _, k := range t.Key { // in the order of the notes
		i := slices.IndexFunc(m.columns[t.Name], func(x moveColumn) bool { return x.key && strings.HasSuffix(x.from, "t."+k) })
		keys = append(keys, m.columns[t.Name][i])
	}
	names := namesOf(keys)
	same := make([]string, len(names))
	for i, name := range names {
		same[i] = "t." + name + " = k." + name
	}
	temp := "stint_noted_" + t.Name
	_, err := tx.Exec(ctx, m.sql("CREATE TEMP TABLE "+temp+" ON COMMIT DROP AS SELECT "+strings.Join(names, ", ")+" FROM stint."+t.Name+
		" WITH NO DATA"))
	if err != nil {
		return explain(err)
	}
	rows, err := c.QueryContext(ctx, notedSQL(t), m.state.Noted, last)
	if err != nil {
		return err
	}
	defer rows.Close()
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{temp}, names, newFileRows(rows, keys, nil)); err != nil {
		return explain(err)
	}
	_, err = tx.Exec(ctx, m.sql("DELETE FROM stint."+t.Name+" t USING "+temp+" k WHERE "+strings.Join(same, " AND ")))
	return explain(err)
}

// compare compares counts and sums of each table, in the reader's transaction, with those of the server.
func (m *mover) compare(ctx context.Context) error {
	for _, t := range moving.Tables {
		if t.Name == "lanes" {
			continue
		}
		file, server := []string{"count(*)"}, []string{"count(*)"}
		names := []string{"rows"}
		for _, c := range m.columns[t.Name] {
			if !c.summed {
				continue
			}
			names = append(names, c.name)
			switch c.kind {
			case "text", "bytea":
				file = append(file, "coalesce(sum(octet_length("+c.from+")), 0)")
				server = append(server, "coalesce(sum(octet_length(t."+c.name+")), 0)::bigint")
			case "boolean":
				file = append(file, "coalesce(sum("+c.from+"), 0)")
				server = append(server, "coalesce(sum(t."+c.name+"::int), 0)::bigint")
			default:
				file = append(file, "coalesce(sum("+c.from+" % 1000003), 0)")
				server = append(server, "coalesce(sum(t."+c.name+"::bigint % 1000003), 0)::bigint")
			}
		}
		want, got := make([]int64, len(names)), make([]int64, len(names))
		err := m.reader.QueryRowContext(ctx, "SELECT "+strings.Join(file, ", ")+" FROM stint_"+t.Name+" t").Scan(int64Pointers(want)...)
		if err == nil {
			err = m.conn.QueryRow(ctx, m.sql("SELECT "+strings.Join(server, ", ")+" FROM stint."+t.Name+" t")).Scan(int64Pointers(got)...)
		}
		if err != nil {
			return explain(err)
		}
		for i := range want {
			if want[i] != got[i] {
				return fmt.Errorf("%s of %s: the file has %d, the copy %d: this is a fault of stint: keep the file", names[i], t.Name,
					want[i], got[i])
			}
		}
	}
	return nil
}

func int64Pointers(values []int64) []any {
	all := make([]any, len(values))
	for i := range values {
		all[i] = &values[i]
	}
	return all
}
