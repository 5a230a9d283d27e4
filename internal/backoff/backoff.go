// Package backoff computes the wait before another attempt.
package backoff

import (
	"math"
	"math/rand/v2"
	"time"
)

// Exponential is a wait that grows with the number of the attempt, up to Max. The zero value is no wait.
type Exponential struct {
	Factor float64
	Max    time.Duration
}

// Delay returns the wait before attempt k+1: min(Max, Factor^k seconds), k from 1.
func (b Exponential) Delay(k int) time.Duration {
	if b.Factor == 0 {
		return 0
	}
	// In floating point first: Factor^k soon overflows a Duration.
	s := math.Pow(b.Factor, float64(k))
	if !(s < b.Max.Seconds()) { // also NaN and Inf
		return b.Max
	}
	return time.Duration(s * float64(time.Second))
}

// Jittered varies a delay by 10% up or down, up to Max, so that runs that failed together do
// not come back together.
func (b Exponential) Jittered(k int) time.Duration {
	d := float64(b.Delay(k)) * (0.9 + 0.2*rand.Float64())
	if d >= float64(b.Max) {
		return b.Max
	}
	return time.Duration(d)
}
