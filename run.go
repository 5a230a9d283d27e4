package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/stint-dev/stint/internal/blocked"
	"github.com/stint-dev/stint/internal/failure"
	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/live"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// A State is the state of a run.
type State = store.State

// The states of a run. Succeeded, Failed, Canceled and Skipped are final unless the run is
// replayed.
const (
	StateScheduled = store.Scheduled // waits for its time, or for its next attempt
	StateQueued    = store.Queued    // is due, and waits for a slot or a limit
	StateRunning   = store.Running   // a worker executes it
	StateWaiting   = store.Waiting   // waits in a durable call, and occupies no slot
	StateBlocked   = store.Blocked   // RunInfo.Blocked says why
	StateSucceeded = store.Succeeded // its handler or its workflow succeeded
	StateFailed    = store.Failed    // its last attempt failed
	StateCanceled  = store.Canceled  // by Cancel, a timeout of the start, or a limit
	StateSkipped   = store.Skipped   // a condition of its workflow said that it is not needed
)

// A Run is a handle to a stored run.
type Run[Out any] struct {
	c        *Client
	id       store.ID
	existing bool
	// unrecorded: a handler enqueued it with WithTx, and enqueues another when it runs again.
	unrecorded bool
	idErr      error // the ID is invalid
}

// Info returns the run whose handler ctx belongs to. It returns false outside of a run.
func Info(ctx context.Context) (RunInfo, bool) {
	e := executionOf(ctx)
	if e == nil {
		return RunInfo{}, false
	}
	r := &e.run
	p := e.reports.Progress()
	return RunInfo{
		ID: r.ID.String(), Task: r.Task, Queue: r.Queue, State: StateRunning, Priority: int(r.Priority),
		Attempt: r.Attempt, Executions: r.Executions, Canceling: !r.CancelAt.IsZero(),
		Input: r.Input, Metadata: jsonx.Texts(r.Metadata), Scheduled: r.Due, Started: r.Started, Created: createdAt(r.ID),
		ParentID: idString(r.Parent), RootID: idString(r.Root), Worker: e.w.cfg.name, WorkerID: e.w.cfg.name,
		Progress: ProgressInfo{p.Done, p.Total, p.Message},
	}, true
}

// createdAt returns the time in a UUIDv7.
func createdAt(id store.ID) time.Time {
	sec, nsec := id.Time().UnixTime()
	return time.Unix(sec, nsec)
}

// RunByID returns a handle to the run with that ID. Methods return ErrNotFound if there is
// none.
func RunByID[Out any](c *Client, id string) *Run[Out] {
	u, err := parseID(id)
	return &Run[Out]{c: c, id: u, idErr: err}
}

func parseID(id string) (store.ID, error) {
	var u store.ID
	if err := u.UnmarshalText([]byte(id)); err != nil {
		return u, fmt.Errorf("%w: run ID %q is not a UUID", ErrNotFound, text.Cut(id, 64))
	}
	return u, nil
}

func idString(id store.ID) string {
	if id == (store.ID{}) {
		return ""
	}
	return id.String()
}

// ID returns the run's UUIDv7. IDs increase in the order of enqueueing.
func (r *Run[Out]) ID() string { return r.id.String() }

// Existing reports whether an idempotency or debounce key matched an earlier run, which this
// is.
func (r *Run[Out]) Existing() bool { return r.existing }

// Info returns the run's state and details, or ErrNotFound.
func (r *Run[Out]) Info(ctx context.Context) (*RunInfo, error) {
	if r.idErr != nil {
		return nil, r.idErr
	}
	return r.c.getRun(ctx, r.id)
}

// Cancel cancels the run and its children that are not Detached, and returns when that is
// stored.
//
// A run that has not started has then ended. The context of one that executes is canceled with
// cause ErrCanceled, and the run ends when its handler returns, or after 30 s. A run that
// waits in durable calls is executed once more, so that its handler sees the cancel, and a run
// with compensations ends after them; until then RunInfo.Canceling is true. If such a run is
// blocked, the next Cancel ends it. Canceling a run that has ended does nothing.
func (r *Run[Out]) Cancel(ctx context.Context) error {
	if r.idErr != nil {
		return r.idErr
	}
	n, err := r.c.store.Act(ctx, r.c.now(), store.Action{Kind: store.ActCancel, Reason: encodeFailure(ErrCanceled)},
		store.Filter{IDs: []store.ID{r.id}})
	if err == nil && n == 0 {
		_, err = r.c.store.Get(ctx, r.id) // ended, or does not exist
	}
	return wrapStoreErr("cancel", err)
}

// Wait waits until the run has ended and returns its output, or a *TaskError that says why
// there is none, for errors.Is: ErrCanceled, ErrTimeout or the handler's own error. It returns
// ctx's error if ctx is done first; the run goes on.
//
// Inside a handler, Wait gives up the slot while it waits.
func (r *Run[Out]) Wait(ctx context.Context) (Out, error) {
	var out Out
	if r.idErr != nil {
		return out, r.idErr
	}
	e, sc := executionOf(ctx), (*scope)(nil)
	if r.c.localExecution(ctx) != nil {
		sc = scopeOf(ctx)
	}
	if sc != nil && r.unrecorded {
		return out, fmt.Errorf("%w: Wait for run %s, which this handler enqueued with WithTx: when it runs again after the wait "+
			"it would enqueue another; enqueue it in StepTx, with its transaction", ErrDurable, r.id)
	}
	if sc != nil {
		if sc.e.replay != nil {
			err := r.endInReplay(sc, &out)
			return out, err
		}
		if err := sc.waitRun(ctx, r.id); err != nil {
			return out, err
		}
		ctx = context.WithoutCancel(ctx) // its result is stored
		out, err := r.result(ctx, nil)
		if _, failed := err.(*TaskError); failed {
			err = sc.seenChildError(ctx, r.id, err)
		}
		return out, err
	} else if e != nil { // inside a step, or a run of another database, which cannot wake this one
		e.w.slots.Release(&e.slots)
		defer e.w.slots.Reacquire(ctx, &e.slots)
	}
	kept := r.c.live.Watch(r.id)
	defer r.c.live.Unwatch(r.id, kept)
	return r.result(ctx, kept)
}

// waitRun waits until a run has ended. The end is recorded with that run.
func (sc *scope) waitRun(ctx context.Context, id store.ID) error {
	if !sc.busy.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: Wait while another durable call of this branch is under way: use Go for what runs beside", ErrDurable)
	}
	defer sc.leave()
	if guard.Unwinding() {
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

// canceledWith reports whether a child was canceled together with the run: the waiting call
// then returns that cancel, and not the child's failure. The store says so, not the time of the signal, which
// may come later than the child's end.
func (sc *scope) canceledWith(child *store.Run) bool {
	if child.State != store.Canceled {
		return false
	}
	e := sc.e
	at := e.interruptedAt.Load()
	if e.replay == nil {
		own, err := e.c.store.Get(context.Background(), e.run.ID)
		if err == nil && own.Lease == e.run.Lease && !own.CancelAt.IsZero() {
			if at == 0 {
				e.interrupt(ErrCanceled, cancelGrace) // its signal is on the way
			}
			at = own.CancelAt.UnixMilli()
		}
	}
	return at != 0 && child.Ended.UnixMilli() >= at && errors.Is(e.interruptCause(), ErrCanceled)
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

// result waits until the run has ended and returns its result. kept, if not nil, may have the
// handler's own error. Handlers that wait do not get that: the wait must return the same when
// it is repeated.
func (r *Run[Out]) result(ctx context.Context, kept *live.Error) (out Out, err error) {
	o, ofWorkflow := any(&out).(*Outputs)
	began := r.c.now()
	if ofWorkflow && r.c.endedBefore.Load() { // as the last one: then one read says all
		if *o, err = r.c.outputs(ctx, r.id, nil); err == nil && o.state == store.Succeeded {
			return out, nil
		}
	}
	end, err := r.c.store.Await(ctx, r.id, store.Until{})
	if err != nil {
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		return out, wrapStoreErr("wait", err)
	}
	if end.State == store.Succeeded && !end.Workflow {
		err = r.decode(end.Output, &out)
		return out, err
	}
	if ofWorkflow && end.Tasks != nil { // without reading anything
		*o = outputsOf(r.id, end.Graph, end.Tasks)
		r.c.endedBefore.Store(false)
		return out, nil
	}
	if ofWorkflow { // without reading the run
		if *o, err = r.c.outputs(ctx, r.id, nil); err == nil && o.state == store.Succeeded {
			r.c.endedBefore.Store(o.ended.Before(began))
			return out, nil
		}
	}
	run, err := r.c.store.Get(ctx, r.id)
	if err != nil {
		return out, wrapStoreErr("wait", err)
	}
	if run.Workflow {
		err = r.workflowEnd(ctx, run, &out)
		return out, err
	}
	if run.State == store.Succeeded {
		err = r.decode(run.Output, &out)
		return out, err
	}
	failed := endError(run, nil)
	if kept != nil && run.State == store.Failed {
		if returned := r.c.live.Of(kept, run.Lease); returned != nil {
			failed.Err = &failure.Stored{Text: failed.Err.Error(), Is: []error{returned, failed.Err}}
		}
	}
	return out, failed
}

// endInReplay returns the result of a run in a replay.
func (r *Run[Out]) endInReplay(sc *scope, out *Out) error {
	run := sc.e.replay.runEnd(sc, r.id)
	sc.advanceTo(run.Ended)
	if run.State == store.Succeeded {
		return r.decode(run.Output, out)
	}
	return endError(run, nil)
}

func (r *Run[Out]) decode(b []byte, out *Out) error {
	if err := r.c.decode(b, out); err != nil {
		return errorf("stint: wait: output of run %s is not a %T: %w", r.id, *out, err)
	}
	return nil
}

// workflowEnd decodes the outputs of a workflow's run, as JSON, into out, or returns which
// tasks did not succeed.
func (r *Run[Out]) workflowEnd(ctx context.Context, run *store.Run, out any) error {
	if run.State == store.Succeeded {
		o, err := r.c.outputs(ctx, r.id, nil)
		if err != nil {
			return err
		}
		b, err := json.Marshal(o)
		if err == nil {
			err = guarded(func() error {
				return valueError(vet(json.Unmarshal(b, out)),
					func(err error) error { return jsonx.DecodeError(err, b, reflect.TypeOf(out).Elem()) })
			})
		}
		if err != nil {
			return errorf("stint: wait: run %s is of workflow %q, whose outputs are no %T: %w", r.id, run.Task, out, err)
		}
		return nil
	}
	werr, err := r.c.workflowError(ctx, run.Task, r.id)
	if err != nil {
		return err
	}
	if run.State == store.Failed {
		return endError(run, werr)
	}
	end := endError(run, nil)
	end.Err = errorf("%w: %w", end.Err, werr)
	return end
}

// endError returns why a run that ended has no output.
func endError(run *store.Run, cause error) *TaskError {
	if cause == nil || run.State != store.Failed {
		cause = endCause(run.State, run.Error)
	}
	return &TaskError{Task: run.Task, RunID: run.ID.String(), Attempt: begun(run), Err: cause, canceled: run.State == store.Canceled}
}

// endCause returns a stored error as one for errors.Is.
func endCause(state State, stored []byte) error {
	cause := storedError(failure.Decode(stored))
	if state == store.Canceled && !errors.Is(cause, ErrCanceled) {
		cause = errorf("%w: %w", ErrCanceled, cause)
	}
	return cause
}

// A RunInfo describes a run.
type RunInfo struct {
	ID    string
	Task  string
	Queue string
	State State
	// Blocked says what keeps a run from going on: a limit with its key, a paused queue, a
	// time, what its handler or conditions wait for, which worker it lacks ("no worker serves
	// queue gpu", "no worker has task x", a label, a pause), or why it needs a person. Of a
	// waiting run only GetRun and Run.Info return it. "": nothing.
	Blocked string
	Awaits  []AwaitedEvent // the events with which a waiting run goes on; only from GetRun and Run.Info
	// Quarantined reports that the run is StateBlocked because its process died five times
	// while the run executed. ReplayRuns and CancelRuns release it.
	Quarantined bool
	// Canceling reports that the run was canceled and has not ended: its handler has not
	// returned, or it has something to clean up, for which it may have to wait for a worker.
	Canceling bool
	// Attempt is the number of the last attempt that started, from 1; 0: none has. An attempt that a shutdown or a crash cut
	// short does not count. A replay continues the count.
	Attempt int
	// Executions counts how often a worker took the run: for attempts, and to go on after waits,
	// crashes and shutdowns.
	Executions int
	Priority   int
	// Input and Output are JSON. Stored bytes that are not JSON appear as a string that says so.
	Input      json.RawMessage
	Output     json.RawMessage // of a run that succeeded
	Error      string          // of the last attempt that failed, or why the run was canceled; its first 16 KiB
	Stack      string          // of the panic that was the error; its first 32 KiB
	ErrorGroup string          // the ID of the ErrorGroup in which a run that is StateFailed counts; "": none
	// Divergence is where the code of a blocked run does not match its journal, or nil.
	Divergence *Divergence
	Metadata   map[string]string

	Created   time.Time
	Scheduled time.Time // when it was or will be due
	Started   time.Time // the last attempt; zero if none started
	Finished  time.Time // zero if it has not ended

	ParentID string // the run that enqueued this one, or ""
	RootID   string // the topmost ancestor, or ""
	Worker   string // name of the worker of the last attempt
	WorkerID string // Deprecated: use Worker, which is the same.
	Key      string // idempotency key
	Workflow bool   // it is a run of a workflow
	Progress ProgressInfo
	Timeline []TimelineEntry // oldest first; only from GetRun and Run.Info
	Tasks    []TaskInfo      // of a workflow's run, parents first; only from GetRun and Run.Info
}

// A ProgressInfo is how far a run has come, as its handler reported with Progress. Total 0
// means unknown.
type ProgressInfo struct {
	Done, Total int64
	Message     string
}

// A TimelineEntry is a change of a run's state.
type TimelineEntry struct {
	At      time.Time
	State   State
	Attempt int
	Worker  string
	Error   string // its first 1 KiB
	// Failed are the steps whose errors ended the attempt. The next attempt calls them again, so the
	// journal has them no more.
	Failed []JournalEntry
}

// runInfo returns a stored run as users see it.
func runInfo(r *store.Run) RunInfo {
	f := failure.Decode(r.Error)
	info := RunInfo{
		ID: r.ID.String(), Task: r.Task, Queue: r.Queue, State: r.State, Attempt: begun(r), Priority: int(r.Priority),
		Input: jsonx.Embed(r.Input), Output: jsonx.Embed(r.Output), Error: f.Message, Stack: f.Stack, Metadata: jsonx.Texts(r.Metadata),
		Created: r.Created, Scheduled: r.Due, Started: r.Started, Finished: r.Ended,
		ParentID: idString(r.Parent), RootID: idString(r.Root), Worker: r.Worker, WorkerID: r.Worker, Key: r.Key, Workflow: r.Workflow,
	}
	info.Executions, info.Canceling = r.Executions, !r.CancelAt.IsZero() && !r.State.Terminal()
	info.ErrorGroup = groupOf(r, &f)
	if r.State == store.Blocked {
		info.Divergence, info.Quarantined = (*Divergence)(f.Divergence), f.Kind == store.KindQuarantine
	}
	switch info.Blocked = blocked.Failure(r.Task, r.State, r.NoHandler, f.Message); {
	case r.Limiter != nil:
		info.Blocked = blocked.Limit(r.Limiter)
	case r.Paused:
		info.Blocked = fmt.Sprintf("queue %q is paused", r.Queue)
	case r.State == store.Scheduled:
		info.Blocked = "its time, " + r.Due.UTC().Format(time.RFC3339)
	}
	if p := r.Progress; p != nil {
		info.Progress = ProgressInfo{p.Done, p.Total, p.Message}
	}
	info.Timeline = timeline(r, &f)
	return info
}

// begun returns the last attempt that started. The stored count is without the one of a handler that waits, and without
// one that a crash or a shutdown cut short, which is to be repeated.
func begun(r *store.Run) int {
	switch executed := r.Executions > 0; {
	case executed && r.State == store.Waiting:
		return r.Attempt + 1
	case executed && r.State.Terminal():
		return max(r.Attempt, 1)
	}
	return r.Attempt
}

func timeline(r *store.Run, last *failure.Failure) []TimelineEntry {
	first := StateQueued
	if len(r.Attempts) == 0 && r.Due.After(r.Created) {
		first = StateScheduled
	}
	all := []TimelineEntry{{At: r.Created, State: first}}
	for _, a := range r.Attempts {
		if !a.Started.IsZero() {
			all = append(all, TimelineEntry{At: a.Started, State: StateRunning, Attempt: a.Attempt, Worker: a.Worker})
		}
		f := failure.Decode(a.Error)
		all = append(all, TimelineEntry{At: a.Ended, State: a.To, Attempt: a.Attempt, Worker: a.Worker,
			Error: text.Cut(f.Message, text.Listed), Failed: failedSteps(f.Inside, f.Message)})
	}
	if r.Attempt > 0 && !r.Started.IsZero() && (r.State == store.Running || r.State.Terminal()) {
		all = append(all, TimelineEntry{At: r.Started, State: StateRunning, Attempt: r.Attempt, Worker: r.Worker})
	}
	if r.State.Terminal() {
		all = append(all, TimelineEntry{At: r.Ended, State: r.State, Attempt: r.Attempt, Worker: r.Worker,
			Error: text.Cut(last.Message, text.Listed), Failed: failedSteps(last.Inside, last.Message)})
	}
	return all
}

// An AwaitedEvent describes the events that make a waiting run go on. They match all its fields
// that are not empty.
type AwaitedEvent struct {
	Key, Scope, Field string
	Value             json.RawMessage // the value of the payload's Field
	Filter            string          // a CEL expression: see WithFilter
}
