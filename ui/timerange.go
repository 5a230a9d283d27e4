package ui

import (
	"cmp"
	"net/url"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// A timeRange is the time that a page's figures, charts and lists cover: one for all pages, in the URL as
// since and until, the same as in the filter of runs.
type timeRange struct {
	Label        string // of a range that ends now: "1 hour"; "": one from, to
	Since, Until time.Time
	query        url.Values // since and until, as in the URL; empty: none was chosen
}

// namedRanges end now. The first is what figures and charts cover unless another is chosen.
var namedRanges = []struct {
	label  string
	length time.Duration
}{
	{"1 hour", time.Hour}, {"15 minutes", 15 * time.Minute}, {"6 hours", 6 * time.Hour}, {"24 hours", 24 * time.Hour},
	{"7 days", 7 * 24 * time.Hour}, {"30 days", 30 * 24 * time.Hour},
}

// rangeOf reads the range that was chosen, if one was.
func rangeOf(q url.Values, now time.Time) (r timeRange, err error) {
	r = timeRange{Label: namedRanges[0].label, Since: now.Add(-namedRanges[0].length), Until: now, query: url.Values{}}
	for _, name := range []string{"since", "until"} {
		if v := q.Get(name); v != "" {
			r.query.Set(name, v)
		}
	}
	since, err := agoParam(q, "since")
	until, err2 := agoParam(q, "until")
	if err = cmp.Or(err, err2); err != nil {
		return r, err
	}
	if !until.IsZero() {
		r.Until, r.Label, r.Since = until, "", until.Add(-namedRanges[0].length)
	}
	if !since.IsZero() {
		r.Since, r.Label = since, ""
		for _, n := range namedRanges {
			if d, err := parseDuration(q.Get("since")); err == nil && d == n.length && until.IsZero() {
				r.Label = n.label
			}
		}
	}
	if oldest := now.Add(-namedRanges[len(namedRanges)-1].length); r.Since.Before(oldest) {
		r.Since = oldest // statistics are kept as long
	}
	if r.Until.Sub(r.Since) < time.Minute {
		r.Since = r.Until.Add(-time.Minute)
	}
	return r, nil
}

// length returns how long the range is.
func (r timeRange) length() time.Duration { return r.Until.Sub(r.Since) }

// words returns the range for a sentence: "in the last 1 hour".
func (r timeRange) words() string {
	if r.Label == "" {
		return "in the chosen time"
	}
	return "in the last " + strings.TrimPrefix(r.Label, "1 ")
}

// pairs returns the range as the names and values of a filter of runs.
func (r timeRange) pairs() (pairs []string) {
	if len(r.query) == 0 {
		return []string{"since", r.length().Round(time.Minute).String()}
	}
	for _, name := range []string{"since", "until"} {
		if v := r.query.Get(name); v != "" {
			pairs = append(pairs, name, v)
		}
	}
	return pairs
}

// resolution returns the span of the finest statistics that are kept from an instant on: minutes for a
// day, hours for a month.
func resolution(since time.Time) time.Duration {
	if time.Since(since) > 24*time.Hour+time.Minute {
		return time.Hour
	}
	return time.Minute
}

// step returns the time from one point of a chart to the next: so long that there are at most 90.
func (r timeRange) step() time.Duration {
	finest := resolution(r.Since)
	for _, s := range []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour} {
		if s >= finest && r.length() <= 90*s {
			return s
		}
	}
	return 24 * time.Hour
}

// A grid is the spans of a chart, from its begin on.
type grid struct {
	begin time.Time
	step  time.Duration
	n     int
}

// gridOf returns the spans of a range.
func gridOf(since, until time.Time, step time.Duration) grid {
	begin := since.Truncate(step)
	return grid{begin, step, int((until.Sub(begin) + step - 1) / step)}
}

// index returns the span that an instant is in, or -1.
func (g grid) index(at time.Time) int {
	if i := int(at.Sub(g.begin) / g.step); !at.Before(g.begin) && i < g.n {
		return i
	}
	return -1
}

// sums adds up statistics by the spans of a grid.
func (g grid) sums(spans []stint.Stats) []stint.Stats {
	all := make([]stint.Stats, g.n)
	for i := range spans {
		if at := g.index(spans[i].At); at >= 0 {
			all[at].Add(&spans[i])
		}
	}
	return all
}

// from returns the grid without its first spans.
func (g grid) from(first int) grid {
	return grid{g.begin.Add(time.Duration(first) * g.step), g.step, g.n - first}
}

// fromData returns the grid from the span where the data begin, but with at least a few spans.
func (g grid) fromData(first int) grid { return g.from(min(first, max(g.n-12, 0))) }
