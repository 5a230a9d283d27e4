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

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/store"
)

// Compensate says how to undo what the run has just done: fn is called if the run fails
// for good or is canceled, the last one given first, each as a step of that name, tried
// again up to five times, after 2, 4, 8, 16 and 32 s. One that fails even then is recorded
// and logged, and the others are called all the same.
//
// Compensate records that there is something to undo before it returns. From then on the
// run ends as failed or canceled only after fn has run to its end, whatever becomes of the
// process, the worker or the wait that it is in; RunInfo says that it cleans up. A handler
// that runs again gives its compensations again; where it does not, the run is blocked.
// What was undone stays in the journal: a replay goes on behind it, RestartFrom does it
// anew.
//
// fn is given a context that neither a cancel nor a timeout ends; a shutdown does, and
// another worker goes on. It may run twice, as a step may. Outside of a run Compensate does
// nothing. It panics if the name is empty, no UTF-8 or longer than 255 bytes.
func Compensate(ctx context.Context, name string, fn func(context.Context) error) {
	if sc := scopeOf(ctx); sc != nil && fn != nil && !guard.Unwinding() {
		mustName("Compensate", name)
		sc.addCompensation(ctx, name, fn)
	}
}

// mustName panics if a name is bad that is given to a call which returns no error: its run
// fails by that.
func mustName(call, name string) {
	if err := check.Name("name", name); err != nil {
		panic(fmt.Errorf("stint: %s(%.50q): %w", call, name, err))
	}
}

// A compensation stands in a scope of its own, at the place of its Compensate among those
// of the scope that called it: not at its turn, which may differ where branches give some.
type compensation struct {
	entry    store.Entry // Done: it ran to its end in an earlier execution; Value: which one of the run's it is
	path     string      // the scope that gave it
	afterSeq int         // the last call of that before it
	fn       func(context.Context) error
}

// undoState is what a durableRun knows of compensations and cancels; guarded by durableRun.mu.
type undoState struct {
	compensations   []compensation
	recorded        map[store.Address]*store.Entry // and not given yet
	beforeReplay    map[store.Address]*store.Entry // notes of those that were given before a replay
	undoGiven       int                            // compensations recorded so far: branches that run anew give them in another order
	failureEntry    *store.Entry                   // the failure that ends the run; nil: none was recorded
	skippedBranches []func()                       // enter branches that have ended, for their compensations
	interrupted     map[string]int                 // by scope: from which call on a cancel has cut them short
	unseen          map[*future]struct{}           // have failed, and nobody has met their error
	failedBranches  map[store.Address]struct{}     // branches that have failed: alone forgotten, with nothing that follows
	atInterrupt     int                            // branches that have come to where the context is to end
}

// failureAddress is where the failure is recorded that ends a run.
var failureAddress = store.Address{Scope: store.UndoScope + "/end", Seq: 1}

func undoScope(path string) string {
	if path == "" {
		return store.UndoScope
	}
	return store.UndoScope + "/" + path
}

// loadUndo takes an entry of a scope of compensations.
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

// loadNote takes a note.
func (d *durableRun) loadNote(e *store.Entry) {
	if path, ok := strings.CutPrefix(e.Scope, store.UndoneScope); ok && (path == "" || path[0] == '/') {
		if d.beforeReplay == nil {
			d.beforeReplay = map[store.Address]*store.Entry{}
		}
		d.beforeReplay[store.Address{Scope: store.UndoScope + path, Seq: e.Seq}] = e
		d.undoGiven = max(d.undoGiven, undoOrder(e))
		return
	}
	d.notes[e.Scope] = true
}

// undoOrder is which compensation of the run an entry is, in the order in which they were given first.
func undoOrder(e *store.Entry) int {
	n, _ := strconv.Atoi(string(e.Value))
	return n
}

// addCompensation adds one, and records it if it is new.
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
	case old == nil || old.Name != name && !old.Done: // or what an attempt that failed gave
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

// fullyReplayed reports whether all that is recorded was asked for.
func (d *durableRun) fullyReplayed() bool {
	if !d.tape.Played() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.recorded) == 0
}

// skipBranch passes over the entries of a branch that has ended. Those with compensations that
// are not done are entered again when these are to run: then enter is called.
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

// awaitCompensations waits for the branches, so that all compensations are given. The context of the
// execution has ended.
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

// compensateRetries is how often a compensation that fails is tried again.
const compensateRetries = 5

// runCompensations calls what Compensate was given, and says what becomes of the run if it does
// not end now. Each is recorded, so that an execution which is cut off goes on where it
// was; so is the failure that ends the run, so that the next one ends it by that.
func (e *execution) runCompensations(err error) *store.Outcome {
	d := e.durable
	d.mu.Lock()
	undo := slices.Clone(d.compensations)
	for _, r := range d.recorded {
		if !r.Done && d.divergence == nil {
			d.divergence = undoDivergence(r, "return")
		}
	}
	verdict := d.divergence
	d.mu.Unlock()
	if verdict != nil {
		return d.blockedOutcome(verdict, err)
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
	cfg.task.retries, cfg.task.backoff = compensateRetries, backoff{2, time.Minute}
	for _, u := range slices.Backward(undo) {
		if u.entry.Done {
			continue
		}
		_, err := sc.attemptStep(ctx, u.entry, true, &cfg, func(ctx context.Context) ([]byte, error) {
			return u.entry.Value, guarded(func() error { return u.fn(ctx) }) // the others are called though it ends its goroutine
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

// requeued has another execution go on: the worker stops, or the store does.
func (e *execution) requeued() *store.Outcome {
	o := e.newOutcome(store.Queued)
	o.Uncounted = true
	return &o
}

// finalError reports whether a handler's return ends the run as failed or canceled, and by
// which error.
func (e *execution) finalError(err error) (bool, error) {
	cause := context.Cause(e.ctx)
	e.mu.Lock() // a handler that was given up may ask while the timer compensates
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
	_, again, why := e.nextAttempt(err)
	return !again, why
}

// withCompensations adds to what a failed attempt forgets the compensations of it.
func (e *execution) withCompensations(forget []store.Address) []store.Address {
	d := e.durable
	if d == nil || len(forget) == 0 {
		return forget
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	first := map[string]int{}
	cut := slices.DeleteFunc(slices.Clone(forget), func(at store.Address) bool { _, ok := d.failedBranches[at]; return ok })
	for _, u := range d.compensations {
		if !slices.ContainsFunc(cut, u.follows) {
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

// follows reports whether the compensation was given after a call, or in a branch that was
// begun after it.
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
