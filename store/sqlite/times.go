package sqlite

import (
	"time"

	"github.com/stint-dev/stint/internal/clock"
)

func millis(ms int64) time.Time { return clock.FromMillis(ms) }

func optionalTime(ms *int64) time.Time {
	if ms == nil {
		return time.Time{}
	}
	return millis(*ms)
}

// optionalMillis returns nil for the zero time.
func optionalMillis(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return ceilMillis(t)
}

// ceilMillis rounds up, so that nothing is ever due early (R4).
func ceilMillis(t time.Time) int64 { return clock.CeilMillis(t) }
