package stint

import (
	"context"
	"errors"
	"fmt"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/store"
	"golang.org/x/time/rate"
)

// A RateLimit says what a run takes from a rate limit: Units units of the limit named Key,
// which admits Limit units a second and at most Burst at once. A limit is created by its first
// use. The Limit and Burst of the newest enqueue apply, also to runs that wait already;
// retries of older runs do not bring theirs back, and a run that is enqueued for later sets
// them when it is due. A run that needs more units than a lowered Burst waits until it is
// raised, with those behind it. With a Burst of 0 the limit is the one that SetRateLimit set,
// which overrides those of runs.
type RateLimit struct {
	Key   string
	Units int // 0 means 1
	Limit rate.Limit
	Burst int
}

// WithRateLimit makes each start of an attempt take units from the rate limit of that key,
// which SetRateLimit sets first. In any time t, all tasks and processes on the database
// together take at most burst + limit × t units. A run that lacks units waits, without holding
// up others, and starts when they are available.
func WithRateLimit(key string, units int) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if units < 1 || units > maxUnits {
			return fmt.Errorf("stint: WithRateLimit(%q, %d): want 1 to %d units", key, units, maxUnits)
		}
		if err := check.Name("rate limit key", key); err != nil {
			return errorf("stint: WithRateLimit: %w", err)
		}
		c.rateLimits = append(c.rateLimits, RateLimitSpec{Key: key, Units: units})
		c.limits = append(c.limits, func(string, any) (store.Limit, error) { return store.Limit{Key: key, Units: units}, nil })
		return nil
	})
}

// WithRateLimitFunc is like WithRateLimit, with a limit computed from a run's input when it is
// enqueued.
func WithRateLimitFunc[In any](f func(In) RateLimit) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if f == nil {
			return fmt.Errorf("stint: WithRateLimitFunc: nil function")
		}
		if err := wantInput[In]("WithRateLimitFunc", c); err != nil {
			return err
		}
		c.rateLimits = append(c.rateLimits, RateLimitSpec{KeyExpr: funcExpr, UnitsExpr: funcExpr, LimitExpr: funcExpr})
		c.limits = append(c.limits, func(_ string, in any) (l store.Limit, err error) {
			var r RateLimit
			if _, err = callKey("rate limit", func(in any) string { r = f(inputAs[In](in)); return r.Key }, in); err != nil {
				return l, err
			}
			return r.toStore()
		})
		return nil
	})
}

// maxUnits bounds units and bursts, so that their sums are exact.
const maxUnits = 1 << 50

// validRate reports whether JSON can hold a limit: it is neither NaN nor infinite. rate.Inf is
// finite.
func validRate(l rate.Limit) bool { return l >= 0 && l <= rate.Inf }

func (r RateLimit) toStore() (store.Limit, error) {
	l := store.Limit{Key: r.Key, Units: max(r.Units, 1), PerSecond: float64(r.Limit), Burst: r.Burst}
	switch {
	case r.Key == "":
		return l, errors.New("a rate limit without a key")
	case r.Units < 0 || r.Units > maxUnits:
		return l, fmt.Errorf("rate limit %q: %d units: want 1 to %d", r.Key, r.Units, maxUnits)
	case r.Burst < 0 || r.Burst > maxUnits || !validRate(r.Limit):
		return l, fmt.Errorf("rate limit %q: %v a second, burst %d: want a limit of 0 or more, or rate.Inf, and a burst of 0 to %d",
			r.Key, r.Limit, r.Burst, maxUnits)
	case r.Burst > 0 && l.Units > r.Burst && r.Limit != rate.Inf:
		return l, fmt.Errorf("rate limit %q: %d units, but its burst is %d: it could never start", r.Key, l.Units, r.Burst)
	case r.Burst == 0 && r.Limit != 0:
		return l, fmt.Errorf("rate limit %q: %v a second with a burst of 0 lets nothing start", r.Key, r.Limit)
	}
	return l, nil
}

// SetRateLimit sets a rate limit to limit units a second, and to burst units at once.
// rate.Every(d) is one unit every d, and rate.Inf is no limit. The limit is stored, and applies at
// once to all runs that have not started. It overrides the limits that runs bring with RateLimit.
//
// The error says which argument is invalid: the key has 1 to 255 bytes of UTF-8, the limit is 0 or
// more, the burst is at least 1. With a limit of 0 no units follow those of the burst.
func (c *Client) SetRateLimit(ctx context.Context, key string, limit rate.Limit, burst int) error {
	err := check.Name("rate limit key", key)
	if err == nil && (burst < 1 || burst > maxUnits || !validRate(limit)) {
		err = fmt.Errorf("%v a second, burst %d: want a limit of 0 or more, or rate.Inf, and a burst of 1 to %d", limit, burst, maxUnits)
	}
	if err != nil {
		return errorf("stint: SetRateLimit: %w", err)
	}
	return wrapStoreErr("set rate limit", c.store.SetRate(ctx, c.now(), key, float64(limit), burst))
}

// A RateLimitInfo is the state of a rate limit.
type RateLimitInfo struct {
	Key     string
	Limit   rate.Limit
	Burst   int
	Tokens  float64 // units available now
	Waiting int     // runs that wait for units
	Paused  bool
}

// ListRateLimits returns the rate limits by key, up to 10,000. A limit that SetRateLimit set is
// kept. One that came with a run is deleted once it was not used for an hour, which is so long
// that its tokens are full again.
func (c *Client) ListRateLimits(ctx context.Context) ([]RateLimitInfo, error) {
	all, err := c.store.Limits(ctx, true)
	if err != nil {
		return nil, wrapStoreErr("list rate limits", err)
	}
	infos := make([]RateLimitInfo, len(all))
	for i, l := range all {
		infos[i] = RateLimitInfo{Key: l.Key, Limit: rate.Limit(l.PerSecond), Burst: l.Burst, Tokens: l.Tokens, Waiting: l.Waiting,
			Paused: l.Paused}
	}
	return infos, nil
}
