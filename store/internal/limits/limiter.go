// Package limits decides which runs may start under their concurrency and rate limits.
//
// A run with limits must be admitted by a limiter for each before it is ready; until all of them
// have admitted it at once it is queued, but waits at one, where claims do not see it. What a run
// holds follows from its state: it is admitted while it is ready, holds its share of a concurrency
// limit until it has left the states queued, running and waiting, and takes a rate's units when it
// starts. So Apply compares the state that a run had with the one it has, whatever changed it, and
// AdmitAll admits those that wait where that made room.
//
// The package has no SQL, no clock and no goroutine: it reads and changes limiters and runs by
// Rows, which a store implements in a transaction.
package limits

import (
	"fmt"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
)

// Never is the WakeAt of a limiter that does not wait for a time.
const Never = int64(1)<<62 - 1

// A Limiter is the state of a concurrency limit's key, or of a rate limit.
type Limiter struct {
	ID        int64
	Rate      bool // a rate limit, not a concurrency limit
	Name, Key string

	// The settings. Max is what Active is held under; of a rate, Bucket.Burst is.
	Strategy store.Strategy
	Max      int64
	Explicit bool  // a RateChange set them
	SetBy    int64 // key of the enqueue that they came with
	Paused   bool

	Active   int64 // shares that are held, or units of runs that are admitted and have not started
	Admitted int64 // of a concurrency limit: runs that are ready, or wait at a later limiter
	Waiting  int64 // runs that wait here
	Bucket   store.Bucket
	WakeAt   int64 // when to admit again, in milliseconds; Never: when something changes

	Recheck bool // runs that wait may be admitted
	Lowered bool // more may have been admitted than the settings allow by now
}

// RateIdle is how long a rate limit is kept unused that no RateChange set.
const RateIdle = time.Hour

// NewLimiter returns the limiter of a limit before its first run. It has the limit's settings, and the bucket of a rate is
// full. A rate limit without figures is one that must exist already: store.ErrNotFound.
func NewLimiter(l *store.Limit, now time.Time) (x Limiter, err error) {
	x = Limiter{Rate: l.Rate(), Name: l.Name, Key: l.Key, Strategy: l.Strategy, Max: int64(l.Max), WakeAt: Never}
	x.Bucket.At = now
	if !x.Rate {
		return x, nil
	}
	if l.Burst == 0 {
		return x, fmt.Errorf("rate limit %q: %w: set it with SetRateLimit, or give its figures", l.Key, store.ErrNotFound)
	}
	x.Max = int64(l.Burst)
	x.Bucket.PerSecond, x.Bucket.Burst, x.Bucket.Tokens = l.PerSecond, l.Burst, float64(l.Burst)
	return x, nil
}

// String returns the name by which messages call the limiter.
func (l *Limiter) String() string {
	switch {
	case l.Rate:
		return fmt.Sprintf("%q", l.Key)
	case l.Key != "":
		return fmt.Sprintf("%q (key %q)", l.Name, l.Key)
	}
	return fmt.Sprintf("%q", l.Name)
}

// InTurns reports whether the keys of the limit take turns.
func (l *Limiter) InTurns() bool { return !l.Rate && l.Strategy == store.StrategyGroupRoundRobin }

// Needed reports whether the row must be kept. Rate limits always stay: they store tokens.
func (l *Limiter) Needed() bool {
	return l.Rate || l.Paused || l.Active > 0 || l.Waiting > 0 || l.Admitted > 0
}

// Allows reports whether the limiter can admit a run with that limit now.
func (l *Limiter) Allows(limit *store.Limit, now time.Time) bool {
	switch {
	case l.Paused:
		return false
	case l.Rate:
		l.Bucket.Fill(now)
		return l.Bucket.Unlimited() || l.Bucket.Tokens-float64(l.Active) >= float64(limit.Units)
	}
	return l.hasShare()
}

// hasShare reports whether a share is free, and no other key's turn comes first.
func (l *Limiter) hasShare() bool { return l.Active < l.Max && (!l.InTurns() || l.Admitted == 0) }

// SetRate changes the settings of a rate, and keeps its tokens.
func (l *Limiter) SetRate(now time.Time, perSecond float64, burst int) {
	l.Bucket.Fill(now)
	l.Bucket.PerSecond, l.Bucket.Burst, l.Max = perSecond, burst, int64(burst)
	l.Bucket.Fill(now)
	l.Recheck, l.Lowered = true, true
}

// Overdrawn reports whether more runs that have not started are admitted than the settings allow.
func (l *Limiter) Overdrawn() bool {
	if l.Rate {
		return !l.Bucket.Unlimited() && float64(l.Active) > l.Bucket.Tokens
	}
	return l.Admitted > 0 && l.Active > l.Max
}

// Idle reports whether a rate limit was unused for RateIdle, and its bucket is full: it may be deleted,
// since its next use makes it as it was.
func (l *Limiter) Idle(now time.Time) bool {
	b := l.Bucket
	b.Fill(now)
	return l.Rate && l.Active == 0 && l.Waiting == 0 && now.Sub(l.Bucket.At) >= RateIdle && b.Tokens >= float64(b.Burst)
}

// readyAt returns when a rate has the units of a limit, in milliseconds; Never: by itself, never.
func (l *Limiter) readyAt(limit *store.Limit, now time.Time) int64 {
	if !l.Rate {
		return Never
	}
	at := l.Bucket.Ready(float64(l.Active) + float64(limit.Units))
	if at.IsZero() {
		return Never
	}
	return max(clock.CeilMillis(at), now.UnixMilli()+1)
}

// use gives the limiter the settings that a run's limit came with, unless it has those of a later
// enqueue: a run that waited, or makes its next attempt, never brings old ones back. It reports
// whether that changed the limiter, and whether what it remembers of its runs is of no use now.
func (l *Limiter) use(limit *store.Limit, setBy int64, now time.Time) (changed, forget bool) {
	if setBy = max(setBy, limit.SetBy); setBy < l.SetBy || l.Explicit || l.Rate && limit.Burst == 0 {
		return false, false
	}
	changed = l.SetBy != setBy
	l.SetBy = setBy
	switch {
	case l.Rate && (l.Bucket.PerSecond != limit.PerSecond || l.Bucket.Burst != limit.Burst):
		l.SetRate(now, limit.PerSecond, limit.Burst)
		changed = true
	case !l.Rate && (l.Max != int64(limit.Max) || l.Strategy != limit.Strategy):
		forget = l.Strategy == store.StrategyCancelInProgress && limit.Strategy != l.Strategy
		l.Max, l.Strategy = int64(limit.Max), limit.Strategy
		l.Recheck, l.Lowered = true, true
		changed = true
	}
	return changed, forget
}
