package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/store"
)

// enqueueDurably stores runs. Inside a handler that is a durable call: the runs and its
// record are one commit, and a handler that runs again finds the runs it began.
func (c *Client) enqueueDurably(ctx context.Context, now time.Time, tx store.Tx, runs []store.NewRun) ([]store.Enqueued, error) {
	if tx != nil || c.localExecution(ctx) == nil || ctx.Value(stepKey{}) != nil {
		return c.enqueue(ctx, now, tx, runs)
	}
	return enqueueChildren(ctx, c, now, runs)
}

func enqueueChildren(ctx context.Context, c *Client, now time.Time, runs []store.NewRun) ([]store.Enqueued, error) {
	sc, err := enter(ctx, store.EntryChild, runs[0].Task)
	if err != nil {
		return nil, err
	}
	defer sc.leave()
	e, recorded, err := sc.next(store.EntryChild, runs[0].Task)
	if err != nil {
		return nil, err
	}
	if recorded {
		got, err := sc.recordedRuns(&e, len(runs))
		if err == nil {
			err = sc.rerunFailed(ctx, e.Address, got)
		}
		return got, err
	}
	if err := sc.refuseNew(ctx); err != nil {
		return nil, err
	}
	e.Done = true
	runs[0].Call = &store.Call{ID: sc.e.run.ID, Lease: sc.e.run.Lease, Entry: e}
	var got []store.Enqueued
	err = c.retryWhileDegraded(ctx, func() (err error) {
		got, err = c.enqueue(ctx, now, nil, runs)
		return err
	})
	if errors.Is(err, store.ErrStale) {
		sc.e.durable.diverge(err)
		runtime.Goexit()
	}
	sc.advanceTo(now.Truncate(time.Millisecond)) // as it is stored
	return got, err
}

// recordedRuns are the runs that a recorded call began.
func (sc *scope) recordedRuns(e *store.Entry, n int) ([]store.Enqueued, error) {
	var ids []string
	if err := json.Unmarshal(e.Value, &ids); err != nil {
		return nil, errorf("stint: the journal's runs of task %q: %w", e.Name, err)
	}
	if len(ids) != n {
		said := func(n int) string { return fmt.Sprintf("child %q, %d runs of it", e.Name, n) }
		sc.diverge(&journal.Divergence{At: journal.Address(e.Address), Recorded: said(len(ids)), Asked: said(n)})
	}
	got := make([]store.Enqueued, n)
	for i, id := range ids {
		u, err := parseID(id)
		if err != nil {
			return nil, err
		}
		got[i] = store.Enqueued{ID: u}
	}
	return got, nil
}

// waitRun waits for a run's end. It is recorded with that run.
func (sc *scope) waitRun(ctx context.Context, id store.ID) error {
	if !sc.busy.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: Wait while another durable call of this branch is under way: use Go for what runs beside", ErrDurable)
	}
	defer sc.leave()
	if panicking() {
		return refusedInPanic("wait for run", id.String())
	}
	for {
		r, err := sc.e.c.store.Get(context.WithoutCancel(ctx), id)
		if err != nil {
			return wrapStoreErr("wait", err)
		}
		over := r.State.Terminal()
		if !over || sc.e.afterInterrupt(r.Ended) || sc.canceledWith(r) {
			sc.awaitInterrupt()
			over = over && !sc.noNewCalls(ctx)
		}
		if over {
			sc.advanceTo(r.Ended)
			return nil
		}
		if err := sc.wait(ctx, waitSpec{child: id}); err != nil {
			return err
		}
	}
}

// canceledWith reports whether a child was canceled with the run: who waits for it is told of
// that, and not that its child failed.
func (sc *scope) canceledWith(child *store.Run) bool {
	if child.State != store.Canceled {
		return false
	}
	e := sc.e
	if e.interruptedAt.Load() == 0 && e.replay == nil { // the signal may be on its way
		own, err := e.c.store.Get(context.Background(), e.run.ID)
		if err == nil && own.Executions == int(e.run.Lease) && !own.CancelAt.IsZero() {
			e.interrupt(ErrCanceled, cancelGrace)
		}
	}
	cut := e.interruptedAt.Load()
	return cut != 0 && child.Ended.UnixMilli() >= cut && errors.Is(e.interruptCause(), ErrCanceled)
}

// failureNote is the scope of the note that a handler has met the failure of a child. If
// that ends the attempt the note is forgotten; else the handler has dealt with it, and it
// stays what it is.
func failureNote(id store.ID) string { return "failed:" + id.String() }

// recordNote records something for later passes, once.
func (sc *scope) recordNote(ctx context.Context, scope string) error {
	d := sc.e.durable
	if d.unwinding() {
		runtime.Goexit()
	}
	d.mu.Lock()
	known := d.notes[scope]
	d.notes[scope] = true
	d.mu.Unlock()
	if known {
		return nil
	}
	_, err := sc.append(ctx, store.Entry{Address: store.Address{Scope: scope, Seq: 1}, Kind: store.EntryNote, Done: true, Value: []byte("true")})
	return err
}

// seenChildError is the failure of a child, which the handler has waited for.
func (sc *scope) seenChildError(ctx context.Context, id store.ID, failed error) error {
	scope := failureNote(id)
	if err := sc.recordNote(ctx, scope); err != nil {
		return err
	}
	return sc.seenError(store.Address{Scope: scope, Seq: 1}, failed)
}

// rerunFailed queues those runs of a call for a new attempt that failed, or were canceled, in an
// earlier attempt of the handler, which did not deal with it. The others stay.
func (sc *scope) rerunFailed(ctx context.Context, at store.Address, runs []store.Enqueued) error {
	if sc.e.replay != nil {
		return nil
	}
	n, since, err := sc.e.failedAttempts(ctx)
	if err != nil || n == 0 {
		return err
	}
	d, noted := sc.e.durable, fmt.Sprintf("again:%d:%v", n, journal.Address(at))
	var ids []store.ID
	d.mu.Lock()
	for _, r := range runs {
		if !d.notes[failureNote(r.ID)] {
			ids = append(ids, r.ID)
		}
	}
	known := d.notes[noted]
	d.mu.Unlock()
	if known || len(ids) == 0 {
		return nil
	}
	again, err := sc.failedChildren(ctx, ids, since)
	if err != nil {
		return err
	}
	if len(again) > 0 {
		s, failed := sc.e.c.store, []store.State{store.Failed, store.Canceled}
		if _, err := s.Replay(context.WithoutCancel(ctx), time.Now(), store.Filter{IDs: again, States: failed}); err != nil {
			return wrapStoreErr("run children anew", err)
		}
	}
	return sc.recordNote(ctx, noted)
}

// failedChildren lists those of the runs that failed by a time, or were canceled by it. One
// that still cleans up after that is waited for: it cannot run anew before it has ended.
func (sc *scope) failedChildren(ctx context.Context, ids []store.ID, since time.Time) (failed []store.ID, err error) {
	var cleaning []store.ID
	states := []store.State{store.Scheduled, store.Queued, store.Running, store.Waiting, store.Failed, store.Canceled}
	f := store.Filter{IDs: ids, States: states}
	for before := (store.ID{}); ; {
		page, next, err := sc.e.c.store.List(context.WithoutCancel(ctx), f, before, maxPage)
		if err != nil {
			return nil, wrapStoreErr("children of an earlier attempt", err)
		}
		for i := range page {
			r := &page[i]
			canceled := !r.CancelAt.IsZero() && !r.CancelAt.After(since)
			switch {
			case !r.State.Terminal() && canceled:
				cleaning = append(cleaning, r.ID)
			case r.State.Terminal() && (canceled || !r.Ended.After(since)):
				failed = append(failed, r.ID)
			}
		}
		if before = next; next == (store.ID{}) {
			break
		}
	}
	for _, id := range cleaning {
		if err := sc.awaitEnd(ctx, id); err != nil {
			return nil, err
		}
	}
	return append(failed, cleaning...), nil
}

// awaitEnd waits until a run has ended.
func (sc *scope) awaitEnd(ctx context.Context, id store.ID) error {
	for {
		r, err := sc.e.c.store.Get(context.WithoutCancel(ctx), id)
		if errors.Is(err, store.ErrNotFound) || err == nil && r.State.Terminal() {
			return nil
		}
		if err == nil {
			err = sc.wait(ctx, waitSpec{child: id})
		}
		if err != nil {
			return err
		}
	}
}

// failedAttempts counts the attempts of the run that failed, or were replayed, and says when
// the last of them ended. It is read once.
func (e *execution) failedAttempts(ctx context.Context) (n int, since time.Time, err error) {
	e.loadMu.Lock()
	defer e.loadMu.Unlock()
	if e.earlierEnds == nil {
		r, err := e.c.store.Get(context.WithoutCancel(ctx), e.run.ID)
		if err != nil {
			return 0, since, wrapStoreErr("earlier attempts", err)
		}
		e.earlierEnds = []time.Time{}
		for _, a := range r.Attempts {
			if a.To.Terminal() || a.Error != nil && a.To != store.Blocked {
				e.earlierEnds = append(e.earlierEnds, a.Ended)
			}
		}
	}
	if n = len(e.earlierEnds); n > 0 {
		since = e.earlierEnds[n-1]
	}
	return n, since, nil
}
