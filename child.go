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
	if tx != nil || c.executionHere(ctx) == nil || ctx.Value(stepKey{}) != nil {
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
	e, recorded, err := sc.ask(store.EntryChild, runs[0].Task)
	if err != nil {
		return nil, err
	}
	if recorded {
		return sc.begun(&e, len(runs))
	}
	if err := sc.refused(ctx); err != nil {
		return nil, err
	}
	e.Done = true
	runs[0].Call = &store.Call{ID: sc.e.run.ID, Lease: sc.e.run.Lease, Entry: e}
	var got []store.Enqueued
	err = c.insist(ctx, func() (err error) {
		got, err = c.enqueue(ctx, now, nil, runs)
		return err
	})
	if errors.Is(err, store.ErrStale) {
		sc.e.durable.diverge(err)
		runtime.Goexit()
	}
	sc.passed(now.Truncate(time.Millisecond)) // as it is stored
	return got, err
}

// begun are the runs that a recorded call began.
func (sc *scope) begun(e *store.Entry, n int) ([]store.Enqueued, error) {
	var ids []string
	if err := json.Unmarshal(e.Value, &ids); err != nil {
		return nil, fmt.Errorf("stint: the journal's runs of task %q: %w", e.Name, err)
	}
	if len(ids) != n {
		said := func(n int) string { return fmt.Sprintf("child %q, %d runs of it", e.Name, n) }
		sc.differs(&journal.Divergence{At: journal.Address(e.Address), Recorded: said(len(ids)), Asked: said(n)})
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
		r, err := sc.e.w.c.store.Get(context.WithoutCancel(ctx), id)
		if err != nil {
			return public("wait", err)
		}
		over := r.State.Terminal()
		if !over || sc.e.cutSince(r.Ended) {
			sc.e.cut()
			over = over && ctx.Err() == nil
		}
		if over {
			sc.passed(r.Ended)
			return nil
		}
		if err := sc.wait(ctx, waited{child: id}); err != nil {
			return err
		}
	}
}
