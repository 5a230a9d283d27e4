//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// onDatabase runs a program on a database of its own, and its customers, who try again after errors, while f runs. Then
// it checks what was acknowledged, and that all runs end.
func (r *round) onDatabase(ctx context.Context, place string, f func(context.Context, *shop) error) error {
	s, err := openShop(place)
	if err != nil {
		return err
	}
	book, count := &ledger{}, &counted{}
	err = s.whileWorking(ctx, book, count, func(ctx context.Context) error {
		if err := s.goesOn(ctx); err != nil {
			return err
		}
		if err := f(ctx, s); err != nil {
			return err
		}
		return s.goesOn(ctx)
	})
	return r.closeAndCheck(ctx, place, s, book, count, err)
}

// closeAndCheck closes a program whose work ended with err, and checks what was acknowledged, and that all runs end.
func (r *round) closeAndCheck(ctx context.Context, place string, s *shop, book *ledger, count *counted, err error) error {
	if err = joinClose(err, s); err != nil {
		return err
	}
	r.note("%d acknowledgements, %d calls failed", len(book.acks), count.failed)
	if err := r.checkAcks(ctx, place, book.acks, ends{}); err != nil {
		return err
	}
	if err := count.check(place, &r.verdict); err != nil {
		return err
	}
	return r.settled(ctx, place)
}

// backends ends the server's process of one connection after another: of each statement that is seen, at least one
// that executes it, or that has executed it last in its transaction.
func backends(ctx context.Context, r *round) error {
	place, drop, err := newDatabase()
	if err != nil {
		return err
	}
	defer drop()
	return r.onDatabase(ctx, place, func(ctx context.Context, _ *shop) error {
		return inDatabase(place, func(db *sql.DB) error {
			seen := map[string]bool{}
			for r.faults < r.count {
				wait(ctx, time.Duration(r.rng.IntN(20))*time.Millisecond)
				if err := r.endBackend(ctx, db, seen); err != nil {
					return err
				}
			}
			r.note("%d statements", len(seen))
			return nil
		})
	})
}

// endBackend ends a process of a statement that was not seen before, if there is one; else some, now and then.
func (r *round) endBackend(ctx context.Context, db *sql.DB, seen map[string]bool) error {
	pid, text := 0, ""
	rows, err := db.QueryContext(ctx, `SELECT pid, query FROM pg_stat_activity WHERE datname = current_database()
		AND pid <> pg_backend_pid() AND state <> 'idle' ORDER BY random()`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() && (pid == 0 || seen[text]) {
		if err := rows.Scan(&pid, &text); err != nil {
			return err
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || pid == 0 || seen[text] && r.rng.IntN(10) > 0 {
		return errors.Join(err, ctx.Err())
	}
	seen[text] = true
	r.faults++
	_, err = db.ExecContext(ctx, "SELECT pg_terminate_backend($1)", pid)
	return err
}

// postmaster kills the server, and starts it again, while a program works. The program goes on by itself.
func postmaster(ctx context.Context, r *round) error {
	server, err := newServer(ctx)
	if err != nil {
		return err
	}
	defer server.close()
	return r.onDatabase(ctx, server.url(), func(ctx context.Context, s *shop) error {
		for range r.count {
			wait(ctx, time.Duration(r.rng.IntN(500))*time.Millisecond)
			server.kill()
			r.faults++
			wait(ctx, time.Duration(r.rng.IntN(300))*time.Millisecond)
			if err := server.start(ctx); err != nil {
				return err
			}
			if err := s.goesOn(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// frozen stops one of three programs on a database, and makes it look as if it had for long; in the long form it is.
// The others take over its runs, and go on meanwhile, whatever it has locked. When it continues, its outcomes are
// refused.
func frozen(ctx context.Context, r *round) error {
	place, drop, err := newDatabase()
	if err != nil {
		return err
	}
	defer drop()
	children := make([]*child, 2)
	for i := range children {
		if children[i], err = startOpen("shop", place, patientVar+"=1"); err != nil {
			return err
		}
		defer func() { children[i].kill() }()
	}
	err = r.onDatabase(ctx, place, func(ctx context.Context, s *shop) error {
		for i := range r.count {
			c := children[i%len(children)]
			wait(ctx, time.Duration(r.rng.IntN(100))*time.Millisecond)
			c.Process.Signal(syscall.SIGSTOP)
			r.faults++
			err := r.whileFrozen(ctx, s, place, c.Process.Pid)
			c.Process.Signal(syscall.SIGCONT)
			if err != nil {
				return err
			}
		}
		for _, c := range children {
			if err := c.kill(); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = r.checkLedger(ctx, place, ends{})
	}
	return err
}

// whileFrozen returns when a program has gone on beside one that is stopped.
func (r *round) whileFrozen(ctx context.Context, s *shop, place string, pid int) error {
	if r.long > 0 { // longer than a process may be silent; see deadSilent in store/postgres/process.go
		wait(ctx, time.Duration(16+r.rng.IntN(15))*time.Second)
	} else if err := inDatabase(place, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, "UPDATE stint.processes SET beat_at = beat_at - interval '1 hour' WHERE pid = $1", pid)
		return err
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for n := range 3 { // runs of each key of the limit
		if _, err := s.pay.Run(ctx, 2+5*n); err != nil {
			return fmt.Errorf("beside a frozen program: %w", err)
		}
	}
	return nil
}
