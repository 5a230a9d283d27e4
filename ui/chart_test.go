package ui

import (
	"strings"
	"testing"
	"time"
)

func TestScales(t *testing.T) {
	axis := func(s scale) string {
		var texts []string
		for i := s.parts; i >= 0; i-- {
			texts = append(texts, s.text(s.top*float64(i)/float64(s.parts), i == s.parts))
		}
		return strings.Join(texts, " ")
	}
	for most, want := range map[float64]string{
		0: "4 3 2 1 0", 4: "4 3 2 1 0", 5: "5 4 3 2 1 0", 7: "8 6 4 2 0", 146: "150 100 50 0", 999: "1,000 800 600 400 200 0",
		12_345: "12,500 10,000 7,500 5,000 2,500 0",
	} {
		if got := axis(countScale(most)); got != want {
			t.Errorf("up to %v: %s, want %s", most, got, want)
		}
	}
	for most, want := range map[time.Duration]string{
		0: "1 ms 0.8 0.6 0.4 0.2 0", 37 * time.Millisecond: "40 ms 30 20 10 0", 5400 * time.Millisecond: "6 s 4 2 0",
		90 * time.Second: "1.5 min 1 0.5 0", 26 * time.Hour: "30 h 20 10 0",
	} {
		if got := axis(durationScale(float64(most))); got != want {
			t.Errorf("up to %v: %s, want %s", most, got, want)
		}
	}
}

// Lines of durations have gaps where nothing was measured; a point alone is a dot.
func TestLinePath(t *testing.T) {
	for _, tt := range []struct {
		gaps bool
		want string
	}{{false, "M0.50 100.0h.01L1.50 50.0L2.50 100.0L3.50 0.0"}, {true, "M1.50 50.0h.01M3.50 0.0h.01"}} {
		if got := linePath([]float64{0, 5, 0, 10}, 10, tt.gaps); got != tt.want {
			t.Errorf("gaps %v: %s, want %s", tt.gaps, got, tt.want)
		}
	}
}

// A chart that stands alone begins where its data do, but with twelve spans at least.
func TestLowChartBeginsWithItsData(t *testing.T) {
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for at, want := range map[int]int{59: 48, 30: 30, 0: 0, -1: 48} {
		values := make([]float64, 60)
		if at >= 0 {
			values[at] = 3
		}
		c := chart{grid: grid{begin, time.Minute, 60}, low: true, scale: countScale, all: []series{{"a", "", make([]float64, 60)}, {"b", "", values}}}
		c.show()
		if got := int(c.begin.Sub(begin).Minutes()); got != want || c.n != 60-want || len(c.all[1].Values) != c.n {
			t.Errorf("with data in span %d it begins with span %d and has %d, want %d", at, got, c.n, want)
		}
	}
}

// The ticks of the horizontal axis are at round times, 4 to 8 of them where there is room.
func TestTicks(t *testing.T) {
	begin := time.Date(2026, 3, 1, 11, 47, 0, 0, time.UTC)
	for length, want := range map[time.Duration]string{
		12 * time.Minute:    "11:48 11:50 11:52 11:54 11:56 11:58",
		time.Hour:           "11:50 12:00 12:10 12:20 12:30 12:40",
		24 * time.Hour:      "12:00 16:00 20:00 00:00 04:00 08:00",
		7 * 24 * time.Hour:  "00:00 00:00 00:00 00:00 00:00 00:00 00:00",
		30 * 24 * time.Hour: "00:00 00:00 00:00 00:00 00:00 00:00",
	} {
		r := timeRange{Since: begin, Until: begin.Add(length)}
		step := time.Minute
		for length > 90*step {
			step *= 5
		}
		g := gridOf(r.Since, r.Until, step)
		var texts []string
		for _, at := range g.ticks() {
			texts = append(texts, at.Format("15:04"))
		}
		if got := strings.Join(texts, " "); got != want {
			t.Errorf("%v: %s, want %s", length, got, want)
		}
	}
}
