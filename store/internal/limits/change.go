package limits

import (
	"fmt"
	"time"

	"github.com/stint-dev/stint/store"
)

// Named are limiters by what they limit, for changes by people.
type Named interface {
	// Limiter returns the limiter of a limit. It makes one with the limit's settings if there is none.
	Limiter(l *store.Limit) (*Limiter, error)
	// LimiterNamed returns a limiter, or nil if there is none.
	LimiterNamed(k store.LimitKey) (*Limiter, error)
	// Changed stores a limiter by the end of the transaction.
	Changed(l *Limiter)
}

// SetRate gives a rate limit settings that override those of runs' limits.
func SetRate(rows Named, now time.Time, c *store.RateChange) error {
	l, err := rows.Limiter(&store.Limit{Key: c.Key, Units: 1, PerSecond: c.PerSecond, Burst: c.Burst})
	if err != nil {
		return err
	}
	l.Explicit = true
	l.SetRate(now, c.PerSecond, c.Burst)
	rows.Changed(l)
	return nil
}

// Pause pauses or resumes a limit. A concurrency limit's key that was never used is made only to be paused: its first use
// sets more.
func Pause(rows Named, k store.LimitKey, paused bool) error {
	l, err := rows.LimiterNamed(k)
	if err == nil && l == nil {
		switch {
		case k.Rate():
			return fmt.Errorf("rate limit %q: %w", k.Key, store.ErrNotFound)
		case !paused:
			return nil
		}
		l, err = rows.Limiter(&store.Limit{Name: k.Name, Key: k.Key, Strategy: store.StrategyQueue})
	}
	if err != nil {
		return err
	}
	l.Paused, l.Recheck = paused, true
	rows.Changed(l)
	return nil
}
