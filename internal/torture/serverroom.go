//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/stint-dev/stint"
)

// room fills the disk of a server, waits until a program says that it cannot write, and makes room again. The program
// goes on by itself.
func room(ctx context.Context, r *round) error {
	if os.Geteuid() != 0 {
		return errNoServer{"a small disk is a tmpfs, which root alone mounts"}
	}
	server, err := newServer(ctx, "max_wal_size=64MB", "min_wal_size=32MB")
	if err != nil {
		return err
	}
	defer server.close()
	disk := filepath.Join(server.dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m,mode=777", "tmpfs", disk).CombinedOutput(); err != nil {
		return errNoServer{fmt.Sprintf("a tmpfs cannot be mounted here: %s", out)}
	}
	defer func() {
		server.stop()
		exec.Command("umount", disk).Run()
	}()
	space := filepath.Join(disk, "space")
	if err = os.Mkdir(space, 0o700); err == nil {
		uid, gid, e := postgresIDs()
		err = errors.Join(e, os.Chown(space, uid, gid))
	}
	for _, query := range []string{"CREATE TABLESPACE small LOCATION '" + space + "'", "CREATE DATABASE small TABLESPACE small"} {
		if err == nil {
			err = server.exec(query)
		}
	}
	if err != nil {
		return err
	}
	place := "postgres://postgres@" + server.host() + "/small"
	return r.onDatabase(ctx, place, func(ctx context.Context, s *shop) error {
		for range r.count {
			if err := r.fill(ctx, s, filepath.Join(disk, "filler")); err != nil {
				return err
			}
			r.faults++
		}
		return nil
	})
}

// fill fills a disk for a while.
func (r *round) fill(ctx context.Context, s *shop, filler string) error {
	f, err := os.Create(filler)
	if err != nil {
		return err
	}
	for block := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(block) // until there is no room
	}
	f.Close()
	defer os.Remove(filler)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for s.c.Healthy() == nil {
		if wait(ctx, 5*time.Millisecond); ctx.Err() != nil {
			return errors.New("the disk is full, and the client did not say that it cannot write")
		}
	}
	wait(ctx, time.Duration(r.rng.IntN(200))*time.Millisecond)
	return os.Remove(filler)
}

// idle leaves transactions of the app's own open in which runs were enqueued, with limits and of a workflow. Others go on
// meanwhile, also at the same limits, and what was enqueued starts when the transaction commits.
func idle(ctx context.Context, r *round) error {
	place, drop, err := newDatabase()
	if err != nil {
		return err
	}
	defer drop()
	return r.onDatabase(ctx, place, func(ctx context.Context, s *shop) error {
		return inDatabase(place, func(db *sql.DB) error {
			for range r.count {
				if err := r.beIdle(ctx, s, db); err != nil {
					return err
				}
				r.faults++
			}
			return nil
		})
	})
}

func (r *round) beIdle(ctx context.Context, s *shop, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	pay, err := s.pay.Enqueue(ctx, 2, stint.WithTx(tx)) // with a limit
	if err != nil {
		return err
	}
	graph, err := s.graph.Enqueue(ctx, 2, stint.WithTx(tx))
	if err != nil {
		return err
	}
	for n := range 3 { // beside it, with the same limits
		if _, err := s.pay.Run(ctx, 2+5*n); err != nil {
			return fmt.Errorf("beside an idle transaction: %w", err)
		}
	}
	if r.rng.IntN(2) == 0 {
		return tx.Rollback()
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if _, err := pay.Wait(ctx); err != nil {
		return fmt.Errorf("enqueued by an idle transaction: %w", err)
	}
	_, err = graph.Wait(ctx)
	return err
}
