package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	g "maragu.dev/gomponents"
)

// A span is one row of a timeline.
type span struct {
	Key         string // names it in the query
	Label, Note string
	Class       string // of a state
	RunID       string // of a child or a task; "": none
	Depth       int
	Start, End  time.Time
	Parts       []part // what fills it; the rest of it is waiting

	failure string              // why it failed
	entry   *stint.JournalEntry // nil: it is no durable call
	part    int                 // of the entry: which try, from 1; 0: all of it
	lost    bool                // the entry ended an attempt, and is not in the journal
	attempt int                 // the number of the attempt that it is; 0: it is none
	last    bool                // it is the last attempt
}

// A part of a span has the class of a state.
type part struct {
	Class      string
	Start, End time.Time
}

// filled returns a span with one part.
func filled(label, class string, start, end time.Time, depth int) span {
	if start.IsZero() || start.After(end) {
		start = end
	}
	return span{Label: label, Class: class, Depth: depth, Start: start, End: end, Parts: []part{{class, start, end}}}
}

const maxSpans = 300

// loadTimeline reads what a timeline is made of, and what the drawer beside it shows.
func loadTimeline(h *handler, ctx context.Context, v *runView) error {
	if err := loadJournal(h, ctx, v); err != nil {
		return err
	}
	if err := loadTree(h, ctx, v); err != nil {
		return err
	}
	v.spans = h.timelineSpans(v)
	return h.loadDrawer(ctx, v)
}

func showTimeline(h *handler, v *runView) node {
	chart := h.drawTimeline(v)
	if chart == nil {
		chart = emptyState("It has not begun.")
	}
	return el("div.split", el("div.stack", el("section.panel", chart), h.journalLinks(v)), h.showDrawer(v))
}

// timelineSpans returns the spans of attempts, tasks, durable calls, tries and children.
func (h *handler) timelineSpans(v *runView) []span {
	now := time.Now()
	end := orElse(v.Finished, now)
	rows := v.attemptSpans(end)
	for i := range rows {
		rows[i].Key = fmt.Sprintf("a%d", i)
		rows[i].last = i == len(rows)-1 && rows[i].attempt > 0
	}
	var calls []callSpans
	if len(v.Tasks) > 0 {
		for _, t := range v.Tasks {
			if !t.Started.IsZero() {
				s := filled(t.Name, t.State.String(), t.Started, orElse(t.Finished, now), 1)
				s.Key, s.RunID, s.Note, s.failure = taskKey(t.Name), t.RunID, t.Error, t.Error
				calls = append(calls, callSpans{at: t.Started, spans: []span{s}})
			}
		}
	} else {
		calls = h.callSpans(v, end)
	}
	slices.SortStableFunc(calls, func(a, b callSpans) int { return a.at.Compare(b.at) })
	rows = mergeSpans(rows, calls)
	return rows[:min(len(rows), maxSpans)]
}

// orElse returns t, or other if t is not set.
func orElse(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}
	return t
}

// attemptSpans returns a span for the wait to start, for each attempt, and for each wait to try again. A run that
// waited started more than once in an attempt, and knows the last time only: its first call is then its begin.
func (v *runView) attemptSpans(end time.Time) (all []span) {
	var began, before time.Time
	first := func() time.Time {
		for _, e := range v.journal {
			if e.Kind == "step" && !strings.Contains(e.Address, "/") && e.Began.After(before) && e.Began.Before(began) {
				return e.Began
			}
		}
		return began
	}
	attempt := func(n int, state string, until time.Time, failure string) {
		from := first()
		switch {
		case !before.IsZero() && from.After(before):
			all = append(all, filled("waits to try again", "waiting", before, from, 0))
		case before.IsZero() && v.Created.Before(from):
			due := v.Created
			if v.Attempt <= 1 && v.Executions <= 1 && v.Scheduled.After(due) && v.Scheduled.Before(from) {
				due = v.Scheduled
			}
			all = append(all, filled("waits to start", "queued", due, from, 0))
		}
		n = max(n, 1)
		s := filled(fmt.Sprintf("attempt %d", n), state, from, until, 0)
		s.attempt, s.Note, s.failure = n, failure, failure
		all = append(all, s)
		began, before = time.Time{}, until
	}
	for _, e := range v.Timeline {
		switch {
		case e.State == stint.StateRunning:
			began = e.At
		case !began.IsZero():
			state := e.State.String()
			if e.Error != "" && e.State != stint.StateCanceled { // another attempt follows
				state = "failed"
			}
			attempt(e.Attempt, state, e.At, e.Error)
		}
	}
	switch {
	case !began.IsZero():
		attempt(v.Attempt, "running", end, "")
	case v.open && !before.IsZero():
		all = append(all, filled("waits to try again", "waiting", before, end, 0))
	case v.State == stint.StateWaiting && !v.Started.IsZero():
		began = v.Started
		attempt(v.Attempt, "waiting", end, "")
	}
	return all
}

// callSpans are the spans of one call of the handler, and of what is within it.
type callSpans struct {
	at    time.Time
	spans []span
}

// callSpans returns the spans of a journal, and of steps that ended attempts and so are in it no more.
func (h *handler) callSpans(v *runView, end time.Time) (all []callSpans) {
	entries := slices.Clone(v.journal)
	slices.SortStableFunc(entries, func(a, b stint.JournalEntry) int { return slices.Compare(places(a.Address), places(b.Address)) })
	byID := map[string]*child{}
	for i := range v.children {
		byID[v.children[i].ID] = &v.children[i]
	}
	for i := range entries {
		e := &entries[i]
		if e.Kind == "version" || e.Kind == "end" || strings.Contains(e.Address, "/on/") {
			continue
		}
		s := h.entrySpans(e, end)
		if e.Kind == "child" {
			s = h.withChildren(s, e, v, byID, end)
		}
		if inner := s[0].Depth > 1; inner && len(all) > 0 {
			last := &all[len(all)-1]
			last.spans = append(last.spans, s...)
			continue
		}
		all = append(all, callSpans{s[0].Start, s})
	}
	for n, t := range v.Timeline {
		for i := range t.Failed {
			s := h.entrySpans(&t.Failed[i], end)
			for j := range s {
				s[j].Key, s[j].lost = fmt.Sprintf("f%d.%d~%d", n, i, s[j].part), true
			}
			all = append(all, callSpans{s[0].Start, s})
		}
	}
	for i := range v.children { // those of no entry on this page
		if c := &v.children[i]; byID[c.ID] != nil && !c.Started.IsZero() {
			s := h.childSpan(c, end, c.depth)
			all = append(all, callSpans{s.Start, []span{s}})
		}
	}
	return all
}

// places returns the numbers of an address, to sort entries as the calls were made.
func places(address string) (all []int) {
	for part := range strings.SplitSeq(address, "/") {
		n, err := strconv.Atoi(part)
		if err != nil { // a compensation comes after all calls
			n = 1 << 30
		}
		all = append(all, n)
	}
	return all
}

// entrySpans returns the span of an entry, and those of its tries.
func (h *handler) entrySpans(e *stint.JournalEntry, end time.Time) []span {
	kind := e.Kind
	depth := 1 + strings.Count(e.Address, "/")
	if strings.HasPrefix(e.Address, "undo/") {
		kind, depth = "compensation", 1
	}
	until := orElse(e.Ended(), end)
	if until.After(end) {
		until = end
	}
	s := filled(strings.TrimSpace(kind+" "+e.Name), entryClass(e), e.Began, until, depth)
	s.Note, s.failure, s.entry, s.Key = e.Error, e.Error, e, "e"+e.Address
	if len(e.Tries) == 0 {
		return []span{s}
	}
	s.Parts, s.Note = nil, fmt.Sprintf("%d tries", e.Attempts)
	all := []span{s}
	for i, t := range e.Tries {
		class := "failed"
		if t.Error == "" {
			class = "succeeded"
		}
		n := max(e.Attempts-len(e.Tries), 0) + i + 1
		try := filled(fmt.Sprintf("try %d", n), class, t.Began, t.Ended, depth+1)
		try.Note, try.failure, try.entry, try.part, try.Key = t.Error, t.Error, e, n, fmt.Sprintf("e%s~%d", e.Address, n)
		all[0].Parts = append(all[0].Parts, try.Parts...)
		all = append(all, try)
	}
	return all
}

// entryClass returns the class of what an entry records: a wait waits, however it ended.
func entryClass(e *stint.JournalEntry) string {
	switch {
	case e.Kind == "sleep" || e.Kind == "event" || e.Kind == "wait" || e.Kind == "any":
		return "waiting"
	case e.Error != "":
		return "failed"
	case !e.Done && !e.Due.IsZero():
		return "waiting"
	case !e.Done:
		return "running"
	}
	return "succeeded"
}

// withChildren adds the spans of the runs that an entry enqueued, and of their own children. The entry's ends with
// the last of them.
func (h *handler) withChildren(all []span, e *stint.JournalEntry, v *runView, byID map[string]*child, end time.Time) []span {
	var ids []string
	if json.Unmarshal(e.Output, &ids) != nil {
		return all
	}
	depth := all[0].Depth
	for _, id := range ids {
		at := slices.IndexFunc(v.children, func(c child) bool { return c.ID == id })
		if at < 0 || byID[id] == nil {
			continue
		}
		for i := at; i < len(v.children) && (i == at || v.children[i].depth > v.children[at].depth); i++ {
			c := &v.children[i]
			delete(byID, c.ID)
			s := h.childSpan(c, end, depth+1+c.depth-v.children[at].depth)
			if s.End.After(all[0].End) {
				all[0].End, all[0].Parts = s.End, nil
			}
			all = append(all, s)
		}
	}
	return all
}

func (h *handler) childSpan(c *child, end time.Time, depth int) span {
	start := orElse(c.Started, c.Created)
	s := filled("child "+c.Task, c.State.String(), start, orElse(c.Finished, end), depth)
	s.RunID, s.Note, s.failure, s.Key = c.ID, c.Error, c.Error, "c"+c.ID
	return s
}

// mergeSpans puts calls after the attempt in which they began.
func mergeSpans(attempts []span, calls []callSpans) (all []span) {
	for i, a := range attempts {
		all = append(all, a)
		next := i + 1
		for next < len(attempts) && !strings.HasPrefix(attempts[next].Label, "attempt") {
			next++
		}
		for len(calls) > 0 && strings.HasPrefix(a.Label, "attempt") && (next == len(attempts) || calls[0].at.Before(attempts[next].Start)) {
			all = append(all, calls[0].spans...)
			calls = calls[1:]
		}
	}
	for _, c := range calls {
		all = append(all, c.spans...)
	}
	return all
}

// beginOf returns the first start of spans.
func beginOf(spans []span) time.Time {
	return slices.MinFunc(spans, func(a, b span) int { return a.Start.Compare(b.Start) }).Start
}

// drawTimeline draws spans on one time axis, from the first start to the last end, or the part that the query asks
// for. No part is narrower than a line, so very short ones stay visible.
func (h *handler) drawTimeline(v *runView) node {
	spans := v.spans
	if len(spans) == 0 {
		return nil
	}
	begin := beginOf(spans)
	first, last := v.zoomed(begin, slices.MaxFunc(spans, func(a, b span) int { return a.End.Compare(b.End) }).End)
	whole := max(last.Sub(first), time.Millisecond)
	x := func(t time.Time) float64 { return max(0, min(float64(t.Sub(first))/float64(whole)*1000, 1000)) }
	all := func(s span) bool { return !s.End.Before(first) && !s.Start.After(last) }
	zoom := v.query.Get("zoom")
	head := el("thead", el("tr", el("th", when(zoom != "", h.link(v.at(v.tab.name, "span", v.query.Get("span")), attr("class", "btn sm"),
		attr("data-soft"), "Show all"))), el("td", timeAxis(first.Sub(begin), whole)), el("td.figure", formatDuration(whole))))
	var rows []any
	for i := range spans {
		if s := &spans[i]; all(*s) {
			chosen := v.drawer.span != nil && v.drawer.Key == s.Key
			rows = append(rows, el("tr", when(chosen, attr("class", "on")),
				el(fmt.Sprintf("th.in%d", min(s.Depth, 4)), attr("scope", "row"),
					h.link(v.spanPath(s), attr("data-soft"), when(chosen, attr("aria-current", "true")), el("bdi", truncate(60, s.Label))),
					when(s.Note != "", " ", el("bdi.note", truncate(80, s.Note)))),
				el("td", drawSpan(s, x)), el("td.figure", formatDuration(s.End.Sub(s.Start)))))
		}
	}
	return el("table.waterfall", attr("data-from", fmt.Sprint(first.Sub(begin).Milliseconds())),
		attr("data-ms", fmt.Sprint(whole.Milliseconds())), head, el("tbody", rows...))
}

func drawSpan(s *span, x func(time.Time) float64) node {
	var b strings.Builder
	b.WriteString(`<svg viewBox="0 0 1000 16" preserveAspectRatio="none" aria-hidden="true">`)
	if len(s.Parts) != 1 || s.Parts[0].Class == "waiting" { // waiting is hollow, also without colours
		wide := max(x(s.End)-x(s.Start), 3)
		fmt.Fprintf(&b, `<rect class="wait" x="%.1f" y="3" width="%.1f" height="10"/>`, min(x(s.Start), 997), wide)
	}
	for _, p := range s.Parts {
		if p.Class != "waiting" {
			from, wide := min(x(p.Start), 997), max(x(p.End)-x(p.Start), 3)
			fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="2" width="%.1f" height="12"/>`, p.Class, from, wide)
		}
	}
	b.WriteString(`</svg>`)
	return g.Raw(b.String())
}

// axisSteps are the distances of ticks that people read easily.
var axisSteps = []time.Duration{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000,
	60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000}

// timeAxis draws a time axis: from is the time before it since the run's begin.
func timeAxis(from, whole time.Duration) node {
	step := axisSteps[len(axisSteps)-1] * time.Millisecond
	for _, s := range axisSteps {
		if whole/(s*time.Millisecond) <= 5 {
			step = s * time.Millisecond
			break
		}
	}
	for whole/step > 5 {
		step *= 2
	}
	var b strings.Builder
	b.WriteString(`<svg class="axis" aria-hidden="true">`)
	for at := (from + step - 1) / step * step; at <= from+whole; at += step {
		place := float64(at-from) / float64(whole) * 100
		anchor := "middle"
		if place < 6 {
			anchor = "start"
		} else if place > 94 {
			anchor = "end"
		}
		fmt.Fprintf(&b, `<line x1="%.2f%%" x2="%.2[1]f%%" y1="12" y2="16"/><text x="%.2[1]f%%" y="10" text-anchor="%[2]s">%s</text>`,
			place, anchor, formatDuration(at))
	}
	b.WriteString(`</svg>`)
	return g.Raw(b.String())
}
