//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint/internal/torture/disk"
)

// A fault is how a disk misbehaves.
type fault struct {
	name     string
	answer   func(disk.Op) disk.Answer
	degrades bool // nothing can be written: the client must say so
}

var diskFaults = []fault{
	{"full", refusing(disk.Full, disk.Write), true},
	{"read-only", refusing(disk.ReadOnly, disk.Write), true},
	{"cannot write", refusing(disk.IOError, disk.Write), true},
	{"cannot sync", refusing(disk.IOError, disk.Sync), true},
	{"one error in ten", func(op disk.Op) disk.Answer {
		if rand.IntN(10) == 0 {
			return disk.IOError
		}
		return disk.OK
	}, false},
	{"slow sync", func(op disk.Op) disk.Answer {
		if op.Kind == disk.Sync {
			time.Sleep(100 * time.Millisecond)
		}
		return disk.OK
	}, false},
}

func refusing(with disk.Answer, kind disk.Kind) func(disk.Op) disk.Answer {
	return func(op disk.Op) disk.Answer {
		if op.Kind == kind {
			return with
		}
		return disk.OK
	}
}

// faulty runs a program on a disk that misbehaves now and then. Its customers retry after errors. Everything that is
// acknowledged is stored, and the client reports that it is degraded, and recovers by itself.
func faulty(ctx context.Context, r *round) error {
	dir := r.dir("faulty")
	path := filepath.Join(dir, "shop.db")
	s, err := openShop(path)
	if err != nil {
		return err
	}
	book := &ledger{}
	working, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var worked error
	wg.Go(func() { worked = s.work(working, 8) })
	for g := range 3 {
		wg.Go(func() {
			for i := g; working.Err() == nil; i += 3 {
				if s.visit(working, i, book.say) != nil {
					wait(working, time.Millisecond)
				}
			}
		})
	}
	_, err = s.refund.Run(ctx, 1) // the worker is there
	for i := range r.count {
		if err != nil {
			break
		}
		if err = r.suffer(ctx, s, dir, diskFaults[i%len(diskFaults)]); err != nil {
			break
		}
		r.faults++
	}
	stop()
	wg.Wait()
	if err = joinClose(err, s); err == nil {
		err = worked
	}
	if err != nil {
		return err
	}
	if err := r.checkAcks(ctx, path, book.acks, ends{}); err != nil {
		return err
	}
	r.note("%d acknowledgements", len(book.acks))
	return r.settled(ctx, path)
}

// suffer makes the disk misbehave for a while, and then waits until all is well.
func (r *round) suffer(ctx context.Context, s *shop, dir string, f fault) error {
	var done atomic.Int64
	stop := disk.Watch(dir, func(op disk.Op) disk.Answer {
		a := f.answer(op)
		if a != disk.OK {
			done.Add(1)
		}
		return a
	})
	said := false
	for until := time.Now().Add(200 * time.Millisecond); time.Now().Before(until) || f.degrades && !said &&
		ctx.Err() == nil && time.Now().Before(until.Add(patience)); {
		said = said || s.c.Healthy() != nil
		wait(ctx, 5*time.Millisecond)
	}
	stop()
	if f.degrades && !said {
		return fmt.Errorf("%s: %d operations were refused, and the client did not say that it is degraded", f.name, done.Load())
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := s.refund.Run(ctx, 1)
		if err == nil && s.c.Healthy() == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: it is over, and nothing goes on: run: %v; healthy: %v", f.name, err, s.c.Healthy())
		}
	}
}
