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

// standby kills a server while a program works, and makes its standby the server, in turn a synchronous one, which has
// all that was acknowledged, and one that has not received the end. The program goes on by itself. What its worker
// executed by the standby's account either ends or is executed again.
func standby(ctx context.Context, r *round) error {
	for i := range r.count {
		if err := r.failover(ctx, i%2 == 0); err != nil {
			return err
		}
		r.faults++
	}
	return nil
}

func (r *round) failover(ctx context.Context, synchronous bool) error {
	primary, err := newServer(ctx)
	if err != nil {
		return err
	}
	defer primary.close()
	second, err := primary.newStandby(ctx, synchronous)
	if err != nil {
		return err
	}
	defer second.close()
	place := fmt.Sprintf("postgres://postgres@%s,%s/postgres?target_session_attrs=read-write", primary.host(), second.host())
	s, err := openShop(place)
	if err != nil {
		return err
	}
	book, count, sure := &ledger{}, &counted{}, 0
	err = s.whileWorking(ctx, book, count, func(ctx context.Context) error {
		if err := s.goesOn(ctx); err != nil {
			return err
		}
		wait(ctx, time.Duration(300+r.rng.IntN(300))*time.Millisecond)
		if !synchronous {
			if sure, err = r.stall(ctx, primary, second, book); err != nil {
				return err
			}
		}
		if err := second.replace(ctx, primary); err != nil {
			return err
		}
		if err := s.goesOn(ctx); err != nil {
			return err
		}
		return inDatabase(second.url(), func(db *sql.DB) error { return r.untilTaken(ctx, db) })
	})
	if err = joinClose(err, s); err != nil {
		return err
	}
	acks := book.acks
	if synchronous {
		if err := count.check(second.url(), &r.verdict); err != nil {
			return err
		}
	} else {
		r.note("of %d acknowledgements the last %d may be lost", len(acks), len(acks)-sure)
		acks = acks[:sure]
	}
	if err := r.checkAcks(ctx, second.url(), acks, ends{}); err != nil {
		return err
	}
	return r.settled(ctx, second.url())
}

// newStandby makes a standby of a server.
func (s *server) newStandby(ctx context.Context, synchronous bool) (*server, error) {
	second, err := emptyServer()
	if err != nil {
		return nil, err
	}
	err = second.command("pg_basebackup", "-D", second.data(), "-h", "127.0.0.1", "-p", fmt.Sprint(s.port), "-U", "postgres", "-R",
		"-X", "stream", "-c", "fast", "--no-sync")
	if err == nil {
		err = second.start(ctx)
	}
	if err == nil && synchronous {
		err = s.exec("ALTER SYSTEM SET synchronous_standby_names = '*'")
		if err == nil {
			err = s.exec("SELECT pg_reload_conf()")
		}
	}
	if err == nil {
		state := "async"
		if synchronous {
			state = "sync"
		}
		err = s.until(ctx, "SELECT EXISTS (SELECT 1 FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = '"+state+"')")
	}
	if err != nil {
		second.close()
		return nil, err
	}
	return second, nil
}

// exec runs a statement on the server.
func (s *server) exec(query string) error {
	return inDatabase(s.url(), func(db *sql.DB) error { _, err := db.Exec(query); return err })
}

// until returns when a query returns true.
func (s *server) until(ctx context.Context, query string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return inDatabase(s.url(), func(db *sql.DB) error {
		for {
			var is bool
			err := db.QueryRowContext(ctx, query).Scan(&is)
			if err == nil && is {
				return nil
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%s: is not true: %w", query, errors.Join(ctx.Err(), err))
			}
			wait(ctx, 10*time.Millisecond)
		}
	})
}

// stall keeps a standby from receiving what is committed from now on, and returns how many acknowledgements are of
// before. It returns when there are later ones.
func (r *round) stall(ctx context.Context, primary, second *server, book *ledger) (sure int, err error) {
	var at string
	sure = len(book.so())
	err = inDatabase(primary.url(), func(db *sql.DB) error {
		return db.QueryRowContext(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&at)
	})
	if err == nil {
		err = primary.until(ctx, "SELECT EXISTS (SELECT 1 FROM pg_stat_replication WHERE flush_lsn >= '"+at+"')")
	}
	receivers := second.processes("walreceiver")
	if err != nil || len(receivers) != 1 {
		return 0, errors.Join(err, fmt.Errorf("%d processes of the standby receive", len(receivers)))
	}
	syscall.Kill(receivers[0], syscall.SIGSTOP)
	for began := len(book.so()); len(book.so()) < began+5 && ctx.Err() == nil; {
		wait(ctx, 10*time.Millisecond)
	}
	primary.kill()
	syscall.Kill(receivers[0], syscall.SIGTERM) // before it reads what has come meanwhile
	syscall.Kill(receivers[0], syscall.SIGCONT)
	if ctx.Err() != nil {
		return 0, fmt.Errorf("nothing was acknowledged beside a standby that receives nothing: %w", ctx.Err())
	}
	return sure, nil
}

// replace kills a server, and makes its standby one.
func (s *server) replace(ctx context.Context, primary *server) error {
	primary.kill()
	if err := s.until(ctx, "SELECT pg_promote()"); err != nil {
		return err
	}
	return s.until(ctx, "SELECT NOT pg_is_in_recovery()")
}

// untilTaken returns when no run executes any more with the lease that it has now.
func (r *round) untilTaken(ctx context.Context, db *sql.DB) error {
	leases := map[int64]int64{}
	err := rowsOf(db, "SELECT id, lease FROM stint_runs WHERE state = 4 AND flags & 2 = 0", func(scan func(...any) error) error {
		var id, lease int64
		err := scan(&id, &lease)
		leases[id] = lease
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	const query = "SELECT EXISTS (SELECT 1 FROM stint_runs WHERE id = $1 AND state = 4 AND lease = $2)"
	for id, lease := range leases {
		for is := true; is; wait(ctx, 10*time.Millisecond) {
			err := db.QueryRowContext(ctx, query, id, lease).Scan(&is)
			if ctx.Err() != nil {
				r.verdict.add(&r.verdict.Stuck, 1, "%s", describe(db, fmt.Sprint("id = ", id)))
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
