package stint

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/stint-dev/stint/store"
)

// post posts the outcome, unless one was posted before.
func (e *execution) post(o store.Outcome, err error) {
	e.storeMu.Lock()
	defer e.storeMu.Unlock()
	e.flushExcess()
	e.mu.Lock()
	if e.posted {
		e.mu.Unlock()
		return
	}
	e.posted = true
	e.dropLogs(store.MaxLogs, portion) // nothing, unless a line came just now
	o.Record = e.takeRecord()
	e.mu.Unlock()
	if o.To == store.Failed {
		e.c.live.Report(e.run.ID, e.run.Lease, original(err))
	}
	e.w.post(outcome{Outcome: o, e: e})
}

// An outcome is posted by an execution and committed by the worker's finishLoop.
type outcome struct {
	store.Outcome
	e        *execution
	refusals int // by the store
}

// post appends an outcome to the outbox.
func (w *Worker) post(o outcome) {
	w.mu.Lock()
	w.outbox = append(w.outbox, o)
	w.mu.Unlock()
	signal(w.posted)
}

// finishLoop commits the outcomes in the outbox, many at a time, until ctx is done and none is
// left. It repeats a commit until the store can write it (R2).
func (w *Worker) finishLoop(ctx context.Context) {
	var refused []outcome
	var retry <-chan time.Time
	for {
		if batch := w.nextOutcomes(); len(batch) > 0 {
			refused = append(refused, w.commitOutcomes(ctx, batch)...)
			w.reuseOutbox(batch)
			if len(refused) > 0 && retry == nil {
				retry = time.After(retryStore)
			}
			continue
		}
		select {
		case <-w.posted:
			runtime.Gosched() // handlers that are about to end do so first, and their outcomes are of the same commit
		case <-retry:
			w.mu.Lock()
			w.outbox = append(w.outbox, refused...)
			w.mu.Unlock()
			refused, retry = nil, nil
		case <-ctx.Done():
			if w.outboxLen() == 0 {
				return
			}
		}
	}
}

func (w *Worker) outboxLen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.outbox)
}

// commitOutcomes commits a batch, and returns the outcomes that the store refuses. One of a batch that is refused may
// be the reason: then each is committed by itself, so that the others do not wait for it.
func (w *Worker) commitOutcomes(ctx context.Context, batch []outcome) (refused []outcome) {
	err := w.tryOutcomes(ctx, batch)
	if err == nil {
		return nil
	}
	for i := range batch {
		o := &batch[i]
		if len(batch) > 1 {
			err = w.tryOutcomes(ctx, batch[i:i+1])
		}
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return nil // drained: Unregister, or the next start, queues them again
		}
		if err != nil && !w.replaceRefused(ctx, o, err) {
			refused = append(refused, *o)
		}
	}
	return refused
}

// tryOutcomes commits outcomes. It repeats that while the store cannot write, until ctx is done.
func (w *Worker) tryOutcomes(ctx context.Context, batch []outcome) error {
	outcomes := make([]store.Outcome, len(batch))
	for i := range batch {
		outcomes[i] = batch[i].Outcome
	}
	for {
		stale, err := w.c.store.Finish(context.Background(), w.c.now(), outcomes)
		if err == nil {
			for i, s := range stale {
				batch[i].e.report(s)
				if s {
					w.c.logger().Warn("stint: late outcome refused", "task", batch[i].e.run.Task, "run", batch[i].ID, "attempt",
						batch[i].e.run.Attempt)
				}
			}
			return nil
		}
		if !w.c.unavailable(err) && !errors.Is(err, store.ErrMoved) {
			return err
		}
		w.c.logger().Error("stint: recording outcomes; will retry", "err", err, "outcomes", len(batch), "in", retryStore)
		if !pause(ctx, retryStore) {
			return err
		}
	}
}

// maxRefusals is how often the store may refuse an outcome before the attempt fails of it: what it refuses once may
// pass, such as a right that somebody has taken away by mistake.
const maxRefusals = 5

// replaceRefused makes the attempt of an outcome that the store has refused too often fail, if the store takes that:
// then what the handler returned or reported is at fault.
func (w *Worker) replaceRefused(ctx context.Context, o *outcome, err error) (replaced bool) {
	e := o.e
	o.refusals++
	w.c.logger().Error("stint: an outcome is refused; will retry", "err", err, "task", e.run.Task, "run", e.run.ID, "attempt",
		e.run.Attempt, "in", retryStore)
	if o.refusals < maxRefusals || e.def == nil || o.To == store.Canceled {
		return false
	}
	failed, _ := e.failedOutcome(e.newOutcome(store.Failed), errorf("the outcome cannot be stored: %w", err))
	return w.tryOutcomes(ctx, []outcome{{Outcome: failed, e: e}}) == nil
}

// report tells who asked with Recorded that the outcome was stored, or refused.
func (e *execution) report(stale bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.recorded == nil {
		return
	}
	var err error
	if stale {
		err = errLost
	}
	e.recorded <- err // an execution posts one outcome
}

// nextOutcomes returns the outcomes of the next commit: all, unless they carry many log lines.
func (w *Worker) nextOutcomes() []outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := 0, 0
	for ; n < len(w.outbox) && size < 4*portion; n++ {
		for i := range w.outbox[n].Record.Logs {
			size += logSize(&w.outbox[n].Record.Logs[i])
		}
	}
	if n == 0 {
		return nil
	}
	batch, rest := w.outbox[:n:n], w.outbox[n:]
	if len(rest) == 0 {
		batch, rest, w.spare = w.outbox, w.spare, nil
	}
	w.outbox = rest
	return batch
}

// reuseOutbox makes a committed batch the next outbox: outcomes are large.
func (w *Worker) reuseOutbox(batch []outcome) {
	clear(batch) // frees what the outcomes refer to
	w.mu.Lock()
	defer w.mu.Unlock()
	if cap(batch) <= maxSpare {
		w.spare = batch[:0]
	}
}
