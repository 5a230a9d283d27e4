package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/store"
)

// What follows is for code that drives a run for a program elsewhere, such as a gateway: it begins calls
// one after another, has many of them open, and does not block in any. Handlers in Go have no need of it.

// StartWait begins what WaitFor does, and returns once the wait is recorded. The future ends when
// the condition is true, or with ErrTimeout. A run may end before its waits do. Future.Wait and
// Any take such futures from several branches as they take branches.
func StartWait(ctx context.Context, cond Condition, opts ...WaitOption) (*Future[Fired], error) {
	return withWait(ctx, "StartWait", &cond, opts, func(sc *scope, e *store.Entry) (*Future[Fired], error) {
		if !e.Done && !e.Due.IsZero() && !sc.e.c.now().Before(e.Due) { // it came while the run was not in memory
			stored, err := sc.append(ctx, *e)
			if err != nil {
				return nil, err
			}
			*e = stored
		}
		return &Future[Fired]{f: sc.openWait(*e), decode: (*scope).fired}, nil
	})
}

// openWait returns the future of a wait that is recorded.
func (sc *scope) openWait(e store.Entry) *future {
	d := sc.e.durable
	f := &future{sc: sc, entry: e, isWait: true, ended: make(chan struct{})}
	if e.Done {
		f.done, f.err = true, sc.errorOf(&e)
		close(f.ended)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.openWaits == nil {
		d.openWaits = map[*future]struct{}{}
	}
	d.openWaits[f] = struct{}{}
	if e.Done {
		return f
	}
	if sc.e.replay != nil || d.unwinding() {
		return f
	}
	if d.waitCtx == nil {
		d.waitCtx, d.stopWaits = context.WithCancel(context.WithoutCancel(sc.e.ctx))
	}
	ctx := d.waitCtx
	d.waiters.Go(func() { f.followWait(ctx, e) })
	return f
}

// followWait ends the future of a wait when the wait is over, until ctx is done.
func (f *future) followWait(ctx context.Context, e store.Entry) {
	sc := f.sc
	for !e.Done {
		got, err := sc.awaitChange(ctx, &e)
		if ctx.Err() != nil {
			return
		}
		if err != nil || got == nil { // its time has come, or it is not known why it ended
			stored, stale, err := sc.record(ctx, e)
			if err != nil || stale { // the next durable call finds out
				return
			}
			got = &stored
		}
		e = *got
		d := sc.e.durable
		d.mu.Lock()
		f.entry = e
		if e.Done {
			f.endWaitLocked(e)
		}
		d.mu.Unlock()
	}
}

// awaitChange waits until the entry of a wait is done or due at another time. It returns nil
// when the time has come at which it is due.
func (sc *scope) awaitChange(ctx context.Context, e *store.Entry) (*store.Entry, error) {
	if !e.Due.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.Due.Sub(sc.e.c.now()))
		defer cancel()
	}
	got, err := sc.e.c.store.Await(ctx, sc.e.run.ID, store.Until{Entry: e.Address, Due: e.Due})
	return got.Entry, err
}

func (f *future) endWaitLocked(e store.Entry) {
	d := f.sc.e.durable
	f.entry, f.done, f.err = e, true, f.sc.errorOf(&e)
	close(f.ended)
	for _, p := range f.waiting {
		d.wakeLocked(p)
	}
}

// sawWait notes that the handler has seen the end of a wait.
func (d *durableRun) sawWait(f *future) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.openWaits, f)
}

// Done returns a channel that is closed when the future of StartWait has ended. It is for code
// that drives a run for another program. What a handler does next must not depend on it: a handler
// in Go calls Wait or Any. For a branch it returns nil.
func (f *Future[T]) Done() <-chan struct{} {
	if f == nil || f.f == nil {
		return nil
	}
	return f.f.ended
}

// Suspend makes the run leave memory at once, without its linger time (WithLinger), as soon as all
// other branches wait too. The handler runs again from the top when one of these happens:
// something that another branch waits for comes; a wait of StartWait ends whose Future.Wait has
// not returned; or one of the named runs ends.
//
// Suspend never returns nil. It returns why the context is done, or ErrDurable if nothing would
// make the handler run again. Outside of a run it returns ErrDurable.
func Suspend(ctx context.Context, runIDs ...string) error {
	sc, err := enter(ctx, store.EntryWait, "suspend")
	if sc == nil {
		if err == nil {
			err = fmt.Errorf("%w: Suspend outside of a run", ErrDurable)
		}
		return err
	}
	defer sc.leave()
	w := waitSpec{suspends: true}
	if err := check.Count("runs", len(runIDs), check.MaxIDs); err != nil {
		return errorf("stint: suspend: %w", err)
	}
	for _, text := range runIDs {
		id, err := parseID(text)
		if err != nil {
			return err
		}
		w.children = append(w.children, id)
	}
	d := sc.e.durable
	d.mu.Lock()
	alone := len(w.children)+len(d.openWaits)+len(d.parked) == 0 && d.live == 1
	d.mu.Unlock()
	if alone {
		return fmt.Errorf("%w: Suspend while nothing is waited for", ErrDurable)
	}
	if err := sc.wait(ctx, w); err != nil {
		return err
	}
	if d.unwinding() {
		runtime.Goexit()
	}
	return nil
}

// Peek returns what the journal has for the next durable call of this branch. It returns false if
// the journal has nothing, so that the call would be a new one. For a branch that has not ended
// only the Address and the Kind are set. Peek is for code that makes the calls of another program:
// it can compare before it calls, since a call that differs blocks the run. Outside of a run it
// returns false.
func Peek(ctx context.Context) (JournalEntry, bool) {
	sc := scopeOf(ctx)
	if sc == nil {
		return JournalEntry{}, false
	}
	at, e, recorded, begun := sc.cursor.PeekRecord()
	switch {
	case recorded:
		return journalEntry(e), true
	case begun:
		return JournalEntry{Address: at.String(), Kind: journal.Branch}, true
	}
	return JournalEntry{}, false
}

// An OpenStep is a step whose result comes from elsewhere: StartStep has begun it.
type OpenStep struct {
	sc    *scope
	entry store.Entry // guarded by durableRun.mu
}

// StartStep begins a step, and returns once that is recorded. Complete records its result. If
// the handler runs again before that, the step is open again.
func StartStep(ctx context.Context, name string) (*OpenStep, error) {
	sc, err := enter(ctx, store.EntryStep, name)
	if sc == nil {
		if err == nil {
			err = fmt.Errorf("%w: StartStep outside of a run", ErrDurable)
		}
		return nil, err
	}
	defer sc.leave()
	e, recorded, err := sc.next(store.EntryStep, name)
	if err != nil {
		return nil, err
	}
	if !recorded {
		if err := sc.refuseNew(ctx); err != nil {
			return nil, err
		}
		if e, err = sc.append(ctx, e); err != nil {
			return nil, err
		}
	}
	return &OpenStep{sc: sc, entry: e}, nil
}

// Result returns the step's result, which is JSON. It returns false if the step has none yet.
func (s *OpenStep) Result() (json.RawMessage, bool) {
	d := s.sc.e.durable
	d.mu.Lock()
	defer d.mu.Unlock()
	return s.entry.Value, s.entry.Done
}

// Complete records the step's result. If the step has one, that stays. Complete may be called
// in any goroutine, until the handler returns.
func (s *OpenStep) Complete(ctx context.Context, result json.RawMessage) error {
	if !json.Valid(result) {
		return fmt.Errorf("stint: result of step %q: want JSON", s.entry.Name)
	}
	if err := check.Size("result", len(result), s.sc.e.c.cfg.maxPayload); err != nil {
		return errorf("stint: result of step %q: %w", s.entry.Name, err)
	}
	d := s.sc.e.durable
	d.mu.Lock()
	e, over := s.entry, d.handlerReturned
	d.mu.Unlock()
	switch {
	case e.Done:
		return nil
	case over:
		return fmt.Errorf("%w: result of step %q after its handler has returned", ErrDurable, e.Name)
	}
	e.Done, e.Value = true, result
	stored, stale, err := s.sc.record(ctx, e)
	if err != nil {
		return err
	}
	if stale {
		return errors.Join(fmt.Errorf("stint: result of step %q: %w", e.Name, errLost))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.entry = stored
	return nil
}
