package postgres

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
)

const (
	gatherAfter = 2   // reads that are under way at once, of a kind
	gatherMost  = 100 // calls that one of them serves
)

// A gatherer reads something of runs for callers who come at once: a call that finds gatherAfter reads under way waits, and those
// that wait are read together. A hundred callers that each wait for their run would else be a hundred statements, which cost the
// server and the program more than all else that their runs need. A call that finds fewer reads at once, and by itself.
//
// What a call returns was read after the call came, as if it had read by itself.
type gatherer[V any] struct {
	read func(ctx context.Context, keys []int64) (map[int64]V, error)
	life context.Context // of reads for several callers: it ends when the store closes

	mu     sync.Mutex
	under  int // reads that are under way
	queued []*gathered[V]
	closed bool
	wg     sync.WaitGroup // of reads for several callers
}

// A gathered call waits to be read with others.
type gathered[V any] struct {
	key   int64
	done  chan struct{} // closed: the rest is set
	found map[int64]V
	err   error
}

// get reads what is known of a run; ok is false if there is no such run.
func (g *gatherer[V]) get(ctx context.Context, key int64) (v V, ok bool, err error) {
	g.mu.Lock()
	if g.closed || g.under < gatherAfter {
		g.under++
		g.mu.Unlock()
		defer g.next()
		return g.alone(ctx, key)
	}
	c := &gathered[V]{key: key, done: make(chan struct{})}
	g.queued = append(g.queued, c)
	g.mu.Unlock()
	select {
	case <-c.done:
	case <-ctx.Done():
		return v, false, ctx.Err()
	}
	if c.err != nil { // it may be the fault of another run
		return g.alone(ctx, key)
	}
	v, ok = c.found[key]
	return v, ok, nil
}

func (g *gatherer[V]) alone(ctx context.Context, key int64) (v V, ok bool, err error) {
	all, err := g.read(ctx, []int64{key})
	v, ok = all[key]
	return v, ok, err
}

// next ends a read, and begins that of the calls which have come meanwhile.
func (g *gatherer[V]) next() {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.queued), gatherMost)
	if n == 0 || g.closed {
		g.under--
		return
	}
	group := g.queued[:n:n]
	g.queued = g.queued[n:]
	g.wg.Go(func() { g.serve(group) })
}

// shut waits for the reads for several callers. A call that still waits reads by itself, and is told that the store is closed.
func (g *gatherer[V]) shut() {
	g.mu.Lock()
	g.closed = true
	queued := g.queued
	g.queued = nil
	g.mu.Unlock()
	for _, c := range queued {
		c.err = context.Canceled
		close(c.done)
	}
	g.wg.Wait()
}

func (g *gatherer[V]) serve(group []*gathered[V]) {
	defer g.next()
	keys := make([]int64, len(group))
	for i, c := range group {
		keys[i] = c.key
	}
	found, err := g.read(g.life, keys)
	for _, c := range group {
		c.found, c.err = found, err
		close(c.done)
	}
}

// gatherers are what is read for callers together.
type gatherers struct {
	ends  gatherer[store.Result]
	flows gatherer[reading.Flow]
	end   context.CancelFunc
}

// close ends the reads for several callers, and waits for them.
func (g *gatherers) close() {
	g.end()
	g.ends.shut()
	g.flows.shut()
}

func newGatherers(s *Store) *gatherers {
	life, end := context.WithCancel(context.Background())
	return &gatherers{gatherer[store.Result]{read: s.readResults, life: life}, gatherer[reading.Flow]{read: s.readFlows, life: life}, end}
}

// resultsSQL reads the states of runs, with what Await returns of those that have ended.
const resultsSQL = "SELECT id, state, flags & 2 <> 0, CASE WHEN state = 7 THEN output END FROM stint.runs WHERE id = ANY ($1)"

func (s *Store) readResults(ctx context.Context, keys []int64) (all map[int64]store.Result, err error) {
	err = s.view(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, s.sql(resultsSQL), keys)
		if err != nil {
			return err
		}
		all = make(map[int64]store.Result, len(keys))
		var key int64
		var state int16
		var workflow bool
		var output []byte
		_, err = pgx.ForEachRow(rows, []any{&key, &state, &workflow, &output}, func() error {
			all[key] = store.Result{State: store.State(state), Workflow: workflow, Output: output}
			return nil
		})
		return err
	})
	return all, err
}

func (s *Store) readFlows(ctx context.Context, keys []int64) (all map[int64]reading.Flow, err error) {
	err = s.view(ctx, func(c *pgx.Conn) (err error) {
		if len(keys) > 1 {
			all, err = s.reader().Flows(reader{ctx, s, c}, keys)
			return err
		}
		// With an array of one the server takes longer: a lone Wait was half as fast.
		g, tasks, err := s.reader().Workflow(reader{ctx, s, c}, s.ids.ID(keys[0]), nil)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		all = map[int64]reading.Flow{keys[0]: {Graph: g, Tasks: tasks}}
		return err
	})
	return all, err
}
