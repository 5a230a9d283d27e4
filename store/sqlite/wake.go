package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/stint-dev/stint/store"
)

// How often the file is looked at for commits of others. Alone on the file, only so
// often that a newcomer's presence is soon seen.
const (
	pollAlone      = 200 * time.Millisecond
	pollBackoffMax = 10 * time.Minute // where time is not the world's
	pollShared     = 10 * time.Millisecond
	pollBusy       = time.Millisecond // another has committed not long ago, and claims wait
	busyFor        = 50 * time.Millisecond
	pollPending    = 2 * time.Millisecond // an app's transaction holds an enqueue of ours
	fastFor        = 2 * time.Second
	presencesEvery = 100 * time.Millisecond // for stores that came or died
	perTimers      = 500                    // due runs a commit
)

// sleep is how long the goroutine may sleep if nobody pokes it.
func (w *writer) sleep(now time.Time) time.Duration {
	d := w.pollEvery(now) - now.Sub(w.polled)
	if due := min(w.nextDue, w.counters.due()); due != never {
		d = min(d, time.UnixMilli(due).Sub(now))
	}
	return max(d, 0)
}

func (w *writer) pollEvery(now time.Time) time.Duration {
	w.mu.Lock()
	fast, waits := now.Before(w.fast), len(w.claims) > 0
	w.mu.Unlock()
	switch {
	case w.s.path == Memory:
		return time.Hour
	case w.shared && waits && now.Sub(w.lastForeignCommit) < busyFor:
		return pollBusy
	case fast:
		return pollPending
	case w.shared:
		return pollShared
	}
	return max(pollAlone, w.pollBackoff)
}

// adaptPolling has looks grow apart where time runs much faster than the world's, as it does in
// a testing/synctest bubble: hardly anybody comes in between, and a month has millions.
func (w *writer) adaptPolling(now time.Time) {
	world := worldTime()
	passed, ours := world-w.world, now.Sub(w.polled)
	w.world = world
	if passed < 0 || passed > ours/16 {
		w.pollBackoff = 0
	} else {
		w.pollBackoff = min(max(2*w.pollBackoff, 2*pollAlone), pollBackoffMax)
	}
}

// poll looks whether others came, died or committed, if it is time to.
func (w *writer) poll() {
	now := time.Now()
	if now.Sub(w.polled) < w.pollEvery(now) {
		return
	}
	if w.s.path == Memory {
		w.polled = now
		return
	}
	w.adaptPolling(now)
	w.polled = now
	if err := w.s.at.check(); err != nil || w.misplaced {
		w.misplaced = err != nil
		w.setHealth(err)
		if err != nil {
			return
		}
	}
	if now.Sub(w.presencesChecked) >= presencesEvery {
		w.presencesChecked = now
		w.checkPresences()
	}
	if err := w.refresh(); err != nil && !isBusy(err) {
		w.setHealth(err)
	}
}

// checkPresences finds out who else has the file open, and has them know that this process
// lives, should they have been led to think that it is dead.
func (w *writer) checkPresences() {
	company, removed := w.s.presence.scan()
	if w.shared = company; company {
		select {
		case w.s.presencesChanged <- struct{}{}:
		default:
		}
	}
	if removed {
		if err := w.s.presence.renew(); err != nil {
			w.setHealth(err)
			return
		}
		w.presumedDead = true
	}
	if w.presumedDead {
		w.revive()
	}
}

// revive has the rows say that this process's workers live. What it executed has gone to
// others by then, and comes back refused; but what its workers claim from now on must be
// seen to if it does die.
func (w *writer) revive() {
	w.push(&op{done: make(chan struct{}), apply: func(t *txn) error {
		t.committed = append(t.committed, func() { w.presumedDead = false })
		w.peers = nil
		for _, id := range w.watched() {
			if err := t.exec("UPDATE stint_workers SET ended_at = NULL WHERE id = ? AND lock = ?", id, w.s.presence.name); err != nil {
				return err
			}
		}
		return nil
	}})
}

// watched are the workers of this store that have not been unregistered.
func (w *writer) watched() (ids []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, x := range w.watch {
		select {
		case <-x.closed:
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

// lastKeySQL reads the highest key ever given: AUTOINCREMENT remembers deleted ones too.
const lastKeySQL = "SELECT coalesce((SELECT max(seq, coalesce((SELECT max(id) FROM stint_events), 0)) FROM sqlite_sequence WHERE name = 'stint_runs'), (SELECT max(id) FROM stint_events), 0)"

// refresh finds out whether another connection has committed since the last look, and
// if so forgets what this one knew.
func (w *writer) refresh() error {
	var v int64
	if err := w.one("PRAGMA data_version", nil, &v); err != nil {
		return err
	}
	if v == w.version {
		return nil
	}
	first := w.version == -1
	w.version = v
	if err := w.one(lastKeySQL, nil, &w.lastKey); err != nil {
		w.version = -2
		return err
	}
	w.lanes.stale = true
	w.limiters.forget()
	w.triggers.forget()
	w.peers = nil
	w.nextDue = 0 // unknown: the next transaction finds out
	w.recheck = true
	if !first {
		w.lastForeignCommit = w.polled
		w.changes.add(1)
		w.notifyAll()
	}
	return nil
}

// notifyAll has everyone who waits look again: what they wait for may have come in
// another process's commit.
func (w *writer) notifyAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.awaits {
		for a := range m {
			a.signal()
		}
	}
	for _, x := range w.watch {
		x.signal()
	}
}

// notify wakes those who wait for what t did.
func (w *writer) notify(t *txn) {
	if len(t.ended)+len(t.chunks)+len(t.cancels) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range t.ended {
		for a := range w.awaits[e.key] {
			a.end(e.result, nil)
		}
	}
	for _, id := range t.chunks {
		for a := range w.awaits[id] {
			a.signal()
		}
	}
	for _, c := range t.cancels {
		if x := w.watch[c.worker]; x != nil {
			x.signal()
		}
	}
}

// fireTimers moves what has become due, and cancels what was not started in time. It finds
// the next such time, unless another look at it is needed at once.
func (t *txn) fireTimers() error {
	if t.w.nextDue > t.now {
		return nil
	}
	if err := t.queueDue(); err != nil {
		return err
	}
	if err := t.cancelOverdue(); err != nil {
		return err
	}
	if err := t.tick(); err != nil {
		return err
	}
	type row struct {
		id    int64
		begun bool
	}
	waiting, err := rowsOf(t, func(r *row) []any { return []any{&r.id, &r.begun} },
		"SELECT id, lease > 0 FROM stint_runs WHERE state = 5 AND due_at IS NOT NULL AND due_at <= ? ORDER BY due_at LIMIT ?", t.now, perTimers)
	if err != nil {
		return err
	}
	for _, r := range waiting {
		move := t.reconsider // a task of a workflow, before its start
		if r.begun {
			move = t.resume // its handler waits
		}
		if err := t.forRun(r.id, func() error { return move(r.id, t.now) }); err != nil {
			return err
		}
	}
	next, err := t.nextTime()
	if err != nil {
		return err
	}
	var pending bool
	if err := t.one("SELECT EXISTS (SELECT 1 FROM stint_events WHERE pending = 1)", nil, &pending); err != nil {
		return err
	}
	if pending {
		t.committed = append(t.committed, t.s.publisher.signal)
	}
	t.committed = append(t.committed, func() { t.w.nextDue = next })
	return nil
}

// queueDue queues what has become due, and begins the workflows among it.
func (t *txn) queueDue() error {
	type row struct {
		id    int64
		flags int
		node  *int64
	}
	rows, err := readying(t, func(r *row) int64 { return r.id }, func(r *row) []any { return []any{&r.id, &r.flags, &r.node} }, `UPDATE stint_runs SET state = CASE WHEN flags & 2 AND limits IS NULL THEN 2 ELSE 3 END WHERE id IN
		(SELECT id FROM stint_runs WHERE state = 2 AND due_at <= ? ORDER BY due_at LIMIT ?) RETURNING id, flags * (state = 2), node`, t.now, perTimers)
	if err != nil {
		return err
	}
	for _, r := range rows {
		t.w.recheck = true
		if r.flags&flagWorkflow == 0 {
			continue
		}
		if err := t.exec("UPDATE stint_runs SET state = 4, worker = 0, started_at = ?2 WHERE id = ?1", r.id, t.now); err != nil {
			return err
		}
		if err := t.forRun(r.id, func() error { return t.beginWorkflow(r.id, *r.node, t.now) }); err != nil {
			return err
		}
	}
	return nil
}

// cancelOverdue cancels what was not started in time, and workflows that have not ended.
func (t *txn) cancelOverdue() error {
	type row struct {
		id           int64
		flags        int
		parent, node *int64
	}
	rows, err := rowsOf(t, func(r *row) []any { return []any{&r.id, &r.flags, &r.parent, &r.node} },
		"SELECT id, flags, parent, node FROM stint_runs WHERE start_by IS NOT NULL AND start_by <= ? ORDER BY start_by LIMIT ?", t.now, perTimers)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.flags&flagWorkflow != 0 {
			if err := t.exec("UPDATE stint_runs SET start_by = NULL WHERE id = ?", r.id); err != nil {
				return err
			}
			err := t.forRun(r.id, func() error {
				_, err := t.cancel(r.id, t.now, store.EndByError)
				return err
			})
			if err != nil {
				return err
			}
			continue
		}
		n, err := t.execN("UPDATE stint_runs SET state = 9, ended_at = ?2, error = ?3, start_by = NULL WHERE id = ?1 AND start_by IS NOT NULL", r.id, t.now, store.StartByError)
		if err != nil {
			return err
		}
		if t.end(r.id, n); n > 0 {
			if err := t.forRun(r.id, func() error { return t.advance(r.parent, r.node, store.Canceled, t.now) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextTime is when wake has work again.
func (t *txn) nextTime() (int64, error) {
	next := never
	for _, q := range []string{
		"SELECT due_at FROM stint_runs WHERE state = 2 AND due_at IS NOT NULL ORDER BY due_at LIMIT 1",
		"SELECT start_by FROM stint_runs WHERE start_by IS NOT NULL ORDER BY start_by LIMIT 1",
		"SELECT due_at FROM stint_runs WHERE state = 5 AND due_at IS NOT NULL ORDER BY due_at LIMIT 1",
		"SELECT wake_at FROM stint_limiters WHERE wake_at IS NOT NULL ORDER BY wake_at LIMIT 1",
		"SELECT next_at FROM stint_crons WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1",
	} {
		var at int64
		switch err := t.one(q, nil, &at); {
		case err == nil:
			next = min(next, at)
		case !errors.Is(err, sql.ErrNoRows):
			return 0, err
		}
	}
	return next, nil
}

// pollFast has the file looked at often for a while: an app's transaction with our rows
// in it is going to commit.
func (w *writer) pollFast() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fast = time.Now().Add(fastFor)
	w.signal()
}

// An await is one call of Await.
type await struct {
	signaled chan struct{} // capacity 1: look again
	ended    chan struct{} // closed: the run ended, or err
	once     sync.Once
	result   *store.Result // nil: not known
	err      error
}

func (a *await) signal() {
	select {
	case a.signaled <- struct{}{}:
	default:
	}
}

func (a *await) end(r *store.Result, err error) {
	a.once.Do(func() { a.result, a.err = r, err; close(a.ended) })
}

// Await implements store.Runs.
func (s *Store) Await(ctx context.Context, id store.ID, afterChunk int64) (r store.Result, err error) {
	end, err := s.await(ctx, id, func(q querier, key int64) (done bool, err error) {
		r = store.Result{}
		err = q.one("SELECT state, flags & 2 > 0, CASE WHEN state = 7 THEN output END FROM stint_runs WHERE id = ?", []any{key}, &r.State, &r.Workflow, &r.Output)
		if errors.Is(err, sql.ErrNoRows) {
			return true, nil
		}
		if err != nil || r.State.Terminal() || afterChunk < 0 {
			return r.State.Terminal(), err
		}
		err = q.one("SELECT EXISTS (SELECT 1 FROM stint_chunks WHERE run = ? AND seq > ?)", []any{key, afterChunk}, &done)
		return done, err
	})
	if end != nil {
		r = *end
	}
	return r, err
}

// await returns when look is satisfied, at once or after something happened to the run.
// If the run ended meanwhile, and the writer knows what it came to, it returns that.
func (s *Store) await(ctx context.Context, id store.ID, look func(q querier, key int64) (bool, error)) (*store.Result, error) {
	key, ok := s.ids.key(id)
	if !ok {
		return nil, nil
	}
	a := &await{signaled: make(chan struct{}, 1), ended: make(chan struct{})}
	if !s.w.addAwait(key, a) {
		return nil, store.ErrClosed
	}
	defer s.w.dropAwait(key, a)
	for over := false; ; {
		done := false
		err := s.view(ctx, func(q querier) (err error) {
			done, err = look(q, key)
			return err
		})
		if done || over || err != nil {
			return nil, err
		}
		select {
		case <-a.signaled:
		case <-a.ended:
			if a.err != nil || a.result != nil {
				return a.result, a.err
			}
			over = true // look at what it came to
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (w *writer) addAwait(key int64, a *await) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	if w.awaits[key] == nil {
		w.awaits[key] = map[*await]struct{}{}
	}
	w.awaits[key][a] = struct{}{}
	return true
}

func (w *writer) dropAwait(key int64, a *await) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.awaits[key], a)
	if len(w.awaits[key]) == 0 {
		delete(w.awaits, key)
	}
}
