package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/damage"
	"github.com/stint-dev/stint/store/internal/reading"
	"github.com/stint-dev/stint/store/internal/ready"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// A claim is one call of Claim. The writer serves it in the first transaction that has runs for it.
type claim struct {
	store.ClaimRequest
	withdrawn bool // its caller gave up while it was being served; guarded by writer.mu
	got       []store.Claimed
	err       error
	once      sync.Once
	done      chan struct{}
}

// claims are the waiting claims.
type claims struct {
	*unit
	passive
	recheck bool        // runs may be ready for them
	read    []claimable // room for the next claim

	// Guarded by writer.mu.
	waiting []*claim // oldest first
	arrived bool     // one is new
	unseen  bool     // one came since the writer looked
}

func (cs *claims) rolledBack() { cs.recheck = true }
func (cs *claims) outdated()   { cs.recheck = true }

func (c *claim) answer(got []store.Claimed, err error) {
	c.once.Do(func() { c.got, c.err = got, err; close(c.done) })
}

// Claim implements store.Runs.
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) ([]store.Claimed, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.opts.ReadOnly {
		return nil, store.ErrReadOnly
	}
	c := &claim{ClaimRequest: r, done: make(chan struct{})}
	w := s.w
	w.mu.Lock()
	if err := s.hasMoved(); err != nil || w.closed {
		w.mu.Unlock()
		return nil, cmp.Or(err, store.ErrClosed)
	}
	w.claims.waiting = append(w.claims.waiting, c)
	w.claims.arrived, w.claims.unseen = true, true
	w.mu.Unlock()
	w.noteClaim()
	select {
	case <-c.done:
		return c.got, c.err
	case <-ctx.Done():
	}
	w.mu.Lock()
	i := slices.Index(w.claims.waiting, c)
	if i >= 0 {
		w.claims.waiting = slices.Delete(w.claims.waiting, i, i+1)
	}
	c.withdrawn = true
	w.mu.Unlock()
	if i >= 0 {
		return nil, ctx.Err()
	}
	<-c.done // it is being served, and its runs are ours
	if len(c.got) == 0 && c.err == nil {
		return nil, ctx.Err()
	}
	return c.got, c.err
}

// noteClaim signals the writer's goroutine about a claim that has just arrived, unless that has nothing to find, and so waits for the
// next transaction. Most claims of a worker that is not busy come like that, after the one that took what there was.
func (w *writer) noteClaim() {
	if !w.turn.TryLock() {
		return // endTurn sees to it
	}
	w.endTurn(w.claimsMayFind())
}

// claimsMayFind reports whether a transaction may have runs for the waiting claims. The caller holds turn.
//
// While no other store has the file open, and memory knows of no ready run, only a transaction of this store changes that, and it serves
// claims: a new claim need not look. If another has just opened the file, poll notices it, and what it has committed, as for claims that
// have waited.
func (w *writer) claimsMayFind() bool {
	w.mu.Lock()
	waiting := len(w.claims.waiting) > 0
	w.claims.unseen = false
	may := waiting && w.claims.recheck
	if !waiting || may || !w.claims.arrived {
		w.mu.Unlock()
		return may
	}
	w.claims.arrived = false
	new := slices.Clone(w.claims.waiting)
	w.mu.Unlock()
	ls := w.lanes
	if w.sole && ls.loaded && !ls.stale && !slices.ContainsFunc(new, func(c *claim) bool { return ls.MayFind(&c.ClaimRequest) }) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.claims.arrived = len(w.claims.waiting) > 0
	return w.claims.arrived
}

// serveClaims gives ready runs to the waiting claims, and returns the claims that got some.
func (w *writer) serveClaims(u *unit) ([]*claim, error) {
	w.mu.Lock()
	waiting := w.claims.waiting
	w.claims.waiting = nil // until they are back, none can be withdrawn
	w.claims.recheck, w.claims.arrived, w.claims.unseen = false, false, false
	w.mu.Unlock()
	if len(waiting) > 0 {
		u.timers.catchUp()
	}
	var served, left []*claim
	var err error
	for _, c := range waiting {
		if err == nil {
			err = damage.Guard(func() (err error) { // a panic would lose the claims
				c.got, err = u.claims.fillClaim(c)
				return err
			})
		}
		if err == nil && len(c.got) > 0 {
			served = append(served, c)
		} else {
			left = append(left, c)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		left, served = waiting, nil
		w.claims.recheck = true
	}
	w.requeueClaims(left)
	return served, err
}

// returnClaims makes claims wait again whose transaction was not committed.
func (w *writer) returnClaims(claims []*claim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range claims {
		c.got = nil
	}
	w.claims.recheck = true
	w.requeueClaims(claims)
}

// requeueClaims makes claims that got nothing wait again, before those that came since. The caller
// holds mu.
func (w *writer) requeueClaims(claims []*claim) {
	for _, c := range claims {
		if c.withdrawn {
			c.answer(nil, nil)
		}
	}
	claims = slices.DeleteFunc(claims, func(c *claim) bool { return c.withdrawn })
	w.claims.waiting = append(claims, w.claims.waiting...)
	if w.closed {
		for _, c := range w.claims.waiting {
			c.answer(nil, store.ErrClosed)
		}
		w.claims.waiting = nil
	}
}

// claimLaneSQL reads the first runs of a lane, claimSQL those of a JSON array of keys, as they are once startSQL has
// started them.
const (
	claimColumns = `
SELECT id, lane, lease + 1, priority, attempt + 1, replayed, crashes, ` + dueTime + `, rank, turn,
  CASE WHEN input IS NOT NULL THEN input WHEN node IS NULL THEN (SELECT data FROM stint_inputs i WHERE i.id = stint_runs.id) END,
  metadata, parent, root, node,
  (lease > 0 OR flags & 8) AND EXISTS (SELECT 1 FROM stint_journal j WHERE j.run = stint_runs.id), cancel_at, spent
FROM stint_runs WHERE `

	claimLaneSQL = claimColumns + "lane = ? AND " + stateQueued + " AND limiter IS NULL ORDER BY rank, turn, id LIMIT ?"
	claimSQL     = claimColumns + "id IN (SELECT value FROM json_each(?)) AND " + stateQueued

	startSet = "UPDATE OR FAIL stint_runs SET " + stateRunning + ", attempt = attempt + 1, lease = lease + 1, worker = ?1, " +
		"started_at = ?2, start_by = NULL, flags = flags & -5 "
	startSQL = startSet + "WHERE id = ?3 AND " + stateQueued
)

// fillClaim starts up to Free runs for one claim, in order. After each start other runs with the same
// limits may be ready.
func (cs *claims) fillClaim(c *claim) (all []store.Claimed, err error) {
	for n := c.Free(); n > 0; {
		got, err := cs.claimReady(c, n)
		if all == nil {
			all = got
		} else {
			all = append(all, got...)
		}
		if err != nil || len(got) == 0 {
			return all, err
		}
		if used, err := cs.limiters.usesLimits(); !used || err != nil {
			return all, err
		}
		if err := cs.limiters.reconcile(); err != nil {
			return all, err
		}
		for i := range got {
			n -= ready.Cost(&c.ClaimRequest, got[i].Task)
		}
	}
	return all, nil
}

func (cs *claims) claimReady(c *claim, n int) ([]store.Claimed, error) {
	if err := cs.lanes.touchNoted(); err != nil {
		return nil, err
	}
	idle, err := cs.workers.pausedWorkers()
	if err != nil || idle[c.Worker] {
		return nil, err
	}
	x, err := cs.choose(&c.ClaimRequest, n)
	switch {
	case err != nil:
		return nil, err
	case x.Only != nil:
		return cs.claimLane(c, x.Only, x.Most)
	case len(x.Runs) == 0:
		return nil, nil
	}
	ids := make([]int64, len(x.Runs))
	for i, p := range x.Runs {
		ids[i] = p.ID
	}
	return cs.start(c.Worker, claimSQL, reading.JSONKeys(ids))
}

// claimLane starts up to n runs of the only lane with ready runs.
func (cs *claims) claimLane(c *claim, l *ready.Lane, n int) ([]store.Claimed, error) {
	if n == 0 {
		return nil, nil
	}
	cs.lanes.headsRead++
	got, err := cs.start(c.Worker, claimLaneSQL, l.ID, n)
	if err == nil && len(got) < n {
		cs.lanes.Empty(l)
	}
	return got, err
}

// pausedWorkers returns the workers that are paused.
func (ws *workers) pausedWorkers() (map[int64]bool, error) {
	if ws.lanes.pausedWorkers != nil {
		return ws.lanes.pausedWorkers, nil
	}
	ids, err := column[int64](ws, "SELECT id FROM stint_workers WHERE paused = 1 AND ended_at IS NULL")
	if err != nil {
		return nil, err
	}
	idle := map[int64]bool{}
	for _, id := range ids {
		idle[id] = true
	}
	ws.lanes.pausedWorkers = idle
	return idle, nil
}

// A claimable is a run that a claim may start.
type claimable struct {
	store.Claimed
	key, rank, turn, due, lane int64
	lease                      int64
	spent                      int64
	parent, root, node, cancel *int64
	started                    bool // together with others
}

// claimables returns the runs that a statement reads, in order: a suspect is last, and alone. They are valid until the next call.
func (cs *claims) claimables(text string, args ...any) (got []claimable, err error) {
	rows, err := cs.Query(text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	got = cs.read[:0]
	for rows.Next() {
		got = append(got, claimable{})
		r := &got[len(got)-1]
		if err := rows.Scan(&r.key, &r.lane, &r.lease, &r.Priority, &r.Attempt, &r.Replayed, &r.Crashes, &r.due, &r.rank, &r.turn,
			&r.Input, &r.Metadata,
			&r.parent, &r.root, &r.node, &r.Journal, &r.cancel, &r.spent); err != nil {
			return nil, &damage.Damage{Run: r.key, Err: err}
		}
	}
	slices.SortFunc(got, func(a, b claimable) int {
		return ready.CompareStarts(ready.Position{Rank: a.rank, Turn: a.turn, ID: a.key}, a.Crashes,
			ready.Position{Rank: b.rank, Turn: b.turn, ID: b.key}, b.Crashes)
	})
	return got, rows.Err()
}

// maxRead is the number of claimables for which room is kept.
const maxRead = 1000

// keepRoom keeps the room of claimables, but not what they refer to.
func (cs *claims) keepRoom(got []claimable) {
	if clear(got); cap(got) <= maxRead {
		cs.read = got
	}
}

// start starts the runs that a statement reads, and returns them in order.
func (cs *claims) start(worker int64, text string, args ...any) ([]store.Claimed, error) {
	got, err := cs.claimables(text, args...)
	if err != nil {
		return nil, err
	}
	defer cs.keepRoom(got)
	if err := cs.startTogether(worker, got); err != nil {
		return nil, err
	}
	claimed := make([]store.Claimed, 0, len(got))
	for i := range got {
		r := &got[i]
		if !r.started {
			if n, err := cs.execN(startSQL, worker, cs.now, r.key); err != nil {
				return nil, err
			} else if n == 0 {
				continue // the index of ready runs is damaged
			}
		}
		l, err := cs.lanes.laneByID(r.lane)
		if err == nil && l == nil {
			err = &damage.Damage{Run: r.key, Err: fmt.Errorf("lane %d is not there", r.lane)}
		}
		if err != nil {
			return nil, err
		}
		r.ID, r.Task, r.Queue, r.Lease, r.Executions = cs.s.ids.ID(r.key), l.Task, l.Queue, store.Lease(r.lease), int(r.lease)
		r.Due, r.Started, r.CancelAt, r.Spent = millis(r.due), millis(cs.now), optionalTime(r.cancel),
			time.Duration(r.spent)*time.Millisecond
		r.Parent, r.Root = cs.s.ids.Optional(r.parent), cs.s.ids.Optional(r.root)
		if r.node != nil {
			err := forRun(r.key, func() error { return cs.workflows.startTask(&r.Claimed, *r.parent, *r.node, worker) })
			if err != nil {
				return nil, err
			}
		}
		cs.counters.Of(r.Queue, r.Task).Start(r.Started.Sub(r.Due))
		claimed = append(claimed, r.Claimed)
	}
	return claimed, nil
}

// startTask completes the Claimed of a workflow's task.
func (ws *workflows) startTask(c *store.Claimed, parent, node, worker int64) error {
	info, err := ws.workflowInfo(parent)
	if err != nil {
		return err
	}
	c.Input, c.Metadata = slices.Clone(info.input), slices.Clone(info.metadata)
	return workflow.Start(ws, c, parent, node, worker)
}

// A watch signals the calls of Watch for one worker.
type watch struct {
	signaled chan struct{} // capacity 1
	closed   chan struct{}
	once     sync.Once
	lost     bool                  // the worker was taken for dead; guarded by writer.mu
	notified map[int64]store.Lease // runs whose cancel was returned, with the lease that it concerned
}

func (x *watch) signal() { signal(x.signaled) }

func (x *watch) close() { x.once.Do(func() { close(x.closed) }) }

// Watch implements store.Workers.
func (s *Store) Watch(ctx context.Context, worker int64) (store.Signals, error) {
	if s.opts.ReadOnly {
		return store.Signals{}, store.ErrReadOnly
	}
	x := s.w.watchOf(worker)
	if x == nil {
		return store.Signals{}, store.ErrClosed
	}
	for {
		select {
		case <-x.signaled:
		case <-x.closed:
			return store.Signals{}, store.ErrClosed
		case <-ctx.Done():
			return store.Signals{}, ctx.Err()
		}
		sig, err := s.signals(ctx, worker, x)
		if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
			x.signal() // nothing was returned yet
		}
		if sig.Lost = err == nil && s.w.takeLost(x); err != nil || len(sig.Cancel) > 0 || sig.Lost {
			return sig, err
		}
	}
}

// watchOf returns the watch of a worker, or nil if the store is closed.
func (w *writer) watchOf(worker int64) *watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	x := w.watch[worker]
	if x == nil {
		x = &watch{signaled: make(chan struct{}, 1), closed: make(chan struct{}), notified: map[int64]store.Lease{}}
		x.signal()
		w.watch[worker] = x
	}
	return x
}

func (s *Store) signals(ctx context.Context, worker int64, x *watch) (sig store.Signals, err error) {
	err = s.view(ctx, func(q querier) error {
		runs, err := reading.AskedToCancel(q, worker)
		if err != nil {
			return err
		}
		told := map[int64]store.Lease{}
		for _, c := range runs {
			if x.notified[c.Key] != c.Lease { // a replayed run is returned again
				sig.Cancel = append(sig.Cancel, store.Execution{ID: s.ids.ID(c.Key), Lease: c.Lease})
			}
			told[c.Key] = c.Lease
		}
		x.notified = told
		return nil
	})
	return sig, err
}

// claimedRuns counts the runs of claims.
func claimedRuns(claims []*claim) (n int) {
	for _, c := range claims {
		n += len(c.got)
	}
	return n
}
