package stint

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/store"
)

// A Future is the result of a branch that Go started.
type Future[T any] struct {
	f   *future
	get func() (T, error) // outside of a run, or if the branch could not start
	// decode returns the result of an entry that is not a value of the app's; nil: it is.
	decode func(*scope, *store.Entry) (T, error)
	err    error // why it could not start
}

// future is a Future without its type.
type future struct {
	sc      *scope // of the branch
	fn      any    // what it calls
	done    bool   // guarded by durableRun.mu, as are the fields below
	entry   store.Entry
	err     error // as the branch returned it
	waiting []*parked

	// Of StartWait: it is no branch, and its scope is the one that it was begun in.
	isWait bool
	ended  chan struct{} // closed when it is done; nil of a branch
}

// Go starts a branch: fn runs concurrently with what follows, and its result is recorded. fn
// makes its own durable calls, with the context it is given. A branch that has ended does not
// run again, unless it failed and that error ends the attempt of the run, or nothing has
// waited for it. Neither a run nor a branch ends before the branches it started.
//
// Outside of a run, fn runs in a goroutine.
func Go[T any](ctx context.Context, name string, fn func(context.Context) (T, error)) *Future[T] {
	sc, err := enter(ctx, store.EntryBranch, name)
	if sc == nil {
		return plainFuture(ctx, fn, err)
	}
	defer sc.leave()
	f, err := sc.startBranch(ctx, name, func(ctx context.Context) ([]byte, error) {
		v, err := fn(ctx)
		if err != nil {
			return nil, err
		}
		return marshalAs(sc.e.c, v)
	}, fn)
	if err != nil {
		return plainFuture(ctx, fn, err)
	}
	return &Future[T]{f: f}
}

func plainFuture[T any](ctx context.Context, fn func(context.Context) (T, error), err error) *Future[T] {
	var out T
	if err != nil {
		return &Future[T]{get: func() (T, error) { return out, err }, err: err}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		returned := false
		defer func() {
			if !returned {
				err = apperror.Original(panicError(recover()))
			}
		}()
		out, err = fn(ctx)
		returned = true
	}()
	return &Future[T]{get: func() (T, error) { <-done; return out, err }}
}

// startBranch starts a branch unless its end is recorded. calls is the app's own function.
func (sc *scope) startBranch(ctx context.Context, name string, fn func(context.Context) ([]byte, error), calls any) (*future, error) {
	d := sc.e.durable
	e, recorded, err := sc.next(store.EntryBranch, name)
	if err != nil {
		return nil, err
	}
	path := journal.Address(e.Address).String() // the branch's scope is named by its entry
	f := &future{sc: d.newScope(path), entry: e, fn: calls}
	if !recorded {
		f.entry.Began = sc.e.c.now()
		if _, _, made, begun := f.sc.cursor.PeekRecord(); made || begun { // by an earlier execution
			f.entry.Began = sc.now
		}
	}
	f.sc.now, f.sc.replaysOnly = sc.now, sc.replaysOnly
	if recorded && e.Done {
		f.done, f.err = true, sc.errorOf(&e)
		d.mu.Lock()
		d.noteUnseenLocked(f)
		d.mu.Unlock()
		d.skipBranch(path, func() {
			f.sc.replaysOnly = true
			f.start(context.WithoutCancel(ctx), fn)
		})
		return f, nil
	}
	d.mu.Lock()
	sc.branches = append(sc.branches, f)
	d.mu.Unlock()
	f.start(ctx, fn)
	return f, nil
}

func (f *future) start(ctx context.Context, fn func(context.Context) ([]byte, error)) {
	d := f.sc.e.durable
	d.mu.Lock()
	d.live++
	d.mu.Unlock()
	d.goroutines.Go(func() { f.run(context.WithValue(ctx, scopeKey{}, f.sc), fn) })
}

// run is the goroutine of a branch.
func (f *future) run(ctx context.Context, fn func(context.Context) ([]byte, error)) {
	d := f.sc.e.durable
	var out []byte
	var err error
	returned := false
	defer func() { // also when it is unwound
		if !returned {
			v := recover()
			if d.unwinding() { // the branch has not ended, whatever its deferred functions did
				return
			}
			err = panicError(v)
		}
		f.finish(ctx, out, err)
	}()
	if out, err = fn(ctx); err == nil {
		err = f.sc.awaitBranches(ctx)
	}
	err = vet(err)
	returned = true
}

// awaitBranches waits for the branches started in this scope that nothing has waited for: a
// branch that has ended does not run again.
func (sc *scope) awaitBranches(ctx context.Context) error {
	d := sc.e.durable
	for i := 0; ; i++ {
		d.mu.Lock()
		if i == len(sc.branches) {
			d.mu.Unlock()
			return nil
		}
		next := sc.branches[i : i+1]
		d.mu.Unlock()
		if err := sc.wait(ctx, waitSpec{futures: next}); err != nil {
			return err
		}
	}
}

// finish records what a branch returned, and wakes the branches that wait for it.
func (f *future) finish(ctx context.Context, out []byte, err error) {
	d := f.sc.e.durable
	f.sc.returned.Store(true)
	if left := locateFunc(f.sc.cursor.End(), f.fn); left != nil && err == nil {
		d.diverge(left)
		return
	} else if left != nil && ctx.Err() == nil { // blocks the run if the failure turns out to be final
		d.mu.Lock()
		d.branchDivergence = left
		d.mu.Unlock()
	}
	if !f.entry.Done && (err == nil || ctx.Err() == nil) { // else its end is recorded already, or the attempt of the run has ended
		e := f.entry
		e.Done, e.Value = true, out
		if err != nil {
			e.Error = encodeFailure(err)
		}
		stored, aerr := f.sc.append(ctx, e)
		if aerr != nil {
			err = aerr
		} else {
			err = f.sc.errorOf(&stored)
			d.mu.Lock()
			f.entry = stored
			d.mu.Unlock()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !f.entry.Done && f.sc.e.ctx.Err() != nil {
		d.branchInterrupted = true
	}
	if !f.done {
		f.done, f.err = true, apperror.Original(err)
		d.noteUnseenLocked(f)
	}
	for _, p := range f.waiting {
		d.wakeLocked(p)
	}
	d.live--
	d.allParkedLocked()
}

// Wait waits for the branch and returns its result. It must be called in the branch that
// started it or in one beside it.
func (f *Future[T]) Wait(ctx context.Context) (T, error) {
	var out T
	switch {
	case f == nil || f.f == nil && f.get == nil:
		return out, errNoFuture
	case f.get != nil:
		return f.get()
	}
	sc := scopeOf(ctx)
	if sc == nil {
		return out, fmt.Errorf("%w: Future.Wait inside a step", ErrDurable)
	}
	if guard.Unwinding() {
		return out, refusedInPanic("wait for branch", f.f.entry.Name)
	}
	if !f.f.endedBeforeInterrupt() {
		if err := sc.wait(ctx, waitSpec{futures: []*future{f.f}}); err != nil {
			return out, err
		}
	}
	sc.e.durable.sawWait(f.f)
	sc.advanceTo(f.f.entry.At)
	if f.f.err != nil {
		sc.e.durable.markSeen(f.f)
		return out, sc.seenError(store.Address{}, f.f.err) // it names the branch's entry
	}
	if f.decode != nil {
		return f.decode(sc, &f.f.entry)
	}
	sc.decodeEntry(&f.f.entry, &out)
	return out, nil
}

// errNoFuture reports a future that Go did not return.
var errNoFuture = errors.New("stint: a future that is nil: want one that Go returned")

// All waits for every branch and returns their results in the order of the arguments. If
// branches fail it returns the error of the first of them in that order.
func All[T any](ctx context.Context, fs ...*Future[T]) ([]T, error) {
	all := make([]T, len(fs))
	for i, f := range fs {
		var err error
		if all[i], err = f.Wait(ctx); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Any waits for the first branch to end, with a result or an error, and returns its index.
// Which branch was first is recorded.
func Any[T any](ctx context.Context, fs ...*Future[T]) (int, T, error) {
	var zero T
	if len(fs) == 0 {
		return -1, zero, errors.New("stint: Any of no futures")
	}
	sc, err := enter(ctx, store.EntryAny, "any")
	if sc == nil {
		if err != nil {
			return -1, zero, err
		}
		return anyPlain(fs)
	}
	defer sc.leave()
	all := make([]*future, len(fs))
	for i, f := range fs {
		switch {
		case f == nil || f.f == nil && f.get == nil:
			return i, zero, errNoFuture
		case f.err != nil: // in every pass
			return i, zero, f.err
		case f.f == nil:
			return i, zero, fmt.Errorf("%w: Any of a future that was begun outside of the run", ErrDurable)
		}
		all[i] = f.f
	}
	i, err := sc.firstDone(ctx, all)
	if err != nil {
		return -1, zero, err
	}
	out, err := fs[i].Wait(ctx)
	return i, out, err
}

func anyPlain[T any](fs []*Future[T]) (int, T, error) {
	for i, f := range fs {
		var zero T
		switch {
		case f == nil || f.f == nil && f.get == nil:
			return i, zero, errNoFuture
		case f.get == nil:
			return i, zero, fmt.Errorf("%w: Any of a branch of a run, with a context that is not of its handler", ErrDurable)
		}
	}
	first := make(chan int, len(fs))
	for i, f := range fs {
		go func() { f.get(); first <- i }()
	}
	i := <-first
	out, err := fs[i].get()
	return i, out, err
}

// firstDone returns the index of the future that ended first, as recorded now or before.
func (sc *scope) firstDone(ctx context.Context, fs []*future) (int, error) {
	e, recorded, err := sc.next(store.EntryAny, "")
	if err != nil {
		return 0, err
	}
	if recorded {
		i, err := strconv.Atoi(string(e.Value))
		if err != nil || i < 0 || i >= len(fs) {
			sc.diverge(&journal.Divergence{At: journal.Address(e.Address), Recorded: fmt.Sprintf("any, won by future %s", e.Value),
				Asked: fmt.Sprintf("any of %d futures", len(fs))})
		}
		return i, nil
	}
	if err := sc.refuseNew(ctx); err != nil {
		return 0, err
	}
	if err := sc.wait(ctx, waitSpec{futures: fs}); err != nil {
		return 0, err
	}
	d := sc.e.durable
	d.mu.Lock()
	e.Began = sc.now // the call was made after that, and after its futures began
	for _, f := range fs {
		if f.entry.Began.After(e.Began) {
			e.Began = f.entry.Began
		}
	}
	winner := max(slices.IndexFunc(fs, func(f *future) bool { return f.done }), 0)
	d.mu.Unlock()
	e.Done, e.Value = true, strconv.AppendInt(nil, int64(winner), 10)
	_, err = sc.append(ctx, e)
	return winner, err
}

// failureNote returns the scope of the note that a handler has seen the failure of a child. If
// that failure ends the attempt the note is forgotten. If not, the handler has dealt with it,
// and the child does not run again.
func failureNote(id store.ID) string { return "failed:" + id.String() }

// recordNote records a note for later passes, once.
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
	_, err := sc.append(ctx, store.Entry{Address: store.Address{Scope: scope, Seq: 1}, Kind: store.EntryNote, Done: true,
		Value: []byte("true")})
	return err
}

// seenChildError notes the failure of a child that the handler has waited for, and returns it.
func (sc *scope) seenChildError(ctx context.Context, id store.ID, failed error) error {
	scope := failureNote(id)
	if err := sc.recordNote(ctx, scope); err != nil {
		return err
	}
	return sc.seenError(store.Address{Scope: scope, Seq: 1}, failed)
}

// rerunFailed queues again the runs of a call that failed or were canceled during an earlier
// attempt of the handler, unless the handler dealt with that, or the run only cleans up.
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
	rerun, err := sc.failedChildren(ctx, ids, since)
	if err != nil {
		return err
	}
	if len(rerun) > 0 {
		if sc.e.interruptedAt.Load() != 0 { // to run them anew would be a new call
			sc.awaitInterrupt()
			return sc.refuseNew(ctx)
		}
		s, failed := sc.e.c.store, store.Filter{IDs: rerun, States: []store.State{store.Failed, store.Canceled}}
		if _, err := s.Act(context.WithoutCancel(ctx), sc.e.c.now(), store.Action{Kind: store.ActReplay}, failed); err != nil {
			return wrapStoreErr("run children anew", err)
		}
		if sc.e.w.isCanceled(&sc.e.run) { // meanwhile: that did not see the children
			a := store.Action{Kind: store.ActCancel, Reason: encodeFailure(ErrCanceled)}
			if _, err := s.Act(context.WithoutCancel(ctx), sc.e.c.now(), a, store.Filter{IDs: rerun}); err != nil {
				return wrapStoreErr("cancel children", err)
			}
		}
	}
	return sc.recordNote(ctx, noted)
}

// failedChildren returns the runs that had failed or were canceled by the time since. It waits
// for those that still clean up after a cancel: they cannot run again before they end.
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

// failedAttempts returns how many attempts of the run failed or were replayed, and when the
// last of them ended. It reads that once.
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
