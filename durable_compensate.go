package stint

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/backoff"
	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/store"
)

// Compensate registers a function that undoes what the run has just done. If the run fails for
// good or is canceled, the functions are called, last registered first, each as a step of that
// name with up to five retries, after 2, 4, 8, 16 and 32 s. One that still fails is recorded
// and logged, and the others are called all the same.
//
// The registration is recorded before Compensate returns. From then on the run ends as failed
// or canceled only after fn has completed, whatever happens to the process, the worker or a
// wait; meanwhile RunInfo says that it cleans up. A handler that runs again must register its
// compensations again; if it does not, the run is blocked. What was undone stays in the
// journal: a replay continues after it, RestartFrom does it anew.
//
// Neither a cancel nor a timeout ends fn's context. A shutdown does, and another worker goes
// on. fn may run twice, as a step may. Outside of a run Compensate does nothing. It panics if
// the name is empty, not UTF-8 or longer than 255 bytes, if fn is nil, and with ErrDurable
// inside a step: call it after the step.
func Compensate(ctx context.Context, name string, fn func(context.Context) error) {
	if guard.Unwinding() {
		return
	}
	if fn == nil {
		panic(NonRetryable(fmt.Errorf("stint: Compensate(%.50q): nil function", name)))
	}
	if executionOf(ctx) != nil && ctx.Value(stepKey{}) != nil {
		panic(NonRetryable(fmt.Errorf("%w: Compensate(%.50q) inside a step: call it after the step", ErrDurable, name)))
	}
	if sc := scopeOf(ctx); sc != nil {
		mustName("Compensate", name)
		sc.addCompensation(ctx, name, fn)
	}
}

// mustName panics if a name is invalid, in a call that returns no error. The panic fails the
// run.
func mustName(call, name string) {
	if err := check.Name("name", name); err != nil {
		panic(fmt.Errorf("stint: %s(%.50q): %w", call, name, err))
	}
}

// A compensation has a scope of its own, and its number there is that of its Compensate in the
// calling scope. Its order among all is not its address: branches may register theirs in
// another.
type compensation struct {
	entry    store.Entry // Done: it completed in an earlier execution; Value: its order in the run
	path     string      // the scope that registered it
	afterSeq int         // the last call before it
	fn       func(context.Context) error
}

// undoState is what a durableRun knows of compensations and cancels; guarded by durableRun.mu.
type undoState struct {
	compensations   []compensation
	recorded        map[store.Address]*store.Entry // not registered yet
	beforeReplay    map[store.Address]*store.Entry // notes of those registered before a replay
	undoGiven       int                            // compensations recorded so far: branches that run again register them in another order
	failureEntry    *store.Entry                   // the failure that ends the run; nil: none is recorded
	skippedBranches []func()                       // run ended branches again, for their compensations
	interrupted     map[string]int                 // by scope: the first call that a cancel interrupted
	unseen          map[*future]struct{}           // failed branches whose error nobody has seen
	failedBranches  map[store.Address]struct{}     // forgotten alone, without what follows them
	atInterrupt     int                            // branches that are where the context is to end
}

// failureAddress is where the failure is recorded that ends a run.
var failureAddress = store.Address{Scope: store.UndoScope + "/end", Seq: 1}

func undoScope(path string) string {
	if path == "" {
		return store.UndoScope
	}
	return store.UndoScope + "/" + path
}

// loadUndo adds an entry of a scope of compensations.
func (d *durableRun) loadUndo(e *store.Entry) {
	if e.Kind == store.EntryEnd {
		d.failureEntry = e
		return
	}
	if d.recorded == nil {
		d.recorded = map[store.Address]*store.Entry{}
	}
	d.recorded[e.Address] = e
	d.undoGiven = max(d.undoGiven, undoOrder(e))
}

// loadNote adds a note.
func (d *durableRun) loadNote(e *store.Entry) {
	if path, ok := strings.CutPrefix(e.Scope, store.UndoneScope); ok && (path == "" || path[0] == '/') {
		if d.beforeReplay == nil {
			d.beforeReplay = map[store.Address]*store.Entry{}
		}
		d.beforeReplay[store.Address{Scope: store.UndoScope + path, Seq: e.Seq}] = e
		d.undoGiven = max(d.undoGiven, undoOrder(e))
		return
	}
	if e.Scope == store.OnceScope || strings.HasPrefix(e.Scope, store.OnceScope+"/") {
		if d.once == nil {
			d.once = map[store.Address]string{}
		}
		d.once[e.Address] = e.Name
		return
	}
	d.notes[e.Scope] = true
}

// undoOrder returns the order of a compensation in the run, in which they were registered
// first.
func undoOrder(e *store.Entry) int {
	n, _ := strconv.Atoi(string(e.Value))
	return n
}

// addCompensation adds a compensation, and records it if it is new.
func (sc *scope) addCompensation(ctx context.Context, name string, fn func(context.Context) error) {
	d := sc.e.durable
	d.mu.Lock()
	if d.handlerReturned || d.unwinding() {
		d.mu.Unlock()
		return
	}
	sc.undoCount++
	c := compensation{path: sc.cursor.Path, afterSeq: sc.lastSeq, fn: fn}
	at := store.Address{Scope: undoScope(c.path), Seq: sc.undoCount}
	old := d.recorded[at]
	delete(d.recorded, at)
	d.undoGiven++
	turn := strconv.AppendInt(nil, int64(d.undoGiven), 10)
	if was := d.beforeReplay[at]; was != nil && was.Name == name {
		turn = was.Value
	}
	d.mu.Unlock()
	switch {
	case old == nil || old.Name != name && !old.Done: // else another, which a failed attempt registered
		c.entry = store.Entry{Address: at, Kind: store.EntryStep, Name: name, Value: turn}
		if _, err := sc.append(ctx, c.entry); err != nil {
			sc.e.c.logger().Error("stint: recording a compensation", "task", sc.e.run.Task, "run", sc.e.run.ID, "compensation",
				name, "err", err)
		}
	case old.Name != name:
		d.diverge(undoDivergence(old, "step \""+name+"\""))
		runtime.Goexit()
	default:
		c.entry = *old
	}
	d.mu.Lock()
	d.compensations = append(d.compensations, c)
	d.mu.Unlock()
	sc.e.interruptWhenReplayed()
}

func undoDivergence(e *store.Entry, asked string) error {
	return &journal.Divergence{At: journal.Address(e.Address), Recorded: "step \"" + e.Name + "\"", Asked: asked}
}

// fullyReplayed reports whether all recorded calls were made.
func (d *durableRun) fullyReplayed() bool {
	if !d.tape.Played() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.recorded) == 0
}

// skipBranch skips the entries of a branch that has ended. If it has compensations that have
// not run, the branch runs again when these are to run: then enter is called.
func (d *durableRun) skipBranch(path string, enter func()) {
	restore := d.tape.Skip(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	scope := undoScope(path)
	for at := range d.recorded {
		if at.Scope == scope || strings.HasPrefix(at.Scope, scope+"/") {
			d.skippedBranches = append(d.skippedBranches, func() { restore(); enter() })
			return
		}
	}
}

// awaitCompensations waits for the branches, so that all compensations are registered. The
// context of the execution has ended.
func (d *durableRun) awaitCompensations() {
	for {
		d.goroutines.Wait()
		d.mu.Lock()
		enter := d.skippedBranches
		d.skippedBranches = nil
		d.mu.Unlock()
		if len(enter) == 0 {
			return
		}
		for _, f := range enter {
			f()
		}
	}
}

// compensateRetries is the number of retries of a compensation that fails.
const compensateRetries = 5

// runCompensations runs the compensations, and returns the outcome of the run if it does not
// end now. Each is recorded, so that another execution continues where this one stops; so is
// the failure that ends the run, so that the next one ends it with that.
func (e *execution) runCompensations(err error) *store.Outcome {
	d := e.durable
	d.mu.Lock()
	undo := slices.Clone(d.compensations)
	for _, r := range d.recorded {
		if !r.Done && d.divergence == nil {
			d.divergence = undoDivergence(r, "return")
		}
	}
	divergence := d.divergence
	d.mu.Unlock()
	if divergence != nil {
		return d.blockedOutcome(divergence, err)
	}
	if len(undo) == 0 {
		return nil
	}
	slices.SortStableFunc(undo, func(a, b compensation) int { return undoOrder(&a.entry) - undoOrder(&b.entry) })
	ctx := e.undoContext()
	sc := d.newScope(store.UndoScope)
	if !errors.Is(context.Cause(e.ctx), ErrCanceled) && e.failure == nil {
		end := store.Entry{Address: failureAddress, Kind: store.EntryEnd, Done: true, Error: encodeFailure(err)}
		if _, aerr := sc.append(ctx, end); aerr != nil {
			return e.requeued()
		}
		e.mu.Lock()
		e.failure = err
		e.mu.Unlock()
	}
	var cfg stepConfig
	cfg.task.retries, cfg.task.backoff = compensateRetries, backoff.Exponential{Factor: 2, Max: time.Minute}
	for _, u := range slices.Backward(undo) {
		if u.entry.Done {
			continue
		}
		_, err := sc.attemptStep(ctx, u.entry, true, &cfg, func(ctx context.Context) ([]byte, error) {
			return u.entry.Value, guarded(func() error { return u.fn(ctx) }) // if it ends its goroutine the others still run
		})
		if recorded := (*entryError)(nil); err != nil && !errors.As(err, &recorded) {
			return e.requeued()
		}
		if err != nil {
			e.c.logger().Error("stint: compensation failed", "task", e.run.Task, "run", e.run.ID, "compensation", u.entry.Name,
				"err", e.c.logText(err))
		}
	}
	return nil
}

// requeued returns the outcome that lets another execution go on: the worker stops, or the
// store does.
func (e *execution) requeued() *store.Outcome {
	o := e.newOutcome(store.Queued)
	o.Uncounted = true
	return &o
}

// finalError reports whether a handler's return ends the run as failed or canceled, and with
// which error.
func (e *execution) finalError(err error) (bool, error) {
	cause := context.Cause(e.ctx)
	e.mu.Lock() // an abandoned handler may call this while the timer compensates
	failure := e.failure
	e.mu.Unlock()
	switch {
	case failure != nil:
		return true, failure
	case err == nil && cause == nil:
		return false, nil
	}
	var s *snooze
	switch {
	case errors.Is(cause, ErrCanceled):
		return true, err
	case errors.Is(cause, ErrShutdown), errors.As(err, &s):
		return false, err
	case errors.Is(cause, ErrTimeout):
		err = timeoutError(e.def.cfg.timeout, err)
	}
	_, retry, why := e.nextAttempt(err)
	return !retry, why
}

// withCompensations adds the compensations of a failed attempt to what it forgets.
func (e *execution) withCompensations(forget []store.Address) []store.Address {
	d := e.durable
	if d == nil || len(forget) == 0 {
		return forget
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	first := map[string]int{}
	calls := slices.DeleteFunc(slices.Clone(forget), func(at store.Address) bool { _, ok := d.failedBranches[at]; return ok })
	for _, u := range d.compensations {
		if !slices.ContainsFunc(calls, u.follows) {
			continue
		}
		scope := u.entry.Scope
		if seq, ok := first[scope]; !ok || u.entry.Seq < seq {
			first[scope] = u.entry.Seq
		}
	}
	for scope, seq := range first {
		forget = append(forget, store.Address{Scope: scope, Seq: seq})
	}
	return forget
}

// follows reports whether the compensation was registered after a call, or in a branch that
// was started after it.
func (u *compensation) follows(at store.Address) bool {
	if u.path == at.Scope {
		return u.afterSeq >= at.Seq
	}
	inside := u.path
	if at.Scope != "" {
		var ok bool
		if inside, ok = strings.CutPrefix(u.path, at.Scope+"/"); !ok {
			return false
		}
	}
	return branchNumber(inside) > at.Seq
}
