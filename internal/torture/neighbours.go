//go:build unix

package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// maxLog is how far the write-ahead log may grow while the app reads without end; see
// journal_size_limit in store/sqlite/open.go.
const maxLog = 64 << 20

// neighbours makes an app use the program's file in all the ways that SQLite allows, and some that it advises against:
// short and long transactions, deferred ones that read first, a reader that does not end, and backups meanwhile. No
// call of the program fails, the log stays bounded, and a program can continue from each backup.
func neighbours(ctx context.Context, r *round) error {
	path := filepath.Join(r.dir("neighbours"), "shop.db")
	book := &ledger{}
	err := inDatabase(path, func(db *sql.DB) error {
		if _, err := db.Exec("CREATE TABLE app (x)"); err != nil {
			return err
		}
		return r.beside(ctx, path, book, func(working context.Context, start func(func() error)) error {
			start(func() error { return endlessReader(working, db) })
			start(func() error { return shortWriter(working, db) })
			start(func() error { return deferredWriter(working, path) })
			return r.backups(ctx, db, path, book)
		})
	})
	if err != nil {
		return err
	}
	if err := r.checkAcks(ctx, path, book.acks, ends{}); err != nil {
		return err
	}
	return r.settled(ctx, path)
}

// backups takes one after another, between transactions that hold the file for long.
func (r *round) backups(ctx context.Context, db *sql.DB, path string, book *ledger) error {
	for range r.count {
		if err := longWriter(ctx, db); err != nil {
			return fmt.Errorf("a long transaction: %w", err)
		}
		dir := r.dir("backup")
		acks := book.so()
		if _, err := db.ExecContext(ctx, "VACUUM INTO ?", filepath.Join(dir, "shop.db")); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		if err := r.checkAcks(ctx, filepath.Join(dir, "shop.db"), acks, ends{}); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		if err := r.settled(ctx, filepath.Join(dir, "shop.db")); err != nil {
			return fmt.Errorf("restored backup: %w", err)
		}
		os.RemoveAll(dir)
		r.checkLog(path)
		r.faults++
	}
	return nil
}

// checkLog checks that the file's log is not longer than maxLog.
func (r *round) checkLog(path string) {
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() > maxLog {
		r.verdict.problem("the log: %v, %v", info, err)
	}
}

// so returns the present entries of the ledger.
func (l *ledger) so() []ack {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acks[:len(l.acks):len(l.acks)]
}

// endlessReader holds a snapshot until its context ends.
func endlessReader(ctx context.Context, db *sql.DB) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		if _, err := c.ExecContext(ctx, "BEGIN DEFERRED"); err != nil {
			return err
		}
		var n int
		if err := c.QueryRowContext(ctx, "SELECT count(*) FROM stint_runs").Scan(&n); err != nil {
			return err
		}
		wait(ctx, 2*time.Second)
		if _, err := c.ExecContext(context.WithoutCancel(ctx), "COMMIT"); err != nil {
			return err
		}
	}
	return nil
}

func shortWriter(ctx context.Context, db *sql.DB) error {
	for ctx.Err() == nil {
		if _, err := db.ExecContext(ctx, "INSERT INTO app VALUES (randomblob(100))"); err != nil {
			return fmt.Errorf("a short transaction: %w", err)
		}
		wait(ctx, 5*time.Millisecond)
	}
	return nil
}

// longWriter holds SQLite's one write lock for half a second.
func longWriter(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec("INSERT INTO app VALUES (randomblob(100000))"); err != nil {
		return err
	}
	wait(ctx, 500*time.Millisecond)
	return tx.Commit()
}

// deferredWriter reads and then writes in a transaction that SQLite may refuse for that.
// That is the app's own mistake; the program must not suffer from it.
func deferredWriter(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	for ctx.Err() == nil {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		var n int
		err = tx.QueryRow("SELECT count(*) FROM app").Scan(&n)
		if err == nil {
			_, err = tx.Exec("INSERT INTO app VALUES (?)", n)
		}
		if err == nil {
			tx.Commit()
		} else {
			tx.Rollback()
		}
		wait(ctx, 10*time.Millisecond)
	}
	return nil
}
