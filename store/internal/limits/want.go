package limits

import (
	"time"

	"github.com/stint-dev/stint/store"
)

// A want is what a run needs of its limiters, in the order in which it passes them.
type want struct {
	workflow bool
	limiters []*Limiter
	limits   []*store.Limit // of each
}

func (w *want) add(l *Limiter, limit *store.Limit) {
	w.limiters, w.limits = append(w.limiters, l), append(w.limits, limit)
}

// firstClosed returns the place of the first limiter that does not admit a run that comes now;
// -1: all do. Those that wait come first.
func (w *want) firstClosed(now time.Time) int {
	for i, l := range w.limiters {
		if l.Waiting > 0 || !l.Allows(w.limits[i], now) {
			return i
		}
	}
	return -1
}

// closedBeside returns the place of the first limiter, other than the one at from, that does not
// admit the run that is next there; -1: all do. It has its turn at those before.
func (w *want) closedBeside(from int, now time.Time) int {
	for i, l := range w.limiters {
		switch {
		case i == from:
		case i < from && !l.Rate:
			if l.Active >= l.Max || l.Paused {
				return i
			}
		case !l.Allows(w.limits[i], now) || l.Rate && l.Waiting > 0:
			return i
		}
	}
	return -1
}

// waitAt counts a run that comes and waits at a limiter: it has its turn at those before.
func (w *want) waitAt(r Rows, i int) {
	w.limiters[i].Waiting++
	r.Changed(w.limiters[i])
	w.countTurns(r, 0, i)
}

// countTurns counts a turn at the concurrency limiters of a range, and reports whether the keys of
// one take turns.
func (w *want) countTurns(r Rows, from, to int) (inTurns bool) {
	for _, l := range w.limiters[from:to] {
		if !l.Rate {
			l.Admitted++
			r.Changed(l)
			inTurns = inTurns || l.InTurns()
		}
	}
	return inTurns
}

// move moves a run from the limiter at which it waits to another.
func (w *want) move(r Rows, run int64, from, to int) error {
	w.limiters[from].Waiting--
	l := w.limiters[to]
	l.Waiting++
	l.Recheck = l.Recheck || l.Rate
	r.Changed(l)
	if from < to && w.countTurns(r, from, to) {
		return r.PlaceLast(run, l)
	}
	for i := to; i < from; i++ {
		if x := w.limiters[i]; !x.Rate {
			x.Admitted = max(x.Admitted-1, 0)
			x.Recheck = true
			r.Changed(x)
		}
	}
	return r.Place(run, l)
}

// take takes a run's shares and units. A workflow's run begins with that; run is not used otherwise.
func (w *want) take(r Rows, run int64) error {
	for i, l := range w.limiters {
		r.Changed(l)
		switch {
		case l.Rate && w.workflow:
			l.Bucket.Tokens -= float64(w.limits[i].Units)
		case l.Rate:
			l.Active += int64(w.limits[i].Units)
		default:
			l.Active++
			if !w.workflow {
				l.Admitted++
			}
		}
	}
	if !w.workflow {
		return nil
	}
	return r.ForRun(run, func() error { return r.Begin(run) })
}
