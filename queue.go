package stint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/internal/jsonx"
	"github.com/stint-dev/stint/internal/near"
	"github.com/stint-dev/stint/store"
)

// Priorities. Any number from -128 to 127 is valid.
const (
	PriorityLow     = 1
	PriorityDefault = 2
	PriorityHigh    = 3
)

// DefaultQueue is the queue of runs without WithQueue.
const DefaultQueue = "default"

// UntilDone, as the TTL of an idempotency key, keeps the key until its run has ended.
const UntilDone = store.UntilDone

// Enqueue stores a run and returns when it is durable. A worker starts it as soon as it can.
//
// Errors: the input cannot be encoded or exceeds WithMaxPayload; an option is invalid;
// ErrClosed; ErrBusy. If ctx is done before the run is stored, its error is returned and
// nothing is stored.
//
// In a handler it is a durable call: a handler that runs again finds the run that it started.
// Inside a step, which may be tried again, it returns ErrDurable unless the run has an idempotency
// key or a child key, or is stored WithTx.
func (t *Task[In, Out]) Enqueue(ctx context.Context, in In, opts ...RunOption) (*Run[Out], error) {
	runs, err := t.EnqueueMany(ctx, []In{in}, opts...)
	if err != nil {
		return nil, err
	}
	return runs[0], nil
}

// EnqueueMany stores a run for each input, or none, in order: at most 1,000,000, with at most
// 256 MiB of inputs. The options apply to each run.
func (t *Task[In, Out]) EnqueueMany(ctx context.Context, ins []In, opts ...RunOption) ([]*Run[Out], error) {
	if len(ins) == 0 {
		return nil, nil
	}
	if err := check.Count("inputs", len(ins), check.MaxPerCall); err != nil {
		return nil, errorf("stint: enqueue %q: %w", t.def.name, err)
	}
	rc, err := t.def.runConfig(ctx, t.c, opts, nil)
	if err != nil {
		return nil, err
	}
	now := t.c.now()
	proto, err := t.def.newRun(t.c, rc, t.c.localExecution(ctx), now)
	if err == nil && rc.childKey != "" && len(ins) > 1 {
		err = fmt.Errorf("stint: enqueue %q: WithChildKey is for one run, these are %d", t.def.name, len(ins))
	}
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
		all[i] = Run[Out]{c: t.c, id: e.ID, existing: e.Existing, unrecorded: rc.tx != nil && t.c.recorded(ctx)}
		handles[i] = &all[i]
	}
	return handles, nil
}

// Run enqueues a run and waits for its result. Inside a handler the run is a child: it is
// canceled with its parent unless Detached, and the parent occupies no slot while it waits.
func (t *Task[In, Out]) Run(ctx context.Context, in In, opts ...RunOption) (Out, error) {
	run, err := t.Enqueue(ctx, in, opts...)
	if err != nil {
		var zero Out
		return zero, err
	}
	return run.Wait(ctx)
}

// Schedule stores a run that starts at the given time, or at once if that has passed. An option
// that says another time, such as WithDelay, is an error.
func (t *Task[In, Out]) Schedule(ctx context.Context, at time.Time, in In, opts ...RunOption) (*Run[Out], error) {
	due := runOnly(func(c *runConfig) error {
		c.runAt = at
		return errors.Join(c.startsBy("Schedule"), wantTime("WithRunAt", at))
	})
	return t.Enqueue(ctx, in, append([]RunOption{due}, opts...)...)
}

// startsBy notes which option says when the run starts. Two of them contradict each other.
func (c *runConfig) startsBy(option string) error {
	if c.start != "" && c.start != option {
		return fmt.Errorf("stint: %s and %s: want one of them", c.start, option)
	}
	c.start = option
	return nil
}

// fill sets a run's input, and its key and limits that are functions of the input.
func (t *Task[In, Out]) fill(r *store.NewRun, in In) (err error) {
	if r.Input, err = marshalAs(t.c, in); err != nil {
		return err
	}
	if err := t.def.setKey(r, in); err != nil {
		return err
	}
	return t.def.setLimits(r, in)
}

// setKey sets the key that WithIdempotency computes from the input, unless an option set one.
func (d *taskDef) setKey(r *store.NewRun, in any) error {
	if d.cfg.idempotency == nil || r.Key != "" {
		return nil
	}
	key, err := callKey("idempotency", d.cfg.idempotency, in)
	if err == nil {
		r.Key, r.KeyTTL = store.StoredKey(key), d.cfg.keyTTL
	}
	return err
}

// guardInput calls f, which encodes or decodes inputs of the task and calls its key functions.
// If that can call code of the app, a panic becomes an error.
func (c *Client) guardInput(d *taskDef, f func() error) error {
	if d.dependsOnInput() || !c.encodesPlainly(d.cfg.in) {
		return guarded(f)
	}
	return f()
}

// callKey calls a key function of the app, and names it in the error. The caller is in guarded
// or on a handler's goroutine.
func callKey(what string, f func(any) string, in any) (key string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s key function: %w", what, apperror.Original(panicError(v)))
		}
	}()
	key = f(in)
	if err := check.Text(what+" key", key); err != nil {
		return "", err
	}
	return key, nil
}

// runConfig returns the task's run options with those of one call applied. In a handler of the
// same database the run is a child. A child has its parent's priority and metadata unless they
// are set. seen has parents that the call has read already; it may be nil.
func (d *taskDef) runConfig(ctx context.Context, c *Client, opts []RunOption, seen parents) (*runConfig, error) {
	rc := d.cfg.run
	if e := c.localExecution(ctx); e != nil {
		rc.parent = e.run.ID
		rc.inherit(int(e.run.Priority), e.run.Metadata)
	}
	if err := d.applyOptions(&rc, opts); err != nil || !rc.parentNamed {
		return &rc, err
	}
	parent, err := seen.read(ctx, c, rc.parent)
	if errors.Is(err, store.ErrNotFound) && rc.tx != nil { // it may be of that transaction
		parent, err = &store.Run{ID: rc.parent, Priority: PriorityDefault}, nil
	}
	if err != nil {
		return nil, wrapStoreErr("WithParent", err)
	}
	rc = d.cfg.run
	rc.inherit(int(parent.Priority), parent.Metadata)
	rc.named = parent
	return &rc, d.applyOptions(&rc, opts)
}

// inherit sets what a run takes over from its parent, unless the task sets it.
func (c *runConfig) inherit(priority int, metadata []byte) {
	if !c.prioritySet {
		c.priority = priority
	}
	if c.metadata == nil {
		c.metadata = jsonx.Texts(metadata)
		delete(c.metadata, store.MetaVersion) // which is of the parent's definition
	}
}

func (d *taskDef) applyOptions(rc *runConfig, opts []RunOption) error {
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o.applyRun(rc); err != nil {
			return errorf("stint: enqueue %q: %w", d.name, err)
		}
	}
	if rc.childKey != "" && rc.parent == (store.ID{}) {
		return fmt.Errorf("stint: enqueue %q: WithChildKey: the run has no parent: call it in a handler, or with WithParent", d.name)
	}
	return nil
}

// newRun returns a run of the task with these options and without input; all runs are made
// here. parent is the execution that enqueues it, or nil.
func (d *taskDef) newRun(c *Client, rc *runConfig, parent *execution, now time.Time) (r store.NewRun, err error) {
	r = store.NewRun{
		Task: d.name, Queue: rc.queue, Priority: int8(rc.priority), AgeEvery: c.cfg.ageing,
		RunAt: rc.runAt, StartIn: d.cfg.scheduleTimeout, Key: rc.key, KeyTTL: rc.keyTTL, Debounce: rc.debounce,
		Parent: rc.parent, ParentNamed: rc.parentNamed, ChildKey: rc.childKey, Detached: rc.detached, Route: d.route(rc, parent),
	}
	if rc.delay > 0 {
		r.RunAt = clock.Add(now, rc.delay)
	}
	metadata := rc.metadata
	if d.version != "" {
		if metadata = maps.Clone(metadata); metadata == nil {
			metadata = map[string]string{}
		}
		metadata[store.MetaVersion] = d.version
	}
	if len(metadata) > 0 {
		r.Metadata, _ = json.Marshal(metadata) // strings always encode
	}
	if d.workflow != nil {
		r.StartIn = d.cfg.timeout // of the whole run
		r.Graph, err = d.workflow.freeze()
	}
	return r, err
}

// localExecution returns the execution whose handler ctx belongs to if its run is in this
// client's database, and nil if not: a run of another database cannot be a parent here.
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

// recorded reports whether a call with ctx, one that starts runs or publishes events, is a durable call: it is made in a handler or a
// branch of a run of this database, outside of its steps.
func (c *Client) recorded(ctx context.Context) bool {
	return c.localExecution(ctx) != nil && ctx.Value(stepKey{}) == nil
}

// enqueueDurably stores runs. Inside a handler that is a durable call: the runs and its record
// are one commit, and a handler that runs again finds the runs it started. A step starts only
// runs that it starts once, however often it is tried; a compensation may start them twice.
func (c *Client) enqueueDurably(ctx context.Context, now time.Time, tx store.Tx, runs []store.NewRun) ([]store.Enqueued, error) {
	step, _ := ctx.Value(stepKey{}).(*stepRef)
	switch {
	case tx != nil || c.localExecution(ctx) == nil: // nothing records the call; if there is a transaction, it is the app's
	case step == nil:
		return c.enqueueChildren(ctx, now, runs)
	case !store.IsUndo(step.entry.Scope) && slices.ContainsFunc(runs, unkeyed):
		return nil, fmt.Errorf("%w: %v %q inside a step, each try of which would start it: make the call in the handler, or with "+
			"WithIdempotencyKey, WithChildKey or WithTx", ErrDurable, store.EntryChild, callName(runs, taskOf))
	}
	return c.enqueue(ctx, now, tx, runs)
}

// unkeyed reports whether enqueueing the run once more would store another.
func unkeyed(r store.NewRun) bool { return r.Key == "" && r.ChildKey == "" }

func (c *Client) enqueueChildren(ctx context.Context, now time.Time, runs []store.NewRun) ([]store.Enqueued, error) {
	call := startCall{kind: store.EntryChild, name: callName(runs, taskOf), n: len(runs), now: now, again: (*scope).rerunFailed}
	return call.do(ctx, func(record *store.Call) (got []store.Enqueued, err error) {
		runs[0].Call = record
		err = c.retryWhileUnavailable(ctx, func() (err error) {
			got, err = c.enqueue(ctx, now, nil, runs)
			return err
		})
		return got, err
	})
}

func (c *Client) enqueue(ctx context.Context, now time.Time, tx store.Tx, runs []store.NewRun) (got []store.Enqueued, err error) {
	end := c.spans.Runs(ctx, runs)
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

// PauseQueue stops starting runs of a queue, in all workers and processes, until ResumeQueue.
// Runs that execute go on. A queue may be paused before its first use; the web page and the
// command refuse an unknown name (see Names).
func (c *Client) PauseQueue(ctx context.Context, queue string) error {
	return c.pauseQueue(ctx, queue, true)
}

// ResumeQueue ends the pause of PauseQueue. It does nothing for a queue that was never used.
func (c *Client) ResumeQueue(ctx context.Context, queue string) error {
	return c.pauseQueue(ctx, queue, false)
}

func (c *Client) pauseQueue(ctx context.Context, queue string, paused bool) error {
	if err := check.Name("queue name", queue); err != nil {
		return errorf("stint: pause or resume: %w", err)
	}
	return c.change(ctx, "pause or resume queue", &store.PauseChange{Queue: queue, Paused: paused})
}

// A QueueInfo is the state of a queue.
type QueueInfo struct {
	Name    string
	Paused  bool
	Ready   int // runs that can start, counted up to 10,000 a task
	Running int
	Oldest  time.Time // when the first run that can start was due; zero: none can
}

// QueuePriorities counts the runs of a queue that can start, by priority, up to 10,000 in all.
func (c *Client) QueuePriorities(ctx context.Context, queue string) (map[int]int, error) {
	if err := check.Text("queue name", queue); err != nil {
		return nil, wrapStoreErr("count priorities", err)
	}
	list := store.QueueList{Name: queue}
	if err := c.store.Read(ctx, &list); err != nil {
		return nil, wrapStoreErr("count priorities", err)
	}
	public := map[int]int{}
	for _, q := range list.Queues {
		for p, n := range q.Priorities {
			public[int(p)] = n
		}
	}
	return public, nil
}

// ListQueues returns every queue that was ever used, by name.
func (c *Client) ListQueues(ctx context.Context) ([]QueueInfo, error) {
	var list store.QueueList
	if err := c.store.Read(ctx, &list); err != nil {
		return nil, wrapStoreErr("list queues", err)
	}
	infos := make([]QueueInfo, len(list.Queues))
	for i, q := range list.Queues {
		infos[i] = QueueInfo{q.Name, q.Paused, q.Ready, q.Running, q.Oldest}
	}
	return infos, nil
}

// Names lists the task and queue names that a database knows, sorted.
type Names struct {
	Tasks  []string // tasks and workflows that this client, a worker, a cron, a trigger or a run has
	Queues []string // queues that have or had runs, were paused, or are or were served by a worker
}

// Unknown returns ErrNotFound, with similar known names in its text, if one of the task or
// queue names is not known.
func (n *Names) Unknown(tasks, queues []string) error {
	for _, of := range []struct {
		what         string
		names, known []string
	}{{"task", tasks, n.Tasks}, {"queue", queues, n.Queues}} {
		for _, name := range of.names {
			if !slices.Contains(of.known, name) {
				return fmt.Errorf("%w: no %s %q is known%s", ErrNotFound, of.what, name, near.Meant(name, of.known))
			}
		}
	}
	return nil
}

// Names returns the known names of tasks and queues. Its time is proportional to their number.
func (c *Client) Names(ctx context.Context) (*Names, error) {
	var known store.Names
	if err := c.store.Read(ctx, &known); err != nil {
		return nil, wrapStoreErr("names", err)
	}
	defs, err := c.Definitions(ctx)
	if err != nil {
		return nil, err
	}
	tasks, queues := known.Tasks, known.Queues
	for _, d := range defs {
		tasks, queues = append(tasks, d.Name), append(queues, d.Task.Queue)
	}
	for _, d := range c.ListTasks() {
		tasks, queues = append(tasks, d.Name), append(queues, d.Queue)
	}
	return &Names{distinct(tasks), distinct(queues)}, nil
}

func distinct(names []string) []string {
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}
