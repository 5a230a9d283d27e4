package ui

import (
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint"
)

func TestRangeOf(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)
	for query, want := range map[string]timeRange{
		"":                           {Label: "1 hour", Since: now.Add(-time.Hour), Until: now},
		"until=2026-03-01T11:00:00Z": {Since: now.Truncate(time.Hour).Add(-2 * time.Hour), Until: now.Truncate(time.Hour).Add(-time.Hour)},
		"since=2026-03-01T10:00:00Z&until=2026-03-01T10:20:00Z": {
			Since: now.Truncate(time.Hour).Add(-2 * time.Hour), Until: now.Truncate(time.Hour).Add(-100 * time.Minute)},
		"since=2026-03-01T12:30:00Z": {Since: now.Add(-time.Minute), Until: now}, // in the future
		"since=2020-01-01":           {Since: now.Add(-30 * 24 * time.Hour), Until: now},
	} {
		q, _ := url.ParseQuery(query)
		got, err := rangeOf(q, now)
		if err != nil || got.Label != want.Label || !got.Since.Equal(want.Since) || !got.Until.Equal(want.Until) {
			t.Errorf("%s: %s %v to %v, %v; want %s %v to %v", query, got.Label, got.Since, got.Until, err, want.Label, want.Since, want.Until)
		}
	}
	for _, n := range namedRanges {
		got, err := rangeOf(url.Values{"since": {shortDuration(n.length)}}, time.Now())
		if err != nil || got.Label != n.label || got.length().Round(time.Second) != n.length {
			t.Errorf("since=%s: %q %v, %v, want %q", shortDuration(n.length), got.Label, got.length(), err, n.label)
		}
	}
	if _, err := rangeOf(url.Values{"since": {"yesterday"}}, now); err == nil {
		t.Error("since=yesterday is accepted")
	}
}

// A chart has at most 90 points, and no more than there are statistics for.
func TestStepOfRange(t *testing.T) {
	now := time.Now()
	for length, want := range map[time.Duration]time.Duration{
		time.Minute: time.Minute, time.Hour: time.Minute, 6 * time.Hour: 5 * time.Minute, 24 * time.Hour: 20 * time.Minute,
		25 * time.Hour: time.Hour, 7 * 24 * time.Hour: 2 * time.Hour, 30 * 24 * time.Hour: 8 * time.Hour,
	} {
		r := timeRange{Since: now.Add(-length), Until: now}
		if got := r.step(); got != want || int(length/got) > 90 {
			t.Errorf("%v: a step of %v, want %v", length, got, want)
		}
	}
}

func TestGrid(t *testing.T) {
	begin := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)
	g := gridOf(begin, begin.Add(3*time.Minute), time.Minute)
	if g.n != 4 || !g.begin.Equal(begin.Truncate(time.Minute)) {
		t.Fatalf("%+v", g)
	}
	spans := []stint.Stats{{At: g.begin.Add(-time.Minute)}, {At: g.begin}, {At: g.begin.Add(3 * time.Minute)}, {At: g.begin.Add(4 * time.Minute)}}
	var places []int
	for _, s := range spans {
		places = append(places, g.index(s.At))
	}
	if !slices.Equal(places, []int{-1, 0, 3, -1}) {
		t.Errorf("places %v", places)
	}
	if rest := g.from(1); rest.n != 3 || rest.index(g.begin) != -1 || rest.index(g.begin.Add(time.Minute)) != 0 {
		t.Errorf("%+v", rest)
	}
}
