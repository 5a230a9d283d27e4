// Package batch gathers concurrent calls into calls of one function on all their inputs.
package batch

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"
)

// A Group gathers calls of Do. Its fields are set before the first.
type Group[In, Out any] struct {
	// Call returns an output for each input, in their order.
	Call     func(context.Context, []In) ([]Out, error)
	Interval time.Duration // how long the first call of a batch waits for others
	// Detach returns the context of Call, made of that of the first member, which is not done
	// when that is. It is optional.
	Detach func(context.Context) context.Context

	mu   sync.Mutex
	open map[string]*batch[In, Out] // by key
}

// A batch is the calls that one Call answers.
type batch[In, Out any] struct {
	key   string
	ready chan struct{} // closed when the batch takes no more members
	timer *time.Timer
	once  sync.Once

	ctx     context.Context // of Call; done when all members' are
	cancel  context.CancelCauseFunc
	members []*member[In, Out] // guarded by Group.mu until ready is closed
	live    int                // members whose contexts are not done; guarded by Group.mu
}

type member[In, Out any] struct {
	order []byte
	done  bool // its context is done; guarded by Group.mu
	in    In
	out   Out
	err   error
}

// Do joins the open batch of the key, waits until that has size members or is Interval old,
// and returns what Call returned for in. Call gets the inputs sorted by order. If ctx is done
// before the batch is full, Do leaves the batch and returns the cause.
func (g *Group[In, Out]) Do(ctx context.Context, key string, size int, order []byte, in In) (Out, error) {
	m := &member[In, Out]{order: order, in: in}
	b := g.join(ctx, key, size, m)
	defer context.AfterFunc(ctx, func() { g.memberDone(b, m, context.Cause(ctx)) })()
	select {
	case <-b.ready:
	case <-ctx.Done():
		if g.leave(b, m, context.Cause(ctx)) {
			return m.out, context.Cause(ctx)
		}
	}
	b.once.Do(func() { g.call(b) })
	return m.out, m.err
}

func (g *Group[In, Out]) join(ctx context.Context, key string, size int, m *member[In, Out]) *batch[In, Out] {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.open[key]
	if b == nil {
		b = &batch[In, Out]{ready: make(chan struct{})}
		base := context.WithoutCancel(ctx)
		if g.Detach != nil {
			base = g.Detach(base)
		}
		b.ctx, b.cancel = context.WithCancelCause(base)
		if g.open == nil {
			g.open = map[string]*batch[In, Out]{}
		}
		g.open[key] = b
		b.key = key
		b.timer = time.AfterFunc(g.Interval, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.closeLocked(b)
		})
	}
	b.members = append(b.members, m)
	if b.live++; len(b.members) >= size {
		g.closeLocked(b)
	}
	return b
}

func (g *Group[In, Out]) closeLocked(b *batch[In, Out]) {
	if g.removeLocked(b) {
		close(b.ready)
	}
}

// removeLocked lets nobody join the batch any more. It returns false if it is not open.
func (g *Group[In, Out]) removeLocked(b *batch[In, Out]) bool {
	if g.open[b.key] != b {
		return false
	}
	delete(g.open, b.key)
	b.timer.Stop()
	return true
}

// memberDone notes that the context of a member is done.
func (g *Group[In, Out]) memberDone(b *batch[In, Out], m *member[In, Out], cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.memberDoneLocked(b, m, cause)
}

// memberDoneLocked cancels the batch's context when the contexts of all members are done. Nobody
// may join the batch then: its members leave it.
func (g *Group[In, Out]) memberDoneLocked(b *batch[In, Out], m *member[In, Out], cause error) {
	if m.done {
		return
	}
	m.done = true
	if b.live--; b.live == 0 {
		b.cancel(cause)
		g.removeLocked(b)
	}
}

// leave takes a member whose context is done out of a batch. It returns false if the batch is
// closed already.
func (g *Group[In, Out]) leave(b *batch[In, Out], m *member[In, Out], cause error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-b.ready:
		return false
	default:
	}
	b.members = slices.DeleteFunc(b.members, func(x *member[In, Out]) bool { return x == m })
	g.memberDoneLocked(b, m, cause)
	return true
}

// call calls the function, on the goroutine of one of the members.
func (g *Group[In, Out]) call(b *batch[In, Out]) {
	defer b.cancel(nil)
	slices.SortFunc(b.members, func(x, y *member[In, Out]) int { return bytes.Compare(x.order, y.order) })
	ins := make([]In, len(b.members))
	for i, m := range b.members {
		ins[i] = m.in
	}
	outs, err := g.Call(b.ctx, ins)
	for i, m := range b.members {
		if m.err = err; err == nil {
			m.out = outs[i]
		}
	}
}
