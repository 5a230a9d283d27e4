package storetest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// Limits and routes, computed at each claim. The model has none for workflows: that they apply to these too is
// tested through the public API.

type modelRate struct {
	store.Bucket
	explicit bool
	setBy    store.ID // the newest enqueue with settings
}

// A modelLimit is a key of a concurrency limit, with the settings of its newest enqueue.
type modelLimit struct {
	store.Limit
	setBy store.ID
}

// newest returns a limit of a run with its present settings.
func (m *Model) newest(l *store.Limit) *store.Limit {
	if x := m.limits[l.Of()]; x != nil && !l.Rate() {
		c := *l
		c.Max, c.Strategy = x.Max, x.Strategy
		return &c
	}
	return l
}

// use sets the settings of the limits of a run that comes to them, unless a later enqueue set them.
func (m *Model) use(r *modelRun, now time.Time) {
	for i := range r.limits {
		l := &r.limits[i]
		if l.Rate() {
			m.useRate(r, l, now)
			continue
		}
		if x := m.limits[l.Of()]; x == nil || !m.needed(l, r) || bytes.Compare(r.setBy[:], x.setBy[:]) >= 0 {
			m.limits[l.Of()] = &modelLimit{*l, r.setBy}
		}
	}
}

func (m *Model) useRate(r *modelRun, l *store.Limit, now time.Time) {
	b := m.rates[l.Key]
	switch {
	case b == nil && l.Burst == 0:
		r.State, r.Error = store.Blocked, []byte(`{"kind":"condition"}`)
		return
	case b == nil:
		b = &modelRate{Bucket: store.Bucket{Burst: l.Burst, Tokens: float64(l.Burst), At: now}}
		m.rates[l.Key] = b
	case l.Burst == 0 || b.explicit || bytes.Compare(r.setBy[:], b.setBy[:]) < 0:
		return
	}
	b.set(now, l.PerSecond, l.Burst)
	b.setBy = r.setBy
}

// needed reports whether another run uses or waits for a key of a concurrency limit.
func (m *Model) needed(l *store.Limit, but *modelRun) bool {
	if m.paused[l.Of()] || m.active(l) > 0 {
		return true
	}
	for _, r := range m.runs {
		if r != but && r.State == store.Queued && r.keyed(l) != nil {
			return true
		}
	}
	return false
}

// keyed returns the run's limit for a key of a concurrency limit, or nil.
func (r *modelRun) keyed(l *store.Limit) *store.Limit {
	for i := range r.limits {
		if x := &r.limits[i]; !x.Rate() && x.Name == l.Name && x.Key == l.Key {
			return x
		}
	}
	return nil
}

// active counts the runs that hold a share of the limit.
func (m *Model) active(l *store.Limit) (n int) {
	for _, r := range m.runs {
		x := r.keyed(l)
		if x != nil && (r.State == store.Running || r.State == store.Waiting && !x.Release || r.State == store.Queued && r.resumed() &&
			!x.Release) {
			n++
		}
	}
	return n
}

// resumed reports whether a queued run continues its attempt after a wait.
func (r *modelRun) resumed() bool {
	return r.Lease != 0 && r.State == store.Queued && len(r.journal) > 0
}

// checkRates refuses new runs that could never start.
func (m *Model) checkRates(runs []store.NewRun, now time.Time) error {
	rates := map[string]*modelRate{}
	for key, b := range m.rates {
		c := *b
		rates[key] = &c
	}
	for i := range runs {
		for _, l := range runs[i].Limits {
			if !l.Rate() || runs[i].RunAt.After(now) {
				continue
			}
			b := rates[l.Key]
			if b == nil && l.Burst == 0 {
				return fmt.Errorf("rate limit %q: %w", l.Key, store.ErrNotFound)
			}
			if b == nil {
				b = &modelRate{Bucket: store.Bucket{Burst: l.Burst, Tokens: float64(l.Burst), At: now}}
				rates[l.Key] = b
			}
			if l.Burst > 0 && !b.explicit {
				b.set(now, l.PerSecond, l.Burst)
			}
			if l.Units > b.Burst && !b.Unlimited() {
				return fmt.Errorf("rate limit %q: %d units, but its burst is %d", l.Key, l.Units, b.Burst)
			}
		}
	}
	return nil
}

func (b *modelRate) set(now time.Time, perSecond float64, burst int) {
	b.Fill(now)
	b.PerSecond, b.Burst = perSecond, burst
	b.Fill(now)
}

// admit applies the strategies that cancel when a run is queued.
func (m *Model) admit(r *modelRun, now time.Time) {
	for i := range r.limits {
		l := m.newest(&r.limits[i])
		if r.State != store.Queued || l.Strategy < store.StrategyCancelInProgress {
			continue
		}
		var others []*modelRun
		for _, o := range m.runs {
			if o.keyed(l) != nil && o.State >= store.Queued && o.State <= store.Waiting && o.CancelAt.IsZero() {
				others = append(others, o)
			}
		}
		if len(others) <= l.Max {
			continue
		}
		if l.Strategy == store.StrategyCancelNewest {
			if m.paused[l.Of()] {
				continue
			}
			m.cancel(r, now, []byte(`{"kind":"canceled"}`))
			continue
		}
		slices.SortFunc(others, func(a, b *modelRun) int {
			return cmp.Or(cmp.Compare(b.Priority, a.Priority), slices.Compare(b.ID[:], a.ID[:]))
		})
		for _, o := range others[l.Max:] {
			m.cancel(o, now, []byte(`{"kind":"canceled"}`))
		}
	}
}

// mayStart reports whether the worker may start a queued run now, or when it may without another change.
func (m *Model) mayStart(worker int64, r *modelRun) (ok bool, at time.Time) {
	if l, at := m.waitsAt(r); l != nil {
		return false, at
	}
	mine, ok := r.route.Score(m.workers[worker].Name, m.workers[worker].Labels)
	if !ok {
		return false, time.Time{}
	}
	until := r.Due.Add(time.Second)
	for id, w := range m.workers {
		score, ok := r.route.Score(w.Name, w.Labels)
		if ok && !w.gone && score > mine && m.busy(id) < w.Slots && time.Now().Before(until) {
			return false, until
		}
	}
	return true, time.Time{}
}

func (m *Model) busy(worker int64) (n int) {
	for _, r := range m.runs {
		if r.State == store.Running && r.worker == worker {
			n++
		}
	}
	return n
}

// waitsAt returns the limit that a queued run waits for, or nil, and when that may admit it.
func (m *Model) waitsAt(r *modelRun) (l *store.Limit, at time.Time) {
	for i := range r.limits {
		l := m.newest(&r.limits[i])
		if m.paused[l.Of()] && !(r.resumed() && (l.Rate() || !l.Release)) {
			return l, time.Time{}
		}
		if l.Rate() {
			b := m.rates[l.Key]
			b.Fill(time.Now())
			switch first := m.head(func(o *modelRun) bool { return o.takes(l.Key) }); {
			case r.resumed():
			case first != r:
				return l, time.Time{}
			case b.Tokens < float64(l.Units):
				return l, b.Ready(float64(l.Units))
			}
			continue
		}
		if r.resumed() && !l.Release {
			continue
		}
		if m.active(l) >= l.Max || l.Strategy == store.StrategyGroupRoundRobin && m.head(has(l)) != r {
			return l, time.Time{}
		}
	}
	return nil, time.Time{}
}

// head returns the first queued run for which so is true.
func (m *Model) head(so func(*modelRun) bool) (first *modelRun) {
	for _, r := range m.runs {
		if r.State == store.Queued && so(r) && (first == nil || cameBefore(r, first) < 0) {
			first = r
		}
	}
	return first
}

// has selects the runs with a limit.
func has(l *store.Limit) func(*modelRun) bool {
	return func(r *modelRun) bool { return r.keyed(l) != nil }
}

// takes reports whether the start of a run takes units of a rate.
func (r *modelRun) takes(rate string) bool {
	return !r.resumed() && slices.ContainsFunc(r.limits, func(l store.Limit) bool { return l.Rate() && l.Key == rate })
}

// take takes units for a run that starts, and gives the turns of its keys to the next ones.
func (m *Model) take(r *modelRun) {
	for i := range r.limits {
		switch l := m.newest(&r.limits[i]); {
		case l.Rate():
			m.rates[l.Key].Tokens -= float64(l.Units)
		case l.Strategy == store.StrategyGroupRoundRobin:
			if next := m.head(has(l)); next != nil {
				m.turns++
				next.since, next.turn = time.Now(), m.turns
			}
		}
	}
}

// cost returns how many of a claim's slots a run needs.
func cost(req *store.ClaimRequest, r *modelRun) int {
	if req.Cost == nil {
		return 1
	}
	return req.Cost(r.Task)
}

// expireRates deletes the rates that came with runs and have not been used for an hour.
func (m *Model) expireRates() {
	m.mu.Lock()
	defer m.unlock()
	for key, b := range m.rates {
		full := b.Bucket
		full.Fill(time.Now())
		if !b.explicit && !m.paused[store.LimitKey{Key: key}] && time.Since(b.At) >= time.Hour && full.Tokens >= float64(b.Burst) {
			delete(m.rates, key)
		}
	}
}

func (m *Model) setRate(now time.Time, c *store.RateChange) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	b := m.rates[c.Key]
	if b == nil {
		b = &modelRate{Bucket: store.Bucket{Burst: c.Burst, Tokens: float64(c.Burst), At: now}}
		m.rates[c.Key] = b
	}
	b.explicit = true
	b.set(now, c.PerSecond, c.Burst)
	return nil
}

func (m *Model) pauseLimit(k store.LimitKey, paused bool) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	if k.Rate() && m.rates[k.Key] == nil {
		return fmt.Errorf("rate limit %q: %w", k.Key, store.ErrNotFound)
	}
	delete(m.paused, k)
	if paused {
		m.paused[k] = true
	}
	return nil
}

func (m *Model) listLimits(rates bool) (all []store.LimitInfo, err error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.unlock()
	seen := map[[2]string]*store.LimitInfo{}
	for _, r := range m.runs {
		for _, l := range r.limits {
			if r.State < store.Queued || r.State > store.Waiting || l.Rate() {
				continue
			}
			n := [2]string{l.Name, l.Key}
			if seen[n] == nil {
				seen[n] = &store.LimitInfo{Limit: *m.newest(&l), Active: m.active(&l)}
			}
			if at, _ := m.waitsAt(r); r.State == store.Queued && at != nil && at.Name == l.Name && at.Key == l.Key {
				seen[n].Waiting++
			}
		}
	}
	for k := range m.paused {
		if n := [2]string{k.Name, k.Key}; !k.Rate() && seen[n] == nil {
			seen[n] = &store.LimitInfo{Limit: store.Limit{Name: k.Name, Key: k.Key, Strategy: store.StrategyQueue}}
		}
	}
	for _, i := range seen {
		if i.Paused = m.paused[i.Limit.Of()]; !rates {
			all = append(all, *i)
		}
	}
	for key, b := range m.rates {
		if rates {
			b := *b
			b.Fill(time.Now())
			all = append(all, store.LimitInfo{Limit: store.Limit{Key: key, Units: 1, PerSecond: b.PerSecond, Burst: b.Burst},
				Tokens: b.Tokens, Paused: m.paused[store.LimitKey{Key: key}]})
		}
	}
	slices.SortFunc(all, func(a, b store.LimitInfo) int { return store.CompareLimits(a.Limit, b.Limit) })
	return all, nil
}
