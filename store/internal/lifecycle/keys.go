package lifecycle

import (
	"fmt"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
)

// KeyRows are the idempotency keys of a transaction, and the keys of children.
type KeyRows interface {
	// Parent returns the run that is to have a child; store.ErrNotFound: there is none.
	Parent(id store.ID) (Parent, error)
	// Child returns the child of a run that a key refers to; 0: none. SetChild stores one.
	Child(parent int64, key string) (int64, error)
	SetChild(parent int64, key string, run int64) error
	// Holder returns the run that a key of a task refers to; its Run is 0 if there is none.
	Holder(task, key string) (Holder, error)
	// Replace gives a run that is Scheduled and was never given to a worker what a new one brings:
	// it is due then. It reports whether it has.
	Replace(run int64, n *store.NewRun, due int64) (bool, error)
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
	Canceled bool // it was canceled, or asked to cancel
}

// Keyed reports whether a new run may be one that exists already, or may not be enqueued.
func Keyed(n *store.NewRun) bool { return n.Key != "" || n.ChildKey != "" || n.ParentNamed }

// Existing returns the run that a new one's keys refer to; 0: none, and the new one is enqueued.
func Existing(rows KeyRows, n *store.NewRun, now int64) (int64, error) {
	if n.ChildKey == "" && !n.ParentNamed {
		return holderOf(rows, n, now)
	}
	p, err := rows.Parent(n.Parent)
	if err != nil {
		return 0, err
	}
	if n.ChildKey != "" {
		if run, err := rows.Child(p.Key, n.ChildKey); run != 0 || err != nil {
			return run, err
		}
	}
	if n.ParentNamed && p.Canceled && !n.Detached {
		return 0, fmt.Errorf("parent run %s: %w", n.Parent, store.ErrParentCanceled)
	}
	run, err := holderOf(rows, n, now)
	if run != 0 && err == nil && n.ChildKey != "" {
		err = rows.SetChild(p.Key, n.ChildKey, run)
	}
	return run, err
}

// holderOf returns the run that has the idempotency key of a new one; 0: none has. A new one with a
// Debounce replaces what it finds, unless that has started.
func holderOf(rows KeyRows, n *store.NewRun, now int64) (int64, error) {
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
	until := keys.CreatedAt(h.Run) + n.Debounce.Milliseconds()
	if replaced, err := rows.Replace(h.Run, n, min(clock.CeilMillis(n.RunAt), until)); err != nil || !replaced {
		return 0, err
	}
	return h.Run, nil
}

// KeyExpires returns the Holder.Expires of a new run.
func KeyExpires(n *store.NewRun, now int64) int64 {
	if n.KeyTTL == store.UntilDone {
		return 0
	}
	return now + max(n.KeyTTL.Milliseconds(), 1)
}
