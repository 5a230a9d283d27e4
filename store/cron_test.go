package store_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var daylightSaving = []struct {
	spec, from string
	want       []string
}{
	// New York goes from 02:00 to 03:00 on 10 March 2024, and back on 3 November.
	{"CRON_TZ=America/New_York 30 2 * * *", "2024-03-09T12:00:00-05:00", []string{"2024-03-11T02:30:00-04:00"}},
	{"CRON_TZ=America/New_York 30 * * * *", "2024-03-10T01:00:00-05:00", []string{"2024-03-10T01:30:00-05:00",
		"2024-03-10T03:30:00-04:00"}},
	{"CRON_TZ=America/New_York 0 3 * * *", "2024-03-09T12:00:00-05:00", []string{"2024-03-10T03:00:00-04:00"}},
	{"CRON_TZ=America/New_York 0 2 * * *", "2024-11-02T12:00:00-04:00", []string{"2024-11-03T02:00:00-05:00",
		"2024-11-04T02:00:00-05:00"}},
	{"CRON_TZ=America/New_York 30 1 * * *", "2024-11-02T12:00:00-04:00", []string{"2024-11-03T01:30:00-04:00",
		"2024-11-04T01:30:00-05:00"}},
	{"CRON_TZ=America/New_York 20 30 1 * * *", "2024-11-02T12:00:00-04:00", []string{"2024-11-03T01:30:20-04:00",
		"2024-11-04T01:30:20-05:00"}},
	{"CRON_TZ=America/New_York 30 1 * * *", "2024-11-03T01:45:00-04:00", []string{"2024-11-04T01:30:00-05:00"}},
	{"CRON_TZ=America/New_York */30 1 * * *", "2024-11-03T00:30:00-04:00", []string{"2024-11-03T01:00:00-04:00",
		"2024-11-03T01:30:00-04:00", "2024-11-03T01:00:00-05:00", "2024-11-03T01:30:00-05:00", "2024-11-04T01:00:00-05:00"}},
	{"CRON_TZ=America/New_York @hourly", "2024-11-03T00:30:00-04:00", []string{"2024-11-03T01:00:00-04:00",
		"2024-11-03T01:00:00-05:00", "2024-11-03T02:00:00-05:00"}},
	{"CRON_TZ=America/New_York @daily", "2024-11-02T12:00:00-04:00", []string{"2024-11-03T00:00:00-04:00",
		"2024-11-04T00:00:00-05:00"}},
	// Oslo goes from 02:00 to 03:00 on 31 March 2024, and back on 27 October.
	{"CRON_TZ=Europe/Oslo 15 2 * * *", "2024-03-30T12:00:00+01:00", []string{"2024-04-01T02:15:00+02:00"}},
	{"CRON_TZ=Europe/Oslo */30 * * * *", "2024-03-31T01:30:00+01:00", []string{"2024-03-31T03:00:00+02:00",
		"2024-03-31T03:30:00+02:00"}},
	{"CRON_TZ=Europe/Oslo 0 * * * *", "2024-10-27T01:30:00+02:00", []string{"2024-10-27T02:00:00+02:00", "2024-10-27T02:00:00+01:00",
		"2024-10-27T03:00:00+01:00"}},
	{"CRON_TZ=Europe/Oslo 0 9 * * *", "2024-10-26T12:00:00+02:00", []string{"2024-10-27T09:00:00+01:00"}},
	// Days without midnight: Cairo's 24 April 2026 begins at 01:00, and Beirut's 29 March 2026.
	{"CRON_TZ=Africa/Cairo 0 9 * * FRI", "2026-04-23T12:00:00+02:00", []string{"2026-04-24T09:00:00+03:00",
		"2026-05-01T09:00:00+03:00"}},
	{"CRON_TZ=Africa/Cairo @daily", "2026-04-23T12:00:00+02:00", []string{"2026-04-25T00:00:00+03:00"}},
	{"CRON_TZ=Asia/Beirut 0 9 * * SUN", "2026-03-28T12:00:00+02:00", []string{"2026-03-29T09:00:00+03:00",
		"2026-04-05T09:00:00+03:00"}},
	{"CRON_TZ=Asia/Beirut 0 9 29 * *", "2026-03-28T12:00:00+02:00", []string{"2026-03-29T09:00:00+03:00", "2026-04-29T09:00:00+03:00"}},
	// Samoa had no 30 December 2011, a Friday.
	{"CRON_TZ=Pacific/Apia 0 9 30 * *", "2011-12-29T12:00:00-10:00", []string{"2012-01-30T09:00:00+14:00"}},
	{"CRON_TZ=Pacific/Apia 0 9 * * FRI", "2011-12-29T12:00:00-10:00", []string{"2012-01-06T09:00:00+14:00"}},
	// A leap day after a leap year that is none, and the rule of two kinds of days.
	{"CRON_TZ=UTC 0 0 29 2 *", "2096-03-01T00:00:00Z", []string{"2104-02-29T00:00:00Z"}},
	{"CRON_TZ=Europe/Oslo 0 0 13 * FRI", "2026-03-13T00:00:00+01:00", []string{"2026-03-20T00:00:00+01:00",
		"2026-03-27T00:00:00+01:00", "2026-04-03T00:00:00+02:00", "2026-04-10T00:00:00+02:00", "2026-04-13T00:00:00+02:00"}},
	// The last day of a leap year, far ahead.
	{"CRON_TZ=America/New_York 0 12 31 12 *", "2040-12-30T12:00:00-05:00", []string{"2040-12-31T12:00:00-05:00",
		"2041-12-31T12:00:00-05:00"}},
	{"CRON_TZ=America/New_York 0 12 1 1 *", "2040-12-31T12:00:00-05:00", []string{"2041-01-01T12:00:00-05:00"}},
	// Lord Howe Island changes by half an hour: from 02:00 to 02:30 on 6 October 2024.
	{"CRON_TZ=Australia/Lord_Howe 15 * * * *", "2024-10-06T01:00:00+10:30", []string{"2024-10-06T01:15:00+10:30",
		"2024-10-06T03:15:00+11:00"}},
	{"CRON_TZ=Australia/Lord_Howe 45 2 * * *", "2024-10-05T12:00:00+10:30", []string{"2024-10-06T02:45:00+11:00"}},
	{"CRON_TZ=Australia/Lord_Howe @every 1h", "2024-10-06T01:45:00+10:30", []string{"2024-10-06T03:15:00+11:00"}},
}

// The days on which clocks change, in three zones: a time that does not exist is passed
// over; one that exists twice is had once by a spec that names its hour and minute, else twice.
func TestDaylightSaving(t *testing.T) {
	for _, tc := range daylightSaving {
		at, err := time.Parse(time.RFC3339, tc.from)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tc.want {
			w, err := time.Parse(time.RFC3339, want)
			if err != nil {
				t.Fatal(err)
			}
			if at, err = store.NextTick(tc.spec, at); err != nil || !at.Equal(w) {
				t.Errorf("%s from %s: %s (%v), want %s", tc.spec, tc.from, at.In(w.Location()).Format(time.RFC3339), err, want)
				break
			}
		}
	}
}

// The cases of robfig/cron's documentation: fields, ranges, steps, names and descriptors.
func TestSpecs(t *testing.T) {
	for spec, want := range map[string]string{
		"30 * * * *":          "2024-02-28T23:30:00Z",
		"30 3-6,20-23 * * *":  "2024-02-28T23:30:00Z",
		"0 0 1 1 *":           "2025-01-01T00:00:00Z",
		"0 0 29 2 *":          "2024-02-29T00:00:00Z",
		"0 12 * * MON-FRI":    "2024-02-29T12:00:00Z",
		"0 0 ? * SUN":         "2024-03-03T00:00:00Z",
		"*/15 * * * *":        "2024-02-28T23:15:00Z",
		"5 */10 * * * *":      "2024-02-28T23:10:05Z", // with seconds
		"@yearly":             "2025-01-01T00:00:00Z",
		"@annually":           "2025-01-01T00:00:00Z",
		"@monthly":            "2024-03-01T00:00:00Z",
		"@weekly":             "2024-03-03T00:00:00Z",
		"@daily":              "2024-02-29T00:00:00Z",
		"@midnight":           "2024-02-29T00:00:00Z",
		"@hourly":             "2024-02-29T00:00:00Z",
		"@every 1h30m10s":     "2024-02-29T00:31:00Z",
		"TZ=Asia/Tokyo 0 6 *": "",
	} {
		if want == "" {
			if err := store.ParseCron(spec); err == nil {
				t.Errorf("%s parses", spec)
			}
			continue
		}
		if spec[0] != '@' {
			spec = "CRON_TZ=UTC " + spec
		}
		from := time.Date(2024, 2, 28, 23, 0, 50, 0, time.UTC)
		got, err := store.NextTick(spec, from)
		if time.Local != time.UTC && spec[0] == '@' && spec[1] != 'e' {
			continue // of the local zone
		}
		if err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: %v (%v), want %s", spec, got.UTC(), err, want)
		}
	}
}

// Whatever the clock does, Due gives ticks of the spec that have come, each at most once,
// and none of them again: compared with a walk from tick to tick.
func TestDue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := store.Cron{
			Spec: rapid.SampledFrom([]string{"* * * * *", "*/7 * * * *", "0 */5 * * *", "@hourly", "@every 90s",
				"CRON_TZ=Europe/Oslo 30 2 * * *", "*/20 * * * * *"}).Draw(t, "spec"),
			CatchUp: store.CatchUp(rapid.IntRange(0, 3).Draw(t, "catch up")),
		}
		now := time.Date(2024, 3, 30, 0, 0, 0, 0, time.UTC)
		next, err := store.NextTick(c.Spec, now)
		if err != nil {
			t.Fatal(err)
		}
		last := now
		for range rapid.IntRange(1, 8).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.Int64Range(int64(-2*time.Hour), int64(30*time.Hour)).Draw(t, "jump")))
			if next.After(now) {
				continue // it is not due: also after the clock was set back
			}
			var came []time.Time
			then := next
			for ; !then.After(now); then, _ = store.NextTick(c.Spec, then) {
				came = append(came, then)
			}
			newest := came[len(came)-1]
			want := []time.Time{newest}
			switch late := now.Sub(newest); {
			case c.CatchUp == store.CatchUpAll:
				if len(came) > 50 {
					came, then = came[:50], came[50]
				}
				want = came
			case c.CatchUp == store.CatchUpNone && late > store.OnTime, c.CatchUp == store.CatchUpGrace && late > store.CatchUpGraceTime:
				want = nil
			}
			got, at, err := c.Due(next, now, 50)
			if err != nil || !slices.EqualFunc(got, want, time.Time.Equal) || !at.Equal(then) {
				t.Fatalf("%s, due %v, now %v: %v and then %v (%v), want %v and then %v", c.Spec, next, now, got, at, err, want, then)
			}
			for _, g := range got {
				if !g.After(last) && !g.Equal(last) || g.After(now) {
					t.Fatalf("tick %v, after %v, at %v", g, last, now)
				}
				last = g
			}
			next = at
		}
	})
}

// "*" stands for any text, and every other character for itself.
func TestMatchKey(t *testing.T) {
	for _, tc := range []struct {
		pattern, key string
		want         bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"*", "", true}, {"*", "x", true}, {"a*", "a", true}, {"a*", "ab", true}, {"a*", "ba", false},
		{"*a", "ba", true}, {"*a", "ab", false}, {"a*a", "a", false}, {"a*a", "aa", true}, {"a*b*c", "abc", true}, {"a*b*c", "a1b2c", true},
		{"a*b*c", "acb", false}, {"*b*b*", "b", false}, {"*b*b*", "bb", true}, {"a_b", "axb", false}, {"a%", "ab", false},
		{"**", "x", true}, {"a?", "ab", false},
	} {
		if got := store.MatchKey(tc.pattern, tc.key); got != tc.want {
			t.Errorf("MatchKey(%q, %q) = %v", tc.pattern, tc.key, got)
		}
	}
}

// A spec that never comes is an error, and not a search without end.
func TestNeverComes(t *testing.T) {
	for _, spec := range []string{"0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "CRON_TZ=Africa/Cairo 0 0 31 4 *", ", * * * *", "* , * * *"} {
		if err := store.ParseCron(spec); err == nil || !strings.Contains(err.Error(), "never comes") {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// A tick is after what it follows, is a time that the spec names, and nothing is between: going on
// from any time before it gives the same tick.
func FuzzNextTick(f *testing.F) {
	f.Add("0 9 * * FRI", "Africa/Cairo", int64(1776945600), uint32(3600))
	f.Add("30 1 * * *", "America/New_York", int64(1730610000), uint32(1800))
	f.Add("*/10 15 2 * * *", "Australia/Lord_Howe", int64(1728140000), uint32(60))
	f.Add("0 0 29 2 *", "Pacific/Apia", int64(1325000000), uint32(86400))
	f.Fuzz(func(t *testing.T, spec, zone string, sec int64, between uint32) {
		loc, err := time.LoadLocation(zone)
		if err != nil || strings.ContainsAny(spec, "@=") {
			return
		}
		spec = "CRON_TZ=" + zone + " " + spec
		from := time.Unix(sec%(1<<37), 0)
		if store.ParseCron(spec) != nil {
			return
		}
		next, err := store.NextTick(spec, from)
		if err != nil || next.IsZero() {
			return
		}
		if !next.After(from) || !next.Equal(next.Truncate(time.Second)) {
			t.Fatalf("%s from %v: %v", spec, from.In(loc), next.In(loc))
		}
		later := from.Add(time.Duration(between) * time.Second)
		if !later.Before(next) {
			later = next.Add(-time.Second)
		}
		if again, _ := store.NextTick(spec, later); !again.Equal(next) {
			t.Fatalf("%s from %v: %v, but from %v: %v", spec, from.In(loc), next.In(loc), later.In(loc), again.In(loc))
		}
	})
}

func FuzzParseCron(f *testing.F) {
	for _, spec := range []string{"* * * * *", "@every 1s", "CRON_TZ=UTC 0 0 1 1 *", "CRON_TZ=", "TZ=", "*/0 * * * *", "1-0 * * * *",
		"@every -1s"} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		if store.ParseCron(spec) != nil {
			return
		}
		from := time.Date(2024, 2, 28, 23, 0, 50, 0, time.UTC)
		if next, err := store.NextTick(spec, from); err != nil || !next.After(from) {
			t.Errorf("%q: %v, %v", spec, next, err)
		}
	})
}
