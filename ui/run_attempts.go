package ui

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint"
)

// An attempt is a column of the tab of attempts.
type attempt struct {
	span
	waited time.Duration   // before it
	calls  map[string]span // by their row
	worker string
}

// maxAttempts is the number of attempts that stand side by side: the newest.
const maxAttempts = 6

// loadAttempts reads what happened in each attempt.
func loadAttempts(h *handler, ctx context.Context, v *runView) error {
	if v.Workflow { // its tasks have attempts
		return nil
	}
	if err := loadJournal(h, ctx, v); err != nil {
		return err
	}
	v.spans = h.timelineSpans(v)
	return nil
}

// sideBySide returns the run's attempts, and the rows that their calls make, in the order of the calls.
func (v *runView) sideBySide() (all []attempt, rows []string) {
	var wait span
	for _, s := range v.spans {
		switch {
		case s.attempt > 0:
			all = append(all, attempt{span: s, waited: wait.End.Sub(wait.Start), calls: map[string]span{}})
			wait = span{}
		case s.Depth == 0:
			wait = s
		case len(all) > 0 && s.entry != nil && s.part == 0:
			row := s.entry.Address + " " + s.Label
			if all[len(all)-1].calls[row] = s; !slices.Contains(rows, row) {
				rows = append(rows, row)
			}
		}
	}
	at := 0
	for _, e := range v.Timeline {
		if e.State == stint.StateRunning && at < len(all) {
			all[at].worker = e.Worker
			at++
		}
	}
	return all[max(len(all)-maxAttempts, 0):], rows
}

// showAttempts shows the attempts side by side, each durable call in a row, and the run's whole history below.
func showAttempts(_ *handler, v *runView) node {
	all, calls := v.sideBySide()
	cells := func(title string, cell func(a *attempt) node) node {
		return el("tr", el("th", attr("scope", "row"), userText(title)), each(all, func(a attempt) node { return el("td", cell(&a)) }))
	}
	text := func(title string, of func(a *attempt) string) node {
		return cells(title, func(a *attempt) node { return userText(of(a)) })
	}
	var rows []any
	rows = append(rows,
		cells("Ended as", func(a *attempt) node {
			return el("span.st.st-"+a.Class, icon("st-"+a.Class), el("span", a.Class))
		}),
		cells("Error", func(a *attempt) node { return el("bdi.error", truncate(300, a.failure)) }),
		text("Worker", func(a *attempt) string { return a.worker }),
		cells("Began", func(a *attempt) node { return timestamp(a.Start) }),
		text("Waited before", func(a *attempt) string {
			if a.waited == 0 {
				return ""
			}
			return formatDuration(a.waited)
		}),
		text("Took", func(a *attempt) string { return formatDuration(a.End.Sub(a.Start)) }))
	for _, row := range calls[:min(len(calls), maxRows)] {
		_, label, _ := strings.Cut(row, " ")
		rows = append(rows, cells(label, func(a *attempt) node {
			s, ok := a.calls[row]
			if !ok {
				return a.without(row, all)
			}
			return group(formatDuration(s.End.Sub(s.Start)), when(s.entry.Attempts > 1, fmt.Sprintf(", %d tries", s.entry.Attempts)),
				when(s.failure != "", " ", el("bdi.error", truncate(120, s.failure))))
		}))
	}
	head := el("thead", el("tr", el("th"), each(all, func(a attempt) node { return el("th", fmt.Sprintf("Attempt %d", a.attempt)) })))
	return group(when(len(all) > 0, table(head, rows...)), h2("History"), showHistory(v.Timeline))
}

// without says why an attempt has nothing in a row of a call: an earlier attempt did it, and the journal kept that.
func (a *attempt) without(row string, all []attempt) node {
	for i := range all {
		if s, ok := all[i].calls[row]; ok && all[i].Start.Before(a.Start) && s.failure == "" {
			return placeholder("from the journal")
		}
	}
	return placeholder("–")
}

func showHistory(timeline []stint.TimelineEntry) node {
	return table(tableHead("When", "State", "Attempt.figure", "Worker", "Error"), eachShown(timeline, func(e stint.TimelineEntry) node {
		return el("tr", el("td", timestamp(e.At)), el("td", stateBadge(e.State)), el("td.number", when(e.Attempt > 0, e.Attempt)),
			el("td", userText(e.Worker)), el("td", el("bdi.error", truncate(300, e.Error))))
	}))
}
