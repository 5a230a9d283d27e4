package stint

import (
	"iter"
	"maps"
	"time"

	"github.com/stint-dev/stint/store"
)

// stayLocked returns how long the execution, all of whose branches wait, stays in memory.
func (d *durableRun) stayLocked() time.Duration {
	stay := d.e.w.lingerTime()
	if own := d.e.def.cfg.linger; own != nil && !d.e.w.draining() {
		stay = *own
	}
	soonest, others := d.soonestWaitLocked()
	switch {
	case !others && !soonest.IsZero() && soonest.Sub(d.e.c.now()) > stay:
		return 0
	case d.e.run.Crashes >= store.SuspectCrashes: // other suspects wait until this one is gone
		return 0
	}
	for p := range d.parked {
		if p.suspends {
			return 0
		}
	}
	return stay
}

// soonestWaitLocked returns the soonest time that a branch waits for, and whether any branch
// waits for something else.
func (d *durableRun) soonestWaitLocked() (soonest time.Time, others bool) {
	for p := range d.parked {
		if !p.until.IsZero() && (soonest.IsZero() || p.until.Before(soonest)) {
			soonest = p.until
		}
		others = others || p.entry.Seq > 0 || p.child != (store.ID{}) || p.suspends
		for f := range d.waitsOfLocked(p) {
			if due := f.entry.Due; !due.IsZero() && (soonest.IsZero() || due.Before(soonest)) {
				soonest = due
			}
			others = true
		}
	}
	return soonest, others
}

// waitsOfLocked yields the waits of StartWait that a parked branch waits for.
func (d *durableRun) waitsOfLocked(p *parked) iter.Seq[*future] {
	return func(yield func(*future) bool) {
		if p.suspends {
			maps.Keys(d.openWaits)(yield)
			return
		}
		for _, f := range p.futures {
			if f.isWait && !yield(f) {
				return
			}
		}
	}
}

// waits returns what a suspended execution waits for.
func (d *durableRun) waits() (w store.Waits) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w.Until, _ = d.soonestWaitLocked()
	for p := range d.parked {
		if p.entry.Seq > 0 {
			w.Entries = append(w.Entries, p.entry)
		}
		if p.child != (store.ID{}) {
			w.Children = append(w.Children, p.child)
		}
		w.Children = append(w.Children, p.children...)
		for f := range d.waitsOfLocked(p) {
			w.Entries = append(w.Entries, f.entry.Address)
		}
	}
	return w
}
