package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// xids are apps' transactions that have changed something and are open, as far as is known. An app's
// commit notifies nobody, so the store asks the server whether they are done.
type xids struct {
	s        *Store
	signaled chan struct{} // capacity 1
	done     chan struct{}
	stop     context.CancelFunc

	mu   sync.Mutex
	open map[int64]*told // by transaction ID
}

const (
	xidsEvery = 3 * time.Millisecond
	// xidsFor is the time in which a transaction is asked for often. Then the writer's own look finds what it did.
	xidsFor = 5 * time.Second
)

func newXids(s *Store) *xids {
	ctx, stop := context.WithCancel(context.Background())
	x := &xids{s: s, signaled: make(chan struct{}, 1), done: make(chan struct{}), stop: stop, open: map[int64]*told{}}
	go x.run(ctx)
	return x
}

func (x *xids) add(xid int64, t *told) {
	x.mu.Lock()
	x.open[xid] = t
	x.mu.Unlock()
	signal(x.signaled)
}

func (x *xids) run(ctx context.Context) {
	defer close(x.done)
	for {
		select {
		case <-x.signaled:
		case <-ctx.Done():
			return
		}
		for began := time.Now(); x.ask(ctx) && time.Since(began) < xidsFor; {
			select {
			case <-time.After(xidsEvery):
			case <-ctx.Done():
				return
			}
		}
	}
}

// ask asks which transactions are done, and reports whether some are not.
func (x *xids) ask(ctx context.Context) bool {
	x.mu.Lock()
	ids := make([]int64, 0, len(x.open))
	for id := range x.open {
		ids = append(ids, id)
	}
	x.mu.Unlock()
	if len(ids) == 0 {
		return false
	}
	x.s.view(ctx, func(c *pgx.Conn) error { // an error: it is asked again
		rows, err := c.Query(ctx, "SELECT id, pg_xact_status(id::text::xid8) FROM unnest($1::bigint[]) AS u (id)", ids)
		if err != nil {
			return err
		}
		var id int64
		var status string
		_, err = pgx.ForEachRow(rows, []any{&id, &status}, func() error {
			if status != "in progress" {
				x.over(id, status == "committed")
			}
			return nil
		})
		return err
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.open) > 0
}

// over does what follows from the end of a transaction.
func (x *xids) over(id int64, committed bool) {
	x.mu.Lock()
	t := x.open[id]
	delete(x.open, id)
	x.mu.Unlock()
	if t != nil && committed {
		x.s.notifier.add(t)
		x.s.w.committedElsewhere(t)
		signal(x.s.pending.signaled)
	}
}

func (x *xids) close() {
	x.stop()
	<-x.done
}
