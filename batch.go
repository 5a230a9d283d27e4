package stint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stint-dev/stint/store"
)

const (
	// DefaultBatchSize is how many runs a call of a batch task's handler gets at most.
	DefaultBatchSize = 100
	// DefaultBatchInterval is how long the first run of a batch waits for others.
	DefaultBatchInterval = 100 * time.Millisecond
)

type batchConfig struct {
	size     int
	interval time.Duration
	key      func(any) string
	set      bool
}

// WithBatchSize has a batch task's handler called with up to n runs. The default is
// DefaultBatchSize; a worker with fewer slots gathers no more than it has.
func WithBatchSize(n int) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.batch.size, c.batch.set = n, true
		if n < 1 || n > maxSlots {
			return fmt.Errorf("stint: WithBatchSize(%d): want 1 to %d", n, maxSlots)
		}
		return nil
	})
}

// WithBatchInterval has a batch task's handler called at the latest d after the first run
// of the batch was started. The default is DefaultBatchInterval.
func WithBatchInterval(d time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.batch.interval, c.batch.set = d, true
		return wantPositive("WithBatchInterval", d)
	})
}

// WithBatchKey has only runs gather for which key gives the same.
func WithBatchKey[In any](key func(In) string) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if key == nil {
			return errors.New("stint: WithBatchKey: nil key function")
		}
		c.batch.key, c.batch.set = func(in any) string { return key(inputAs[In](in)) }, true
		return wantInput[In]("WithBatchKey", c)
	})
}

// NewBatchTask defines a task whose runs a worker gathers, until there are WithBatchSize
// of them or the first has waited for WithBatchInterval, and works in one call: fn gets
// their inputs in the order of enqueueing, and returns as many outputs, in that order.
// Each caller gets its own. An error of fn is each run's own, which is tried again by the
// task's options, in another batch.
//
// fn's context is done when all runs of the batch were canceled or are over their time.
// It is of no run: durable calls, Logger and Progress do the plain thing.
func NewBatchTask[In, Out any](c *Client, name string, fn func(ctx context.Context, ins []In) ([]Out, error), opts ...TaskOption) *Task[In, Out] {
	if fn == nil {
		return NewTask[In, Out](c, name, nil, append(slices.Clone(opts), batchMark)...)
	}
	g := &batcher[In, Out]{fn: fn, open: map[string]*batch[In, Out]{}}
	t := NewTask(c, name, g.handle, append(slices.Clone(opts), batchMark)...)
	g.cfg = t.def.cfg.batch
	if g.cfg.size == 0 {
		g.cfg.size = DefaultBatchSize
	}
	if g.cfg.interval == 0 {
		g.cfg.interval = DefaultBatchInterval
	}
	return t
}

// batchMark tells NewTask that batch options are in place.
var batchMark = taskOption(func(c *taskConfig) error { c.batch.set = false; return nil })

// A batcher has the batches of a task that are open, by key.
type batcher[In, Out any] struct {
	fn  func(context.Context, []In) ([]Out, error)
	cfg batchConfig

	mu   sync.Mutex
	open map[string]*batch[In, Out]
}

// A batch is some runs that will be worked in one call.
type batch[In, Out any] struct {
	ready chan struct{} // closed when it takes no more
	timer *time.Timer
	once  sync.Once

	ctx     context.Context // of the call; done when all members' are
	cancel  context.CancelCauseFunc
	members []*member[In, Out] // guarded by batcher.mu until ready is closed
	left    int                // members whose contexts are not done; guarded by batcher.mu
}

type member[In, Out any] struct {
	id  store.ID
	in  In
	out Out
	err error
}

// handle is the handler of one run.
func (g *batcher[In, Out]) handle(ctx context.Context, in In) (Out, error) {
	m := &member[In, Out]{in: in}
	size, key := g.cfg.size, ""
	if e := executionOf(ctx); e != nil {
		m.id, size = e.run.ID, min(size, e.w.cfg.slots)
	}
	if g.cfg.key != nil {
		var err error
		if key, err = callKey("batch", g.cfg.key, in); err != nil {
			return m.out, NonRetryable(err)
		}
	}
	b := g.join(ctx, key, m, size)
	defer context.AfterFunc(ctx, func() { g.leave(b, context.Cause(ctx)) })()
	select {
	case <-b.ready:
	case <-ctx.Done():
		if g.withdraw(b, m) {
			return m.out, context.Cause(ctx)
		}
	}
	b.once.Do(func() { g.call(b) })
	return m.out, m.err
}

// join adds a run to the open batch of its key.
func (g *batcher[In, Out]) join(ctx context.Context, key string, m *member[In, Out], size int) *batch[In, Out] {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.open[key]
	if b == nil {
		b = &batch[In, Out]{ready: make(chan struct{})}
		b.ctx, b.cancel = context.WithCancelCause(context.WithValue(context.WithoutCancel(ctx), executionKey{}, (*execution)(nil)))
		g.open[key] = b
		b.timer = time.AfterFunc(g.cfg.interval, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.closeLocked(key, b)
		})
	}
	b.members = append(b.members, m)
	if b.left++; len(b.members) >= size {
		g.closeLocked(key, b)
	}
	return b
}

func (g *batcher[In, Out]) closeLocked(key string, b *batch[In, Out]) {
	if g.open[key] != b {
		return
	}
	delete(g.open, key)
	b.timer.Stop()
	close(b.ready)
}

// leave counts a member out whose context is done.
func (g *batcher[In, Out]) leave(b *batch[In, Out], cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if b.left--; b.left == 0 {
		b.cancel(cause)
	}
}

// withdraw takes a member out of a batch that is open yet.
func (g *batcher[In, Out]) withdraw(b *batch[In, Out], m *member[In, Out]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-b.ready:
		return false
	default:
	}
	b.members = slices.DeleteFunc(b.members, func(x *member[In, Out]) bool { return x == m })
	return true
}

// call works a batch, on the goroutine of one of its members.
func (g *batcher[In, Out]) call(b *batch[In, Out]) {
	defer b.cancel(nil)
	slices.SortFunc(b.members, func(x, y *member[In, Out]) int { return slices.Compare(x.id[:], y.id[:]) })
	ins := make([]In, len(b.members))
	for i, m := range b.members {
		ins[i] = m.in
	}
	outs, err := g.callFn(b.ctx, ins)
	if err == nil && len(outs) != len(ins) {
		err = NonRetryable(fmt.Errorf("stint: batch handler returned %d outputs for %d inputs", len(outs), len(ins)))
	}
	for i, m := range b.members {
		if m.err = err; err == nil {
			m.out = outs[i]
		}
	}
}

// callFn calls the handler, whose Goexit is not to end the member's goroutine.
func (g *batcher[In, Out]) callFn(ctx context.Context, ins []In) (outs []Out, err error) {
	err = guarded(func() (err error) {
		outs, err = g.fn(ctx, ins)
		return err
	})
	return outs, original(err)
}
