package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/jsonx"
)

// loadCompare finds the run to compare with: the last of the task that succeeded before this one, or else after it.
func loadCompare(h *handler, ctx context.Context, v *runView) error {
	f := stint.RunFilter{Tasks: []string{v.Task}, States: []stint.State{stint.StateSucceeded}, Until: v.Created, Limit: 1,
		Scan: scanLimit}
	for range 2 {
		page, err := h.c.ListRuns(ctx, f)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(page.Runs, func(r stint.RunInfo) bool { return r.ID != v.ID })
		if i < 0 {
			f.Until, f.Limit = time.Time{}, 2 // the newest may be this one
			continue
		}
		info, err := h.c.GetRun(ctx, page.Runs[i].ID)
		if errors.Is(err, stint.ErrNotFound) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		h.redactRun(info)
		v.other = &runView{RunInfo: info, query: v.query, open: info.Finished.IsZero()}
		break
	}
	if v.other == nil {
		return nil
	}
	for _, r := range []*runView{v, v.other} {
		if err := h.loadCalls(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// loadCalls reads the first part of a run's journal, for a comparison.
func (h *handler) loadCalls(ctx context.Context, v *runView) error {
	page, err := h.c.JournalPage(ctx, v.ID, stint.JournalFilter{Limit: maxRows})
	if errors.Is(err, stint.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	h.redactEntries(v.Task, page.Entries)
	v.journal = page.Entries
	return nil
}

// A difference is a row of a comparison.
type difference struct {
	what       string
	here, then string           // "": it has none
	took       [2]time.Duration // more than 0 if it is about durations: those are hardly ever equal
}

// differs reports whether a row needs attention: durations, only if one is half as long again.
func (d *difference) differs() bool {
	short, long := min(d.took[0], d.took[1]), max(d.took[0], d.took[1])
	return d.here != d.then && (short == 0 || long-short > max(short/2, 10*time.Millisecond))
}

func showCompare(h *handler, v *runView) node {
	o := v.other
	if o == nil {
		return emptyState("No other run of this task has succeeded.")
	}
	whole := func(title string, all []difference, same string) node {
		if len(all) == 0 {
			return group(h2(title), el("p.dim", same))
		}
		return group(h2(title), h.compareTable(v, all))
	}
	return group(el("p", "Beside ", h.link(runPath(o.ID), attr("class", "mono"), "…"+shortID(o.ID)),
		", the last run of this task that succeeded, created ", timestamp(o.Created), "."),
		h2("In short"), h.compareTable(v, inShort(v, o)),
		whole("Input", diffPayloads(v.Input, o.Input), "The inputs are equal."),
		when(v.State == stint.StateSucceeded, whole("Output", diffPayloads(v.Output, o.Output), "The outputs are equal.")),
		when(len(v.Tasks)+len(o.Tasks) > 0, whole("Tasks", diffTasks(v, o), "")),
		when(len(v.journal)+len(o.journal) > 0, whole("Durable calls", diffCalls(v, o), "")))
}

func (h *handler) compareTable(v *runView, all []difference) node {
	cell := func(text string) node {
		if text == "" {
			return placeholder("–")
		}
		return userText(truncate(300, text))
	}
	return table(tableHead("", "This run", "The run that succeeded"), eachShown(all, func(d difference) node {
		class := "tr"
		if d.differs() {
			class = "tr.differs"
		}
		return el(class, el("th", attr("scope", "row"), userText(truncate(200, d.what))), el("td", cell(d.here)), el("td", cell(d.then)))
	}))
}

// inShort compares what each run has, in rows that one of them has.
func inShort(a, b *runView) []difference {
	row := func(what string, of func(*runView) string) difference {
		return difference{what: what, here: of(a), then: of(b)}
	}
	took := func(what string, of func(*runView) (from, to time.Time)) difference {
		from, to := of(a)
		here := to.Sub(from)
		from, to = of(b)
		return timed(what, here, to.Sub(from))
	}
	rows := []difference{
		row("State", func(v *runView) string { return v.State.String() }),
		row("Error", func(v *runView) string {
			if first := v.firstFailed(); first != nil {
				return first.Name + ": " + first.Error
			}
			return v.Error
		}),
		took("From created to ended", func(v *runView) (time.Time, time.Time) { return v.Created, orElse(v.Finished, v.Created) }),
		took("Waited to start", func(v *runView) (time.Time, time.Time) {
			i := slices.IndexFunc(v.Timeline, func(e stint.TimelineEntry) bool { return e.State == stint.StateRunning })
			if i < 0 {
				return v.Created, v.Created
			}
			return v.Created, v.Timeline[i].At
		}),
		row("Attempts", func(v *runView) string {
			return map[bool]string{true: fmt.Sprint(v.attempts())}[v.attempts() > 0]
		}),
		row("Queue", func(v *runView) string { return v.Queue }),
		row("Worker", func(v *runView) string { return v.Worker }),
	}
	return slices.DeleteFunc(rows, func(d difference) bool { return d.here+d.then == "" })
}

// timed returns a row of two durations; 0: none.
func timed(what string, here, then time.Duration) difference {
	text := func(d time.Duration) string { return map[bool]string{true: formatDuration(d)}[d > 0] }
	return difference{what, text(here), text(then), [2]time.Duration{here, then}}
}

// diffTasks compares the tasks of two runs of a workflow.
func diffTasks(a, b *runView) []difference {
	of := func(v *runView) (all []difference) {
		for _, t := range v.Tasks {
			d := difference{what: t.Name, here: t.State.String()}
			if t.State == stint.StateSucceeded && !t.Started.IsZero() {
				d.took[0] = max(t.Finished.Sub(t.Started), 1)
				d.here += ", " + formatDuration(d.took[0])
			}
			all = append(all, d)
		}
		return all
	}
	return beside(of(a), of(b))
}

// diffCalls compares the durable calls of two runs, and how long each took.
func diffCalls(a, b *runView) []difference {
	of := func(v *runView) (all []difference) {
		entries := slices.Clone(v.journal)
		if n := len(v.Timeline); n > 0 {
			entries = append(entries, v.Timeline[n-1].Failed...) // with which it ended
		}
		for _, e := range entries {
			d := difference{what: strings.TrimSpace(e.Address + " " + e.Kind + " " + e.Name), here: tookOf(e)}
			if e.Attempts > 1 {
				d.here += fmt.Sprintf(" in %d tries", e.Attempts)
			}
			if e.Error != "" {
				d.here += ": " + e.Error
			} else if d.here != "" {
				d.took[0] = max(e.Ended().Sub(e.Began), 1)
			}
			all = append(all, d)
		}
		return all
	}
	return beside(of(a), of(b))
}

// beside puts the rows of two runs that are of the same beside each other, in the order of the first.
func beside(a, b []difference) []difference {
	at := map[string]int{}
	for i, d := range a {
		at[d.what] = i
	}
	for _, d := range b {
		if i, ok := at[d.what]; ok {
			a[i].then, a[i].took[1] = d.here, d.took[0]
		} else {
			a = append(a, difference{what: d.what, then: d.here})
		}
	}
	return a
}

// diffPayloads returns the values of two payloads that differ, by their path. Two that are too large differ as wholes.
func diffPayloads(a, b json.RawMessage) []difference {
	if len(a) > wholeTree.bytes || len(b) > wholeTree.bytes {
		if string(a) == string(b) {
			return nil
		}
		return []difference{{what: "(too large to compare by fields)", here: formatBytes(int64(len(a))), then: formatBytes(int64(len(b)))}}
	}
	here, then := map[string]string{}, map[string]string{}
	flattenPayload(here, "", a)
	flattenPayload(then, "", b)
	var all []difference
	for path, text := range here {
		if other, ok := then[path]; !ok || other != text {
			all = append(all, difference{what: path, here: text, then: other})
		}
	}
	for path, text := range then {
		if _, ok := here[path]; !ok {
			all = append(all, difference{what: path, then: text})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].what < all[j].what })
	return all
}

// flattenPayload writes the scalars of a payload by their path.
func flattenPayload(to map[string]string, path string, payload json.RawMessage) {
	if len(payload) == 0 {
		return
	}
	value, err := jsonx.Decode(payload)
	if err != nil {
		to[path] = string(payload)
		return
	}
	flattenValue(to, path, value, 0)
}

func flattenValue(to map[string]string, path string, value any, depth int) {
	name := func(part string) string { return strings.TrimPrefix(path+"."+part, ".") }
	switch v := value.(type) {
	case map[string]any:
		if len(v) > 0 && depth < maxDepth {
			for k, x := range v {
				flattenValue(to, name(k), x, depth+1)
			}
			return
		}
	case []any:
		if len(v) > 0 && depth < maxDepth {
			for i, x := range v {
				flattenValue(to, name(fmt.Sprint(i)), x, depth+1)
			}
			return
		}
	}
	text, _ := json.Marshal(value) // it was JSON
	if path == "" {
		path = "(all)"
	}
	to[path] = string(text)
}
