package stint

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/apperror"
	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/journal"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// WithParent makes a run the child of another, as if that run's handler had enqueued it: it is
// canceled with its parent unless Detached, inherits its priority and metadata unless they are
// set, and is listed by RunFilter.ParentID. It is for programs that enqueue on behalf of a run
// that they do not execute.
//
// The error is ErrNotFound if there is no such run, and ErrCanceled if it was canceled, unless
// Detached. A run that has succeeded or failed may have children. Of a parent that the same
// WithTx transaction enqueues, nothing is inherited.
func WithParent(runID string) RunOption {
	return runOnly(func(c *runConfig) (err error) {
		if c.parent, err = parseID(runID); err != nil {
			return errorf("stint: WithParent: %w", err)
		}
		c.parentNamed = true
		return nil
	})
}

// WithChildKey makes an enqueue with a key that the parent has used return a handle to that
// child, whose Existing is true, whatever its task and its state. The parent is the handler's
// run, or the one that WithParent names. A key is kept as long as its parent is stored, also
// while the parent is replayed or the child deleted: Info and Wait of the handle then return
// ErrNotFound. The child may have an idempotency key too: if a run has that, the child key
// refers to it.
func WithChildKey(key string) RunOption {
	return runOnly(func(c *runConfig) error {
		c.childKey = key
		if err := check.Name("key", key); err != nil {
			return errorf("stint: WithChildKey: %w", err)
		}
		return nil
	})
}

// parents are runs that WithParent names.
type parents map[store.ID]*store.Run

// read returns a run, which it keeps unless the map is nil.
func (p parents) read(ctx context.Context, c *Client, id store.ID) (*store.Run, error) {
	if r := p[id]; r != nil {
		return r, nil
	}
	r, err := c.store.Get(ctx, id)
	if err == nil && p != nil {
		p[id] = r
	}
	return r, err
}

// EnqueueJSON enqueues a run of the named task or workflow with an input that is JSON already.
// If the task is defined on this client, its definition applies and the input must decode as
// its type. If not, another program executes the run, and the newest definition that Define has
// stored applies, or, without one, only the given options.
func (c *Client) EnqueueJSON(ctx context.Context, task string, input json.RawMessage, opts ...RunOption) (*Run[json.RawMessage], error) {
	now := c.now()
	r, err := c.newJSONRun(ctx, task, input, opts, now, nil, nil)
	if err != nil {
		return nil, errorf("stint: enqueue %q: %w", task, err)
	}
	got, err := c.enqueueDurably(ctx, now, r.tx, []store.NewRun{r.NewRun})
	if err != nil {
		return nil, wrapStoreErr(fmt.Sprintf("enqueue %q", task), err)
	}
	return &Run[json.RawMessage]{c: c, id: got[0].ID, existing: got[0].Existing, unrecorded: r.tx != nil && c.recorded(ctx)}, nil
}

type jsonRun struct {
	store.NewRun
	tx store.Tx
}

func (c *Client) newJSONRun(ctx context.Context, task string, input json.RawMessage, opts []RunOption, now time.Time, seen parents,
	defs map[string]*taskDef,
) (r jsonRun, err error) {
	def, err := c.definitionFor(ctx, task, input, defs)
	if err != nil {
		return r, err
	}
	rc, err := def.runConfig(ctx, c, opts, seen)
	if err != nil {
		return r, err
	}
	r.tx = rc.tx
	r.NewRun, err = def.newRun(c, rc, c.localExecution(ctx), now)
	r.Input = input
	if err != nil || def.prepare == nil {
		return r, err
	}
	return r, def.prepare(input, &r.NewRun)
}

// jsonTask returns the newest definition of a task, or one without options. It keeps it in defs, unless
// the map is nil.
func (c *Client) jsonTask(ctx context.Context, task string, defs map[string]*taskDef) (*taskDef, error) {
	if def := defs[task]; def != nil {
		return def, nil
	}
	def, err := c.definition(ctx, task)
	if err != nil {
		return nil, err
	}
	if def == nil {
		def = &taskDef{name: task, cfg: taskConfig{run: runConfig{priority: PriorityDefault, queue: DefaultQueue}}}
	}
	if defs != nil {
		defs[task] = def
	}
	return def, nil
}

// definitionFor returns the definition of a task that is enqueued by name, and checks the input. It keeps
// what it reads in defs, unless the map is nil.
func (c *Client) definitionFor(ctx context.Context, task string, input json.RawMessage, defs map[string]*taskDef) (*taskDef, error) {
	if err := check.Name("task name", task); err != nil {
		return nil, err
	}
	if !json.Valid(input) {
		return nil, errors.New("the input is not JSON")
	}
	if len(input) > c.cfg.maxPayload {
		return nil, fmt.Errorf("input of %d bytes: want at most %d (WithMaxPayload)", len(input), c.cfg.maxPayload)
	}
	c.mu.Lock()
	def := c.tasks[task]
	c.mu.Unlock()
	switch {
	case def == nil && strings.Contains(task, ":"), def != nil && (def.node != nil || def.hookOf != nil):
		return nil, errors.New("it is started by its task or workflow alone")
	case def == nil:
		return c.jsonTask(ctx, task, defs)
	}
	return def, nil
}

// A JSONRun is a run to enqueue: of any task, with options of its own.
type JSONRun struct {
	Task    string
	Input   json.RawMessage
	Options []RunOption
}

// Enqueued is the result for one JSONRun.
type Enqueued struct {
	ID       string
	Existing bool // a key matched an earlier run, which has the ID; nothing was enqueued
}

// EnqueueJSONMany is EnqueueJSON for many runs of any tasks, each with its own options, in one
// commit: it stores all or none, in order. The results are in the order of the runs. Runs with
// the same key are one run: the later ones are Existing.
//
// At most 1,000,000 runs with 256 MiB of inputs. The error of a run that cannot be enqueued
// names its index. WithTx must be the same for all. In a handler it is one durable call: if the
// handler runs again, the call returns the same results and enqueues nothing.
func (c *Client) EnqueueJSONMany(ctx context.Context, runs []JSONRun) ([]Enqueued, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	if err := check.Count("runs", len(runs), check.MaxPerCall); err != nil {
		return nil, errorf("stint: enqueue: %w", err)
	}
	now, seen, defs := c.now(), parents{}, map[string]*taskDef{}
	var tx store.Tx
	var size check.CallSize
	all := make([]store.NewRun, len(runs))
	for i := range runs {
		r, err := c.newJSONRun(ctx, runs[i].Task, runs[i].Input, runs[i].Options, now, seen, defs)
		if err == nil {
			err = size.Add(len(r.Input))
		}
		if err == nil && i > 0 && r.tx != tx {
			err = errors.New("WithTx: want the same transaction for all runs of a call")
		}
		if err != nil {
			return nil, errorf("stint: enqueue run %d (task %.300q): %w", i, runs[i].Task, err)
		}
		all[i], tx = r.NewRun, r.tx
	}
	got, err := c.enqueueDurably(ctx, now, tx, all)
	if err != nil {
		return nil, wrapStoreErr(fmt.Sprintf("enqueue %d runs", len(runs)), err)
	}
	results := make([]Enqueued, len(got))
	for i, e := range got {
		results[i] = Enqueued{e.ID.String(), e.Existing}
	}
	return results, nil
}

// A Tx is the app's own transaction: a *sql.Tx, a *sql.Conn, or an ORM's wrapper of one.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// WithTx enqueues inside the app's own transaction on the same database: the run exists if and
// only if that commits, and can start right after.
//
// On SQLite the transaction must be on the client's file, opened with modernc.org/sqlite. Begin it
// with BEGIN IMMEDIATE (_txlock=immediate in the DSN): SQLite refuses the first write of a
// deferred transaction that has read before if another has written since.
//
// On PostgreSQL it is a *sql.Tx of pgx's driver for database/sql, or a pgx.Tx in postgres.Tx, on
// the database with the store's tables.
//
// In a handler it is not recorded: a handler that runs again, after a failure or a durable wait,
// does the same once more. There use it in StepTx, with its transaction. Wait of such a run in the
// handler that enqueued it returns ErrDurable.
//
// With Publish, the event exists if and only if the transaction commits, and starts and wakes runs
// right after.
func WithTx(tx Tx) TxOption { return txOption{tx} }

// A TxOption is an option of runs and events.
type TxOption interface {
	RunOption
	EventOption
}

type txOption struct{ tx Tx }

func (o txOption) set(tx *store.Tx) error {
	if o.tx == nil {
		return errors.New("stint: WithTx(nil): want a transaction")
	}
	*tx = o.tx
	return nil
}

func (o txOption) applyRun(c *runConfig) error { return o.set(&c.tx) }

func (o txOption) applyEvent(c *eventConfig) error { return o.set(&c.tx) }

// callName returns the name of the call that enqueues runs or publishes events: their tasks or keys, in order.
func callName[T any](all []T, nameOf func(*T) string) string {
	names, size := nameOf(&all[0]), 0
	for i := 1; i < len(all) && size <= check.MaxName; i++ {
		if name := nameOf(&all[i]); name != nameOf(&all[i-1]) {
			names += "," + name
			size = len(names)
		}
	}
	return text.Cut(names, check.MaxName)
}

func taskOf(r *store.NewRun) string { return r.Task }

// A startCall is a durable call that starts n runs, or publishes n events, in the commit that records it.
type startCall struct {
	kind  store.EntryKind
	name  string
	n     int
	now   time.Time
	again func(sc *scope, ctx context.Context, at store.Address, got []store.Enqueued) error // for those of an earlier pass; may be nil
}

// do makes the call: start stores what it starts with the record. A handler that runs again gets what it got before.
func (call *startCall) do(ctx context.Context, start func(*store.Call) ([]store.Enqueued, error)) ([]store.Enqueued, error) {
	sc, err := enter(ctx, call.kind, call.name)
	if err != nil {
		return nil, err
	}
	defer sc.leave()
	e, recorded, err := sc.next(call.kind, call.name)
	if err != nil {
		return nil, err
	}
	if recorded {
		got, err := sc.recordedRuns(&e, call.n)
		if err == nil && call.again != nil {
			err = call.again(sc, ctx, e.Address, got)
		}
		return got, err
	}
	if err := sc.refuseNew(ctx); err != nil {
		return nil, err
	}
	e.Done = true
	got, err := start(&store.Call{ID: sc.e.run.ID, Lease: sc.e.run.Lease, Entry: e})
	if errors.Is(err, store.ErrStale) {
		sc.e.durable.diverge(err)
		runtime.Goexit()
	}
	sc.advanceTo(call.now.Truncate(time.Millisecond)) // as stored
	return got, err
}

// recordedRuns returns the runs that a recorded call started, or the events that it published.
func (sc *scope) recordedRuns(e *store.Entry, n int) ([]store.Enqueued, error) {
	got, err := store.DecodeEnqueued(e.Value)
	if err != nil {
		return nil, errorf("stint: the journal's %v %q: %w", e.Kind, e.Name, err)
	}
	if len(got) != n {
		of := "runs"
		if e.Kind == store.EntryPublish {
			of = "events"
		}
		said := func(n int) string { return fmt.Sprintf("%v %q, %d %s of it", e.Kind, e.Name, n, of) }
		sc.diverge(&journal.Divergence{At: journal.Address(e.Address), Recorded: said(len(got)), Asked: said(n)})
	}
	return got, nil
}

// publishDurably stores events. Inside a handler that is a durable call: the events and its record are one commit.
func (c *Client) publishDurably(ctx context.Context, tx store.Tx, events []store.NewEvent) ([]store.ID, error) {
	now := c.now()
	if tx != nil || !c.recorded(ctx) {
		return c.publish(ctx, now, tx, events)
	}
	name := callName(events, func(e *store.NewEvent) string { return e.Key })
	call := startCall{kind: store.EntryPublish, name: name, n: len(events), now: now}
	got, err := call.do(ctx, func(record *store.Call) (got []store.Enqueued, err error) {
		events[0].Call = record
		var ids []store.ID
		err = c.retryWhileUnavailable(ctx, func() (err error) {
			ids, err = c.publish(ctx, now, nil, events)
			return err
		})
		for _, id := range ids {
			got = append(got, store.Enqueued{ID: id})
		}
		return got, err
	})
	ids := make([]store.ID, len(got))
	for i := range got {
		ids[i] = got[i].ID
	}
	return ids, err
}

// StepTx is like Step, for a function that changes rows of the app's own in the same database: on
// the same SQLite file, or in the PostgreSQL database. The changes and the record of the step are
// one commit, so they happen exactly once. If the database cannot be written, because the disk is
// full or another program has the file locked, fn is called again each second in a new
// transaction.
//
// Outside of a run it returns ErrDurable.
func StepTx[T any](ctx context.Context, name string, fn func(context.Context, *sql.Tx) (T, error), opts ...StepOption) (T, error) {
	var zero T
	e := executionOf(ctx)
	if e == nil {
		return zero, fmt.Errorf("%w: StepTx outside of a run", ErrDurable)
	}
	return Step(ctx, name, func(ctx context.Context) (out T, err error) {
		err = e.c.retryWhileUnavailable(ctx, func() (err error) {
			out, err = stepTxOnce(ctx, e, name, fn)
			return vet(err) // its methods are called to find out whether to retry
		})
		return out, apperror.Original(err)
	}, append(slices.Clone(opts), stepOption(func(c *stepConfig) error { c.tx = true; return nil }))...)
}

func stepTxOnce[T any](ctx context.Context, e *execution, name string, fn func(context.Context, *sql.Tx) (T, error)) (out T, err error) {
	var zero T
	tx, err := beginStepTx(ctx, name)
	if err != nil {
		return zero, NonRetryable(err)
	}
	defer tx.rollback()
	if out, err = fn(ctx, tx.Tx); err != nil {
		return zero, err
	}
	b, err := marshalAs(e.c, out)
	if err != nil {
		return zero, NonRetryable(errorf("stint: result of step %q: %w", name, err))
	}
	if ctx.Err() != nil { // too late, even if fn ignored ctx
		return zero, context.Cause(ctx)
	}
	return out, tx.commit(ctx, b)
}

// errNoRows is one of the errors that keep their identity when stored.
var errNoRows = sql.ErrNoRows

// A stepTx is the transaction of a StepTx.
type stepTx struct {
	*sql.Tx
	c    store.AppTx
	now  func() time.Time
	call store.Call
}

func beginStepTx(ctx context.Context, name string) (*stepTx, error) {
	e := executionOf(ctx)
	s, ok := e.c.store.(store.AppTx)
	if !ok {
		return nil, fmt.Errorf("stint: StepTx: %T has no transactions for the app", e.c.store)
	}
	tx, err := s.BeginTx(ctx)
	if err != nil {
		return nil, wrapStoreErr("StepTx", err)
	}
	p := ctx.Value(stepKey{}).(*stepRef)
	entry := p.entry // with its earlier tries
	entry.Done, entry.Due = true, time.Time{}
	if entry.Attempts++; entry.Attempts > 1 {
		addTry(&entry, p.began, e.c.now())
	}
	return &stepTx{tx, s, e.c.now, store.Call{ID: e.run.ID, Lease: e.run.Lease, Entry: entry}}, nil
}

// commit records the step in the transaction, and commits both.
func (t *stepTx) commit(ctx context.Context, value []byte) error {
	t.call.Entry.Value = value
	_, stale, err := t.c.AppendTx(ctx, t.now(), t.Tx, t.call)
	if err == nil && stale {
		err = store.ErrStale
	}
	if err != nil {
		return NonRetryable(wrapStoreErr("StepTx", err))
	}
	return t.Commit()
}

func (t *stepTx) rollback() { t.Rollback() } // does nothing after the commit
