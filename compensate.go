package stint

import (
	"context"
	"errors"
	"time"
)

// Compensate says how to undo what the run has just done: fn is called if the run fails
// for good or is canceled, the last one given first, each as a step of that name, tried
// again up to five times. A handler that runs again gives it again; it is not recorded
// before it is called.
//
// fn is given a context that the cancel does not end. It may run twice, as a step may.
// Outside of a run Compensate does nothing.
func Compensate(ctx context.Context, name string, fn func(context.Context) error) {
	sc := scopeOf(ctx)
	if sc == nil || fn == nil {
		return
	}
	d := sc.e.durable
	d.mu.Lock()
	defer d.mu.Unlock()
	d.undo = append(d.undo, compensation{name, fn})
}

type compensation struct {
	name string
	fn   func(context.Context) error
}

// undoScope is the scope of compensations. What an attempt recorded there does not
// concern the next one.
const undoScope = "undo"

// compensateRetries is how often a compensation that fails is tried again.
const compensateRetries = 5

// compensate calls what Compensate was given, if the handler's return ends the run and
// not well. The calls are journaled in a scope of their own, so that an execution that
// was cut off goes on where it was.
func (e *execution) compensate(err error) {
	d := e.durable
	if d == nil || len(d.undo) == 0 || !e.endsBadly(err) {
		return
	}
	ctx := context.WithoutCancel(e.ctx)
	sc := d.scope(undoScope)
	for i := len(d.undo) - 1; i >= 0; i-- {
		var cfg stepConfig
		cfg.task.retries, cfg.task.backoff = compensateRetries, backoff{2, time.Minute}
		u := d.undo[i]
		_, uerr := sc.step(ctx, u.name, &cfg, func(ctx context.Context) ([]byte, error) {
			return []byte("null"), guarded(func() error { return u.fn(ctx) }) // the others are called though it ends its goroutine
		})
		if uerr != nil {
			e.w.c.logger().Error("stint: compensation failed", "task", e.run.Task, "run", e.run.ID, "compensation", u.name, "err", e.w.c.logText(uerr))
		}
	}
}

// endsBadly reports whether a handler's return ends the run as failed or canceled.
func (e *execution) endsBadly(err error) bool {
	cause := context.Cause(e.ctx)
	var s *snooze
	switch {
	case errors.Is(cause, ErrCanceled):
		return true
	case errors.Is(cause, ErrShutdown), err == nil && cause == nil, errors.As(err, &s):
		return false
	case errors.Is(cause, ErrTimeout):
		err = timeoutError(e.def.cfg.timeout, err)
	}
	_, again, _ := e.def.cfg.next(e.run.Attempt, err)
	return !again
}
