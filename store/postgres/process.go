package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// A process is a program that has the database open. It shows that it lives in two ways: its direct
// connection holds the advisory lock of its number, which the server lets go when the program dies, and
// it beats about once a second, which a lost machine does not.
type process struct {
	number int64 // the low bits of the keys that it gives
	name   string
	conn   *pgx.Conn   // with the lock
	locks  bool        // a lock can show that it lives: the connection is not a pooler's
	locked bool        // conn has it
	awaits atomic.Bool // others are to tell it of what runs do; see Store.askForEnds
}

const (
	maxProcesses = 1024

	beatEvery = time.Second
	// deadUnlocked is how old the beat of a process may be whose lock is free: it died, or its connection
	// was cut and it makes another.
	deadUnlocked = 1500 * time.Millisecond
	// deadSilent is how old the beat of any process may be: its machine is lost, or frozen.
	deadSilent = 15 * time.Second
	// silentAfter is how long a process goes on that the server does not answer. It stops claiming well
	// before others take it for dead.
	silentAfter = 10 * time.Second
)

// lockClass is the first key of the advisory locks of processes: it differs between schemas.
const lockClass = "hashtext('stint process ' || $1)"

// join enters a new process in the table.
func (s *settings) join(ctx context.Context, c *pgx.Conn) (*process, error) {
	half := make([]byte, 16)
	rand.Read(half)
	p := &process{name: hex.EncodeToString(half), conn: c, locks: !s.direct.pooled}
	return p, s.enter(ctx, p)
}

// enter enters a process in the table, with a free number.
func (s *settings) enter(ctx context.Context, p *process) error {
	host, _ := os.Hostname()
	for from := int64(0); ; from = p.number + 1 {
		err := p.conn.QueryRow(ctx, qualify(`SELECT n FROM generate_series($1::bigint, $2 - 1) AS n
			WHERE NOT EXISTS (SELECT 1 FROM stint.processes p WHERE p.number = n) LIMIT 1`, s.Schema), from, maxProcesses).Scan(&p.number)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%d processes have the database open: %w: it has numbers for no more", maxProcesses, ErrServer)
		}
		if err != nil {
			return explain(err)
		}
		if ok, err := s.lock(ctx, p); err != nil {
			return err
		} else if !ok {
			continue // another is entering with that number, or was taken for dead and has not noticed
		}
		// The row is locked so that no migration drops meanwhile what the process needs.
		tag, err := p.conn.Exec(ctx, qualify(`INSERT INTO stint.processes (number, name, host, pid, version, locks, beat_at, awaits)
			SELECT $1, $2, $3, $4, $5::integer, $6, clock_timestamp(), $7
			FROM (SELECT FROM stint.schema_version WHERE oldest <= $5 FOR SHARE) v`, s.Schema),
			p.number, p.name, host, os.Getpid(), s.knows(), p.locks, p.awaits.Load())
		if err == nil && tag.RowsAffected() == 0 {
			return errors.Join(fmt.Errorf("schema %s: %w", s.Schema, ErrNewer), s.unlock(ctx, p))
		}
		if code(err) != codeUniqueViolation {
			return explain(err)
		}
		if err := s.unlock(ctx, p); err != nil {
			return err
		}
	}
}

// lock takes the advisory lock of a process's number for its connection; false: another has it.
func (s *settings) lock(ctx context.Context, p *process) (bool, error) {
	if !p.locks || p.locked {
		return true, nil
	}
	err := p.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock("+lockClass+", $2::int)", s.Schema, p.number).Scan(&p.locked)
	return p.locked, explain(err)
}

func (s *settings) unlock(ctx context.Context, p *process) error {
	if !p.locked {
		return nil
	}
	p.locked = false
	_, err := p.conn.Exec(ctx, "SELECT pg_advisory_unlock("+lockClass+", $2::int)", s.Schema, p.number)
	return explain(err)
}

// beat shows that the process lives. alive is false if others have taken it for dead: its runs are
// theirs.
func (s *settings) beat(ctx context.Context, p *process) (alive bool, err error) {
	// A lost beat is as good as a late one: its commit need not wait for the disk.
	b := &pgx.Batch{}
	b.Queue("SET LOCAL synchronous_commit = off")
	b.Queue(qualify("UPDATE stint.processes SET beat_at = clock_timestamp(), awaits = awaits OR $2 WHERE name = $1", s.Schema),
		p.name, p.awaits.Load())
	r := p.conn.SendBatch(ctx, b)
	_, err = r.Exec()
	if err == nil {
		tag, e := r.Exec()
		alive, err = tag.RowsAffected() == 1, e
	}
	return alive, explain(errors.Join(err, r.Close()))
}

// leave removes the process from the table.
func (s *settings) leave(ctx context.Context, p *process) error {
	_, err := p.conn.Exec(ctx, qualify("DELETE FROM stint.processes WHERE name = $1", s.Schema), p.name)
	return errors.Join(explain(err), s.unlock(ctx, p))
}

// deadSQL reads the processes that have died: the lock is free and the beat is older than a moment, or
// the beat is old, or it is not in the table and has workers that live: it was taken for dead, registered them,
// and died before it noticed.
const deadSQL = `
SELECT p.name FROM stint.processes p WHERE p.name <> $2 AND (p.beat_at < clock_timestamp() - $4::interval
  OR p.locks AND p.beat_at < clock_timestamp() - $3::interval AND NOT EXISTS (SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory'
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.classid::bigint = (` + lockClass + `)::bigint & 4294967295 AND l.objid::bigint = p.number AND l.objsubid = 2 AND l.granted))
UNION
SELECT w.process FROM stint.workers w WHERE w.ended_at IS NULL AND w.process <> $2
  AND NOT EXISTS (SELECT 1 FROM stint.processes p WHERE p.name = w.process)`

// dead returns the names of processes that have died.
func (s *settings) dead(ctx context.Context, q interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}, me *process) ([]string, error) {
	unlocked := deadUnlocked
	if s.bubble {
		unlocked = 0 // nothing reconnects there
	}
	rows, err := q.Query(ctx, qualify(deadSQL, s.Schema), s.Schema, me.name, unlocked, s.deadSilent)
	if err != nil {
		return nil, explain(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, explain(err)
}
