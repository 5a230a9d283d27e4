package stint

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// WithSlotCost has a run of the task take n of its worker's slots. The default is 1. A
// worker with fewer slots leaves it to others. What is next in order and does not fit yet
// holds up what is behind it, so that it is not overtaken for ever.
func WithSlotCost(n int) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if n < 1 || n > maxSlots {
			return fmt.Errorf("stint: WithSlotCost(%d): want 1 to %d", n, maxSlots)
		}
		c.slotCost = n
		return nil
	})
}

// A slotWaiter is an execution that goes on when it has its slots again.
type slotWaiter struct {
	granted chan struct{} // closed then
	cost    int
}

// freeSlots is how many runs may start now. Executions that want their slot back go first.
func (w *Worker) freeSlots() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.freeSlotsLocked()
	w.starved = n <= 0
	return n
}

func (w *Worker) freeSlotsLocked() int {
	n := w.cfg.slots - w.inUse
	for _, r := range w.slotWaiters {
		n -= r.cost
	}
	return n
}

// cost is how many slots a run of the task takes; 0: more than there are. Tasks of a
// workflow are counted as the dearest, until one is started.
func (w *Worker) cost(task string) int {
	n := w.c.slotCost(task)
	if n > w.cfg.slots {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n > w.freeSlotsLocked() { // it is passed over
		w.starved = true
	}
	return n
}

func (c *Client) slotCost(task string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if workflow, all := strings.CutSuffix(task, ":"); all && c.tasks[workflow] != nil && c.tasks[workflow].workflow != nil {
		most := 1
		for _, n := range c.tasks[workflow].workflow.nodes {
			most = max(most, n.def.cfg.slotCost)
		}
		return most
	}
	if d := c.tasks[task]; d != nil {
		return max(d.cfg.slotCost, 1)
	}
	return 1
}

// releaseSlots gives up an execution's slot, if it holds one.
func (w *Worker) releaseSlots(e *execution) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.releaseSlotsLocked(e)
}

func (w *Worker) releaseSlotsLocked(e *execution) {
	if !e.hasSlot {
		return
	}
	e.hasSlot = false
	w.inUse -= e.cost
	w.holders--
	for len(w.slotWaiters) > 0 && w.inUse+w.slotWaiters[0].cost <= w.cfg.slots { // hand them over
		w.inUse += w.slotWaiters[0].cost
		w.holders++
		close(w.slotWaiters[0].granted)
		w.slotWaiters = w.slotWaiters[1:]
	}
	signal(w.freed)
	if w.starved && w.cancelClaim != nil { // the claim that waits was passed over: it asks again
		w.starved = false
		w.cancelClaim()
	}
}

// reacquireSlots takes slots for an execution that gave up its own, and waits for it.
func (w *Worker) reacquireSlots(ctx context.Context, e *execution) {
	w.mu.Lock()
	if e.hasSlot {
		w.mu.Unlock()
		return
	}
	if len(w.slotWaiters) == 0 && w.inUse+e.cost <= w.cfg.slots {
		w.inUse += e.cost
		w.holders++
		e.hasSlot = true
		w.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	w.slotWaiters = append(w.slotWaiters, slotWaiter{turn, e.cost})
	w.mu.Unlock()
	select {
	case <-turn:
	case <-ctx.Done(): // it ends without a slot, unless one was just given
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.slotWaiters, slotWaiter{turn, e.cost}); i >= 0 {
		w.slotWaiters = slices.Delete(w.slotWaiters, i, i+1)
		return
	}
	e.hasSlot = true
}

// lingerTime is how long an execution that waits stays in memory.
func (w *Worker) lingerTime() time.Duration {
	if w.c.cfg.maxResident == 0 || w.draining() {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.running)-w.holders > w.c.cfg.maxResident {
		return 0
	}
	return lingerFor
}
