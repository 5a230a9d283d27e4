package ui

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	g "maragu.dev/gomponents"
)

// A series is one line, or one colour of bars, of a chart: a value for each span of its grid.
type series struct {
	Name   string
	Class  string // CSS class of its colour
	Values []float64
}

// A chart is figures over time, with axes: bars on top of each other, or lines.
type chart struct {
	title, unit string
	grid
	all    []series
	before []float64 // the same in the time before, drawn behind; nil: not known
	low    bool      // 64 pixels high, and alone: it begins where its data do
	lines  bool
	gaps   bool // where a line is 0 there is nothing
	scale  func(most float64) scale
}

// trim makes the chart begin where its data do, but leaves at least a few spans.
func (c *chart) trim() {
	first := c.n
	for _, s := range c.all {
		if i := slices.IndexFunc(s.Values, func(v float64) bool { return v > 0 }); i >= 0 {
			first = min(first, i)
		}
	}
	c.grid = c.grid.fromData(first)
	for i, s := range c.all {
		c.all[i].Values = s.Values[len(s.Values)-c.n:]
	}
}

// A scale is the vertical axis of a chart: what its top stands for, how many parts it has, and how its
// values are written.
type scale struct {
	top   float64
	parts int
	text  func(v float64, unit bool) string
}

const chartHigh = 120 // pixels, unless a chart is low

// countScale is the scale for numbers of things.
func countScale(most float64) scale {
	top, parts := niceTop(max(most, 4), 1)
	return scale{top, parts, func(v float64, _ bool) string { return formatCount(int64(math.Round(v))) }}
}

// durationScale is the scale for durations, which are in nanoseconds.
func durationScale(most float64) scale {
	unit, name := float64(time.Millisecond), "ms"
	for _, u := range []struct {
		size time.Duration
		name string
	}{{time.Second, "s"}, {time.Minute, "min"}, {time.Hour, "h"}} {
		if most >= float64(u.size) {
			unit, name = float64(u.size), u.name
		}
	}
	if most == 0 {
		most = unit
	}
	top, parts := niceTop(most/unit, 0)
	return scale{top * unit, parts, func(v float64, withUnit bool) string {
		text := strconv.FormatFloat(v/unit, 'g', 3, 64)
		if withUnit {
			text += " " + name
		}
		return text
	}}
}

// niceTop returns the top of an axis that holds most, in 2 to 5 parts whose size is 1, 2, 2.5 or 5 times a
// power of ten, and at least least.
func niceTop(most, least float64) (top float64, parts int) {
	power := math.Pow(10, math.Floor(math.Log10(most/5)))
	for _, m := range []float64{1, 2, 2.5, 5, 10, 20} {
		part := max(m*power, least)
		if m == 2.5 && least == 1 && part != math.Trunc(part) {
			continue
		}
		if n := int(math.Ceil(most/part - 1e-9)); n <= 5 {
			return part * float64(max(n, 2)), max(n, 2)
		}
	}
	return most, 4
}

// show returns the chart as a figure. Its shapes lie in an inner picture that stretches; its texts do not,
// so that it fits any width without a script. app.js adds a cursor that reads all charts of the page, and
// lets a time be chosen by dragging.
func (c *chart) show() node {
	if c.low {
		c.trim()
	}
	most, sum := 0.0, 0.0
	for i := range c.n {
		high := 0.0
		for _, s := range c.all {
			if c.lines {
				high = max(high, s.Values[i])
			} else {
				high += s.Values[i]
			}
		}
		most, sum = max(most, high), sum+high
	}
	for _, v := range c.before {
		most = max(most, v)
	}
	sc := c.scale(most)
	high, class := c.high()
	label := fmt.Sprintf("%s, %s: at most %s", c.title, c.unit, sc.text(most, true))
	if !c.lines {
		label += fmt.Sprintf(", %s in all", sc.text(sum, true))
	}
	var plot strings.Builder
	fmt.Fprintf(&plot, `<svg class="plot" role="img" aria-label="%s">`, escapeHTML(label))
	for i := range sc.parts {
		fmt.Fprintf(&plot, `<line class="grid" x1="0" x2="100%%" y1="%[1]d" y2="%[1]d"/>`, i*high/sc.parts)
	}
	fmt.Fprintf(&plot, `<line class="base" x1="0" x2="100%%" y1="%[1]d" y2="%[1]d"/>`, high)
	fmt.Fprintf(&plot, `<svg viewBox="0 0 %d 100" width="100%%" height="%d" preserveAspectRatio="none">`, max(c.n, 1), high)
	c.shapes(&plot, sc.top)
	plot.WriteString(`</svg>`)
	c.times(&plot)
	fmt.Fprintf(&plot, `<rect class="brush" y="0" width="0" height="%[1]d"/>`+
		`<line class="cursor" x1="0" x2="0" y1="-4" y2="%[1]d"/></svg>`, high)
	ticks := make([]any, 0, sc.parts+1)
	for i := sc.parts; i >= 0; i-- {
		ticks = append(ticks, el("span", sc.text(sc.top*float64(i)/float64(sc.parts), i == sc.parts)))
	}
	return el("figure.chart."+class, el("figcaption", h2(c.title), el("span.unit", c.unit), c.legend()),
		el("div.frame", attr("data-chart", c.data(sc)), el("div.ys", append(ticks, attr("aria-hidden", "true"))...), g.Raw(plot.String()),
			el("div.tip", attr("hidden"))))
}

// high returns how many pixels the chart is high, and the class that says so.
func (c *chart) high() (pixels int, class string) {
	if c.low {
		return 64, "h64"
	}
	return chartHigh, "h120"
}

// shapes draws the series into a box that is as wide as there are spans, and 100 high.
func (c *chart) shapes(b *strings.Builder, top float64) {
	below := make([]float64, c.n)
	for _, s := range c.all {
		if c.lines {
			fmt.Fprintf(b, `<path class="l %s" d="%s"/>`, s.Class, linePath(s.Values, top, c.gaps))
			continue
		}
		fmt.Fprintf(b, `<path class="%s" d="`, s.Class)
		for i, v := range s.Values {
			if v > 0 {
				y0, high := 100-below[i]/top*100, max(v/top*100, .8)
				fmt.Fprintf(b, "M%.2f %.1fv%.1fh.84v%.1fz", float64(i)+.08, y0, -high, high)
				below[i] += v
			}
		}
		b.WriteString(`"/>`)
	}
	if len(c.before) == c.n {
		fmt.Fprintf(b, `<path class="l l-prev" d="%s"/>`, linePath(c.before, top, c.gaps))
	}
}

// linePath returns a line through the values of the spans. Where gaps is true it leaves out those that are 0:
// nothing was measured in them.
func linePath(values []float64, top float64, gaps bool) string {
	var b strings.Builder
	command := byte('M')
	for i, v := range values {
		if gaps && v == 0 {
			command = 'M'
			continue
		}
		fmt.Fprintf(&b, "%c%.2f %.1f", command, float64(i)+.5, 100-v/top*100)
		if command == 'M' {
			b.WriteString("h.01") // so that one alone is a dot
		}
		command = 'L'
	}
	return b.String()
}

// tickSpaces are the times between two ticks of the horizontal axis.
var tickSpaces = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour, 5 * 24 * time.Hour}

// ticks returns round instants of the horizontal axis, at most 9.
func (g grid) ticks() (all []time.Time) {
	span := time.Duration(g.n) * g.step
	space := tickSpaces[len(tickSpaces)-1]
	for i := len(tickSpaces) - 1; i >= 0 && span <= 8*tickSpaces[i]; i-- {
		space = tickSpaces[i]
	}
	at := g.begin.Truncate(space)
	if at.Before(g.begin) {
		at = at.Add(space)
	}
	for end := g.begin.Add(span); !at.After(end); at = at.Add(space) {
		all = append(all, at)
	}
	return all
}

// times draws the ticks of the horizontal axis, in UTC: app.js writes them in the viewer's zone.
func (c *chart) times(b *strings.Builder) {
	span := time.Duration(c.n) * c.step
	format := "15:04"
	if span > 48*time.Hour {
		format = "Jan 2"
	}
	high, _ := c.high()
	for i, at := range c.ticks() {
		x, anchor, class := 100*float64(at.Sub(c.begin))/float64(max(span, 1)), "middle", ""
		if x < 2 {
			anchor = "start"
		} else if x > 98 {
			anchor = "end"
		}
		if i%2 == 1 {
			class = ` class="xo"` // left out where there is little room
		}
		fmt.Fprintf(b, `<line class="tick" x1="%[1]g%%" x2="%[1]g%%" y1="%[2]d" y2="%[3]d"/>`, x, high, high+4)
		fmt.Fprintf(b, `<text%s x="%g%%" y="%d" text-anchor="%s" data-at="%d">%s</text>`, class, x, high+17, anchor,
			at.Unix(), at.UTC().Format(format))
	}
}

// legend names the series.
func (c *chart) legend() node {
	key := func(class, shape, name string) node {
		return el("span.k"+class, g.Raw(`<svg viewBox="0 0 10 10" aria-hidden="true">`+shape+`</svg>`), name)
	}
	var keys []any
	for _, s := range c.all {
		shape := `<rect class="` + s.Class + `" width="10" height="10" rx="2"/>`
		if c.lines {
			shape = `<path class="l ` + s.Class + `" d="M0 5h10"/>`
		}
		keys = append(keys, key("", shape, s.Name))
	}
	if c.before != nil {
		keys = append(keys, key(".xk", `<path class="l l-prev" d="M0 5h10"/>`, "the time before"))
	}
	return el("span.legend", keys...)
}

// data returns what app.js needs to read the chart: where it begins, how long a span is, and the series'
// values as texts.
func (c *chart) data(sc scale) string {
	type named struct {
		Name   string   `json:"n"`
		Values []string `json:"v"`
	}
	d := struct {
		Begin  int64   `json:"t"`
		Step   float64 `json:"step"` // seconds
		Series []named `json:"s"`
	}{c.begin.Unix(), c.step.Seconds(), nil}
	add := func(name string, values []float64) {
		texts := make([]string, len(values))
		for i, v := range values {
			texts[i] = sc.text(v, true)
		}
		d.Series = append(d.Series, named{name, texts})
	}
	for _, s := range c.all {
		add(s.Name, s.Values)
	}
	if len(c.before) == c.n {
		add("the time before", c.before)
	}
	b, _ := json.Marshal(d) // never fails
	return string(b)
}

// sparkline draws values as small bars.
func sparkline(class string, values []float64) node {
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="spark" viewBox="0 0 %d 20" preserveAspectRatio="none" aria-hidden="true">`, max(len(values), 1))
	fmt.Fprintf(&b, `<path class="%s" d="`, class)
	for i, v := range values {
		if v > 0 {
			high := max(v/most*19, 1)
			fmt.Fprintf(&b, "M%.2f 20v%.1fh.76v%.1fz", float64(i)+.12, -high, high)
		}
	}
	fmt.Fprintf(&b, `"/><path class="base" d="M0 20H%d" vector-effect="non-scaling-stroke"/></svg>`, len(values))
	return g.Raw(b.String())
}
