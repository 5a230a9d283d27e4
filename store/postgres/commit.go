package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// A group is what one transaction of a process changes. Each writes its number with its changes: a
// process that loses its connection while it commits finds out by that whether it did. The last one is deleted,
// from a bound on: while somebody holds a snapshot, a search from the first would walk all that there were.
const groupSQL = `
WITH old AS (DELETE FROM stint.groups WHERE process = $1 AND n BETWEEN $2::bigint - 64 AND $2::bigint - 1)
INSERT INTO stint.groups (process, n) VALUES ($1, $2)`

// laterGroupSQL does the same for a group whose commit need not wait for the disk (serving.later).
const laterGroupSQL = `
WITH old AS (DELETE FROM stint.groups WHERE process = $1 AND n BETWEEN $2::bigint - 64 AND $2::bigint - 1)
INSERT INTO stint.groups (process, n) SELECT $1, $2 FROM set_config('synchronous_commit', 'off', true)`

const (
	// resolveWait is the time after which the backend of a lost transaction is terminated.
	resolveWait = time.Second
	// reconnectMin and reconnectMax bound the pause between attempts to connect, which doubles.
	reconnectMin = 50 * time.Millisecond
	reconnectMax = 2 * time.Second
)

// wasCommitted finds out whether group n of a process was committed, after the connection was lost that
// was to say so. If it was not it never will be: the number is taken. It waits for a server that is
// away, until ctx is done.
func (s *settings) wasCommitted(ctx context.Context, process string, n int64) (committed bool, err error) {
	for pause := reconnectMin; ; pause = min(2*pause, reconnectMax) {
		committed, err = s.takeGroup(ctx, process, n)
		if err == nil || ctx.Err() != nil {
			return committed, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false, errors.Join(ctx.Err(), err)
		}
	}
}

// takeGroup inserts the number of a group: a duplicate says that the group was committed, success that
// it never will be. It waits for a transaction that has inserted it and goes on.
func (s *settings) takeGroup(ctx context.Context, process string, n int64) (committed bool, err error) {
	c, err := s.connect(ctx, s.pool)
	if err != nil {
		return false, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		var pid int
		if err := tx.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
			return err
		}
		late := make(chan struct{})
		inserted := make(chan struct{})
		go func() {
			defer close(late)
			select {
			case <-time.After(resolveWait):
				s.terminateBlockers(ctx, pid)
			case <-inserted:
			}
		}()
		_, err := tx.Exec(ctx, qualify("INSERT INTO stint.groups (process, n) VALUES ($1, $2)", s.Schema), process, n)
		close(inserted)
		<-late
		return err
	})
	if code(err) == codeUniqueViolation {
		return true, nil
	}
	return false, err
}

// terminateBlockers ends the transactions that a backend waits for. Its role may end those of the same
// role, as the lost one is. Errors do not matter: whoever waits goes on waiting.
func (s *settings) terminateBlockers(ctx context.Context, pid int) {
	c, err := s.connect(ctx, s.pool)
	if err != nil {
		return
	}
	defer c.Close(context.WithoutCancel(ctx))
	c.Exec(ctx, "SELECT pg_terminate_backend(b) FROM unnest(pg_blocking_pids($1)) AS b WHERE b <> 0", pid)
}
