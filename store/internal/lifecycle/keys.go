package lifecycle

import (
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
)

// KeyRows are the idempotency keys of a transaction.
type KeyRows interface {
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

// Existing returns the run that has the idempotency key of a new one; 0: none has, and the new one
// is enqueued. A new one with a Debounce replaces what it finds, unless that has started.
func Existing(rows KeyRows, n *store.NewRun, now int64) (int64, error) {
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
