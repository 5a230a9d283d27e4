// Package retention decides which rows are old enough to be deleted.
//
// It has no SQL, no clock and no goroutine. Runs are looked at in the order of their creation, and
// none ended before it was created: a pass reads only what was created before the later cutoff, and
// each run once, also those that stay.
//
// A run stays as long as the run that started it is there: that one may run again, and reads the result again then. So those
// that a run has started are deleted after it, at the earliest in the same pass.
package retention

import (
	"slices"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
)

// A Run is a run that may be old enough.
type Run struct {
	Key, Lane int64
	State     store.State
	Ended     int64 // milliseconds; 0: it has not
	Task      bool  // of a workflow, with whose run it is deleted
	Parent    int64 // the run that started it; 0: none
}

// Rows are the runs of a transaction.
type Rows interface {
	// DeleteEnded deletes a run with all that is stored about it, and reports whether it did: the
	// run may have been replayed since it was read, and stays then.
	DeleteEnded(run int64) (bool, error)
	// Exists reports whether there is a run.
	Exists(run int64) (bool, error)
}

// A Pass is one pass over all runs, in several transactions.
type Pass struct {
	done, failed time.Time
	used         map[int64]struct{} // lanes of the runs that stay
}

// NewPass returns a pass that deletes the failed runs that ended before failed, and all others that
// ended before done.
func NewPass(done, failed time.Time) *Pass {
	return &Pass{done: done, failed: failed, used: map[int64]struct{}{}}
}

// CreatedBefore returns the time before which a run must have been created to be old enough.
func (p *Pass) CreatedBefore() time.Time {
	if p.failed.After(p.done) {
		return p.failed
	}
	return p.done
}

// EventsBefore returns the time before which events are old enough: with the runs that they started.
func (p *Pass) EventsBefore() time.Time { return p.done }

// GoneBefore returns the time before which declarations and workers must have gone to be old enough.
func (p *Pass) GoneBefore() time.Time {
	if p.failed.Before(p.done) {
		return p.failed
	}
	return p.done
}

// Delete deletes those of the runs that are old enough, and returns how many there were.
func (p *Pass) Delete(r Rows, runs []Run) (n int, err error) {
	for i := range runs {
		deleted := false
		if p.isOld(&runs[i]) {
			if deleted, err = deleteUnneeded(r, &runs[i]); err != nil {
				return n, err
			}
		}
		if deleted {
			n++
		} else {
			p.used[runs[i].Lane] = struct{}{}
		}
	}
	return n, nil
}

func deleteUnneeded(r Rows, run *Run) (bool, error) {
	if run.Parent != 0 {
		if needed, err := r.Exists(run.Parent); needed || err != nil {
			return false, err
		}
	}
	return r.DeleteEnded(run.Key)
}

func (p *Pass) isOld(r *Run) bool {
	before := p.done
	if r.State == store.Failed {
		before = p.failed
	}
	return !r.Task && r.State.Terminal() && r.Ended != 0 && r.Ended < clock.Millis(before)
}

// Unused returns those of the lanes that no run is in, after all runs were looked at. No run has
// come into them since CreatedBefore.
func (p *Pass) Unused(lanes []int64) []int64 {
	return slices.DeleteFunc(lanes, func(id int64) bool { _, ok := p.used[id]; return ok })
}
