//go:build unix

package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/torture/disk"
)

// power records what a busy program writes, builds images that a disk may hold after a cut
// of its power at any point, and checks each: at DurabilityFull nothing acknowledged is
// missing; at DurabilityNormal what is missing is the end of the history, not its middle.
func power(ctx context.Context, r *round) error {
	for _, normal := range []bool{false, true} {
		dir := r.dir("power")
		path := filepath.Join(dir, "shop.db")
		rec := disk.Record(dir)
		book := &ledger{at: rec.Len}
		err := busyFor(ctx, path, book, r.scaled(400*time.Millisecond, 2*time.Second), normal)
		ops := rec.Stop()
		if err != nil {
			return err
		}
		d, images := disk.NewDisk(), r.count/2
		for i := range images {
			d.Forward(ops, len(ops)*(i+1)/images)
			if err := r.image(ctx, d, len(ops)*(i+1)/images, book.acks, normal); err != nil {
				return err
			}
		}
		r.note("%d operations on the disk, %d acknowledgements", len(ops), len(book.acks))
	}
	return nil
}

// leastAcks is the minimum of acknowledgements in a recording, also on a busy machine.
const leastAcks = 20

// busyFor lets customers come and go for a time, and until they have heard of something,
// while the log is written back into the file again and again.
func busyFor(ctx context.Context, path string, book *ledger, d time.Duration, normal bool) error {
	opts := []stint.ClientOption{}
	if normal {
		opts = append(opts, stint.WithDurability(stint.DurabilityNormal))
	}
	s, err := openShop(path, opts...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		for wait(ctx, d); ctx.Err() == nil && len(book.so()) < leastAcks; {
			wait(ctx, time.Millisecond)
		}
	})
	for g := range 3 {
		wg.Go(func() {
			for i := g; ctx.Err() == nil && s.visit(ctx, i, book.say) == nil; i += 3 {
			}
		})
	}
	modes := []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}
	wg.Go(func() {
		inDatabase(path, func(db *sql.DB) error {
			for i := 0; ctx.Err() == nil; i++ {
				db.ExecContext(ctx, fmt.Sprintf("PRAGMA wal_checkpoint(%s)", modes[i%len(modes)]))
				wait(ctx, 20*time.Millisecond)
			}
			return nil
		})
	})
	err = s.work(ctx, 8)
	wg.Wait()
	return joinClose(err, s)
}

// image checks one of the images that a disk may hold after so many operations.
func (r *round) image(ctx context.Context, d *disk.Disk, cut int, acks []ack, normal bool) error {
	dir := r.dir("image")
	defer os.RemoveAll(dir)
	if err := d.Image(dir, r.rng); err != nil {
		return err
	}
	path := filepath.Join(dir, "shop.db")
	var promised []ack
	for _, a := range acks {
		if a.at <= cut && !normal {
			promised = append(promised, a)
		}
	}
	r.faults++
	if len(promised) == 0 && !whole(path) { // not even a schema yet
		return nil
	}
	v, err := check(ctx, path, promised, ends{})
	if err == nil && normal {
		err = prefix(path, acks, &v)
	}
	if err == nil {
		var w verdict
		w, _, err = drain(ctx, path)
		v.join(w)
	}
	r.verdict.join(v)
	if err != nil {
		err = fmt.Errorf("image at %d: %w", cut, err)
	}
	return err
}

// whole reports whether the file has a schema.
func whole(path string) (ok bool) {
	inDatabase(path, func(db *sql.DB) error {
		return db.QueryRow("SELECT count(*) = 2 FROM sqlite_schema WHERE name IN ('stint_runs', 'effects')").Scan(&ok)
	})
	return ok
}

// prefix checks that of the runs of each customer, which came one after another, none is
// there whose forerunner is missing. Keys are given in order.
func prefix(path string, acks []ack, v *verdict) error {
	return inDatabase(path, func(db *sql.DB) error {
		var last int64
		if err := db.QueryRow("SELECT coalesce(max(id), 0) FROM stint_runs").Scan(&last); err != nil {
			return err
		}
		for _, a := range acks {
			key, err := keyOf(a.id)
			if err != nil || a.what != enqueued || key > last {
				continue
			}
			var n int
			if err := db.QueryRow("SELECT count(*) FROM stint_runs WHERE id = ?", key).Scan(&n); err != nil {
				return err
			}
			v.add(&v.Lost, 1-n, "run %s is missing, and one that came later is there", a.id)
		}
		return nil
	})
}
