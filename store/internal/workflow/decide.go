package workflow

import (
	"time"

	"github.com/stint-dev/stint/store"
)

// Leaves lists the sleeps, events and tests of a task's conditions: of cancel, then skip, then
// wait. Their order is their numbering.
func Leaves(t *store.GraphTask) (all []*store.Condition) {
	for _, c := range []*store.Condition{t.CancelIf, t.SkipIf, t.WaitFor} {
		all = append(all, c.Leaves()...)
	}
	return all
}

// A Truth is when a leaf became true; zero: it is not. A sleep's may be in the future.
type Truth struct {
	Since time.Time
	Error string // why it cannot be decided
}

// A Decision is what the conditions of a task whose parents have ended decide.
type Decision struct {
	To     store.State // Queued, Skipped, Canceled, Blocked, or Waiting: nothing is decided yet
	Next   time.Time   // if Waiting: when to decide again, if no event comes before; zero: only after an event
	Reason string      // if Blocked
}

// Decide evaluates a task's conditions: of cancel, skip and wait, the one that became true first
// wins; at the same time cancel beats skip beats wait. truths are those of its Leaves.
func Decide(t *store.GraphTask, parentsDone, now time.Time, truths []Truth) Decision {
	for _, truth := range truths {
		if truth.Error != "" {
			return Decision{To: store.Blocked, Reason: truth.Error}
		}
	}
	next := func() (tr Truth) { tr, truths = truths[0], truths[1:]; return tr }
	best := Decision{To: store.Waiting}
	for _, c := range []struct {
		cond *store.Condition
		to   store.State
	}{{t.CancelIf, store.Canceled}, {t.SkipIf, store.Skipped}, {t.WaitFor, store.Queued}} {
		at := parentsDone
		if c.cond != nil {
			at = since(c.cond, next)
		} else if c.to != store.Queued {
			continue
		}
		if !at.IsZero() && (best.Next.IsZero() || at.Before(best.Next)) {
			best = Decision{To: c.to, Next: at}
		}
	}
	if best.Next.After(now) {
		best.To = store.Waiting
	}
	if best.To != store.Waiting {
		best.Next = time.Time{}
	}
	return best
}

// since returns when a condition became true, or will by itself; zero: unknown.
func since(c *store.Condition, next func() Truth) (at time.Time) {
	switch {
	case c.Any != nil:
		for i := range c.Any {
			if t := since(&c.Any[i], next); !t.IsZero() && (at.IsZero() || t.Before(at)) {
				at = t
			}
		}
		return at
	case c.All != nil:
		never := false
		for i := range c.All {
			t := since(&c.All[i], next)
			never = never || t.IsZero()
			if t.After(at) {
				at = t
			}
		}
		if never {
			return time.Time{}
		}
		return at
	}
	return next().Since
}
