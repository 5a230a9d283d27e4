//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

// cut runs a program on a database through a wire, which cuts connections before and after messages arrive, delays
// them, and swallows answers: at random in a program that works, and at each message in turn from when a program
// opens the database. Nothing acknowledged is lost, nothing is done twice, and a call that failed has done nothing.
func cut(ctx context.Context, r *round) error {
	place, drop, err := newDatabase()
	if err != nil {
		return err
	}
	defer drop()
	w, err := newWire(place)
	if err != nil {
		return err
	}
	defer w.close()
	s, err := openShopThrough(place, w.place)
	if err != nil {
		return err
	}
	book, count := &ledger{}, &counted{}
	err = s.whileWorking(ctx, book, count, func(ctx context.Context) error {
		for i := range r.count {
			var err error
			if i%2 == 0 {
				err = r.cutAtRandom(ctx, w)
			} else {
				err = r.cutAt(ctx, place, 1+i/2, book)
			}
			if err != nil {
				return err
			}
			r.faults++
		}
		return s.goesOn(ctx)
	})
	return r.closeAndCheck(ctx, place, s, book, count, err)
}

// whileWorking runs a shop whose customers try again after errors, while f runs.
func (s *shop) whileWorking(ctx context.Context, book *ledger, count *counted, f func(context.Context) error) error {
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
				count.enqueue(working, s)
			}
		})
	}
	err := f(ctx)
	stop()
	wg.Wait()
	return errors.Join(err, worked)
}

// goesOn returns when a program works again, or an error if it does not.
func (s *shop) goesOn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := s.refund.Run(ctx, 1)
		if err == nil && s.c.Healthy() == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("it is over, and nothing goes on: run: %v; healthy: %v", err, s.c.Healthy())
		}
		wait(ctx, time.Millisecond)
	}
}

// cutAtRandom makes something bad happen at a random message of a working program.
func (r *round) cutAtRandom(ctx context.Context, w *wire) error {
	f := &wireFault{only: counting(r.rng.IntN(3)), at: 1 + r.rng.IntN(50), does: harm(r.rng.IntN(int(harms))),
		hold: time.Duration(r.rng.IntN(200)) * time.Millisecond}
	if r.rng.IntN(10) == 0 {
		f.hold = 1500 * time.Millisecond // longer than a program waits for a transaction that was cut off
	}
	w.next(f)
	select {
	case <-f.done:
	case <-time.After(patience):
		return fmt.Errorf("the program sent nothing for %v", patience)
	case <-ctx.Done():
		return fmt.Errorf("the program sent nothing more: %w", ctx.Err())
	}
	return nil
}

// cutAt opens the database with another program, and makes something bad happen at its nth message.
func (r *round) cutAt(ctx context.Context, place string, n int, book *ledger) error {
	w, err := newWire(place)
	if err != nil {
		return err
	}
	defer w.close()
	f := &wireFault{at: n, does: harm(n % int(harms)), hold: 20 * time.Millisecond}
	w.next(f)
	s, err := openShopThrough(place, w.place)
	if err != nil {
		select {
		case <-f.done: // it was refused for that
			return nil
		case <-time.After(patience):
			return err
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
	working, stop := context.WithCancel(ctx)
	worked := make(chan error, 1)
	go func() { worked <- s.work(working, 2) }()
	for i := 0; ctx.Err() == nil; i++ {
		if s.visit(ctx, i, book.say) == nil {
			break
		}
	}
	err = s.goesOn(ctx)
	stop()
	return joinClose(errors.Join(err, <-worked), s)
}

// counted are enqueues of which each is told from all others.
type counted struct {
	mu     sync.Mutex
	n      int
	failed int
	said   map[int]bool // whether the call said that it enqueued
}

const firstCounted = 1 << 40

// enqueue enqueues a run.
func (c *counted) enqueue(ctx context.Context, s *shop) {
	c.mu.Lock()
	n := firstCounted + c.n
	c.n++
	c.mu.Unlock()
	_, err := s.refund.Enqueue(ctx, n)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.said == nil {
		c.said = map[int]bool{}
	}
	c.said[n] = err == nil
	if err != nil {
		c.failed++
	}
}

// check compares what the calls said with what is there.
func (c *counted) check(place string, v *verdict) error {
	there := map[int]int{}
	err := inDatabase(place, func(db *sql.DB) error {
		return rowsOf(db, fmt.Sprintf("SELECT input FROM stint_runs_view WHERE task = 'refund' AND input >= %d", firstCounted),
			func(scan func(...any) error) error {
				var n int
				err := scan(&n)
				there[n]++
				return err
			})
	})
	for n, said := range c.said {
		switch times := there[n]; {
		case said && times == 0:
			v.add(&v.Lost, 1, "run %d was acknowledged", n)
		case times > 1:
			v.add(&v.Doubled, 1, "run %d was enqueued %d times", n, times)
		case !said && times > 0:
			v.add(&v.Doubled, 1, "run %d was enqueued, and the call failed", n)
		}
	}
	return err
}
