package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/moving"
	"github.com/stint-dev/stint/store/sqlite"
)

// MoveBack moves all rows of the store in the database at url into a new file at path, such as for a laptop or a test. No
// program may have the database open. From then on, programs that open it get store.ErrMoved. Its rows stay until the
// schema is dropped.
//
// If MoveBack fails or is killed, no program can open the database until another call of MoveBack has succeeded, or
// CancelMoveBack was called.
func MoveBack(ctx context.Context, url, path string, opts MoveOptions) (MoveReport, error) {
	m := &mover{MoveOptions: opts, began: time.Now(), path: path, url: url}
	defer m.close()
	err := m.moveBack(ctx)
	m.report.Took = time.Since(m.began)
	if err != nil {
		return m.report, fmt.Errorf("postgres: move to %s: %w", path, err)
	}
	return m.report, nil
}

// Snapshot copies all rows of the store in the database at url, as of one moment, into a new file at path, while programs
// work. The database does not change. In the file, runs that were executing go on as after a crash.
func Snapshot(ctx context.Context, url, path string, opts MoveOptions) (MoveReport, error) {
	m := &mover{MoveOptions: opts, began: time.Now(), path: path, url: url}
	defer m.close()
	err := m.snapshotTo(ctx, path)
	m.report.Took = time.Since(m.began)
	if err != nil {
		return m.report, fmt.Errorf("postgres: copy to %s: %w", path, err)
	}
	return m.report, nil
}

func (m *mover) snapshotTo(ctx context.Context, path string) (err error) {
	if m.set, err = newSettings(m.url, m.Options); err != nil {
		return err
	}
	if m.conn, err = pgx.ConnectConfig(ctx, m.set.direct.Copy()); err != nil {
		return explain(err)
	}
	if state, err := m.set.moveState(ctx, m.conn); err != nil || state != nil {
		if state != nil {
			err = m.set.closed(state)
		}
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s: %w: name a new file", path, fs.ErrExist))
	}
	temp := path + ".moving"
	if err := m.copyBack(ctx, temp); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// CancelMoveBack gives up a MoveBack that has begun and not ended: programs can open the database again. It returns
// store.ErrMoved if the database has moved already.
func CancelMoveBack(ctx context.Context, url string, opts MoveOptions) error {
	m := &mover{MoveOptions: opts, url: url}
	defer m.close()
	err := m.connect(ctx)
	if err == nil {
		err = pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
			state, err := m.alone(ctx, tx)
			if err != nil || state == nil {
				return err
			}
			if state.Back == "" {
				return m.set.closed(state)
			}
			_, err = tx.Exec(ctx, m.sql("DELETE FROM stint.meta WHERE key = 'move'"))
			return explain(err)
		})
	}
	if err != nil {
		return fmt.Errorf("postgres: cancel the move to a file: %w", err)
	}
	return nil
}

// errMoving reports a database that a move is copying into.
var errMoving = fmt.Errorf("%w: a file is being moved into it: wait for `stint move`, or run it again", ErrServer)

// closed returns the error for a program that opens a database with such a state.
func (s *settings) closed(state *moveState) error {
	switch {
	case state.To != "":
		return &moving.Error{From: s.display(), Mark: moving.Mark{To: state.To, Token: state.Token}}
	case state.Back != "":
		return fmt.Errorf("%w: it is being moved to %s: run `stint move` again, or `stint move -cancel`", ErrServer, state.Back)
	}
	return errMoving
}

func (m *mover) moveBack(ctx context.Context) (err error) {
	if m.path, err = filepath.Abs(m.path); err != nil {
		return err
	}
	if err := m.connect(ctx); err != nil {
		return err
	}
	copied, err := m.beginBack(ctx)
	if err != nil {
		return err
	}
	temp := m.path + ".moving"
	if !copied {
		if err := m.copyBack(ctx, temp); err != nil {
			return err
		}
		m.say("all is in %s, and was checked", temp)
		if err := m.endBack(ctx); err != nil {
			return err
		}
	}
	m.say("the database refuses every new run")
	if err := os.Rename(temp, m.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(m.path))
}

// beginBack closes the database to programs, and reports whether all was copied before.
func (m *mover) beginBack(ctx context.Context) (copied bool, err error) {
	err = pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		state, err := m.alone(ctx, tx)
		if err != nil {
			return err
		}
		if state != nil && state.To != m.path && state.Back == "" {
			return m.set.closed(state)
		}
		if copied = state != nil && state.To == m.path; copied {
			return nil
		}
		if _, err := os.Lstat(m.path); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, fmt.Errorf("%s: %w: name a new file", m.path, fs.ErrExist))
		}
		m.state = moveState{Back: m.path}
		return m.state.store(ctx, m.set, tx)
	})
	if err == nil && !copied {
		m.say("no program can open the database")
	}
	return copied, explain(err)
}

// endBack makes the database refuse every new run, also those of a program that was frozen since long before, and
// says where all is.
func (m *mover) endBack(ctx context.Context) error {
	return explain(pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		for _, t := range []string{"runs", "events", "workers"} {
			if _, err := tx.Exec(ctx, m.sql("ALTER TABLE stint."+t+" ADD CONSTRAINT moved_to_a_file CHECK (false) NOT VALID")); err != nil {
				return err
			}
		}
		m.state = moveState{To: m.path}
		return m.state.store(ctx, m.set, tx)
	}))
}

// copyBack copies all into a new file.
func (m *mover) copyBack(ctx context.Context, temp string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} { // of a move that was killed
		if err := os.Remove(temp + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	s, err := sqlite.Open(temp, sqlite.Options{}) // makes the tables
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if m.db, err = openFile(temp); err != nil {
		return err
	}
	if m.writer, err = m.db.Conn(ctx); err != nil {
		return err
	}
	err = pgx.BeginTxFunc(ctx, m.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		return m.locked(ctx, func() error { return m.copyTablesBack(ctx, tx) })
	})
	if err != nil {
		return explain(err)
	}
	_, err = m.writer.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	if err = errors.Join(err, m.writer.Close(), m.db.Close()); err != nil {
		return err
	}
	m.writer, m.db = nil, nil
	m.report.Problems, err = sqlite.Check(ctx, temp)
	return err
}

func (m *mover) copyTablesBack(ctx context.Context, tx pgx.Tx) error {
	server, err := m.set.columnsOf(ctx, m.conn)
	if err != nil {
		return err
	}
	var limits bool
	var secret []byte
	err = tx.QueryRow(ctx, m.sql("SELECT limits, (SELECT value FROM stint.meta WHERE key = 'secret') FROM stint.epoch")).
		Scan(&limits, &secret)
	if err != nil {
		return err
	}
	if _, err = m.writer.ExecContext(ctx, "UPDATE stint_meta SET value = ? WHERE key = 'id_secret'", secret); err != nil {
		return err
	}
	if limits {
		if _, err := m.writer.ExecContext(ctx, sqlite.LimitsTrigger); err != nil {
			return err
		}
	}
	for _, t := range moving.Tables {
		began := time.Now()
		n, err := m.copyTableBack(ctx, tx, t, server[t.Name])
		if err != nil {
			return fmt.Errorf("copy %s: %w", t.Name, err)
		}
		if m.report.Rows += n; n > 0 {
			m.say("copied %d rows of %s in %v", n, t.Name, time.Since(began).Round(time.Millisecond))
		}
		if t.Name == "runs" {
			m.report.Runs = n
		}
	}
	return nil
}

func (m *mover) copyTableBack(ctx context.Context, tx pgx.Tx, t moving.Table, server []moveColumn) (n int64, err error) {
	names, err := fileColumns(ctx, m.writer, t.Name)
	if err != nil {
		return 0, err
	}
	from, order := make([]string, len(names)), make([]string, len(t.Key))
	for i, name := range names {
		from[i] = "t." + name
		if other, ok := fromServer[t.Name+"."+name]; ok {
			from[i] = other
		} else if !slices.Contains(namesOf(server), name) {
			return 0, fmt.Errorf("column %s is unknown to the server's tables: upgrade the programs, and `stint`", name)
		}
	}
	for i, k := range t.Key {
		order[i] = from[slices.Index(names, k)]
	}
	insert, err := m.writer.PrepareContext(ctx, "INSERT INTO stint_"+t.Name+" ("+strings.Join(names, ", ")+") VALUES (?"+
		strings.Repeat(", ?", len(names)-1)+")")
	if err != nil {
		return 0, err
	}
	defer insert.Close()
	rows, err := tx.Query(ctx, m.sql("SELECT "+strings.Join(from, ", ")+" FROM stint."+t.Name+" t ORDER BY "+strings.Join(order, ", ")))
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		if err == nil {
			_, err = insert.ExecContext(ctx, values...)
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, rows.Err()
}

// syncDir makes a rename in a directory durable, on systems that can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	d.Sync()
	return d.Close()
}
