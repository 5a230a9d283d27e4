package limits

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/stint-dev/stint/store"
)

// ErrUnits is the error of a run that needs more units than the burst of a rate limit has.
var ErrUnits = errors.New("it could never start")

// perAdmit is the number of runs waiting at a limiter that one transaction looks at.
const perAdmit = 256

// Use returns the limiter of a limit that a run comes to, with the run's settings unless it has
// those of a later enqueue. setBy is the key of the run's enqueue. A limiter that was made by
// being paused has no settings before that.
func Use(r Rows, limit *store.Limit, setBy int64) (*Limiter, error) {
	l, err := r.Limiter(limit)
	if err != nil {
		return nil, err
	}
	changed, forget := l.use(limit, setBy, r.Now())
	if changed {
		r.Changed(l)
	}
	if forget {
		err = r.Forget(l)
	}
	return l, err
}

// AdmitNew admits a new run, whose row is not stored yet, and returns the State.Limiter that it is to have; 0: Apply
// decides, once the row is there.
func AdmitNew(r Rows, limits []store.Limit, workflow bool, setBy int64) (*int64, error) {
	w := want{workflow: workflow}
	later := workflow
	for i := range limits {
		l, err := Use(r, &limits[i], setBy)
		if err != nil {
			return nil, err
		}
		if l.Rate && l.Bucket.Burst < limits[i].Units && !l.Bucket.Unlimited() {
			return nil, fmt.Errorf("rate limit %s: %d units, but its burst is %d: %w", l, limits[i].Units, l.Bucket.Burst, ErrUnits)
		}
		w.add(l, &limits[i])
		later = later || !l.Rate && l.Strategy >= store.StrategyCancelInProgress
	}
	if later {
		return new(int64), nil
	}
	if i := w.firstClosed(r.Now()); i >= 0 {
		w.waitAt(r, i)
		l := w.limiters[i]
		l.Recheck = true
		id := l.ID
		return &id, nil
	}
	return nil, w.take(r, 0)
}

// Apply does what a run's change of state asks for: it gives back and takes what the run holds,
// and admits a run that wants to start, or makes it wait.
func Apply(r Rows, m *Transition) error {
	if id := m.Before.waitsAt(); id > 0 && m.After.waitsAt() != id {
		if err := leave(r, id); err != nil {
			return err
		}
	}
	wants := m.After.State == store.Queued && m.Before.State != store.Queued
	hadTurns, err := turns(r, &m.Before, m.Limits)
	if err != nil {
		return err
	}
	hasTurns, err := turns(r, &m.After, m.Limits)
	if err != nil {
		return err
	}
	var need []*store.Limit
	for i := range m.Limits {
		l := &m.Limits[i]
		before, after := m.Before.holds(l), m.After.holds(l)
		if hadTurns[l] {
			before = turn
		}
		if hasTurns[l] {
			after = turn
		}
		if wants && !m.After.keeps(l) {
			after, need = nothing, append(need, l)
		}
		if err := count(r, l, before, after, m.After.State == store.Running); err != nil {
			return err
		}
	}
	if !wants || len(need) == 0 && m.After.Limiter == nil {
		return nil
	}
	return admit(r, m, need)
}

// admit makes a run ready that wants to start, or makes it wait, or cancels it or older ones.
func admit(r Rows, m *Transition, need []*store.Limit) error {
	w := want{workflow: m.After.Workflow}
	for _, limit := range need {
		l, err := Use(r, limit, m.SetBy)
		if errors.Is(err, store.ErrNotFound) {
			return r.Block(m.Run, err)
		}
		if err == nil && !l.Rate && l.Strategy == store.StrategyCancelInProgress {
			err = r.Join(l, m.Run)
		}
		if err != nil {
			return err
		}
		w.add(l, limit)
	}
	i := w.firstClosed(r.Now())
	if i < 0 {
		if err := w.take(r, m.Run); err != nil {
			return err
		}
		return r.Place(m.Run, nil)
	}
	l := w.limiters[i]
	if l.Strategy == store.StrategyCancelNewest && !m.After.Begun && !l.Paused {
		return r.Cancel(m.Run, fmt.Sprintf("concurrency limit %s is used up: %d at once", l, l.Max))
	}
	w.waitAt(r, i)
	if l.Strategy != store.StrategyCancelInProgress {
		l.Recheck = true // those that waited before it may be admitted now
	}
	if err := r.Place(m.Run, l); err != nil || l.Strategy != store.StrategyCancelInProgress {
		return err
	}
	older, err := r.Older(l)
	for _, run := range older {
		if err == nil {
			err = r.Cancel(run, fmt.Sprintf("concurrency limit %s: a newer run came", l))
		}
	}
	return err
}

// leave stops counting a run that waited at a limiter.
func leave(r Rows, id int64) error {
	l, err := r.LimiterByID(id)
	if l != nil && l.Waiting > 0 {
		l.Waiting--
		r.Changed(l)
	}
	return err
}

// count changes what a limiter has given to a run. started reports whether the run has started.
func count(r Rows, limit *store.Limit, before, after holding, started bool) error {
	if before == after {
		return nil
	}
	l, err := r.Limiter(limit)
	if errors.Is(err, store.ErrNotFound) {
		return nil // a rate limit that somebody deleted by hand
	}
	if err != nil {
		return err
	}
	l.Recheck = true
	r.Changed(l)
	if l.Rate {
		l.Active = max(l.Active-int64(limit.Units), 0) // it was admitted
		if started {
			l.Bucket.Fill(r.Now())
			l.Bucket.Tokens -= float64(limit.Units)
		}
		return nil
	}
	l.Admitted = max(l.Admitted+admittedOf[after]-admittedOf[before], 0)
	l.Active = max(l.Active+activeOf[after]-activeOf[before], 0)
	return nil
}

// turns returns the concurrency limits that have admitted a run which waits at a later limiter,
// whatever their strategies: these may change meanwhile.
func turns(r Rows, s *State, limits []store.Limit) (map[*store.Limit]bool, error) {
	at := s.waitsAt()
	if at == 0 || len(limits) < 2 {
		return nil, nil
	}
	has := map[*store.Limit]bool{}
	for i := range limits {
		if s.keeps(&limits[i]) {
			continue
		}
		l, err := r.Limiter(&limits[i])
		if err != nil {
			return nil, err
		}
		if l.ID == at {
			return has, nil
		}
		has[&limits[i]] = !l.Rate
	}
	return nil, nil
}

// AdmitAll admits runs at the limiters that have Recheck, which open returns.
func AdmitAll(r Rows, open func() []*Limiter) error {
	for {
		all := open()
		if len(all) == 0 {
			return nil
		}
		// Where few wait first: of runs that wait for a share of many and for their own
		// key's, these are the ones whose key has just come free.
		slices.SortStableFunc(all, func(a, b *Limiter) int { return cmp.Compare(a.Waiting, b.Waiting) })
		for _, l := range all {
			l.Recheck = false
			if err := admitWaiting(r, l); err != nil {
				return err
			}
		}
	}
}

// admitWaiting admits the runs that wait at a limiter, in order, as far as it can. One that must
// wait for another of its limiters waits there from then on.
func admitWaiting(r Rows, l *Limiter) error {
	l.WakeAt = Never
	if err := recall(r, l); err != nil {
		return err
	}
	for n := 0; l.Waiting > 0; n++ {
		if n == perAdmit {
			l.WakeAt = r.Now().UnixMilli() // and on, after others had their turn
			break
		}
		if l.Paused || !l.Rate && !l.hasShare() {
			break
		}
		stop, err := admitNext(r, l)
		if err != nil {
			return err
		}
		if stop {
			break
		}
	}
	r.Changed(l)
	if l.WakeAt != Never {
		r.WakeAt(l.WakeAt)
	}
	return nil
}

// admitNext admits the next run that waits at a limiter, or moves it to another of its limiters.
// stop reports that it must wait here.
func admitNext(r Rows, l *Limiter) (stop bool, err error) {
	if !l.Rate { // how many units of a rate a run needs, its row says
		if ok, err := r.AdmitFirst(l); err != nil {
			return true, err
		} else if ok {
			l.Waiting--
			l.Active++
			l.Admitted++
			return false, nil
		}
	}
	m, err := r.FirstWaiting(l)
	if err != nil {
		return true, err
	}
	if m == nil {
		l.Waiting = 0
		return true, nil
	}
	err = r.ForRun(m.Run, func() (err error) {
		stop, err = admitOrMove(r, l, m)
		return err
	})
	return stop, err
}

// admitOrMove is admitNext for a run that may have other limits.
func admitOrMove(r Rows, l *Limiter, m *Transition) (stop bool, err error) {
	w := want{workflow: m.After.Workflow}
	now := r.Now()
	for i := range m.Limits {
		limit := &m.Limits[i]
		if m.After.keeps(limit) {
			continue
		}
		x, err := Use(r, limit, m.SetBy)
		if err != nil {
			return true, err
		}
		if x == l && !l.Allows(limit, now) {
			if at := l.readyAt(limit, now); at != Never {
				l.WakeAt = at
			}
			return true, nil
		}
		w.add(x, limit)
	}
	from := slices.Index(w.limiters, l)
	if from < 0 {
		return true, fmt.Errorf("it waits at %s, which is none of its limiters", l)
	}
	if to := w.closedBeside(from, now); to >= 0 {
		return false, w.move(r, m.Run, from, to)
	}
	l.Waiting--
	for _, x := range w.limiters[:from] {
		if !x.Rate {
			x.Admitted-- // take counts it, but of a workflow, which has started then
			x.Recheck = x.Recheck || w.workflow
		}
	}
	if err := w.take(r, m.Run); err != nil || w.workflow {
		return false, err
	}
	if l.InTurns() {
		return false, r.PlaceLast(m.Run, nil)
	}
	return false, r.Place(m.Run, nil)
}

// recall moves the runs that a limiter has admitted, and that have not started, back to it if its
// settings were lowered below what it promised them. Those that may start are admitted again at
// once, in order.
func recall(r Rows, l *Limiter) error {
	lowered := l.Lowered
	if l.Lowered = false; !lowered || !l.Overdrawn() {
		return nil
	}
	all, err := r.Admitted()
	if err != nil {
		return err
	}
	place := r.Place
	if l.InTurns() {
		place = r.PlaceFirst // its turn came, and gave it a rank behind those that wait
	}
	for _, m := range all {
		i := slices.IndexFunc(m.Limits, func(x store.Limit) bool { return x.Rate() == l.Rate && x.Name == l.Name && x.Key == l.Key })
		if i < 0 || m.Before.holds(&m.Limits[i]) != admitted {
			continue
		}
		m.After = m.Before
		m.After.Limiter = &l.ID
		l.Waiting++
		err := r.ForRun(m.Run, func() error {
			if err := place(m.Run, l); err != nil {
				return err
			}
			return Apply(r, m)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
