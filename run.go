package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"time"

	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// A State is where a run stands.
type State = store.State

// The states of a run. Succeeded, Failed, Canceled and Skipped are final, save by a replay.
const (
	StateScheduled = store.Scheduled // waits for its time, or for its next attempt's
	StateQueued    = store.Queued    // may start
	StateRunning   = store.Running
	StateWaiting   = store.Waiting // waits in a durable call, and holds no slot
	StateBlocked   = store.Blocked // RunInfo.Blocked says by what
	StateSucceeded = store.Succeeded
	StateFailed    = store.Failed
	StateCanceled  = store.Canceled
	StateSkipped   = store.Skipped
)

// A Run is a handle to a stored run.
type Run[Out any] struct {
	c        *Client
	id       store.ID
	existing bool
	idErr    error // an ID that is not one
}

// RunByID is a handle to the run with that ID. Whether it exists shows when it is used.
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

// ID is the run's UUIDv7. IDs increase in the order of enqueueing.
func (r *Run[Out]) ID() string { return r.id.String() }

// Existing reports that an idempotency key matched an earlier run, which this is.
func (r *Run[Out]) Existing() bool { return r.existing }

// Info returns what is known of the run, or ErrNotFound.
func (r *Run[Out]) Info(ctx context.Context) (*RunInfo, error) {
	if r.idErr != nil {
		return nil, r.idErr
	}
	return r.c.getRun(ctx, r.id)
}

// Cancel cancels the run, and its children that are not detached. It returns when that
// is stored: a run that has not begun has ended by then; one that executes has its context
// canceled with cause ErrCanceled, and ends when its handler returns, or after 30 s. One
// with durable calls that waits, or goes to wait, is taken by a worker once more, and one
// with compensations ends after them: until then RunInfo.Canceling is true. One that is
// blocked in that ends at the next Cancel. Canceling a run that has ended does nothing.
func (r *Run[Out]) Cancel(ctx context.Context) error {
	if r.idErr != nil {
		return r.idErr
	}
	n, err := r.c.store.Cancel(ctx, time.Now(), store.Filter{IDs: []store.ID{r.id}}, encodeFailure(ErrCanceled))
	if err == nil && n == 0 {
		_, err = r.c.store.Get(ctx, r.id) // ended, or never was
	}
	return wrapStoreErr("cancel", err)
}

// Wait waits until the run has ended and returns its output, or a *TaskError that says
// why there is none: errors.Is(err, ErrCanceled), ErrTimeout, or the handler's own
// error. It returns ctx's error if that ends first; the run goes on.
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
	if sc != nil {
		if sc.e.replay != nil {
			err := r.endInReplay(sc, &out)
			return out, err
		}
		if err := sc.waitRun(ctx, r.id); err != nil {
			return out, err
		}
		ctx = context.WithoutCancel(ctx) // what it came to is there
		out, err := r.result(ctx, nil)
		if _, failed := err.(*TaskError); failed {
			err = sc.seenChildError(ctx, r.id, err)
		}
		return out, err
	} else if e != nil { // inside a step, or a run of another database, which cannot wake this one
		e.w.releaseSlots(e)
		defer e.w.reacquireSlots(ctx, e)
	}
	kept := r.c.watchError(r.id)
	defer r.c.unwatchError(r.id)
	return r.result(ctx, kept)
}

// waitRun waits for a run's end. It is recorded with that run.
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

// result waits for the run's end, and returns what came of it. kept, if not nil, may hold
// the handler's own error: a handler's wait must not differ when it is repeated.
func (r *Run[Out]) result(ctx context.Context, kept *errorWaiter) (out Out, err error) {
	end, err := r.c.store.Await(ctx, r.id, -1)
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
	if o, ok := any(&out).(*Outputs); ok { // spares a look at the run
		if *o, err = r.c.outputs(ctx, r.id, nil); err == nil && o.state == store.Succeeded {
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
		if live := kept.get(); live != nil {
			failed.Err = &storedError{failed.Err.Error(), []error{live, failed.Err}}
		}
	}
	return out, failed
}

// endInReplay is the end of a run as a replay has it.
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

// workflowEnd is what became of a workflow's run: its outputs, as JSON read into out, or
// which tasks did not succeed.
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

// endError is why a run that ended has no output.
func endError(run *store.Run, cause error) *TaskError {
	if cause == nil || run.State != store.Failed {
		cause = endCause(run.State, run.Error)
	}
	return &TaskError{Task: run.Task, RunID: run.ID.String(), Attempt: run.Attempt, Err: cause}
}

// endCause is a stored error as one that answers errors.Is.
func endCause(state State, stored []byte) error {
	cause := decodeFailure(stored).err()
	if state == store.Canceled && !errors.Is(cause, ErrCanceled) {
		cause = errorf("%w: %w", ErrCanceled, cause)
	}
	return cause
}

// A errorWaiter holds a handler's error for those in the same process who wait for it.
type errorWaiter struct {
	c   *Client
	n   int // waiting
	err error
}

func (w *errorWaiter) get() error {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	return w.err
}

func (c *Client) watchError(id store.ID) *errorWaiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waiters[id]
	if w == nil {
		w = &errorWaiter{c: c}
		c.waiters[id] = w
	}
	w.n++
	return w
}

func (c *Client) unwatchError(id store.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waiters[id]
	if w.n--; w.n == 0 {
		delete(c.waiters, id)
	}
}

func (c *Client) reportError(id store.ID, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.waiters[id]; w != nil {
		w.err = err
	}
}

// Stream follows the run's stream from its beginning, until the run has ended and
// every chunk was given, or ctx is done, which is the last error.
func (r *Run[Out]) Stream(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if r.idErr != nil {
			yield(nil, r.idErr)
			return
		}
		for after := int64(0); ; {
			chunks, ended, err := r.c.store.Chunks(ctx, r.id, after, chunksAtOnce)
			if err == nil && len(chunks) == 0 && !ended {
				_, err = r.c.store.Await(ctx, r.id, after)
			}
			if err != nil {
				yield(nil, wrapStoreErr("stream", err))
				return
			}
			for _, c := range chunks {
				if !yield(c.Data, nil) {
					return
				}
				after = c.Seq
			}
			if ended {
				return
			}
		}
	}
}

const chunksAtOnce = 256

// RunInfo is what is known of a run.
type RunInfo struct {
	ID    string
	Task  string
	Queue string
	State State
	// Blocked says what keeps a run from going on: a limit with its key, a paused queue, a
	// time, what its handler or conditions wait for, which worker it lacks ("no worker serves
	// queue gpu", "no worker has task x", a label, a pause of all), or why it needs a person.
	// Of a waiting run it is only from GetRun and Run.Info. Empty: nothing.
	Blocked string
	// Quarantined: it is StateBlocked because its process died five times while it was
	// executing. ReplayRuns and CancelRuns let it go.
	Quarantined bool
	// Canceling: it was asked to cancel and has not ended, since its handler has yet to
	// return, or it has something to clean up; then it may have to wait for a worker first.
	Canceling bool
	Attempt   int // the last that started, from 1; 0 before; a replay goes on counting
	// Executions is how often a worker took it: for its attempts, and to go on after waits,
	// crashes and shutdowns.
	Executions int
	Priority   int
	// Input and Output are JSON. What the file holds there that is not JSON is shown as a
	// string that says so.
	Input  json.RawMessage
	Output json.RawMessage // of a run that succeeded
	Error  string          // of the last attempt that failed, or why the run was canceled; its first 16 KiB
	Stack  string          // of the panic that was the error; its first 32 KiB
	// Divergence is where a blocked run's code does not match its journal; nil: it does.
	Divergence *Divergence
	Metadata   map[string]string

	Created   time.Time
	Scheduled time.Time // when it was or will be due
	Started   time.Time // the last attempt; zero if none started
	Finished  time.Time // zero if it has not ended

	ParentID string // the run that asked for this one, or ""
	RootID   string // the first of its line, or ""
	Worker   string // name of the worker of the last attempt
	WorkerID string // Deprecated: use Worker, which is the same.
	Key      string // idempotency key
	Workflow bool   // a workflow's run
	Progress ProgressInfo
	Timeline []TimelineEntry // oldest first; only from GetRun and Run.Info
	Tasks    []TaskInfo      // of a workflow's run, parents first; only from GetRun and Run.Info
}

// A Divergence is a durable call that code asked for where its run's journal has another.
type Divergence struct {
	Address  string `json:"address"`  // of the entry, as JournalEntry has it
	Recorded string `json:"recorded"` // step "charge"; nothing: it has no such call
	Asked    string `json:"asked"`    // return: it ended with entries left
	// File and Line are where the code asks, or, where it returned too early, where the
	// function that did begins; Line 0: not known.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// A ProgressInfo says how far a run has come, as its handler reported with Progress. Total 0
// means that it is unknown.
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
}

// runInfo is a stored run as users see it.
func runInfo(r *store.Run) RunInfo {
	f := decodeFailure(r.Error)
	info := RunInfo{
		ID: r.ID.String(), Task: r.Task, Queue: r.Queue, State: r.State, Attempt: r.Attempt, Priority: int(r.Priority),
		Input: jsonx.Embed(r.Input), Output: jsonx.Embed(r.Output), Error: f.Message, Stack: f.Stack, Metadata: decodeMetadata(r.Metadata),
		Created: r.Created, Scheduled: r.Due, Started: r.Started, Finished: r.Ended,
		ParentID: idString(r.Parent), RootID: idString(r.Root), Worker: r.Worker, WorkerID: r.Worker, Key: r.Key, Workflow: r.Workflow,
	}
	info.Executions, info.Canceling = r.Executions, !r.CancelAt.IsZero() && !r.State.Terminal()
	if r.State == store.Blocked {
		info.Divergence, info.Quarantined = f.Divergence, f.Kind == store.KindQuarantine
	}
	switch info.Blocked = blockedReason(r.Task, r.State, r.NoHandler, f.Message); {
	case r.Limiter != nil:
		info.Blocked = limitReason(r.Limiter)
	case r.Paused:
		info.Blocked = fmt.Sprintf("queue %q is paused", r.Queue)
	case r.State == store.Scheduled:
		info.Blocked = "its time, " + r.Due.UTC().Format(time.RFC3339)
	}
	if p := r.Progress; p != nil {
		info.Progress = ProgressInfo{p.Done, p.Total, p.Message}
	}
	info.Timeline = timeline(r, f.Message)
	return info
}

func timeline(r *store.Run, failure string) []TimelineEntry {
	first := StateQueued
	if len(r.Attempts) == 0 && r.Due.After(r.Created) {
		first = StateScheduled
	}
	all := []TimelineEntry{{At: r.Created, State: first}}
	for _, a := range r.Attempts {
		if !a.Started.IsZero() {
			all = append(all, TimelineEntry{At: a.Started, State: StateRunning, Attempt: a.Attempt, Worker: a.Worker})
		}
		all = append(all, TimelineEntry{At: a.Ended, State: a.To, Attempt: a.Attempt, Worker: a.Worker,
			Error: text.Cut(decodeFailure(a.Error).Message, maxListedText)})
	}
	if r.Attempt > 0 && !r.Started.IsZero() && (r.State == store.Running || r.State.Terminal()) {
		all = append(all, TimelineEntry{At: r.Started, State: StateRunning, Attempt: r.Attempt, Worker: r.Worker})
	}
	if r.State.Terminal() {
		all = append(all, TimelineEntry{At: r.Ended, State: r.State, Attempt: r.Attempt, Worker: r.Worker,
			Error: text.Cut(failure, maxListedText)})
	}
	return all
}
