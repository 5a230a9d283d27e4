package backoff

import (
	"math"
	"testing"
	"time"
)

// Delay before attempt k+1: min(max, factor^k seconds), give or take 10%.
func TestExponential(t *testing.T) {
	for _, c := range []struct {
		factor float64
		max    time.Duration
		k      int
		want   time.Duration
	}{
		{0, 0, 1, 0},
		{1, time.Minute, 9, time.Second},
		{2, time.Hour, 1, 2 * time.Second},
		{2, time.Hour, 10, 1024 * time.Second},
		{2, time.Hour, 12, time.Hour},
		{2, time.Hour, 2000, time.Hour},
		{1.5, time.Hour, 2, 2250 * time.Millisecond},
		{math.MaxFloat64, time.Hour, 1000, time.Hour},
		{10, math.MaxInt64, 100, math.MaxInt64},
	} {
		b := Exponential{c.factor, c.max}
		if got := b.Delay(c.k); got != c.want {
			t.Errorf("factor %v, max %v: delay before attempt %d is %v, want %v", c.factor, c.max, c.k+1, got, c.want)
		}
		for range 100 {
			if got := b.Jittered(c.k); float64(got) < 0.89*float64(c.want) || got > c.max || float64(got) > 1.11*float64(c.want) {
				t.Fatalf("factor %v, max %v: jittered to %v, want about %v", c.factor, c.max, got, c.want)
			}
		}
	}
}
