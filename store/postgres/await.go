package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/store"
)

// An await is one call of Await.
type await struct {
	until    store.Until
	signaled chan struct{} // capacity 1: read again
	ended    chan struct{} // closed: the run ended, or err
	once     sync.Once
	result   *store.Result // nil: not known
	err      error
}

func (a *await) end(r *store.Result, err error) {
	a.once.Do(func() { a.result, a.err = r, err; close(a.ended) })
}

// awaits are the calls of Await that wait, by run.
type awaits struct {
	mu     sync.Mutex
	closed bool
	byRun  map[int64]map[*await]struct{}
}

func (x *awaits) add(run int64, a *await) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	if x.byRun == nil {
		x.byRun = map[int64]map[*await]struct{}{}
	}
	if x.byRun[run] == nil {
		x.byRun[run] = map[*await]struct{}{}
	}
	x.byRun[run][a] = struct{}{}
	return true
}

func (x *awaits) drop(run int64, a *await) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byRun[run], a)
	if len(x.byRun[run]) == 0 {
		delete(x.byRun, run)
	}
}

// tell ends the calls for runs that have ended, and makes others read again.
func (x *awaits) tell(t *told) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range t.ended {
		for a := range x.byRun[e.run] {
			a.end(e.result, nil)
		}
	}
	x.changedLocked(t.chunks)
}

// changedLocked makes the calls read again that wait for more than an end of runs which have new chunks or entries. A
// run of many steps would else be read with each of them by all who wait for its end.
func (x *awaits) changedLocked(runs []int64) {
	for _, run := range runs {
		for a := range x.byRun[run] {
			if a.until != (store.Until{}) {
				signal(a.signaled)
			}
		}
	}
}

// changed makes the calls read again that wait for more than an end of some runs.
func (x *awaits) changed(runs []int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.changedLocked(runs)
}

// signal makes the calls for some runs read again.
func (x *awaits) signal(runs []int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, run := range runs {
		for a := range x.byRun[run] {
			signal(a.signaled)
		}
	}
}

// look makes the calls read again that wait for more than an end, and returns the runs of the others.
func (x *awaits) look() (runs []int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for run, all := range x.byRun {
		ends := false
		for a := range all {
			if a.until == (store.Until{}) {
				ends = true
			} else {
				signal(a.signaled)
			}
		}
		if ends {
			runs = append(runs, run)
		}
	}
	return runs
}

func (x *awaits) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	for _, all := range x.byRun {
		for a := range all {
			a.end(nil, store.ErrClosed)
		}
	}
}

// A looker looks for the ends of all runs that are waited for, when it is not known which have ended. Ten thousand
// callers that each asked for their run would be as many queries.
type looker struct {
	s        *Store
	signaled chan struct{} // capacity 1
	done     chan struct{}
	stop     context.CancelFunc
}

// lookPart is the part of the time that the looker uses at most.
const lookPart = 10

func newLooker(s *Store) *looker {
	ctx, stop := context.WithCancel(context.Background())
	l := &looker{s: s, signaled: make(chan struct{}, 1), done: make(chan struct{}), stop: stop}
	go l.run(ctx)
	return l
}

func (l *looker) run(ctx context.Context) {
	defer close(l.done)
	every := lookEvery // a notice may be lost
	if l.s.settings.bubble {
		every = pollMax // the writer polls, and signals
	}
	for {
		select {
		case <-l.signaled:
		case <-time.After(every):
		case <-ctx.Done():
			return
		}
		began := time.Now()
		l.s.lookForEnds(ctx)
		if !l.s.settings.bubble {
			pause.For(ctx, max(notifyEvery, lookPart*time.Since(began)))
		}
	}
}

// endedSQL selects those of some runs that have ended, or were deleted.
const endedSQL = "SELECT u.id FROM unnest($1::bigint[]) AS u (id) " +
	"WHERE NOT EXISTS (SELECT 1 FROM stint.runs r WHERE r.id = u.id AND r.state < 7)"

// lookForEnds makes the calls read again whose runs have ended.
func (s *Store) lookForEnds(ctx context.Context) {
	runs := s.awaits.look()
	if len(runs) == 0 {
		return
	}
	var ended []int64
	err := s.view(ctx, func(c *pgx.Conn) (err error) {
		rows, err := c.Query(ctx, s.sql(endedSQL), runs)
		if err == nil {
			ended, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		return err
	})
	if err == nil { // else it is looked for again
		s.awaits.signal(ended)
	}
}

func (l *looker) close() {
	l.stop()
	<-l.done
}
