package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
)

// EnqueueRows are what a transaction knows of runs that are enqueued: idempotency keys, parents, lanes, limits.
type EnqueueRows interface {
	// Parent returns the run that is to have a child; store.ErrNotFound: there is none.
	Parent(id store.ID) (Parent, error)
	// Child returns the child of a run that a key refers to; 0: none. SetChild stores one.
	Child(parent int64, key string) (int64, error)
	SetChild(parent int64, key string, run int64) error
	// Holder returns the run that a key of a task refers to; its Run is 0 if there is none. Hold
	// makes the key refer to a run, until a time (Holder.Expires).
	Holder(task, key string) (Holder, error)
	Hold(task, key string, run, expires int64) error
	// Replace gives a run that is Scheduled and was never given to a worker what a new one brings:
	// it is due then. It reports whether it has.
	Replace(run int64, n *store.NewRun, due int64) (bool, error)

	// Lane returns the lane of a new run, NextKey a new key, Graph the number of a graph. A lane
	// or a graph that is new is stored.
	Lane(n *store.NewRun) (int64, error)
	NextKey(now int64) int64
	Graph(g *store.Graph) (int64, error)
	// Admit returns the Limiter of a run that comes to its limits now, with its row.
	Admit(r *Run, limits []store.Limit) (*int64, error)
	// WakeAt announces a time that a row has.
	WakeAt(at int64)
}

// A Holder is the run that an idempotency key refers to.
type Holder struct {
	Run     int64
	Expires int64 // 0: the key is free again when the run ends
	Ended   bool  // it has ended, or was deleted
}

// holds reports whether the key still refers to the run.
func (h *Holder) holds(now int64) bool {
	switch {
	case h.Run == 0:
		return false
	case h.Expires == 0:
		return !h.Ended
	}
	return h.Expires > now
}

// A Parent is the run that is to have a child.
type Parent struct {
	Key      int64
	Root     int64 // the run at the top; itself if it has no parent
	Canceled bool  // it was canceled, or asked to cancel
}

// A Row is the row of a new run.
type Row struct {
	Run
	Root    int64  // of its parent; 0: it has none
	Limiter *int64 // that it waits at; nil: none; 0 or less: it has asked none yet
}

// Enqueue returns the row of a new run, to which its keys refer by then. If they refer to a run that exists, it returns
// that one's key, and there is no row.
func Enqueue(rows EnqueueRows, n *store.NewRun, now int64) (r Row, existing int64, err error) {
	p, existing, err := existingOf(rows, n, now)
	if err != nil || existing != 0 {
		return r, existing, err
	}
	lane, err := rows.Lane(n)
	if err == nil && n.Parent != (store.ID{}) && p.Key == 0 {
		p, err = rows.Parent(n.Parent)
	}
	if err != nil {
		return r, 0, err
	}
	key := rows.NextKey(now)
	if err := hold(rows, n, p.Key, key, now); err != nil {
		return r, 0, err
	}
	r = Row{Run: New(n, key, now), Root: p.Root}
	r.Lane, r.Parent = lane, p.Key
	if n.Graph != nil {
		graph, err := rows.Graph(n.Graph)
		if err != nil {
			return r, 0, err
		}
		r.Node = graph<<NodeBits | int64(n.Graph.End())
	}
	if r.Limited && r.State == store.Queued {
		if r.Limiter, err = rows.Admit(&r.Run, n.Limits); err != nil {
			return r, 0, err
		}
	}
	for _, at := range [...]int64{r.Due, r.StartBy} {
		if at != 0 {
			rows.WakeAt(at)
		}
	}
	if r.Workflow && r.State == store.Queued && r.Limiter == nil { // it is not claimed: its tasks are
		r.Begin(keys.CreatedAt(key))
	}
	return r, 0, nil
}

// existingOf returns the run that a new one's keys refer to; 0: none, and the new one is enqueued. It returns the parent
// if it has read that.
func existingOf(rows EnqueueRows, n *store.NewRun, now int64) (p Parent, run int64, err error) {
	if n.ChildKey == "" && !n.ParentNamed {
		run, err = holderOf(rows, n, now)
		return p, run, err
	}
	if p, err = rows.Parent(n.Parent); err != nil {
		return p, 0, err
	}
	if n.ChildKey != "" {
		if run, err = rows.Child(p.Key, n.ChildKey); run != 0 || err != nil {
			return p, run, err
		}
	}
	if n.ParentNamed && p.Canceled && !n.Detached {
		return p, 0, fmt.Errorf("parent run %s: %w", n.Parent, store.ErrParentCanceled)
	}
	run, err = holderOf(rows, n, now)
	if run != 0 && err == nil && n.ChildKey != "" {
		err = rows.SetChild(p.Key, n.ChildKey, run)
	}
	return p, run, err
}

// holderOf returns the run that has the idempotency key of a new one; 0: none has. A new one with a
// Debounce replaces what it finds, unless that has started.
func holderOf(rows EnqueueRows, n *store.NewRun, now int64) (int64, error) {
	if n.Key == "" {
		return 0, nil
	}
	h, err := rows.Holder(n.Task, n.Key)
	if err != nil || !h.holds(now) {
		return 0, err
	}
	if n.Debounce <= 0 {
		return h.Run, nil
	}
	replaced, err := replace(rows, h.Run, n, now)
	if err != nil || !replaced {
		return 0, err
	}
	return h.Run, nil
}

// replace gives a run, unless it has started, what a new one brings, and reports whether it has. The settings of its limits
// are those of this enqueue, not of the run's.
func replace(rows EnqueueRows, run int64, n *store.NewRun, now int64) (bool, error) {
	setBy := rows.NextKey(now)
	by := *n
	by.Limits = setByEnqueue(n.Limits, setBy)
	by.TaskLimits = make(map[int][]store.Limit, len(n.TaskLimits))
	for place, all := range n.TaskLimits {
		by.TaskLimits[place] = setByEnqueue(all, setBy)
	}
	due := min(clock.CeilMillis(n.RunAt), keys.CreatedAt(run)+n.Debounce.Milliseconds())
	replaced, err := rows.Replace(run, &by, due)
	if replaced {
		rows.WakeAt(due)
		if in := StartIn(n.StartIn); in > 0 {
			rows.WakeAt(due + in)
		}
	}
	return replaced, err
}

// setByEnqueue returns a copy of limits whose SetBy is set.
func setByEnqueue(ls []store.Limit, used int64) []store.Limit {
	ls = slices.Clone(ls)
	for i := range ls {
		ls[i].SetBy = used
	}
	return ls
}

// hold makes a new run the holder of its idempotency key, and of its key as a child of its parent.
func hold(rows EnqueueRows, n *store.NewRun, parent, run, now int64) error {
	if n.ChildKey != "" {
		if err := rows.SetChild(parent, n.ChildKey, run); err != nil {
			return err
		}
	}
	if n.Key == "" {
		return nil
	}
	expires := int64(0)
	if n.KeyTTL != store.UntilDone {
		expires = now + max(n.KeyTTL.Milliseconds(), 1)
	}
	return rows.Hold(n.Task, n.Key, run, expires)
}

// New returns the row of a new run. If it has limits, they decide when it is ready; if it is a
// workflow's and queued, it begins as soon as it is.
func New(n *store.NewRun, key, now int64) Run {
	r := Run{Key: key, State: store.Queued, Detached: n.Detached, Workflow: n.Graph != nil, StartIn: StartIn(n.StartIn),
		Limited: len(n.Limits) > 0}
	if at := clock.CeilMillis(n.RunAt); !n.RunAt.IsZero() && at > now {
		r.State, r.Due = store.Scheduled, at
	}
	r.Rank = store.Rank(r.DueAt(), n.Priority, n.AgeEvery)
	r.SetStartBy(r.DueAt())
	return r
}

// StartIn returns a NewRun's StartIn as rows store it, in milliseconds.
func StartIn(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return max(d.Milliseconds(), 1)
}
