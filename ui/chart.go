package ui

import (
	"fmt"
	"strings"
	"time"

	g "maragu.dev/gomponents"
)

// A series is one line, or one colour of bars, of a chart: a value for each span of time.
type series struct {
	Name   string
	Class  string // CSS class of its colour and pattern
	Values []float64
}

const (
	chartWide = 600.0
	chartHigh = 120.0
)

// barChart stacks the series of each span; lineChart draws each as a line. The pointer shows the
// exact values of a span; screen readers read the total and the maximum.
func barChart(label string, times []time.Time, all []series, figure func(float64) string) node {
	most, sum := 0.0, 0.0
	for i := range times {
		high := 0.0
		for _, s := range all {
			high += s.Values[i]
		}
		most, sum = max(most, high), sum+high
	}
	title := fmt.Sprintf("%s: %s in all, at most %s", label, figure(sum), figure(most))
	return chart(title, times, all, figure, most, func(b *strings.Builder, x, wide float64, i int) {
		y := chartHigh
		for _, s := range all {
			if s.Values[i] > 0 {
				high := max(s.Values[i]/most*(chartHigh-10), 1)
				y -= high
				fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`,
					s.Class, x, y, max(wide-1, 1), high)
			}
		}
	})
}

func lineChart(label string, times []time.Time, all []series, figure func(float64) string) node {
	most := 0.0
	for _, s := range all {
		for _, v := range s.Values {
			most = max(most, v)
		}
	}
	title := fmt.Sprintf("%s: at most %s", label, figure(most))
	return chart(title, times, all, figure, most, func(b *strings.Builder, x, wide float64, i int) {
		for _, s := range all {
			if i == 0 || most == 0 || s.Values[i] == 0 && s.Values[i-1] == 0 {
				continue
			}
			y := func(v float64) float64 { return chartHigh - v/most*(chartHigh-10) }
			fmt.Fprintf(b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`,
				s.Class, x-wide/2, y(s.Values[i-1]), x+wide/2, y(s.Values[i]))
		}
	})
}

// chart draws the frame of a chart. draw draws the series in one span, at x; figure formats a
// value; most is the largest.
func chart(title string, times []time.Time, all []series, figure func(float64) string, most float64,
	draw func(b *strings.Builder, x, wide float64, i int)) node {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %g %g" preserveAspectRatio="none" role="img" aria-label="%s">`,
		chartWide, chartHigh, escapeHTML(escapeInvisible(title)))
	wide := chartWide / float64(max(len(times), 1))
	for i, t := range times {
		fmt.Fprintf(&b, `<g><rect class="hit" x="%.1f" y="0" width="%.1f" height="%g"/>`, float64(i)*wide, wide, chartHigh)
		draw(&b, float64(i)*wide, wide, i)
		var figures []string
		for _, s := range all {
			figures = append(figures, s.Name+" "+figure(s.Values[i]))
		}
		fmt.Fprintf(&b, `<title>%s: %s</title></g>`,
			t.UTC().Format("2006-01-02 15:04 MST"), escapeHTML(escapeInvisible(strings.Join(figures, ", "))))
	}
	b.WriteString(`</svg>`)
	fmt.Fprintf(&b, `<p class="legend"><span>max. %s</span>`, escapeHTML(figure(most)))
	for _, s := range all {
		fmt.Fprintf(&b, `<span><i class="%s"></i>%s</span>`, s.Class, escapeHTML(escapeInvisible(s.Name)))
	}
	b.WriteString(`</p>`)
	return g.Raw(b.String())
}

// A bar is one row of a waterfall.
type bar struct {
	Label      string
	Link       string // "": none
	Class      string
	Start, End time.Time
	Depth      int
}

// waterfall draws bars on one time axis, from the first start to the last end. No bar is
// narrower than a line, so very short ones stay visible.
func waterfall(bars []bar) node {
	if len(bars) == 0 {
		return nil
	}
	first, last := bars[0].Start, bars[0].End
	for _, x := range bars {
		if x.Start.Before(first) {
			first = x.Start
		}
		if x.End.After(last) {
			last = x.End
		}
	}
	whole := max(last.Sub(first), time.Millisecond)
	var b strings.Builder
	fmt.Fprintf(&b, `<table class="waterfall"><caption class="none">%s in all</caption><tbody>`, formatDuration(whole))
	for _, x := range bars {
		from := float64(x.Start.Sub(first)) / float64(whole) * 1000
		wide := max(float64(x.End.Sub(x.Start))/float64(whole)*1000, 3)
		label := escapeHTML(escapeInvisible(truncate(60, x.Label)))
		if x.Link != "" {
			label = fmt.Sprintf(`<a href="%s">%s</a>`, escapeHTML(escapeInvisible(x.Link)), label)
		}
		fmt.Fprintf(&b, `<tr><th scope="row" class="in%d"><bdi>%s</bdi></th><td>`, min(x.Depth, 4), label)
		fmt.Fprintf(&b, `<svg viewBox="0 0 1000 16" preserveAspectRatio="none" aria-hidden="true">`)
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="2" width="%.1f" height="12"/></svg>`, x.Class, min(from, 997), wide)
		fmt.Fprintf(&b, `</td><td class="figure">%s</td></tr>`, formatDuration(x.End.Sub(x.Start)))
	}
	b.WriteString(`</tbody></table>`)
	return g.Raw(b.String())
}
