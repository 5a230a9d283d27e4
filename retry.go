package stint

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/stint-dev/stint/internal/guard"
)

// backoff is how long to wait before another attempt; the zero value is no wait.
type backoff struct {
	factor float64
	max    time.Duration
}

// delay is the wait before attempt k+1: min(max, factor^k seconds), k from 1.
func (b backoff) delay(k int) time.Duration {
	if b.factor == 0 {
		return 0
	}
	// In floating point until it is known to fit: factor^k overflows a Duration soon.
	s := math.Pow(b.factor, float64(k))
	if !(s < b.max.Seconds()) { // also NaN and Inf
		return b.max
	}
	return time.Duration(s * float64(time.Second))
}

// jittered spreads a delay by 10% up and down, but not over max, so that runs that
// failed together do not come back together.
func (b backoff) jittered(k int) time.Duration {
	d := float64(b.delay(k)) * (0.9 + 0.2*rand.Float64())
	if d >= float64(b.max) {
		return b.max
	}
	return time.Duration(d)
}

// WithRetries has a failed attempt followed by up to n more. The default is 0.
func WithRetries(n int) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if n < 0 {
			return fmt.Errorf("stint: WithRetries(%d): want 0 or more", n)
		}
		c.retries = n
		return nil
	})
}

// WithRetryBackoff sets the wait before attempt k+1 to min(max, factor^k seconds), give
// or take 10%. factor is at least 1. With none set a retry starts at once.
func WithRetryBackoff(factor float64, max time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if !(factor >= 1) || math.IsInf(factor, 0) {
			return fmt.Errorf("stint: WithRetryBackoff: factor %v: want 1 or more", factor)
		}
		c.backoff = backoff{factor, max}
		return wantPositive("WithRetryBackoff: max", max)
	})
}

// WithRetryPolicy sets the wait before the next attempt to what f says of the attempt
// that failed, from 1, and of its error. Less than 0 means that no attempt follows; so does
// a panic of f, which is then the run's error.
func WithRetryPolicy(f func(attempt int, err error) time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if f == nil {
			return errors.New("stint: WithRetryPolicy(nil): want a function")
		}
		c.policy = f
		return nil
	})
}

// WithTimeout limits one attempt to d: then its context is done with cause ErrTimeout,
// and the attempt fails even if the handler goes on. The default is no limit.
//
// Only the time in which the handler works counts, steps' functions included. Time in
// which it, and each branch that Go began, waits in a durable call (Sleep, WaitForEvent,
// a child's Run or Wait, a Future, a step's retry) does not, however long.
//
// Of a workflow it limits the whole run, waits included: it counts from when the run may
// start, and anew from a replay.
func WithTimeout(d time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.timeout = d
		return wantPositive("WithTimeout", d)
	})
}

// WithScheduleTimeout cancels a run that has not started within d of when it was due. What
// moves that time moves the end too: WithRunAt, WithDelay, each enqueue of WithDebounce, a
// Reschedule. A replay counts anew. A run that has started once is not limited any more:
// neither its retries nor its waits. The default is no limit.
func WithScheduleTimeout(d time.Duration) TaskOption {
	return taskOption(func(c *taskConfig) error {
		c.scheduleTimeout = d
		return wantPositive("WithScheduleTimeout", d)
	})
}

// WithOnFailure runs fn once after the last attempt of a run failed, with the run's
// input and its error. It is a run of its own, named after the task with
// ":on-failure" added, and is stored in the commit that records the failure.
func WithOnFailure[In any](fn func(context.Context, In, *TaskError) error) TaskOption {
	return taskOption(func(c *taskConfig) error {
		if fn == nil {
			return errors.New("stint: WithOnFailure(nil): want a function")
		}
		c.onFailure = func(ctx context.Context, in any, err *TaskError) error { return fn(ctx, inputAs[In](in), err) }
		return wantInput[In]("WithOnFailure", c)
	})
}

// nextAttempt is what follows an attempt that failed with err: another after a delay, or none; and
// why it failed, which is more than err if the retry policy panics.
func (c *taskConfig) nextAttempt(attempt int, err error) (delay time.Duration, again bool, why error) {
	var final *nonRetryable
	var after *retryAfter
	switch {
	case errors.As(err, &final), attempt > c.retries:
		return 0, false, err
	case errors.As(err, &after):
		return after.d, true, err
	case c.policy != nil:
		return c.askPolicy(attempt, err)
	}
	return c.backoff.jittered(attempt), true, err
}

func (c *taskConfig) askPolicy(attempt int, err error) (delay time.Duration, again bool, why error) {
	p := guard.Call(func() { delay = c.policy(attempt, original(err)) })
	if p != nil {
		return 0, false, &PanicError{Value: fmt.Sprintf("%s: in the retry policy, asked about: %v", guard.Text(p.Value), err), Stack: p.Stack}
	}
	return delay, delay >= 0, err
}
