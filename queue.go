package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/store"
)

// Priorities. Any number from -128 to 127 is one.
const (
	PriorityLow     = 1
	PriorityDefault = 2
	PriorityHigh    = 3
)

// DefaultQueue is the queue of a run that names none.
const DefaultQueue = "default"

// UntilDone, as the TTL of an idempotency key, keeps it until its run has ended.
const UntilDone = store.UntilDone

// Enqueue stores a run and returns once it is durable; a worker starts it when it can.
//
// Errors: an input that cannot be encoded or is larger than the client allows; an
// invalid option; ErrClosed; ErrBusy. If ctx ends before the run's turn to be stored,
// its error is returned and nothing is stored.
func (t *Task[In, Out]) Enqueue(ctx context.Context, in In, opts ...RunOption) (*Run[Out], error) {
	runs, err := t.EnqueueMany(ctx, []In{in}, opts...)
	if err != nil {
		return nil, err
	}
	return runs[0], nil
}

// EnqueueMany stores all runs or none, in order: at most 1,000,000, with at most 256 MiB of
// inputs. The options are those of each run.
func (t *Task[In, Out]) EnqueueMany(ctx context.Context, ins []In, opts ...RunOption) ([]*Run[Out], error) {
	if len(ins) == 0 {
		return nil, nil
	}
	if err := check.Count("inputs", len(ins), check.MaxPerCall); err != nil {
		return nil, errorf("stint: enqueue %q: %w", t.def.name, err)
	}
	rc, err := t.def.runConfig(ctx, t.c, opts)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	proto, err := t.def.newRun(t.c, rc, t.c.localExecution(ctx), now)
	if err != nil {
		return nil, err
	}
	runs := make([]store.NewRun, len(ins))
	at := 0
	var size check.CallSize
	err = t.c.guardInput(t.def, func() (err error) {
		for at = range ins {
			runs[at] = proto
			if err = t.fill(&runs[at], ins[at]); err == nil {
				err = size.Add(len(runs[at].Input))
			}
			if err != nil {
				break
			}
		}
		return err
	})
	if err != nil {
		return nil, errorf("stint: enqueue %q: input %d: %w", t.def.name, at, err)
	}
	got, err := t.c.enqueueDurably(ctx, now, rc.tx, runs)
	if err != nil {
		return nil, wrapStoreErr(fmt.Sprintf("enqueue %q", t.def.name), err)
	}
	all := make([]Run[Out], len(got))
	handles := make([]*Run[Out], len(got))
	for i, e := range got {
		all[i] = Run[Out]{c: t.c, id: e.ID, existing: e.Existing}
		handles[i] = &all[i]
	}
	return handles, nil
}

// Run enqueues a run and waits for its result. Inside a handler it starts a child,
// which is canceled with its parent unless Detached, and gives up the parent's slot
// while it waits.
func (t *Task[In, Out]) Run(ctx context.Context, in In, opts ...RunOption) (Out, error) {
	run, err := t.Enqueue(ctx, in, opts...)
	if err != nil {
		var zero Out
		return zero, err
	}
	return run.Wait(ctx)
}

// Schedule stores a run that starts at the given time, or at once if that has passed.
func (t *Task[In, Out]) Schedule(ctx context.Context, at time.Time, in In, opts ...RunOption) (*Run[Out], error) {
	return t.Enqueue(ctx, in, append([]RunOption{WithRunAt(at)}, opts...)...)
}

// EnqueueJSON enqueues a run of the task or workflow of that name with an input that is
// JSON already. If it is defined on this client, all that its definition says holds, and
// the input must be one of its type; else it is a run that another program works, with
// the options that are given here alone.
func (c *Client) EnqueueJSON(ctx context.Context, task string, input json.RawMessage, opts ...RunOption) (*Run[json.RawMessage], error) {
	r, err := c.newJSONRun(ctx, task, input, opts)
	if err != nil {
		return nil, errorf("stint: enqueue %q: %w", task, err)
	}
	got, err := c.enqueueDurably(ctx, r.now, r.tx, []store.NewRun{r.NewRun})
	if err != nil {
		return nil, wrapStoreErr(fmt.Sprintf("enqueue %q", task), err)
	}
	return &Run[json.RawMessage]{c: c, id: got[0].ID, existing: got[0].Existing}, nil
}

type jsonRun struct {
	store.NewRun
	now time.Time
	tx  store.Tx
}

func (c *Client) newJSONRun(ctx context.Context, task string, input json.RawMessage, opts []RunOption) (r jsonRun, err error) {
	if err := check.Name("task name", task); err != nil {
		return r, err
	}
	if !json.Valid(input) {
		return r, errors.New("the input is not JSON")
	}
	if len(input) > c.cfg.maxPayload {
		return r, fmt.Errorf("input of %d bytes: want at most %d (WithMaxPayload)", len(input), c.cfg.maxPayload)
	}
	c.mu.Lock()
	def := c.tasks[task]
	c.mu.Unlock()
	switch {
	case def == nil && strings.Contains(task, ":"), def != nil && (def.node != nil || def.hookOf != nil):
		return r, errors.New("it is started by its task or workflow alone")
	case def == nil:
		def = &taskDef{name: task, cfg: taskConfig{run: runConfig{priority: PriorityDefault, queue: DefaultQueue}}}
	}
	rc, err := def.runConfig(ctx, c, opts)
	if err != nil {
		return r, err
	}
	r.now, r.tx = time.Now(), rc.tx
	r.NewRun, err = def.newRun(c, rc, c.localExecution(ctx), r.now)
	r.Input = input
	if err != nil || def.prepare == nil {
		return r, err
	}
	return r, def.prepare(input, &r.NewRun)
}

// fill gives a run its input, and what functions of the input say.
func (t *Task[In, Out]) fill(r *store.NewRun, in In) (err error) {
	if r.Input, err = marshalAs(t.c, in); err != nil {
		return err
	}
	if err := t.def.setKey(r, in); err != nil {
		return err
	}
	return t.def.setLimits(r, in)
}

// setKey gives a run the key that WithIdempotency makes of its input, unless an option gave it one.
func (d *taskDef) setKey(r *store.NewRun, in any) error {
	if d.cfg.idempotency == nil || r.Key != "" {
		return nil
	}
	key, err := callKey("idempotency", d.cfg.idempotency, in)
	if err == nil {
		r.Key, r.KeyTTL = idempotencyKey(key), d.cfg.keyTTL
	}
	return err
}

// guardInput calls f, which encodes or decodes inputs of the task and calls its key functions:
// if that is code of the app's, where its panic is an error.
func (c *Client) guardInput(d *taskDef, f func() error) error {
	if d.dependsOnInput() || !c.encodesPlainly(d.cfg.in) {
		return guarded(f)
	}
	return f()
}

// callKey calls a key function of the app's, and says in an error which it was. The caller
// is in guarded, or on a handler's goroutine.
func callKey(what string, f func(any) string, in any) (key string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s key function: %w", what, original(panicError(v)))
		}
	}()
	key = f(in)
	if err := check.Text(what+" key", key); err != nil {
		return "", err
	}
	return key, nil
}

// runConfig is the task's run options with those of one call applied. Inside a handler of
// the same database the run is a child, with its parent's priority and metadata unless set.
func (d *taskDef) runConfig(ctx context.Context, c *Client, opts []RunOption) (*runConfig, error) {
	rc := d.cfg.run
	if e := c.localExecution(ctx); e != nil {
		rc.parent = e.run.ID
		if !rc.prioritySet {
			rc.priority = int(e.run.Priority)
		}
		if rc.metadata == nil {
			rc.metadata = decodeMetadata(e.run.Metadata)
		}
	}
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o.applyRun(&rc); err != nil {
			return nil, errorf("stint: enqueue %q: %w", d.name, err)
		}
	}
	return &rc, nil
}

// newRun returns a run of the task with these options, without an input. parent is the
// execution that enqueues it, or nil.
func (d *taskDef) newRun(c *Client, rc *runConfig, parent *execution, now time.Time) (r store.NewRun, err error) {
	r = store.NewRun{
		Task: d.name, Queue: rc.queue, Priority: int8(rc.priority), AgeEvery: c.cfg.ageing,
		RunAt: rc.runAt, StartIn: d.cfg.scheduleTimeout, Key: rc.key, KeyTTL: rc.keyTTL, Debounce: rc.debounce,
		Parent: rc.parent, Detached: rc.detached, Route: d.route(parent),
	}
	if rc.delay > 0 {
		r.RunAt = clock.Add(now, rc.delay)
	}
	if len(rc.metadata) > 0 {
		r.Metadata, _ = json.Marshal(rc.metadata) // strings always encode
	}
	if d.workflow != nil {
		r.StartIn = d.cfg.timeout // of the whole run
		r.Graph, err = d.workflow.freeze()
	}
	return r, err
}

func decodeMetadata(b []byte) map[string]string {
	if b == nil {
		return nil
	}
	var m map[string]string
	json.Unmarshal(b, &m) // what a person broke by hand counts as none
	return m
}

// localExecution is executionOf, if that run is in this client's database. In the handler of
// a client of another database it is nil: there a run of this one is nobody's child.
func (c *Client) localExecution(ctx context.Context) *execution {
	e := executionOf(ctx)
	if e == nil || e.c == c || e.replay != nil {
		return e
	}
	e.mu.Lock()
	here, known := e.local[c]
	e.mu.Unlock()
	if !known {
		_, err := c.store.Get(ctx, e.run.ID)
		if here = err == nil; here || errors.Is(err, store.ErrNotFound) {
			e.mu.Lock()
			if e.local == nil {
				e.local = map[*Client]bool{}
			}
			e.local[c] = here
			e.mu.Unlock()
		}
	}
	if !here {
		return nil
	}
	return e
}

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

func (c *Client) enqueue(ctx context.Context, now time.Time, tx store.Tx, runs []store.NewRun) (got []store.Enqueued, err error) {
	end := c.traceRuns(ctx, runs)
	defer func() { end(err) }()
	if tx == nil {
		return c.store.Enqueue(ctx, now, runs)
	}
	s, ok := c.store.(store.AppTx)
	if !ok {
		return nil, fmt.Errorf("WithTx: %T cannot join the app's transactions", c.store)
	}
	err = guarded(func() (err error) { // its methods may be the app's
		got, err = s.EnqueueTx(ctx, now, tx, runs)
		return err
	})
	return got, err
}

// PauseQueue stops starting runs of a queue, over all workers and processes, until
// ResumeQueue. What runs goes on. A queue may be paused before its first use; the page and
// the command, where a name is typed, refuse one that is not known (see Names).
func (c *Client) PauseQueue(ctx context.Context, queue string) error {
	return c.pauseQueue(ctx, queue, true)
}

// ResumeQueue undoes PauseQueue. It does nothing to a queue that was never used.
func (c *Client) ResumeQueue(ctx context.Context, queue string) error {
	return c.pauseQueue(ctx, queue, false)
}

func (c *Client) pauseQueue(ctx context.Context, queue string, paused bool) error {
	if err := check.Name("queue name", queue); err != nil {
		return errorf("stint: pause or resume: %w", err)
	}
	return wrapStoreErr("pause or resume queue", c.store.PauseQueue(ctx, queue, paused))
}

// A QueueInfo is the state of a queue.
type QueueInfo struct {
	Name    string
	Paused  bool
	Ready   int // runs that may start, counted up to 10,000 a task
	Running int
	Oldest  time.Time // when the first that may start was due; zero: none may
}

// QueuePriorities counts the runs of a queue that may start by their priority, 10,000 of
// them at most.
func (c *Client) QueuePriorities(ctx context.Context, queue string) (map[int]int, error) {
	if err := check.Text("queue name", queue); err != nil {
		return nil, wrapStoreErr("count priorities", err)
	}
	counts, err := c.store.Priorities(ctx, queue)
	if err != nil {
		return nil, wrapStoreErr("count priorities", err)
	}
	public := make(map[int]int, len(counts))
	for p, n := range counts {
		public[int(p)] = n
	}
	return public, nil
}

// ListQueues lists every queue that was ever used, by name.
func (c *Client) ListQueues(ctx context.Context) ([]QueueInfo, error) {
	all, err := c.store.Queues(ctx)
	if err != nil {
		return nil, wrapStoreErr("list queues", err)
	}
	infos := make([]QueueInfo, len(all))
	for i, q := range all {
		infos[i] = QueueInfo(q)
	}
	return infos, nil
}
