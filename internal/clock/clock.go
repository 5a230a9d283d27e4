// Package clock has the range of times that can be stored, in milliseconds and as JSON.
// Arithmetic on times and durations saturates; it never wraps.
package clock

import (
	"fmt"
	"math"
	"time"
)

// Min and Max are the first and the last time that can be stored. RFC 3339, which JSON uses, has
// years of four digits.
var (
	Min = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	Max = time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
)

var minMillis, maxMillis = Min.UnixMilli(), Max.UnixMilli()

// Check returns an error that says what to pass instead if t cannot be stored. The zero time,
// which means none, can.
func Check(t time.Time) error {
	if t.Before(Min) || t.After(Max) {
		return fmt.Errorf("a time of Unix second %d: want one of the years 1 to 9999 (milliseconds or nanoseconds taken for seconds?)",
			t.Unix())
	}
	return nil
}

// Clamp returns t, or the nearest time that can be stored.
func Clamp(t time.Time) time.Time {
	switch {
	case t.Before(Min):
		return Min
	case t.After(Max):
		return Max
	}
	return t
}

// Add returns t + d, or the nearest time that can be stored.
func Add(t time.Time, d time.Duration) time.Time { return Clamp(Clamp(t).Add(d)) }

// Mul returns n × d, or the longest duration of that sign.
func Mul(d time.Duration, n int64) time.Duration {
	p := d * time.Duration(n)
	if n == 0 || p/time.Duration(n) == d && (n != -1 || d != math.MinInt64) {
		return p
	}
	if (d < 0) == (n < 0) {
		return math.MaxInt64
	}
	return math.MinInt64
}

// Sum returns a + b, or the longest duration of that sign.
func Sum(a, b time.Duration) time.Duration {
	switch s := a + b; {
	case a > 0 && b > 0 && s < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && s >= 0:
		return math.MinInt64
	default:
		return s
	}
}

// Millis returns t in milliseconds since 1970, rounded down.
func Millis(t time.Time) int64 { return Clamp(t).UnixMilli() }

// CeilMillis returns t in milliseconds since 1970, rounded up: nothing that waits for t
// is due before it.
func CeilMillis(t time.Time) int64 { return Millis(Add(t, time.Millisecond-1)) }

// Ceil rounds t up to the precision of stores, so that who has it in memory sees the same time as who reads it later. The zero time
// stays zero.
func Ceil(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.UnixMilli(CeilMillis(t))
}

// FromMillis returns the time ms milliseconds after 1970, in the local zone, or in UTC where its
// local year could have five digits.
func FromMillis(ms int64) time.Time {
	t := time.UnixMilli(max(min(ms, maxMillis), minMillis))
	if ms >= maxMillis-day || ms < minMillis+day {
		return t.UTC()
	}
	return t
}

const day = 24 * 60 * 60 * 1000 // milliseconds
