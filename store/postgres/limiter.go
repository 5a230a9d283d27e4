package postgres

import (
	"cmp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/damage"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/limits"
)

// A limiterRow is a row of stint.limiters. Package limits decides what becomes of it.
type limiterRow struct {
	limits.Limiter
	strategy, at, wake int64 // at in microseconds; wake 0: it does not wait for a time
	tokens, perSecond  float64
}

type limiterName struct {
	rate      bool
	name, key string
}

func (r *limiterRow) limiterName() limiterName { return limiterName{r.Rate, r.Name, r.Key} }

func compareLimiters(a, b limiterName) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.key, b.key), boolCompare(a.rate, b.rate))
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (r *limiterRow) loaded() {
	r.Strategy = store.Strategy(r.strategy)
	r.Bucket = store.Bucket{PerSecond: r.perSecond, Burst: int(r.Max), Tokens: r.tokens, At: time.UnixMicro(r.at)}
	if r.WakeAt = limits.Never; r.wake != 0 {
		r.WakeAt = r.wake
	}
}

func newLimiterStatements() *statements[limiterRow] {
	s := newStatements("limiters", 3, "FOR UPDATE",
		col("rate", "boolean", func(r *limiterRow) *bool { return &r.Rate }),
		text("name", func(r *limiterRow) *string { return &r.Name }),
		text("key", func(r *limiterRow) *string { return &r.Key }),
		number("id", func(r *limiterRow) *int64 { return &r.ID }).isFixed(),
		number("max", func(r *limiterRow) *int64 { return &r.Max }),
		stored("strategy", "bigint", func(r *limiterRow) *int64 { return &r.strategy },
			func(r *limiterRow) int64 { return int64(r.Strategy) }),
		number("active", func(r *limiterRow) *int64 { return &r.Active }),
		number("admitted", func(r *limiterRow) *int64 { return &r.Admitted }),
		number("waiting", func(r *limiterRow) *int64 { return &r.Waiting }),
		stored("per_second", "double precision", func(r *limiterRow) *float64 { return &r.perSecond },
			func(r *limiterRow) float64 { return r.Bucket.PerSecond }),
		stored("tokens", "double precision", func(r *limiterRow) *float64 { return &r.tokens },
			func(r *limiterRow) float64 { return r.Bucket.Tokens }),
		stored("at", "bigint", func(r *limiterRow) *int64 { return &r.at }, func(r *limiterRow) int64 { return r.Bucket.At.UnixMicro() }),
		stored("wake_at", "bigint", func(r *limiterRow) *int64 { return &r.wake }, func(r *limiterRow) int64 {
			if r.WakeAt == limits.Never {
				return 0
			}
			return r.WakeAt
		}).orNull("0"),
		col("explicit", "boolean", func(r *limiterRow) *bool { return &r.Explicit }),
		col("paused", "boolean", func(r *limiterRow) *bool { return &r.Paused }),
		number("set_by", func(r *limiterRow) *int64 { return &r.SetBy }))
	s.complete = (*limiterRow).loaded
	return s
}

var limiterStatements = newLimiterStatements()

// limiterRows are the limiters of a unit.
type limiterRows struct{ *unit }

var (
	_ limits.Rows  = limiterRows{}
	_ limits.Named = limiterRows{}
)

// Now implements limits.Rows.
func (u limiterRows) Now() time.Time { return clock.FromMillis(u.now) }

// Limiter implements limits.Rows.
func (u limiterRows) Limiter(l *store.Limit) (*limits.Limiter, error) {
	n := limiterName{l.Rate(), l.Name, l.Key}
	r, err := u.limiters.get(n)
	if err != nil {
		return nil, err
	}
	if r == nil {
		if r, err = u.newLimiter(n, l); err != nil {
			return nil, err
		}
	}
	return &r.Limiter, nil
}

// newLimiter makes a limiter with the settings of a limit. Unless something needs it, it is not stored.
func (u *unit) newLimiter(n limiterName, l *store.Limit) (*limiterRow, error) {
	x, err := limits.NewLimiter(l, clock.FromMillis(u.now))
	if err != nil {
		return nil, err
	}
	x.ID = u.nextKey(u.now)
	return u.limiters.put(n, limiterRow{Limiter: x}), nil
}

// LimiterByID implements limits.Rows.
func (u limiterRows) LimiterByID(id int64) (*limits.Limiter, error) {
	for _, e := range u.limiters.entries {
		if e.now != nil && e.now.ID == id {
			return &e.now.Limiter, nil
		}
	}
	names, err := u.limitersByID.get(id)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	r, err := u.limiters.get(names[0])
	if r == nil || err != nil {
		return nil, err
	}
	return &r.Limiter, nil
}

// LimiterNamed implements limits.Named.
func (u limiterRows) LimiterNamed(k store.LimitKey) (*limits.Limiter, error) {
	r, err := u.limiters.get(limiterName{k.Rate(), k.Name, k.Key})
	if err != nil || r == nil {
		return nil, err
	}
	return &r.Limiter, nil
}

// Changed implements limits.Rows.
func (u limiterRows) Changed(l *limits.Limiter) {
	u.limiters.change(limiterName{l.Rate, l.Name, l.Key})
}

// WakeAt implements limits.Rows.
func (u limiterRows) WakeAt(at int64) { u.wake(at) }

// place makes a run wait at a limiter, or ready.
func (u limiterRows) place(run int64, at *limits.Limiter, move func(*runRow)) error {
	r, err := u.run(run)
	if err != nil {
		return err
	}
	if move != nil {
		move(r)
	}
	if r.limiter = nil; at != nil {
		id := at.ID
		r.limiter = &id
	} else {
		u.ready(&r.Run)
	}
	u.runs.change(run)
	u.applied[run] = r.atLimits()
	return nil
}

// Place implements limits.Rows.
func (u limiterRows) Place(run int64, at *limits.Limiter) error { return u.place(run, at, nil) }

// PlaceLast implements limits.Rows.
func (u limiterRows) PlaceLast(run int64, at *limits.Limiter) error {
	turn := u.nextKey(u.now)
	return u.place(run, at, func(r *runRow) {
		r.SetDue(max(u.now, r.DueAt()))
		r.turn = turn
	})
}

// PlaceFirst implements limits.Rows.
func (u limiterRows) PlaceFirst(run int64, at *limits.Limiter) error {
	first, err := u.firstAt(at.ID)
	if err != nil {
		return err
	}
	return u.place(run, at, func(r *runRow) {
		if first != nil {
			r.Rank = min(r.Rank, first.Rank-1)
		}
	})
}

// FirstWaiting implements limits.Rows.
func (u limiterRows) FirstWaiting(l *limits.Limiter) (*limits.Transition, error) {
	r, err := u.firstAt(l.ID)
	if r == nil || err != nil {
		return nil, err
	}
	if r.odd != nil {
		return nil, &damage.Damage{Run: r.Key, Err: r.odd}
	}
	m := &limits.Transition{Run: r.Key, After: r.atLimits(), SetBy: r.limitsSetBy()}
	if m.Limits, err = store.DecodeLimits([]byte(r.limits)); err != nil {
		return nil, &damage.Damage{Run: r.Key, Err: err}
	}
	return m, nil
}

// firstAt returns the first run that waits at a limiter.
func (u *unit) firstAt(limiter int64) (first *runRow, err error) {
	for _, e := range u.runs.entries {
		r := e.now
		if r == nil || r.State != store.Queued || r.limiter == nil || *r.limiter != limiter {
			continue
		}
		if first == nil || r.before(first) {
			first = r
		}
	}
	if u.waiting.covers(limiter, first) {
		return first, nil
	}
	return nil, errMiss
}

func (r *runRow) limitsSetBy() int64 { return limits.SetBy(r.Key, r.Parent, r.IsTask(), r.Forked) }

// before reports whether a run comes before another in the order of starting.
func (r *runRow) before(o *runRow) bool {
	return cmp.Or(cmp.Compare(r.Rank, o.Rank), cmp.Compare(r.turn, o.turn), cmp.Compare(r.Key, o.Key)) < 0
}

// AdmitFirst implements limits.Rows: it leaves that to FirstWaiting, for the rows are there.
func (u limiterRows) AdmitFirst(*limits.Limiter) (bool, error) { return false, nil }

// Admitted implements limits.Rows.
func (u limiterRows) Admitted() ([]*limits.Transition, error) {
	if _, err := u.admitted.get(0); err != nil {
		return nil, err
	}
	var rows []*runRow
	for _, e := range u.runs.entries {
		if r := e.now; r != nil && r.State == store.Queued && r.limiter == nil && r.limits != "" {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *runRow) int {
		return cmp.Or(cmp.Compare(b.Lane, a.Lane), cmp.Compare(b.Rank, a.Rank), cmp.Compare(b.turn, a.turn), cmp.Compare(b.Key, a.Key))
	})
	var all []*limits.Transition
	for _, r := range rows {
		ls, err := store.DecodeLimits([]byte(r.limits))
		if err == nil {
			all = append(all, &limits.Transition{Run: r.Key, Before: r.atLimits(), Limits: ls})
		}
	}
	return all, nil
}

// Join implements limits.Rows.
func (u limiterRows) Join(l *limits.Limiter, run int64) error {
	u.joined = append(u.joined, memberOf{l.ID, run})
	return nil
}

// A memberOf is a run that a later one at a limiter may cancel.
type memberOf struct{ limiter, run int64 }

// Older implements limits.Rows.
func (u limiterRows) Older(l *limits.Limiter) ([]int64, error) {
	keys, err := u.members.get(l.ID)
	if err != nil {
		return nil, err
	}
	for _, m := range u.joined {
		if m.limiter == l.ID {
			keys = append(slices.Clip(keys), m.run)
		}
	}
	var rows []*runRow
	for _, key := range keys {
		r, err := u.run(key)
		if err != nil {
			return nil, err
		}
		if r != nil && r.State >= store.Queued && r.State <= store.Waiting && r.CancelAt == 0 {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *runRow) int { return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(b.Key, a.Key)) })
	var older []int64
	for i := int(l.Max); i < len(rows); i++ {
		older = append(older, rows[i].Key)
	}
	return older, nil
}

// Forget implements limits.Rows.
func (u limiterRows) Forget(l *limits.Limiter) error {
	id := l.ID
	u.joined = slices.DeleteFunc(u.joined, func(m memberOf) bool { return m.limiter == id })
	u.members.known[id] = nil
	u.queued = append(u.queued, func(b *pgx.Batch) { b.Queue(u.s.sql("DELETE FROM stint.members WHERE limiter = $1"), id) })
	return nil
}

// Begin implements limits.Rows.
func (u limiterRows) Begin(run int64) error {
	r, err := u.run(run)
	if err != nil {
		return err
	}
	r.limiter = nil
	if err := runRows(u).BeginWorkflow(run, r.Node, u.now); err != nil {
		return err
	}
	u.applied[run] = r.atLimits() // it is counted already
	return nil
}

// Cancel implements limits.Rows.
func (u limiterRows) Cancel(run int64, why string) error {
	_, err := lifecycle.Cancel(runRows(u), run, u.now, lifecycle.Failure("canceled", why))
	return err
}

// Block implements limits.Rows.
func (u limiterRows) Block(run int64, why error) error {
	r, err := u.run(run)
	if err != nil || r.State != store.Queued {
		return err
	}
	r.State, r.limiter, r.Error = store.Blocked, nil, lifecycle.Failure(store.KindCondition, why.Error())
	u.runs.change(run)
	return nil
}

// ForRun implements limits.Rows.
func (u limiterRows) ForRun(run int64, f func() error) error { return forRun(run, f) }

// admitNew returns the value of limiter for a run that is about to be inserted.
func (u *unit) admitNew(all []store.Limit, workflow bool, setBy int64) (*int64, error) {
	if u.deferred {
		return new(int64), nil
	}
	return limits.AdmitNew(limiterRows{u}, all, workflow, setBy)
}

// reconcile updates the limiters after the group's changes of their runs, and admits runs that may be
// admitted now.
func (u *unit) reconcile() error {
	r := limiterRows{u}
	for {
		changed, err := u.transitions()
		if err != nil {
			return err
		}
		for _, m := range changed {
			u.applied[m.Run] = m.After
			if err := forRun(m.Run, func() error { return limits.Apply(r, m) }); err != nil {
				return err
			}
		}
		err = limits.AdmitAll(r, func() (open []*limits.Limiter) {
			for _, e := range u.limiters.entries {
				if e.now != nil && e.now.Recheck {
					open = append(open, &e.now.Limiter)
				}
			}
			slices.SortFunc(open, func(a, b *limits.Limiter) int { return cmp.Compare(a.ID, b.ID) })
			return open
		})
		if err != nil || len(changed) == 0 {
			return err
		}
	}
}

// transitions returns the runs with limits that are not as their limiters know them.
func (u *unit) transitions() (all []*limits.Transition, err error) {
	for key, e := range u.runs.entries {
		if !e.changed || e.now == nil || e.now.limits == "" {
			continue
		}
		before, known := u.applied[key]
		if !known && e.old != nil {
			before = e.old.atLimits()
		}
		after := e.now.atLimits()
		if before == after || before.State == after.State && after.State != 0 {
			continue
		}
		m := &limits.Transition{Run: key, Before: before, After: after, SetBy: e.now.limitsSetBy()}
		if m.Limits, err = store.DecodeLimits([]byte(e.now.limits)); err != nil {
			return nil, &damage.Damage{Run: key, Err: err}
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *limits.Transition) int { return cmp.Compare(a.Run, b.Run) })
	return all, nil
}
