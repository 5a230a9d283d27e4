package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/moving"
	"github.com/stint-dev/stint/store/sqlite"
)

// MoveOptions change how a database is moved. The zero value is the default.
type MoveOptions struct {
	Options
	// Progress, if not nil, is called with what was done, in plain English.
	Progress func(text string)
}

func (o *MoveOptions) say(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}

// A MoveReport says what a move did.
type MoveReport struct {
	Runs     int64         // runs in the target
	Rows     int64         // rows copied; one that changed meanwhile counts each time that it was copied
	Rounds   int           // how often rows that had changed meanwhile were copied
	Pause    time.Duration // how long programs could not write
	Took     time.Duration // the whole move
	Problems []string      // problems that store.Health.Check finds in the target; the source has them too
}

// Move moves all rows of the store in the file at path into the database at url, while programs work. Programs whose store
// was made with Follow go on in the database by themselves. All others get store.ErrMoved from then on. IDs, idempotency
// keys, journals and running attempts stay valid. The app's own tables in the file do not move.
//
// If Move fails or is killed before its last step, programs go on working on the file. Call Move again to continue, or
// CancelMove to give up. In the last step the file refuses writes. From then on Move can only be finished, by another call;
// MoveBack is the way back.
//
// The store's tables in the database must be empty, and no program may have them open. The role must own the tables, or have
// the right to create them.
func Move(ctx context.Context, path, url string, opts MoveOptions) (MoveReport, error) {
	m := &mover{MoveOptions: opts, began: time.Now(), path: path, url: url}
	defer m.close()
	err := m.move(ctx)
	m.report.Took = time.Since(m.began)
	if err != nil {
		return m.report, fmt.Errorf("postgres: move %s: %w", path, err)
	}
	return m.report, nil
}

// CancelMove gives up a Move that has begun and not ended: it empties the store's tables in the database, and removes the
// notes about the move from the file. It returns store.ErrMoved if the file has moved already.
func CancelMove(ctx context.Context, path, url string, opts MoveOptions) error {
	m := &mover{MoveOptions: opts, path: path, url: url}
	defer m.close()
	if err := m.cancel(ctx); err != nil {
		return fmt.Errorf("postgres: cancel the move of %s: %w", path, err)
	}
	return nil
}

// A mover moves one file.
type mover struct {
	MoveOptions
	path, url string
	began     time.Time
	report    MoveReport

	set     *settings
	conn    *pgx.Conn
	file    *sqlite.Store // makes the other programs look for our commits often
	db      *sql.DB
	reader  *sql.Conn
	writer  *sql.Conn
	secret  []byte
	state   moveState
	columns map[string][]moveColumn // by table
}

func (m *mover) close() {
	ctx := context.Background()
	for _, c := range []*sql.Conn{m.reader, m.writer} {
		if c != nil {
			c.Close()
		}
	}
	if m.db != nil {
		m.db.Close()
	}
	if m.file != nil {
		m.file.Close()
	}
	if m.conn != nil {
		m.conn.Close(ctx)
	}
}

func (m *mover) move(ctx context.Context) error {
	if err := m.connect(ctx); err != nil {
		return err
	}
	err := m.openFile(ctx)
	var moved *moving.Error
	if errors.As(err, &moved) {
		return m.resume(ctx, moved)
	}
	if err != nil {
		return err
	}
	if err := m.prepare(ctx); err != nil {
		return err
	}
	if err := m.copyAll(ctx); err != nil {
		return err
	}
	if err := m.makeIndexes(ctx); err != nil {
		return err
	}
	if err := m.catchUp(ctx); err != nil {
		return err
	}
	if err := m.fence(ctx); err != nil {
		return err
	}
	return m.check(ctx)
}

const (
	moveLock   = 0x4d56 // the key of the advisory lock of movers, with the schema's hash
	killedWait = 10 * time.Second
)

// connect connects to the server and makes the tables. One mover at a time has a schema.
func (m *mover) connect(ctx context.Context) (err error) {
	if m.set, err = newSettings(m.url, m.Options); err != nil {
		return err
	}
	c := m.set.direct.Copy()
	// Deletes of noted rows look each up by its key, whatever the statistics say; see planner.
	for name, value := range map[string]string{"enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off",
		"maintenance_work_mem": "256MB"} {
		c.RuntimeParams[name] = value
	}
	if m.conn, err = pgx.ConnectConfig(ctx, c); err != nil {
		return explain(err)
	}
	if err := m.set.check(ctx, m.conn); err != nil {
		return err
	}
	var clock serverClock
	if err := m.set.measure(ctx, &clock, m.conn); err != nil {
		return explain(err)
	}
	m.compareClocks(clock.skew())
	if err := m.lockSchema(ctx); err != nil {
		return err
	}
	return m.set.migrate(ctx, m.conn, m.set.needs())
}

// compareClocks says so if the server's clock is far ahead of this machine's, or behind it: runs that were scheduled by the one
// start by the other.
func (m *mover) compareClocks(ahead time.Duration) {
	if ahead.Abs() > MaxSkew {
		m.say("the clock of the server is off by %v: from the switch on it decides when scheduled and sleeping runs go on",
			ahead.Round(time.Millisecond))
	}
}

// lockSchema takes the lock of movers. The server may need a moment to notice that one was killed which had it.
func (m *mover) lockSchema(ctx context.Context) error {
	for end := time.Now().Add(killedWait); ; {
		var locked bool
		err := m.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, hashtext($2))", moveLock, m.set.Schema).Scan(&locked)
		if err != nil || locked {
			return explain(err)
		}
		if time.Now().After(end) {
			return fmt.Errorf("another move of schema %s is going on: wait for it", m.set.Schema)
		}
		select {
		case <-time.After(killedWait / 100):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// openFile opens the file, which must exist.
func (m *mover) openFile(ctx context.Context) (err error) {
	if _, err := os.Stat(m.path); err != nil {
		return err // Open would make it
	}
	if m.file, err = sqlite.Open(m.path, sqlite.Options{}); err != nil {
		return err
	}
	if m.db, err = openFile(m.path); err != nil {
		return err
	}
	if m.reader, err = m.db.Conn(ctx); err == nil {
		m.writer, err = m.db.Conn(ctx)
	}
	if err == nil {
		err = m.reader.QueryRowContext(ctx, "SELECT value FROM stint_meta WHERE key = 'id_secret'").Scan(&m.secret)
	}
	return err
}

// openFile opens a file for statements of the mover's own. It waits for no lock: SQLite's waits grow, and a busy
// program would have the lock again each time.
func openFile(path string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath(),
		RawQuery: "mode=rw&_pragma=busy_timeout(0)&_pragma=synchronous(FULL)&_pragma=cache_size(-64000)"}).String())
}

// prepare makes the file note its changes, and the target ready for copying.
func (m *mover) prepare(ctx context.Context) (err error) {
	if m.columns, err = m.pair(ctx); err != nil {
		return err
	}
	var token string
	err = m.locked(ctx, func() error {
		token, err = moving.Begin(ctx, m.writer)
		return err
	})
	if err != nil {
		return err
	}
	return m.prepareTarget(ctx, token)
}

// lockEvery is how often the file's write lock is tried: often, since a busy program lets it go for
// microseconds.
const lockEvery = 200 * time.Microsecond

// lockFile begins a transaction that writes.
func (m *mover) lockFile(ctx context.Context) error {
	for {
		_, err := m.writer.ExecContext(ctx, "BEGIN IMMEDIATE")
		if !sqlite.IsBusy(err) {
			return err
		}
		select {
		case <-time.After(lockEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// locked runs f in a transaction that writes to the file.
func (m *mover) locked(ctx context.Context, f func() error) error {
	if err := m.lockFile(ctx); err != nil {
		return err
	}
	err := f()
	if err == nil {
		_, err = m.writer.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		m.writer.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return err
}

// resume finishes a move whose file refuses writes already.
func (m *mover) resume(ctx context.Context, moved *moving.Error) error {
	if err := m.set.finishMove(ctx, m.conn, moved.Token); err != nil {
		return fmt.Errorf("%w: %w", moved, err)
	}
	m.say("%s was copied before: nothing is left to do", m.path)
	return m.check(ctx)
}

func (m *mover) sql(text string) string { return qualify(text, m.set.Schema) }

// check counts the runs of the target, and looks for what is wrong with them.
func (m *mover) check(ctx context.Context) error {
	err := pgx.BeginTxFunc(ctx, m.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		if err = tx.QueryRow(ctx, m.sql("SELECT count(*) FROM stint.runs")).Scan(&m.report.Runs); err == nil {
			m.report.Problems, err = (&Store{settings: m.set}).check(ctx, tx)
		}
		return err
	})
	return explain(err)
}

func (m *mover) cancel(ctx context.Context) error {
	if err := m.connect(ctx); err != nil {
		return err
	}
	if err := m.openFile(ctx); err != nil {
		return err
	}
	token, err := moving.Token(ctx, m.reader)
	if err != nil {
		return err
	}
	state, err := m.set.moveState(ctx, m.conn)
	if err != nil {
		return err
	}
	if state != nil && state.Token == token && token != "" {
		m.state = *state
		err := pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
			if err := m.empty(ctx, tx); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, m.sql("DELETE FROM stint.meta WHERE key = 'move'"))
			return err
		})
		m.state.Token = ""
		if err == nil {
			err = m.makeIndexes(ctx)
		}
		if err != nil {
			return explain(err)
		}
	}
	return m.locked(ctx, func() error { return moving.Cancel(ctx, m.writer) })
}

// A moveState is what a database says of its move, in stint.meta. No program opens it meanwhile.
type moveState struct {
	Token   string   `json:"token"`
	Copied  []string `json:"copied,omitempty"`  // tables
	Noted   int64    `json:"noted,omitempty"`   // the last note whose row was copied
	Indexes []string `json:"indexes,omitempty"` // those that are created after the tables were copied
	To      string   `json:"to,omitempty"`      // the file that the database has moved back to
	Back    string   `json:"back,omitempty"`    // the file that it is moving back to
}

// moveState returns the state of a move; nil: there is none.
func (s *settings) moveState(ctx context.Context, q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) (*moveState, error) {
	var value []byte
	err := q.QueryRow(ctx, qualify("SELECT value FROM stint.meta WHERE key = 'move'", s.Schema)).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err)
	}
	state := &moveState{}
	if err := json.Unmarshal(value, state); err != nil {
		return nil, fmt.Errorf("the state of the move cannot be read: %w", err)
	}
	return state, nil
}

// lockState is moveState in a transaction that no other which asks for the lock goes beside.
func (s *settings) lockState(ctx context.Context, tx pgx.Tx) (*moveState, error) {
	if _, err := tx.Exec(ctx, qualify("SELECT FROM stint.meta WHERE key = 'secret' FOR UPDATE", s.Schema)); err != nil {
		return nil, explain(err)
	}
	return s.moveState(ctx, tx)
}

// store stores the state.
func (state *moveState) store(ctx context.Context, s *settings, tx pgx.Tx) error {
	value, err := json.Marshal(state)
	if err == nil {
		_, err = tx.Exec(ctx, qualify(`INSERT INTO stint.meta (key, value) VALUES ('move', $1)
			ON CONFLICT (key) DO UPDATE SET value = excluded.value`, s.Schema), value)
	}
	return err
}

// finishMove opens the target of a move to programs, once its file refuses writes. Several may do so. It returns
// an error if the database is not the target.
func (s *settings) finishMove(ctx context.Context, c *pgx.Conn, token string) error {
	err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		state, err := s.lockState(ctx, tx) // whoever comes second waits, and finds it done
		if err != nil {
			return err
		}
		if state == nil {
			var here bool
			err := tx.QueryRow(ctx, qualify("SELECT EXISTS (SELECT 1 FROM stint.meta WHERE key = 'moved' AND value = $1)", s.Schema),
				[]byte(token)).Scan(&here)
			if err == nil && !here {
				err = errNotTarget
			}
			return err
		}
		if state.Token != token {
			return errNotTarget
		}
		if _, err := tx.Exec(ctx, qualify("DELETE FROM stint.meta WHERE key IN ('move', 'moved')", s.Schema)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, qualify("INSERT INTO stint.meta (key, value) VALUES ('moved', $1)", s.Schema), []byte(token))
		return err
	})
	return explain(err)
}

var errNotTarget = fmt.Errorf("%w: the file has moved, but not into this database: name the one that the file names", ErrServer)

// display returns a URL without its password.
func (s *settings) display() string {
	c := s.pool
	u := url.URL{Scheme: "postgres", Host: fmt.Sprintf("%s:%d", c.Host, c.Port), Path: "/" + c.Database}
	if len(c.Host) > 0 && c.Host[0] == '/' { // a socket
		u = url.URL{Scheme: "postgres", Path: "/" + c.Database, RawQuery: url.Values{"host": {c.Host}}.Encode()}
	}
	if c.User != "" {
		u.User = url.User(c.User)
	}
	return u.String()
}
