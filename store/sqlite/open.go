// Package sqlite is a stint store in one SQLite file, with modernc.org/sqlite.
//
// One goroutine owns the write connection and commits in groups (writer.go, commit.go); readers
// have their own read-only connections and never block it. Processes that share a
// file find each other by the lock files beside it (presence.go) and see each other's
// commits through PRAGMA data_version (poll.go).
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint/internal/graphcache"
	"github.com/stint-dev/stint/internal/moving"
	"github.com/stint-dev/stint/internal/sample"
	"github.com/stint-dev/stint/internal/selfcheck"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/cron"
	"github.com/stint-dev/stint/store/internal/keys"
	"github.com/stint-dev/stint/store/sqlite/internal/conn"
	sqlite "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// Options change how a store is opened. The zero value is the default.
type Options struct {
	// Normal sets SQLite's synchronous=NORMAL instead of FULL: a power cut may lose the last commits; a crash of the
	// process loses none.
	Normal bool
	// BusyTimeout is how long a change waits for another program's write transaction
	// before it fails with store.ErrBusy. Default 30 s.
	BusyTimeout time.Duration
	// ReadOnly opens the file for reading, also one that this user may not write: the store starts no timers and recovers
	// no runs, and every change returns store.ErrReadOnly. The file must exist and have the schema of this version. The
	// store sees the commits of other programs.
	ReadOnly bool
}

// Memory is the path for Open of a database in memory, which is private to its store and gone when that is closed.
const Memory = ":memory:"

const (
	busyPoll   = 50 * time.Millisecond // SQLite's own wait, which ignores contexts
	readerBusy = 5 * time.Second
)

// A Store is a store.Store in a SQLite file.
type Store struct {
	path             string
	at               *location // nil for a database in memory
	opts             Options
	write            *conn.Conn
	readers          *readers  // nil for a database in memory: reads go through the writer
	read             *sql.DB   // for transactions that read
	still            stillness // of both, if the store is read-only
	ids              keys.IDs
	presence         *presence
	w                *writer
	sampler          *sample.Loop // nil: the store is read-only
	publisher        publisher
	ticks            cron.Missed // which to leave alone at first
	graphs           graphcache.Cache
	filters          knownFilters
	reading          sync.RWMutex
	closed           bool // guarded by reading
	appMu            sync.Mutex
	app              *sql.DB                      // for BeginTx, which creates it
	presencesChanged chan struct{}                // capacity 1: other stores opened or closed the file
	moved            atomic.Pointer[moving.Error] // once that is known
}

var _ store.Store = (*Store)(nil)

// Open opens the file at path, which it creates if it is missing, or Memory.
func Open(path string, opts Options) (*Store, error) {
	if opts.BusyTimeout <= 0 {
		opts.BusyTimeout = 30 * time.Second
	}
	s, err := open(path, opts)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	return s, nil
}

// New opens the main database of the app's own db, with connections of its own. db must be of
// modernc.org/sqlite: two SQLite libraries on one file in one process drop each other's locks.
func New(db *sql.DB, opts Options) (*Store, error) {
	if _, ok := db.Driver().(*sqlite.Driver); !ok {
		return nil, fmt.Errorf("sqlite: New: database is of driver %T: open it with modernc.org/sqlite, "+
			"or give the store a file of its own", db.Driver())
	}
	var path string
	if err := db.QueryRow("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path); err != nil {
		return nil, fmt.Errorf("sqlite: New: find the database's file: %w", err)
	}
	if path == "" {
		return nil, errors.New("sqlite: New: database is in memory, which connections cannot share: use a file, or Open(\":memory:\")")
	}
	return Open(path, opts)
}

func open(path string, opts Options) (_ *Store, err error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if opts.ReadOnly {
		return openReading(path, opts)
	}
	s := &Store{path: path, opts: opts, presencesChanged: make(chan struct{}, 1), publisher: publisher{signaled: make(chan struct{}, 1)},
		presence: &presence{name: Memory}}
	if path != Memory {
		if err := s.locate(); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			s.closeFiles()
		}
	}()
	if s.write, err = s.connectWriter(); err != nil {
		return nil, explain(err)
	}
	secret, err := s.prepare()
	if err != nil {
		return nil, explain(err)
	}
	if s.ids, err = keys.New(secret); err != nil {
		return nil, err
	}
	if path != Memory {
		if err := s.openReaders(secret); err != nil {
			return nil, err
		}
	}
	s.write.SyncData() // the log is open since the first read
	s.w = newWriter(s, s.write)
	if s.w.prefill, err = s.newPrefill(); err != nil {
		return nil, explain(err)
	}
	s.ticks.Open(time.Now().UnixMilli())
	s.sampler = sample.Start(sampling{s})
	go s.w.run()
	s.publisher.done = make(chan struct{})
	go s.publishLoop()
	return s, nil
}

// locate finds the file at s.path, and creates it if it is missing.
func (s *Store) locate() (err error) {
	if s.path, err = resolve(s.path); err != nil {
		return err
	}
	if err := create(s.path); err != nil {
		return err
	}
	s.at = &location{path: s.path}
	return s.at.find()
}

// openReaders opens the read connections, and creates the presence.
func (s *Store) openReaders(secret []byte) (err error) {
	if err := s.at.findLog(); err != nil {
		return err
	}
	if s.read, err = s.connect(s.readDSN()); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(readConns)
	s.readers = newReaders(s, url.Values{})
	if s.presence, err = newPresence(s.at, secret); err != nil {
		return fmt.Errorf("make the file that shows others this process lives: %w", err)
	}
	return nil
}

// stint's own connections do not trust the schema: nothing in it, such as a view, calls a function with side
// effects, and no statement writes the schema as text. Connections for the app's code, and for a backup, are
// like the app's own.

// openConn opens a connection below database/sql, with stint's own functions, and runs pragmas there. It fails if the file is not
// the one that was found.
func (s *Store) openConn(uri, pragmas string) (*conn.Conn, error) {
	c, err := conn.Open(uri)
	if misplaced := s.at.check(); misplaced != nil { // another file was opened, or none
		if err == nil {
			c.Close()
		}
		return nil, misplaced
	}
	if err != nil {
		return nil, err
	}
	if err = c.Exec(pragmas); err == nil {
		err = addFunctions(c)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// connectWriter opens the connection that writes.
func (s *Store) connectWriter() (*conn.Conn, error) {
	uri := "file:" + Memory
	if s.path != Memory {
		uri = s.fileDSN(url.Values{})
	}
	return s.openConn(uri, fmt.Sprintf("PRAGMA busy_timeout = %d; PRAGMA trusted_schema = 0", busyPoll.Milliseconds()))
}

func (s *Store) readDSN() string {
	return s.fileDSN(url.Values{"_defensive": {"1"},
		"_pragma": {pragma("busy_timeout", readerBusy.Milliseconds()), pragma("query_only", 1), pragma("trusted_schema", 0)}})
}

func pragma(name string, arg any) string { return fmt.Sprintf("%s(%v)", name, arg) }

// fileDSN returns the DSN of a connection that does not create the file: if it is missing, it was removed.
func (s *Store) fileDSN(q url.Values) string {
	if !q.Has("mode") {
		q.Set("mode", "rw")
	}
	return (&url.URL{Scheme: "file", Opaque: strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(s.path),
		RawQuery: q.Encode()}).String()
}

// connect is sql.Open that fails if the file is not the one that was found.
func (s *Store) connect(dsn string) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{c, s.at}), nil
}

type connector struct {
	driver.Connector
	at *location
}

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if misplaced := c.at.check(); misplaced != nil { // another file was opened, or none
		if err == nil {
			conn.Close()
		}
		return nil, misplaced
	}
	return conn, err
}

// prepare sets the write connection's pragmas, checks those that matter, updates the schema, and returns the
// file's secret.
func (s *Store) prepare() (secret []byte, err error) {
	c := s.write
	journal, sync, level := "wal", "FULL", 2
	if s.path == Memory {
		journal = "memory"
	}
	if s.opts.Normal {
		sync, level = "NORMAL", 1
	}
	if err := s.setWAL(journal); err != nil {
		return nil, err
	}
	for _, p := range []string{"synchronous = " + sync, "cache_size = -16000", "temp_store = MEMORY",
		"journal_size_limit = 67108864"} {
		if err := c.Exec("PRAGMA " + p); err != nil {
			return nil, fmt.Errorf("PRAGMA %s: %w", p, err)
		}
	}
	if err := c.AutoCheckpoint(checkpointFrames); err != nil {
		return nil, err
	}
	var got int
	if err := onConn(c).one("PRAGMA synchronous", nil, &got); err != nil {
		return nil, err
	}
	if got != level {
		return nil, fmt.Errorf("synchronous is %d, not %d as asked", got, level)
	}
	if err := s.readMark(onConn(c)); err != nil {
		return nil, err
	}
	if err := s.patient(func() error { return migrate(c) }); err != nil {
		return nil, err
	}
	if err := checkSchema(onConn(c)); err != nil {
		return nil, err
	}
	if selfcheck.Enabled() {
		if err := reportIllegal(c); err != nil {
			return nil, err
		}
	}
	return s.secret()
}

const secretSQL = "SELECT value FROM stint_meta WHERE key = 'id_secret'"

// secret returns the file's secret, which the first process to open it creates.
func (s *Store) secret() (secret []byte, err error) {
	c := onConn(s.write)
	if err := c.one(secretSQL, nil, &secret); !errors.Is(err, sql.ErrNoRows) {
		return secret, err
	}
	secret = make([]byte, 16)
	rand.Read(secret)
	err = s.patient(func() error {
		return s.write.Exec(fmt.Sprintf("INSERT INTO stint_meta VALUES ('id_secret', x'%x') ON CONFLICT DO NOTHING", secret))
	})
	if err != nil {
		return nil, err
	}
	err = c.one(secretSQL, nil, &secret)
	return secret, err
}

func (s *Store) setWAL(want string) error {
	var mode string
	err := s.patient(func() error { return onConn(s.write).one("PRAGMA journal_mode = "+want, nil, &mode) })
	if err != nil {
		return err
	}
	if mode != want {
		return fmt.Errorf("journal_mode is %q and would not become %q: is the file on a network or read-only file system?", mode, want)
	}
	return nil
}

// patient repeats f while another program has the file locked, up to BusyTimeout.
func (s *Store) patient(f func() error) error {
	for end := time.Now().Add(s.opts.BusyTimeout); ; {
		err := f()
		if !isBusy(err) {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w (waited %v): %w", store.ErrBusy, s.opts.BusyTimeout, err)
		}
		time.Sleep(time.Millisecond)
	}
}

func code(err error) int {
	const primary = 0xff // without the extension
	if e := (*conn.Error)(nil); errors.As(err, &e) {
		return e.Code() & primary
	}
	if e := (*sqlite.Error)(nil); errors.As(err, &e) {
		return e.Code() & primary
	}
	return 0
}

func isBusy(err error) bool { c := code(err); return c == lib.SQLITE_BUSY || c == lib.SQLITE_LOCKED }

// explain adds to an error what the user can do about it, and whether it is a store.ErrUnavailable.
func explain(err error) error {
	var do string
	c := code(err)
	switch c {
	case lib.SQLITE_NOTADB:
		do = "not a SQLite database: name another file"
	case lib.SQLITE_CORRUPT:
		do = "database is damaged: restore a backup"
	case lib.SQLITE_READONLY:
		do = "file or its directory is read-only: make both writable for this user"
	case lib.SQLITE_CANTOPEN:
		do = "file cannot be opened: check the rights on it and on its directory"
	case lib.SQLITE_FULL:
		do = "disk is full: make room; stint goes on by itself"
	case lib.SQLITE_IOERR:
		do = "disk reports an error"
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return unavailable{err}
	default:
		return err
	}
	if c != lib.SQLITE_NOTADB && c != lib.SQLITE_CORRUPT {
		err = unavailable{err}
	}
	return fmt.Errorf("%s: %w", do, err)
}

// Close waits for what was begun, queues the runs that this store's workers still execute, and closes the
// file.
func (s *Store) Close() error {
	s.sampler.Close()
	if !s.w.close() {
		return nil
	}
	return s.closeFiles()
}

func (s *Store) closeFiles() error {
	if s.publisher.done != nil {
		<-s.publisher.done // it ends when the writer has
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	s.closed = true
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.close())
	}
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	if s.write != nil {
		errs = append(errs, s.write.Close())
	}
	s.appMu.Lock()
	defer s.appMu.Unlock()
	if s.app != nil {
		errs = append(errs, s.app.Close())
	}
	return errors.Join(append(errs, s.presence.close())...)
}
