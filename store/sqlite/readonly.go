package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
	sqlite "modernc.org/sqlite"
)

// A store with Options.ReadOnly has no write connection and leaves nothing behind. SQLite has two ways to
// read a file with a write-ahead log:
//
//   - If the log has frames, a process has the file open or was killed: mode=ro, which reads the log and
//     its index and takes locks. While such a connection is open, nobody removes the log.
//   - If it has none, all is in the file, and mode=ro would have to create a log, which may not be allowed,
//     and would stay: immutable=1, which takes no lock and does not notice changes. It is correct while the
//     file is unchanged, and nobody changes it without creating a log first: so each read begins and ends
//     with a check for a log.
//
// The second way changes to the first, or opens the file again, if that check finds a change; never the
// other way round.

// logHeader is the size of a write-ahead log without frames, which counts as none. A program that is killed
// in its first commit leaves one, and without the right to write SQLite cannot read a file beside it. See
// https://www.sqlite.org/fileformat.html#the_write_ahead_log.
const logHeader = 32

// A stillness tells whether a file without a log was changed.
type stillness struct {
	log      bool
	modified time.Time
	size     int64
}

func stillnessOf(path string) (s stillness, err error) {
	info, err := os.Lstat(path + "-wal")
	if err == nil && info.Size() > logHeader || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return stillness{log: true}, err
	}
	info, err = os.Lstat(path)
	if err != nil {
		return s, err
	}
	return stillness{false, info.ModTime(), info.Size()}, nil
}

func openReading(path string, opts Options) (_ *Store, err error) {
	if path == Memory {
		return nil, errors.New("a database in memory is empty when it is opened: leave ReadOnly out")
	}
	s := &Store{opts: opts, presence: &presence{}}
	if s.path, err = resolve(path); err != nil {
		return nil, err
	}
	s.at = &location{path: s.path}
	if err := s.at.find(); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("file does not exist, and read-only none is made: %w", err)
	} else if err != nil {
		return nil, err
	}
	if info, err := os.Lstat(s.path); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(errors.New("is not a regular file: name another"), err)
	}
	defer func() {
		if err != nil {
			s.closeFiles()
		}
	}()
	if err := s.connectReading(); err != nil {
		return nil, err
	}
	if err := s.readers.use(context.Background(), s.knownFile); err != nil {
		return nil, explainReading(err)
	}
	s.w = newWriter(s, nil)
	go s.w.observe()
	return s, nil
}

// connectReading opens connections to the file as it is now, at least one. The caller holds s.reading, or
// has s for itself.
func (s *Store) connectReading() error {
	for tries := 0; ; tries++ {
		err := s.tryConnect()
		if err == nil || tries == 10 {
			return err
		}
		if now, serr := stillnessOf(s.path); serr != nil || now == s.still {
			return err
		} // its log was created or removed meanwhile
	}
}

func (s *Store) tryConnect() (err error) {
	if s.still, err = stillnessOf(s.path); err != nil {
		return err
	}
	c, err := sqlite.NewConnector(s.readOnlyDSN())
	if err != nil {
		return err
	}
	s.at.log = fileID{}
	s.read = sql.OpenDB(connector{c, s.at})
	s.read.SetMaxOpenConns(readConns + 1) // one is observe's
	s.readers = newReaders(s, s.readOnlyOptions())
	var n int
	if err := s.read.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil {
		s.read.Close()
		return explainReading(err)
	}
	if s.still.log {
		return s.at.findLog() // which stays now
	}
	return nil
}

func (s *Store) readOnlyDSN() string {
	q := s.readOnlyOptions()
	q.Set("_defensive", "1")
	q["_pragma"] = []string{pragma("busy_timeout", readerBusy.Milliseconds()), pragma("trusted_schema", 0)}
	return s.fileDSN(q)
}

// readOnlyOptions are SQLite's own of a URI.
func (s *Store) readOnlyOptions() url.Values {
	q := url.Values{"mode": {"ro"}}
	if !s.still.log {
		q.Set("immutable", "1")
	}
	return q
}

// knownFile checks that the file is one of stint's, like migrate and prepare, and reads its secret.
func (s *Store) knownFile(q querier) error {
	if err := s.readMark(q); err != nil {
		return err
	}
	steps, err := migrations()
	if err != nil {
		return err
	}
	switch have, err := version(q); {
	case err != nil:
		return err
	case have > len(steps):
		return fmt.Errorf("schema %d, this program knows %d: %w", have, len(steps), ErrNewer)
	case have == 0:
		return ErrNoTables
	case have < len(steps):
		return fmt.Errorf("schema %d, this program reads %d: open the file once without ReadOnly, which brings it up to date", have,
			len(steps))
	}
	if err := checkSchema(q); err != nil {
		return err
	}
	var secret []byte
	if err := q.one(secretSQL, nil, &secret); err != nil {
		return err
	}
	s.ids, err = keys.New(secret)
	return err
}

// explainReading adds to an error what to do if SQLite has no way to read the file.
func explainReading(err error) error {
	err = explain(err)
	if c := code(err); c != 0 {
		err = fmt.Errorf("%w (to be read without rights to write, a file needs to be readable, "+
			"and its -wal and -shm too or both missing: else copy the file with its -wal, and read the copy)", err)
	}
	return err
}

// refresh opens new connections if the file has a log by now, or was changed, and reports whether.
func (s *Store) refresh() (bool, error) {
	s.reading.RLock()
	same := s.closed || s.isStill()
	s.reading.RUnlock()
	if same {
		return false, nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.closed || s.isStill() {
		return false, nil
	}
	s.readers.close()
	s.read.Close()
	return true, s.connectReading()
}

// isStill reports whether s.read sees the present file. The caller holds s.reading.
func (s *Store) isStill() bool {
	if s.still.log {
		return true // its connections see all commits
	}
	now, err := stillnessOf(s.path)
	return err == nil && now == s.still
}

var errMoving = fmt.Errorf("%w: a program opened the file while it was read: read again", store.ErrBusy)

// observe is the writer's goroutine of a read-only store: it notices the commits of others until the store is
// closed.
func (w *writer) observe() {
	defer close(w.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-w.signaled:
		case <-timer.C:
		}
		w.mu.Lock()
		stop := w.closed
		w.mu.Unlock()
		if stop {
			w.dropObserver()
			return
		}
		now := time.Now()
		if now.Sub(w.polled) >= w.pollEvery(now) {
			w.adaptPolling(now)
			w.polled = now
			w.setHealth(w.observeOnce())
		}
		timer.Reset(max(w.pollEvery(now)-now.Sub(w.polled), 0))
	}
}

// observeOnce makes all waiting calls read again if others have committed.
func (w *writer) observeOnce() error {
	_, err := os.Lstat(presenceDir(w.s.path))
	w.shared = err == nil
	changed, err := w.s.refresh()
	if err != nil {
		return err
	}
	w.s.reading.RLock()
	defer w.s.reading.RUnlock()
	if err := w.s.at.check(); err != nil {
		return err
	}
	ctx := context.Background()
	if w.s.still.log && w.observer == nil {
		if w.observer, err = w.s.read.Conn(ctx); err != nil {
			w.observer = nil
			return explainReading(err)
		}
	}
	if w.s.still.log {
		was := w.version
		if err := w.observer.QueryRowContext(ctx, "PRAGMA data_version").Scan(&w.version); err != nil {
			return explainReading(err)
		}
		changed = changed || was != w.version && was != -1
	}
	if changed {
		if err := w.s.readers.use(ctx, w.s.readMark); err != nil {
			return w.noteMoved(err)
		}
		w.changes.Add(1)
		w.notifyAll()
	}
	return nil
}

func (w *writer) dropObserver() {
	if w.observer != nil {
		w.observer.Close()
	}
}
