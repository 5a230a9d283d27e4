package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The days on which clocks change, in three zones: a time that does not exist is passed
// over, and one that exists twice is had as robfig/cron has it.
func TestDaylightSaving(t *testing.T) {
	for _, tc := range []struct {
		spec, from string
		want       []string
	}{
		// New York goes from 02:00 to 03:00 on 10 March 2024, and back on 3 November.
		{"CRON_TZ=America/New_York 30 2 * * *", "2024-03-09T12:00:00-05:00", []string{"2024-03-11T02:30:00-04:00"}},
		{"CRON_TZ=America/New_York 30 * * * *", "2024-03-10T01:00:00-05:00", []string{"2024-03-10T01:30:00-05:00", "2024-03-10T03:30:00-04:00"}},
		{"CRON_TZ=America/New_York 0 3 * * *", "2024-03-09T12:00:00-05:00", []string{"2024-03-10T03:00:00-04:00"}},
		{"CRON_TZ=America/New_York 0 2 * * *", "2024-11-02T12:00:00-04:00", []string{"2024-11-03T02:00:00-05:00", "2024-11-04T02:00:00-05:00"}},
		{"CRON_TZ=America/New_York @hourly", "2024-11-03T00:30:00-04:00", []string{"2024-11-03T01:00:00-04:00", "2024-11-03T01:00:00-05:00", "2024-11-03T02:00:00-05:00"}},
		{"CRON_TZ=America/New_York @daily", "2024-11-02T12:00:00-04:00", []string{"2024-11-03T00:00:00-04:00", "2024-11-04T00:00:00-05:00"}},
		// Oslo goes from 02:00 to 03:00 on 31 March 2024, and back on 27 October.
		{"CRON_TZ=Europe/Oslo 15 2 * * *", "2024-03-30T12:00:00+01:00", []string{"2024-04-01T02:15:00+02:00"}},
		{"CRON_TZ=Europe/Oslo */30 * * * *", "2024-03-31T01:30:00+01:00", []string{"2024-03-31T03:00:00+02:00", "2024-03-31T03:30:00+02:00"}},
		{"CRON_TZ=Europe/Oslo 0 * * * *", "2024-10-27T01:30:00+02:00", []string{"2024-10-27T02:00:00+02:00", "2024-10-27T02:00:00+01:00", "2024-10-27T03:00:00+01:00"}},
		{"CRON_TZ=Europe/Oslo 0 9 * * *", "2024-10-26T12:00:00+02:00", []string{"2024-10-27T09:00:00+01:00"}},
		// Lord Howe Island changes by half an hour: from 02:00 to 02:30 on 6 October 2024.
		{"CRON_TZ=Australia/Lord_Howe 15 * * * *", "2024-10-06T01:00:00+10:30", []string{"2024-10-06T01:15:00+10:30", "2024-10-06T03:15:00+11:00"}},
		{"CRON_TZ=Australia/Lord_Howe 45 2 * * *", "2024-10-05T12:00:00+10:30", []string{"2024-10-06T02:45:00+11:00"}},
		{"CRON_TZ=Australia/Lord_Howe @every 1h", "2024-10-06T01:45:00+10:30", []string{"2024-10-06T03:15:00+11:00"}},
	} {
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
			Spec:    rapid.SampledFrom([]string{"* * * * *", "*/7 * * * *", "0 */5 * * *", "@hourly", "@every 90s", "CRON_TZ=Europe/Oslo 30 2 * * *", "*/20 * * * * *"}).Draw(t, "spec"),
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
		{"a*b*c", "acb", false}, {"*b*b*", "b", false}, {"*b*b*", "bb", true}, {"a_b", "axb", false}, {"a%", "ab", false}, {"**", "x", true}, {"a?", "ab", false},
	} {
		if got := store.MatchKey(tc.pattern, tc.key); got != tc.want {
			t.Errorf("MatchKey(%q, %q) = %v", tc.pattern, tc.key, got)
		}
	}
}

func FuzzParseCron(f *testing.F) {
	for _, spec := range []string{"* * * * *", "@every 1s", "CRON_TZ=UTC 0 0 1 1 *", "CRON_TZ=", "TZ=", "*/0 * * * *", "1-0 * * * *", "@every -1s"} {
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
