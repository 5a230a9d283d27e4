package store_test

import (
	"math"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// A quantile is about the duration that it stands for, whether all durations are the same or they are spread.
func TestQuantile(t *testing.T) {
	near := func(h *store.Histogram, q float64, want time.Duration, most float64) {
		t.Helper()
		got := h.Quantile(q)
		if off := math.Abs(float64(got)/float64(want) - 1); off > most {
			t.Errorf("quantile %v is %v, want %v: off by %.0f%%", q, got, want, 100*off)
		}
	}
	for d := 150 * time.Microsecond; d < 20*time.Hour; d += d / 7 {
		var h store.Histogram
		h.Observe(d)
		near(&h, .5, d, .13)
		for range 99 {
			h.Observe(d)
		}
		for _, q := range []float64{0, .5, .95, 1} {
			near(&h, q, d, .25)
		}
	}
	var spread store.Histogram
	for i := range 1000 {
		spread.Observe(time.Duration(i+1) * time.Millisecond)
	}
	near(&spread, .5, 500*time.Millisecond, .02)
	near(&spread, .95, 950*time.Millisecond, .02)
	near(&spread, .01, 10*time.Millisecond, .1)
	var days store.Histogram
	days.Observe(72 * time.Hour)
	near(&days, .5, 23*time.Hour, .05) // beyond the last bound it is that bound
	if d := (&store.Histogram{}).Quantile(.5); d != 0 {
		t.Errorf("of nothing: %v", d)
	}
}
