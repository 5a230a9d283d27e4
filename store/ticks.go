package store

import (
	"math/bits"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/stint-dev/stint/internal/clock"
)

// calendar computes the ticks of a spec with fields. It uses robfig/cron's parser, but not its Next
// (v3.0.1, spec.go): that sets a day to 00:00 and continues by AddDate, so on a day without midnight
// (Cairo's 24 April 2026 begins at 01:00) it arrives at 23:00 of the day before, corrects that by whole
// hours, and loses the day, or a whole month; a clock that goes back makes it tick twice at a fixed
// hour; and a spec for 29 February does not tick across a year such as 2100, because it gives up after
// five years.
//
// calendar divides time into stretches of one offset, in which local time is UTC plus the offset, so that
// days have 24 hours. A local time that does not exist is in no stretch, and is skipped. One that occurs
// twice is in two: a fixed spec has the first.
type calendar struct {
	cron.SpecSchedule
	fixed bool // neither its hour nor its minute is "*": one tick for each local time, as in Vixie cron
}

const (
	mostYears = 40        // in which a spec ticks, or never: 29 February occurs at least every 8 years
	longFold  = 49 * 3600 // seconds: no clock goes back by more
	starBit   = 1 << 63   // of a field that is "*", in robfig/cron
)

// isFixed reports whether a spec names its hour and its minute.
func isFixed(spec string) bool {
	fields := strings.Fields(spec)
	if strings.Contains(fields[0], "TZ=") {
		fields = fields[1:]
	}
	if len(fields) == 1 {
		return fields[0] != "@hourly"
	}
	if len(fields) == 6 {
		fields = fields[1:] // seconds
	}
	return !strings.ContainsAny(fields[0]+fields[1], "*?")
}

// Next returns the first tick after a time, or the zero time if there is none.
func (c *calendar) Next(after time.Time) time.Time {
	zone := c.Location
	if zone == time.Local {
		zone = after.Location()
	}
	last := min(clock.Max.Unix(), after.AddDate(mostYears, 0, 0).Unix())
	for at := after.Unix() + 1; at <= last; {
		s := stretchAt(zone, at)
		end := min(s.end, last+1)
		wall, ok := c.wallFrom(at+s.offset, end+s.offset)
		if !ok {
			at = end
			continue
		}
		if c.fixed {
			if until := s.shownUntil(zone, wall); until > wall {
				at = min(until-s.offset, end)
				continue
			}
		}
		return time.Unix(wall-s.offset, 0).In(after.Location())
	}
	return time.Time{}
}

// A stretch is a time in which a zone has one offset, in Unix seconds: from start to before end. The
// next one may have the same offset.
type stretch struct{ start, end, offset int64 }

func stretchAt(zone *time.Location, at int64) stretch {
	t := time.Unix(at, 0).In(zone)
	_, offset := t.Zone()
	s := stretch{start: clock.Min.Unix(), end: clock.Max.Unix() + 1, offset: int64(offset)}
	start, end := t.ZoneBounds()
	if !start.IsZero() {
		s.start = start.Unix()
	}
	if !end.IsZero() {
		s.end = end.Unix()
	}
	if s.end <= at { // for rules without end, Go (1.26) says so on the last day of a leap year
		s.end = time.Date(t.UTC().Year()+1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	}
	return s
}

// shownUntil returns the end of the local times, wall among them, that have occurred before this
// stretch; or wall itself, if it has not.
func (s stretch) shownUntil(zone *time.Location, wall int64) int64 {
	for first := wall - s.offset - longFold; s.start > max(first, clock.Min.Unix()); {
		end := s.start
		s = stretchAt(zone, end-1)
		if s.start+s.offset <= wall && wall < end+s.offset {
			return end + s.offset
		}
		if s.start >= end {
			break
		}
	}
	return wall
}

// wallFrom returns the spec's first local time at or after from and before before, all as Unix
// seconds of UTC.
func (c *calendar) wallFrom(from, before int64) (wall int64, ok bool) {
	t := time.Unix(from, 0).UTC()
	clockFrom := int(from - t.Truncate(24*time.Hour).Unix())
	for day := t.Truncate(24 * time.Hour); day.Unix() < before; clockFrom = 0 {
		if !has(c.Month, int(day.Month())) {
			day = time.Date(day.Year(), day.Month()+1, 1, 0, 0, 0, 0, time.UTC)
			continue
		}
		if c.onDay(day) {
			if second, ok := c.inDay(clockFrom); ok {
				wall = day.Unix() + int64(second)
				return wall, wall < before
			}
		}
		day = day.AddDate(0, 0, 1)
	}
	return 0, false
}

// onDay follows cron's rule: if a day of the month and a day of the week are both given, either is
// enough.
func (c *calendar) onDay(day time.Time) bool {
	dom, dow := has(c.Dom, day.Day()), has(c.Dow, int(day.Weekday()))
	if (c.Dom|c.Dow)&starBit != 0 {
		return dom && dow
	}
	return dom || dow
}

// inDay returns the spec's first second of a day at or after from.
func (c *calendar) inDay(from int) (second int, ok bool) {
	h, m, s := from/3600, from/60%60, from%60
	firstM, okM := next(c.Minute, 0)
	firstS, okS := next(c.Second, 0)
	if !okM || !okS {
		return 0, false
	}
	if has(c.Hour, h) {
		if has(c.Minute, m) {
			if s, ok := next(c.Second, s); ok {
				return h*3600 + m*60 + s, true
			}
		}
		if m, ok := next(c.Minute, m+1); ok {
			return h*3600 + m*60 + firstS, true
		}
	}
	h, ok = next(c.Hour, h+1)
	return h*3600 + firstM*60 + firstS, ok
}

func has(field uint64, n int) bool { return field&(1<<n) != 0 }

// next returns the lowest number in a field that is at least n.
func next(field uint64, n int) (int, bool) {
	i := bits.TrailingZeros64(field &^ starBit >> n << n)
	return i, i < 64
}
