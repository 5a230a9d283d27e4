//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint"
)

// A shop is the program under attack: tasks of every kind on one file, or in one database. What they do is
// written into the table effects there, in the transactions of their steps.
type shop struct {
	c      *stint.Client
	pay    *stint.Task[int, int]
	refund *stint.Task[int, int]
	order  *stint.Task[int, int]
	waiter *stint.Task[int, int]
	saga   *stint.Task[int, int]
	graph  *stint.Workflow[int]
	place  string
}

// arrival is the payload of the events.
type arrival struct {
	N int `json:"n"`
}

// limitMax is the number of runs of pay with one key that execute at once.
const limitMax = 4

// openShop opens a place, and makes tables there if they are missing.
func openShop(place string, opts ...stint.ClientOption) (*shop, error) {
	return openShopThrough(place, place, opts...)
}

// openShopThrough is like openShop. The shop reaches its runs through another address of the place.
func openShopThrough(place, through string, opts ...stint.ClientOption) (*shop, error) {
	c, err := openClient(through, append([]stint.ClientOption{stint.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	if err != nil {
		return nil, err
	}
	if err := inDatabase(place, func(db *sql.DB) error { return makeTables(db, onServer(place)) }); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	s := &shop{c: c, place: place}
	s.define()
	return s, nil
}

func (s *shop) define() {
	c := s.c
	s.pay = stint.NewTask(c, "pay", s.doPay, stint.WithRetries(3), stint.WithRetryBackoff(1, 5*time.Millisecond),
		stint.WithConcurrency(stint.Concurrency[int]{Key: func(n int) string { return fmt.Sprint(n % 3) }, Max: limitMax,
			Strategy: stint.StrategyGroupRoundRobin}))
	s.refund = stint.NewTask(c, "refund", func(_ context.Context, n int) (int, error) { return n, nil })
	s.order = stint.NewTask(c, "order", s.doOrder)
	s.saga = stint.NewTask(c, "saga", s.doSaga)
	s.waiter = stint.NewTask(c, "waiter", func(ctx context.Context, n int) (int, error) {
		e, err := stint.WaitForEvent[arrival](ctx, "shop.arrival", stint.WithMatch("n", n))
		return e.N, err
	})
	stint.NewTask(c, "started", func(_ context.Context, e arrival) (int, error) { return e.N, nil }, stint.WithEvents("shop.*"))
	stint.NewTask(c, "ticked", func(context.Context, struct{}) (int, error) { return 1, nil },
		stint.WithCron("@every 1s"), stint.WithCatchUp(stint.CatchUpLatest))
	w := stint.NewWorkflow[int](c, "graph")
	top := stint.AddTask(w, "top", func(_ context.Context, n int) (int, error) { return n, nil })
	left := stint.AddTask(w, "left", func(ctx context.Context, n int) (int, error) {
		if info, _ := stint.Info(ctx); n%3 == 0 && info.Attempt < 2 {
			return 0, errors.New("not yet")
		}
		return s.pay.Run(ctx, n)
	}, stint.WithParents(top), stint.WithRetries(3))
	right := stint.AddTask(w, "right", func(ctx context.Context, n int) (int, error) { return top.Output(ctx) },
		stint.WithParents(top), stint.WithWaitFor(stint.SleepFor(time.Millisecond)))
	stint.AddTask(w, "bottom", func(ctx context.Context, n int) (int, error) {
		r, err := right.Output(ctx)
		return r + n, err
	}, stint.WithParents(left, right))
	s.graph = w
}

// doPay reports, fails now and then, and starts a child.
func (s *shop) doPay(ctx context.Context, n int) (int, error) {
	info, _ := stint.Info(ctx)
	stint.Progress(ctx, int64(n), 100) // neither is worth failing for, on a disk that is full
	stint.Stream(ctx, []byte("x"))
	stint.Logger(ctx).Info("paying", "n", n)
	if n%7 == 0 && info.Attempt < 3 {
		return 0, errors.New("not yet")
	}
	if n%5 == 1 { // it has its share while it waits: the child has no limit, or each could wait for another
		return s.refund.Run(ctx, n)
	}
	return n, nil
}

// doOrder has steps with effects, a sleep, a branch and a child. However often it is cut
// off, each effect happens once, and it returns orderOutput.
func (s *shop) doOrder(ctx context.Context, n int) (int, error) {
	effect := func(ctx context.Context, name string) (int, error) {
		return stint.StepTx(ctx, name, func(ctx context.Context, tx *sql.Tx) (int, error) {
			info, _ := stint.Info(ctx)
			_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO effects VALUES ('%s', '%s')", info.ID, name))
			return n, err
		})
	}
	f := stint.Go(ctx, "branch", func(ctx context.Context) (int, error) {
		if err := stint.Sleep(ctx, 2*time.Millisecond); err != nil {
			return 0, err
		}
		return effect(ctx, "branch")
	})
	sum := 0
	for i := range orderEffects - 1 {
		x, err := effect(ctx, fmt.Sprint("step ", i))
		if err != nil {
			return 0, err
		}
		sum += x
	}
	if _, err := s.pay.Run(ctx, 2); err != nil {
		return 0, err
	}
	x, err := f.Wait(ctx)
	return sum + x, err
}

const orderEffects = 3

// work runs a worker until ctx is done.
func (s *shop) work(ctx context.Context, slots int) error {
	w, err := s.c.NewWorker(stint.WithSlots(slots))
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

var visits atomic.Int64

// visit makes one customer's calls, and reports which were acknowledged. A failed call may have taken effect or not.
func (s *shop) visit(ctx context.Context, i int, say func(what, id string)) error {
	runs, err := s.pay.EnqueueMany(ctx, []int{i, i + 1})
	if err != nil {
		return err
	}
	for _, r := range runs {
		say(enqueued, r.ID())
	}
	if i%11 == 0 {
		runs[0].Cancel(ctx)
	}
	if i%3 == 1 {
		r, err := s.order.Enqueue(ctx, i)
		if err != nil {
			return err
		}
		say(enqueued, r.ID())
	}
	var saga *stint.Run[int]
	if i%5 < 2 {
		if saga, err = s.saga.Enqueue(ctx, i); err != nil {
			return err
		}
		say(enqueued, saga.ID())
	}
	if i%4 == 1 {
		n := int(4*time.Now().UnixMicro() + visits.Add(1)%4) // of this process and visit alone
		r, err := s.waiter.Enqueue(ctx, n)
		if err != nil {
			return err
		}
		say(enqueued, r.ID())
		id, err := s.c.Publish(ctx, "shop.arrival", arrival{n})
		if err != nil {
			return err
		}
		say(published, id)
	}
	if i%4 == 0 {
		r, err := s.graph.Enqueue(ctx, i)
		if err != nil {
			return err
		}
		say(enqueued, r.ID())
	}
	if _, err := runs[1].Wait(ctx); err != nil && !errors.Is(err, stint.ErrCanceled) {
		return err
	}
	say(ended, runs[1].ID())
	if saga != nil { // it is somewhere by now
		return saga.Cancel(ctx)
	}
	return nil
}

// beside runs a shop, with customers who write down what is acknowledged, while f runs. f may start others, which end
// with their context. An error of any of them is an error of beside.
func (r *round) beside(
	ctx context.Context, path string, book *ledger, f func(working context.Context, start func(func() error)) error,
) error {
	s, err := openShop(path)
	if err != nil {
		return err
	}
	working, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var first error
	var once sync.Once
	start := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && working.Err() == nil {
				once.Do(func() { first = err })
			}
		})
	}
	start(func() error { return s.work(working, 8) })
	for g := range 2 {
		start(func() error {
			for i := g; working.Err() == nil; i += 2 {
				if err := s.visit(working, i, book.say); err != nil {
					return fmt.Errorf("a customer: %w", err)
				}
			}
			return nil
		})
	}
	err = f(working, start)
	stop()
	wg.Wait()
	return joinClose(errors.Join(err, first), s)
}
