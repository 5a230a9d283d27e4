package postgres

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/damage"
	"github.com/stint-dev/stint/store/internal/limits"
	"github.com/stint-dev/stint/store/internal/ready"
)

// A claim is one call of Claim. The writer serves it in the first group that has runs for it.
type claim struct {
	store.ClaimRequest
	withdrawn bool          // its caller gave up while it was being served; guarded by writer.mu
	leases    []store.Lease // of the runs that it was given by the last commit
	got       []store.Claimed
	err       error
	once      sync.Once
	done      chan struct{}
	pending   *pendingClaim
}

// A pendingClaim is what a claim gets once its statement was sent, which is committed with it.
type pendingClaim struct {
	choice ready.Choice
	got    *[]claimedRow
	graphs map[int64]*store.Graph // that tasks of workflows among them are of
}

func (c *claim) answer(got []store.Claimed, err error) {
	c.once.Do(func() { c.got, c.err = got, err; close(c.done) })
}

// Claim implements store.Runs.
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) ([]store.Claimed, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.settings.ReadOnly {
		return nil, store.ErrReadOnly
	}
	c := &claim{ClaimRequest: r, done: make(chan struct{})}
	w := s.w
	w.mu.Lock()
	if w.noClaims {
		w.mu.Unlock()
		return nil, store.ErrClosed
	}
	w.claims = append(w.claims, c)
	w.recheck = true
	signal(w.signaled)
	w.mu.Unlock()
	select {
	case <-c.done:
		return c.got, c.err
	case <-ctx.Done():
	}
	w.mu.Lock()
	i := slices.Index(w.claims, c)
	if i >= 0 {
		w.claims = slices.Delete(w.claims, i, i+1)
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

// claimLaneSQL starts the first ready runs of a lane, from a position on; claimSQL those of an array. Those
// that another process is about to start are passed over. claimedSQL reads the runs that executions were
// given.
var (
	claimLaneSQL = `
WITH heads AS (SELECT t.id, t.flags FROM stint.runs t
  WHERE t.lane = $5 AND t.state = 3 AND t.limiter IS NULL AND (t.rank, t.turn, t.id) >= ($6, $7, $8)
  ORDER BY t.rank, t.turn, t.id LIMIT $9 FOR UPDATE SKIP LOCKED)` + claimSet

	claimSQL = `
WITH heads AS (SELECT h.id, h.flags FROM unnest($5::bigint[]) AS u (id) CROSS JOIN LATERAL (
  SELECT t.id, t.flags FROM stint.runs t WHERE t.id = u.id AND t.state = 3 AND t.limiter IS NULL FOR UPDATE SKIP LOCKED) h)` + claimSet

	// The flags before the start tell whether the run is resumed. If $4, no run may have limits.
	claimSet = `
UPDATE stint.runs r SET state = 4, attempt = attempt + 1, executions = executions + 1,
  lease = $1::bigint + (r.limits IS NOT NULL)::integer, worker = $2, started_at = $3, start_by = NULL, flags = r.flags & -5
FROM heads WHERE r.id = heads.id
RETURNING (heads.flags & 4) * ` + assert("NOT $4::boolean OR r.limits IS NULL") + ` <> 0, ` + claimedColumns

	claimedSQL = "SELECT false, " + claimedColumns + " FROM stint.runs r WHERE r.worker = $1 AND r.state = 4 AND r.lease & -2 = ANY ($2)"

	// Tasks have the input and the metadata of their workflow's run.
	claimedColumns = `r.id, r.lane, r.lease, r.priority, r.attempt, r.replayed, r.crashes, coalesce(r.due_at, r.id >> 20), r.started_at,
  r.rank, r.turn, ` + claimedInput + `, ` + claimedMetadata + `, r.parent, r.root, r.node,
  (r.executions > 1 OR r.flags & 8 <> 0) AND EXISTS (SELECT 1 FROM stint.journal j WHERE j.run = r.id), r.cancel_at, r.spent,
  r.limits IS NOT NULL, r.executions, r.ended_at IS NOT NULL`

	claimedInput = `coalesce(r.input, (SELECT data FROM stint.inputs i WHERE i.id = r.id), (
    SELECT coalesce(p.input, (SELECT data FROM stint.inputs i WHERE i.id = p.id)) FROM stint.runs p
    WHERE p.id = r.parent AND r.node IS NOT NULL))`
	claimedMetadata = "CASE WHEN r.node IS NULL THEN r.metadata ELSE (SELECT p.metadata FROM stint.runs p WHERE p.id = r.parent) END"
)

// A claimedRow is what a claim reads of a run that it starts.
type claimedRow struct {
	store.Claimed
	key, lane, lease, due, started, rank, turn, spent int64
	parent, root, node, cancel                        *int64
	resumed, limited                                  bool // resumed: before it was started
	odd                                               bool // it has ended, its row says

	goesOn bool // of a task: its workflow's run is as a flow
	of     flow
}

func (r *claimedRow) position() ready.Position {
	return ready.Position{Rank: r.rank, Turn: r.turn, ID: r.key}
}

// into returns where to scan claimedColumns.
func (r *claimedRow) into() []any {
	return []any{&r.resumed, &r.key, &r.lane, &r.lease, &r.Priority, &r.Attempt, &r.Replayed, &r.Crashes, &r.due, &r.started,
		&r.rank, &r.turn, &r.Input, &r.Metadata, &r.parent, &r.root, &r.node, &r.Journal, &r.cancel, &r.spent, &r.limited,
		&r.Executions, &r.odd}
}

// A serving is the part of a transaction that starts runs for claims.
type serving struct {
	w          *writer
	u          *unit
	b          *pgx.Batch // to be sent
	began      int        // its first statements, which change nothing
	written    bool       // what the group has changed was sent
	careful    bool       // nothing is assumed
	ahead      *ahead
	claimsOnly bool // it holds claims, and nothing else
	lone       bool // the group is sent as one batch, which is a transaction by itself: the server was not told to begin one

	// later says that the commit may reach the disk later than the answer: the group starts runs, and changes nothing else.
	// No caller takes a claim for durable. What follows from it is: whatever a handler commits comes after the claim
	// in the server's log, so the flush of that is one of the claim too. A server that crashes before that has the
	// runs ready as they were, with leases that are never given again, and the process finds out that the server lost
	// its last group before it commits another, as after a failover (failover.go). Runs with limits are not
	// started so, nor suspects: no more of them may execute at once, even then (R4).
	later bool
}

// serveClaims starts ready runs for the claims that wait, in the transaction of s.
func (s *serving) serveClaims(ctx context.Context, claims []*claim) error {
	if len(claims) > 0 && s.w.s.ticks.End() {
		s.w.mu.Lock()
		s.w.next = 0
		s.w.mu.Unlock()
	}
	for _, c := range claims {
		c.got, c.leases, c.pending = nil, nil, nil
		for free := c.Free(); free > 0 && s.w.mayClaim(c.Worker); {
			var err error
			if free, err = s.serve(ctx, c, free, len(claims) == 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// serve starts some runs for a claim whose worker has free slots, and returns how many are still free; 0: the
// claim gets no more.
func (s *serving) serve(ctx context.Context, c *claim, free int, alone bool) (int, error) {
	w, u := s.w, s.u
	v := w.lanes.View(&c.ClaimRequest, w.epoch.peers)
	x, err := ready.Choose(readyRows{w, ctx, u, s.written, s.ahead}, &w.lanes.Set, v, &c.ClaimRequest, free)
	if errors.Is(err, errMiss) { // it reads: what the group has changed must be written before
		lanes, each := v.Lanes(&c.ClaimRequest, free)
		if s.ahead = w.queueAhead(s.b, lanes, each); s.ahead != nil {
			s.began++
		}
		return free, s.write(ctx)
	}
	if err != nil || x.Only == nil && len(x.Runs) == 0 || x.Only != nil && x.Most == 0 {
		return 0, err
	}
	s.later = s.later && !slices.ContainsFunc(x.Lanes(), func(l *ready.Lane) bool { return l.Suspect })
	usual := (alone || x.Only != nil) && s.usual(x) // what others choose does not depend on what this one gets
	tasks, graphs := w.lanes.graphsOf(x)
	got := w.queueClaim(s.b, c, x, u.now, usual, tasks, slices.Collect(maps.Keys(graphs)))
	s.ahead = nil
	if usual {
		c.pending = &pendingClaim{x, got, graphs}
		return 0, nil
	}
	if err := s.write(ctx); err != nil {
		return 0, err
	}
	w.arrived(x, *got)
	changed, err := w.start(ctx, u, *got, c.Worker)
	if err != nil {
		return 0, err
	}
	s.later = s.later && !changed
	if w.give(u, c, *got); len(*got) == 0 {
		if x.Only == nil { // others hold them
			w.claimAgain()
		}
		return 0, nil
	}
	for i := range *got {
		free -= ready.Cost(&c.ClaimRequest, (*got)[i].Task)
	}
	if changed {
		u.flush(s.b)
		s.written = false // it is sent with what follows
		err = w.touch(ctx, u)
	}
	if err != nil || !changed && !w.epoch.limits { // nothing has become ready by that
		return 0, err
	}
	return free, nil
}

// usual reports whether a claim's commit may go with the statement that starts its runs: nothing follows from
// their start. They have no limits, and are of graphs whose tasks are not sticky, as far as is known.
func (s *serving) usual(x ready.Choice) bool {
	for _, l := range x.Lanes() {
		if ofWorkflow(l) && len(s.w.lanes.graphs[l.ID]) == 0 || s.w.lanes.limited[l.ID] {
			return false
		}
	}
	return !s.careful
}

// claimAgainAfter is how long claims wait that chose runs which others hold: others start them, or have locked them
// while they wait for what this transaction has locked, which must end then.
const claimAgainAfter = 2 * time.Millisecond

// claimAgain makes the writer serve claims again, after a moment.
func (w *writer) claimAgain() {
	w.mu.Lock()
	w.again = time.Now().Add(claimAgainAfter)
	w.mu.Unlock()
}

// send sends the batch, and begins another.
func (s *serving) send(ctx context.Context) error {
	if s.lone { // more follows
		b := &pgx.Batch{}
		s.w.begin(b)
		s.began += b.Len()
		b.QueuedQueries = append(b.QueuedQueries, s.b.QueuedQueries...)
		s.b, s.lone = b, false
	}
	if err := s.w.send(ctx, s.b); err != nil {
		return err
	}
	s.u.wrote = s.u.wrote || s.b.Len() > s.began
	s.b, s.began = &pgx.Batch{}, 0
	return nil
}

// write sends what the group has changed, so that the database can be read.
func (s *serving) write(ctx context.Context) error {
	if s.b.Len() > 0 {
		if err := s.send(ctx); err != nil {
			return err
		}
	}
	s.written = true
	s.u.settle()
	return nil
}

// queueClaim queues the statement that starts the chosen runs: some may be tasks of workflows, usually of known graphs. What it
// returns is filled once that was sent.
func (w *writer) queueClaim(b *pgx.Batch, c *claim, x ready.Choice, now int64, usual, tasks bool, graphs []int64) *[]claimedRow {
	lease := newLease()
	c.leases = append(c.leases, lease)
	text, ofTasks, args := claimSQL, claimTasksSQL, []any{int64(lease), c.Worker, now, usual}
	if x.Only != nil {
		from := x.Only.Bound()
		text, ofTasks, args = claimLaneSQL, claimTaskLaneSQL, append(args, x.Only.ID, from.Rank, from.Turn, from.ID, x.Most)
	} else {
		ids := make([]int64, len(x.Runs))
		for i, p := range x.Runs {
			ids[i] = p.ID
		}
		args = append(args, ids)
	}
	if tasks {
		text, args = ofTasks, append(args, graphs)
	}
	got := new([]claimedRow)
	b.Queue(w.s.sql(text), args...).Query(func(rows pgx.Rows) (err error) {
		to := w.spare
		w.spare = nil
		*got, err = collectClaimed(rows, to, tasks)
		return err
	})
	return got
}

// reuse keeps the memory of what a claim has read, which was given, for the next.
func (w *writer) reuse(got []claimedRow) {
	clear(got)
	w.spare = got[:0]
}

// arrived completes what a claim has read, but for tasks of workflows, and learns what it says of lanes.
func (w *writer) arrived(x ready.Choice, got []claimedRow) {
	switch {
	case x.Only != nil && len(got) < x.Most:
		w.lanes.Empty(x.Only)
	case x.Only != nil && len(got) > 0:
		last := ready.Start
		for i := range got {
			if at := got[i].position(); at.Compare(last) > 0 {
				last = at
			}
		}
		w.lanes.Took(x.Only, last)
	case len(got) < len(x.Runs): // another process took some: those that it gives back are to be found
		for _, l := range x.From {
			w.lanes.TouchFrom(l, slices.MinFunc(x.Runs, ready.Position.Compare).Rank)
		}
	}
	slices.SortFunc(got, func(a, b claimedRow) int {
		return ready.CompareStarts(a.position(), a.Crashes, b.position(), b.Crashes)
	})
	for i := range got {
		r := &got[i]
		r.ID, r.Lease = w.s.ids.ID(r.key), store.Lease(r.lease)
		r.Due, r.Started, r.Spent = clock.FromMillis(r.due), clock.FromMillis(r.started), time.Duration(r.spent)*time.Millisecond
		r.Parent, r.Root = w.s.ids.Optional(r.parent), w.s.ids.Optional(r.root)
		if r.cancel != nil {
			r.CancelAt = clock.FromMillis(*r.cancel)
		}
		if l := w.lanes.ByID[r.lane]; l != nil {
			r.Task, r.Queue = l.Task, l.Queue
		}
		if r.limited {
			w.lanes.limited[r.lane] = true
		}
	}
}

// give gives a claim the runs that were started for it.
func (w *writer) give(u *unit, c *claim, got []claimedRow) {
	c.got = slices.Grow(c.got, len(got))
	for i := range got {
		countOf(u.started, got[i].Queue, got[i].Task).Start(got[i].Started.Sub(got[i].Due))
		c.got = append(c.got, got[i].Claimed)
	}
}

// start does what follows from the start of runs, and reports whether that may change rows: tasks of a
// workflow learn what they are, and may make others follow to their worker; runs with limits take what
// they need of their limiters.
func (w *writer) start(ctx context.Context, u *unit, got []claimedRow, worker int64) (changed bool, err error) {
	for i := range got {
		u.runs.forget(got[i].key) // the statement has changed it
		changed = changed || got[i].limited || got[i].node != nil || got[i].odd
	}
	if !changed {
		return false, nil
	}
	return true, u.until(ctx, w.conn, func() error {
		var missed error
		for i := range got {
			if got[i].limited {
				u.runs.ask(got[i].key)
			}
			if got[i].node != nil || got[i].odd {
				missed = cmp.Or(missed, forRun(got[i].key, func() error { return w.startCarefully(u, &got[i], worker) }))
			}
		}
		for i := range got {
			if got[i].limited {
				missed = cmp.Or(missed, u.startLimited(&got[i]))
			}
		}
		if missed != nil {
			return missed
		}
		return u.follow()
	})
}

// startLimited notes that a run with limits has started: they are to follow.
func (u *unit) startLimited(r *claimedRow) error {
	if _, err := u.run(r.key); err != nil {
		return err
	}
	u.runs.change(r.key)
	u.applied[r.key] = limits.State{State: store.Queued, Resumed: r.resumed, Begun: r.Executions > 1}
	return nil
}

// readBack reads what claims were given by a commit whose answer was lost.
func (w *writer) readBack(ctx context.Context, u *unit, claims []*claim) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	if fresh := u.assumed.fresh; len(fresh) > 0 {
		var by int64
		err := w.conn.QueryRow(ctx, w.s.sql("SELECT moved FROM stint.groups WHERE process = $1 AND n = $2"), w.s.direct.process.name, w.n).
			Scan(&by)
		if err != nil {
			return err
		}
		u.moved(fresh, by)
	}
	for _, c := range claims {
		leases := make([]int64, len(c.leases))
		for i, l := range c.leases {
			leases[i] = int64(l)
		}
		rows, err := w.conn.Query(ctx, w.s.sql(claimedSQL), c.Worker, leases)
		if err != nil {
			return err
		}
		got, err := collectClaimed(rows, nil, false)
		if err != nil {
			return err
		}
		c.got = nil
		w.arrived(ready.Choice{}, got)
		for again := true; again; {
			err = u.until(ctx, w.conn, func() (missed error) {
				for i := range got {
					if got[i].node != nil || got[i].odd {
						missed = cmp.Or(missed, forRun(got[i].key, func() error { return w.startCarefully(u, &got[i], c.Worker) }))
					}
				}
				return missed
			})
			got, again = w.withoutDamage(got, err)
		}
		if err != nil && !isDamage(err) {
			return err
		}
		w.give(u, c, got)
	}
	return nil
}

// withoutDamage returns the runs but for the one that an error says is damaged, which quarantineClaimed blocks: its
// claim is committed. It reports whether the error was of one of them.
func (w *writer) withoutDamage(got []claimedRow, err error) (left []claimedRow, some bool) {
	var d *damage.Damage
	if !errors.As(err, &d) {
		return got, false
	}
	left = slices.DeleteFunc(got, func(r claimedRow) bool { return r.key == d.Run })
	w.damaged = append(w.damaged, d)
	return left, true
}

// newLease returns a lease that was never given: at random, so that a server which has lost its last
// commits, as a standby may, does not give one again either. Of a run with limits it gets leaseLimited.
func newLease() store.Lease { return store.Lease(1+rand.Int64N(1<<61)) << 1 }

// leaseLimited is the bit of a lease that says that its run has limits: its end is not a plain one.
const leaseLimited = 1

// ofWorkflow reports whether the runs of a lane are tasks of a workflow, which share a lane (store.Graph.Lane), but
// for those that a worker lacked (store.Graph.TaskName): their input is that of the workflow's run.
func ofWorkflow(l *ready.Lane) bool { return strings.Contains(l.Task, ":") }
