package stint

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stint-dev/stint/internal/outbox"
	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/internal/program"
	"github.com/stint-dev/stint/internal/report"
	"github.com/stint-dev/stint/internal/slots"
	"github.com/stint-dev/stint/store"
)

const (
	// DefaultSlots is the number of runs that a worker executes at once.
	DefaultSlots = 100
	// DefaultDrainTimeout is how long handlers may go on when a worker stops.
	DefaultDrainTimeout = 30 * time.Second

	maxSlots    = 1_000_000
	cancelGrace = 30 * time.Second // from a cancel until the run is recorded as canceled
	stopGrace   = 5 * time.Second  // from the end of the drain until handlers are abandoned
)

// A Worker executes runs of the client's tasks in its own goroutines.
type Worker struct {
	c      *Client
	cfg    workerConfig
	served served
	id     int64 // from the store, set by Run
	ctx    context.Context
	stop   context.CancelFunc

	mu           sync.Mutex
	ran          bool
	running      map[store.ID]*execution
	earlyCancels map[store.Execution]struct{} // cancels since the last claim of those not in running: just claimed, perhaps
	cancelClaim  context.CancelFunc           // ends the claim that waits

	// Of the claiming goroutine: what the store knows.
	storedTasks  []string // tasks
	definedCount int      // tasks of the client, with and without handlers

	starting atomic.Bool // claimLoop starts several runs
	slots    *slots.Pool
	outbox   *outbox.Outbox[outcome]
	recorder *report.Recorder
	drains   chan struct{}   // closed when the worker drains
	handoff  chan *execution // to runners that wait
	execs    sync.WaitGroup
	runners  sync.WaitGroup
}

type workerConfig struct {
	slots  int
	queues []string
	labels map[string]string
	drain  time.Duration
	name   string

	tasks   []string // of WithTasks; nil: all
	handler Handler  // of WithHandler, or nil
}

// NewWorker returns a worker for all tasks that the client has, or will have, a handler for, or
// for those of WithTasks. It starts when Run is called. The error says which option is invalid, or is ErrReadOnly for
// a client with WithReadOnly.
func (c *Client) NewWorker(opts ...WorkerOption) (*Worker, error) {
	if err := c.writable("new worker"); err != nil {
		return nil, err
	}
	cfg := workerConfig{slots: DefaultSlots, drain: DefaultDrainTimeout}
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o.applyWorker(&cfg); err != nil {
			return nil, err
		}
	}
	if err := c.prepareHandler(&cfg); err != nil {
		return nil, err
	}
	if cfg.name == "" {
		cfg.name = newWorkerName()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("%w: new worker", ErrClosed)
	}
	w := &Worker{
		c: c, cfg: cfg, served: newServed(cfg.tasks), running: map[store.ID]*execution{},
		outbox: newOutbox(), recorder: report.NewRecorder(c.store, c.logger), handoff: make(chan *execution),
		drains: make(chan struct{}),
	}
	w.slots = slots.New(cfg.slots, w.restartClaim) // a claim that waits has passed runs over: repeat it
	w.ctx, w.stop = context.WithCancel(context.Background())
	return w, nil
}

// namedWorkers is how many workers of the process have the name that newWorkerName gives.
var namedWorkers atomic.Int64

// newWorkerName returns a name that no other worker of the process has.
func newWorkerName() string {
	host, _ := os.Hostname()
	name := fmt.Sprintf("%s-%d", host, os.Getpid())
	if n := namedWorkers.Add(1); n > 1 {
		name += fmt.Sprintf("-%d", n)
	}
	return name
}

// Run executes runs until ctx is done or the client is closed, then drains: it starts nothing
// new and lets handlers go on for the drain timeout. After that their contexts are done with
// cause ErrShutdown, and their runs go back to the queue without using up an attempt. Run
// returns nil after a complete drain. If handlers did not return, it returns an error that
// names their tasks; these runs are queued again too. While the store cannot write, Run waits.
//
// A worker runs once: a second call of Run returns an error.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.register(ctx); err != nil {
		return err
	}
	defer w.c.running.Done()
	defer w.c.removeWorker(w)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.ctx, cancel)()

	helpers, stopHelpers := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.watchLoop(helpers) })
	wg.Go(func() { w.recorder.Run(helpers, w.reports) })
	finisher := make(chan struct{})
	go func() { defer close(finisher); w.finishLoop(helpers) }()

	w.claimLoop(ctx)
	err := w.drain()
	close(w.handoff)
	if err == nil {
		w.runners.Wait()
	}
	stopHelpers()
	wg.Wait()
	<-finisher
	if uerr := w.c.store.Unregister(context.Background(), w.id); uerr != nil {
		err = errors.Join(err, wrapStoreErr("worker: give back what was not finished", uerr))
	}
	return err
}

// register registers the worker with its client and the store.
func (w *Worker) register(ctx context.Context) error {
	w.mu.Lock()
	ranBefore := w.ran
	w.ran = true
	w.mu.Unlock()
	if ranBefore {
		return errors.New("stint: worker: Run was called before: make another worker")
	}
	c := w.c
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return fmt.Errorf("%w: worker", ErrClosed)
	}
	c.running.Add(1)
	c.workers[w] = struct{}{}
	c.mu.Unlock()
	id, err := w.store(ctx)
	if err != nil {
		c.removeWorker(w)
		c.running.Done()
		return err
	}
	w.mu.Lock()
	w.id = id
	w.mu.Unlock()
	return nil
}

// store stores what the worker is, then what its tasks declare. It waits while the store cannot write.
//
// In this order no other worker of the program, which lacks the tasks, takes the declarations for those of an
// earlier release: it finds a living worker that has them.
func (w *Worker) store(ctx context.Context) (id int64, err error) {
	c, writing := w.c, context.WithoutCancel(ctx)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.ctx, cancel)()
	err = c.retryWhileUnavailable(waiting, func() (err error) {
		if err = w.readDefinitions(writing); err != nil {
			return err
		}
		host, _ := os.Hostname()
		w.storedTasks = w.handledTasks()
		w.warnOfUnknownTasks()
		id, err = c.store.Register(writing, store.WorkerInfo{
			Name: w.cfg.name, Slots: w.cfg.slots, Queues: w.cfg.queues, Labels: w.cfg.labels, PID: os.Getpid(), Host: host,
			Build: program.Build(), Tasks: w.storedTasks, Program: program.Name(), Defines: c.definedTasks(),
		})
		return wrapStoreErr("worker: register", err)
	})
	if err != nil {
		return 0, err
	}
	if err = c.retryWhileUnavailable(waiting, func() error { return c.declare(writing, true) }); err != nil {
		return 0, errors.Join(err, wrapStoreErr("worker: unregister", c.store.Unregister(writing, id)))
	}
	return id, nil
}

func (c *Client) removeWorker(w *Worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.workers, w)
}

// claimLoop claims and starts runs until ctx is done.
func (w *Worker) claimLoop(ctx context.Context) {
	req := store.ClaimRequest{Worker: w.id, Free: w.slots.Free, Tasks: w.hasHandler, Cost: w.cost, Queues: w.cfg.queues}
	for lone := false; ctx.Err() == nil; {
		if w.slots.Free() <= 0 {
			select {
			case <-w.slots.Freed():
			case <-ctx.Done():
			}
			continue
		}
		if err := w.storeTasks(ctx); err != nil && ctx.Err() == nil {
			w.c.logger().Error("stint: storing which tasks the worker has; will retry", "err", err)
		}
		if err := w.c.declare(ctx, false); err != nil && ctx.Err() == nil {
			w.c.logger().Error("stint: storing crons and triggers; will retry", "err", err)
		}
		if !lone { // the claim after a lone run should be there before that ends, to ride in its commit
			runtime.Gosched() // handlers that are about to end do so first, and the claim is for their slots too
		}
		claimed, err := w.claim(ctx, req)
		lone = len(claimed) == 1
		w.starting.Store(len(claimed) > 1)
		for i := range claimed {
			w.start(&claimed[i])
		}
		w.starting.Store(false)
		w.clearEarlyCancels()
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			if errors.Is(err, store.ErrClosed) {
				return
			}
			w.c.logger().Error("stint: claiming runs; will retry", "err", err, "in", retryStore)
			pause.For(ctx, retryStore)
		}
	}
}

// claim waits for runs, or until restartClaim: a task is defined that the worker can execute
// too.
func (w *Worker) claim(ctx context.Context, req store.ClaimRequest) ([]store.Claimed, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	w.cancelClaim = cancel
	w.mu.Unlock()
	return w.c.store.Claim(ctx, req)
}

func (w *Worker) restartClaim() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancelClaim != nil {
		w.cancelClaim()
	}
}

func (c *Client) task(name string) *taskDef {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tasks[name]
}

// start runs a claimed run, on a goroutine that has run others before if one is free: its
// stack has grown already.
func (w *Worker) start(r *store.Claimed) {
	e := newExecution(w, r)
	if e.def == nil || e.def.handler == nil { // the worker does not have this task of a workflow
		o := e.newOutcome(store.Queued)
		o.Uncounted, o.NoHandler = true, true
		w.outbox.Post(outcome{Outcome: o, e: e})
		return
	}
	if !r.CancelAt.IsZero() {
		e.interruptLater(ErrCanceled, r.CancelAt)
	}
	w.slots.Take(&e.slots, w.c.slotCost(r.Task))
	w.mu.Lock()
	old := w.running[r.ID]
	w.running[r.ID] = e
	_, early := w.earlyCancels[store.Execution{ID: r.ID, Lease: r.Lease}]
	w.mu.Unlock()
	if old != nil {
		old.lose()
	}
	w.execs.Add(1)
	if early && r.CancelAt.IsZero() {
		e.interrupt(ErrCanceled, cancelGrace)
	}
	select {
	case w.handoff <- e:
	default:
		w.runners.Go(func() { w.runner(e) })
	}
}

// runner runs an execution, and then others as they come, until the worker has drained. A
// handler that ends its goroutine ends the runner.
func (w *Worker) runner(e *execution) {
	for ok := true; ok; e, ok = <-w.handoff {
		w.execute(e)
	}
}

func (w *Worker) execute(e *execution) {
	defer w.commitPosted() // also when the handler ends its goroutine
	e.execute()
}

// alone reports whether no run is executing or about to.
func (w *Worker) alone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.running) == 0 && !w.starting.Load()
}

// removeExecution removes an execution whose handler has returned.
func (w *Worker) removeExecution(e *execution) {
	defer w.execs.Done()
	w.mu.Lock()
	if w.running[e.run.ID] == e {
		delete(w.running, e.run.ID)
	}
	w.mu.Unlock()
	w.slots.Release(&e.slots)
}

// errLost is the cause for handlers whose worker was taken for dead.
var errLost = fmt.Errorf("%w: its process was cut off or taken for dead, and the run is given to others", ErrShutdown)

// watchLoop passes cancels to executions, and ends those of a worker that was taken for dead.
// Then the store gives it runs again when it may.
func (w *Worker) watchLoop(ctx context.Context) {
	for ctx.Err() == nil {
		sig, err := w.c.store.Watch(ctx, w.id)
		for _, x := range sig.Cancel {
			w.cancelExecution(x)
		}
		if sig.Lost {
			w.c.logger().Warn("stint: this process was cut off or taken for dead: other workers have its runs", "worker", w.cfg.name)
			for _, e := range w.executions() {
				e.lose()
			}
		}
		if errors.Is(err, store.ErrClosed) {
			return
		}
		if err != nil && ctx.Err() == nil {
			w.c.logger().Error("stint: watching for cancels; will retry", "err", err, "in", retryStore)
			pause.For(ctx, retryStore)
		}
	}
}

// cancelExecution ends the context of a run that is canceled while it executes. A run that was
// claimed to clean up ends it itself. The store reports a cancel only once, so an execution that is
// unknown, and may have just been claimed, is kept in earlyCancels until the claim's runs have
// started. A signal that comes late is of an execution that has ended: the run may have been replayed since.
func (w *Worker) cancelExecution(x store.Execution) {
	w.mu.Lock()
	e := w.running[x.ID]
	if e == nil || e.run.Lease != x.Lease {
		e = nil
		if w.earlyCancels == nil {
			w.earlyCancels = map[store.Execution]struct{}{}
		}
		w.earlyCancels[x] = struct{}{}
	}
	w.mu.Unlock()
	if e != nil && e.run.CancelAt.IsZero() {
		e.interrupt(ErrCanceled, cancelGrace)
	}
}

// clearEarlyCancels forgets early cancels: all claimed runs are in running now.
func (w *Worker) clearEarlyCancels() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.earlyCancels = nil
}

// isCanceled reports whether a run was canceled in the execution that this worker has.
func (w *Worker) isCanceled(r *store.Claimed) bool {
	now, err := w.c.store.Get(context.Background(), r.ID)
	return err != nil || now.Lease == r.Lease && !now.CancelAt.IsZero()
}

// executions returns those whose handlers have not returned.
func (w *Worker) executions() []*execution {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]*execution, 0, len(w.running))
	for _, e := range w.running {
		all = append(all, e)
	}
	return all
}

// reports returns what those executions report.
func (w *Worker) reports() iter.Seq[*report.Reports] {
	return func(yield func(*report.Reports) bool) {
		for _, e := range w.executions() {
			if !yield(&e.reports) {
				return
			}
		}
	}
}

func (w *Worker) draining() bool {
	select {
	case <-w.drains:
		return true
	default:
		return false
	}
}

// suspendAll suspends the executions that wait, as the worker drains.
func (w *Worker) suspendAll() {
	close(w.drains)
	for _, e := range w.executions() {
		e.loadMu.Lock()
		d := e.durable
		e.loadMu.Unlock()
		if d != nil {
			d.suspend()
		}
	}
}

// drain waits for the executions, interrupts them after the drain timeout, and returns an
// error if some do not end even then.
func (w *Worker) drain() error {
	w.suspendAll()
	done := make(chan struct{})
	go func() { w.execs.Wait(); close(done) }()
	if closedWithin(done, w.cfg.drain) {
		return nil
	}
	for _, e := range w.executions() {
		e.interrupt(ErrShutdown, stopGrace)
	}
	if closedWithin(done, stopGrace) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	tasks := map[string]int{}
	for _, e := range w.running {
		tasks[e.run.Task]++
	}
	return fmt.Errorf("stint: worker: handlers ignore their context and still run %v after the drain: %v", stopGrace, tasks)
}

// closedWithin reports whether done is closed within d.
func closedWithin(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}
