package hatchet

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// An execution is a run that a worker of an SDK executes. To stint it is a handler, which waits for what the SDK
// reports.
type execution struct {
	w      *worker
	info   stint.RunInfo
	task   *task
	pool   *slotPool
	action *wire.AssignedAction

	// Of a member of a batch: guarded by w.mu.
	payload  []byte
	group    *batchGroup
	gathered time.Time // when it began to wait
	counted  bool      // among those that released their slots

	durable *durable        // nil: the task is not durable
	ended   context.Context // done when it has finished
	end     context.CancelFunc

	mu       sync.Mutex
	told     map[int64]*wire.DurableEntryCompleted // ends of nodes that were sent
	ctx      context.Context
	sent     bool // to the SDK
	started  bool // the SDK has said so, or has called for the run
	finished bool
	batch    *batch        // of which it is a member, once that is formed
	slots    int           // that it holds
	extended time.Duration // its timeout, by the task
	chunks   int64         // index of the next chunk of its stream
	turn     chan struct{} // closed when chunks grows; nil: nobody waits
	result   outcome       // once it has finished
	done     chan struct{} // closed when it has finished
	recorded <-chan error  // receives when stint has stored the outcome, or refused it
	stored   chan struct{} // closed when that was received
}

type outcome struct {
	output []byte
	err    error
}

var errUnloaded = errors.New("the worker has unloaded the run")

// execute is the handler of all runs that are claimed for the worker.
func (w *worker) execute(ctx context.Context, _ []byte) ([]byte, error) {
	info, _ := stint.Info(ctx)
	t := w.s.catalog.task(info.Task)
	if t == nil {
		return nil, errors.New("the definition of task " + info.Task + " is gone")
	}
	if w.pools[t.pool()] == nil {
		return nil, errors.New("the worker has no pool of slots " + t.pool() + ", which task " + info.Task + " now takes")
	}
	e := &execution{w: w, info: info, task: t, pool: w.pools[t.pool()], ctx: ctx, done: make(chan struct{}),
		recorded: stint.Recorded(ctx), stored: make(chan struct{})}
	e.ended, e.end = context.WithCancel(context.Background())
	defer e.end()
	if t.Durable {
		var err error
		if e.durable, err = w.newDurable(ctx, e); err != nil {
			return nil, err
		}
		defer e.finish(outcome{err: errUnloaded}) // unless it has finished
	}
	w.s.add(e)
	defer w.s.drop(e)
	if t.Batch != nil {
		defer w.ungather(e)
		if err := w.gather(ctx, e); err != nil {
			return nil, err
		}
		return e.await(ctx)
	}
	action, err := w.s.newAction(ctx, e)
	if err != nil {
		return nil, err
	}
	if e.slots, err = e.pool.acquire(ctx, t.slots()); err != nil {
		return nil, err
	}
	defer e.releaseSlots()
	if e.action = action; !e.goesOut() || !w.send(action) {
		return nil, stint.Snooze(0)
	}
	return e.await(ctx)
}

// add makes e one of the runs that its worker executes, and drop ends that.
func (s *Server) add(e *execution) {
	s.mu.Lock()
	s.runs[e.info.ID] = e
	s.mu.Unlock()
	e.w.mu.Lock()
	e.w.runs[e] = true
	e.w.mu.Unlock()
}

func (s *Server) drop(e *execution) {
	s.mu.Lock()
	if s.runs[e.info.ID] == e {
		delete(s.runs, e.info.ID)
	}
	s.mu.Unlock()
	e.w.mu.Lock()
	delete(e.w.runs, e)
	e.w.mu.Unlock()
}

// await returns what the SDK reports. A run that is canceled, or takes too long, ends at once; the SDK is told.
func (e *execution) await(ctx context.Context) ([]byte, error) {
	if e.durable != nil {
		if err := e.durable.serve(); err != nil {
			return nil, err
		}
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		if e.finish(outcome{err: context.Cause(ctx)}) && !errors.Is(context.Cause(ctx), stint.ErrShutdown) {
			e.sendCancel()
		}
	}
	return e.result.output, e.result.err
}

// finish sets the result, and reports whether none was set before.
func (e *execution) finish(o outcome) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.finished {
		return false
	}
	e.finished, e.result = true, o
	close(e.done)
	e.end()
	if e.batch != nil {
		e.batch.memberEnds()
	}
	return true
}

// awaitStored waits until the database has the outcome. One that it refused is of an execution that another has
// followed: there is nothing to keep.
func (e *execution) awaitStored(ctx context.Context) error {
	select {
	case <-e.recorded:
		close(e.stored)
		return nil
	case <-e.stored:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.w.s.ctx.Done():
		return errEnds
	}
}

// join makes e a member of a batch.
func (e *execution) join(b *batch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.batch = b
	if e.finished {
		b.memberEnds()
	}
}

// isOf reports whether a report is on the batch that e is in; "" is of any.
func (e *execution) isOf(batch string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return batch == "" || e.batch != nil && e.batch.id == batch
}

// goesOut notes that the run is sent to the SDK, and reports whether it has not ended.
func (e *execution) goesOut() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent = true
	return !e.finished
}

// unheard reports whether the run was sent, and the SDK has not shown that it has it.
func (e *execution) unheard() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sent && !e.started
}

// hasStarted reports whether the SDK has shown that it executes the run.
func (e *execution) hasStarted() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.started
}

func (e *execution) begins() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started = true
}

// releaseSlots gives the slots back, once.
func (e *execution) releaseSlots() {
	e.mu.Lock()
	n := e.slots
	e.slots = 0
	e.mu.Unlock()
	if n > 0 {
		e.pool.release(n)
	}
}

// sendCancel ends the run at the SDK, if the SDK has it. A member of a batch cannot be ended alone.
func (e *execution) sendCancel() {
	e.mu.Lock()
	sent := e.sent
	e.mu.Unlock()
	if !sent || e.action == nil {
		return
	}
	a := proto.Clone(e.action).(*wire.AssignedAction)
	a.ActionType, a.ActionPayload = wire.ActionType_ACTION_CANCEL_TASK, "{}"
	e.w.send(a)
}

// execution returns the execution of a run that the worker reports on, or nil if it is not, or no longer, its own. A
// retry count of another execution is of one that has ended.
func (s *Server) execution(run string, retry *int32) *execution {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.runs[run]
	if e == nil || retry != nil && *retry != e.retry() {
		return nil
	}
	return e
}

// retry is the number by which reports name this execution among those of the run.
func (e *execution) retry() int32 { return int32(e.info.Executions - 1) }
