package ui

import (
	"cmp"
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
	Label, Note string
	Link        string // "": none
	Depth       int
	Start, End  time.Time
	Parts       []part // what fills it; the rest of it is waiting
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
	return span{Label: label, Depth: depth, Start: start, End: end, Parts: []part{{class, start, end}}}
}

const maxSpans = 300

// showTimeline draws attempts, tasks, durable calls, tries and children on one time axis.
func (h *handler) showTimeline(v *runView) node {
	now := time.Now()
	end := orElse(v.Finished, now)
	rows := v.attemptSpans(end)
	var calls []callSpans
	if len(v.Tasks) > 0 {
		for _, t := range v.Tasks {
			if !t.Started.IsZero() {
				s := filled(t.Name, t.State.String(), t.Started, orElse(t.Finished, now), 1)
				s.Link = h.base + "/runs/" + t.RunID
				calls = append(calls, callSpans{at: t.Started, spans: []span{s}})
			}
		}
	} else {
		calls = h.callSpans(v, end)
	}
	slices.SortStableFunc(calls, func(a, b callSpans) int { return a.at.Compare(b.at) })
	rows = mergeSpans(rows, calls)
	return drawTimeline(rows[:min(len(rows), maxSpans)])
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
		s := filled(fmt.Sprintf("attempt %d", max(n, 1)), state, from, until, 0)
		s.Note = failure
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
	for _, t := range v.Timeline {
		for i := range t.Failed {
			s := h.entrySpans(&t.Failed[i], end)
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
	s.Note = e.Error
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
		try := filled(fmt.Sprintf("try %d", max(e.Attempts-len(e.Tries), 0)+i+1), class, t.Began, t.Ended, depth+1)
		try.Note = t.Error
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
	s.Link, s.Note = h.base+"/runs/"+c.ID, c.Error
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

// drawTimeline draws spans on one time axis, from the first start to the last end. No part is narrower than a line,
// so very short ones stay visible.
func drawTimeline(spans []span) node {
	if len(spans) == 0 {
		return nil
	}
	first := slices.MinFunc(spans, func(a, b span) int { return a.Start.Compare(b.Start) }).Start
	last := slices.MaxFunc(spans, func(a, b span) int { return cmp.Compare(a.End.UnixNano(), b.End.UnixNano()) }).End
	whole := max(last.Sub(first), time.Millisecond)
	x := func(t time.Time) float64 { return float64(t.Sub(first)) / float64(whole) * 1000 }
	var b strings.Builder
	fmt.Fprintf(&b, `<table class="waterfall"><caption class="none">%s in all</caption><tbody>`, formatDuration(whole))
	for _, s := range spans {
		label := escapeHTML(escapeInvisible(truncate(60, s.Label)))
		if s.Link != "" {
			label = fmt.Sprintf(`<a href="%s">%s</a>`, escapeHTML(escapeInvisible(s.Link)), label)
		}
		note := ""
		if s.Note != "" {
			note = fmt.Sprintf(` <bdi class="note">%s</bdi>`, escapeHTML(escapeInvisible(truncate(80, s.Note))))
		}
		fmt.Fprintf(&b, `<tr><th scope="row" class="in%d"><bdi>%s</bdi>%s</th><td>`, min(s.Depth, 4), label, note)
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
		fmt.Fprintf(&b, `</svg></td><td class="figure">%s</td></tr>`, formatDuration(s.End.Sub(s.Start)))
	}
	b.WriteString(`</tbody></table>`)
	return g.Raw(b.String())
}
